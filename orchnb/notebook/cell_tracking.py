"""Find the cell that code belongs to: for the cell's own code, its tasks, and threads.

A context variable holds it for a cell's code and for the tasks that it creates, which get a copy of its
context. Most threads get no copy; what they do belongs to the running cell, as does the work of pools,
which comes from any cell. So a thread that outlives its cell shows in the cell that runs then, if one
does. A forked child has no cell: its output would only reach Jupyter's log.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchnb.event_loop import current_loop
from orchnb.notebook._ipython import current_request
from orchnb.notebook.cell_hooks import CellHooks
from orchnb.runtime.loops import is_hosted

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


@dataclass(eq=False)
class Cell:
    """One execution of a cell."""

    source: str = field(default="", repr=False)
    parent: dict[str, Any] = field(default_factory=dict, repr=False)
    """The request to execute it, to which its outputs refer; empty if the shell is not a kernel's."""
    runs: int = 0
    """How deeply it is nested: more than 1 when a cell runs code as if it were a cell."""
    running: Mapping[str, Cell] = field(default_factory=dict, repr=False)
    """The cells that are running now, oldest first."""

    @property
    def ended(self) -> bool:
        """Whether its code has ended; its tasks and threads may continue."""
        return self.runs <= 0


_cell: ContextVar[Cell | None] = ContextVar("orchnb_cell", default=None)


class Cells:
    """Tracks the cells of one shell. ``on_end`` is called with each cell that has ended, and whether an
    interrupt ended it."""

    def __init__(self, shell: InteractiveShell, on_end: Callable[[Cell, bool], None]) -> None:
        self._shell = shell
        self._pid = os.getpid()
        self._on_end = on_end
        self._running: dict[str, Cell] = {}
        self._hooks = CellHooks(shell, before=self._begin, after=self._end)
        # The cell that loads the extension may continue to use it; if the shell loads it at startup
        # instead, the next cell takes that place.
        self._first: Cell | None = None
        self._begin()
        self._first = _cell.get()

    def remove(self) -> None:
        """Unregister from the shell's events."""
        self._hooks.remove()
        self._running.clear()
        _cell.set(None)

    def current(self) -> Cell | None:
        """Return the cell that the running code belongs to, or None if that is unknown."""
        if is_hosted.get() or os.getpid() != self._pid:
            return None
        cell = _cell.get()
        if cell is not None and (not cell.ended or current_loop() is not None):
            return cell
        # Without an event loop this is no task of an ended cell. It is a thread, perhaps a pool's, that
        # has inherited the cell's context, as threads can since Python 3.14.
        running = [other for other in list(self._running.values()) if not other.ended]
        return running[-1] if running else cell

    @property
    def in_a_cell(self) -> bool:
        """Whether a cell is running, as far as is known: at startup a kernel has no request yet."""
        return current_request(self._shell) != {}

    def _begin(self, info: Any = None) -> None:
        parent = self._parent()
        cell = self._running.get(_id(parent))
        first = self._first
        if first is not None and not first.parent and parent:  # it was the shell at startup
            first.runs, self._first = 0, None
            self._running.pop(_id(first.parent), None)
        if cell is None or cell is self._first:
            source = getattr(info, "raw_cell", None) or ""
            cell = Cell(source, parent, running=self._running)
            self._running[_id(parent)] = cell
        cell.runs += 1
        _cell.set(cell)

    def _end(self, result: Any = None) -> None:
        # Found by its request: for a cell that awaits, this runs outside the cell's own context.
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
        return current_request(self._shell) or {}


def _id(parent: dict[str, Any]) -> str:
    header = parent.get("header", parent)
    return str(header.get("msg_id", ""))
