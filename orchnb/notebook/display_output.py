"""Put a view into a cell from anywhere, and replace it.

Everything that orchnb shows by itself is sent from here, and only by the process that the front end is
connected to. In a forked child, Jupyter would write each message to its log instead.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.display import display

from orchnb.notebook._ipython import can_send, send_display
from orchnb.notebook.cell_tracking import Cell
from orchnb.notebook.display_mode import Mode
from orchnb.notebook.views import model as views

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# Front ends give such an output no height at all, also in a saved notebook.
_NOTHING = {"text/html": "", "text/plain": ""}


def bundle(view: views.View, mode: Mode) -> dict[str, str]:
    """Return the twins of a view that a mode shows, by MIME type."""
    twins = {"text/plain": views.text(view)}
    if mode in ("auto", "html"):
        twins["text/html"] = views.html(view)
    return twins


def display_here(view: views.View, mode: Mode, pid: int) -> None:
    """Show a view in the running cell, if ``pid`` is this process."""
    if os.getpid() == pid:
        display(bundle(view, mode), raw=True)


class Output:
    """One output of one cell, which can be replaced. Only one thread may use it at a time.

    Its content goes to the cell it was created for, no matter which cell is running. In a terminal, which
    cannot replace output, each new text is a new line.
    """

    def __init__(self, publisher: Any, parent: dict[str, Any], running: Mapping[str, Cell]) -> None:
        self._pid = os.getpid()
        self._publisher = publisher
        self._parent = parent
        self._running = running
        self._transient = {"display_id": uuid.uuid4().hex}
        self._shown: dict[str, Any] | None = None

    @classmethod
    def of(cls, shell: InteractiveShell, cell: Cell) -> Output:
        """Return an output of a cell; it does not keep the cell alive."""
        return cls(shell.display_pub, cell.parent, cell.running)

    def another(self) -> Output:
        """Return another output of the same cell."""
        return Output(self._publisher, self._parent, self._running)

    @property
    def is_heard(self) -> bool:
        """Whether a front end is connected to this process; false in a forked child."""
        return os.getpid() == self._pid

    @property
    def in_place(self) -> bool:
        """Whether the output can be replaced."""
        return can_send(self._publisher)

    def show(self, view: views.View, mode: Mode) -> None:
        """Show a view in place of the previous one."""
        if mode != "off":
            self.put(bundle(view, mode))

    def put(self, data: dict[str, Any]) -> None:
        """Show a MIME bundle in place of the previous one."""
        if data == self._shown or not self.is_heard:
            return
        first, self._shown = self._shown is None, data
        if first:
            sys.stdout.flush()  # so that earlier prints of the cell appear before it
        if not self.in_place:
            sys.stdout.write(f"{data['text/plain']}\n")
            return
        send_display(
            self._publisher,
            "display_data" if first else "update_display_data",
            {"data": data, "metadata": {}, "transient": self._transient},
            self._parent if first else self._heard(),
        )

    def _heard(self) -> dict[str, Any]:
        """Return the request that a replacement refers to. The output is found by the display id; but
        nbclient, and so papermill, only handles messages that refer to the running cell."""
        parents = [cell.parent for cell in list(self._running.values())]
        return self._parent if self._parent in parents or not parents else parents[-1]

    def hold_place(self) -> None:
        """Put an invisible output if nothing is shown yet: its replacement is shown even if the front
        end no longer listens to the cell."""
        if self._shown is None and self.in_place:
            self.put(_NOTHING)

    def clear(self) -> None:
        """Make the output invisible."""
        if self._shown is not None and self.in_place:
            self.put(_NOTHING)
