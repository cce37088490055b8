"""What is to be done before and after each cell, so that a press of the stop button is never lost.

IPython prints what is raised in such a function, an interrupt as well, and runs the cell all the same.
So an interrupt that comes meanwhile is held until the function is done, and then the cell is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from IPython.core.error import InputRejected

from orchnb.runtime.interrupts import held_interrupts

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class CellHooks:
    """Functions that are called before and after each cell of a shell, until `remove`.

    ``before`` gets IPython's ``ExecutionInfo``, ``after`` its ``ExecutionResult``. One that may wait
    says ``waits``: an interrupt ends it, where else it is held until the function is done.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        *,
        before: Callable[[Any], None],
        after: Callable[[Any], None] | None = None,
        waits: bool = False,
    ) -> None:
        self._shell = shell
        self._before = before
        self._after = after
        self._waits = waits
        self._refusal = _Refusal(shell)
        # Kept, as the registry compares functions by identity.
        self._events = {"pre_run_cell": self._begin, "post_run_cell": self._end}
        for event, hook in self._events.items():
            shell.events.register(event, hook)

    def remove(self) -> None:
        """Leave the shell's events."""
        for event, hook in self._events.items():
            self._shell.events.unregister(event, hook)
        self._refusal.withdraw()

    def _begin(self, info: Any = None) -> None:
        if self._is_stopped(self._before, info):
            self._refusal.announce()

    def _end(self, result: Any = None) -> None:
        self._refusal.withdraw()  # a cell that is no Python was refused already
        if self._after is not None:
            self._is_stopped(self._after, result)  # then there is nothing more to be stopped

    def _is_stopped(self, hook: Callable[[Any], None], about: Any) -> bool:
        """Call it; whether an interrupt came meanwhile."""
        try:
            if self._waits:
                hook(about)
                return False
            with held_interrupts() as held:
                hook(about)
            return bool(held)
        except KeyboardInterrupt:  # just before or after it is held
            return True


class _Stopped(KeyboardInterrupt, InputRejected):
    """The stop button, pressed when the cell was just about to run; to IPython, a cell refused."""


_Stopped.__name__ = KeyboardInterrupt.__name__  # as any cell shows that is stopped


class _Refusal(ast.NodeTransformer):
    """Has IPython refuse the cell that was stopped."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    def announce(self) -> None:
        self._shell.ast_transformers.append(self)

    def withdraw(self) -> None:
        with suppress(ValueError):
            self._shell.ast_transformers.remove(self)

    def visit(self, node: ast.AST) -> ast.AST:
        """Called with the cell."""
        del node
        self.withdraw()
        raise _Stopped("Stopped just before it began: the cell did not run")
