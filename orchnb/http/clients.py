"""httpx's two clients with retries, CSRF tokens and errors that explain themselves."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any

import anyio
import httpx

from orchnb import __version__
from orchnb.http.body import ENCODINGS, LARGEST_SMALL_ANSWER
from orchnb.http.cookies import HostCookies, host_cookies
from orchnb.http.csrf import CLIENT_HEADER, TOKEN_HEADER, CsrfGuard
from orchnb.http.flow import Flow, Send, Sleep, WaitControl, drive, drive_async
from orchnb.http.proxies import check_proxies
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import ASIDE, LARGEST, Retrier, RetryPolicy, Waits
from orchnb.redaction import redact_url
from orchnb.settings import Settings, get_settings

logger = logging.getLogger(__name__)

_PROTECTED_HEADERS = frozenset({"user-agent", TOKEN_HEADER.lower(), CLIENT_HEADER.lower()})


class _MaskedUrls(logging.Filter):
    """Takes credentials and query values out of the URLs that httpx logs at level INFO, a line a request.

    httpx has one logger for all of its clients, so those that are not ours log masked URLs as well.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                redact_url(each) if isinstance(each, httpx.URL) else each for each in record.args
            )
        return True


logging.getLogger("httpx").addFilter(_MaskedUrls())


class PrefectHttpxAsyncClient(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` that asks again when asking again may help.

    Retried are 408, 429, 502, 503, the statuses of ``PREFECT_CLIENT_RETRY_EXTRA_CODES``, and the
    failures of transport in `orchnb.http.retry`; waits follow ``Retry-After`` or double from 2 s.
    Errors of status are raised as `PrefectHTTPStatusError`. Behaviour and names are those of
    Prefect's client base.

    Args:
        enable_csrf_support: fetch and send CSRF tokens with requests that change anything.
        raise_on_all_errors: False gives back responses of any status instead of raising.
        retry_policy: by default that of the settings.
        settings: where custom headers and the retry policy come from; by default the current ones.
        sleep: how to wait, in seconds; by default really.
        kwargs: those of ``httpx.AsyncClient``.

    Raises:
        InvalidSetting: the settings cannot be read.
    """

    def __init__(
        self,
        *,
        enable_csrf_support: bool = False,
        raise_on_all_errors: bool = True,
        retry_policy: RetryPolicy | None = None,
        settings: Settings | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        **kwargs: Any,
    ) -> None:
        settings = settings or get_settings()
        super().__init__(**_httpx_options(kwargs))
        self.event_hooks["response"].insert(0, _aour_own)
        _guard_cookies(self, is_async=True)
        _add_headers(self.headers, settings)
        self.raise_on_all_errors = raise_on_all_errors
        self._sleep = sleep
        self._retrier = Retrier(retry_policy or RetryPolicy.from_settings(settings))
        self._csrf = _csrf_guard(self, self._retrier, enabled=enable_csrf_support)

    async def send(self, request: httpx.Request, **kwargs: Any) -> PrefectResponse:
        """Send a request, again if need be.

        Raises:
            PrefectHTTPStatusError: the last answer was no success, unless ``raise_on_all_errors``
                is off.
            httpx.TransportError: the last try, or one of a kind that is not retried, got no answer.
        """
        outcome: httpx.Response | Exception | None = None
        began = self._retrier.policy.monotonic()
        if not self._csrf.concerns(request):
            # Nearly every request ends here: answered well, and nothing to decide.
            try:
                response = await self._send_once(request, **kwargs)
                if self._retrier.settles(response):
                    return response
                await response.aread()
                outcome = response
            except Exception as exc:  # noqa: BLE001 - the flow decides which ones go on
                outcome = exc
        return await self._send_by_flow(request, kwargs, outcome, began)

    async def _send_once(self, request: httpx.Request, **kwargs: Any) -> PrefectResponse:
        """As httpx sends, but our own response, which knows a limit, is what reads the answer."""
        response = await super().send(request, **{**kwargs, "stream": True})
        answer = PrefectResponse.from_httpx_response(response)
        if not kwargs.get("stream"):
            await answer.aread()
        return answer

    async def _send_by_flow(
        self,
        request: httpx.Request,
        options: dict[str, Any],
        outcome: httpx.Response | Exception | None,
        began: float,
    ) -> PrefectResponse:
        """Send a request of which this much has come already."""
        send = self._send_once

        async def perform(effect: Send | Sleep) -> httpx.Response | None:
            if isinstance(effect, Sleep):
                control = effect.control or WaitControl()
                await control.asleep(self._sleep, effect.seconds)
                return None
            response = await send(effect.request, **({} if effect.aside else options))
            if not self._retrier.settles(response):
                # Also where successes stream: its words are wanted, and whatever the flow gives up is
                # closed by it.
                await response.aread()
            return response

        flow = _flow(self._csrf, self._retrier, request, began)
        response = await drive_async(flow, perform, outcome)
        return _finish(response, raising=self.raise_on_all_errors)


class PrefectHttpxSyncClient(httpx.Client):
    """`PrefectHttpxAsyncClient` for plain code: the same arguments and behaviour, on ``httpx.Client``."""

    def __init__(
        self,
        *,
        enable_csrf_support: bool = False,
        raise_on_all_errors: bool = True,
        retry_policy: RetryPolicy | None = None,
        settings: Settings | None = None,
        sleep: Callable[[float], None] | None = None,
        **kwargs: Any,
    ) -> None:
        settings = settings or get_settings()
        super().__init__(**_httpx_options(kwargs))
        self.event_hooks["response"].insert(0, PrefectResponse.from_httpx_response)
        _guard_cookies(self, is_async=False)
        _add_headers(self.headers, settings)
        self.raise_on_all_errors = raise_on_all_errors
        self._sleep = sleep
        self._retrier = Retrier(retry_policy or RetryPolicy.from_settings(settings))
        self._csrf = _csrf_guard(self, self._retrier, enabled=enable_csrf_support)

    def send(self, request: httpx.Request, **kwargs: Any) -> PrefectResponse:
        """Send a request, again if need be; raises as `PrefectHttpxAsyncClient.send` does."""
        outcome: httpx.Response | Exception | None = None
        began = self._retrier.policy.monotonic()
        if not self._csrf.concerns(request):
            # Nearly every request ends here: answered well, and nothing to decide.
            try:
                response = self._send_once(request, **kwargs)
                if self._retrier.settles(response):
                    return response
                response.read()
                outcome = response
            except Exception as exc:  # noqa: BLE001 - the flow decides which ones go on
                outcome = exc
        return self._send_by_flow(request, kwargs, outcome, began)

    def _send_once(self, request: httpx.Request, **kwargs: Any) -> PrefectResponse:
        """As `PrefectHttpxAsyncClient._send_once`."""
        response = super().send(request, **{**kwargs, "stream": True})
        answer = PrefectResponse.from_httpx_response(response)
        if not kwargs.get("stream"):
            answer.read()
        return answer

    def _send_by_flow(
        self,
        request: httpx.Request,
        options: dict[str, Any],
        outcome: httpx.Response | Exception | None,
        began: float,
    ) -> PrefectResponse:
        """Send a request of which this much has come already."""
        send = self._send_once

        def perform(effect: Send | Sleep) -> httpx.Response | None:
            if isinstance(effect, Sleep):
                if self._sleep is not None:
                    self._sleep(effect.seconds)
                else:
                    (effect.control or WaitControl()).sleep(effect.seconds)
                return None
            response = send(effect.request, **({} if effect.aside else options))
            if not self._retrier.settles(response):
                response.read()
            return response

        flow = _flow(self._csrf, self._retrier, request, began)
        response = drive(flow, perform, outcome)
        return _finish(response, raising=self.raise_on_all_errors)


async def _aour_own(response: httpx.Response) -> None:
    """Make each response our own before anybody reads it: a hook, an ``Auth``, what follows redirects."""
    PrefectResponse.from_httpx_response(response)


def _guard_cookies(client: httpx.Client | httpx.AsyncClient, *, is_async: bool) -> None:
    """Have each request, also one that follows a redirect, carry the cookies of its own host only."""
    jar, hooks = client.cookies.jar, client.event_hooks["request"]
    if not isinstance(jar, HostCookies):
        return

    async def keep_to_host(request: httpx.Request) -> None:
        jar.keep_to_host(request)

    jar.when_used(lambda: hooks.append(keep_to_host if is_async else jar.keep_to_host))


def _flow(csrf: CsrfGuard, retrier: Retrier, request: httpx.Request, began: float) -> Flow:
    if csrf.concerns(request):
        return csrf.flow(request, partial(retrier.flow, waits=Waits(retrier.policy)))
    return retrier.flow(request, began=began)


def _finish(response: httpx.Response, *, raising: bool) -> PrefectResponse:
    answer = PrefectResponse.from_httpx_response(response)
    return answer.raise_for_status() if raising else answer


def _csrf_guard(
    client: httpx.Client | httpx.AsyncClient, retrier: Retrier, *, enabled: bool
) -> CsrfGuard:
    def build_token_request(client_id: str) -> httpx.Request:
        return client.build_request(
            "GET",
            "/csrf-token",
            params={"client": client_id},
            extensions={ASIDE: True, LARGEST: LARGEST_SMALL_ANSWER},
        )

    return CsrfGuard(build_token_request, enabled=enabled, now=retrier.policy.now)


def _add_headers(headers: httpx.Headers, settings: Settings) -> None:
    headers["User-Agent"] = f"orchnb/{__version__}"
    for name, value in settings.client_custom_headers.items():
        if name.lower() in _PROTECTED_HEADERS:
            logger.warning(
                "The custom header %r is left out, orchnb sets it itself; take it out of %s",
                name,
                settings.source("client_custom_headers"),
            )
        else:
            headers[name] = value.get_secret_value()


def _httpx_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """httpx's arguments, with what is ours: the encodings that are asked for, where cookies are kept, and
    an SSL context that all clients share, as making one takes 15 ms."""
    check_proxies(kwargs)
    kwargs = {**kwargs, "headers": httpx.Headers(kwargs.get("headers"))}
    kwargs["headers"].setdefault("Accept-Encoding", ENCODINGS)
    kwargs["cookies"] = host_cookies(kwargs)
    if "transport" in kwargs or kwargs.get("cert"):
        return kwargs
    verify = kwargs.get("verify", True)
    if isinstance(verify, ssl.SSLContext):
        return kwargs
    trust_env = kwargs.get("trust_env", True)
    files: list[str | None] = [verify] if isinstance(verify, str) else []
    if trust_env:
        files += [os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")]
    context = _ssl_context(
        verify,
        trust_env,
        # httpcore writes what it negotiates into the context, so the two kinds must not share one.
        bool(kwargs.get("http2")),
        tuple((file, _modified(file)) for file in files if file),
    )
    return {**kwargs, "verify": context}


@lru_cache(maxsize=16)
def _ssl_context(
    verify: bool | str,
    trust_env: bool,
    http2: bool,  # noqa: ARG001 - a part of the key
    files: tuple[tuple[str, float], ...],  # noqa: ARG001 - a part of the key
) -> ssl.SSLContext:
    return httpx.create_ssl_context(verify=verify, trust_env=trust_env)


def _modified(file: str) -> float:
    try:
        return os.stat(file).st_mtime
    except OSError:
        return 0.0
