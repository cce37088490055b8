"""Calls that a cell forgot to await: the cell says what to write, and Python does not warn later."""

from __future__ import annotations

import asyncio
import atexit
import sys
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from orchnb.notebook.await_advice import (
    AwaitAdvice,
    advice_on_discarded,
    advice_on_name,
    advice_on_result,
    is_unawaited,
)
from orchnb.notebook.cell_hooks import CellHooks

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.notebook.display_mode import Mode
    from orchnb.notebook.views.model import Card

_MOST_KEPT = 1000
_ITERATOR = ("orchnb.api.pagination", "AsyncRows")


class UnawaitedCalls:
    """Looks for calls of orchnb that were not awaited: in the results of cells, in the names that a cell
    assigns, and in its statements.

    A call that was found is kept, so that it can still be awaited. In the end it is closed, so that
    Python does not report it.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        mode: Callable[[], Mode],
        show: Callable[[Card], None],
        loop: Callable[[], asyncio.AbstractEventLoop],
    ) -> None:
        self._shell = shell
        self._mode = mode
        self._show = show
        self._loop = loop
        self._kept: list[Any] = []
        self._sources: list[str] = []  # of the cells that are running: they can be nested
        self._shown: list[AwaitAdvice] = []
        self._hooks = CellHooks(shell, before=self._begin, after=self._end)
        self._earlier: list[tuple[Any, Any]] = []
        for mime, make in (("text/plain", self._as_text), ("text/html", self._as_html)):
            self._format(mime, make)
            # By name, so that nothing is imported yet.
            self._formatter(mime).for_type_by_name(*_ITERATOR, make(None))
        # Otherwise Python reports them when a terminal's IPython exits.
        atexit.register(self._close_kept)

    def remove(self) -> None:
        """Remove everything from the shell, and close the calls that were never awaited."""
        self._hooks.remove()
        for formatter, earlier in self._earlier:
            formatter.pop(CoroutineType, None)
            if earlier is not None:
                formatter.for_type(CoroutineType, earlier)
        for mime in ("text/plain", "text/html"):
            self._formatter(mime).pop(".".join(_ITERATOR), None)
        self._close_kept()
        atexit.unregister(self._close_kept)

    # Results.

    def _formatter(self, mime: str) -> Any:
        formatter = self._shell.display_formatter
        assert formatter is not None, "a shell always has one"
        return formatter.formatters[mime]

    def _format(self, mime: str, make: Callable[[Any], Any]) -> None:
        formatter = self._formatter(mime)
        earlier = formatter.for_type(CoroutineType)
        formatter.for_type(CoroutineType, make(earlier))
        self._earlier.append((formatter, earlier))

    def _as_text(self, earlier: Any) -> Callable[[Any, Any, bool], None]:
        def show(value: Any, printer: Any, cycle: bool) -> None:
            # Within a list or another object, its own text is enough.
            card = self._card_of(value) if len(getattr(printer, "stack", ())) <= 1 else None
            if card is not None:
                from orchnb.notebook.views.model import text

                printer.text(text(card))
            elif earlier is not None:
                earlier(value, printer, cycle)
            else:
                printer.text(repr(value))

        return show

    def _as_html(self, earlier: Any) -> Callable[[Any], str | None]:
        def show(value: Any) -> str | None:
            card = self._card_of(value) if self._mode() != "text" else None
            if card is not None:
                from orchnb.notebook.views.model import html

                return html(card)
            shown: str | None = None if earlier is None else earlier(value)
            return shown

        return show

    def _card_of(self, value: Any) -> Card | None:
        if self._mode() == "off" or not is_unawaited(value):
            return None
        self._keep(value)
        advice = advice_on_result(self._sources[-1] if self._sources else "", value)
        if advice not in self._shown:
            self._shown.append(advice)
        return _card([advice])

    # Cells.

    def _begin(self, info: Any = None) -> None:
        self._sources.append(getattr(info, "raw_cell", None) or "")

    def _end(self, result: Any = None) -> None:
        source = self._sources.pop() if self._sources else ""
        shown, self._shown = self._shown, []
        self._kept = [each for each in self._kept if is_unawaited(each)]
        if "orchnb.api.client" not in sys.modules:
            return  # there is no client
        found = [*self._assigned(source)]
        if getattr(result, "success", False):
            found += advice_on_discarded(source, self._shell.user_ns)
        found = [advice for advice in dict.fromkeys(found) if advice not in shown]
        if found and self._mode() != "off":
            self._show(_card(found))

    def _assigned(self, source: str) -> list[AwaitAdvice]:
        """Return what to write for each name that stands for a call that no cell has shown yet."""
        new = {
            name: value
            for name, value in list(self._shell.user_ns.items())
            if isinstance(value, CoroutineType)
            and not name.startswith("_")
            and is_unawaited(value)
            and not any(value is each for each in self._kept)
        }
        waiting = [task.get_coro() for task in asyncio.all_tasks(self._loop())] if new else []
        found = []
        for name, value in new.items():
            if not any(value is each for each in waiting):
                self._keep(value)
                found.append(advice_on_name(source, name, value))
        return found

    # Keeping.

    def _keep(self, value: Any) -> None:
        if isinstance(value, CoroutineType) and not any(value is each for each in self._kept):
            self._kept.append(value)
            if len(self._kept) > _MOST_KEPT:
                self._kept.pop(0).close()

    def _close_kept(self) -> None:
        kept, self._kept = self._kept, []
        for call in kept:
            if is_unawaited(call):
                call.close()


def _card(found: list[AwaitAdvice]) -> Card:
    from orchnb.notebook.views.awaiting import await_card

    return await_card([advice.write for advice in found], is_missing=True)
