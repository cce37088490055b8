"""The flow runs that a cell waits for, shown in this cell: a live table, then how they ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from orchnb.notebook.cell_tracking import Cell
from orchnb.notebook.display_mode import Mode
from orchnb.notebook.display_output import Output
from orchnb.notebook.pacer import Pacer
from orchnb.notebook.views.runs import runs_card

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.runs.following import Following


class RunDisplays:
    """The displays of one notebook, one for each wait."""

    def __init__(
        self,
        shell: InteractiveShell,
        current_cell: Callable[[], Cell | None],
        mode: Callable[[], Mode],
        pacer: Pacer,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._shell = shell
        self._current_cell = current_cell
        self._mode = mode
        self._pacer = pacer
        self._now = now
        self._lock = threading.Lock()
        self._displays: dict[Following, RunDisplay | None] = {}

    def followed(self, following: Following) -> None:
        """Show what is followed in the cell that began to wait for it."""
        with self._lock:
            if following not in self._displays:
                cell = self._current_cell()
                self._displays[following] = (
                    None
                    if cell is None
                    else RunDisplay(Output.of(self._shell, cell), following, self._mode, self._now)
                )
            display = self._displays[following]
            if following.ended is not None:
                del self._displays[following]
        if display is not None:
            self._pacer.add(display)


class RunDisplay:
    """What one cell shows of the runs that it waits for."""

    def __init__(
        self,
        output: Output,
        following: Following,
        mode: Callable[[], Mode],
        now: Callable[[], datetime],
    ) -> None:
        self._output = output
        self._following = following
        self._mode = mode
        self._now = now
        self._drawing = threading.Lock()

    @property
    def goes_on(self) -> bool:
        """Whether the cell still waits."""
        return self._following.ended is None

    def draw(self) -> bool:
        """Show the runs as last seen, and return whether the cell still waits."""
        with self._drawing:
            goes_on = self.goes_on
            mode = self._mode()
            if goes_on and mode == "off":
                self._output.clear()
            elif self._output.in_place or not goes_on:
                self._output.show(runs_card(self._following, self._now()), mode)
            return goes_on
