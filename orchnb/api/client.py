"""The two clients of the orchestration API."""

from __future__ import annotations

import base64
import ipaddress
import math
import re
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import cached_property, partial
from types import TracebackType
from typing import Any, ClassVar, Literal, NoReturn, TypeVar

import anyio
import httpx
from typing_extensions import Self

from orchnb._version import __version__
from orchnb.api.event_stream import (
    LEAVE_THE_WAY,
    SUBPROTOCOL,
    Hints,
    Listen,
    RemoteHints,
    can_listen,
    event_headers,
    first_messages,
    hinted_run,
    stream_url,
    token_of,
)
from orchnb.api.models.base import ModelList
from orchnb.api.operations import Operations
from orchnb.api.server_document import find_operations, servers_limit
from orchnb.api.unsupported import or_unsupported
from orchnb.api.wrong_address import find_api, is_suspicious, looks_wrong
from orchnb.asgi import ASGIApp
from orchnb.concealed import ConcealedText, concealed, concealed_url
from orchnb.credentials import withheld, without_withheld
from orchnb.errors import (
    ClientClosed,
    ForeignAddress,
    OrchnbError,
    PrefectHTTPStatusError,
    ServerNotConfigured,
    UnexpectedAnswer,
)
from orchnb.event_loop import Loop, is_closed
from orchnb.forks import in_forked_child
from orchnb.hosting.ephemeral import EphemeralApp, ephemeral_app, host_app
from orchnb.hosting.host import HostedApp, on_host_thread
from orchnb.hosting.transport import HostedTransport
from orchnb.hosting.web_socket import HostedSocket
from orchnb.http.calls import Call, LongSteps, Steps, Work, explain_close, explain_silence, filled
from orchnb.http.certificates import ssl_context_for, trusted
from orchnb.http.clients import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from orchnb.http.concealing import BasicAuth, concealed_options
from orchnb.http.connections import refuse_pickle
from orchnb.http.effects import Sleep, WaitControl, drive, drive_async
from orchnb.http.header_check import check_client_headers
from orchnb.http.json_values import plain_json
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import IDEMPOTENT_METHODS, ONCE
from orchnb.openapi.discovery import FoundDescription
from orchnb.openapi.namespace import AsyncOperations, SyncOperations
from orchnb.redaction import IN_PROCESS_HOST, redact_url, shown_url
from orchnb.runs.operations import RunOperations
from orchnb.runtime.bounded import within
from orchnb.runtime.interrupts import deferred_interrupts
from orchnb.runtime.loops import home_loop, notebook_loop, on_notebook_thread
from orchnb.server_type import ServerType, determine_server_type, server_type_of_url
from orchnb.settings import Settings, get_settings

T = TypeVar("T")

API_VERSION = "0.8.4"
"""The version of the API that the operations are written for, as in Prefect's client."""

_PATIENCE = 15.0
"""How many seconds plain code waits at most instead of an event loop. A new Prefect server can take 6."""

_LIMITS = httpx.Limits(max_connections=16, max_keepalive_connections=8, keepalive_expiry=25)
"""As in Prefect's client. Prefect Cloud keeps an idle connection for 30 s."""

_MOST_STREAMS = 4
"""Event streams of one client that are open at a time; waits beyond them only poll."""

_CLOSED = "This client was closed and cannot be opened again; get a new one with get_client()"
_FORKED = (
    "This client uses the server in the process that this one was forked from. Get a new client "
    "here with get_client(), which starts an in-kernel server. To use the parent's server, run "
    "%orch_serve there, and start this process with spawn instead of fork."
)
_TAKES_AN_AWAIT = "This needs an await here: `await client.operations.load()` first"


class _ApiClient(Operations, RunOperations):
    """The common base of the two clients: where the API is, and whether the client can be used now."""

    is_async: ClassVar[bool]

    # A client whose __init__ failed needs a repr too.
    api_url: str = ""
    server_type: ServerType | None = None
    _app: ASGIApp | None = None
    _closed = False
    _address_problem: str | None = None
    """What is wrong with the API URL; None: unknown, as no error has pointed to it."""
    _described: FoundDescription | None = None
    _is_undescribed = False
    _depth = 0
    _http: PrefectHttpxAsyncClient | PrefectHttpxSyncClient | None = None

    def __init__(
        self,
        api: str | ASGIApp,
        *,
        api_key: str | None = None,
        auth_string: str | None = None,
        api_version: str | None = None,
        httpx_settings: Mapping[str, Any] | None = None,
        settings: Settings | None = None,
    ) -> None:
        api_key, auth_string = concealed(api_key), concealed(auth_string)
        httpx_settings = concealed_options(httpx_settings or {})
        check_client_headers(httpx_settings.get("headers"))
        if isinstance(api, str):
            api = concealed_url(api)
        self.settings: Settings = settings or get_settings()
        self._withheld: dict[str, str] = {}
        if isinstance(api, str):
            if api != self.settings.api_url:  # else it was checked already
                api = Settings(api_url=api).api_url or ""
            if api == self.settings.api_url:
                self._withheld = withheld(self.settings)
                self.settings = without_withheld(self.settings)
            self.api_url = api
            self.server_type = server_type_of_url(
                self.api_url, cloud_api_url=self.settings.cloud_api_url
            )
        elif callable(api):
            self._app = api
            api_path = api.api_path if isinstance(api, EphemeralApp) else "/api"
            self.api_url = f"http://{IN_PROCESS_HOST}{api_path}"
            self.server_type = ServerType.EPHEMERAL
        else:
            raise TypeError(f"api should be a URL or an ASGI app; {type(api).__name__} is neither")
        self._httpx_settings = httpx_settings
        self._credentials = _credentials(self.settings, self.server_type, api_key, auth_string)
        self._api_version = API_VERSION if api_version is None else api_version
        self._limit: int | None = None
        self._hosted: HostedApp | None = None
        self._lock = threading.RLock()
        self._streams: set[Hints] = set()
        self._why_closed = _CLOSED
        in_forked_child(self._after_fork)

    def __reduce__(self) -> NoReturn:
        refuse_pickle(self)

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a thread of the parent may have held it
        self._streams = set()
        if self._hosted is not None:
            self._hosted = None
            self._closed = True
            self._why_closed = _FORKED

    @property
    def is_closed(self) -> bool:
        """Whether it was closed; it cannot be opened again."""
        return self._closed

    @property
    def _place(self) -> str:
        """A description of the server."""
        if self.server_type is ServerType.EPHEMERAL:
            return "the in-kernel server"
        return redact_url(self.api_url)

    def _find_operations(
        self, refresh: bool = False
    ) -> Generator[Call[Any], Any, FoundDescription]:
        return find_operations(self.api_url, self._app, refresh=refresh)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "not opened yet" if self._http is None else "open"
        place = getattr(self._app, "title", None) or redact_url(self.api_url)
        return f"<{type(self).__name__} {self.server_type}: {place} ({state})>"

    def open(self) -> None:
        """Open the client without waiting for an in-process app to start: requests wait for it.

        Call ``close`` once for each ``open``.

        Raises:
            ClientClosed: it was closed before.
            InvalidSetting: the certificates that the settings name cannot be used.
        """
        self._open(1)

    def _open(self, depth: int) -> None:
        """Connect, and count ``depth`` more calls of `open`."""
        with self._lock:
            before, was_connected = self._depth, self._http is not None
            try:
                with deferred_interrupts():
                    self._refuse_closed()
                    if not was_connected:
                        self._connect(self._http_options())
                    self.renew_start()
                    self._depth += depth
            except BaseException:  # includes an interrupt, which was deferred until it was open
                self._depth = before
                if not was_connected:
                    self._release()
                    self._http = None
                raise

    def _connect(self, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def client_version(self) -> str:
        """Return the version of orchnb."""
        return __version__

    @property
    def ui_url(self) -> str | None:
        """The URL of the server's web pages, without a slash at the end; None if it is not known.

        Behind a hub, the pages of an in-kernel server are a path on the notebook's host.
        """
        if isinstance(self._app, EphemeralApp):
            return self._app.pages_url
        if self.settings.ui_url and self.api_url == self.settings.api_url:
            return self.settings.ui_url.rstrip("/")
        url = httpx.URL(self.api_url).copy_with(userinfo=b"", query=None, fragment=None)
        if self.server_type is ServerType.SERVER:
            return str(url).removesuffix("/api")
        workspace = re.fullmatch(r"/api/accounts/([\w-]+)/workspaces/([\w-]+)", url.path)
        if self.server_type is ServerType.CLOUD and url.host == "api.prefect.cloud" and workspace:
            account, name = workspace.groups()
            return f"https://app.prefect.cloud/account/{account}/workspace/{name}"
        return None

    def _read(self, call: Call[Any], response: httpx.Response) -> Any:
        result = call.read(response)  # type: ignore[arg-type] # our clients return this type
        if isinstance(result, ModelList):
            result.ui_url = self.ui_url
        return result

    def _with_cut(self, steps: LongSteps[T]) -> Generator[Call[Any] | Sleep, Any, T]:
        """Make the calls; for a list without its own limit, find out whether it was cut. The server's
        limit is read once."""
        result: T = yield from steps
        if isinstance(result, ModelList) and result.limit_is_servers:
            if self._limit is None:
                self._limit = yield from servers_limit()
            result.decide_cut(self._limit)
        return result

    def _path(self, path: str) -> str:
        elsewhere = re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//", path)
        if elsewhere and not path.startswith(f"{self.api_url}/"):
            raise ForeignAddress(
                f"{redact_url(path)} is not below the API's address, {shown_url(self.api_url)}: give "
                "a path such as '/flows/filter'"
            )
        return path

    def _exit(self) -> bool:
        """Undo one ``open``; return whether it was the last."""
        with deferred_interrupts(), self._lock:
            if self._depth == 0 and (self._closed or self._http is None):
                return False
            self._depth = max(0, self._depth - 1)
            self._closed = self._depth == 0
            return self._closed

    def _end(self) -> HostedApp | None:
        """Close it, however often it was opened; return the in-process app to wait for."""
        with deferred_interrupts(), self._lock:
            self._depth = 0
            self._closed = True
            return self._release()

    def renew_start(self) -> None:
        """Start an in-process app again if it failed to start or has stopped, without waiting for it.

        The cause may have been fixed. Each request does this too.
        """
        hosted = self._hosted
        if hosted is None or hosted.is_up or hosted.closed or not hosted.started.done():
            return
        with deferred_interrupts(), self._lock:
            if self._hosted is hosted and self._app is not None:
                hosted.close()
                self._hosted = self._lease(self._app)

    def announce_wait(self) -> None:
        """Notify observers of an in-process app's start as if the calling code waited for it."""
        if (hosted := self._hosted) is not None:
            hosted.announce_wait()

    def _renewed(self) -> HostedApp | None:
        self.renew_start()
        return self._hosted

    def _lease(self, app: ASGIApp) -> HostedApp:
        hosted = host_app(app)
        # A client that is never closed releases the app when it is garbage-collected.
        weakref.finalize(self, hosted.close).atexit = False
        return hosted

    def _release(self) -> HostedApp | None:
        """End the requests in progress, release the in-process app, if there is one, and return it: the
        caller must wait for it."""
        while self._streams:
            self._streams.pop().close()
        if self._http is not None:
            self._http.end_requests()
        hosted, self._hosted = self._hosted, None
        if hosted is not None:
            hosted.close()
        return hosted

    @property
    def _is_own(self) -> bool:
        """Whether the server is in this process or on this machine."""
        return self._app is not None or _is_loopback(httpx.URL(self.api_url).host)

    def _listen(self, call: Listen) -> Hints | None:
        """Open the event stream, if this client can and has few of them: without one, polling does."""
        self._streams = {each for each in self._streams if not each.is_closed}
        if len(self._streams) >= _MOST_STREAMS or self._closed or self._http is None:
            return None
        stream: Hints
        headers = event_headers(self._http)
        token = token_of(headers)
        if self._hosted is not None:
            is_prefects = isinstance(self._app, EphemeralApp) and self._app.is_prefect
            if not is_prefects or not self._hosted.is_up:
                return None
            stream = HostedSocket(
                self._hosted,
                "/api/events/out",
                subprotocol=SUBPROTOCOL,
                headers=[(name.encode(), value.encode()) for name, value in headers.items()],
                first=first_messages(call, token),
                receive=lambda text: (run_id := hinted_run(text)) and call.hint(run_id),
            )
        elif can_listen() and not self._httpx_settings.keys() - LEAVE_THE_WAY:
            verify: Any = not self.settings.api_tls_insecure_skip_verify
            if verify and self.settings.api_ssl_cert_file is not None:
                verify = _trust(self.settings)
            is_secure = self.api_url.startswith("https:")
            stream = RemoteHints(
                stream_url(self.api_url),
                headers=headers,
                context=ssl_context_for({"verify": verify}) if is_secure else None,
                first=lambda: first_messages(call, token),
                hint=call.hint,
            )
        else:
            return None
        self._streams.add(stream)
        return stream

    def _refuse_unusable(self) -> None:
        """Raise `ClientClosed` if it was closed, or must be opened first."""
        self._refuse_closed()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ClientClosed(self._why_closed)

    def _look_for_api(self, error: Exception) -> Generator[Call[Any], Any, None]:
        """Find out, once, whether an error comes from a wrong API URL."""
        if self._address_problem is not None or self._app is not None or not is_suspicious(error):
            return
        is_cloud = self.server_type is ServerType.CLOUD
        self._address_problem = ""
        if looks_wrong(self.api_url, is_cloud=is_cloud):
            self._address_problem = yield from find_api(self.api_url, is_cloud=is_cloud)

    def _find_described(self) -> Generator[Call[Any], Any, FoundDescription]:
        """Get the server's description for an error, once: it is large.

        Raises:
            UnexpectedAnswer: the response is not an OpenAPI document.
            PrefectHTTPStatusError: there is no document, or the server refuses the request.
        """
        if self._address_problem or (self._is_undescribed and self._described is None):
            raise UnexpectedAnswer(
                self._address_problem or "The server does not describe its operations"
            )
        if self._described is None:
            self._is_undescribed = True
            try:
                self._described = yield from self._find_operations()
            except PrefectHTTPStatusError as exc:
                self._is_undescribed = exc.status_code in (404, 405)
                raise
            except httpx.HTTPError:
                self._is_undescribed = False
                raise
        return self._described

    def _explained(self, call: Call[Any], error: PrefectHTTPStatusError) -> PrefectHTTPStatusError:
        if self._address_problem and is_suspicious(error):
            error.hint = self._address_problem
            return error
        explained = call.explain(error)
        if explained.status_code in (401, 403) and self._withheld:
            explained.hint = " ".join([*self._withheld.values(), explained.hint]).strip()
        return explained

    def _raise_closed(self, error: ClientClosed, look: str = "") -> NoReturn:
        explained = explain_close(error, look)
        raise explained from (error.__cause__ if explained is error else error)

    def _perform_briefly(self, steps: Steps[T]) -> T:
        """Make an operation's calls once, from plain code, within `_PATIENCE` seconds in total.

        Raises:
            ClientClosed: this client is not open.
            RuntimeError: this client cannot be used in plain code here.
            httpx.TimeoutException: there was no result in time.
        """
        twin = self._brief_twin()
        return twin._within(_PATIENCE, lambda: twin.perform(steps))

    def _brief_twin(self) -> SyncPrefectClient:
        """Return a sync client of the same API for short reads in plain code: one try, short time-outs.

        Raises:
            ClientClosed: this client is not open.
            RuntimeError: this client cannot be used in plain code here.
        """
        self._refuse_unusable()
        if self._app is not None and on_host_thread():
            raise RuntimeError(_TAKES_AN_AWAIT)
        options = {**self._httpx_settings, "timeout": _PATIENCE}
        # An async client's hooks and sleep are coroutine functions; its policy may wait for a long time.
        for name in ("event_hooks", "sleep", "retry_policy"):
            options.pop(name, None)
        if options.get("transport") is not None:
            options["transport"] = _lent(options["transport"])
        if options.get("mounts"):
            options["mounts"] = {
                pattern: mounted and _lent(mounted)
                for pattern, mounted in options["mounts"].items()
            }
        twin = SyncPrefectClient(
            self._app or self.api_url,
            api_version=self._api_version,
            httpx_settings=options,
            settings=self.settings.model_copy(update={"client_max_retries": 0}),
        )
        twin._credentials = self._credentials
        return twin

    def _http_options(self) -> dict[str, Any]:
        """Return httpx's arguments: ours, overridden by the user's ``httpx_settings``."""
        settings = self.settings
        options: dict[str, Any] = {
            **_address(self.api_url),
            "timeout": settings.api_request_timeout,
            "settings": settings,
            "enable_csrf_support": self.server_type is not ServerType.CLOUD
            and settings.client_csrf_support_enabled,
        }
        if self._app is not None:
            self._hosted = self._lease(self._app)
            # A weak reference: a cycle would delay the release of the app when the client is dropped.
            renewed = weakref.WeakMethod(self._renewed)
            options["transport"] = HostedTransport(lambda: (method := renewed()) and method())
        else:
            options["http2"] = settings.api_enable_http2
            options["limits"] = _LIMITS
            if settings.api_tls_insecure_skip_verify:
                options["verify"] = False
            elif settings.api_ssl_cert_file is not None:
                options["verify"] = _trust(settings)
        options.update(self._httpx_settings)
        options["headers"] = httpx.Headers(self._credentials)
        options["headers"]["X-PREFECT-API-VERSION"] = self._api_version
        if self._app is not None:  # compression within the process would only take time
            options["headers"]["accept-encoding"] = "identity"
        options["headers"].update(self._httpx_settings.get("headers"))
        return options


class PrefectClient(_ApiClient):
    """The async client of the orchestration API.

    Open it with ``async with``; in a notebook, ``get_client()`` returns an open one. It can be entered
    again while it is open; once closed, it stays closed. It works on every event loop and in every
    thread, with separate connections for each loop.

    Args:
        api: the API's URL, or an ASGI app, which runs in this process while the client is open.
        api_key: for Prefect Cloud; by default from the settings.
        auth_string: ``user:password`` for your own server; by default from the settings.
        api_version: the version of the API to request, in the header ``X-PREFECT-API-VERSION``.
        httpx_settings: arguments of ``httpx.AsyncClient`` that override ours.
        settings: by default the current ones.

    Raises:
        InvalidSetting: ``api`` is not a URL, or the settings cannot be read.
    """

    is_async: ClassVar[Literal[True]] = True
    loop: Loop | None = None
    """The event loop it was first used on; None before. `get_or_create_client` returns it there."""

    _http: PrefectHttpxAsyncClient | None = None

    @cached_property
    def operations(self) -> AsyncOperations:
        """Every operation in the server's OpenAPI document, in groups, with tab completion."""
        return AsyncOperations(self, self._place)

    async def __aenter__(self) -> Self:
        self._refuse_closed()
        self.open()
        self._settle_here()
        try:
            if self._hosted is not None:
                await self._hosted.wait_started_async()
        except BaseException:
            await self.close()
            raise
        return self

    def __enter__(self) -> NoReturn:
        """Raise: an async client is opened with ``async with``."""
        raise RuntimeError(
            "PrefectClient is async: write `async with`, not `with`; or use SyncPrefectClient, "
            "orchnb.get_client(sync_client=True), which needs no await"
        )

    def __exit__(self, *exc_info: object) -> None:
        """Exist for `__enter__`: Python looks for both."""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _connect(self, options: dict[str, Any]) -> None:
        self._http = PrefectHttpxAsyncClient(**options)

    async def close(self) -> None:
        """Undo one `open`; the last one closes the connections and releases an in-process app."""
        if not self._exit():
            return
        hosted = self._release()
        try:
            if self._http is not None:
                await self._http.aclose()
        finally:
            if hosted is not None:
                await hosted.wait_closed_async()

    def close_for_good(self) -> Coroutine[Any, Any, None] | None:
        """Close it from plain code, however often it was opened: for the end of a notebook's session.

        Wait until an in-process app has stopped. Return the coroutine that closes the connections, which
        must run on the client's loop; None without connections.
        """
        hosted = self._end()
        if hosted is not None:
            hosted.wait_closed()
        if self._http is None or self._app is not None:
            return None
        return self._http.aclose()

    async def perform(self, steps: LongSteps[T], operation: str = "") -> T:
        """Make an operation's calls and return its result.

        Raises:
            OperationNotFound: the server does not have the operation named ``operation``.
        """
        if operation:
            steps = or_unsupported(steps, operation, self.api_url, self._find_described)
        steps = self._with_cut(steps)
        return await drive_async(iter(steps), partial(self._call, operation=operation))

    async def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        path_params: Mapping[str, Any] | None = None,
        *,
        repeatable: bool | None = None,
        **kwargs: Any,
    ) -> httpx.Response:
        """Send any request to the API, like httpx's ``request``; ``path`` is below the API's URL.

        Args:
            params: the query.
            path_params: values for the names in braces in the path, such as ``/flows/{id}``.
            repeatable: whether the request can be sent again if its response is lost, so that the server
                may have acted. By default the method decides: not a ``POST`` or ``PATCH``, unless it only
                reads, such as ``POST /flows/filter``.

        Raises:
            ForeignAddress: ``path`` is an address elsewhere, which must not receive our credentials.
            ClientClosed: the client was closed, before or in the meantime.
            OutcomeUnknown: there was no response, the server may have acted, and the request is not
                ``repeatable`` (RFC 9110, 9.2.2), so it was not sent again.
        """
        path, kwargs = _with_params(path, params, path_params, kwargs)
        params = path_params = None  # they may hold secrets
        try:
            options = _request_options(method, path, kwargs, repeatable)
            return await self._usable().request(method, self._path(path), **options)
        except httpx.TransportError as exc:
            explained = explain_silence(exc)
            if explained is exc:
                raise
            raise explained from exc
        except ClientClosed as exc:
            self._raise_closed(exc)

    async def _call(self, call: Call[Any] | Sleep, operation: str) -> Any:
        if isinstance(call, Sleep):
            if call.control is not None:
                await call.control.asleep_anywhere(call.seconds)
            else:
                await anyio.sleep(call.seconds)
            return None
        if isinstance(call, Listen):
            return self._listen(call)
        if isinstance(call, Work):
            function, is_own = call.function, self._is_own
            return await anyio.to_thread.run_sync(lambda: function(is_own), abandon_on_cancel=True)
        try:
            options = call.options(operation)
            response = await self._usable().request(call.method, call.path, **options)
        except PrefectHTTPStatusError as exc:
            if call.has_been_done(exc):
                return None
            await drive_async(self._look_for_api(exc), self._ask)
            raise self._explained(call, exc) from None
        except httpx.TransportError as exc:
            explained = explain_silence(exc, call.look)
            if explained is exc:
                raise
            raise explained from exc
        except ClientClosed as exc:
            self._raise_closed(exc, call.look)
        if isinstance(response, PrefectResponse):
            await response.aparse()
        try:
            return self._read(call, response)
        except UnexpectedAnswer as exc:
            await drive_async(self._look_for_api(exc), self._ask)
            exc.hint = self._address_problem or exc.hint
            raise

    async def _ask(self, call: Call[Any]) -> Any:
        """Make a call whose failure says nothing about an operation."""
        response = await self._usable().request(call.method, call.path, **call.options())
        return call.read(response)  # type: ignore[arg-type] # our clients answer with their own

    def _usable(self) -> PrefectHttpxAsyncClient:
        self._refuse_unusable()
        assert self._http is not None, "an open client is connected"
        self._settle_here()
        return self._http

    def _refuse_unusable(self) -> None:
        self._refuse_closed()
        if self._http is None:
            raise ClientClosed(
                f"This client is not open: use it in `async with client:`. {_how_to_open()}"
            )

    def _settle_here(self) -> None:
        if self.loop is None or is_closed(self.loop):
            self.loop = home_loop()


class SyncPrefectClient(_ApiClient):
    """`PrefectClient` for plain code: the same arguments and operations.

    ``with`` opens and closes it. Without ``with`` its first request opens it; it is closed by `close`, or
    when it is garbage-collected. It works in every thread, and in a notebook next to the async one.
    """

    is_async: ClassVar[Literal[False]] = False

    _http: PrefectHttpxSyncClient | None = None

    @cached_property
    def operations(self) -> SyncOperations:
        """Every operation in the server's OpenAPI document, in groups, with tab completion."""
        return SyncOperations(self, self._place)

    @property
    def loop(self) -> None:
        """None: it needs no event loop."""
        return None

    def __enter__(self) -> Self:
        self.open()
        try:
            if self._hosted is not None:
                self._hosted.wait_started()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> NoReturn:
        """Raise: a sync client is opened with ``with``."""
        raise RuntimeError(
            "SyncPrefectClient is not async: write `with`, not `async with`; or use PrefectClient, "
            "orchnb.get_client()"
        )

    async def __aexit__(self, *exc_info: object) -> None:
        """Exist for `__aenter__`: Python looks for both."""

    def _connect(self, options: dict[str, Any]) -> None:
        self._http = PrefectHttpxSyncClient(**options)
        # One that is never closed closes its connections when it is garbage-collected.
        weakref.finalize(self, httpx.Client.close, self._http).atexit = False

    def close(self) -> None:
        """Undo one `open`; the last one closes the connections and releases an in-process app."""
        if not self._exit():
            return
        hosted = self._release()
        try:
            if self._http is not None:
                self._http.close()
        finally:
            if hosted is not None:
                hosted.wait_closed()

    def _within(self, seconds: float, look: Callable[[], T]) -> T:
        """Open this client, call ``look``, which uses it, and close it, within that many seconds in
        total.

        For a client that was not opened before. No request is sent twice.

        Raises:
            httpx.ConnectTimeout: no connection was made in time.
            httpx.ReadTimeout: there was a connection, but no result in time.
        """
        self._httpx_settings["sleep"] = _refuse_to_sleep

        def call() -> T:
            try:
                with self:
                    return look()
            finally:
                self.close_for_good()

        try:
            return within(seconds, call, give_up=self._end)
        except (TimeoutError, httpx.TimeoutException):
            pass
        request = httpx.Request("GET", redact_url(self.api_url))
        if self._app is not None or (self._http is not None and self._http.was_connected):
            raise httpx.ReadTimeout(f"No answer within {seconds:g} s", request=request)
        raise httpx.ConnectTimeout(f"No connection within {seconds:g} s", request=request)

    def close_for_good(self) -> None:
        """Close it, however often it was opened; see `PrefectClient.close_for_good`."""
        hosted = self._end()
        if hosted is not None:
            hosted.wait_closed()
        if self._http is not None:
            self._http.close()

    def perform(self, steps: LongSteps[T], operation: str = "") -> T:
        """Make an operation's calls and return its result.

        Raises:
            OperationNotFound: the server does not have the operation named ``operation``.
        """
        if operation:
            steps = or_unsupported(steps, operation, self.api_url, self._find_described)
        steps = self._with_cut(steps)
        return drive(iter(steps), partial(self._call, operation=operation))

    def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        path_params: Mapping[str, Any] | None = None,
        *,
        repeatable: bool | None = None,
        **kwargs: Any,
    ) -> httpx.Response:
        """Send any request to the API, like httpx's ``request``; ``path`` is below the API's URL.

        Args:
            params: the query.
            path_params: values for the names in braces in the path, such as ``/flows/{id}``.
            repeatable: whether the request can be sent again if its response is lost, so that the server
                may have acted. By default the method decides: not a ``POST`` or ``PATCH``, unless it only
                reads, such as ``POST /flows/filter``.

        Raises:
            ForeignAddress: ``path`` is an address elsewhere, which must not receive our credentials.
            ClientClosed: the client was closed, before or in the meantime.
            OutcomeUnknown: there was no response, the server may have acted, and the request is not
                ``repeatable`` (RFC 9110, 9.2.2), so it was not sent again.
        """
        path, kwargs = _with_params(path, params, path_params, kwargs)
        params = path_params = None  # they may hold secrets
        try:
            options = _request_options(method, path, kwargs, repeatable)
            return self._usable().request(method, self._path(path), **options)
        except httpx.TransportError as exc:
            explained = explain_silence(exc)
            if explained is exc:
                raise
            raise explained from exc
        except ClientClosed as exc:
            self._raise_closed(exc)

    def _call(self, call: Call[Any] | Sleep, operation: str) -> Any:
        if isinstance(call, Sleep):
            (call.control or WaitControl()).sleep(call.seconds)
            return None
        if isinstance(call, Listen):
            return self._listen(call)
        if isinstance(call, Work):
            function, is_own = call.function, self._is_own
            # In a thread: on one with an event loop, some of Prefect's functions return coroutines.
            return within(math.inf, lambda: function(is_own), give_up=bool)
        try:
            options = call.options(operation)
            response = self._usable().request(call.method, call.path, **options)
        except PrefectHTTPStatusError as exc:
            if call.has_been_done(exc):
                return None
            drive(self._look_for_api(exc), self._ask)
            raise self._explained(call, exc) from None
        except httpx.TransportError as exc:
            explained = explain_silence(exc, call.look)
            if explained is exc:
                raise
            raise explained from exc
        except ClientClosed as exc:
            self._raise_closed(exc, call.look)
        try:
            return self._read(call, response)
        except UnexpectedAnswer as exc:
            drive(self._look_for_api(exc), self._ask)
            exc.hint = self._address_problem or exc.hint
            raise

    def _ask(self, call: Call[Any]) -> Any:
        """Make a call whose failure says nothing about an operation."""
        response = self._usable().request(call.method, call.path, **call.options())
        return call.read(response)  # type: ignore[arg-type] # our clients answer with their own

    def _usable(self) -> PrefectHttpxSyncClient:
        self._refuse_closed()
        if self._http is None:
            self._open(0)
        assert self._http is not None, "an open client is connected"
        return self._http


_READS = re.compile(r"/(count|filter|history|paginate)/?$")
"""The ends of those API paths whose ``POST`` only reads."""


def _with_params(
    path: str,
    params: Mapping[str, Any] | None,
    path_params: Mapping[str, Any] | None,
    options: dict[str, Any],
) -> tuple[str, dict[str, Any]]:
    """Return the path with its parameters filled in, and httpx's arguments with the query."""
    if path_params:
        path = filled(path, path_params)
    if params is not None:
        options = {**options, "params": params}
    return concealed_url(path), concealed_options(options)


def _request_options(
    method: str, path: str, options: dict[str, Any], repeatable: bool | None
) -> dict[str, Any]:
    """Return httpx's arguments, with the body as plain data, and whether the request may be sent again
    after a lost response."""
    if repeatable is None:
        method = method.upper()
        reads = method == "POST" and _READS.search(path.partition("?")[0]) is not None
        repeatable = method in IDEMPOTENT_METHODS or reads
    if options.get("json") is not None:
        options = {**options, "json": concealed(plain_json(options["json"]))}
    return {**options, "extensions": {ONCE: not repeatable, **(options.get("extensions") or {})}}


def _how_to_open() -> str:
    if notebook_loop() is None:
        return (
            "In a notebook, %load_ext orchnb makes get_client() return one that is open; a sync client, "
            "get_client(sync_client=True), opens itself."
        )
    if on_notebook_thread():
        return "In a cell, orchnb.get_client() returns one that is open."
    return (
        "Outside of cells, as in this thread, get_client() returns a new client. The notebook's own "
        "client works in every thread: pass it to this one."
    )


def _refuse_to_sleep(seconds: float) -> NoReturn:
    """Raise an error instead of a wait for the next try. Without retries, only maintenance causes one."""
    del seconds
    raise OrchnbError("The server is in maintenance and asks clients to retry later")


class _Lent(httpx.BaseTransport):
    """Another client's transport, which stays open when the borrower closes."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._transport.handle_request(request)


def _lent(transport: httpx.BaseTransport | httpx.AsyncBaseTransport) -> _Lent:
    if not isinstance(transport, httpx.BaseTransport):
        raise RuntimeError(_TAKES_AN_AWAIT)
    return _Lent(transport)


def api_of(settings: Settings) -> str | EphemeralApp:
    """Return the API URL in the settings, or the in-kernel server.

    Raises:
        ServerNotConfigured: there is no API URL, and no in-kernel server is allowed.
    """
    if settings.api_url:
        return settings.api_url
    if determine_server_type(settings) is ServerType.EPHEMERAL:
        return ephemeral_app(settings)
    raise ServerNotConfigured(
        "No server is configured: PREFECT_API_URL is not set, and the in-kernel server is switched "
        "off. Set PREFECT_API_URL (in a notebook: %orch_server_type server URL), or allow the "
        "in-kernel server with PREFECT_SERVER_ALLOW_EPHEMERAL_MODE=true (%orch_server_type "
        "ephemeral)."
    )


def _credentials(
    settings: Settings, server_type: ServerType, api_key: str | None, auth_string: str | None
) -> dict[str, str]:
    """Return the Authorization header. Prefect Cloud prefers the key, other servers the auth string."""
    if api_key is not None or auth_string is not None:
        # Checked like settings, with the same messages. The settings do not supply the one not given.
        settings = Settings(api_key=api_key, api_auth_string=auth_string)
    key = settings.api_key and settings.api_key.get_secret_value()
    auth = settings.api_auth_string and settings.api_auth_string.get_secret_value()
    if auth and (server_type is not ServerType.CLOUD or not key):
        encoded = base64.b64encode(auth.encode()).decode()
        return {"Authorization": ConcealedText(f"Basic {encoded}")}
    return {"Authorization": ConcealedText(f"Bearer {key}")} if key else {}


def _address(api_url: str) -> dict[str, Any]:
    """Return httpx's arguments for this address. Credentials are removed from the URL, because httpx logs
    the URL of every request."""
    url = httpx.URL(api_url)
    auth = BasicAuth(url.username, url.password) if url.userinfo else None
    return {"base_url": url.copy_with(userinfo=b""), "auth": auth}


def _trust(settings: Settings) -> str:
    return trusted(str(settings.source("api_ssl_cert_file")), str(settings.api_ssl_cert_file))


def _is_loopback(host: str) -> bool:
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
