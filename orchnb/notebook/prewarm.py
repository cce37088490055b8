"""Import what the first request needs in the background, from the load of the extension on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from orchnb.notebook.cell_hooks import CellHooks
from orchnb.runtime.background_imports import import_each, importing
from orchnb.runtime.interrupts import deferred_interrupts

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class Prewarm:
    """The thread that imports orchnb's modules and, if an in-kernel server will be used, Prefect's.

    It opens no database. An import that fails here fails again, and is reported, where it is needed.
    """

    def __init__(
        self, shell: InteractiveShell, first: Callable[[], object], *, after_cell: bool
    ) -> None:
        """``first`` is called before Prefect is imported, which reads its settings then. ``after_cell``:
        begin at the end of the running cell, which may import Prefect."""
        self._first = first
        self._leaving = False
        self._thread = threading.Thread(target=self._run, name="orchnb-prewarm", daemon=True)
        self._hooks = CellHooks(shell, before=self._before_cell, after=self._after_cell, waits=True)
        if not after_cell:
            self._start()

    def remove(self) -> None:
        """Unregister the hooks. An import in progress cannot be stopped; it ends by itself."""
        self._leaving = True
        self._hooks.remove()

    def _before_cell(self, info: Any) -> None:
        # Two threads that import one package in different orders can see partly initialized modules,
        # because Python breaks the deadlock in this way. A cell that imports Prefect needs these modules
        # as well, so waiting costs it nothing.
        if "prefect" in (getattr(info, "raw_cell", None) or ""):
            while self._thread.is_alive():
                self._thread.join(0.1)  # in steps, as on Windows a join cannot be interrupted

    def _after_cell(self, result: Any) -> None:
        del result
        if self._thread.ident is None and not self._leaving:
            self._start()

    def _start(self) -> None:
        with deferred_interrupts():
            self._thread.start()

    def _run(self) -> None:
        with suppress(Exception):
            with importing():
                if not self._leaving:
                    self._first()
            from orchnb.settings import get_settings

            if not get_settings().ephemeral_prewarm or self._leaving:
                return
            self._import()

    def _import(self) -> None:
        _import_own()
        import_each(["orchnb.prefect_server.app", "orchnb.server_type"])
        from orchnb.prefect_server.app import warm_modules
        from orchnb.server_type import ServerType, determine_server_type
        from orchnb.settings import get_settings

        settings = get_settings()
        kind = determine_server_type(settings)
        if kind is ServerType.EPHEMERAL and not settings.ephemeral_app and not self._leaving:
            warm_modules()


_OWN = (
    "orchnb.api.context",
    "orchnb.notebook.views.errors",
    "orchnb.notebook.views.objects",
    "orchnb.notebook.live_displays",
)
"""What the first cells need; the models come with it."""


def _import_own() -> None:
    import_each([*_OWN, "orchnb.api.models"])
    models = import_module("orchnb.api.models")
    import_each(module.name for module in iter_modules(models.__path__, f"{models.__name__}."))
