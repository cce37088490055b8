"""``%load_ext orchnb`` and ``%unload_ext orchnb``: register everything, and remove it completely."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from orchnb.api.related import related_objects
from orchnb.notebook import _ipython
from orchnb.notebook.cell_hooks import CellHooks
from orchnb.notebook.cell_tracking import Cell, Cells
from orchnb.notebook.display_mode import DisplayMode
from orchnb.notebook.magic_lines import LineCompleter
from orchnb.notebook.magics import OrchMagics, track_options
from orchnb.notebook.prewarm import Prewarm
from orchnb.notebook.recording import CellRecords
from orchnb.notebook.session import Session
from orchnb.notebook.stop_button import Pulse
from orchnb.notebook.terminal import AwaitingCells
from orchnb.notebook.tracebacks import ErrorCards
from orchnb.notebook.unawaited import UnawaitedCalls
from orchnb.observers import follow_observers, retry_observers, startup_observers, switch_observers
from orchnb.runtime import loops
from orchnb.runtime.background_imports import loaded_module
from orchnb.runtime.interrupts import deferred_interrupts

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.notebook.live_displays import LiveDisplays
    from orchnb.notebook.views.model import Card

# Types that are displayed as more than their repr, by name so that nothing is imported yet, and the
# function in `orchnb.notebook.views` that makes a view of each, in `objects` unless it names a module.
_SHOWN = {
    ("orchnb.openapi.namespace", "OperationGroup"): "operation_group_table",
    ("orchnb.openapi.namespace", "_DescribedOperations"): "operations_table",
    ("orchnb.api.models.base", "ModelList"): "model_table",
    ("orchnb.runs.browsing", "FoundRuns"): "browse.found_table",
    ("orchnb.api.models.base", "Model"): "model_card",
    ("orchnb.api.status", "ServerStatus"): "status.server_card",
    ("orchnb.http.response", "PrefectResponse"): "response_card",
    ("orchnb.runs.timelines", "Timeline"): "timeline.timeline_chart",
    ("orchnb.runs.serving", "ServedFlow"): "serving.served_flow_card",
    ("orchnb.runs.failures", "FailedRun"): "failed_runs.failed_run_card",
    ("orchnb.runs.comparison", "RunComparison"): "comparison.run_comparison_card",
    ("orchnb.runs.failure_groups", "FailureGroups"): "failure_groups.failure_groups_view",
    ("orchnb.api.models.runs", "FlowRunGraph"): "graph.graph_diagram",
    ("orchnb.notebook.views.retries", "RetriedList"): "retries.retried_table",
    ("orchnb.diagnosis", "Diagnosis"): "diagnosis.diagnosis_card",
    ("orchnb.notebook.views.model", "Card"): "as_it_is",
    ("orchnb.notebook.views.model", "Line"): "as_it_is",
}

# Lists that have their own display.
_WATCHED = ("orchnb.runs.watching", "WatchedRuns")
_FOUND = ("orchnb.runs.browsing", "FoundRuns")


_IN_LISTS = frozenset({"model_card", "model_table", "graph.graph_diagram"})
"""Views that are one line for each object, if it is within something else."""


class Extension:
    """Everything that one load has added to one shell."""

    def __init__(self, shell: InteractiveShell, package: ModuleType) -> None:
        self.shell = shell
        self._package = package
        self.session: Session = Session()
        self.mode: DisplayMode = DisplayMode()
        self._pid = os.getpid()
        self._making = threading.Lock()
        self._displays: LiveDisplays | None = None
        with ExitStack() as out:
            self._put_in(out)
            self._out = out.pop_all()

    def _put_in(self, out: ExitStack) -> None:
        """Add everything to the shell, and push the callbacks that remove it onto the stack."""
        shell = self.shell
        self.cells: Cells = Cells(shell, on_end=self._cell_ended)
        out.callback(self.cells.remove)
        out.callback(ErrorCards(shell, self.mode).remove)
        out.callback(Pulse(shell).remove)
        out.callback(AwaitingCells(shell).remove)
        out.callback(self._close_displays)
        out.callback(CellHooks(shell, before=self._cell_begins).remove)
        out.enter_context(retry_observers.observe(self._retried))
        out.enter_context(startup_observers.observe(self._started))
        out.enter_context(follow_observers.observe(self._followed))
        out.enter_context(switch_observers.observe(lambda _: self.session.leave()))
        records = CellRecords(shell, track_options, self.cells.current, self.mode)
        out.callback(records.remove)
        shell.register_magics(
            OrchMagics(
                shell,
                self.session,
                self.mode,
                lambda: self.displays,
                lambda: records.session,
            )
        )
        out.callback(_ipython.remove_magics, shell, OrchMagics)
        out.callback(LineCompleter(OrchMagics, shell.Completer).remove)
        for (module, name), view in _SHOWN.items():
            shows = {"text/html": _as_html(view, self.mode), "text/plain": _as_text(view)}
            for mime, show in shows.items():
                formatter = _formatter(shell, mime)
                formatter.for_type_by_name(module, name, show)
                out.callback(formatter.pop, f"{module}.{name}", None)
        unawaited = UnawaitedCalls(shell, self.mode, self._show_here, _running_loop)
        out.callback(unawaited.remove)
        related_objects.wanted = True
        out.callback(setattr, related_objects, "wanted", False)
        assert shell.display_formatter is not None, "a shell always has one"
        own: Any = shell.display_formatter.ipython_display_formatter
        for kind, show_own in ((_WATCHED, self._show_watched), (_FOUND, self._show_found)):
            own.for_type_by_name(*kind, show_own)
            out.callback(own.pop, ".".join(kind), None)
        out.callback(_end_runners)
        out.callback(_NotebookLoop(shell).remove)
        if "orchnb" not in shell.user_ns:  # so that the next cell can say orchnb.get_client()
            shell.user_ns["orchnb"] = self._package
            out.callback(self._forget_name)
        if _uses_prefect(shell):
            self.session.follow()
        prewarm = Prewarm(shell, self.session.follow, after_cell=self.cells.in_a_cell)
        out.callback(prewarm.remove)
        # After the hook that waits for imports, which the stop button ends.
        following = CellHooks(shell, before=lambda _: self.session.follow())
        out.callback(following.remove)
        out.callback(self.session.forget_choice)

    @property
    def displays(self) -> LiveDisplays:
        """The live displays, created when first needed."""
        with self._making:  # events arrive on any thread
            if self._displays is None:
                from orchnb.notebook.live_displays import LiveDisplays

                self._displays = LiveDisplays(self.shell, self.cells.current, self.mode)
            return self._displays

    def _retried(self, event: Any) -> None:
        if self._is_here:
            self.displays.retried(event)

    def _started(self, event: Any) -> None:
        if self._is_here:
            self.displays.started(event)

    def _followed(self, following: Any) -> None:
        if self._is_here:
            self.displays.followed(following)

    def _show_watched(self, runs: Any) -> None:
        """Show nothing for runs that the cell shows above, and others as usual."""
        if self._displays is None or not self._displays.watches.is_shown_here(runs.following):
            raise NotImplementedError  # IPython then asks the other formatters

    def _show_found(self, runs: Any) -> None:
        """Show the runs in pages, where there are several and the kernel handles buttons."""
        if not self._is_here or not self.displays.pages.show(runs):
            raise NotImplementedError

    @property
    def _is_here(self) -> bool:
        """Whether this is the shell's process. In a forked child, the displays' locks may be held by
        threads that do not exist there."""
        return os.getpid() == self._pid

    def _show_here(self, card: Card) -> None:
        from orchnb.notebook.display_output import display_here

        display_here(card, self.mode(), self._pid)

    def _cell_begins(self, info: Any) -> None:
        del info
        if self._displays is not None:
            self._displays.pages.close()

    def _cell_ended(self, cell: Cell, interrupted: bool) -> None:
        if self._displays is not None:
            self._displays.cell_ended(cell, interrupted)

    def take_out(self) -> None:
        """Remove everything from the shell."""
        self._out.close()

    def _close_displays(self) -> None:
        if self._displays is not None:
            self._displays.close()

    def _forget_name(self) -> None:
        if self.shell.user_ns.get("orchnb") is self._package:
            del self.shell.user_ns["orchnb"]


class _NotebookLoop:
    """Records which event loop is the notebook's. It looks before each cell, because a shell that loads
    the extension at startup does not run a loop yet."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._hooks = CellHooks(shell, before=self._look)
        self._look()

    def remove(self) -> None:
        """Stop looking, and forget the loop."""
        self._hooks.remove()
        loops.set_notebook_loop(None)

    def _look(self, info: Any = None) -> None:
        del info
        if (
            threading.current_thread() is threading.main_thread()
        ):  # otherwise it is a subshell's cell
            loops.set_notebook_loop(_running_loop())


_loaded: Extension | None = None


def load(shell: InteractiveShell, package: ModuleType) -> None:
    """Load the extension; do nothing if it is loaded already. ``package`` is orchnb itself, which this
    module cannot import without an import cycle."""
    global _loaded
    if _loaded is None:
        try:
            with deferred_interrupts():
                _loaded = Extension(shell, package)
        except BaseException:  # an interrupt: IPython does not regard it as loaded, nor unload it
            unload(shell)
            raise


def unload(shell: InteractiveShell) -> None:
    """Undo `load` and close everything that is open; an interrupt ends only the wait for that."""
    del shell
    global _loaded
    if _loaded is not None:
        try:
            try:
                _loaded.session.close()
            finally:
                _loaded.session.close()  # again, as an interrupt may end the first before it begins
        finally:
            # If interrupted before this, it is still loaded, also for IPython, and can be unloaded again.
            with deferred_interrupts():
                _loaded.take_out()
                _loaded = None


def _end_runners() -> None:
    run = loaded_module("orchnb.runtime.run")
    if run is not None:
        run.end_runners()


def _uses_prefect(shell: InteractiveShell) -> bool:
    """Return whether the cell that loads the extension may go on to use Prefect or start a command. In
    other cells Prefect's settings are ready before the next cell, which makes loading faster."""
    request = _ipython.current_request(shell) or {}
    source = str(request.get("content", {}).get("code", ""))
    return "prefect" in sys.modules or re.search(r"prefect|^\s*!", source, re.M) is not None


def _running_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that cells run on. In terminal IPython it runs only for cells with ``await``."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return _ipython.cell_loop()


def _formatter(shell: InteractiveShell, mime: str) -> Any:
    formatter = shell.display_formatter
    assert formatter is not None, "a shell always has one"
    return formatter.formatters[mime]


def _as_html(view: str, mode: DisplayMode) -> Callable[[Any], str | None]:
    def show(value: Any) -> str | None:
        if mode() in ("text", "off"):
            return None
        from orchnb.notebook.views import model

        return model.html(_view_function(view)(value))

    return show


def _as_text(view: str) -> Callable[[Any, Any, bool], None]:
    def show(value: Any, printer: Any, cycle: bool) -> None:
        from orchnb.notebook.views import model

        if cycle:
            printer.text(repr(value))
        elif len(printer.stack) == 1 or view not in _IN_LISTS:
            printer.text(model.text(_view_function(view)(value)))
        elif isinstance(value, list):
            printer.pretty(list(value))
        else:  # one line for each in a list, a dict and so on
            printer.text(_view_function("model_line")(value))

    return show


def _view_function(view: str) -> Callable[[Any], Any]:
    module, _, name = view.rpartition(".")
    found = import_module(f"orchnb.notebook.views.{module or 'objects'}")
    return getattr(found, name)  # type: ignore[no-any-return] # a function from an object to a view
