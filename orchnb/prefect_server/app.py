"""Prefect's own server as an ASGI app that can be started again and again in one process.

Prefect reads its settings when it is first imported and keeps what it makes of the database's for
good. A notebook lives longer than that: who has corrected PREFECT_HOME after a failed start expects
the next one to heed it. So every app made here reads the settings anew, and keeps to them in all of
its calls, without changing those of the process.

Several processes may start servers on one database at the same moment, and neither Prefect's
migrations nor what it writes at its start are made for that; so one of them starts after the other.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import anyio
from pydantic import SecretStr

from orchnb.asgi import ASGIApp, Receive, Send
from orchnb.errors import ServerStartFailed
from orchnb.forks import in_forked_child
from orchnb.prefect_server import internals
from orchnb.prefect_server.database_template import file_of, made_from_an_empty_one
from orchnb.prefect_server.routing import remember_routes
from orchnb.prefect_server.services import well_behaved_services
from orchnb.prefect_server.sqlite import sqlite_configuration
from orchnb.runtime.background_imports import import_each, importing
from orchnb.runtime.file_locks import LOOK_AGAIN, has_locked, lock_at, locked
from orchnb.runtime.loops import finish_loop
from orchnb.runtime.sqlite_locks import until_writable
from orchnb.runtime.temporary_folder import clear_stale
from orchnb.settings import get_settings

logger: logging.Logger = logging.getLogger(__name__)

_NO_TELEMETRY = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}

_LOCK_NAME = ".orchnb-start.lock"

_PATIENCE = 3.0
"""Seconds that a server which is about to end, in this process, may still take."""


def import_server(home: Path, *, own_database: bool = False) -> Callable[[], PrefectServer]:
    """Import Prefect's server; return what makes an app of it, with its database below ``home``.

    With ``own_database`` it is there whatever Prefect's settings say of the database's address.

    Raises:
        ServerStartFailed: it is not installed or not supported, or ``home`` cannot be made.
    """
    if not internals.is_installed():
        raise ServerStartFailed(
            "The Prefect server is not installed, so none can run in this process",
            phase="import",
            hint=f"Install it: pip install {internals.server_packages()}. Or use a server elsewhere: set "
            "PREFECT_API_URL, or %orch_server_type server URL.",
        )
    clear_stale(Path(tempfile.gettempdir()))
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
    import_modules()

    def make() -> PrefectServer:
        return PrefectServer(internals.CREATE_APP.get(), home, own_database=own_database)

    return make


def import_modules() -> None:
    """Import what Prefect's server is made of, which takes seconds; it opens no database.

    Raises:
        ServerStartFailed: this version of it is not supported.
        ImportError: it is not installed, or not whole.
    """
    # Its telemetry begins with the import, and logs an error where there is no internet.
    with _environment(_NO_TELEMETRY):
        import_each(internals.MODULES)
        with importing():
            internals.check()


def warm_modules() -> None:
    """`import_modules`, and what a start imports later on, for whoever has the time."""
    import_modules()
    import_each(internals.MODULES_OF_A_START)


class PrefectServer:
    """One app of Prefect's, with the settings that it was made with.

    It asks nobody for credentials; ``auth_string`` is what its settings say that clients should send.
    Before its lifespan it wants `holding_the_process`, and the database to be brought up to date.
    """

    title = "the Prefect server"

    def __init__(
        self, create_app: Callable[..., ASGIApp], home: Path, *, own_database: bool
    ) -> None:
        context = internals.ROOT_SETTINGS_CONTEXT.get()()
        self._home = home
        self._lock = lock_at(home / _LOCK_NAME)
        self._migrates = context.settings.server.database.migrate_on_start
        database: dict[str, Any] = {"migrate_on_start": False}  # that is `migrate`
        if own_database:
            database["connection_url"] = f"sqlite+aiosqlite:///{home / 'prefect.db'}"
        self.auth_string: SecretStr | None = context.settings.server.api.auth_string
        # What reaches it was let in before: by `orchnb.hosting.port_guard`, or it is this process's own.
        server: dict[str, Any] = {"database": database, "api": {"auth_string": None}}
        if "analytics_enabled" not in context.settings.server.model_fields_set:
            server["analytics_enabled"] = False
        # These before all other sources.
        settings = type(context.settings)(home=home, server=server)
        self._context = context.model_copy(update={"settings": settings})
        self.database_file: Path | None = file_of(
            settings.server.database.connection_url.get_secret_value()
        )
        self._ending = False
        with self._context.model_copy():
            # Prefect's apps run once: one that was shut down comes up without services and database.
            self._app = create_app(settings, ephemeral=True, ignore_cache=True)
        remember_routes(self._app)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        with self._context.model_copy():  # it is entered once at a time
            await self._app(scope, receive, send)

    @asynccontextmanager
    async def holding_the_process(self) -> AsyncIterator[None]:
        """Be the one Prefect server of this process, as what Prefect knows of databases is global.

        Raises:
            ServerStartFailed: another one is in use here.
        """
        global _holder
        patience_ends = time.monotonic() + _PATIENCE
        while _holder is not None and time.monotonic() < patience_ends:  # noqa: ASYNC110 - it may be another loop's
            await anyio.sleep(LOOK_AGAIN)
        if _holder is not None and not _holder._ending:
            raise ServerStartFailed(
                f"Another Prefect server is in use in this process, with its database in "
                f"{_holder._home}, and there can be only one at a time",
                phase="migrate",
                hint="Close the clients that use it.",
            )
        _holder = self
        try:
            with (
                _database_of_its_own(self._context.settings),
                _forgotten_in_the_end(self._app),
            ):
                async with well_behaved_services(self._home):
                    yield
        finally:
            self._ending = True
            if _holder is self:
                _holder = None

    def web_pages(self, base: str, api_url: str, folder: Path) -> ASGIApp | None:
        """The app of Prefect's web pages, which are copied to ``folder``, for paths below ``base``.

        They ask for the API at ``api_url``, which may be a mere path. None: this Prefect does not have
        pages that can be served separately.
        """
        create_pages = internals.CREATE_UI_APP.get()
        if create_pages is None:
            return None
        settings = self._context.settings
        ui = settings.server.ui.model_copy(
            update={
                "enabled": True,
                "serve_base": base,
                "api_url": api_url,
                "static_directory": str(folder),
            }
        )
        server = settings.server.model_copy(update={"ui": ui})
        context = self._context.model_copy(
            update={"settings": settings.model_copy(update={"server": server})}
        )
        with context.model_copy():
            pages: ASGIApp = create_pages(ephemeral=False)

        async def serve(scope: MutableMapping[str, Any], receive: Receive, send: Send, /) -> None:
            with context.model_copy():  # the pages' settings are read at each request
                await pages(scope, receive, send)

        return serve

    def end(self) -> None:
        """Say that nobody uses it any more, from which on it may only end."""
        self._ending = True

    @asynccontextmanager
    async def locked_database(self) -> AsyncIterator[None]:
        """Have no other process of this machine start a server on the database in the meantime."""
        async with locked(self._lock, "starting a server on the same database"):
            yield

    async def until_writable(self) -> None:
        """Wait until no other process holds a lock on the database, if that is an SQLite file."""
        if self.database_file is not None:
            await until_writable(self.database_file)

    def migrate(self) -> None:
        """Bring the database to this Prefect's schema, which takes seconds for the first new one.

        For a thread that the server's loop waits for. It goes on where that is given up: what is
        cancelled between two statements may leave a transaction open, and everybody else locked out.
        """
        if not self._migrates:
            return
        upgrade = internals.ALEMBIC_UPGRADE.get()
        # A second hold on the lock: nobody who gave up waiting for this thread takes it from it.
        has_locked(self._lock)
        try:
            address = self._context.settings.server.database.connection_url.get_secret_value()
            with self._context.model_copy(), made_from_an_empty_one(address), _told_migrations():
                if _is_in_memory():
                    upgrade()  # such a database is a connection of the server's loop
                else:
                    _on_a_loop_of_its_own(upgrade)
        finally:
            self._lock.release()


@contextmanager
def _told_migrations() -> Iterator[None]:
    """Have each migration logged. The lines show that a migration of a large database makes progress."""
    log = logging.getLogger("alembic.runtime.migration")
    before = log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)


def _on_a_loop_of_its_own(function: Callable[[], object]) -> None:
    """Call what calls async code on the loop whose worker thread it is, with a loop that nobody ends."""
    loop = asyncio.new_event_loop()
    tell = loop.call_soon_threadsafe

    def tell_unless_closed(*args: Any, **kwargs: Any) -> None:
        with suppress(RuntimeError):
            tell(*args, **kwargs)

    # aiosqlite's thread for a database that it could not open tells the loop that it ends, and nobody
    # waits for that: its error that the loop is closed would be printed into somebody's cell.
    loop.call_soon_threadsafe = tell_unless_closed  # type: ignore[method-assign, assignment]
    try:
        loop.run_until_complete(anyio.to_thread.run_sync(function))
    finally:
        finish_loop(loop, timeout=None)


_holder: PrefectServer | None = None


def client_settings(api_url: str, auth_string: SecretStr, pages_url: str) -> dict[str, str]:
    """The variables from which Prefect's own client takes this API, its credentials and its pages."""
    secret = auth_string.get_secret_value()
    settings = {
        "PREFECT_API_URL": api_url,
        "PREFECT_API_AUTH_STRING": secret,
        "PREFECT_UI_URL": pages_url,
    }
    if not _sends_events_with_credentials():
        custom = get_settings().client_custom_headers
        headers = {name: value.get_secret_value() for name, value in custom.items()}
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
        settings["PREFECT_CLIENT_CUSTOM_HEADERS"] = json.dumps(headers)
    return settings


def _sends_events_with_credentials() -> bool:
    """Prefect's client has done so since 3.6.14; before, it sends custom headers only."""
    numbers = re.findall(r"\d+", metadata.version("prefect"))[:3]
    return tuple(map(int, numbers)) >= (3, 6, 14)


@contextmanager
def known_to_prefect(ours: Mapping[str, str]) -> Iterator[None]:
    """Have Prefect's own client use `client_settings`, here and in processes that are started from
    here."""
    before = {name: os.environ.get(name) for name in ours}
    is_known = False
    try:
        os.environ.update(ours)
        internals.refresh_settings()
        is_known = True
        yield
    finally:
        if is_known:
            _send_waiting_logs()
        for name, value in before.items():
            # A value that was changed since then was changed on purpose.
            if os.environ.get(name) == ours[name]:
                del os.environ[name]
                if value is not None:
                    os.environ[name] = value
        if is_known:
            try:
                internals.refresh_settings()
            except Exception:  # the port closes even if the user's settings are invalid by now
                logger.warning("Prefect did not read its settings again", exc_info=True)


def _send_waiting_logs() -> None:
    """Prefect sends what flows log in batches; what waits still is to reach the API while it is there."""

    def send() -> None:
        try:
            internals.send_waiting_logs()
        except Exception:  # the port closes all the same
            logger.warning("What flows in this process have logged was not sent", exc_info=True)

    # On a thread of its own, as it does not wait on one that runs an event loop.
    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    sending.join(_PATIENCE)


@contextmanager
def _database_of_its_own(settings: Any) -> Iterator[None]:
    """Have Prefect open the database that its settings name now, not the first one they ever did."""
    known: dict[str, Any] = internals.DATABASE_PARTS.get()
    before = dict(known)
    known.update(dict.fromkeys(("database_config", "query_components", "orm")))
    url = settings.server.database.connection_url.get_secret_value()
    if url.startswith("sqlite"):
        known["database_config"] = sqlite_configuration()(connection_url=url)
    try:
        yield
    finally:
        known.update(before)


def _is_in_memory() -> bool:
    """Whether the database that Prefect opens now is nowhere else."""
    return bool(internals.DATABASE_INTERFACE.get()().database_config.is_inmemory())


@contextmanager
def _forgotten_in_the_end(app: Any) -> Iterator[None]:
    """Have Prefect keep an app no longer than it runs; of itself it keeps each one for good."""
    try:
        yield
    finally:
        internals.release_app(app)


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


@in_forked_child
def _after_fork() -> None:
    # The server that holds the process is the parent's.
    global _holder
    _holder = None
