"""Prefect's own server as an ASGI app that can be started again and again in one process.

Prefect reads its settings when it is first imported, and never opens another database after the first
one. A notebook lives longer than that: a user who corrects PREFECT_HOME after a failed start expects the
next start to use it. So each app created here reads the settings again, and uses them in all of its
calls, without changing the settings of the process.

Several processes may start servers on one database at the same moment. Prefect's migrations, and what it
writes when it starts, do not support that, so the servers start one after the other.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from pydantic import SecretStr

from orchnb.asgi import ASGIApp, Receive, Send
from orchnb.errors import ServerStartFailed
from orchnb.forks import in_forked_child
from orchnb.prefect_server import internals
from orchnb.prefect_server.database_address import (
    address_of_file,
    check_address,
    check_folder,
    place_of,
)
from orchnb.prefect_server.database_template import file_of, made_from_an_empty_one
from orchnb.prefect_server.quick_imports import import_jsonschema
from orchnb.prefect_server.routing import remember_routes
from orchnb.prefect_server.services import well_behaved_services
from orchnb.prefect_server.sqlite import sqlite_configuration
from orchnb.runtime.background_imports import import_each, importing
from orchnb.runtime.file_locks import LOOK_AGAIN, has_locked, lock_at, locked
from orchnb.runtime.loops import finish_loop
from orchnb.runtime.sqlite_locks import until_writable
from orchnb.runtime.temporary_folder import clear_stale

logger: logging.Logger = logging.getLogger(__name__)

_NO_TELEMETRY = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}

_LOCK_NAME = ".orchnb-start.lock"

_PATIENCE = 3.0
"""Seconds to wait for another in-kernel server that is ending."""


def import_server(home: Path, *, own_database: bool = False) -> Callable[[], PrefectServer]:
    """Import Prefect's server; return a function that creates its app, with its database in ``home``.

    With ``own_database`` the database is there even if Prefect's settings have another address.

    Raises:
        ServerStartFailed: it is not installed or not supported, or ``home`` cannot be used.
    """
    if not internals.is_installed():
        raise ServerStartFailed(
            "The Prefect server is not installed, so there is no in-kernel server",
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
            f"The Prefect server keeps its database in {home}, which cannot be created: "
            f"{exc.strerror or type(exc).__name__}",
            phase="import",
            hint="Set PREFECT_HOME to a folder that can be written to.",
        ) from None
    check_folder(home)
    import_modules()

    def make() -> PrefectServer:
        return PrefectServer(internals.CREATE_APP.get(), home, own_database=own_database)

    return make


def import_modules() -> None:
    """Import the modules of Prefect's server, which takes seconds. This opens no database.

    Raises:
        ServerStartFailed: this version of it is not supported.
        ImportError: it is not installed, or not completely.
    """
    # Its telemetry starts when it is imported, and logs an error if there is no internet connection.
    with _environment(_NO_TELEMETRY):
        import_jsonschema()
        import_each(internals.MODULES)
        with importing():
            internals.check()


def warm_modules() -> None:
    """Import also the modules that a start imports later."""
    import_modules()
    import_each(internals.MODULES_OF_A_START)


@contextmanager
def _log_levels_kept() -> Iterator[None]:
    """Keep the levels of all loggers but the server's own.

    Creating an app sets those of Prefect's loggers and of the root logger again. Levels that the person
    has set since the import would be lost, at some moment of a start in the background.
    """
    known = logging.root.manager.loggerDict
    loggers = [
        each
        for name, each in known.items()
        if isinstance(each, logging.Logger) and not internals.is_servers_logger(name)
    ]
    levels = [(each, each.level) for each in (logging.root, *loggers)]
    try:
        yield
    finally:
        for each, level in levels:
            if each.level != level:
                each.setLevel(level)


class PrefectServer:
    """An app of Prefect's server, with the settings at the time when it was created.

    It accepts requests without credentials; ``auth_string`` is what its settings demand of clients.
    Enter `holding_the_process` and call `migrate` before its lifespan starts.
    """

    title = "the Prefect server"

    def __init__(
        self, create_app: Callable[..., ASGIApp], home: Path, *, own_database: bool
    ) -> None:
        context = internals.ROOT_SETTINGS_CONTEXT.get()()
        self._home = home
        self._lock = lock_at(home / _LOCK_NAME)
        self._migrates = context.settings.server.database.migrate_on_start
        database: dict[str, Any] = {"migrate_on_start": False}  # `migrate` does this
        file = home / "prefect.db"
        if own_database:
            database["connection_url"] = address_of_file(file)
        self.auth_string: SecretStr | None = context.settings.server.api.auth_string
        # Requests have been authorized by `orchnb.hosting.port_guard`, or come from this process.
        server: dict[str, Any] = {"database": database, "api": {"auth_string": None}}
        if "analytics_enabled" not in context.settings.server.model_fields_set:
            server["analytics_enabled"] = False
        # Arguments take precedence over all other sources.
        settings = type(context.settings)(home=home, server=server)
        address = settings.server.database.connection_url.get_secret_value()
        if address == f"sqlite+aiosqlite:///{file}" != address_of_file(file):
            # Prefect's default, of which SQLAlchemy would make another path.
            database["connection_url"] = address = address_of_file(file)
            settings = type(context.settings)(home=home, server=server)
        check_address(address)
        self.database_place: str = place_of(address)
        self._context = context.model_copy(update={"settings": settings})
        self.database_file: Path | None = file_of(address)
        self._ending = False
        with self._context.model_copy(), _log_levels_kept():
            # A Prefect app runs only once: a second start has no services and no database.
            self._app = create_app(settings, ephemeral=True, ignore_cache=True)
        remember_routes(self._app)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        with self._context.model_copy():  # a context can be entered only once at a time
            await self._app(scope, receive, send)

    @asynccontextmanager
    async def holding_the_process(self) -> AsyncIterator[None]:
        """Make this the only Prefect server of the process, because Prefect's database is global.

        Raises:
            ServerStartFailed: another one is in use in this process.
        """
        global _holder
        patience_ends = time.monotonic() + _PATIENCE
        while _holder is not None and time.monotonic() < patience_ends:  # noqa: ASYNC110 - its loop may be another one
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
                _its_database(self._context.settings),
                _released_at_the_end(self._app),
            ):
                async with well_behaved_services(self._home):
                    yield
        finally:
            self._ending = True
            if _holder is self:
                _holder = None

    def web_pages(self, base: str, api_url: str, folder: Path) -> ASGIApp | None:
        """Return the app of Prefect's web pages, copied to ``folder``, for paths below ``base``.

        The pages use the API at ``api_url``, which may be only a path. None means that this version of
        Prefect does not have pages that can be served separately.
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
            with context.model_copy():  # the pages read the settings at each request
                await pages(scope, receive, send)

        return serve

    def end(self) -> None:
        """Record that nobody uses it any more: it is about to end."""
        self._ending = True

    @asynccontextmanager
    async def locked_database(self) -> AsyncIterator[None]:
        """Keep other processes on this machine from starting a server on the database in the meantime."""
        async with locked(self._lock, "starting a server on the same database"):
            yield

    async def until_writable(self) -> None:
        """Wait until no other process holds a lock on the database, if that is an SQLite file."""
        if self.database_file is not None:
            await until_writable(self.database_file)

    def migrate(self) -> None:
        """Update the database to the schema of this Prefect, which takes seconds for the first new one.

        Call it in a thread while the server's loop waits. If the loop stops waiting, the thread
        continues: a migration that is cancelled between two statements may leave a transaction open,
        which locks everyone else out.
        """
        if not self._migrates:
            return
        upgrade = internals.ALEMBIC_UPGRADE.get()
        # Acquire the lock a second time, so that it stays locked if the loop stops waiting.
        has_locked(self._lock)
        try:
            address = self._context.settings.server.database.connection_url.get_secret_value()
            with self._context.model_copy(), made_from_an_empty_one(address), _logged_migrations():
                if _is_in_memory():
                    upgrade()  # the database is a connection that belongs to the server's loop
                else:
                    _on_a_separate_loop(upgrade)
        finally:
            self._lock.release()


@contextmanager
def _logged_migrations() -> Iterator[None]:
    """Log each migration. The lines show that the migration of a large database makes progress."""
    log = logging.getLogger("alembic.runtime.migration")
    before = log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)


def _on_a_separate_loop(function: Callable[[], object]) -> None:
    """Call a function that calls async code on the loop of its worker thread, with a separate loop."""
    loop = asyncio.new_event_loop()
    tell = loop.call_soon_threadsafe

    def tell_unless_closed(*args: Any, **kwargs: Any) -> None:
        with suppress(RuntimeError):
            tell(*args, **kwargs)

    # If aiosqlite cannot open a database, its thread still notifies the loop when it ends, and nothing
    # waits for that. Its error that the loop is closed would be shown in a cell.
    loop.call_soon_threadsafe = tell_unless_closed  # type: ignore[method-assign, assignment]
    try:
        loop.run_until_complete(anyio.to_thread.run_sync(function))
    finally:
        finish_loop(loop, timeout=None)


_holder: PrefectServer | None = None


@contextmanager
def _its_database(settings: Any) -> Iterator[None]:
    """Make Prefect open the database of these settings, instead of the first one that it has opened."""
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
    """Return whether the database that Prefect opens now exists only in memory."""
    return bool(internals.DATABASE_INTERFACE.get()().database_config.is_inmemory())


@contextmanager
def _released_at_the_end(app: Any) -> Iterator[None]:
    """Make Prefect release an app that has ended; otherwise it keeps each one forever."""
    try:
        yield
    finally:
        internals.release_app(app)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables during the block, except those that the user has set."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@in_forked_child
def _after_fork() -> None:
    # The current server is the parent's.
    global _holder
    _holder = None
