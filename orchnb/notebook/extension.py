"""``%load_ext orchnb`` and ``%unload_ext orchnb``: register everything, and remove it completely."""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

import orchnb
from orchnb.notebook import _ipython
from orchnb.notebook.cell_hooks import CellHooks
from orchnb.notebook.cell_tracking import Cell, Cells
from orchnb.notebook.display_mode import DisplayMode
from orchnb.notebook.magics import OrchMagics
from orchnb.notebook.prewarm import Prewarm
from orchnb.notebook.stop_button import Pulse
from orchnb.notebook.terminal import AwaitingCells
from orchnb.notebook.tracebacks import ErrorCards
from orchnb.observers import retry_observers, startup_observers, switch_observers
from orchnb.runtime import loops
from orchnb.runtime.interrupts import deferred_interrupts

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.hosting.ephemeral import EphemeralApp
    from orchnb.hosting.port import Served
    from orchnb.notebook.live_displays import LiveDisplays
    from orchnb.runtime.temporary_folder import FreshFolder

# Types that are displayed as more than their repr, by name so that nothing is imported yet, and the
# function of `object_views` that makes a view of each.
_SHOWN = {
    ("orchnb.openapi.namespace", "OperationGroup"): "operation_group_table",
    ("orchnb.openapi.namespace", "_DescribedOperations"): "operations_table",
    ("orchnb.api.models.base", "ModelList"): "model_table",
    ("orchnb.api.models.base", "Model"): "model_card",
    ("orchnb.api.status", "ServerStatus"): "status_card",
    ("orchnb.http.response", "PrefectResponse"): "response_card",
    ("orchnb.notebook.views.retries", "RetriedList"): "retried_table",
    ("orchnb.notebook.views.model", "Card"): "as_it_is",
    ("orchnb.notebook.views.model", "Line"): "as_it_is",
}

_SERVED_BY = "%orch_serve"


class Extension:
    """Everything that one load has added to one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.mode = DisplayMode()
        self._pid = os.getpid()
        self._making = threading.Lock()
        self._displays: LiveDisplays | None = None
        self._fresh: tuple[EphemeralApp, FreshFolder] | None = None
        self._served: Served | None = None
        self._chosen_before: tuple[dict[str, Any], str] = {}, ""
        self._chosen_to_serve: tuple[dict[str, Any], str] = {}, ""
        with ExitStack() as out:
            self._put_in(out)
            self._out = out.pop_all()

    def _put_in(self, out: ExitStack) -> None:
        """Add everything to the shell, and push the callbacks that remove it onto the stack."""
        shell = self.shell
        self.cells = Cells(shell, on_end=self._cell_ended)
        out.callback(self.cells.remove)
        out.callback(ErrorCards(shell, self.mode).remove)
        out.callback(Pulse(shell).remove)
        out.callback(AwaitingCells(shell).remove)
        out.callback(self._close_displays)
        out.enter_context(retry_observers.observe(self._retried))
        out.enter_context(startup_observers.observe(self._started))
        out.enter_context(switch_observers.observe(lambda _: self.switched()))
        shell.register_magics(OrchMagics(shell, self))
        out.callback(_ipython.remove_magics, shell, OrchMagics)
        for (module, name), view in _SHOWN.items():
            shows = {"text/html": _as_html(view, self.mode), "text/plain": _as_text(view)}
            for mime, show in shows.items():
                formatter = _formatter(shell, mime)
                formatter.for_type_by_name(module, name, show)
                out.callback(formatter.pop, f"{module}.{name}", None)
        out.callback(_end_runners)
        out.callback(_NotebookLoop(shell).remove)
        if "orchnb" not in shell.user_ns:  # so that the next cell can say orchnb.get_client()
            shell.user_ns["orchnb"] = orchnb
            out.callback(self._forget_name)
        out.callback(Prewarm(shell, after_cell=self.cells.in_a_cell).remove)
        out.callback(_forget_choice)

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

    @property
    def _is_here(self) -> bool:
        """Whether this is the shell's process. In a forked child, the displays' locks may be held by
        threads that do not exist there."""
        return os.getpid() == self._pid

    def _cell_ended(self, cell: Cell, interrupted: bool) -> None:
        if self._displays is not None:
            self._displays.cell_ended(cell, interrupted)

    def switched(self) -> None:
        """Close everything that is open for the previous server, after a switch to another one."""
        self._switched(None)

    def _switched(self, fresh: tuple[EphemeralApp, FreshFolder] | None) -> None:
        """Do the work of `switched`; ``fresh`` is the server in a new folder, if there is one. An
        interrupt ends only the wait for things to close."""
        before, self._fresh = self._fresh, fresh
        try:
            try:
                self.stop_serving()
            finally:
                close_clients()
        finally:
            if before is not None:
                from orchnb.hosting.ephemeral import forget_app

                app, folder = before
                forget_app(app)
                app.when_down(folder.remove)

    def switch_to_fresh(self, choose: Callable[[Path], None]) -> None:
        """Let ``choose`` point the session at a server in a new folder, which is removed after use."""
        from orchnb.hosting.ephemeral import ephemeral_app
        from orchnb.runtime.temporary_folder import FreshFolder
        from orchnb.settings import get_settings

        folder = FreshFolder()
        try:
            choose(folder.path)
        except BaseException:  # also an interrupt: nothing else would remove the folder
            folder.remove()
            raise
        self._switched((ephemeral_app(get_settings()), folder))

    def serve(self) -> Served:
        """Open the in-kernel server on a port, unless it is open already.

        Raises:
            UsageError: the session uses a server elsewhere.
            ServerStartFailed: the server does not start.
        """
        from orchnb.api.client import api_of
        from orchnb.hosting.ephemeral import EphemeralApp
        from orchnb.hosting.port import Served
        from orchnb.settings import (
            EPHEMERAL,
            choose_for_session,
            get_settings,
            session_choice,
        )

        settings = get_settings()
        app = api_of(settings)
        if not isinstance(app, EphemeralApp):
            raise UsageError(
                "%orch_serve opens the in-kernel server, but the session uses another server: run "
                "%orch_server_type ephemeral first"
            )
        if self._served is None or self._served.app is not app or not self._served.is_open:
            self.stop_serving()
            settings = get_settings()  # again: the values that an earlier port has set are gone
            self._served = Served(app)
            # From now on Prefect's variables hold the port and its credentials, for other programs.
            # Here the settings stay as they are, so that no other server is sent the port's credentials.
            self._chosen_before = chosen, place = session_choice()
            kept = ("api_auth_string", "client_custom_headers")
            own = {**EPHEMERAL, **{name: getattr(settings, name) for name in kept}}
            choose_for_session({**chosen, **own}, place or _SERVED_BY)
            self._chosen_to_serve = session_choice()
        return self._served

    def stop_serving(self) -> bool:
        """Close the port, and return whether one was open."""
        from orchnb.settings import choose_for_session, session_choice

        served, self._served = self._served, None
        if served is not None:
            served.close()
            if session_choice() == self._chosen_to_serve:
                choose_for_session(*self._chosen_before)
        return served is not None

    def take_out(self) -> None:
        """Remove everything from the shell."""
        self._out.close()

    def _close_displays(self) -> None:
        if self._displays is not None:
            self._displays.close()

    def _forget_name(self) -> None:
        if self.shell.user_ns.get("orchnb") is orchnb:
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


def load(shell: InteractiveShell) -> None:
    """Load the extension; do nothing if it is loaded already."""
    global _loaded
    if _loaded is None:
        try:
            with deferred_interrupts():
                _loaded = Extension(shell)
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
                _loaded.switched()
            finally:
                _loaded.switched()  # again, as an interrupt may end the first before it begins
        finally:
            # If interrupted before this, it is still loaded, also for IPython, and can be unloaded again.
            with deferred_interrupts():
                _loaded.take_out()
                _loaded = None


def close_clients() -> None:
    """Close the notebook's clients; connections of async clients are closed right after the cell."""
    context = _loaded_module("orchnb.api.context")
    if context is not None:
        context.close_notebook_clients()


def _loaded_module(name: str) -> Any:
    """Return a module if it was imported; wait for one that is being imported in the background."""
    return importlib.import_module(name) if name in sys.modules else None


def _end_runners() -> None:
    run = _loaded_module("orchnb.runtime.run")
    if run is not None:
        run.end_runners()


def _forget_choice() -> None:
    settings = _loaded_module("orchnb.settings")
    if settings is not None:
        settings.choose_for_session({}, "")


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
        from orchnb.notebook.views import model, objects

        return model.html(getattr(objects, view)(value))

    return show


def _as_text(view: str) -> Callable[[Any, Any, bool], None]:
    def show(value: Any, printer: Any, cycle: bool) -> None:
        from orchnb.notebook.views import model, objects

        printer.text(repr(value) if cycle else model.text(getattr(objects, view)(value)))

    return show
