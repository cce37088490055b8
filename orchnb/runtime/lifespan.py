"""The reference-counted manager of ASGI lifespans.

Who enters `app_lifespan_context` first starts the app, who leaves last shuts it down. In between
stands one owner task per app and loop, which makes the whole lifespan call, so that nobody's error,
cancellation or early leaving is felt by anybody else. Semantics are those of Prefect's client base,
messages those of the ASGI lifespan protocol (version 2.0).
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, runtime_checkable

import anyio

from orchnb.errors import LifespanStartupFailed
from orchnb.runtime.loops import Loop, current_loop, is_closed, spawn

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT = 3.0
"""Seconds that an app may take to shut down, before it is cancelled and left behind."""

_LAST_RESORT_TIMEOUT = 1.0
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
    support is taken as started. A shutdown that fails, or takes longer than ``shutdown_timeout``
    seconds, is logged as an error and does not raise: the blocks did their work.

    Raises:
        LifespanStartupFailed: the app did not start, in its own words. Everybody who waits for this
            start is told; the next entry starts afresh.
    """
    lifespan = _join(app)
    try:
        await lifespan.wait_started()
        yield
    finally:
        await _leave(lifespan, shutdown_timeout)


def lifespan_state(app: ASGIApp) -> dict[str, Any]:
    """The state that a running app's lifespan has set up, for the scopes of its requests.

    The mapping is the app's own; each request is to be given a copy of its first level (ASGI
    lifespan protocol, "Lifespan State"). Empty if the app does not run on this loop.
    """
    lifespan = _lifespans.get((id(current_loop()), id(app)))
    return lifespan.state if lifespan is not None else {}


class _Lifespan:
    """One period of one app on one loop, from the first entry to the end of its shutdown."""

    def __init__(self, app: ASGIApp, loop: Loop, predecessor: _Lifespan | None) -> None:
        self.app = app
        self.loop = loop
        self.entrants = 1
        self.leaving = False
        self.state: dict[str, Any] = {}
        self.ended = anyio.Event()
        self._predecessor = predecessor
        self._settled = anyio.Event()
        self._failure: tuple[str, BaseException | None] | None = None
        self._shutdown_wanted = anyio.Event()
        self._scope = anyio.CancelScope()
        self._startup_sent = False
        self._shutdown_sent = False
        self._shutdown_answered = False

    async def wait_started(self) -> None:
        await self._settled.wait()
        if self._failure is not None:
            message, cause = self._failure
            raise LifespanStartupFailed(message) from cause

    def begin_leaving(self, timeout: float) -> None:
        """Nobody is inside any more: end it, kindly if it has started, else at once."""
        self.leaving = True
        self._shutdown_wanted.set()
        if self._settled.is_set():
            self._scope.deadline = anyio.current_time() + timeout
        else:
            self._scope.cancel()

    async def own(self) -> None:
        """The owner task: the app's whole lifespan call."""
        try:
            if self._predecessor is not None:
                # The same app's last period is still shutting down; two must not overlap.
                await self._predecessor.ended.wait()
                self._predecessor = None
            if not self.leaving:
                with self._scope:
                    await self._call_app()
        except BaseException as exc:
            if not self._settled.is_set():
                self._settle_failed("The start-up was cancelled", exc)
            raise
        finally:
            self._settle()
            if self._shutdown_sent and not self._shutdown_answered and self._scope.cancel_called:
                logger.error("%s did not shut down in time and was cancelled", _name(self.app))
            _forget(self)
            self.ended.set()

    async def _call_app(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self.app(scope, self._receive, self._send)
        except anyio.get_cancelled_exc_class() as exc:
            self._settle_failed("The start-up was cancelled", exc)
            if self._scope.cancel_called or not self._shutdown_sent:
                raise  # ours, or the loop's own end
            logger.error("The shutdown of %s was cancelled from within", _name(self.app))
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - an app may raise anything
            self._take_error(exc)

    def _take_error(self, exc: BaseException) -> None:
        if not self._settled.is_set():
            # Raised before it took the start-up message: it does not speak this protocol, and is to
            # be served all the same (ASGI, "Lifespan Protocol"). After: it does, and has failed.
            if self._startup_sent:
                self._settle_failed(str(exc) or type(exc).__name__, exc)
            return
        if self._shutdown_answered or self._failure is not None:
            return  # frameworks raise after having said what failed; it has been reported
        when = "shutdown" if self._shutdown_sent else "lifespan"
        logger.error("The %s of %s failed: %s", when, _name(self.app), exc, exc_info=exc)

    async def _receive(self) -> Message:
        if not self._startup_sent:
            self._startup_sent = True
            return {"type": "lifespan.startup"}
        await self._shutdown_wanted.wait()
        if self._shutdown_sent:
            await anyio.sleep_forever()  # there is nothing more to come
        self._shutdown_sent = True
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "lifespan.startup.complete":
            self._settle()
        elif kind == "lifespan.startup.failed":
            self._settle_failed(message.get("message") or "The app gave no reason", None)
        elif kind == "lifespan.shutdown.complete":
            self._shutdown_answered = True
        elif kind == "lifespan.shutdown.failed":
            self._shutdown_answered = True
            logger.error(
                "The shutdown of %s failed: %s", _name(self.app), message.get("message") or "?"
            )
        else:
            # An app that answers every scope as if it were a request knows no lifespan.
            self._startup_sent = False
            raise RuntimeError(f"A lifespan has no message {kind!r}")

    def _settle(self) -> None:
        self._settled.set()

    def _settle_failed(self, message: str, cause: BaseException | None) -> None:
        if not self._settled.is_set():
            self._failure = (message, cause)
            _forget(self)  # before anybody is told, so that whoever tries again starts afresh
            self._settled.set()


_lifespans: dict[tuple[int, int], _Lifespan] = {}
_lock = threading.Lock()


def _join(app: ASGIApp) -> _Lifespan:
    loop = current_loop()
    if loop is None:
        raise RuntimeError("app_lifespan_context needs a running asyncio or trio event loop")
    key = (id(loop), id(app))
    with _lock:
        for dead in [k for k, known in _lifespans.items() if is_closed(known.loop)]:
            del _lifespans[dead]  # its loop ended under it, and nobody will ever tell it
        known = _lifespans.get(key)
        if known is not None and not known.leaving:
            known.entrants += 1
            return known
        lifespan = _lifespans[key] = _Lifespan(app, loop, predecessor=known)
    try:
        spawn(lifespan.own)
    except BaseException:
        _forget(lifespan)
        raise
    return lifespan


async def _leave(lifespan: _Lifespan, shutdown_timeout: float) -> None:
    with _lock:
        lifespan.entrants -= 1
        last = lifespan.entrants == 0
    if not last:
        return
    lifespan.begin_leaving(shutdown_timeout)
    # Whoever leaves by cancellation waits for the shutdown too: "left" means that it is down.
    with anyio.move_on_after(shutdown_timeout + _LAST_RESORT_TIMEOUT, shield=True):
        await lifespan.ended.wait()
    if not lifespan.ended.is_set():
        logger.error("%s swallowed its cancellation and was left behind", _name(lifespan.app))
        _forget(lifespan)


def _forget(lifespan: _Lifespan) -> None:
    with _lock:
        key = (id(lifespan.loop), id(lifespan.app))
        if _lifespans.get(key) is lifespan:
            del _lifespans[key]


def _name(app: ASGIApp) -> str:
    name = getattr(app, "title", None) or getattr(app, "__qualname__", None)
    return f"the app {name or type(app).__qualname__!r}"


def _after_fork() -> None:
    # The parent's loops do not run here, and the lock may have been held by a thread that is gone.
    global _lock
    _lock = threading.Lock()
    _lifespans.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
