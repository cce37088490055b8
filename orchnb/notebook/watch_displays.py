"""The flow runs that a cell waits for, shown in this cell: a live table, then how they ended."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from orchnb.notebook.buttons import ABOVE_BUTTONS, Buttons, ButtonSpec, awaits, hears_buttons
from orchnb.notebook.cell_tracking import Cell
from orchnb.notebook.display_mode import Mode
from orchnb.notebook.display_output import Output
from orchnb.notebook.pacer import Pacer
from orchnb.notebook.views.watch import watch_html, watch_status, watch_text, watch_view
from orchnb.runs.states import has_ended
from orchnb.runs.watching import Watching, retryable

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.runs.following import Following
    from orchnb.runs.watching import Snapshot

STATUS_INTERVAL = 10.0
"""Seconds between two texts for screen readers."""

_CONFIRM_WITHIN = 5.0
"""Seconds after which a press of Cancel that was not confirmed is forgotten."""


class WatchDisplays:
    """The displays of one notebook, one for each wait."""

    def __init__(
        self,
        shell: InteractiveShell,
        current_cell: Callable[[], Cell | None],
        mode: Callable[[], Mode],
        pacer: Pacer,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shell = shell
        self._current_cell = current_cell
        self._mode = mode
        self._pacer = pacer
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._displays: dict[Following, WatchDisplay | None] = {}
        self._cells: weakref.WeakKeyDictionary[Following, weakref.ref[Cell]] = (
            weakref.WeakKeyDictionary()
        )

    def followed(self, following: Following) -> None:
        """Show what is followed in the cell that began to wait for it."""
        with self._lock:
            if following not in self._displays:
                cell = self._current_cell()
                self._displays[following] = None if cell is None else self._new(cell, following)
            display = self._displays[following]
            if following.ended is not None:
                del self._displays[following]
        if display is not None:
            self._pacer.add(display)

    def _new(self, cell: Cell, following: Following) -> WatchDisplay:
        watching = following.companion
        if not isinstance(watching, Watching):
            watching = Watching(following)
        self._cells[following] = weakref.ref(cell)
        return WatchDisplay(self._shell, cell, watching, self._mode, self._now, self._clock)

    def is_shown_here(self, following: Following) -> bool:
        """Return whether the running cell shows what was followed."""
        cell = self._cells.get(following, lambda: None)()
        return cell is not None and cell is self._current_cell() and self._mode() != "off"


class WatchDisplay:
    """What one cell shows of the runs that it waits for."""

    def __init__(
        self,
        shell: InteractiveShell,
        cell: Cell,
        watching: Watching,
        mode: Callable[[], Mode],
        now: Callable[[], datetime],
        clock: Callable[[], float],
    ) -> None:
        self._output = Output.of(shell, cell)
        self._place_of_buttons = self._output.another()
        self._watching = watching
        self._mode = mode
        self._now = now
        self._clock = clock
        self._drawing = threading.Lock()
        self._hears = hears_buttons(shell) and awaits(shell, cell.source)
        self._buttons: Buttons | None = None
        self._shown_buttons: dict[str, str] = {}
        self._pressed_cancel = float("-inf")
        self._moment: datetime | None = None
        self._was_over = False
        self._status = ""
        self._status_changed = float("-inf")

    @property
    def goes_on(self) -> bool:
        """Whether the cell still waits."""
        return self._watching.following.ended is None

    def draw(self) -> bool:
        """Show the runs as last seen, and return whether the cell still waits."""
        with self._drawing:
            if not self._output.is_heard:
                return False
            snapshot = self._watching.snapshot()
            goes_on = not snapshot.is_over
            mode = self._mode()
            if mode == "off":
                if goes_on:
                    self._output.clear()  # it would no longer be updated
            elif self._output.in_place or not goes_on:
                self._output.put(self._bundle(snapshot, mode))
            else:  # a new line every ten seconds, if there is news
                self._output.put({"text/plain": self._status_now(snapshot)})
            self._draw_buttons(snapshot, is_possible=goes_on and mode == "auto")
            return goes_on

    def _bundle(self, snapshot: Snapshot, mode: Mode) -> dict[str, Any]:
        if self._moment is None or not snapshot.is_over or not self._was_over:
            self._moment, self._was_over = self._now(), snapshot.is_over
        view = watch_view(snapshot, self._moment, self._status_now(snapshot))
        data = {"text/plain": watch_text(view)}
        if mode in ("auto", "html"):
            data["text/html"] = watch_html(view)
            if self._buttons is not None and not snapshot.is_over:
                data["text/html"] += ABOVE_BUTTONS
        return data

    def _status_now(self, snapshot: Snapshot) -> str:
        """Return what a screen reader says; it changes every ten seconds at most, and at the end."""
        now = self._clock()
        if snapshot.is_over or now - self._status_changed >= STATUS_INTERVAL:
            self._status, self._status_changed = watch_status(snapshot), now
        return self._status

    # The buttons.

    def _draw_buttons(self, snapshot: Snapshot, *, is_possible: bool) -> None:
        wanted = self._wanted_buttons(snapshot) if is_possible and self._hears else {}
        if wanted == self._shown_buttons:
            return
        if wanted and self._buttons is None:
            self._buttons = Buttons(
                self._place_of_buttons,
                [
                    ButtonSpec("Cancel", "Cancel the runs that have not ended", self._cancel),
                    ButtonSpec("Retry failed", "Run the failed ones again", self._retry),
                ],
            )
        if self._buttons is not None and wanted:
            self._buttons.show_only(wanted)
        elif self._buttons is not None:
            self._buttons.close()
            self._buttons = None
        self._shown_buttons = wanted

    def _wanted_buttons(self, snapshot: Snapshot) -> dict[str, str]:
        active = sum(not has_ended(run) for run in snapshot.runs)
        wanted = {}
        if active and not snapshot.asked.get("cancel") and not self._are_all_cancelling(snapshot):
            many = (
                "the run" if snapshot.total == 1 else f"{active:,} run{'' if active == 1 else 's'}"
            )
            is_pressed = self._clock() - self._pressed_cancel < _CONFIRM_WITHIN
            wanted["Cancel"] = f"Really cancel {many}?" if is_pressed else "Cancel"
        if retryable(snapshot.runs) and not snapshot.asked.get("retry"):
            wanted["Retry failed"] = "Retry failed"
        return wanted

    def _are_all_cancelling(self, snapshot: Snapshot) -> bool:
        return all(has_ended(run) or run.state_type == "CANCELLING" for run in snapshot.runs)

    def _cancel(self) -> None:
        """Cancel at the second press: a slip would end a thousand runs."""
        now = self._clock()
        if now - self._pressed_cancel < _CONFIRM_WITHIN:
            self._pressed_cancel = float("-inf")
            self._watching.ask("cancel")
        else:
            self._pressed_cancel = now

    def _retry(self) -> None:
        self._watching.ask("retry")
