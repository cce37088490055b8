"""Putting a view into a cell, from anywhere, and another one in its place.

Everything that orchnb shows by itself is sent here, and only by the process that the front end is
connected to. In a forked child, Jupyter would write each message to its log instead.
"""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.display import display

from orchnb.notebook import views
from orchnb.notebook.cells import Cell
from orchnb.notebook.modes import Mode

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# Front ends give an output of this kind no height at all, also in a saved notebook.
_NOTHING = {"text/html": "", "text/plain": ""}


def bundle(view: views.View, mode: Mode) -> dict[str, str]:
    """The twins of a view that a mode shows, by mime type."""
    twins = {"text/plain": views.text(view)}
    if mode in ("auto", "html"):
        twins["text/html"] = views.html(view)
    return twins


def display_here(view: views.View, mode: Mode, pid: int) -> None:
    """Show a view in the cell that runs, in the process of that id."""
    if os.getpid() == pid:
        display(bundle(view, mode), raw=True)


class Output:
    """One output of one cell, which can be replaced. To be used by one thread at a time.

    What is put there goes to the cell it was made for, whichever cell runs meanwhile. In a terminal,
    which cannot replace what it shows, each new text is a new line.
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
        """An output of a cell, which is not kept alive by it."""
        return cls(shell.display_pub, cell.parent, cell.running)

    def beside(self) -> Output:
        """Another output of the same cell."""
        return Output(self._publisher, self._parent, self._running)

    @property
    def is_heard(self) -> bool:
        """Whether a front end is connected to this process; none is to a forked child."""
        return os.getpid() == self._pid

    @property
    def in_place(self) -> bool:
        """Whether what is shown can be replaced."""
        return hasattr(self._publisher, "session")

    def show(self, view: views.View, mode: Mode) -> None:
        """Show a view, in place of the one before."""
        if mode != "off":
            self.put(bundle(view, mode))

    def put(self, data: dict[str, Any]) -> None:
        """Show a mime bundle, in place of the one before."""
        if data == self._shown or not self.is_heard:
            return
        first, self._shown = self._shown is None, data
        if first:
            sys.stdout.flush()  # what the cell has printed before is to stand before it
        if not self.in_place:
            sys.stdout.write(f"{data['text/plain']}\n")
            return
        # Past the publisher's own method, which takes whichever cell runs for the one that is meant.
        self._publisher.session.send(
            self._publisher.pub_socket,
            "display_data" if first else "update_display_data",
            {"data": data, "metadata": {}, "transient": self._transient},
            parent=self._parent if first else self._heard(),
            ident=self._publisher.topic,
        )

    def _heard(self) -> dict[str, Any]:
        """The request that a replacement is to refer to. It finds its output by the display's id; but
        nbclient, and so papermill, hears only what refers to the cell that runs."""
        parents = [cell.parent for cell in list(self._running.values())]
        return self._parent if self._parent in parents or not parents else parents[-1]

    def hold_place(self) -> None:
        """Where nothing is shown yet, put an output that is not seen: its replacement will be, also
        where a front end does not listen to its cell any more."""
        if self._shown is None and self.in_place:
            self.put(_NOTHING)

    def clear(self) -> None:
        """Leave nothing to be seen."""
        if self._shown is not None and self.in_place:
            self.put(_NOTHING)
