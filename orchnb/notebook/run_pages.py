"""Flow runs that were found, shown page by page with buttons.

The buttons are there until the next cell runs: they are a widget, and a saved notebook should not keep
one that nothing handles.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from orchnb.notebook._ipython import is_kernel
from orchnb.notebook.buttons import ABOVE_BUTTONS, Buttons, ButtonSpec
from orchnb.notebook.cell_tracking import Cell
from orchnb.notebook.display_mode import Mode
from orchnb.notebook.display_output import Output, bundle
from orchnb.notebook.views.browse import found_table
from orchnb.notebook.views.objects import MOST_ROWS

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.runs.browsing import FoundRuns


class RunPages:
    """The runs found that the last cell shows in pages."""

    def __init__(
        self,
        shell: InteractiveShell,
        current_cell: Callable[[], Cell | None],
        mode: Callable[[], Mode],
    ) -> None:
        self._shell = shell
        self._current_cell = current_cell
        self._mode = mode
        self._lock = threading.Lock()
        self._buttons: list[Buttons] = []

    def show(self, found: FoundRuns) -> bool:
        """Show the first page of the runs with buttons; return False if there is no need or no way."""
        cell = self._current_cell()
        if (
            len(found) <= MOST_ROWS
            or cell is None
            or self._mode() != "auto"
            or not is_kernel(self._shell)
        ):
            return False
        output = Output.of(self._shell, cell)
        if not output.in_place:
            return False
        first = 0

        def show() -> None:
            mode = self._mode()
            if mode != "off":
                data = bundle(found_table(found, first), mode)
                if "text/html" in data:
                    data["text/html"] += ABOVE_BUTTONS
                output.put(data)

        def turn(pages: int) -> None:
            nonlocal first
            with self._lock:
                last_page = (len(found) - 1) // MOST_ROWS * MOST_ROWS
                first = min(max(first + pages * MOST_ROWS, 0), last_page)
                show()
                wanted = [
                    *(["Previous page"] if first else []),
                    *(["Next page"] if first < last_page else []),
                ]
                buttons.show_only(dict(zip(wanted, wanted, strict=True)))

        show()
        buttons = Buttons(
            output.another(),
            [
                ButtonSpec("Previous page", "Show newer runs", lambda: turn(-1)),
                ButtonSpec("Next page", "Show older runs", lambda: turn(1)),
            ],
        )
        turn(0)
        self._buttons.append(buttons)
        return True

    def close(self) -> None:
        """Remove the buttons. This is called before each cell."""
        with self._lock:
            buttons, self._buttons = self._buttons, []
        for each in buttons:
            each.close()
