"""Live displays of retries, of the in-kernel server's startup, and of flow runs that a cell waits for.

Events arrive on any thread and are only recorded there. One thread draws the displays, at most a few
times a second, while anything is in progress; so ten thousand retried requests cost a front end no more
than one. A display is plain HTML or text, updated in place, so that a saved notebook keeps it; only the
buttons are a widget.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from orchnb.event_loop import current_loop
from orchnb.hosting.ephemeral import StartupEvent
from orchnb.http.effects import WaitControl
from orchnb.http.retry import RetryEvent
from orchnb.notebook.buttons import Buttons, ButtonSpec, awaits, hears_buttons
from orchnb.notebook.cell_tracking import Cell
from orchnb.notebook.display_mode import Mode
from orchnb.notebook.display_output import Output
from orchnb.notebook.pacer import Pacer
from orchnb.notebook.run_pages import RunPages
from orchnb.notebook.startup_displays import StartupDisplays
from orchnb.notebook.views.model import Line
from orchnb.notebook.views.retries import MOST_WAITS_SHOWN, Retried, Retries, RetryHistory
from orchnb.notebook.watch_displays import WatchDisplays
from orchnb.runtime.loops import waker

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.notebook.log_displays import RunLog
    from orchnb.runs.following import Following

logger: logging.Logger = logging.getLogger(__name__)


class LiveDisplays:
    """The live displays of one notebook, one per cell and purpose, and its history of retries.

    ``current_cell`` returns the cell that the running code belongs to; ``mode`` returns the display mode.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        current_cell: Callable[[], Cell | None],
        mode: Callable[[], Mode],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.history: RetryHistory = RetryHistory()
        self._shell = shell
        self._current_cell = current_cell
        self._mode = mode
        self._clock = clock
        self._now = now
        self._pacer = Pacer()
        self._lock = threading.Lock()
        self._retries: weakref.WeakKeyDictionary[Cell, RetryDisplay] = weakref.WeakKeyDictionary()
        self._origins: dict[int, Cell | None] = {}
        self.watches: WatchDisplays = WatchDisplays(shell, current_cell, mode, self._pacer)
        """The displays of flow runs."""
        self.pages: RunPages = RunPages(shell, current_cell, mode)
        """Flow runs that were found."""
        self._startups = StartupDisplays(shell, current_cell, mode, clock, self._pacer)

    def close(self) -> None:
        """Bring all displays to their final state."""
        self.pages.close()
        self._pacer.close()
        with self._lock:
            displays = list(self._retries.values())
        for display in displays:
            display.close()

    def retried(self, event: RetryEvent) -> None:
        """Show an event of a request in the cell that the request belongs to."""
        entry = Retried(event, self._clock(), self._now())
        self.history.add(entry)
        # A request belongs to the cell in which it began, no matter where it ends.
        if event.request_id in self._origins:
            cell = self._origins[event.request_id]
        else:
            cell = self._origins[event.request_id] = self._current_cell()
        if not entry.waits:
            del self._origins[event.request_id]
        if cell is None:
            return
        with self._lock:
            display = self._retries.get(cell)
            if display is None:
                display = RetryDisplay(self._shell, cell, self._mode, self._clock)
                self._retries[cell] = display
        display.add(entry)
        self._pacer.add(display)

    def started(self, event: StartupEvent) -> None:
        """Show the server's startup in each cell that waits for it."""
        self._startups.told(event)

    def followed(self, following: Following) -> None:
        """Show the flow runs that code waits for in its cell."""
        self.watches.followed(following)

    def follow_log(self, log: RunLog) -> None:
        """Show the log lines of a run in the current cell as they arrive."""
        log.follow(self._shell, self._current_cell(), self._mode, self._pacer)

    def cell_ended(self, cell: Cell, interrupted: bool) -> None:
        """Update a cell's displays before the front end stops listening to the cell."""
        with self._lock:
            retries = self._retries.get(cell)
        if retries is not None:
            retries.cell_ended(interrupted)
            retries.draw()
        self._startups.cell_ended(cell)
        # A task of an earlier cell may have ended in this one, perhaps the last one to be listened to.
        self._pacer.draw_ended()


class RetryDisplay:
    """The retries of one cell: a live display while requests wait, then one line."""

    def __init__(
        self,
        shell: InteractiveShell,
        cell: Cell,
        mode: Callable[[], Mode],
        clock: Callable[[], float],
    ) -> None:
        self._shell = shell
        self._cell = weakref.ref(cell)  # a strong one would keep the cell and this alive
        self._mode = mode
        self._lock = threading.Lock()
        self._retries = Retries(clock)
        self._waits: dict[int, _Wait] = {}
        self._news: list[Retried] = []
        self._output = Output.of(shell, cell)
        self._for_buttons = self._output.another()  # one place for the buttons of all its waits
        self._buttons: Buttons | None = None

    @property
    def goes_on(self) -> bool:
        """Whether any request is still waiting."""
        with self._lock:
            return bool(self._retries.waiting)

    def add(self, entry: Retried) -> None:
        """Record an event of one of its requests."""
        event = entry.event
        with self._lock:
            wait = self._waits.pop(event.request_id, None)
            if wait is not None and wait.control.stopped:
                entry.by_person = True
            if event.control is not None:
                self._waits[event.request_id] = _Wait(event.control)
            self._retries.add(entry)
            if entry.waits and not self._output.in_place:
                self._news.append(entry)

    def cell_ended(self, interrupted: bool) -> None:
        """Record that the cell has ended; if by an interrupt, the user stopped its requests."""
        if interrupted:
            with self._lock:
                for entry in self._retries.stopped:
                    entry.by_person = True

    def draw(self) -> bool:
        """Update the display, and return whether any request is still waiting."""
        if not self._output.is_heard:
            return False
        mode = self._mode()
        with self._lock:
            goes_on = bool(self._retries.waiting)
            if goes_on and mode == "off":
                self._output.clear()  # the live display would no longer be updated
            elif self._output.in_place or not goes_on:
                self._output.show(self._retries.view(self._ways_out()), mode)
            else:
                self._tell_news(mode)
            if goes_on and mode == "auto" and self._buttons is None and self._is_heard():
                self._buttons = Buttons(
                    self._for_buttons,
                    [
                        ButtonSpec("Try now", "Retry now instead of waiting", self.try_now),
                        ButtonSpec(
                            "Stop waiting",
                            "Stop retrying; the result of the last try is final",
                            self.stop,
                        ),
                    ],
                )
            elif self._buttons is not None and not (goes_on and mode == "auto"):
                self._buttons.close()
                self._buttons = None
            return goes_on

    def close(self) -> None:
        """Bring the display to its final state."""
        with self._lock:
            left = len(self._retries.waiting)
            if left:
                many = "1 request was" if left == 1 else f"{left:,} requests were"
                words = f"{many} still waiting to be retried when orchnb was unloaded"
                self._output.show(Line(words, "warn"), self._mode())
            if self._buttons is not None:
                self._buttons.close()

    def try_now(self) -> None:
        """Retry every waiting request at once."""
        for wait in self._waiting():
            wait.on_its_loop(wait.control.try_now)

    def stop(self) -> None:
        """Stop retrying every waiting request."""
        for wait in self._waiting():
            wait.on_its_loop(wait.control.stop)

    def _waiting(self) -> list[_Wait]:
        with self._lock:
            return list(self._waits.values())

    def _tell_news(self, mode: Mode) -> None:
        """Show each wait once, when it begins, for front ends that cannot replace output."""
        steps = [entry.step(entry.at) for entry in self._news[:MOST_WAITS_SHOWN]]
        more = len(self._news) - len(steps)
        self._news.clear()
        for step in steps:
            self._output.show(Line(f"{step.label}: {step.words}"), mode)
        if more:
            self._output.show(Line(f"and {more:,} more requests"), mode)

    def _ways_out(self) -> str:
        cell = self._cell()
        if cell is None or cell.ended:
            return ""
        if any(wait.is_interrupted for wait in self._waits.values()):
            return "The notebook's stop button ends the wait at any time."
        return "The notebook's stop button ends the cell at any time; its threads keep waiting."

    def _is_heard(self) -> bool:
        """Return whether the kernel handles buttons while the requests wait."""
        cell = self._cell()
        return hears_buttons(self._shell) and (
            cell is None or cell.ended or awaits(self._shell, cell.source)
        )


class _Wait:
    """One wait, created on the thread and event loop of its request."""

    def __init__(self, control: WaitControl) -> None:
        self.control = control
        # An interrupt reaches the main thread, which passes it on to work that it runs on our threads.
        thread = threading.current_thread()
        self.is_interrupted = thread is threading.main_thread() or thread.name.startswith("orchnb-")
        self.on_its_loop: Callable[[Callable[[], object]], object] = (
            waker() if current_loop() is not None else lambda function: function()
        )
