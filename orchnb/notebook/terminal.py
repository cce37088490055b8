"""Ctrl-C in terminal IPython, during a cell that awaits."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from IPython.core.async_helpers import get_asyncio_loop

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class AwaitingCells:
    """Makes Ctrl-C cancel async cells in a shell that does not run an event loop by itself.

    IPython only stops waiting: the task continues in a later cell (ipython#14248). The shell's
    ``loop_runner`` is an IPython option; a value that the user has chosen is kept.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._previous: Any = shell.loop_runner
        usual, _ = shell.loop_runner_map["asyncio"]
        if self._previous is usual and not hasattr(shell, "kernel"):
            shell.loop_runner = _run_cell

    def remove(self) -> None:
        """Restore the option's previous value."""
        if self._shell.loop_runner is _run_cell:
            self._shell.loop_runner = self._previous


class _CellRunner:
    """Runs a cell's coroutine. ``%autoawait`` shows its name."""

    def __call__(self, cell: Coroutine[Any, Any, Any]) -> Any:
        from orchnb.runtime.run import run  # late, so that the extension loads quickly

        return run(get_asyncio_loop().create_task(cell))

    def __str__(self) -> str:
        return "asyncio"


_run_cell = _CellRunner()
