"""The stop button, for a cell that awaits.

ipykernel cancels such a cell from its signal handler, but schedules that in a way that does not wake a
sleeping event loop (tornado's ``add_callback`` within the loop's own thread), so a cell that waits for a
single response would not notice. Therefore the loop is woken regularly while a cell runs. Seen with
ipykernel 7.4 and tornado 6.6.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from orchnb.notebook.cell_hooks import CellHooks

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_BEAT_INTERVAL = 0.25
"""Seconds between two wake-ups, and so the longest that an interrupt goes unnoticed."""


class Pulse:
    """Wakes the notebook's loop while a cell runs."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._beat: asyncio.TimerHandle | None = None
        self._depth = 0  # a cell may run code as if it were a cell
        self._hooks = CellHooks(shell, before=self._begin, after=self._end)
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            self._begin()  # the cell that loads the extension may await later

    def remove(self) -> None:
        """Stop, and unregister from the shell's events."""
        self._stop()
        self._hooks.remove()

    def _begin(self, info: Any = None) -> None:
        del info
        if threading.current_thread() is not threading.main_thread():
            return  # a cell of a subshell, which interrupts do not reach
        self._depth += 1
        self._stop()
        with suppress(RuntimeError):  # terminal IPython runs no loop here and needs no pulse
            self._again(asyncio.get_running_loop())

    def _again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._beat = loop.call_later(_BEAT_INTERVAL, self._again, loop)

    def _end(self, result: Any = None) -> None:
        del result
        if threading.current_thread() is threading.main_thread():
            self._depth = max(0, self._depth - 1)
            if self._depth == 0:
                self._stop()

    def _stop(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
