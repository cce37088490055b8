"""The host: one background thread with the event loop that in-process apps run on.

A cell that computes for a minute blocks the notebook's loop, and would block a server there as well.
The thread runs while there is a lease on it. It is a daemon thread, so nothing on it can keep the
process from exiting.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - its exit hook must be registered before ours, see below
import contextvars
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import anyio

from orchnb._cpython import call_before_threads_are_joined
from orchnb.asgi import ASGIApp
from orchnb.errors import LifespanStartupFailed, ServerStartFailed
from orchnb.forks import in_forked_child
from orchnb.hosting.lifespan import (
    LAST_RESORT_TIMEOUT,
    SHUTDOWN_TIMEOUT,
    app_lifespan_context,
    is_called,
    lifespan_state,
)
from orchnb.hosting.logs import HostedRecords, LogRing, secret_mask
from orchnb.runtime.futures import LoopTask, ThreadFuture
from orchnb.runtime.interrupts import deferred_interrupts
from orchnb.runtime.loops import finish_loop, is_hosted, loop_event
from orchnb.runtime.progress import Patience

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

host_log: LogRing = LogRing()
"""The last lines that hosted code has logged. They are not written anywhere else, such as into a cell."""

hosted_records: HostedRecords = HostedRecords(host_log, is_hosted.get)

_CLOSE_TIMEOUT = SHUTDOWN_TIMEOUT + LAST_RESORT_TIMEOUT + 0.2
"""Seconds until an app that is being closed has stopped or was abandoned, and all waiters are notified.
The app's calls get a share of this time, see `orchnb.hosting.lifespan`."""

_THREAD_NAME = "orchnb-host"

_LONGEST_PART = 1.0
"""Seconds between a waiter's checks of a start's progress, and of whether other waiters gave up."""


class HostedCall(Protocol):
    """A call of an app that a caller waits for."""

    def begin(self) -> None:
        """Start the call. Called on the loop."""

    def host_ended(self) -> None:
        """Note that there will be no response. Called on any thread."""


class Host:
    """The thread and its loop. `HostedApp` leases it."""

    def __init__(self, predecessor: Host | None) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_keep_complaint)
        self.stopping: bool = False
        self.ended: bool = False
        self.over: ThreadFuture[None] = ThreadFuture()  # of the thread; ``ended`` is the loop's
        self.calls: set[HostedCall] = set()
        self._predecessor = predecessor
        self._context = contextvars.Context()
        self._context.run(is_hosted.set, True)
        self._stopped = False
        self.thread: threading.Thread = threading.Thread(
            target=self._run, name=_THREAD_NAME, daemon=True
        )
        try:
            self.thread.start()
        except BaseException:
            self.loop.close()
            raise

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Call a function on the loop; it is dropped if the loop has ended."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(callback, *args, context=self._context.copy())

    def begin(self, call: HostedCall) -> None:
        """Begin a call on the loop. It removes itself from ``calls`` at its end, and is notified if the
        host ends first."""
        self.calls.add(call)
        self.post(self._begin, call)
        if self.ended:
            call.host_ended()

    def _begin(self, call: HostedCall) -> None:
        hosted_records.look_if_more()
        call.begin()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> LoopTask[T]:
        """Run a coroutine on the loop as hosted code."""
        return self._context.copy().run(LoopTask, self.loop, coroutine)

    def stop(self) -> None:
        """Tell the thread to end; everything on its loop is cancelled."""
        self.stopping = True
        self.post(self._stop)

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self.loop.stop()

    def join(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the thread to end; return whether it has."""
        if threading.current_thread() is not self.thread:
            self.thread.join(timeout)
        return not self.thread.is_alive()

    async def join_async(self) -> None:
        """Wait for the thread to end, on any event loop except the host's."""
        if threading.current_thread() is not self.thread:
            await wait_async(self.over)  # set as the thread's last step
            self.thread.join()

    def _run(self) -> None:
        try:
            if self._predecessor is not None:
                # It is shutting down the same apps that may be started here next.
                self._predecessor.join(SHUTDOWN_TIMEOUT)
                self._predecessor = None
            with hosted_records.diverted():
                self._context.run(self._run_loop)
        finally:
            self.over.set_result()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self._run_until_stopped()
            finish_loop(self.loop, timeout=SHUTDOWN_TIMEOUT)
        except Exception as exc:  # the loop or its selector was closed by other code
            logger.error("The event loop of the hosted apps failed", exc_info=exc)
            with suppress(Exception):
                self.loop.close()
        finally:
            self.ended = True
            asyncio.set_event_loop(None)
            for call in list(self.calls):
                call.host_ended()
            for app in _apps_on(self):
                app._host_ended()

    def _run_until_stopped(self) -> None:
        # Not asyncio.run: nest-asyncio replaces it for all threads. And no main task to wait for: a
        # hosted app may cancel all tasks.
        while not self._stopped:
            try:
                self.loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as exc:
                # From a task that an app has started; other apps run here as well.
                logger.error("A task of a hosted app raised %r", exc, exc_info=exc)
            else:
                if not self._stopped:
                    logger.error("A hosted app stopped the event loop it runs on; it was restarted")


def _keep_complaint(_: asyncio.AbstractEventLoop, complaint: dict[str, Any]) -> None:
    """Keep asyncio's complaints about hosted tasks in the log: they come when a task is collected, on any
    thread, possibly during a cell, and even long after the host has ended."""
    error = complaint.get("exception")
    details = (type(error), error, error.__traceback__) if error is not None else None
    message = complaint["message"]
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "%s", (message,), details)
    host_log.add(record)


class _Tenancy:
    """The leases of the host, under one lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.host: Host | None = None
        self.leases = 0
        self.apps: set[HostedApp] = set()


_tenancy = _Tenancy()
_exit_registered = False


def _apps_on(host: Host) -> list[HostedApp]:
    with _tenancy.lock:
        return [app for app in _tenancy.apps if app.host is host]


def _acquire() -> Host:
    _register_exit()
    with _tenancy.lock:
        if _tenancy.host is None or _tenancy.leases == 0 or _tenancy.host.ended:
            _tenancy.host = Host(_tenancy.host)
        _tenancy.leases += 1
        return _tenancy.host


def _release() -> None:
    with _tenancy.lock:
        _tenancy.leases -= 1
        host = _tenancy.host if _tenancy.leases == 0 else None
    if host is not None:
        host.stop()


def on_host_thread() -> bool:
    """Return whether this code runs on a host's thread."""
    return threading.current_thread().name == _THREAD_NAME


class HostedApp:
    """One lease of an ASGI app on the host: the app runs from ``started`` until its last lease is closed.

    `app_lifespan_context` counts the leases of an app, so it is started once per process, regardless of
    their number. Creating a lease begins the start-up and does not wait. Create it, and register its
    `close`, within `deferred_interrupts`; otherwise an interrupt may leave the app running forever.

    Args:
        start_timeout: the seconds without progress after which waiters give up, by their own clock: an
            app that blocks the host's loop stops every clock there. None means never.
        grace: seconds that waiters add to it.
        progress: returns a value that changes when the start makes progress. None means no progress.
        on_wait: called with this lease when a waiter begins to wait for the start, in the waiter's
            thread and context.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        start_timeout: float | None = None,
        grace: float = 0.0,
        progress: Callable[[], object] | None = None,
        on_wait: Callable[[HostedApp], object] | None = None,
    ) -> None:
        self.app = app
        self._start_timeout = math.inf if start_timeout is None else start_timeout
        self._grace = grace
        self._progress = progress or (lambda: 0)
        self._on_wait = on_wait
        self._gave_up_at: object = None  # the mark of progress at which a waiter gave up
        self.state: dict[str, Any] = {}
        self.started: ThreadFuture[None] = ThreadFuture()
        self._closing = False
        self._scope: anyio.CancelScope | None = None
        self._ended: ThreadFuture[None] = ThreadFuture()
        self.host: Host = _acquire()
        with _tenancy.lock:
            _tenancy.apps.add(self)
        try:
            task = self.host.submit(self._hold())
            task.when_done(lambda: self._finished(task.error))
        except BaseException:  # including interrupts: nobody would own the lease
            self._give_back()
            raise

    @property
    def closed(self) -> bool:
        """Whether it has been closed; requests are no longer served."""
        return self._closing

    @property
    def ended(self) -> bool:
        """Whether it has ended: it was closed, did not start, or stopped unexpectedly."""
        return self._ended.done()

    @property
    def is_up(self) -> bool:
        """Whether the app has started and has not been closed or stopped."""
        return (
            not self._closing
            and not self._ended.done()
            and self.started.done()
            and self.started.error is None
        )

    async def _hold(self) -> None:
        try:
            # Closing cancels this scope, so the lifespan is left in an orderly way.
            with anyio.CancelScope() as self._scope:
                if self._closing:
                    return
                async with app_lifespan_context(self.app):
                    self.state = lifespan_state(self.app)
                    hosted_records.look()
                    self.started.set_result()
                    await anyio.sleep_forever()
        except LifespanStartupFailed as exc:
            # The in-kernel server's error says more than a lifespan message can.
            cause = exc.__cause__
            self.started.set_error(cause if isinstance(cause, ServerStartFailed) else exc)

    def _end(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def _finished(self, error: BaseException | None) -> None:
        if error is None or isinstance(error, asyncio.CancelledError):
            error = LifespanStartupFailed("The app was stopped before it had started")
        self.started.set_error(error)
        self._give_back()
        self._ended.set_result()

    def _host_ended(self) -> None:
        """End the lease: the loop has ended, so `_finished` will not be called."""
        if not self._ended.done():
            self.started.set_error(
                LifespanStartupFailed("The event loop that the app ran on has ended")
            )
            self._give_back()
            self._ended.set_result()

    def _give_back(self) -> None:
        with _tenancy.lock:
            _tenancy.apps.discard(self)
        _release()

    def _abandon_after_fork(self) -> None:
        """End the lease in a child process: the app, and the thread that sets these futures, are the
        parent's."""
        self._closing = True
        self.started = ThreadFuture()
        self.started.set_error(
            LifespanStartupFailed("The app runs in the process that this one was forked from")
        )
        self._ended = ThreadFuture()
        self._ended.set_result()

    def close(self) -> None:
        """Release the lease; returns immediately. Closing twice is allowed.

        Calls of the app that are in progress continue. The last lease waits for them before the app is
        shut down, at most for their share of the shutdown's time, and then cancels them.
        """
        with deferred_interrupts():
            if not self._closing:
                self._closing = True
                self.host.post(self._end)

    def wait_started(self) -> None:
        """Wait in sync code until the app has started.

        Raises:
            LifespanStartupFailed: the app did not start.
            ServerStartFailed: it is the server of `orchnb.hosting.ephemeral`, and did not start.
        """
        for part in self._parts_of_the_wait():
            self.started.wait(part)
        self._raise_if_failed()

    async def wait_started_async(self) -> None:
        """Wait as `wait_started` does, on any event loop."""
        for part in self._parts_of_the_wait():
            # No cancel scope for the timeout: it could take an outer cancellation for its own.
            await wait_async(self.started, part)
        self._raise_if_failed()

    def announce_wait(self) -> None:
        """Call ``on_wait`` unless the start has ended. Every wait does this at its beginning."""
        if self._on_wait is not None and not self.started.done():
            with deferred_interrupts():  # the host's thread takes the observers' locks
                self._on_wait(self)

    def _parts_of_the_wait(self) -> Iterator[float]:
        self.announce_wait()
        patience = Patience(self._start_timeout + self._grace, self._progress)
        while patience.left > 0 and not self.started.done():
            if patience.mark == self._gave_up_at:
                return
            part = min(patience.left, _LONGEST_PART)
            began = time.monotonic()
            yield part
            # A jump of the clock, after a laptop's sleep, uses up at most one part.
            patience.spend(min(time.monotonic() - began, part))
        self._gave_up_at = patience.mark

    def _raise_if_failed(self) -> None:
        if not self.started.done():
            mask = secret_mask()
            raise ServerStartFailed(
                f"The app did not start: no progress for {self._start_timeout:g} s (phase: start), "
                "and it blocks the event loop it runs on",
                phase="start",
                hint="Long steps of its start-up should be awaited, or run in threads.",
                log_lines=[mask(line) for line in host_log.lines(20)],
            )
        self.started.result()

    def wait_closed(self, timeout: float = _CLOSE_TIMEOUT) -> bool:
        """After `close`, wait at most ``timeout`` seconds until the app has stopped, if this was its last
        lease, and the host's thread has ended, if it has no other lease. Return whether that happened.

        In a call of the app, do not wait, because the shutdown waits for the call.
        """
        if is_called(self.app):
            return self._ended.done()
        self._ended.wait(timeout)
        return self._ended.done() and (not self._was_last() or self.host.join(timeout))

    async def wait_closed_async(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Wait as `wait_closed` does, on any event loop; also in a task that is being cancelled."""
        if is_called(self.app):
            return
        with anyio.move_on_after(timeout, shield=True):
            await wait_async(self._ended)
            if self._was_last():
                await self.host.join_async()

    def _was_last(self) -> bool:
        with _tenancy.lock:
            return _tenancy.host is self.host and _tenancy.leases == 0


async def wait_async(future: ThreadFuture[Any], timeout: float | None = None) -> None:
    """Wait on any event loop, at most ``timeout`` seconds, for a future that another thread sets."""
    event = loop_event()
    future.when_done(event.set)
    try:
        await event.wait(timeout)
    finally:
        future.forget(event.set)


def close_all(timeout: float = _CLOSE_TIMEOUT) -> None:
    """Close every hosted app and end the host, within ``timeout`` seconds. Called at process exit."""
    with _tenancy.lock:
        apps, host = list(_tenancy.apps), _tenancy.host
    for app in apps:
        app.close()
    if host is None:
        return
    heard: ThreadFuture[None] = ThreadFuture()
    host.post(heard.set_result)
    now = time.monotonic()
    deadline = now + timeout

    def all_ended(by: float) -> bool:
        return all(app._ended.wait(max(0.0, by - time.monotonic())) for app in apps)

    # A loop that does not react within the time of a shutdown will not cancel one either.
    blocked = not all_ended(now + min(timeout, SHUTDOWN_TIMEOUT)) and not heard.done()
    if not blocked:
        all_ended(deadline)
    host.stop()
    if not blocked:
        host.join(max(0.0, deadline - time.monotonic()))


def _register_exit() -> None:
    # Databases are closed by threads that the interpreter joins before it calls atexit functions, so
    # the apps must be closed before that. Ours is registered after that of concurrent.futures, so it is
    # called while worker threads are still available, without which apps cannot shut down properly.
    global _exit_registered
    if not _exit_registered:
        _exit_registered = True
        with suppress(RuntimeError):  # the interpreter is exiting already
            call_before_threads_are_joined(close_all)


@in_forked_child
def _after_fork() -> None:
    # Only the forking thread continues in the child: there is no host here.
    global _tenancy, _exit_registered
    apps = _tenancy.apps
    _tenancy = _Tenancy()
    _exit_registered = False
    hosted_records.after_fork()
    for app in apps:
        app._abandon_after_fork()
