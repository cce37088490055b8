"""Call functions before and after each cell without losing a press of the stop button.

IPython prints any exception raised in such a function, including an interrupt, and runs the cell anyway.
So an interrupt that arrives in the function is held until the function returns, and then the cell is
refused.
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
    """Calls functions before and after each cell of a shell, until `remove`.

    ``before`` gets IPython's ``ExecutionInfo``, ``after`` its ``ExecutionResult``. Set ``waits`` if the
    functions may wait: then an interrupt ends them; otherwise it is held until they return.
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
        # Stored, because the registry compares functions by identity.
        self._events = {"pre_run_cell": self._begin, "post_run_cell": self._end}
        for event, hook in self._events.items():
            shell.events.register(event, hook)

    def remove(self) -> None:
        """Unregister from the shell's events."""
        for event, hook in self._events.items():
            self._shell.events.unregister(event, hook)
        self._refusal.withdraw()

    def _begin(self, info: Any = None) -> None:
        if self._is_stopped(self._before, info):
            self._refusal.announce()

    def _end(self, result: Any = None) -> None:
        self._refusal.withdraw()  # a cell that is not valid Python was refused already
        if self._after is not None:
            self._is_stopped(self._after, result)  # if so, nothing is left to stop

    def _is_stopped(self, hook: Callable[[Any], None], about: Any) -> bool:
        """Call the hook, and return whether an interrupt arrived during the call."""
        try:
            if self._waits:
                hook(about)
                return False
            with held_interrupts() as held:
                hook(about)
            return bool(held)
        except KeyboardInterrupt:  # just before or after interrupts are held
            return True


class _Stopped(KeyboardInterrupt, InputRejected):
    """The stop button, pressed just before the cell ran; for IPython, a refused cell."""


_Stopped.__name__ = KeyboardInterrupt.__name__  # the name that every stopped cell shows


class _Refusal(ast.NodeTransformer):
    """Makes IPython refuse the cell that was stopped."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

    def announce(self) -> None:
        self._shell.ast_transformers.append(self)

    def withdraw(self) -> None:
        with suppress(ValueError):
            self._shell.ast_transformers.remove(self)

    def visit(self, node: ast.AST) -> ast.AST:
        """Refuse the cell."""
        del node
        self.withdraw()
        raise _Stopped("Stopped just before it started: the cell did not run")
