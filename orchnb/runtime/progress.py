"""The progress of a start, which distinguishes a slow start from one that hangs.

A start makes progress when a phase begins, when it logs or prints a line that it has not written
before, and when a module is imported. An app that hangs does nothing of the kind. A repeated line is not
progress: an app that waits for a database often logs the same line again and again.

Modules are counted for the whole process, because it is unknown which thread imports them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import anyio

_LOOK_EVERY = 1.0
"""Seconds between two checks of the progress of a start."""

_LONGEST_STEP = 5.0
"""The most seconds to count between two checks. A longer step means that the clock jumped, as after a
laptop's sleep: the start has not had that time."""

_start: ContextVar[Progress | None] = ContextVar("orchnb_start", default=None)


class NoProgress(Exception):
    """A start was given up because it made no progress."""


class Progress:
    """The progress of an app's start, and of each later start of the same app."""

    def __init__(self, on_wait: Callable[[str], object] = bool) -> None:
        """``on_wait`` is called with `waits_for` when it changes."""
        self.waits_for: str = ""
        """What the start waits for outside of this process, such as a lock; empty if for nothing."""
        self._on_wait = on_wait
        self._starts = 0
        self._modules = 0
        self._steps: set[int] = set()
        self._listeners: list[Callable[[], object]] = []
        self._is_over = True

    def begin(self) -> None:
        """Begin a start, to which the running code and everything that it starts belong."""
        self._starts += 1
        self._steps.clear()
        self._is_over = False
        self.waits_for = ""
        _start.set(self)

    def end(self) -> None:
        """End the start; later reports from its code are ignored."""
        self._is_over = True
        self._steps.clear()

    def report(self, step: Hashable) -> None:
        """Record a step. A step already reported in this start changes nothing."""
        if not self._is_over:
            self._steps.add(hash(step))

    def wait_for(self, what: str) -> None:
        """Take note of what the start waits for."""
        if not self._is_over and what != self.waits_for:
            self.waits_for = what
            self._on_wait(what)

    def mark(self) -> object:
        """Return a value that differs from an earlier one if and only if there was progress."""
        # The maximum so far: a module that is removed and imported again is not progress.
        self._modules = max(self._modules, len(sys.modules))
        return self._starts, len(self._steps), self._modules

    def tell(self) -> None:
        """Call the listeners."""
        for listener in list(self._listeners):
            listener()

    @contextmanager
    def told_to(self, listener: Callable[[], object]) -> Iterator[None]:
        """Call ``listener`` after progress, at most once a second, during a ``with`` block."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)


def report_progress(step: Hashable) -> None:
    """Report a step of the start that the running code belongs to, if it belongs to one."""
    if (start := _start.get()) is not None:
        start.report(step)


def report_wait(what: str) -> None:
    """Report what the start that the running code belongs to waits for; an empty text ends the wait."""
    if (start := _start.get()) is not None:
        start.wait_for(what)


@contextmanager
def progress_told_to(listener: Callable[[], object]) -> Iterator[None]:
    """Call ``listener`` as `Progress.told_to` does, for the running code's start, if it has one."""
    start = _start.get()
    if start is None:
        yield
        return
    with start.told_to(listener):
        yield


class Patience:
    """The seconds that a waiter still waits for a start; progress resets them.

    ``mark`` is `Progress.mark`, or another function whose result changes with progress.
    """

    def __init__(self, seconds: float, mark: Callable[[], object]) -> None:
        self.left: float = seconds
        self.mark: object = mark()
        self._seconds = seconds
        self._mark = mark

    def spend(self, seconds: float) -> bool:
        """Subtract elapsed time; return whether there was progress in it."""
        mark, self.mark = self.mark, self._mark()
        if mark == self.mark:
            self.left -= seconds
            return False
        self.left = self._seconds
        return True


@contextmanager
def limited_without_progress(progress: Progress, seconds: float) -> Iterator[None]:
    """Cancel the block once its start has made no progress for that long. For asyncio.

    Raises:
        NoProgress: the block was cancelled for this reason.
    """
    loop = asyncio.get_running_loop()
    patience = Patience(seconds, progress.mark)
    looked = loop.time()
    timer: asyncio.TimerHandle | None = None

    def look_later() -> None:
        nonlocal timer
        timer = loop.call_at(looked + max(0.0, min(patience.left, _LOOK_EVERY)), look)

    def look() -> None:
        nonlocal looked
        now = loop.time()
        if patience.spend(min(now - looked, _LONGEST_STEP)):
            progress.tell()
        looked = now
        if patience.left > 0:
            look_later()
        else:
            scope.cancel()

    with anyio.CancelScope() as scope:
        look_later()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
    if scope.cancelled_caught:
        raise NoProgress(f"no progress for {seconds:g} s")
