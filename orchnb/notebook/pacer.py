"""The thread that draws live displays, a few times a second at most, while anything goes on."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from orchnb.runtime.futures import ThreadFuture
from orchnb.runtime.interrupts import deferred_interrupts

logger: logging.Logger = logging.getLogger(__name__)

_DRAW_INTERVAL = 1 / 3
"""Seconds between two drawings: with the last one, which the end of a cell brings forward, there are
four in a second at the most."""


class Display(Protocol):
    """What the pacer draws."""

    @property
    def goes_on(self) -> bool:
        """Whether anything is still to happen."""

    def draw(self) -> bool:
        """Show how things are; whether they go on."""


class Pacer:
    """The thread that draws, there only while something goes on."""

    def __init__(self, interval: float = _DRAW_INTERVAL) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        self._displays: dict[Display, None] = {}
        self._thread: threading.Thread | None = None
        self._closed: ThreadFuture[None] = ThreadFuture()

    def add(self, display: Display) -> None:
        """Draw a display soon, and again and again until it goes on no more."""
        with deferred_interrupts(), self._lock:
            self._displays[display] = None
            if self._thread is None and not self._closed.done():
                self._thread = threading.Thread(
                    target=self._run, name="orchnb-display", daemon=True
                )
                self._thread.start()

    def draw_ended(self) -> None:
        """Draw at once what has come to its end."""
        with self._lock:
            displays = list(self._displays)
        for display in displays:
            if not display.goes_on:
                _draw(display)

    def close(self) -> None:
        """End the thread, and draw everything for the last time."""
        self._closed.set_result()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
        for display in self._displays:
            _draw(display)
        self._displays.clear()

    def _run(self) -> None:
        while not self._closed.done():
            with self._lock:
                if not self._displays:
                    self._thread = None
                    return
                displays, self._displays = self._displays, {}
            going_on = [display for display in displays if _draw(display)]
            with self._lock:
                # Those that were added meanwhile come after them.
                self._displays = {**dict.fromkeys(going_on), **self._displays}
            self._closed.wait(self._interval)


def _draw(display: Display) -> bool:
    """Draw it; whether it goes on. One that cannot be drawn is dropped, as the others are to go on."""
    try:
        return display.draw()
    except Exception:  # the shell's own functions, and a person's that it calls, may raise anything
        logger.exception("A live display could not be drawn")
        return False
