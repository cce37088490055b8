"""The reference-counted manager of ASGI lifespans.

Who enters `app_lifespan_context` first starts the app, who leaves last shuts it down. In between
stands one owner task per app and loop, which makes the whole lifespan call, so that nobody's error,
cancellation or early leaving is felt by anybody else. Semantics are those of Prefect's client base,
messages those of the ASGI lifespan protocol (version 2.0).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, runtime_checkable

import anyio
import anyio.lowlevel

from orchnb.errors import LifespanStartupFailed
from orchnb.event_loop import Loop, current_loop, is_closed
from orchnb.forks import in_forked_child
from orchnb.http.response import printable
from orchnb.runtime.loops import Task, discard_task, spawn

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT = 2.0
"""Seconds that an app may take to end its calls and shut down, before it is cancelled and left behind.
Jupyter kills a kernel that is not gone within five, and the interpreter's own end takes more than one of
these."""

CALLS_SHARE = 0.5
"""The part of that time in which calls of the app may end by themselves. Then they are cancelled."""

_CANCELLED_CALLS_SHARE = 0.75
"""The part of that time after which the shutdown begins even if cancelled calls have not ended."""

LAST_RESORT_TIMEOUT = 1.0
"""Seconds that a cancelled app may still take; one that swallows cancellation is then abandoned."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@runtime_checkable
class ASGIApp(Protocol):
    """An ASGI 3 application: called with a scope, a way to receive and a way to send messages."""

    def __call__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, /
    ) -> Awaitable[None]: ...


@asynccontextmanager
async def app_lifespan_context(
    app: ASGIApp, *, shutdown_timeout: float = SHUTDOWN_TIMEOUT
) -> AsyncIterator[None]:
    """Keep an ASGI app's lifespan open while the block runs.

    The first entry on a loop starts the app, later ones only count, and the last exit shuts it down
    and waits until it is. No body runs before the start-up has completed. An app without lifespan
    support is taken as started. The shutdown waits for calls of the app that are under way (`app_call`),
    at most half of the time; then it cancels them. A call that is cancelled, and a shutdown that fails or
    takes longer than the ``shutdown_timeout`` seconds of the first entry, are logged as errors and do not
    raise: the blocks did their work. Which app it is goes by the object's identity.

    Raises:
        LifespanStartupFailed: the app did not start, in its own words. Everybody who waits for this
            start is told; the next entry starts afresh.
    """
    lifespan = await _join(app, shutdown_timeout)
    try:
        await lifespan.wait_started()
        yield
    finally:
        await lifespan.leave()


def lifespan_state(app: ASGIApp) -> dict[str, Any]:
    """The state that a running app's lifespan has set up, for the scopes of its requests.

    The mapping is the app's own; each request is to be given a copy of its first level (ASGI
    lifespan protocol, "Lifespan State"). Empty if the app does not run on this loop.
    """
    lifespan = _lifespans.get((id(current_loop()), id(app)))
    return lifespan.state if lifespan is not None else {}


@contextmanager
def app_call(app: ASGIApp, cancel: Callable[[], object]) -> Iterator[bool]:
    """Count the block as a call of the app, whose shutdown waits for the end of the block.

    The value is whether the app is up on this loop; the block does not count otherwise. ``cancel`` is
    called on the loop, at most once, if the call takes longer than the shutdown can wait.
    """
    lifespan = _lifespans.get((id(current_loop()), id(app)))
    if lifespan is None or not lifespan.is_open:
        yield False
        return
    outer = _called.set(app)
    lifespan.calls.add(cancel)
    try:
        yield True
    finally:
        lifespan.call_ended(cancel)
        _called.reset(outer)


def is_called(app: ASGIApp) -> bool:
    """Whether this code runs within an `app_call` of the app, and so must not wait for its shutdown."""
    return _called.get() is app


_called: ContextVar[ASGIApp | None] = ContextVar("orchnb_called", default=None)


class _Lifespan:
    """One period of one app on one loop, from the first entry to the end of its shutdown.

    Others may come in until the last entrant has left, or the start has failed; whoever comes later
    waits for its end. Everything here happens on its loop.
    """

    def __init__(self, app: ASGIApp, loop: Loop, shutdown_timeout: float) -> None:
        self.app = app
        self.loop = loop
        self.entrants = 1
        self.state: dict[str, Any] = {}
        self.calls: set[Callable[[], object]] = set()
        self.task: Task | None = None
        self._shutdown_timeout = shutdown_timeout
        self._settled = anyio.Event()
        self._failure: tuple[str, BaseException | None] | None = None
        self._calls_changed: anyio.Event | None = None
        self._closed = anyio.Event()
        self._ended = anyio.Event()
        self._cancel_at = self._give_up_at = math.inf
        self._cancelled = False
        self._startup_sent = False
        self._shutdown_sent = False
        self._shutdown_answered = False

    # The entrants' side.

    @property
    def name(self) -> str:
        return _name(self.app)

    @property
    def is_held(self) -> bool:
        return self.entrants > 0

    @property
    def is_open(self) -> bool:
        return not self._closed.is_set()

    async def wait_started(self) -> None:
        await self._settled.wait()
        if self._failure is not None:
            message, cause = self._failure
            raise LifespanStartupFailed(printable(message)) from cause

    def enter(self) -> None:
        self.entrants += 1
        self._tell_of_calls()

    async def leave(self) -> None:
        self.entrants -= 1
        if self.entrants:
            return
        # Whoever leaves by cancellation waits for the shutdown too: "left" means that it is down.
        with anyio.CancelScope(shield=True):
            deadline = anyio.current_time() + self._shutdown_timeout
            if self.calls and self.is_open:
                await self._end_calls(deadline)
                if self.is_held:
                    return  # somebody has entered in the meantime, and is now the one to leave last
            self._close(deadline)
            await self.wait_ended()

    async def _end_calls(self, deadline: float) -> None:
        """Wait for the calls to end, and cancel those that take too long. An entrant stops this."""
        await self._wait_for_calls(deadline - (1 - CALLS_SHARE) * self._shutdown_timeout)
        late = set() if self.is_held else self.calls.copy()
        if not late:
            return
        logger.error("Cancelled %d calls of %s: they did not end in time", len(late), self.name)
        for cancel in late:
            cancel()
        await self._wait_for_calls(deadline - (1 - _CANCELLED_CALLS_SHARE) * self._shutdown_timeout)
        if left := late & self.calls:
            logger.error(
                "Left %d calls of %s behind: they swallowed their cancellation",
                len(left),
                self.name,
            )

    async def _wait_for_calls(self, deadline: float) -> None:
        while self.calls and not self.is_held and anyio.current_time() < deadline:
            if self._calls_changed is None:
                self._calls_changed = anyio.Event()
            with anyio.CancelScope(deadline=deadline):
                await self._calls_changed.wait()

    def call_ended(self, cancel: Callable[[], object]) -> None:
        self.calls.discard(cancel)
        if not self.calls:
            self._tell_of_calls()

    def _tell_of_calls(self) -> None:
        changed, self._calls_changed = self._calls_changed, None
        if changed is not None:
            changed.set()

    async def wait_ended(self) -> None:
        """See a period that is not open any more to its end, which is bounded."""
        await self._wait_until(self._cancel_at)
        if not self._ended.is_set():
            self._cancel()
        await self._wait_until(self._give_up_at)
        if not self._ended.is_set():
            logger.error("Left %s behind: it swallowed its cancellation", self.name)
            self._end()

    async def _wait_until(self, deadline: float) -> None:
        with anyio.CancelScope(deadline=deadline):
            await self._ended.wait()

    def _close(self, deadline: float) -> None:
        """Let nobody in any more. An app that is still starting need not go on with that."""
        if not self.is_open:
            return
        self._closed.set()
        self._cancel_at = deadline
        self._give_up_at = self._cancel_at + LAST_RESORT_TIMEOUT
        if not self._settled.is_set():
            self._cancel()

    def _cancel(self) -> None:
        # Once, in asyncio's manner where asyncio runs: the app can await while it cleans up.
        if self._cancelled or self.task is None:
            return
        self._cancelled = True
        if self._settled.is_set():
            logger.error("Cancelled %s: it did not end in time", self.name)
        self.task.cancel()

    # The app's side.

    async def own(self) -> None:
        """The owner task: the app's whole lifespan call."""
        try:
            await self._call_app()
        except BaseException as exc:
            if is_closed(self.loop):
                raise  # it was swept; there is nobody to be told
            self._take_error(exc)
            if isinstance(exc, KeyboardInterrupt):
                self._end()
                raise
        self._end()

    async def _call_app(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self.app(scope, self._receive, self._send)
        except Exception:
            # Raised before it took the start-up message: it does not speak this protocol, and is to
            # be served all the same (ASGI, "Lifespan Protocol"). After: it does, and has failed.
            if self._startup_sent or self._settled.is_set():
                raise
        self._settled.set()
        # Its requests are served also if it has no more to say, so its period lasts.
        await self._closed.wait()

    def _take_error(self, exc: BaseException) -> None:
        cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        if not self._settled.is_set():
            message = "The start-up was cancelled" if cancelled else _message(exc)
            self._settle_failed(message, exc)
            return
        if self._failure is not None or self._shutdown_answered or self._cancelled:
            return  # it has been reported; frameworks raise after having said what failed
        when = "shutdown" if self._shutdown_sent else "lifespan"
        if cancelled:
            logger.error("The %s of %s was cancelled", when, self.name)
        else:
            logger.error("The %s of %s failed: %s", when, self.name, _message(exc), exc_info=exc)

    async def _receive(self) -> Message:
        if not self._startup_sent:
            self._startup_sent = True
            return {"type": "lifespan.startup"}
        await self._closed.wait()
        if self._shutdown_sent:
            await anyio.sleep_forever()  # there is nothing more to come
        self._shutdown_sent = True
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if is_closed(self.loop):
            return  # last words of an app that was swept
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            # If all have given up in the meantime, this start never completes, rather than that it
            # does and is cut short without a shutdown.
            await anyio.lowlevel.checkpoint_if_cancelled()
            self._settled.set()
        elif kind == "lifespan.startup.failed":
            self._settle_failed(message.get("message") or "The app gave no reason", None)
        elif kind == "lifespan.shutdown.complete":
            self._shutdown_answered = True
        elif kind == "lifespan.shutdown.failed":
            self._shutdown_answered = True
            reason = message.get("message") or "The app gave no reason"
            logger.error("The shutdown of %s failed: %s", self.name, reason)
        else:
            # An app that answers every scope as if it were a request knows no lifespan.
            self._startup_sent = False
            raise RuntimeError(f"A lifespan has no message {kind!r}")

    def _settle_failed(self, message: str, cause: BaseException | None) -> None:
        if not self._settled.is_set():
            self._failure = (message, cause)
            self._settled.set()
            self._close(anyio.current_time() + self._shutdown_timeout)

    def _end(self) -> None:
        self._settled.set()
        _forget(self)
        self._ended.set()


_lifespans: dict[tuple[int, int], _Lifespan] = {}
_lock = threading.Lock()  # the loops of several threads share the mapping


async def _join(app: ASGIApp, shutdown_timeout: float) -> _Lifespan:
    """Enter the app's period on this loop, which is begun if there is none."""
    loop = current_loop()
    if loop is None:
        raise RuntimeError("app_lifespan_context needs a running asyncio or trio event loop")
    key = (id(loop), id(app))
    while (known := _lifespans.get(key)) is not None:
        if known.is_open:
            known.enter()
            return known
        await known.wait_ended()  # two periods never overlap
    _sweep()
    lifespan = _Lifespan(app, loop, shutdown_timeout)
    with _lock:
        _lifespans[key] = lifespan
    try:
        lifespan.task = spawn(lifespan.own)
    except BaseException:
        _forget(lifespan)
        raise
    return lifespan


def _sweep() -> None:
    """Drop the periods whose loops were closed under them: nobody can ever end them."""
    with _lock:
        dead = [key for key, known in _lifespans.items() if is_closed(known.loop)]
        swept = [_lifespans.pop(key) for key in dead]
    for lifespan in swept:
        discard_task(lifespan.task)


def _forget(lifespan: _Lifespan) -> None:
    with _lock:
        key = (id(lifespan.loop), id(lifespan.app))
        if _lifespans.get(key) is lifespan:
            del _lifespans[key]


def _name(app: ASGIApp) -> str:
    name = getattr(app, "title", None) or getattr(app, "__qualname__", None)
    return f"the app {name or type(app).__qualname__!r}"


def _message(exc: BaseException) -> str:
    """An error in its own words, and its kind where it has none or is no ordinary one."""
    if isinstance(exc, Exception) and str(exc):
        return str(exc)
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


@in_forked_child
def _after_fork() -> None:
    # The parent's loops do not run here, and the lock may have been held by a thread that is gone.
    global _lock
    _lock = threading.Lock()
    _lifespans.clear()
