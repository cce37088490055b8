"""Connections that belong to one process and, for async clients, to one event loop.

Connections cannot be shared. A forked child that reads from its parent's socket gets the parent's
responses, and a connection opened on one event loop cannot be used on another. So each transport here
keeps one httpx transport per process, and per loop.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any, NoReturn

import httpx

from orchnb.errors import ClientNotPicklable
from orchnb.event_loop import Loop, current_loop, is_closed
from orchnb.forks import in_forked_child
from orchnb.http._httpx import DefaultTransports
from orchnb.http.concealing import conceal_failure
from orchnb.http.failures import proxy_failure, speaks_tls, tls_probe, wants_https
from orchnb.http.proxies import setting_of

_CONNECTIONS = "orchnb_connections"

_inherited: list[object] = []
"""The connections that a child process inherited. They are never released: that would close them, and
closing would in part affect the parent."""


class _Way:
    """What a transport knows of its way to the servers, for the words of its errors."""

    def __init__(self, proxy: httpx.Proxy | None) -> None:
        self._proxy = proxy
        self._setting = setting_of(proxy) if proxy is not None else ""
        self.has_answered = False
        """Whether there was an answer, or it was found out that there is no https."""

    def failure(self, error: BaseException, request: httpx.Request) -> BaseException:
        """Return the error to raise for an error: the proxy's, if it is the proxy that failed."""
        if self._proxy is None or not isinstance(error, httpx.TransportError):
            return error
        return proxy_failure(error, request, self._proxy, self._setting)

    def probe(self, error: BaseException, request: httpx.Request) -> httpx.Request | None:
        """Return a request that finds out if the server uses https, once, if nothing is known yet."""
        if self.has_answered or self._proxy is not None:
            return None
        probe = tls_probe(error, request)
        self.has_answered = probe is not None
        return probe


class ProcessTransport(httpx.BaseTransport):
    """A sync transport that opens new connections in a forked child, through ``proxy`` if it is given."""

    def __init__(
        self, make: Callable[[], httpx.BaseTransport], proxy: httpx.Proxy | None = None
    ) -> None:
        self._make = make
        self._way = _Way(proxy)
        self._transport = make()
        in_forked_child(self._after_fork)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over this process's connections."""
        handled = sys.exc_info()[1]
        try:
            response = self._transport.handle_request(request)
        except BaseException as exc:
            conceal_failure(exc, handled)
            failure = self._way.failure(exc, request)
            probe = self._way.probe(exc, request)
            if probe is not None:
                outcome = None
                try:
                    self._transport.handle_request(probe).close()
                except Exception as found:  # noqa: BLE001 - what it is says whether the server uses https
                    outcome = found
                failure = wants_https(request) if speaks_tls(outcome) else exc
            if failure is exc:
                raise
            raise failure from exc
        self._way.has_answered = True
        return response

    def close(self) -> None:
        """Close this process's connections."""
        self._transport.close()

    def _after_fork(self) -> None:
        _inherited.append(self._transport)
        self._transport = self._make()


class LoopTransport(httpx.AsyncBaseTransport):
    """An async transport that can be used on any event loop, in any process, through ``proxy`` if it is
    given.

    Connections are closed when the transport is closed or garbage-collected, or when their loop ends.
    """

    def __init__(
        self, make: Callable[[], httpx.AsyncBaseTransport], proxy: httpx.Proxy | None = None
    ) -> None:
        self._make = make
        self._way = _Way(proxy)
        self._by_loop: dict[Loop, _OnLoop] = {}
        in_forked_child(self._after_fork)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request over the running loop's connections."""
        loop = current_loop()
        here = self._by_loop.get(loop)
        if here is None or here.ended:
            here = await self._open(loop)
        handled = sys.exc_info()[1]
        try:
            response = await here.transport.handle_async_request(request)
        except BaseException as exc:
            conceal_failure(exc, handled)
            failure = self._way.failure(exc, request)
            probe = self._way.probe(exc, request)
            if probe is not None:
                outcome = None
                try:
                    await (await here.transport.handle_async_request(probe)).aclose()
                except Exception as found:  # noqa: BLE001 - as in `ProcessTransport`
                    outcome = found
                failure = wants_https(request) if speaks_tls(outcome) else exc
            if failure is exc:
                raise
            raise failure from exc
        self._way.has_answered = True
        response.extensions[_CONNECTIONS] = here  # they stay open while the response is read
        return response

    async def aclose(self) -> None:
        """Close the connections. Connections of other loops are closed by those loops, and this does not
        wait for them."""
        here = self._by_loop.pop(current_loop(), None)
        self._by_loop.clear()
        if here is not None:
            await here.close()

    async def _open(self, loop: Loop) -> _OnLoop:
        for known, there in list(self._by_loop.items()):
            if there.ended or is_closed(known):
                self._by_loop.pop(known, None)
        here = _OnLoop(self._make())
        await here.begin()
        return self._by_loop.setdefault(loop, here)

    def _after_fork(self) -> None:
        _inherited.append(self._by_loop)
        self._by_loop = {}


class _OnLoop:
    """An httpx transport, and an async generator that makes the event loop close it.

    An event loop finalizes the async generators started on it when they are garbage-collected, on any
    thread, and when the loop shuts them down (PEP 525).
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self.transport = transport
        self._end = _Ended()
        self._closing = _close_in_the_end(transport, self._end)

    @property
    def ended(self) -> bool:
        """Whether it was closed, for example by the end of its loop."""
        return self._end.reached

    async def begin(self) -> None:
        await self._closing.__anext__()

    async def close(self) -> None:
        await self._closing.aclose()


class _Ended:
    reached = False


async def _close_in_the_end(
    transport: httpx.AsyncBaseTransport, end: _Ended
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        end.reached = True
        await transport.aclose()


def refuse_pickle(client: object) -> NoReturn:
    """Raise the error that says how to use a client in another process.

    Raises:
        ClientNotPicklable: always. It is a TypeError, as pickle raises for objects it cannot pickle.
    """
    raise ClientNotPicklable(
        f"cannot pickle {type(client).__name__!r} object: it has connections and credentials. Create a "
        "client in the other process, for example with orchnb.get_client() in the function that runs "
        "there."
    )


class ProcessConnections(DefaultTransports):
    """A mix-in for ``httpx.Client`` that makes its default transports `ProcessTransport`s."""

    def __reduce__(self) -> NoReturn:
        refuse_pickle(self)

    def make_transport(self, proxy: httpx.Proxy | None = None, **options: Any) -> ProcessTransport:
        """Return a new transport for this process."""
        return ProcessTransport(partial(httpx.HTTPTransport, proxy=proxy, **options), proxy)


class LoopConnections(DefaultTransports):
    """A mix-in for ``httpx.AsyncClient`` that makes its default transports `LoopTransport`s."""

    def __reduce__(self) -> NoReturn:
        refuse_pickle(self)

    def make_transport(self, proxy: httpx.Proxy | None = None, **options: Any) -> LoopTransport:
        """Return a new transport for any event loop."""
        return LoopTransport(partial(httpx.AsyncHTTPTransport, proxy=proxy, **options), proxy)
