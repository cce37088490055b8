"""Which cell code belongs to: for code of the cell itself, for its tasks, and for its threads.

A context variable says so for a cell's code and for the tasks that it makes, which get a copy of its
context. Threads get none (before Python 3.14 at the least), so whoever starts one is remembered. A
worker of a pool does the work of anybody who hands it some, so it stands for the cell that started
it only while that cell runs. Where it cannot be told there is no cell, rather than a wrong one. A forked
child has none: what it shows would go nowhere but into Jupyter's log.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchnb.notebook.hooks import CellHooks
from orchnb.runtime.loops import is_hosted

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_POOLS = frozenset({"concurrent.futures.thread", "multiprocessing.pool"})


@dataclass(eq=False)
class Cell:
    """One execution of a cell."""

    source: str = field(default="", repr=False)
    parent: dict[str, Any] = field(default_factory=dict, repr=False)
    """The request to execute it, to which its outputs refer; empty where the shell is no kernel's."""
    runs: int = 0
    """How many times over it runs: more than once where a cell runs code as if it were a cell."""
    running: Mapping[str, Cell] = field(default_factory=dict, repr=False)
    """The cells that run at present, oldest first."""

    @property
    def ended(self) -> bool:
        """Whether its code has come to its end; its tasks and threads may go on."""
        return self.runs <= 0


_cell: ContextVar[Cell | None] = ContextVar("orchnb_cell", default=None)


class Cells:
    """Knows the cells of one shell. ``on_end`` is called with each cell that has ended, and whether
    that was by an interrupt."""

    def __init__(self, shell: InteractiveShell, on_end: Callable[[Cell, bool], None]) -> None:
        self._shell = shell
        self._pid = os.getpid()
        self._on_end = on_end
        self._running: dict[str, Cell] = {}
        self._threads: weakref.WeakKeyDictionary[threading.Thread, tuple[Cell, bool]] = (
            weakref.WeakKeyDictionary()
        )
        self._hooks = CellHooks(shell, before=self._begin, after=self._end)
        self._start_thread = threading.Thread.start
        self._ours = self._starter(threading.Thread.start)
        threading.Thread.start = self._ours  # type: ignore[method-assign] # see the module's docstring
        # The cell that loads the extension may go on to use it; if it is none that loads it, but the
        # shell at its start, the next cell takes its place.
        self._first: Cell | None = None
        self._begin()
        self._first = _cell.get()

    def remove(self) -> None:
        """Leave the shell's events, and threads as they were."""
        self._hooks.remove()
        if (
            threading.Thread.start is self._ours
        ):  # else somebody's stands before ours, which passes on
            threading.Thread.start = self._start_thread  # type: ignore[method-assign]
        self._running.clear()
        _cell.set(None)

    def current(self) -> Cell | None:
        """The cell that the running code belongs to, or None if that cannot be told."""
        if is_hosted.get() or os.getpid() != self._pid:
            return None
        cell = _cell.get()
        starter, in_pool = self._threads.get(threading.current_thread(), (None, False))
        if cell is None:
            cell = starter
        # A worker that has the context of whoever started it, as from Python 3.14 on it may.
        return None if in_pool and cell is starter and cell is not None and cell.ended else cell

    @property
    def in_a_cell(self) -> bool:
        """Whether a cell runs, as far as can be told: a kernel at its start has got no request yet."""
        return not hasattr(self._shell, "get_parent") or bool(self._parent())

    def _begin(self, info: Any = None) -> None:
        parent = self._parent()
        cell = self._running.get(_id(parent))
        first = self._first
        if first is not None and not first.parent and parent:  # it was the shell at its start
            first.runs, self._first = 0, None
            self._running.pop(_id(first.parent), None)
        if cell is None or cell is self._first:
            source = getattr(info, "raw_cell", None) or ""
            cell = Cell(source, parent, running=self._running)
            self._running[_id(parent)] = cell
        cell.runs += 1
        _cell.set(cell)

    def _end(self, result: Any = None) -> None:
        # Found by its request: for a cell that awaits, this runs outside of the cell's own context.
        key = _id(self._parent())
        cell = self._running.get(key)
        if cell is None or os.getpid() != self._pid:
            return
        cell.runs -= 1
        if cell.ended:
            _cell.set(None)
            # ipykernel interrupts a cell that awaits by cancelling it.
            interrupts = (KeyboardInterrupt, asyncio.CancelledError)
            try:
                self._on_end(cell, isinstance(getattr(result, "error_in_exec", None), interrupts))
            finally:
                del self._running[key]

    def _parent(self) -> dict[str, Any]:
        get = getattr(self._shell, "get_parent", None)
        return dict(get() or {}) if get is not None else {}

    def _starter(self, start: Callable[[threading.Thread], None]) -> Callable[..., None]:
        def start_in_cell(thread: threading.Thread) -> None:
            cell = self.current()
            # Our own threads are nobody's: they outlive the cell in which they happen to be started.
            if cell is not None and not thread.name.startswith("orchnb-"):
                target = getattr(thread, "_target", None)
                self._threads[thread] = cell, getattr(target, "__module__", "") in _POOLS
            start(thread)

        return start_in_cell


def _id(parent: dict[str, Any]) -> str:
    header = parent.get("header", parent)
    return str(header.get("msg_id", ""))
