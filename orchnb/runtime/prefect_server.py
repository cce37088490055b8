"""Prefect's own server as an ASGI app that can be started again and again in one process.

Prefect reads its settings when it is first imported and keeps what it makes of the database's for
good. A notebook lives longer than that: who has corrected PREFECT_HOME after a failed start expects
the next one to heed it. So every app made here reads the settings anew, and keeps to them in all of
its calls, without changing those of the process.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from orchnb.errors import ServerStartFailed
from orchnb.runtime.lifespan import ASGIApp, Receive, Send

_NO_TELEMETRY = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def import_server(home: Path) -> Callable[[], ASGIApp]:
    """Import Prefect's server; return what makes an app of it, with its database below ``home``.

    Raises:
        ServerStartFailed: it is not installed, or ``home`` cannot be made.
    """
    if importlib.util.find_spec("prefect") is None:
        raise ServerStartFailed(
            "The Prefect server is not installed, so none can run in this process",
            phase="import",
            hint='Install it with: pip install "orchnb[server]". Or use a server elsewhere: set '
            "PREFECT_API_URL, or %orch_server_type server URL.",
        )
    home = home.expanduser()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ServerStartFailed(
            f"The Prefect server keeps its database in {home}, which cannot be made: "
            f"{exc.strerror or type(exc).__name__}",
            phase="import",
            hint="Set PREFECT_HOME to a folder that can be written to.",
        ) from None
    server = import_modules()

    def make() -> ASGIApp:
        return _PrefectServer(server.create_app, home)

    return make


def import_modules() -> ModuleType:
    """Import what Prefect's server is made of, which takes seconds; it opens no database.

    Raises:
        ImportError: it is not installed, or not whole.
    """
    # Its telemetry begins with the import, and logs an error where there is no internet.
    with _environment(_NO_TELEMETRY):
        return importlib.import_module("prefect.server.api.server")


class _PrefectServer:
    """One app of Prefect's, with the settings that it was made with."""

    title = "the Prefect server"

    def __init__(self, create_app: Callable[..., ASGIApp], home: Path) -> None:
        context = importlib.import_module("prefect.context").root_settings_context()
        values: dict[str, Any] = {"home": home}
        if "analytics_enabled" not in context.settings.server.model_fields_set:
            values["server"] = {"analytics_enabled": False}
        settings = type(context.settings)(**values)  # these before all other sources
        self._context = context.model_copy(update={"settings": settings})
        with self._context.model_copy():
            # Prefect's apps run once: one that was shut down comes up without services and database.
            self._app = create_app(settings, ephemeral=True, ignore_cache=True)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        with self._context.model_copy():  # it is entered once at a time
            if scope["type"] == "lifespan":
                with _database_of_its_own():
                    await self._app(scope, receive, send)
            else:
                await self._app(scope, receive, send)


@contextmanager
def _database_of_its_own() -> Iterator[None]:
    """Have Prefect open the database that its settings name now, not the first one they ever did."""
    known: dict[str, Any] = importlib.import_module(
        "prefect.server.database.dependencies"
    ).MODELS_DEPENDENCIES
    before = dict(known)
    known.update(dict.fromkeys(("database_config", "query_components", "orm")))
    try:
        yield
    finally:
        known.update(before)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Environment variables for a while, where the user has not set them."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
