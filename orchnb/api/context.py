"""The default client: client contexts and the notebook's clients.

In a notebook, a ContextVar that is set in a cell with ``await`` is lost when the cell ends, so the
notebook's clients are held by a session object instead of a context.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, ClassVar, Concatenate, Literal, TypeVar, cast, overload

from typing_extensions import ParamSpec, Self

from orchnb.api.client import PrefectClient, SyncPrefectClient, api_of
from orchnb.asgi import ASGIApp
from orchnb.event_loop import current_loop
from orchnb.hosting.ephemeral import give_app
from orchnb.http.concealing import concealed_options
from orchnb.observers import switch_observers
from orchnb.prefect_server.client_settings import settings_of_run
from orchnb.runtime.loops import home_loop, notebook_loop, on_notebook_thread
from orchnb.settings import EPHEMERAL, Settings, choose_for_session, get_settings

P = ParamSpec("P")
T = TypeVar("T")

_MOST_SETTINGS = 4
"""For how many different settings the notebook keeps clients open at once."""


class _Context:
    """A ``with`` block that code inside it, and tasks created there, can find with `get`."""

    _active: ClassVar[ContextVar[Any]]

    def __init_subclass__(cls) -> None:
        cls._active = ContextVar(cls.__name__, default=None)

    def __init__(self, *, client: PrefectClient | SyncPrefectClient) -> None:
        self.client = client
        self._tokens: list[Token[Any]] = []

    @classmethod
    def get(cls) -> Self | None:
        """Return the innermost active context of this kind, or None."""
        return cast("Self | None", cls._active.get())

    def __enter__(self) -> Self:
        self._tokens.append(self._active.set(self))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._active.reset(self._tokens.pop())


class ClientContext(_Context):
    """Make ``client`` the default within a ``with`` block. Does not open or close the client."""


class FlowRunContext(_Context):
    """The context of a flow run in progress that uses ``client``; ``flow_run`` can be None."""

    def __init__(self, *, client: PrefectClient | SyncPrefectClient, flow_run: Any = None) -> None:
        super().__init__(client=client)
        self.flow_run = flow_run


class TaskRunContext(_Context):
    """The context of a task run in progress that uses ``client``; ``task_run`` can be None."""

    def __init__(self, *, client: PrefectClient | SyncPrefectClient, task_run: Any = None) -> None:
        super().__init__(client=client)
        self.task_run = task_run


class NotebookSession:
    """The clients that a notebook keeps open from cell to cell, a pair for each of its settings."""

    def __init__(self) -> None:
        self._clients: list[tuple[Settings, PrefectClient | SyncPrefectClient]] = []

    def client(self, settings: Settings) -> PrefectClient:
        """Return the async client for these settings, opened if necessary. Does not wait."""
        found = self._find(settings, PrefectClient)
        if found is None:
            found = PrefectClient(api_of(settings), settings=settings)
            self._keep(settings, found)
        return found

    def sync_client(self, settings: Settings) -> SyncPrefectClient:
        """Return the sync client for these settings, opened if necessary. Does not wait."""
        found = self._find(settings, SyncPrefectClient)
        if found is None:
            found = SyncPrefectClient(api_of(settings), settings=settings)
            self._keep(settings, found)
        return found

    def close(self) -> list[Coroutine[Any, Any, None]]:
        """Close all clients; return the coroutines that must still run on the async ones' event loop."""
        clients, self._clients = self._clients, []
        left = [client.close_for_good() for _, client in clients]
        return [closing for closing in left if closing is not None]

    def _find(self, settings: Settings, kind: type[T]) -> T | None:
        for known, client in self._clients:
            if isinstance(client, kind) and known == settings and not client.is_closed:
                client.renew_start()
                return client
        return None

    def _keep(self, settings: Settings, client: PrefectClient | SyncPrefectClient) -> None:
        client.open()
        self._clients = [(s, c) for s, c in self._clients if not c.is_closed]
        self._clients.append((settings, client))
        if len(self._clients) > 2 * _MOST_SETTINGS:
            # Dropped, not closed: cells may still use it. It closes when it is garbage-collected.
            self._clients.pop(0)


_session: NotebookSession | None = None


def notebook_session() -> NotebookSession | None:
    """Return the notebook's session in code that runs in a cell, else None. Created on first use.

    The process counts as a notebook once ``set_notebook_loop`` has been called, see
    `orchnb.runtime.loops`.
    """
    global _session
    if not on_notebook_thread():
        return None
    if _session is None:
        _session = NotebookSession()
    return _session


def end_notebook_session() -> NotebookSession | None:
    """Forget the session and return it, if there was one. The caller must close it."""
    global _session
    session, _session = _session, None
    return session


def close_notebook_clients() -> None:
    """Close the notebook's clients, if any. The async clients' connections close right after the cell.

    The next `get_client` in a cell opens new ones.
    """
    session = end_notebook_session()
    if session is not None:
        for left in session.close():
            _finish(left)


def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run the coroutine. Cells cannot wait for it: on a running event loop it runs at the next yield."""
    loop = notebook_loop()
    if loop is not None and loop.is_running():
        task = loop.create_task(coroutine)
        _closing.add(task)
        task.add_done_callback(_closing.discard)
    elif loop is not None and not loop.is_closed():
        loop.run_until_complete(coroutine)
    else:
        coroutine.close()


# asyncio itself keeps only weak references to tasks.
_closing: set[asyncio.Task[None]] = set()


def use_app(app: ASGIApp | None, *, api_path: str = "/api") -> None:
    """Use an ASGI app as the in-kernel server from now on, instead of Prefect's.

    Like any in-kernel server it starts at the first request. `get_client` returns a client for it, and
    ``client.operations`` holds its routes if it describes them. Another call, as when a cell is run
    again, replaces the app and closes the notebook's clients of the old one. None undoes it: the
    settings apply again.

    Args:
        api_path: the prefix of request paths, as on Prefect's server; empty for an app whose routes are
            at the root.

    Raises:
        TypeError: ``app`` is not an ASGI app.
        ValueError: ``api_path`` is neither empty nor a path.
    """
    name = None if app is None else give_app(app, api_path)
    if name is None:
        choose_for_session({}, "")
    else:
        choose_for_session({**EPHEMERAL, "ephemeral_app": name}, "orchnb.use_app")
    switch_observers.tell(None)
    close_notebook_clients()


@overload
def get_client(
    httpx_settings: Mapping[str, Any] | None = None, sync_client: Literal[False] = False
) -> PrefectClient: ...
@overload
def get_client(
    httpx_settings: Mapping[str, Any] | None = None, *, sync_client: Literal[True]
) -> SyncPrefectClient: ...
@overload
def get_client(
    httpx_settings: Mapping[str, Any] | None, sync_client: Literal[True]
) -> SyncPrefectClient: ...
@overload
def get_client(
    httpx_settings: Mapping[str, Any] | None = None, sync_client: bool = False
) -> PrefectClient | SyncPrefectClient: ...
def get_client(
    httpx_settings: Mapping[str, Any] | None = None, sync_client: bool = False
) -> PrefectClient | SyncPrefectClient:
    """Return the client for the current settings.

    In a notebook cell: the notebook's own client, already open, the same object in every cell.
    Elsewhere: the client of the active `ClientContext` if it belongs to this event loop, else a new one,
    which must be opened with ``async with`` (``with`` for the sync client). With ``httpx_settings``
    (arguments for httpx's client): always a new one.

    Raises:
        InvalidSetting: the settings cannot be read.
        ServerNotConfigured: no API URL is set, and an in-kernel server is not allowed.
    """
    kind = SyncPrefectClient if sync_client else PrefectClient
    if httpx_settings is not None:
        httpx_settings = concealed_options(httpx_settings)
    else:
        context = ClientContext.get()
        if context is not None and isinstance(context.client, kind) and _lives_here(context.client):
            return context.client
        session = notebook_session()
        if session is not None:
            settings = get_settings()
            return session.sync_client(settings) if sync_client else session.client(settings)
    settings = get_settings()
    return kind(api_of(settings), httpx_settings=httpx_settings, settings=settings)


def get_or_create_client(client: PrefectClient | None = None) -> tuple[PrefectClient, bool]:
    """Return the default client, and whether it was given or found rather than created.

    ``client`` itself if given; else the first that belongs to the running event loop among the active
    `ClientContext`, `FlowRunContext` and `TaskRunContext`, and the notebook's client; else a new one,
    which the caller must open. In a flow or task run of Prefect's, the last two are for the server of
    that run.

    Raises:
        InvalidSetting: a new one is needed, and the settings cannot be read.
        ServerNotConfigured: a new one is needed, and there is nothing to connect to.
    """
    if client is not None:
        return client, True
    for kind in (ClientContext, FlowRunContext, TaskRunContext):
        context = kind.get()
        if (
            context is not None
            and isinstance(context.client, PrefectClient)
            and _lives_here(context.client)
        ):
            return context.client, True
    settings = settings_of_run()
    session = notebook_session()
    if session is not None and current_loop() is not None:
        return session.client(settings), True
    return PrefectClient(api_of(settings), settings=settings), False


def client_injector(
    function: Callable[Concatenate[PrefectClient, P], Awaitable[T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Pass a client to an async function as its first argument; callers leave it out.

    A client found by `get_or_create_client` is used as it is; a new one is opened and closed around the
    call.
    """

    @functools.wraps(function)
    async def with_client(*args: P.args, **kwargs: P.kwargs) -> T:
        client, inferred = get_or_create_client()
        if inferred:
            return await function(client, *args, **kwargs)
        async with client:
            return await function(client, *args, **kwargs)

    return with_client


def inject_client(
    function: Callable[P, Awaitable[T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Pass an async function, or any function that returns an awaitable, a ``client`` argument if the
    caller does not.

    A client that is given, or found by `get_or_create_client`, is used as it is; a new one is opened
    and closed around the call. ``client=None`` counts as not given.

    Raises:
        TypeError: at decoration, if the function takes no ``client``.
    """
    signature = inspect.signature(function)
    takes_client = any(
        parameter.kind is parameter.VAR_KEYWORD
        or (parameter.name == "client" and parameter.kind is not parameter.POSITIONAL_ONLY)
        for parameter in signature.parameters.values()
    )
    if not takes_client:
        raise TypeError(
            "inject_client is for functions with a `client` argument; "
            f"{getattr(function, '__qualname__', function)} has none"
        )

    @functools.wraps(function)
    async def with_client(*args: P.args, **kwargs: P.kwargs) -> T:
        given = kwargs.pop("client", None)
        arguments = signature.bind_partial(*args, **kwargs).arguments
        if arguments.get("client") is not None:  # given by position
            return await function(*args, **kwargs)
        client, inferred = get_or_create_client(cast("PrefectClient | None", given))
        if "client" in arguments:  # None, by position
            position = list(signature.parameters).index("client")
            args = cast("Any", (*args[:position], client, *args[position + 1 :]))
        else:
            kwargs["client"] = client
        if inferred:
            return await function(*args, **kwargs)
        async with client:
            return await function(*args, **kwargs)

    return with_client


def _lives_here(client: PrefectClient | SyncPrefectClient) -> bool:
    if client.is_closed:
        return False
    if isinstance(client, SyncPrefectClient):
        return True
    return client.loop is not None and client.loop is home_loop()
