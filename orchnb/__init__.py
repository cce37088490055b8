"""orchnb: a notebook client for Prefect-compatible orchestration servers.

Names are imported on first use (PEP 562), so ``import orchnb`` costs almost nothing, and a process that
never talks to a server never loads an HTTP client.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchnb._version import __version__ as __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell  # noqa: TID251 - types only

    from orchnb.api.client import PrefectClient, SyncPrefectClient
    from orchnb.api.context import (
        ClientContext,
        FlowRunContext,
        TaskRunContext,
        client_injector,
        get_client,
        get_or_create_client,
        inject_client,
        use_app,
    )
    from orchnb.api.watch import watch
    from orchnb.asgi import ASGIApp
    from orchnb.errors import (
        AmbiguousReference,
        ClientClosed,
        ClientNotPicklable,
        FlowRunsFailed,
        FlowRunsNotChanged,
        FlowRunWaitTimeout,
        ForeignAddress,
        InvalidParameters,
        InvalidSetting,
        LifespanStartupFailed,
        ObjectAlreadyExists,
        ObjectNotFound,
        OperationNotFound,
        OrchnbError,
        OutcomeUnknown,
        PrefectHTTPStatusError,
        ReferenceNotFound,
        ResultNotAvailable,
        ServerNotConfigured,
        ServerStartFailed,
        ServingFailed,
        SourceNotFound,
        UnexpectedAnswer,
    )
    from orchnb.hosting.ephemeral import StartupEvent, observe_startup
    from orchnb.hosting.lifespan import app_lifespan_context
    from orchnb.http.clients import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
    from orchnb.http.response import PrefectResponse
    from orchnb.http.retry import RetryEvent, observe_retries
    from orchnb.notebook.serving import serve
    from orchnb.runtime.run import run
    from orchnb.server_type import ServerType, determine_server_type
    from orchnb.settings import Settings, get_settings, temporary_settings

__all__ = [
    "ASGIApp",
    "AmbiguousReference",
    "ClientClosed",
    "ClientContext",
    "ClientNotPicklable",
    "FlowRunContext",
    "FlowRunWaitTimeout",
    "FlowRunsFailed",
    "FlowRunsNotChanged",
    "ForeignAddress",
    "InvalidParameters",
    "InvalidSetting",
    "LifespanStartupFailed",
    "ObjectAlreadyExists",
    "ObjectNotFound",
    "OperationNotFound",
    "OrchnbError",
    "OutcomeUnknown",
    "PrefectClient",
    "PrefectHTTPStatusError",
    "PrefectHttpxAsyncClient",
    "PrefectHttpxSyncClient",
    "PrefectResponse",
    "ReferenceNotFound",
    "ResultNotAvailable",
    "RetryEvent",
    "ServerNotConfigured",
    "ServerStartFailed",
    "ServerType",
    "ServingFailed",
    "Settings",
    "SourceNotFound",
    "StartupEvent",
    "SyncPrefectClient",
    "TaskRunContext",
    "UnexpectedAnswer",
    "app_lifespan_context",
    "client_injector",
    "determine_server_type",
    "get_client",
    "get_or_create_client",
    "get_settings",
    "inject_client",
    "observe_retries",
    "observe_startup",
    "run",
    "serve",
    "temporary_settings",
    "use_app",
    "watch",
]

_HOMES = {
    "orchnb.api.client": ("PrefectClient", "SyncPrefectClient"),
    "orchnb.api.context": (
        "ClientContext",
        "FlowRunContext",
        "TaskRunContext",
        "client_injector",
        "get_client",
        "get_or_create_client",
        "inject_client",
        "use_app",
    ),
    "orchnb.api.watch": ("watch",),
    "orchnb.errors": (
        "AmbiguousReference",
        "FlowRunWaitTimeout",
        "FlowRunsFailed",
        "FlowRunsNotChanged",
        "ReferenceNotFound",
        "ResultNotAvailable",
        "ClientClosed",
        "ClientNotPicklable",
        "ForeignAddress",
        "InvalidParameters",
        "InvalidSetting",
        "LifespanStartupFailed",
        "ObjectAlreadyExists",
        "ObjectNotFound",
        "OperationNotFound",
        "OrchnbError",
        "OutcomeUnknown",
        "PrefectHTTPStatusError",
        "ServerNotConfigured",
        "ServerStartFailed",
        "ServingFailed",
        "SourceNotFound",
        "UnexpectedAnswer",
    ),
    "orchnb.http.clients": ("PrefectHttpxAsyncClient", "PrefectHttpxSyncClient"),
    "orchnb.http.response": ("PrefectResponse",),
    "orchnb.http.retry": ("RetryEvent", "observe_retries"),
    "orchnb.hosting.ephemeral": ("StartupEvent", "observe_startup"),
    "orchnb.asgi": ("ASGIApp",),
    "orchnb.hosting.lifespan": ("app_lifespan_context",),
    "orchnb.notebook.serving": ("serve",),
    "orchnb.runtime.run": ("run",),
    "orchnb.server_type": ("ServerType", "determine_server_type"),
    "orchnb.settings": ("Settings", "get_settings", "temporary_settings"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: InteractiveShell) -> None:
    """Load the extension; called by ``%load_ext orchnb``."""
    from orchnb.notebook.extension import load

    load(ipython, sys.modules[__name__])


def unload_ipython_extension(ipython: InteractiveShell) -> None:
    """Unload the extension; called by ``%unload_ext orchnb``."""
    from orchnb.notebook.extension import unload

    unload(ipython)
