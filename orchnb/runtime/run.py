"""Wait for an awaitable from plain code, anywhere."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
import re
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, TypeVar

from orchnb import _cpython
from orchnb.event_loop import Loop, current_loop
from orchnb.forks import in_forked_child
from orchnb.runtime.futures import LoopTask, ThreadFuture
from orchnb.runtime.interrupts import deferred_interrupts, interrupts_handled_by
from orchnb.runtime.loops import (
    cancel_tasks,
    finish_loop,
    is_hosted,
    notebook_loop,
    on_notebook_thread,
    stand_in,
)

T = TypeVar("T")

_PATIENCE = 1.0
"""Seconds that a coroutine has to end when it is cancelled. One that computes does not notice that it
was, so after this time the interrupt is raised in it."""


_ANOTHER_LOOP = re.compile("different (event )?loop")
"""In the messages of asyncio's errors."""


def run(awaitable: Awaitable[T]) -> T:
    """Wait for an awaitable from plain code, anywhere, and return its result.

    A coroutine runs on an event loop of another thread, in a copy of the caller's context, while this
    thread waits. So it does not matter whether an event loop runs here, and which one. Tasks that it
    leaves are cancelled, as ``asyncio.run`` does. In a notebook it finds the notebook's client. It cannot
    use the tasks, queues and locks of an event loop here: asyncio mostly raises an error, and
    ``asyncio.wait`` waits until it is interrupted. Use ``await`` for those.

    A task or a future runs on the event loop that it belongs to. If that loop runs in this thread, its
    other tasks go on in the meantime.

    An interrupt cancels what is waited for.

    Raises:
        RuntimeError: called by async code of an app in this process, whose event loop would wait for
            itself; or for a task of a running loop that cannot be nested, such as uvloop's; or the
            coroutine awaits a task, a queue or a lock of another loop.
    """
    try:
        if is_hosted.get() and current_loop() is not None:
            raise RuntimeError(
                "run() would wait for itself here: use await in code of a hosted app"
            )
        if isinstance(awaitable, asyncio.Future):
            result: T = _wait_for(awaitable)
            return result
        return _run_in_thread(awaitable)
    except BaseException:
        if inspect.iscoroutine(awaitable) and _is_untouched(awaitable):
            awaitable.close()  # or Python would complain about it, in whichever cell runs then
        raise


def _is_untouched(coroutine: Coroutine[Any, Any, Any]) -> bool:
    return inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED


# Coroutines: in another thread. An interrupt is raised here in the meantime. Code that runs an outer loop
# (asyncio.run, ipykernel in a cell with `await`) cancels its task instead, which cannot react while this
# thread waits.


def _run_in_thread(awaitable: Awaitable[T]) -> T:
    home = current_loop() or (notebook_loop() if on_notebook_thread() else None)
    job = _Job(_as_coroutine(awaitable), home, keep=on_notebook_thread())
    presses: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        # The coroutine ends in any case, as a second interrupt can come before any other code runs.
        presses.append(number)
        if len(presses) == 1:
            job.cancel()
        else:
            job.interrupt()
        signal.default_int_handler(number, frame)

    try:
        with interrupts_handled_by(press), _known_to_outer_job(job):
            _wait_or_end(job)
        if job.error is not None:
            raise job.error  # with its traceback, which shows the caller's own code
        return job.result()
    except (RuntimeError, ValueError) as exc:
        if _ANOTHER_LOOP.search(str(exc)):
            raise RuntimeError(
                "run() runs a coroutine on another event loop, and this one awaits a task or future "
                "of an event loop here: use await, or give run() the task itself"
            ) from exc
        raise


def _wait_or_end(job: _Job[Any]) -> None:
    try:
        with deferred_interrupts():
            _hand_over(job)
        job.wait()
    except RuntimeError:  # no thread can be started
        raise
    except BaseException as exc:
        if job.done():
            raise
        job.cancel()
        if not job.wait(_PATIENCE):
            job.interrupt()
            job.wait(_PATIENCE)
        if isinstance(job.error, asyncio.CancelledError):
            exc.__context__ = job.error  # it tells where the coroutine was
            exc.__suppress_context__ = True
        raise


class _Job(ThreadFuture[T]):
    """A coroutine to run. It is done when all tasks that the coroutine has left are cancelled as well."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], home: Loop | None, *, keep: bool) -> None:
        super().__init__()
        self.keep = keep
        """Whether the thread waits for another job then."""
        self._coroutine = coroutine
        self._home = home
        self._context = contextvars.copy_context()
        self._cancel: Callable[[], object] | None = None
        self._thread: int | None = None
        self._lock = threading.Lock()
        """Held to change or compare ``inner`` and whether the job is unwanted."""
        self._is_unwanted = False
        self._was_cancelled = False
        """Whether the coroutine has got its one cancellation. Only the job's thread uses this."""
        self.inner: _Job[Any] | None = None
        """What the coroutine itself waits for with `run`, so that its loop cannot react."""

    def cancel(self) -> None:
        """Cancel the coroutine, from any thread. It is cancelled once, so that it can clean up."""
        with self._lock:
            if self._is_unwanted:
                return
            self._is_unwanted = True
            inner = self.inner
        if inner is not None:
            inner.cancel()
        if (cancel := self._cancel) is not None:
            with suppress(RuntimeError):  # it has just ended, and its loop is closed
                cancel()

    @contextmanager
    def waiting_for(self, inner: _Job[Any]) -> Iterator[None]:
        """Hand a cancellation to a job that the coroutine waits for.

        The coroutine sees it as its own then.
        """
        with self._lock:
            self.inner = inner
            is_unwanted = self._is_unwanted
        try:
            if is_unwanted and not self._was_cancelled:
                inner.cancel()
            yield
        finally:
            self.inner = None
            self._was_cancelled |= inner._was_cancelled

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in its thread, where the Python implementation can.

        The thread may be past the job when it is raised, so it does no other job after that.
        """
        if (inner := self.inner) is not None and not inner.done():
            inner.interrupt()
            return
        self.keep = False
        thread, api = self._thread, getattr(ctypes, "pythonapi", None)
        if thread is not None and api is not None:
            api.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
            )

    def run_on(self, loop: asyncio.AbstractEventLoop) -> Callable[[], object]:
        """Run it to its end on a loop; return a function that sets its result or error."""
        self._thread = threading.get_ident()
        _on_this_thread.job = self
        try:
            if self._home is not None:
                self._context.run(stand_in, loop, self._home)
            task = self._context.run(loop.create_task, self._coroutine)

            def cancel_once() -> None:
                if not self._was_cancelled:
                    self._was_cancelled = True
                    task.cancel()

            self._cancel = lambda: loop.call_soon_threadsafe(cancel_once)
            if self._is_unwanted:
                cancel_once()
            result = loop.run_until_complete(task)
            cancel_tasks(loop, timeout=None)
        except BaseException as exc:  # noqa: BLE001 - the caller's, whatever it is
            error = exc.with_traceback(_callers_part(exc.__traceback__))
            with suppress(BaseException):  # the coroutine's own error is the one to tell
                cancel_tasks(loop, timeout=None)
            return lambda: self.set_error(error)
        finally:
            self._cancel = self._thread = None
            del _on_this_thread.job
        return lambda: self.set_result(result)


_on_this_thread = threading.local()
"""``job`` is the one that runs on the thread, if one does."""


def _known_to_outer_job(job: _Job[Any]) -> AbstractContextManager[None]:
    outer: _Job[Any] | None = getattr(_on_this_thread, "job", None)
    return nullcontext() if outer is None else outer.waiting_for(job)


class _Runner:
    """A thread with an event loop, which does one job after another."""

    def __init__(self, job: _Job[Any]) -> None:
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._jobs.put(job)
        self.thread = threading.Thread(target=self._work, name="orchnb-run", daemon=True)
        self.thread.start()

    def do(self, job: _Job[Any]) -> None:
        self._jobs.put(job)

    def end(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        with suppress(KeyboardInterrupt):  # one for the job, which has just ended
            self._do_jobs(asyncio.new_event_loop())

    def _do_jobs(self, loop: asyncio.AbstractEventLoop) -> None:
        set_done: Callable[[], object] = bool
        try:
            while (job := self._jobs.get()) is not None:
                set_done = job.run_on(loop)
                keep = job.keep and notebook_loop() is not None  # the job may have unloaded orchnb
                del job  # it holds the caller's objects
                if not keep:
                    break
                _spare.append(self)  # first, so that the caller's next job finds it
                set_done()
                set_done = bool
        finally:
            with suppress(KeyboardInterrupt):
                finish_loop(loop, timeout=None)
            set_done()


_spare: list[_Runner] = []
"""Runners that wait for a job. A notebook keeps them, and with them the connections of its client."""


def _hand_over(job: _Job[Any]) -> None:
    if job.keep:
        try:
            _spare.pop().do(job)
            return
        except IndexError:
            pass
    _Runner(job)


def end_runners() -> None:
    """End the threads that wait for a next call of `run`."""
    while _spare:
        with deferred_interrupts():
            runner = _spare.pop()
            runner.end()
        runner.thread.join()


@in_forked_child
def _after_fork() -> None:
    _spare.clear()  # their threads are the parent's


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _callers_part(traceback: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that is below `_as_coroutine`, or all of it if there is none."""
    part = traceback
    while part is not None:
        code, part = part.tb_frame.f_code, part.tb_next
        if code is _as_coroutine.__code__:
            return part or traceback
    return traceback


# Tasks and futures: on their own loop.


def _wait_for(future: asyncio.Future[Any]) -> Any:
    loop = future.get_loop()
    if loop is not current_loop() and loop.is_running():  # in another thread
        task = LoopTask(loop, _as_coroutine(future))
        try:
            with interrupts_handled_by(signal.default_int_handler):
                return task.result()
        except BaseException:
            task.cancel()
            raise
    presses: list[int] = []

    def press(number: int, frame: FrameType | None) -> None:
        # To raise KeyboardInterrupt in the middle of the loop's own code would make it forget what it was
        # about to run. So the first one cancels; a second one is raised at once.
        presses.append(number)
        if len(presses) > 1:
            signal.default_int_handler(number, frame)
        loop.call_soon_threadsafe(future.cancel)

    try:
        with interrupts_handled_by(press):
            if loop is current_loop():
                _step_until_done(loop, future)
            else:
                loop.run_until_complete(future)
        result = future.result()
    except asyncio.CancelledError:
        if presses:
            raise KeyboardInterrupt from None  # its context tells where the task was
        raise
    if presses:
        raise KeyboardInterrupt
    return result


def _step_until_done(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
    """Run the loop that runs this very code, step by step, until the future is done.

    asyncio has no public way to do this. nest-asyncio, the well-known library for it, replaces functions
    and classes of asyncio for the whole process.
    """
    if not _cpython.can_be_stepped(loop):
        raise RuntimeError(
            f"run() cannot wait for a task of the running {type(loop).__module__} loop: use await"
        )
    ready = _cpython.ready_handles(loop)
    # A wait within a wait keeps its own list. Its handles go back when it ends: the outer wait
    # would keep it longer, and run first what came later.
    queue = ready.queue if isinstance(ready, _Runnable) else ready
    waiting = len(queue)
    runnable = _Runnable(queue, loop)
    _cpython.set_ready_handles(loop, runnable)
    try:
        with _cpython.outside_of_its_task(loop):
            while not future.done():
                if _cpython.is_stopping(loop):
                    raise RuntimeError("The event loop was stopped before the task had ended")
                _cpython.step(loop)
    finally:
        _cpython.set_ready_handles(loop, ready)
        queue.extendleft(reversed(runnable.put_aside))
        # The step in which this was called goes on to take as many handles as there were when it began.
        for _ in range(waiting - len(queue)):
            queue.append(_cancelled_handle(loop))


class _Runnable:
    """A loop's queue of handles, without those whose context has been entered further up the stack.

    They would fail, and be lost: ipykernel 7 runs all requests in one context.
    """

    def __init__(self, queue: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.put_aside: list[asyncio.Handle] = []
        self.queue = queue
        self._loop = loop

    def popleft(self) -> asyncio.Handle:
        handle: asyncio.Handle = self.queue.popleft()
        if not handle.cancelled() and _is_entered(_cpython.context_of(handle)):
            self.put_aside.append(handle)
            return _cancelled_handle(self._loop)
        return handle

    def __len__(self) -> int:
        return len(self.queue)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.queue, name)


def _is_entered(context: contextvars.Context) -> bool:
    try:
        context.run(bool)
    except RuntimeError:
        return True
    return False


def _cancelled_handle(loop: asyncio.AbstractEventLoop) -> asyncio.Handle:
    """A handle that the loop passes over."""
    handle = asyncio.Handle(bool, (), loop)
    handle.cancel()
    return handle
