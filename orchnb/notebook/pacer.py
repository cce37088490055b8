"""The thread that draws live displays, at most a few times a second, while anything is in progress."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from orchnb.runtime.futures import ThreadFuture
from orchnb.runtime.interrupts import deferred_interrupts

logger: logging.Logger = logging.getLogger(__name__)

_DRAW_INTERVAL = 1 / 3
"""Seconds between two drawings. With the additional one at the end of a cell, there are at most four per
second."""


class Display(Protocol):
    """What the pacer draws."""

    @property
    def goes_on(self) -> bool:
        """Whether it is still in progress."""

    def draw(self) -> bool:
        """Show the current state, and return whether it is still in progress."""


class Pacer:
    """Draws displays on a thread that exists only while something is in progress."""

    def __init__(self, interval: float = _DRAW_INTERVAL) -> None:
        self._interval = interval
        self._lock = threading.Lock()
        self._displays: dict[Display, None] = {}
        self._thread: threading.Thread | None = None
        self._closed: ThreadFuture[None] = ThreadFuture()

    def add(self, display: Display) -> None:
        """Draw a display soon, and repeatedly until it is no longer in progress."""
        with deferred_interrupts(), self._lock:
            self._displays[display] = None
            if self._thread is None and not self._closed.done():
                self._thread = threading.Thread(
                    target=self._run, name="orchnb-display", daemon=True
                )
                self._thread.start()

    def draw_ended(self) -> None:
        """Draw the displays that have ended, immediately."""
        with self._lock:
            displays = list(self._displays)
        for display in displays:
            if not display.goes_on:
                _draw(display)

    def close(self) -> None:
        """End the thread, and draw everything one last time."""
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
                # Displays that were added in the meantime come after them.
                self._displays = {**dict.fromkeys(going_on), **self._displays}
            self._closed.wait(self._interval)


def _draw(display: Display) -> bool:
    """Draw a display, and return whether it is in progress. One that cannot be drawn is dropped; the
    others go on."""
    try:
        return display.draw()
    except (
        Exception
    ):  # functions of the shell, and those of the user that it calls, can raise anything
        logger.exception("A live display could not be drawn")
        return False
