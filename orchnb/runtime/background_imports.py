"""Imports in background threads: a fork does not come in the middle of them.

A forked child inherits the lock of a module that is being imported, but not the thread that holds it. To
import the module, or a package that it belongs to, then takes forever. So a fork waits until the
background threads are between two imports.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from orchnb.forks import around_forks, in_forked_child
from orchnb.runtime.interrupts import held_interrupts

LONGEST_DELAY = 30.0
"""Seconds that a fork waits for imports. An import that takes longer is assumed to hang, as it does if it
waits for the code that forks."""

_LOOK_EVERY = 0.1
"""Seconds after which a fork that waits notices an interrupt."""

_UNTIL_FORKED = 0.05
"""Seconds that a fork takes at most. An interrupt during the wait is raised after it, because Python only
prints what a function raises that is called before a fork."""


class _Gate:
    """Who imports in the background, and how many threads want to fork."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.importing: Counter[int] = Counter()
        self.forks = 0

    def enter(self) -> None:
        with self.changed:
            me = threading.get_ident()
            if me not in self.importing:
                self.changed.wait_for(lambda: not self.forks, LONGEST_DELAY)
            self.importing[me] += 1

    def leave(self) -> None:
        with self.changed:
            me = threading.get_ident()
            self.importing[me] -= 1
            if not self.importing[me]:
                del self.importing[me]
            self.changed.notify_all()

    def begin_fork(self) -> bool:
        """Wait until no other thread imports; return whether the wait was interrupted."""
        ends = time.monotonic() + LONGEST_DELAY
        with held_interrupts() as interrupts, self.changed:
            self.forks += 1
            while self.importing.keys() - {threading.get_ident()}:
                if interrupts or time.monotonic() > ends:
                    break
                self.changed.wait(_LOOK_EVERY)
        return bool(interrupts)

    def end_fork(self) -> None:
        with self.changed:
            self.forks -= 1
            self.changed.notify_all()


_gate = _Gate()


@contextmanager
def importing() -> Iterator[None]:
    """Have forks by other threads wait for the end of the block, at most `LONGEST_DELAY` seconds.

    For code that imports in a background thread, and does little else.
    """
    gate = _gate
    gate.enter()
    try:
        yield
    finally:
        gate.leave()


def import_each(names: Iterable[str]) -> None:
    """Import modules one after the other; a fork can come between two of them. Skip those that are not
    installed."""
    for name in names:
        with suppress(ImportError), importing():
            import_module(name)


def loaded_module(name: str) -> Any:
    """Return a module if it was imported, else None; wait for one that another thread is importing."""
    return import_module(name) if name in sys.modules else None


_this_fork = threading.local()


def _before_fork() -> None:
    _this_fork.interrupted = _gate.begin_fork()


def _after_fork_in_parent() -> None:
    _gate.end_fork()
    if _this_fork.interrupted:
        # Sent to the main thread, where it was held, so that it wakes what waits there.
        main = threading.main_thread().ident
        threading.Timer(_UNTIL_FORKED, signal.pthread_kill, [main, signal.SIGINT]).start()


@in_forked_child
def _after_fork_in_child() -> None:
    global _gate
    _gate = _Gate()


around_forks(_before_fork, _after_fork_in_parent)
