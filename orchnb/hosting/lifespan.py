"""The reference-counted manager of ASGI lifespans.

The first one to enter `app_lifespan_context` starts the app, and the last one to leave shuts it down.
One owner task per app and loop makes the whole lifespan call, so that an error, a cancellation or an
early exit of one entrant does not affect the others. The semantics are those of Prefect's client base,
the messages those of the ASGI lifespan protocol (version 2.0).
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel

from orchnb.asgi import ASGIApp, Message
from orchnb.errors import LifespanStartupFailed
from orchnb.event_loop import Loop, current_loop, is_closed
from orchnb.forks import in_forked_child
from orchnb.runtime.loops import Task, discard_task, spawn
from orchnb.text import printable

logger: logging.Logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT = 2.0
"""Seconds that an app may take to end its calls and shut down, before it is cancelled and abandoned.
Jupyter kills a kernel that does not exit within five, and the interpreter's own shutdown takes more than
one of these."""

CALLS_SHARE = 0.5
"""The fraction of that time in which calls of the app may end by themselves. Then they are cancelled."""

_CANCELLED_CALLS_SHARE = 0.75
"""The fraction of that time after which the shutdown begins even if cancelled calls have not ended."""

LAST_RESORT_TIMEOUT = 1.0
"""Seconds that a cancelled app may still take; if it swallows the cancellation it is then abandoned."""


@asynccontextmanager
async def app_lifespan_context(
    app: ASGIApp, *, shutdown_timeout: float = SHUTDOWN_TIMEOUT
) -> AsyncIterator[None]:
    """Keep an ASGI app's lifespan open while the block runs.

    The first entry on a loop starts the app, later entries are only counted, and the last exit shuts it
    down and waits for that. No block runs before the start-up has completed. An app without lifespan
    support counts as started. The shutdown waits for calls of the app that are in progress (`app_call`),
    at most half of the time; then it cancels them. A cancelled call, and a shutdown that fails or takes
    longer than the ``shutdown_timeout`` seconds of the first entry, are logged as errors and do not
    raise: the blocks did their work. Apps are distinguished by identity.

    Raises:
        LifespanStartupFailed: the app did not start; the message comes from the app. Everyone who waits
            for this start gets the error; the next entry starts the app again.
    """
    lifespan = await _join(app, shutdown_timeout)
    try:
        await lifespan.wait_started()
        yield
    finally:
        await lifespan.leave()


def lifespan_state(app: ASGIApp) -> dict[str, Any]:
    """Return the state that a running app's lifespan has set up, for the scopes of its requests.

    The mapping belongs to the app; each request must get a copy of its first level (ASGI lifespan
    protocol, "Lifespan State"). It is empty if the app does not run on this loop.
    """
    lifespan = _lifespans.get((id(current_loop()), id(app)))
    return lifespan.state if lifespan is not None else {}


@contextmanager
def app_call(app: ASGIApp, cancel: Callable[[], object]) -> Iterator[bool]:
    """Count the block as a call of the app: the app's shutdown waits for the end of the block.

    The value is whether the app runs on this loop; otherwise the block does not count. ``cancel`` is
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
    """Return whether this code is in an `app_call` of the app, and must not wait for its shutdown."""
    return _called.get() is app


_called: ContextVar[ASGIApp | None] = ContextVar("orchnb_called", default=None)


class _Lifespan:
    """One period of one app on one loop, from the first entry to the end of its shutdown.

    Others may enter until the last entrant has left, or the start has failed; later ones wait for its
    end. Everything here happens on its loop.
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
        # A cancelled entrant waits for the shutdown too: leaving means that the app has stopped.
        with anyio.CancelScope(shield=True):
            deadline = anyio.current_time() + self._shutdown_timeout
            if self.calls and self.is_open:
                await self._end_calls(deadline)
                if self.is_held:
                    return  # someone has entered in the meantime, and will be the last one to leave
            self._close(deadline)
            await self.wait_ended()

    async def _end_calls(self, deadline: float) -> None:
        """Wait for the calls to end, and cancel those that take too long. A new entrant stops this."""
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
                "Abandoned %d calls of %s: they swallowed their cancellation",
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
        """Wait for the end of a period that is no longer open, for a limited time."""
        await self._wait_until(self._cancel_at)
        if not self._ended.is_set():
            self._cancel()
        await self._wait_until(self._give_up_at)
        if not self._ended.is_set():
            logger.error("Abandoned %s: it swallowed its cancellation", self.name)
            self._end()

    async def _wait_until(self, deadline: float) -> None:
        with anyio.CancelScope(deadline=deadline):
            await self._ended.wait()

    def _close(self, deadline: float) -> None:
        """Refuse further entries. An app that is still starting is cancelled."""
        if not self.is_open:
            return
        self._closed.set()
        self._cancel_at = deadline
        self._give_up_at = self._cancel_at + LAST_RESORT_TIMEOUT
        if not self._settled.is_set():
            self._cancel()

    def _cancel(self) -> None:
        # Once, as asyncio cancels tasks: the app can await while it cleans up.
        if self._cancelled or self.task is None:
            return
        self._cancelled = True
        if self._settled.is_set():
            logger.error("Cancelled %s: it did not end in time", self.name)
        self.task.cancel()

    # The app's side.

    async def own(self) -> None:
        """Run the owner task, which makes the app's whole lifespan call."""
        try:
            await self._call_app()
        except BaseException as exc:
            if is_closed(self.loop):
                raise  # it was swept; nobody is waiting
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
            # Raised before it received the start-up message: it does not support this protocol, and
            # must be served anyway (ASGI, "Lifespan Protocol"). After: it does, and has failed.
            if self._startup_sent or self._settled.is_set():
                raise
        self._settled.set()
        # Its requests are served even if its lifespan call has returned, so the period continues.
        await self._closed.wait()

    def _take_error(self, exc: BaseException) -> None:
        cancelled = isinstance(exc, anyio.get_cancelled_exc_class())
        if not self._settled.is_set():
            message = "The start-up was cancelled" if cancelled else _message(exc)
            self._settle_failed(message, exc)
            return
        if self._failure is not None or self._shutdown_answered or self._cancelled:
            return  # it has been reported; frameworks raise after they have sent the failure
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
            await anyio.sleep_forever()  # there are no more messages
        self._shutdown_sent = True
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if is_closed(self.loop):
            return  # a late message of an app that was swept
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            # If everyone has given up in the meantime, this start must not complete, because it would
            # then be cut short without a shutdown.
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
            # An app that treats every scope as a request does not support lifespans.
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
    """Enter the app's period on this loop, and begin one if there is none."""
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
    """Drop the periods whose loops were closed: nobody can ever end them."""
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
    """Return the message of an error, with its type if it has no message or is not an `Exception`."""
    if isinstance(exc, Exception) and str(exc):
        return str(exc)
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__


@in_forked_child
def _after_fork() -> None:
    # The parent's loops do not run here, and a thread that is gone may have held the lock.
    global _lock
    _lock = threading.Lock()
    _lifespans.clear()
