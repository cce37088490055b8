"""Which client is meant where none is named: contexts, and the notebook's own clients.

In a notebook a ContextVar that is set in a cell with ``await`` is lost when the cell ends, so the
notebook's clients are held by a session object and not by a context.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, ClassVar, Literal, TypeVar, cast, overload

from typing_extensions import ParamSpec, Self

from orchnb.api.client import PrefectClient, SyncPrefectClient, api_of
from orchnb.event_loop import current_loop
from orchnb.http.concealing import concealed_options
from orchnb.observers import switch_observers
from orchnb.runtime.ephemeral import give_app
from orchnb.runtime.lifespan import ASGIApp
from orchnb.runtime.loops import home_loop, notebook_loop, on_notebook_thread
from orchnb.settings import EPHEMERAL, Settings, choose_for_session, get_settings

P = ParamSpec("P")
T = TypeVar("T")

_MOST_SETTINGS = 4
"""For so many different settings at once the notebook keeps clients open."""


class _Context:
    """A plain ``with`` block that makes itself findable within it, and within tasks made there."""

    _active: ClassVar[ContextVar[Any]]

    def __init_subclass__(cls) -> None:
        cls._active = ContextVar(cls.__name__, default=None)

    def __init__(self, *, client: PrefectClient | SyncPrefectClient) -> None:
        self.client = client
        self._tokens: list[Token[Any]] = []

    @classmethod
    def get(cls) -> Self | None:
        """The innermost active context of this kind, or None."""
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
    """Within it, ``client`` is the one that is meant. It neither opens nor closes it."""


class FlowRunContext(_Context):
    """Within it, a flow run is under way that uses ``client``; ``flow_run`` may be None."""

    def __init__(self, *, client: PrefectClient | SyncPrefectClient, flow_run: Any = None) -> None:
        super().__init__(client=client)
        self.flow_run = flow_run


class TaskRunContext(_Context):
    """Within it, a task run is under way that uses ``client``; ``task_run`` may be None."""

    def __init__(self, *, client: PrefectClient | SyncPrefectClient, task_run: Any = None) -> None:
        super().__init__(client=client)
        self.task_run = task_run


class NotebookSession:
    """The clients that a notebook keeps open from cell to cell, one pair for each of its settings."""

    def __init__(self) -> None:
        self._clients: list[tuple[Settings, PrefectClient | SyncPrefectClient]] = []

    def client(self, settings: Settings) -> PrefectClient:
        """The open async client for these settings, opened if need be. It does not wait."""
        found = self._find(settings, PrefectClient)
        if found is None:
            found = PrefectClient(api_of(settings), settings=settings)
            self._keep(settings, found)
        return found

    def sync_client(self, settings: Settings) -> SyncPrefectClient:
        """The open sync client for these settings, opened if need be. It does not wait."""
        found = self._find(settings, SyncPrefectClient)
        if found is None:
            found = SyncPrefectClient(api_of(settings), settings=settings)
            self._keep(settings, found)
        return found

    def close(self) -> list[Coroutine[Any, Any, None]]:
        """Close all clients. What is left to do on the async ones' loop is returned, to be run there."""
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
            # Let go, not closed: cells may hold it still. It is closed when they do not.
            self._clients.pop(0)


_session: NotebookSession | None = None


def notebook_session() -> NotebookSession | None:
    """The notebook's session, made at its first use, where code runs in a cell; else None.

    A notebook is there from ``set_notebook_loop`` on, see `orchnb.runtime.loops`.
    """
    global _session
    if not on_notebook_thread():
        return None
    if _session is None:
        _session = NotebookSession()
    return _session


def end_notebook_session() -> NotebookSession | None:
    """Forget the session and return it, to be closed, if there was one."""
    global _session
    session, _session = _session, None
    return session


def close_notebook_clients() -> None:
    """Close the notebook's clients, if there are any; the async ones' connections right after the cell.

    The next `get_client` in a cell opens new ones.
    """
    session = end_notebook_session()
    if session is not None:
        for left in session.close():
            _finish(left)


def _finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Cells cannot wait for it: on a running loop it is done as soon as the cell gives way."""
    loop = notebook_loop()
    if loop is not None and loop.is_running():
        task = loop.create_task(coroutine)
        _closing.add(task)
        task.add_done_callback(_closing.discard)
    elif loop is not None and not loop.is_closed():
        loop.run_until_complete(coroutine)
    else:
        coroutine.close()


# asyncio itself holds tasks weakly.
_closing: set[asyncio.Task[None]] = set()


def use_app(app: ASGIApp | None, *, api_path: str = "/api") -> None:
    """Have an ASGI app be the server in this process from now on, in place of Prefect's.

    It is started at the first request, as any server in this process; `get_client` gives a client of
    it, and ``client.operations`` holds its routes if it describes them. Given anew, as when a cell is
    run again, the new app takes the place of the old one, whose clients in the notebook are closed.
    None takes it back: what the settings say holds again.

    Args:
        api_path: what the paths of requests begin with, as they do on Prefect's server; empty for an
            app whose routes are at the root.

    Raises:
        TypeError: it is no ASGI app.
        ValueError: ``api_path`` is neither empty nor a path.
    """
    name = None if app is None else give_app(app, api_path)
    switch_observers.tell(None)
    if name is None:
        choose_for_session({}, "")
    else:
        choose_for_session({**EPHEMERAL, "ephemeral_app": name}, "orchnb.use_app")
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
    """The client for the current settings.

    In a notebook's cell: the notebook's own, open already, the same object in every cell. Elsewhere:
    the client of the active `ClientContext` if it lives on this loop, else a new one, to be opened
    with ``async with`` (``with`` for the sync one). With ``httpx_settings``, arguments for httpx's
    client, always a new one.

    Raises:
        InvalidSetting: the settings cannot be read.
        ServerNotConfigured: no API URL is set, and a server in this process is not allowed.
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
    """The client that is meant here, and whether it was given or found rather than made.

    ``client`` itself if given; else the first that lives on the running loop of the active
    `ClientContext`, `FlowRunContext` and `TaskRunContext`, and the notebook's client; else a new
    one, which is for the caller to open.

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
    settings = get_settings()
    session = notebook_session()
    if session is not None and current_loop() is not None:
        return session.client(settings), True
    return PrefectClient(api_of(settings), settings=settings), False


def inject_client(
    function: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Give an async function its ``client`` argument when the caller does not.

    A client that is given, or found by `get_or_create_client`, is used and left as it is; a new one
    is opened and closed around the call. ``client=None`` counts as not given.

    Raises:
        TypeError: at decoration, if the function is not async or takes no ``client``.
    """
    signature = inspect.signature(function)
    takes_client = any(
        parameter.kind is parameter.VAR_KEYWORD
        or (parameter.name == "client" and parameter.kind is not parameter.POSITIONAL_ONLY)
        for parameter in signature.parameters.values()
    )
    if not inspect.iscoroutinefunction(function) or not takes_client:
        raise TypeError(
            f"inject_client is for async functions with a `client` argument; "
            f"{getattr(function, '__qualname__', function)} is not one"
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
