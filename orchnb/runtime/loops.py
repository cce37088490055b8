"""Event loops: whether the running code is the notebook's, waking a loop, ending it."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import anyio

from orchnb._cpython import discard_silently
from orchnb.event_loop import Loop, current_loop

T = TypeVar("T")


class Task(Protocol):
    """A task that `spawn` has started."""

    def cancel(self) -> object: ...


is_hosted: contextvars.ContextVar[bool] = contextvars.ContextVar("orchnb_is_hosted", default=False)
"""True in code that runs on the host, and in worker threads that get the context of such code."""

_notebook_loop: asyncio.AbstractEventLoop | None = None


def set_notebook_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Set the notebook's event loop; None when there no longer is one."""
    global _notebook_loop
    _notebook_loop = loop


def notebook_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that cells run on, or None outside of a notebook."""
    return _notebook_loop


def on_notebook_thread() -> bool:
    """Return whether the running code is a cell's.

    It is if it runs on the notebook's loop, or in `orchnb.run` for a cell, or, where cells run on no loop
    (terminal IPython), as plain code in the main thread.
    """
    if _notebook_loop is None:
        return False
    loop = home_loop()
    if loop is None:
        return (
            threading.current_thread() is threading.main_thread()
            and not _notebook_loop.is_running()
        )
    return loop is _notebook_loop


_run_for: contextvars.ContextVar[tuple[Loop, Loop] | None] = contextvars.ContextVar(
    "orchnb_run_for", default=None
)


def home_loop() -> Loop | None:
    """Return the loop that the running code belongs to, or None.

    That is the running loop. For a coroutine that `orchnb.run` runs in another thread, it is the
    caller's.
    """
    loop = current_loop()
    run_for = _run_for.get()
    return run_for[1] if run_for is not None and run_for[0] is loop else loop


def stand_in(loop: Loop, home: Loop) -> None:
    """Have `home_loop` return ``home`` for code that runs on ``loop`` in the current context."""
    _run_for.set((loop, home))


def waker() -> Callable[[Callable[[], object]], None]:
    """Return a function with which other threads can call a function on the running loop.

    Calls for a loop that has ended are dropped: nothing waits there any more.
    """
    loop = current_loop()
    if loop is None:
        raise RuntimeError("There is no running event loop to wake")
    if isinstance(loop, asyncio.AbstractEventLoop):
        schedule: Callable[[Callable[[], object]], object] = loop.call_soon_threadsafe
    else:
        schedule = loop.run_sync_soon  # type: ignore[attr-defined]

    def wake(function: Callable[[], object]) -> None:
        # RuntimeError: a closed asyncio loop; trio.RunFinishedError is one as well.
        with suppress(RuntimeError):
            schedule(function)

    return wake


class LoopEvent(Protocol):
    """An event that any thread may set, for one waiter on the loop where it was created."""

    def set(self) -> None:
        """Set the event permanently; nothing happens if the loop has ended."""

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds until it is set; return whether it is. One waiter at a
        time."""


def loop_event() -> LoopEvent:
    """Return a new event for the running loop."""
    loop = current_loop()
    return _AsyncioEvent(loop) if isinstance(loop, asyncio.AbstractEventLoop) else _AnyioEvent()


class _AsyncioEvent:
    # anyio's event works on asyncio as well, but with a timeout it takes 4 % of a request to the host.

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        self._is_set = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:
        if self._is_set:
            return True
        self._waiter = self._loop.create_future()
        timer = None if timeout is None else self._loop.call_later(timeout, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return self._is_set


class _AnyioEvent:
    def __init__(self) -> None:
        self._event = anyio.Event()
        self._wake = waker()

    def set(self) -> None:
        self._wake(self._event.set)

    async def wait(self, timeout: float | None = None) -> bool:
        with anyio.move_on_after(timeout):
            await self._event.wait()
        return self._event.is_set()


def spawn(function: Callable[[], Coroutine[Any, Any, None]]) -> Task:
    """Start an independent task on the running loop, and return an object that cancels it.

    Like any task it gets a copy of the caller's context. It must report its own errors. Keep the returned
    object while the task runs: asyncio holds only weak references to tasks.
    """
    loop = current_loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        task = loop.create_task(function())
        task.add_done_callback(_take_exception)
        return task
    trio = sys.modules["trio"]
    scope: Task = trio.CancelScope()

    async def quietly() -> None:
        # An error in a system task would end the whole trio run.
        with scope, suppress(Exception):  # type: ignore[attr-defined]
            await function()

    trio.lowlevel.spawn_system_task(quietly, context=contextvars.copy_context())
    return scope


def _take_exception(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # otherwise asyncio reports it when the task is garbage-collected


def discard_task(task: object) -> None:
    """Discard a task whose loop is closed, without a report: its code cannot be continued."""
    pending: Any = task  # of one of asyncio's two classes, which nest-asyncio swaps
    if pending is not None and not pending.done():
        # Otherwise it is reported on stderr when it is collected, in whichever cell runs then.
        discard_silently(pending)
        with suppress(BaseException):
            pending.get_coro().close()


_AFTERMATH = 1.0
"""Seconds for the tasks that cancelled tasks start."""


def cancel_tasks(loop: asyncio.AbstractEventLoop, *, timeout: float | None) -> None:
    """Cancel the tasks of a loop that has stopped, and wait at most ``timeout`` seconds for them to end.

    Tasks that they start while they are cancelled are not cancelled: databases close their connections
    that way, on threads that fail if the loop is closed before they can report to it.
    """
    leftovers = asyncio.all_tasks(loop)
    for task in leftovers:
        task.cancel()
    if leftovers:
        loop.run_until_complete(asyncio.wait(leftovers, timeout=timeout))
    if started := asyncio.all_tasks(loop) - leftovers:
        loop.run_until_complete(asyncio.wait(started, timeout=_AFTERMATH))


def finish_loop(loop: asyncio.AbstractEventLoop, *, timeout: float | None) -> None:
    """Cancel the tasks of a loop that has stopped, wait at most ``timeout`` seconds for them, and close
    it.

    Its default executor is left to the interpreter, because its threads may hang.
    """
    try:
        cancel_tasks(loop, timeout=timeout)
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
        for task in asyncio.all_tasks(loop):
            discard_task(task)
