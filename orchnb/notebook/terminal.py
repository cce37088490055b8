"""Ctrl-C in terminal IPython, during a cell that awaits."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from orchnb.notebook._ipython import cell_loop, default_loop_runner, is_kernel

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
        if self._previous is default_loop_runner(shell) and not is_kernel(shell):
            shell.loop_runner = _run_cell

    def remove(self) -> None:
        """Restore the option's previous value."""
        if self._shell.loop_runner is _run_cell:
            self._shell.loop_runner = self._previous


class _CellRunner:
    """Runs a cell's coroutine. ``%autoawait`` shows its name."""

    def __call__(self, cell: Coroutine[Any, Any, Any]) -> Any:
        from orchnb.runtime.run import run  # late, so that the extension loads quickly

        return run(cell_loop().create_task(cell))

    def __str__(self) -> str:
        return "asyncio"


_run_cell = _CellRunner()
