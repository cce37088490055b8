"""Cells that stay quick while something computes on a thread beside them.

CPython has a thread that wants the interpreter wait for 5 ms if another one computes, each time anew
(`sys.setswitchinterval`). Whoever calls the system often waits often: to show the first error of a
session asks for the path of every module there is, and took 3 s while Prefect was being imported.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchnb.forks import in_forked_child

_INTERVAL = 0.0001
"""Seconds. Shorter ones bring little, and what computes the loss of its caches."""


class _Switching:
    """What is kept of the interpreter's own interval while ours holds."""

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
            # Whoever has set another one since, meant it.
            if self.users == 0 and sys.getswitchinterval() == self.ours:
                sys.setswitchinterval(self.before)


_switching = _Switching()


@contextmanager
def giving_way() -> Iterator[None]:
    """Have threads that wait for the interpreter get it sooner, while this one computes."""
    switching = _switching
    switching.begin()
    try:
        yield
    finally:
        switching.end()


@in_forked_child
def _after_fork() -> None:
    # Nothing of what computed in the parent does in the child.
    global _switching
    if _switching.users and sys.getswitchinterval() == _switching.ours:
        sys.setswitchinterval(_switching.before)
    _switching = _Switching()
