"""Every name of Prefect that orchnb uses, and that Prefect does not promise to keep.

Only this module imports Prefect. Each name says what it is for and why no public name does it. Most are
modules and functions of ``prefect.server``, of which Prefect's documentation says only how to run it as a
separate process.

A name without which the server cannot run here is required. `check` looks at all of these before the
server starts, and raises the error that tells which versions of Prefect are supported. Any other name is
an extra, which is left out if Prefect does not have it. `tests/test_internals.py` fails when a version of
Prefect drops one of either kind.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from orchnb.errors import ServerStartFailed

_PREFECT = "prefect"


@dataclass(frozen=True)
class Internal:
    """A name in a module of Prefect's."""

    module: str
    name: str
    required: bool = True

    def get(self) -> Any:
        """Return the object; None if Prefect does not have it and it is not required.

        Raises:
            ServerStartFailed: Prefect does not have it, and it is required.
        """
        value: Any = None
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError as exc:
            if (exc.name or "").partition(".")[0] != _PREFECT:
                raise  # something that Prefect needs is not installed
        else:
            with suppress(AttributeError, ImportError):  # the latter for names that have moved
                value = getattr(module, self.name)
        if value is None and self.required:
            raise self.missing()
        return value

    def replace(self, value: object) -> None:
        """Put another object in its place, which Prefect uses from then on."""
        setattr(importlib.import_module(self.module), self.name, value)

    def missing(self) -> ServerStartFailed:
        """Return the error that says that this Prefect does not have it."""
        return ServerStartFailed(
            f"Prefect {version()} is not supported by this version of orchnb: it has no "
            f"{self.module}.{self.name}",
            phase="import",
            hint=f"Install a version that is supported: pip install {server_packages()}. Or upgrade "
            "orchnb.",
        )


# The app. Prefect documents `prefect server start`, which runs the app in a separate process.

CREATE_APP = Internal("prefect.server.api.server", "create_app")
"""Creates the server's ASGI app with given settings."""

CREATE_UI_APP = Internal("prefect.server.api.server", "create_ui_app", required=False)
"""Creates the app of the web pages. `create_app` adds them only to a server that is not ephemeral, which
would also run services that must not run in several processes. Without it there are no web pages."""

_STARTED_APPS = Internal("prefect.server.api.server", "LIFESPAN_RAN_FOR_APP", required=False)
"""The set of the apps that have started; see `release_app`."""

_APP_CACHES = (
    Internal("prefect.server.api.server", "APP_CACHE", required=False),
    Internal("prefect.server.api.server", "API_APP_CACHE", required=False),
)
"""Dictionaries in which Prefect keeps each app as long as the process lives; see `release_app`."""


def release_app(app: Any) -> None:
    """Make Prefect release an app that has ended. Nothing public does: a process is expected to run one
    app."""
    if (started := _STARTED_APPS.get()) is not None:
        started.discard(app)
    ours = [app, *(getattr(route, "app", None) for route in app.routes)]
    for each in _APP_CACHES:
        cache: dict[Any, Any] = each.get() or {}
        for key in [key for key, known in cache.items() if known in ours]:
            del cache[key]


# Settings. Prefect documents the settings themselves, and `get_current_settings`, which returns those
# that were read when Prefect was imported.

ROOT_SETTINGS_CONTEXT = Internal("prefect.context", "root_settings_context")
"""Reads the settings and the active profile again, and returns a context with both. In such a context,
Prefect's code uses these settings and not those of the process."""

_REFRESH = Internal("prefect.context", "refresh_global_settings_context", required=False)
"""Public in later versions of Prefect 3.6, so that plug-ins can set environment variables."""

_GLOBAL_SETTINGS = Internal("prefect.context", "GLOBAL_SETTINGS_CONTEXT")
"""The settings of the process, for Prefect 3.6.0, which does not have `_REFRESH`; and the sign that the
module has been imported up to its settings."""


def is_loaded() -> bool:
    """Return whether Prefect's client was imported in this process and has read its settings. Does not
    wait for another thread that is importing it."""
    module = sys.modules.get(_GLOBAL_SETTINGS.module)
    return module is not None and _GLOBAL_SETTINGS.name in vars(module)


def client_address() -> tuple[Any, Any]:
    """Return the API URL and the auth string that Prefect's client uses in this process and context."""
    api = prefects_settings().api
    return api.url, api.auth_string


def prefects_settings() -> Any:
    """Return the settings of Prefect's client in this process and context, with documented names."""
    return importlib.import_module("prefect.settings").get_current_settings()


# Runs. Both names are public and documented, but moved between versions before.

_RUN_CONTEXTS = (
    Internal("prefect.context", "FlowRunContext", required=False),
    Internal("prefect.context", "TaskRunContext", required=False),
)
"""The contexts of a flow run and of a task run in progress, with the client of their server."""


def run_client() -> Any:
    """Return the client of Prefect's that the flow or task run uses which this code belongs to; None
    outside of runs."""
    if not is_loaded():
        return None
    for each in _RUN_CONTEXTS:
        kind = each.get()
        context = kind.get() if kind is not None else None
        if context is not None:
            return context.client
    return None


def refresh_settings() -> None:
    """Make Prefect's client in this process read its settings from the environment again."""
    refresh = _REFRESH.get()
    if refresh is not None:
        refresh()
    else:
        _GLOBAL_SETTINGS.get()
        _GLOBAL_SETTINGS.replace(ROOT_SETTINGS_CONTEXT.get()())


# The database. Prefect opens the first one that its settings name, and keeps to it.

DATABASE_PARTS = Internal("prefect.server.database.dependencies", "MODELS_DEPENDENCIES")
"""What Prefect has made of its database settings: a dictionary, with None for what it has to make again.
A process can start servers on several databases, one after the other."""

DATABASE_INTERFACE = Internal("prefect.server.database.dependencies", "provide_database_interface")
"""Returns the database that Prefect uses now; tells whether it is in memory."""

ALEMBIC_UPGRADE = Internal("prefect.server.database.alembic_commands", "alembic_upgrade")
"""Applies the migrations. The public setting, ``migrate_on_start``, does so in the server's lifespan,
where an interrupt could leave a transaction open."""

SQLITE_CONFIGURATION = Internal("prefect.server.database.configurations", "AioSqliteConfiguration")
"""The class for SQLite databases, of which orchnb's own is a subclass: no setting changes how
transactions begin."""

SQLITE_BEGIN_MODE = Internal("prefect.server.database.configurations", "SQLITE_BEGIN_MODE")
"""The context variable that holds how the next SQLite transaction begins."""


# Services. The setting `server.services.triggers.enabled` stops all evaluation of automations.

EVALUATE_PROACTIVELY = Internal("prefect.server.events.triggers", "evaluate_proactive_triggers")
"""Evaluates the triggers of automations once. Two servers on a database must not do so at a time."""

EVALUATE_PERIODICALLY = Internal(
    "prefect.server.events.triggers", "evaluate_periodically", required=False
)
"""Evaluates other triggers in a loop that does not end when it is cancelled; a server stops later
without this."""

_LOG_HANDLER = Internal("prefect.logging.handlers", "APILogHandler", required=False)
"""Sends what flows log to the API, in batches, as another worker does with their events."""


def send_waiting() -> None:
    """Send the log records and events of flows in this process, and wait for that.

    ``logging.Handler.flush`` is public, but Prefect's loggers have a handler each, and no public list.
    It ends all workers of the client; the next ones connect to the server in the settings.
    """
    handler = _LOG_HANDLER.get()
    if handler is not None:
        handler().flush()


# Results. `ResultStore.read` is public, and reads with Prefect's own client, from another server perhaps.

_BLOCK = Internal("prefect.blocks.core", "Block", required=False)
_BLOCK_DOCUMENT = Internal("prefect.client.schemas.objects", "BlockDocument", required=False)
_SERIALIZER = Internal("prefect.serializers", "Serializer", required=False)


def read_stored(block_document: Any, key: str) -> bytes:
    """Return what is stored under a key, in the storage that a block describes. Call it in a thread
    without an event loop.

    Raises:
        ImportError: this Prefect cannot.
    """
    block, document = _BLOCK.get(), _BLOCK_DOCUMENT.get()
    load = getattr(
        block, "_from_block_document", None
    )  # `Block.load` asks the server of the settings
    if load is None or document is None:
        raise ImportError(f"Prefect {version()} is not supported for this")
    content = load(document.model_validate(block_document)).read_path(key)
    if inspect.iscoroutine(content):  # a storage with async methods only
        content = asyncio.run(content)
    return bytes(content)


def load_stored(serializer: dict[str, Any], content: bytes) -> Any:
    """Return the object that a serializer of Prefect's has written. This can run any code.

    Raises:
        ImportError: this Prefect cannot, or something that the object needs is not installed.
    """
    kind = _SERIALIZER.get()
    if kind is None:
        raise ImportError(f"Prefect {version()} is not supported for this")
    return kind(**serializer).loads(content)


# The package.

MODULES = (
    "sqlalchemy.ext.asyncio",
    "fastapi",
    "docket",
    "prefect",
    "prefect.server.database",
    "prefect.server.models",
)
"""The modules that take most of the time of the server's import. A fork waits for one of them at most.
One that does not exist is skipped."""

MODULES_OF_A_START = (
    "alembic.command",
    "aiosqlite",
    "burner_redis",
    "docket.tasks",
    "prefect.logging.formatters",
)
"""The modules that a start of the server imports later. One that does not exist is skipped."""

REQUIRED = (
    CREATE_APP,
    ROOT_SETTINGS_CONTEXT,
    DATABASE_PARTS,
    DATABASE_INTERFACE,
    ALEMBIC_UPGRADE,
    SQLITE_CONFIGURATION,
    SQLITE_BEGIN_MODE,
    EVALUATE_PROACTIVELY,
)
"""What a start needs."""

# The context that is the parent of flow and task runs. All names are public; they moved between versions.

_FLOW = Internal("prefect", "flow", required=False)
_PARENT_CONTEXT = Internal("prefect.context", "FlowRunContext", required=False)
_PARENT_RUN = Internal("prefect.client.schemas.objects", "FlowRun", required=False)
_TASK_RUNNER = Internal("prefect.task_runners", "ThreadPoolTaskRunner", required=False)
_RESULT_STORE = Internal("prefect.results", "get_result_store", required=False)
_NEW_CLIENT = Internal("prefect.client.orchestration", "get_client", required=False)


def are_flows_loaded(*, load: bool) -> bool:
    """Return whether Prefect's flows are imported in this process. ``load``: import them if possible."""
    if not load and "prefect.flows" not in sys.modules:
        return False
    # The package loads the rest with this name, and then completes the classes of contexts.
    return is_installed() and _FLOW.get() is not None


def new_client() -> Any:
    """Return a new sync client of Prefect's, not opened, for the address in its settings."""
    return _NEW_CLIENT.get()(sync_client=True)


def run_context(run: Mapping[str, Any], client: Any) -> AbstractContextManager[Any] | None:
    """Return Prefect's context of a flow run; None if this version of Prefect has another kind."""
    kinds = [each.get() for each in (_PARENT_CONTEXT, _PARENT_RUN, _TASK_RUNNER, _RESULT_STORE)]
    if None in kinds:
        return None
    context, flow_run, task_runner, result_store = kinds
    return _RunContext(context, flow_run.model_validate(run), task_runner(), result_store(), client)


class _RunContext(AbstractContextManager[Any]):
    """Prefect's context, with the task runner for ``task.submit()``."""

    def __init__(self, context: Any, run: Any, runner: Any, store: Any, client: Any) -> None:
        self._runner = runner
        self._context = context(flow_run=run, client=client, task_runner=runner, result_store=store)

    def __enter__(self) -> object:
        self._runner.__enter__()
        return self._context.__enter__()

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._context.__exit__(*exc_info)
        finally:
            self._runner.__exit__(None, None, None)


EXTRAS = (
    CREATE_UI_APP,
    _STARTED_APPS,
    *_APP_CACHES,
    _REFRESH,
    *_RUN_CONTEXTS,
    EVALUATE_PERIODICALLY,
    _LOG_HANDLER,
    _BLOCK,
    _BLOCK_DOCUMENT,
    _SERIALIZER,
    _FLOW,
    _PARENT_CONTEXT,
    _PARENT_RUN,
    _TASK_RUNNER,
    _RESULT_STORE,
    _NEW_CLIENT,
)
"""What it does not need."""


def check() -> None:
    """Import the server, which takes seconds, and check that it has what a start needs.

    Raises:
        ServerStartFailed: it does not, so this version of Prefect is not supported.
        ImportError: something that Prefect needs is not installed.
    """
    for each in REQUIRED:
        each.get()


def is_installed() -> bool:
    """Return whether Prefect is installed."""
    return importlib.util.find_spec(_PREFECT) is not None


def is_servers_logger(name: str) -> bool:
    """Return whether a logger of this name is the server's, and not the client's or another package's."""
    return f"{name}.".startswith(f"{_PREFECT}.server.")


def version() -> str:
    """Return the version of Prefect."""
    return str(getattr(importlib.import_module(_PREFECT), "__version__", "(unknown version)"))


def package_folder() -> Path:
    """Return the folder of Prefect's code."""
    return Path(str(importlib.import_module(_PREFECT).__file__)).parent


def server_packages() -> str:
    """Return what ``pip install`` takes to bring a server that is supported: the extra ``server``."""
    try:
        required = metadata.requires("orchnb") or []
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        required = []
    named = (each.partition(";") for each in required)
    return " ".join(f'"{what.strip()}"' for what, _, when in named if "server" in when) or _PREFECT
