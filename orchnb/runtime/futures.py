"""Results from other threads, with waits that an interrupt cannot corrupt."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Seconds. A wait for a lock without a limit may miss an interrupt that arrives just as it begins, and on
# Windows misses all of them.
_LONGEST_WAIT = 0.2


class ThreadFuture(Generic[T]):
    """A result that is set once, on any thread, and waited for on any other.

    It replaces ``concurrent.futures.Future`` and ``threading.Event``, which do not work here. They
    acquire their lock in Python code, and an interrupt between that and the code under the lock leaves it
    locked forever: then the thread that sets the result, which is the host's, hangs. Here waiters share
    no lock with any other thread.
    """

    def __init__(self) -> None:
        self._setting = threading.Lock()  # only for setters, and acquired in C in one step
        self._result: T | None = None
        self._error: BaseException | None = None
        self._is_done = False
        self._callbacks: deque[Callable[[], object]] = deque()

    def done(self) -> bool:
        """Return whether it has been set."""
        return self._is_done

    def set_result(self, result: T | None = None) -> bool:
        """Set the result unless the future is done, and wake all waiters; return whether this call set
        it."""
        return self._set(result, None)

    def set_error(self, error: BaseException) -> bool:
        """Set the error that `result` raises, in the same way."""
        return self._set(None, error)

    def _set(self, result: T | None, error: BaseException | None) -> bool:
        with self._setting:
            if self._is_done:
                return False
            self._result, self._error = result, error
            self._is_done = True
        while True:
            try:
                callback = self._callbacks.popleft()
            except IndexError:
                return True
            callback()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call a function once, on any thread: when it is set, or now if it already is."""
        self._callbacks.append(callback)
        if self._is_done and self.forget(callback):
            callback()

    def forget(self, callback: Callable[[], object]) -> bool:
        """Remove a callback passed to `when_done`; return False if it has been called."""
        with suppress(ValueError, IndexError):
            self._callbacks.remove(callback)
            return True
        return False

    def wait(self, timeout: float = math.inf) -> bool:
        """Wait at most ``timeout`` seconds until it is set; return whether it is. Interrupts end the wait
        on every platform."""
        if self._is_done:
            return True
        gate = threading.Lock()
        gate.acquire()
        self.when_done(gate.release)
        try:
            return any(gate.acquire(timeout=part) for part in parts(timeout)) or self._is_done
        finally:
            self.forget(gate.release)

    def result(self, timeout: float = math.inf) -> T:
        """Wait for the result and return it; each call returns the same object.

        Raises:
            TimeoutError: it was not set within ``timeout`` seconds.
            BaseException: the error that it was set to.
        """
        if not self.wait(timeout):
            raise TimeoutError
        if self._error is not None:
            # Several may wait, and each raise writes its own traceback into the error.
            raise self._error.with_traceback(None)
        return self._result  # type: ignore[return-value] # None where T is

    @property
    def error(self) -> BaseException | None:
        """The error that it was set to; None if it is not set, or was set to a result."""
        return self._error


class LoopTask(ThreadFuture[T]):
    """A task on an event loop of another thread, in the context in which this is created, and the future
    of its result."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> None:
        super().__init__()
        self._loop = loop
        self._coroutine = coroutine
        self._task: asyncio.Task[T] | None = None
        self._is_unwanted = False
        try:
            loop.call_soon_threadsafe(self._begin)
        except RuntimeError:
            coroutine.close()
            raise

    def cancel(self) -> None:
        """Cancel the task, from any thread. Unless it has ended, its error is then a CancelledError."""
        self._is_unwanted = True
        with suppress(RuntimeError):  # the loop has ended, and the task with it
            self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._coroutine)
        self._task.add_done_callback(self._take)
        if self._is_unwanted:
            self._task.cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _take(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.set_error(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.set_error(error)
        else:
            self.set_result(task.result())


def parts(timeout: float, longest: float = _LONGEST_WAIT) -> Iterator[float]:
    """Yield the seconds of each part of a wait. A jump of the clock, after a laptop's sleep or while a
    cell let no other thread run, uses up at most one part: nobody else has had that time either."""
    left = timeout
    while left > 0:
        part = min(left, longest)
        began = time.monotonic()
        yield part
        left -= min(time.monotonic() - began, part)
