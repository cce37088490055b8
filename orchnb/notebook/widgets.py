"""Live displays: retries, and the start-up of the server in this kernel.

Events come in on any thread, and are only taken note of there. What they amount to is drawn by one
thread, a few times a second at most, as long as anything goes on; so ten thousand requests that are
tried again cost a front end no more than one. A display is plain html or text, updated in place, so
that a saved notebook tells its story; a widget is only what a widget is needed for, the buttons.
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
from orchnb.http.flow import WaitControl
from orchnb.http.retry import RetryEvent
from orchnb.notebook.cells import Cell
from orchnb.notebook.modes import Mode
from orchnb.notebook.outputs import Output
from orchnb.notebook.pacer import Pacer
from orchnb.notebook.retry_views import MOST_ROWS, Retried, Retries, RetryHistory
from orchnb.notebook.startup_displays import StartupDisplays
from orchnb.notebook.views import Line
from orchnb.runtime.ephemeral import StartupEvent
from orchnb.runtime.loops import waker

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

logger = logging.getLogger(__name__)


class LiveDisplays:
    """The live displays of one notebook, one a cell and purpose, and its history of retries.

    ``current_cell`` tells which cell the running code belongs to, ``mode`` what is to be shown.
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
        self.history = RetryHistory()
        self._shell = shell
        self._current_cell = current_cell
        self._mode = mode
        self._clock = clock
        self._now = now
        self._pacer = Pacer()
        self._lock = threading.Lock()
        self._retries: weakref.WeakKeyDictionary[Cell, RetryDisplay] = weakref.WeakKeyDictionary()
        self._origins: dict[int, Cell | None] = {}
        self._startups = StartupDisplays(shell, current_cell, mode, clock, self._pacer)

    def close(self) -> None:
        """Leave everything as it is to stay."""
        self._pacer.close()
        with self._lock:
            displays = list(self._retries.values())
        for display in displays:
            display.close()

    def retried(self, event: RetryEvent) -> None:
        """Show what happens to a request, in the cell that it belongs to."""
        entry = Retried(event, self._clock(), self._now())
        self.history.add(entry)
        # Where a request began is where it belongs, whoever ends it.
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
        """Show how the server comes up, in each cell that waits for it."""
        self._startups.told(event)

    def cell_ended(self, cell: Cell, interrupted: bool) -> None:
        """Bring what a cell shows up to date, before the front end stops listening to it."""
        with self._lock:
            retries = self._retries.get(cell)
        if retries is not None:
            retries.cell_ended(interrupted)
            retries.draw()
        self._startups.cell_ended(cell)
        # A task of an earlier cell may have ended in this one, perhaps the last to be listened to.
        self._pacer.draw_ended()


class RetryDisplay:
    """The retries of one cell: live while requests wait, one line when none does."""

    def __init__(
        self,
        shell: InteractiveShell,
        cell: Cell,
        mode: Callable[[], Mode],
        clock: Callable[[], float],
    ) -> None:
        self._shell = shell
        self._cell = weakref.ref(cell)  # not itself, with whose life this display's ends
        self._mode = mode
        self._lock = threading.Lock()
        self._retries = Retries(clock)
        self._waits: dict[int, _Wait] = {}
        self._news: list[Retried] = []
        self._output = Output.of(shell, cell)
        self._beside = self._output.beside()  # one place for the buttons of all its waits
        self._buttons: Buttons | None = None

    @property
    def goes_on(self) -> bool:
        """Whether any request still waits."""
        with self._lock:
            return bool(self._retries.waiting)

    def add(self, entry: Retried) -> None:
        """Take note of something that happened to one of its requests."""
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
        """Its cell has ended; if by an interrupt, that is what stopped its requests."""
        if interrupted:
            with self._lock:
                for entry in self._retries.stopped:
                    entry.by_person = True

    def draw(self) -> bool:
        """Show how things are; whether any request still waits."""
        if not self._output.is_heard:
            return False
        mode = self._mode()
        with self._lock:
            goes_on = bool(self._retries.waiting)
            if goes_on and mode == "off":
                self._output.clear()  # what was live would stand still from now on
            elif self._output.in_place or not goes_on:
                self._output.show(self._retries.view(self._ways_out()), mode)
            else:
                self._tell_news(mode)
            if goes_on and mode == "auto" and self._buttons is None and self._is_heard():
                self._buttons = Buttons(self._beside, self.try_now, self.stop)
            elif self._buttons is not None and not (goes_on and mode == "auto"):
                self._buttons.close()
                self._buttons = None
            return goes_on

    def close(self) -> None:
        """Leave it as it is to stay."""
        with self._lock:
            left = len(self._retries.waiting)
            if left:
                many = "1 request was" if left == 1 else f"{left:,} requests were"
                words = f"{many} still to be tried again when orchnb was unloaded"
                self._output.show(Line(words, "warn"), self._mode())
            if self._buttons is not None:
                self._buttons.close()

    def try_now(self) -> None:
        """Have every request that waits tried at once."""
        for wait in self._waiting():
            wait.on_its_loop(wait.control.try_now)

    def stop(self) -> None:
        """Have no request that waits tried again."""
        for wait in self._waiting():
            wait.on_its_loop(wait.control.stop)

    def _waiting(self) -> list[_Wait]:
        with self._lock:
            return list(self._waits.values())

    def _tell_news(self, mode: Mode) -> None:
        """Where nothing can be replaced, each wait is told once, as it begins."""
        steps = [entry.step(entry.at) for entry in self._news[:MOST_ROWS]]
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
        return "The notebook's stop button ends the cell at any time; what its threads wait for goes on."

    def _is_heard(self) -> bool:
        """Whether the kernel listens to buttons while the requests wait."""
        cell = self._cell()
        return hears_buttons(self._shell) and (
            cell is None or cell.ended or awaits(self._shell, cell.source)
        )


class _Wait:
    """One wait, made on the thread and loop of its request."""

    def __init__(self, control: WaitControl) -> None:
        self.control = control
        # An interrupt comes to the main thread, and is passed on to what runs for it on one of ours.
        thread = threading.current_thread()
        self.is_interrupted = thread is threading.main_thread() or thread.name.startswith("orchnb-")
        self.on_its_loop: Callable[[Callable[[], object]], object] = (
            waker() if current_loop() is not None else lambda function: function()
        )


class Buttons:
    """What a person can do about waits, as a widget in an output of its own."""

    def __init__(
        self, output: Output, try_now: Callable[[], None], stop: Callable[[], None]
    ) -> None:
        import ipywidgets  # takes a while, and is of use here only

        self._output = output
        made = [
            ipywidgets.Button(description=words, tooltip=tip)
            for words, tip in (
                ("Try now", "Do not wait for the next try"),
                ("Stop waiting", "Do not try again; what the last try came to is the result"),
            )
        ]
        for button, act in zip(made, (try_now, stop), strict=True):
            button.on_click(lambda _, act=act: act())
        box = ipywidgets.HBox(made)
        self._widgets = [box, *made]
        view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
        # Where there are no widgets, or none any more, there is nothing to be seen.
        twins = {"text/html": "", "text/plain": ""}
        output.put({"application/vnd.jupyter.widget-view+json": view, **twins})

    def close(self) -> None:
        """Take them away; no comm is left."""
        if not self._output.is_heard:
            return
        self._output.clear()
        for widget in self._widgets:
            for part in ("style", "layout"):
                if widget.has_trait(part):
                    getattr(widget, part).close()
            widget.close()


def hears_buttons(shell: InteractiveShell) -> bool:
    """Whether the kernel listens to widgets while a cell awaits, as ipykernel does from 7 on."""
    information = getattr(getattr(shell, "kernel", None), "kernel_info", {})
    return "kernel subshells" in information.get("supported_features", ())


def awaits(shell: InteractiveShell, source: str) -> bool:
    """Whether a cell is one that awaits, and so leaves the kernel's loop to others."""
    try:
        transformed = shell.transform_cell(source)
    except SyntaxError:
        return False
    return bool(shell.should_run_async(source, transformed_cell=transformed))
