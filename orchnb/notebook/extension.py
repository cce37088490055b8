"""``%load_ext orchnb`` and ``%unload_ext orchnb``: register, unregister, leave nothing behind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from IPython.core.async_helpers import get_asyncio_loop

import orchnb
from orchnb.notebook.errors import ErrorCards
from orchnb.notebook.interrupts import Pulse
from orchnb.notebook.magics import OrchMagics
from orchnb.runtime import loops

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# What is shown as more than its repr: the type, by name so that nothing need be imported yet, and
# the function of `object_views` that makes a view of it.
_SHOWN = {
    ("orchnb.api.models", "ModelList"): "model_table",
    ("orchnb.api.models", "Flow"): "model_card",
    ("orchnb.api.models", "FlowRun"): "model_card",
    ("orchnb.api.models", "OrchestrationResult"): "model_card",
    ("orchnb.api.status", "ServerStatus"): "status_card",
    ("orchnb.http.response", "PrefectResponse"): "response_card",
}


class Extension:
    """What one load has put into one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell = shell
        self.cards = ErrorCards(shell)
        self.pulse = Pulse(shell)
        shell.register_magics(OrchMagics(shell, on_switch=close_clients))
        for (module, name), view in _SHOWN.items():
            _formatter(shell, "text/html").for_type_by_name(module, name, _as_html(view))
            _formatter(shell, "text/plain").for_type_by_name(module, name, _as_text(view))
        loops.set_notebook_loop(_notebook_loop())
        self.named = "orchnb" not in shell.user_ns
        if self.named:  # so that the next cell can say orchnb.get_client()
            shell.user_ns["orchnb"] = orchnb

    def remove(self) -> None:
        """Take out everything again, and close what is open."""
        close_clients()
        settings = sys.modules.get("orchnb.settings")
        if settings is not None:
            settings.choose_for_session({}, "")
        loops.set_notebook_loop(None)
        for module, name in _SHOWN:
            for mime in ("text/html", "text/plain"):
                _formatter(self.shell, mime).pop(f"{module}.{name}", None)
        manager = self.shell.magics_manager
        for name in OrchMagics.magics["line"]:
            manager.magics["line"].pop(name, None)
        manager.registry.pop(OrchMagics.__name__, None)
        self.cards.remove()
        self.pulse.remove()
        if self.named and self.shell.user_ns.get("orchnb") is orchnb:
            del self.shell.user_ns["orchnb"]


_loaded: Extension | None = None


def load(shell: InteractiveShell) -> None:
    """Load the extension; a second time does nothing."""
    global _loaded
    if _loaded is None:
        _loaded = Extension(shell)


def unload(shell: InteractiveShell) -> None:
    """Undo `load`."""
    del shell
    global _loaded
    extension, _loaded = _loaded, None
    if extension is not None:
        extension.remove()


def close_clients() -> None:
    """Close the notebook's clients; the async ones' connections right after the cell."""
    context = sys.modules.get("orchnb.api.context")
    session = context.end_notebook_session() if context is not None else None
    if session is not None:
        for left in session.close():
            _finish(left)


def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Magics cannot await: on a running loop it is done as soon as the cell gives way."""
    loop = _notebook_loop()
    if loop.is_running():
        task = loop.create_task(coroutine)
        _closing.add(task)
        task.add_done_callback(_closing.discard)
    else:
        loop.run_until_complete(coroutine)


# asyncio itself holds tasks weakly.
_closing: set[asyncio.Task[None]] = set()


def _notebook_loop() -> asyncio.AbstractEventLoop:
    """The loop that cells run on. In terminal IPython it runs for cells with ``await`` only."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        loop: asyncio.AbstractEventLoop = get_asyncio_loop()
        return loop


def _formatter(shell: InteractiveShell, mime: str) -> Any:
    formatter = shell.display_formatter
    assert formatter is not None, "a shell has one from its start"
    return formatter.formatters[mime]


def _as_html(view: str) -> Callable[[Any], str]:
    def show(value: Any) -> str:
        from orchnb.notebook import object_views, views

        return views.html(getattr(object_views, view)(value))

    return show


def _as_text(view: str) -> Callable[[Any, Any, bool], None]:
    def show(value: Any, printer: Any, cycle: bool) -> None:
        from orchnb.notebook import object_views, views

        printer.text(repr(value) if cycle else views.text(getattr(object_views, view)(value)))

    return show
