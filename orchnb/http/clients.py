"""httpx's two clients with retries, CSRF tokens and errors that explain themselves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import httpx

from orchnb._version import __version__
from orchnb.concealed import ConcealedText
from orchnb.http.body import ENCODINGS, LARGEST_SMALL_ANSWER
from orchnb.http.certificates import ssl_context_for
from orchnb.http.closing import AsyncFlight, Flight, InFlight, on_asyncio
from orchnb.http.concealing import BasicAuth, Concealing, conceal, concealed_options
from orchnb.http.connections import LoopConnections, ProcessConnections
from orchnb.http.cookies import HostCookies, host_cookies
from orchnb.http.csrf import CLIENT_HEADER, TOKEN_HEADER, CsrfGuard
from orchnb.http.effects import RequestFlow, SendRequest, Sleep, WaitControl, drive, drive_async
from orchnb.http.header_check import check_headers
from orchnb.http.proxies import check_proxies
from orchnb.http.redirects import next_hop
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import ASIDE, LARGEST, Retrier, RetryPolicy, Waits, is_repeatable
from orchnb.settings import Settings, get_settings

logger: logging.Logger = logging.getLogger(__name__)

_PROTECTED_HEADERS = frozenset({"user-agent", TOKEN_HEADER.lower(), CLIENT_HEADER.lower()})


class PrefectHttpxAsyncClient(Concealing, LoopConnections, httpx.AsyncClient):  # type: ignore[misc] # see there
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
        kwargs = concealed_options(kwargs)
        settings = settings or get_settings()
        self._in_flight = InFlight(_transports(kwargs))
        options = _httpx_options(kwargs)
        self.cookies = options.pop("cookies")
        super().__init__(**options)
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
            ClientClosed: the client was closed, before or in the meantime.
        """
        if isinstance(kwargs.get("auth"), tuple):
            kwargs["auth"] = BasicAuth(*kwargs["auth"])
        conceal(request)
        outcome: httpx.Response | Exception | None = None
        began = self._retrier.policy.monotonic()
        if not self._csrf.concerns(request) and _is_plain(request, kwargs) and on_asyncio():
            # Nearly every read ends here: answered well, and nothing to decide.
            flight = AsyncFlight(self._in_flight, request)
            try:
                flight.begin()
                response = await self._send_up_to(request, **kwargs)
                if self._retrier.settles(response):
                    return response
                outcome = response
            except asyncio.CancelledError:
                if not flight.was_cancelled():
                    raise
                outcome = flight.error()
            except Exception as exc:  # noqa: BLE001 - the flow decides which ones go on
                outcome = flight.told(exc)
            finally:
                flight.over()
        return await self._send_by_flow(request, kwargs, outcome, began)

    def end_requests(self) -> None:
        """End the requests that are under way with `ClientClosed`, and refuse new ones: what closing
        does before it closes connections. It does not wait, and may be called on any thread."""
        self._in_flight.close()

    async def aclose(self) -> None:
        """Close connections; requests that are under way end with `ClientClosed`."""
        self.end_requests()
        await super().aclose()

    async def __aexit__(self, *exc_info: Any) -> None:
        self.end_requests()
        await super().__aexit__(*exc_info)

    async def _send_once(self, request: httpx.Request, **kwargs: Any) -> PrefectResponse:
        flight = AsyncFlight(self._in_flight, request)
        run = flight.arun if is_repeatable(request) else flight.asend
        response = await run(self._send_up_to, request, **kwargs)
        return flight.keep(response) if kwargs.get("stream") else response

    async def _send_up_to(self, request: httpx.Request, **kwargs: Any) -> PrefectResponse:
        """As httpx sends, but our own response, which knows a limit, is what reads the answer."""
        response = await super().send(request, **{**kwargs, "stream": True})
        answer = PrefectResponse.from_httpx_response(response)
        while answer.next_request is not None and (hop := next_hop(answer, len(answer.history))):
            await answer.aread()
            history = [*answer.history, answer]
            response = await super().send(hop, **{**kwargs, "stream": True})
            answer = PrefectResponse.from_httpx_response(response)
            answer.history = history
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

        async def perform(effect: SendRequest | Sleep) -> httpx.Response | None:
            if isinstance(effect, Sleep):
                control = effect.control or WaitControl()
                waiting = AsyncFlight(self._in_flight, request)
                waiting.sent = False
                await waiting.arun(control.asleep, self._sleep, effect.seconds)
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


class PrefectHttpxSyncClient(Concealing, ProcessConnections, httpx.Client):  # type: ignore[misc] # see there
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
        kwargs = concealed_options(kwargs)
        settings = settings or get_settings()
        self._in_flight = InFlight(_transports(kwargs))
        options = _httpx_options(kwargs)
        self.cookies = options.pop("cookies")
        super().__init__(**options)
        self.event_hooks["response"].insert(0, PrefectResponse.from_httpx_response)
        _guard_cookies(self, is_async=False)
        _add_headers(self.headers, settings)
        self.raise_on_all_errors = raise_on_all_errors
        self._sleep = sleep
        self._retrier = Retrier(retry_policy or RetryPolicy.from_settings(settings))
        self._csrf = _csrf_guard(self, self._retrier, enabled=enable_csrf_support)

    def send(self, request: httpx.Request, **kwargs: Any) -> PrefectResponse:
        """Send a request, again if need be; raises as `PrefectHttpxAsyncClient.send` does."""
        if isinstance(kwargs.get("auth"), tuple):
            kwargs["auth"] = BasicAuth(*kwargs["auth"])
        conceal(request)
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

    @property
    def was_connected(self) -> bool:
        """Whether it has made a connection."""
        return self._in_flight.was_connected

    def end_requests(self) -> None:
        """As `PrefectHttpxAsyncClient.end_requests`. A request that is still being connected ends when
        its connection does, or fails, and is not sent."""
        self._in_flight.close()

    def close(self) -> None:
        """Close connections; requests that are under way in other threads end with `ClientClosed`."""
        self.end_requests()
        self._in_flight.wait()
        super().close()

    def __exit__(self, *exc_info: Any) -> None:
        self.end_requests()
        self._in_flight.wait()
        super().__exit__(*exc_info)

    def _send_once(self, request: httpx.Request, **kwargs: Any) -> PrefectResponse:
        flight = Flight(self._in_flight, request)
        response = flight.send(self._send_up_to, request, **kwargs)
        return flight.keep(response) if kwargs.get("stream") else response

    def _send_up_to(self, request: httpx.Request, **kwargs: Any) -> PrefectResponse:
        """As `PrefectHttpxAsyncClient._send_up_to`."""
        response = super().send(request, **{**kwargs, "stream": True})
        answer = PrefectResponse.from_httpx_response(response)
        while answer.next_request is not None and (hop := next_hop(answer, len(answer.history))):
            answer.read()
            history = [*answer.history, answer]
            response = super().send(hop, **{**kwargs, "stream": True})
            answer = PrefectResponse.from_httpx_response(response)
            answer.history = history
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

        def perform(effect: SendRequest | Sleep) -> httpx.Response | None:
            if isinstance(effect, Sleep):
                control = effect.control or WaitControl()
                waiting = Flight(self._in_flight, request)
                waiting.sent = False
                waiting.on_end(control.try_now)
                waiting.run(self._sleep or control.sleep, effect.seconds)
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
    """Send only the cookies of its host with each request, including one that follows a redirect."""
    jar, hooks = client.cookies.jar, client.event_hooks["request"]
    if not isinstance(jar, HostCookies):
        return

    async def keep_to_host(request: httpx.Request) -> None:
        jar.keep_to_host(request)

    jar.when_used(lambda: hooks.append(keep_to_host if is_async else jar.keep_to_host))


def _flow(csrf: CsrfGuard, retrier: Retrier, request: httpx.Request, began: float) -> RequestFlow:
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
            headers[name] = ConcealedText(value.get_secret_value())


def _is_plain(request: httpx.Request, options: dict[str, Any]) -> bool:
    """Whether the answer is read whole, and the request may be repeated."""
    return not options.get("stream") and is_repeatable(request)


def _transports(kwargs: dict[str, Any]) -> list[object]:
    """Return the transports that httpx is given; it creates its own if the list is empty."""
    given = [kwargs.get("transport"), *(kwargs.get("mounts") or {}).values()]
    return [transport for transport in given if transport is not None]


def _httpx_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """httpx's arguments, with what is ours: the encodings that are asked for, where cookies are kept, and
    an SSL context that clients share."""
    check_headers(kwargs.get("headers"))
    check_proxies(kwargs)
    kwargs = {**kwargs, "headers": httpx.Headers(kwargs.get("headers"))}
    kwargs["headers"].setdefault("Accept-Encoding", ENCODINGS)
    kwargs["cookies"] = host_cookies(kwargs)
    if "transport" in kwargs:
        return kwargs
    context = ssl_context_for(kwargs)
    return kwargs if context is None else {**kwargs, "verify": context, "cert": None}
