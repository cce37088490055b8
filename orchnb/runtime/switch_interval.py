"""Keep cells fast while another thread computes.

In CPython a thread that needs the interpreter waits for 5 ms each time while another one computes
(`sys.setswitchinterval`). Code with many system calls waits often: showing the first error of a session
looks up the path of every module, and took 3 s while Prefect was being imported.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchnb.forks import in_forked_child

_INTERVAL = 0.0001
"""Seconds. Shorter intervals gain little, and cost the computing thread its caches."""


class _Switching:
    """The interpreter's previous interval, saved while ours is set."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.before = self.ours = 0.0

    def begin(self) -> None:
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.before = sys.getswitchinterval()
                sys.setswitchinterval(min(self.before, _INTERVAL))
                self.ours = sys.getswitchinterval()

    def end(self) -> None:
        with self.lock:
            self.users -= 1
            # If other code has set a different one in the meantime, keep that.
            if self.users == 0 and sys.getswitchinterval() == self.ours:
                sys.setswitchinterval(self.before)


_switching = _Switching()


@contextmanager
def giving_way() -> Iterator[None]:
    """Let threads that wait for the interpreter get it sooner while this one computes."""
    switching = _switching
    switching.begin()
    try:
        yield
    finally:
        switching.end()


@in_forked_child
def _after_fork() -> None:
    # No thread that computed in the parent runs in the child.
    global _switching
    if _switching.users and sys.getswitchinterval() == _switching.ours:
        sys.setswitchinterval(_switching.before)
    _switching = _Switching()
