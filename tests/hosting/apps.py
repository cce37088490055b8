"""ASGI apps that start, run and end in every way there is, and clocks that do not make tests wait."""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

STARTUP = "receive lifespan.startup"
COMPLETE = "send lifespan.startup.complete"
FAILED = "send lifespan.startup.failed"
SHUTDOWN = "receive lifespan.shutdown"
SHUTDOWN_COMPLETE = "send lifespan.shutdown.complete"
SHUTDOWN_FAILED = "send lifespan.shutdown.failed"


class ScriptedApp:
    """An app whose start-up and shutdown go as told; it writes down every lifespan message.

    ``start`` and ``shutdown`` name one of the ``_start_*`` and ``_shutdown_*`` methods below.
    ``is_up`` says whether it is between a completed start-up and the begin of its shutdown.
    """

    title = "scripted"

    def __init__(self, start: str = "ok", shutdown: str = "ok") -> None:
        self.start = start
        self.shutdown = shutdown
        self.messages: list[str] = []
        self.calls = 0
        self.is_up = False
        self.is_called = False
        self.start_reached = anyio.Event()
        self.may_start = anyio.Event()
        self.released = anyio.Event()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if self.is_called:
            self.messages.append(
                "called while it is called"
            )  # an assertion would be taken for its own
        self.calls += 1
        self.is_called = True
        self.scope = scope

        async def tracked_receive() -> Message:
            message = await receive()
            self.messages.append(f"receive {message['type']}")
            if message["type"] == "lifespan.shutdown":
                self.is_up = False
            return message

        async def tracked_send(message: Message) -> None:
            self.messages.append(f"send {message['type']}")
            if message["type"] == "lifespan.startup.complete":
                self.is_up = True
            await send(message)

        try:
            await getattr(self, f"_start_{self.start}")(tracked_receive, tracked_send)
        finally:
            self.is_called = self.is_up = False

    # Starts that come up.

    async def _start_ok(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await getattr(self, f"_shutdown_{self.shutdown}")(send)

    async def _start_when_told(self, receive: Receive, send: Send) -> None:
        self.start_reached.set()
        await self.may_start.wait()
        await self._start_ok(receive, send)

    async def _start_unsupported(self, receive: Receive, send: Send) -> None:
        raise AssertionError("I know http only")

    async def _start_silent(self, receive: Receive, send: Send) -> None:
        return

    async def _start_received_and_silent(self, receive: Receive, send: Send) -> None:
        await receive()

    async def _start_http_answer(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 404, "headers": []})

    async def _start_complete_and_return(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    async def _start_complete_and_crash_when_told(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await self.released.wait()
        raise RuntimeError("the scheduler died")

    # Starts that fail.

    async def _start_failed(self, receive: Receive, send: Send) -> None:
        await receive()
        self.start_reached.set()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def _start_failed_and_raises(self, receive: Receive, send: Send) -> None:
        await self._start_failed(receive, send)
        raise RuntimeError("no database")

    async def _start_failed_and_hangs(self, receive: Receive, send: Send) -> None:
        await self._start_failed(receive, send)
        await anyio.sleep_forever()

    async def _start_failed_without_message(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})

    async def _start_raises(self, receive: Receive, send: Send) -> None:
        await receive()
        raise RuntimeError("no database")

    async def _start_raises_without_words(self, receive: Receive, send: Send) -> None:
        await receive()
        raise ConnectionRefusedError

    async def _start_exits(self, receive: Receive, send: Send) -> None:
        await receive()
        sys.exit(3)

    async def _start_cancels_itself(self, receive: Receive, send: Send) -> None:
        await receive()
        raise asyncio.CancelledError

    async def _start_hangs(self, receive: Receive, send: Send) -> None:
        await receive()
        self.start_reached.set()
        await anyio.sleep_forever()

    # Shutdowns.

    async def _shutdown_ok(self, send: Send) -> None:
        await send({"type": "lifespan.shutdown.complete"})

    async def _shutdown_slow(self, send: Send) -> None:
        await self.released.wait()
        await send({"type": "lifespan.shutdown.complete"})

    async def _shutdown_silent(self, send: Send) -> None:
        return

    async def _shutdown_failed(self, send: Send) -> None:
        await send({"type": "lifespan.shutdown.failed", "message": "pool is busy"})

    async def _shutdown_failed_and_raises(self, send: Send) -> None:
        await self._shutdown_failed(send)
        raise RuntimeError("pool is busy")

    async def _shutdown_raises(self, send: Send) -> None:
        raise RuntimeError("pool is busy")

    async def _shutdown_exits(self, send: Send) -> None:
        sys.exit(4)

    async def _shutdown_cancels_itself(self, send: Send) -> None:
        raise asyncio.CancelledError

    async def _shutdown_hangs(self, send: Send) -> None:
        await anyio.sleep_forever()

    async def _shutdown_cleans_up_when_cancelled(self, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):  # trio's apps have to; asyncio's need not
                await anyio.sleep(0.5)
            self.messages.append("cleaned up")

    async def _shutdown_swallows_cancellation(self, send: Send) -> None:
        released = self.released
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await released.wait()


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(0)
        if not events:
            self.now += timeout
        return events


class JumpingClockLoop(asyncio.SelectorEventLoop):
    """asyncio with a clock that jumps to the next timer when there is nothing else to do."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def jumping_backend(name: str) -> tuple[str, dict[str, Any]]:
    """anyio's name and options of an event loop on which no wait takes real time."""
    if name == "asyncio":
        return name, {"loop_factory": JumpingClockLoop}
    import trio.testing

    return name, {"clock": trio.testing.MockClock(autojump_threshold=0)}


def run_jumping(name: str, main: Callable[[], Awaitable[None]]) -> None:
    """``anyio.run`` with a `jumping_backend`."""
    name, options = jumping_backend(name)
    if name == "asyncio":
        anyio.run(main, backend=name, backend_options=options)
    else:
        import trio

        trio.run(main, **options)  # anyio 4.4 does not hand the options on
