"""The start of the in-kernel server, shown in each cell that waits for it.

A cell that only opens a client shows nothing. Where several cells wait, because a task of an earlier
cell waits or because the first wait was stopped, each of them shows the whole start: people look at the
cell that keeps them waiting.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchnb.hosting.ephemeral import StartupEvent
from orchnb.notebook.cell_tracking import Cell
from orchnb.notebook.display_mode import Mode
from orchnb.notebook.display_output import Output
from orchnb.notebook.pacer import Pacer
from orchnb.notebook.views.model import View
from orchnb.notebook.views.startup import Startup

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class StartupDisplays:
    """The displays of one notebook, one for each cell that waits or has waited for a start."""

    def __init__(
        self,
        shell: InteractiveShell,
        current_cell: Callable[[], Cell | None],
        mode: Callable[[], Mode],
        clock: Callable[[], float],
        pacer: Pacer,
    ) -> None:
        self._shell = shell
        self._current_cell = current_cell
        self._mode = mode
        self._clock = clock
        self._pacer = pacer
        self._lock = threading.Lock()
        self._startup = Startup(clock)
        self._watching: list[StartupDisplay] = []
        self._of_cells: weakref.WeakKeyDictionary[Cell, StartupDisplay] = (
            weakref.WeakKeyDictionary()
        )

    def told(self, event: StartupEvent) -> None:
        """Record an event, on any thread. The code that waits sends the event of a wait."""
        cell = self._current_cell() if event.kind == "awaited" else None
        with self._lock:
            begins = event.kind == "awaited" or (event.phase, event.kind) == ("import", "began")
            if begins and not self._startup.goes_on:
                self._startup, self._watching = Startup(self._clock), []
            self._startup.add(event)
            if cell is not None:
                self._watch(cell)
            for display in self._watching:
                self._pacer.add(display)

    def _watch(self, cell: Cell) -> None:
        display = self._of_cells.get(cell)
        if display is None:
            display = StartupDisplay(Output.of(self._shell, cell), self._mode, self._clock)
            self._of_cells[cell] = display
        if display not in self._watching:
            display.watch(self._startup, self._lock)
            self._watching.append(display)

    def cell_ended(self, cell: Cell) -> None:
        """Update the display of a cell, which needs a place for what follows."""
        with self._lock:
            display = self._of_cells.get(cell)
        if display is not None:
            display.draw()
            display.cell_ended()


class StartupDisplay:
    """The display of one cell: the last start that it waited for."""

    def __init__(
        self, output: Output, mode: Callable[[], Mode], clock: Callable[[], float]
    ) -> None:
        self._output = output
        self._mode = mode
        self._clock = clock
        self._drawing = threading.Lock()

    def watch(self, startup: Startup, lock: threading.Lock) -> None:
        """Show this start from now on. ``lock`` guards it; the caller holds it."""
        self._startup = startup
        self._lock = lock
        self._since = self._clock()

    @property
    def goes_on(self) -> bool:
        """Whether the start has neither succeeded nor failed."""
        with self._lock:
            return self._startup.goes_on

    def cell_ended(self) -> None:
        """Record that the cell has ended."""
        goes_on = self.goes_on
        with self._drawing:
            if goes_on and self._mode() != "off":
                self._output.hold_place()

    def draw(self) -> bool:
        """Show the current state, and return whether the start is still in progress."""
        with self._drawing:
            with self._lock:
                goes_on = self._startup.goes_on
                view: View | None = self._startup.wait
                if not goes_on or self._output.in_place:
                    view = self._startup.view()
                if not self._startup.is_seen(self._since):
                    view = None
            if goes_on and self._mode() == "off":
                self._output.clear()
            elif view is not None:
                self._output.show(view, self._mode())
            return goes_on
