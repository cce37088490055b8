"""What comes of something on another thread, waited for so that an interrupt can do no harm."""

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

# Seconds. A lock that is waited for without a limit may miss an interrupt that arrives just when the
# wait begins, and on Windows misses every one.
_LONGEST_WAIT = 0.2


class Outcome(Generic[T]):
    """A result that is set once, on any thread, and waited for on any other.

    It does what ``concurrent.futures.Future`` and ``threading.Event`` do, which are no good here. They
    take their lock in code of Python's, and an interrupt between that and the work under the lock
    leaves it locked for good: whoever sets the result then, which is the thread of all servers, hangs
    for ever. Here those who wait share no lock with anybody.
    """

    def __init__(self) -> None:
        self._settling = threading.Lock()  # only of those who set it, and taken by C at one stroke
        self._result: T | None = None
        self._error: BaseException | None = None
        self._is_done = False
        self._callbacks: deque[Callable[[], object]] = deque()

    def done(self) -> bool:
        """Whether it has been set."""
        return self._is_done

    def settle(self, result: T | None = None, error: BaseException | None = None) -> bool:
        """Set it, unless it has been, and wake all who wait; whether this was the first time."""
        with self._settling:
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
        """Have a function called once, when it is set or at once, on whatever thread."""
        self._callbacks.append(callback)
        if self._is_done and self.forget(callback):
            callback()

    def forget(self, callback: Callable[[], object]) -> bool:
        """Take back what was said to `when_done`; False if it has been called."""
        with suppress(ValueError, IndexError):
            self._callbacks.remove(callback)
            return True
        return False

    def wait(self, timeout: float = math.inf) -> bool:
        """Wait until it is set, or the seconds are over; whether it is set. Interrupts come through, on
        every platform."""
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
        """What it was set to, once it is; the same object at each call.

        Raises:
            TimeoutError: it was not set in that many seconds.
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
        """The error that it was set to, if it was set, and to one."""
        return self._error


class LoopTask(Outcome[T]):
    """A task on an event loop of another thread, in the context in which this is made. What it returns or
    raises is the outcome."""

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
        """Cancel it, from any thread; its outcome is that then, unless it is over."""
        self._is_unwanted = True
        with suppress(RuntimeError):  # the loop has ended, and it with the loop
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
            self.settle(error=asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.settle(error=error)
        else:
            self.settle(task.result())


def parts(timeout: float, longest: float = _LONGEST_WAIT) -> Iterator[float]:
    """The seconds of each part of a wait. A clock that jumps, after a laptop's sleep or while a cell
    let no other thread run, uses up one of them at most: nobody else has had that time either."""
    left = timeout
    while left > 0:
        part = min(left, longest)
        began = time.monotonic()
        yield part
        left -= min(time.monotonic() - began, part)
