"""What closing a client does to its requests that are under way: they end at once.

Each try of a request, each wait between two tries and each open stream is a flight. Closing the client
ends all of them, on whatever loop or thread they are, with `ClientClosed`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import httpx

from orchnb.errors import ClientClosed
from orchnb.http.response import bare_request
from orchnb.http.retry import is_repeatable
from orchnb.redaction import shown_url

T = TypeVar("T")

IN_FLIGHT = "orchnb.in_flight"
"""The key in a request's ``extensions`` under which a transport finds the `Flight`."""

# Names of httpcore's trace events, without the kind of connection that they begin with.
_SENDING = ".send_request_headers.started"
_CONNECTING = (".connect_tcp.started", ".connect_unix_socket.started", ".start_tls.started")
_CONNECTED = (".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")

_LONGEST_GOODBYE = 1.0
"""Seconds that closing waits for requests of other threads to let go of their connections."""

_STEP = 0.001
"""Seconds between two looks whether they have."""


class InFlight:
    """The flights of one client. All of it may be used on any thread.

    ``is_traced`` says that httpx's own transports are used, which tell what they do.
    """

    # No lock: an interrupt right after one was acquired would leave it so. Each change of a set is one
    # step of the interpreter.

    def __init__(self, *, is_traced: bool) -> None:
        self.is_traced = is_traced
        self.closed = False
        self._pid = os.getpid()
        self._flights: set[weakref.ref[Flight]] = set()
        self._sockets: set[socket.socket] = set()

    def add(self, flight: Flight) -> weakref.ref[Flight]:
        """Note a flight until it is discarded, or nobody knows of it any more."""
        self._forget_the_parents()
        ref = weakref.ref(flight, self._flights.discard)
        self._flights.add(ref)
        return ref

    def discard(self, ref: weakref.ref[Flight]) -> None:
        """Forget a flight."""
        self._flights.discard(ref)

    def _forget_the_parents(self) -> None:
        """In a forked child: what the parent does is not this client's to end."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._flights, self._sockets = set(), set()

    def connected(self, connection: socket.socket) -> None:
        """Note a connection that is to be shut down at the close."""
        for known in list(self._sockets):
            if known.fileno() < 0:
                self._sockets.discard(known)
        self._sockets.add(connection)

    def close(self) -> None:
        """End all flights, and refuse new ones."""
        self.closed = True
        self._forget_the_parents()
        for flight in self._all():
            flight.end()
        for connection in list(self._sockets):
            with suppress(OSError):  # it has gone already
                # Of the class for plain sockets: TLS's own would drop what another thread still uses.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def wait(self) -> None:
        """After `close`, in plain code: wait until no other thread uses a connection any more.

        A connection's number may be given to another one as soon as it is closed, and a thread that
        still reads with the old number would read what is not its own.
        """
        until = time.monotonic() + _LONGEST_GOODBYE
        here = threading.get_ident()
        while time.monotonic() < until and any(
            flight.sent and flight.thread not in (None, here) for flight in self._all()
        ):
            time.sleep(_STEP)

    def _all(self) -> list[Flight]:
        return [flight for ref in list(self._flights) if (flight := ref()) is not None]


class Flight:
    """One flight of a sync client; `AsyncFlight` is that of an async one."""

    def __init__(self, client: InFlight, request: httpx.Request) -> None:
        self.request = request
        self.sent: bool | None = False if client.is_traced else None
        """Whether the server may have been sent anything; None if the transport does not tell."""
        self._ended = False
        self.thread: int | None = None
        """The thread in which it runs now."""
        self._client = client
        self._answered = False
        self._was_late = False
        self._on_end: Callable[[], object] | None = None
        self._ref = client.add(self)
        if client.closed:
            self._was_late = True
            self.end()

    def on_end(self, callback: Callable[[], object]) -> None:
        """Have a function called when the client is closed, on any thread, or now if it has been."""
        self._on_end = callback
        if self.ended():
            callback()

    def ended(self) -> bool:
        """Whether the client has been closed."""
        return self._ended

    def end(self) -> None:
        """The client is closed."""
        self._ended = True
        if self._on_end is not None:
            self._on_end()

    def leave(self) -> None:
        """It is over."""
        self._client.discard(self._ref)

    def error(self) -> ClientClosed:
        """What its caller is told of the close."""
        what = f"{self.request.method} {shown_url(self.request.url)}"
        if self._was_late:
            message = f"The client is closed: {what} was not sent"
        elif self._answered:
            message = f"The client was closed before the answer to {what} was read"
        else:
            message = f"The client was closed before {what} was answered"
        error = ClientClosed(message, request=bare_request(self.request))
        if not (self._was_late or self._answered or self.sent is False):
            error.may_have_acted(repeatable=is_repeatable(self.request))
        return error

    def send(
        self, send: Callable[..., httpx.Response], *, stream: bool, **options: Any
    ) -> httpx.Response:
        """Send the request by ``send``; a stream that is the caller's to read stays in flight.

        Raises:
            ClientClosed: the client is closed, or was while the request was under way.
        """
        extensions = self.request.extensions
        self.request.extensions = self._traced(extensions, self._trace)
        try:
            response = self.run(send, self.request, **options)
        except BaseException:
            self.leave()
            raise
        finally:
            self.request.extensions = extensions
        if stream:
            assert isinstance(response.stream, httpx.SyncByteStream)
            self._answered = True
            response.stream = _Stream(response.stream, self)
        else:
            self.leave()
        return response

    def run(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call a function that a close makes return or raise."""
        if self.ended():
            raise self.error()
        self.thread = threading.get_ident()
        try:
            result = function(*args, **options)
        except Exception as exc:
            if self.ended() and not isinstance(exc, ClientClosed):
                raise self.error() from exc  # whatever it is: the close has broken something
            raise
        finally:
            self.thread = None
        if self.ended():
            # A body that ends where its connection does may have been cut off.
            raise self.error()
        return result

    def _traced(self, extensions: Any, trace: Callable[..., Any]) -> dict[str, Any]:
        self._others = extensions.get("trace")
        return {**extensions, "trace": trace, IN_FLIGHT: self}

    def _trace(self, name: str, info: dict[str, Any]) -> None:
        """httpcore's trace extension: what becomes of the request's connection, as it happens."""
        if self.ended() and name.endswith((_SENDING, *_CONNECTING)):
            raise self.error()
        self._note(name, info)
        if name.endswith(_CONNECTED):
            connection = info["return_value"].get_extra_info("socket")
            if connection is not None:
                self._client.connected(connection)
        if self._others is not None:
            self._others(name, info)

    def _note(self, name: str, info: dict[str, Any]) -> None:
        # A proxy is asked for a connection to the server before that is sent anything.
        if name.endswith(_SENDING) and info["request"].method != b"CONNECT":
            self.sent = True


class AsyncFlight(Flight):
    """One flight of an async client, on the loop on which this is made."""

    def __init__(self, client: InFlight, request: httpx.Request) -> None:
        self._scope: anyio.CancelScope | None = None
        self._loop = _running_loop()
        super().__init__(client, request)

    def end(self) -> None:
        """The client is closed, on whatever thread."""
        super().end()
        if self._scope is not None:
            if _is_running(self._loop):
                self._cancel()
            else:
                _call_on(self._loop, self._cancel)

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def asend(
        self, send: Callable[..., Awaitable[httpx.Response]], *, stream: bool, **options: Any
    ) -> httpx.Response:
        """`send` for async code."""
        extensions = self.request.extensions
        if is_repeatable(self.request):  # then it makes no difference how far it has come
            self.request.extensions = {**extensions, IN_FLIGHT: self}
        else:
            self.request.extensions = self._traced(extensions, self._atrace)
        try:
            response = await self.arun(send, self.request, **options)
        except BaseException:
            self.leave()
            raise
        finally:
            self.request.extensions = extensions
        if stream:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            self._answered = True
            response.stream = _AsyncStream(response.stream, self)
        else:
            self.leave()
        return response

    async def arun(self, function: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        """Await a function until its end or that of the client."""
        try:
            with anyio.CancelScope() as self._scope:
                if not self.ended():
                    return await function(*args, **options)
        except Exception as exc:
            if self.ended() and not isinstance(exc, ClientClosed):
                raise self.error() from exc  # whatever it is: the close has broken something
            raise
        finally:
            self._scope = None
        raise self.error()

    async def _atrace(self, name: str, info: dict[str, Any]) -> None:
        self._note(name, info)
        if self._others is not None:
            await self._others(name, info)


class _Stream(httpx.SyncByteStream):
    def __init__(self, stream: httpx.SyncByteStream, flight: Flight) -> None:
        self._stream = stream
        self._flight = flight

    def __iter__(self) -> Iterator[bytes]:
        parts = iter(self._stream)
        while (part := self._flight.run(next, parts, None)) is not None:
            yield part

    def close(self) -> None:
        self._flight.leave()
        self._stream.close()


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream, flight: AsyncFlight) -> None:
        self._stream = stream
        self._flight = flight

    async def __aiter__(self) -> AsyncIterator[bytes]:
        parts = aiter(self._stream)
        while (part := await self._flight.arun(anext, parts, None)) is not None:
            yield part

    async def aclose(self) -> None:
        self._flight.leave()
        await self._stream.aclose()


def _running_loop() -> Any:
    """asyncio's loop that runs here, or trio's token."""
    if "trio" in sys.modules:  # first, as anyio does
        from trio import lowlevel

        with suppress(RuntimeError):
            lowlevel.current_task()
            return lowlevel.current_trio_token()
    return asyncio.get_running_loop()


def _is_running(loop: Any) -> bool:
    """Whether this loop is the one that runs here."""
    with suppress(RuntimeError):
        return _running_loop() is loop
    return False


def _call_on(loop: Any, function: Callable[[], object]) -> None:
    with suppress(RuntimeError):  # it has ended, and nobody waits there
        if isinstance(loop, asyncio.AbstractEventLoop):
            loop.call_soon_threadsafe(function)
        else:
            loop.run_sync_soon(function)
