"""Closing a client ends its requests in progress immediately.

Each try of a request, each wait between two tries and each open stream is a flight. Closing the client
ends all of them, on any event loop or thread, with `ClientClosed`.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NoReturn, TypeVar

import anyio
import httpx

from orchnb.errors import ClientClosed
from orchnb.event_loop import current_loop
from orchnb.http.errors import bare_request
from orchnb.http.retry import is_repeatable
from orchnb.redaction import shown_url

T = TypeVar("T")
R = TypeVar("R", bound=httpx.Response)

_AsyncioLoop = asyncio.AbstractEventLoop

IN_FLIGHT = "orchnb.in_flight"
"""The key in a request's ``extensions`` under which a transport finds the `Flight`."""

# Names of httpcore's trace events, without the kind of connection in front.
_SENDING = ".send_request_headers.started"
_CONNECTING = (".connect_tcp.started", ".connect_unix_socket.started", ".start_tls.started")
_CONNECTED = (".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")

_LONGEST_GOODBYE = 1.0
"""Seconds that closing waits for requests in other threads to release their connections."""

_STEP = 0.001
"""Seconds between two checks of that."""


class InFlight:
    """The flights of one client. All methods may be called on any thread.

    ``transports`` are the transports passed to the client. httpx's own transports report what they do by
    trace events. Another transport may mark the `Flight` that it finds under `IN_FLIGHT`, and may have a
    method ``end_requests``, which `close` calls on any thread.
    """

    # No lock: an interrupt right after acquiring it would leave it locked. Each change of a set is one
    # step of the interpreter.

    def __init__(self, transports: Sequence[object] = ()) -> None:
        self.is_traced: bool = not transports
        self.closed: bool = False
        self.was_connected: bool = False
        """Whether a connection was made. Only known for httpx's own transports."""
        self._transports = transports
        self._pid = os.getpid()
        self.running: set[Flight] = set()
        self._streams: set[weakref.ref[Flight]] = set()
        self._sockets: set[socket.socket] = set()

    def keep(self, flight: Flight) -> weakref.ref[Flight]:
        """Record the flight of a stream, for as long as the stream is referenced."""
        ref = weakref.ref(flight, self._streams.discard)
        self._streams.add(ref)
        return ref

    def forget(self, ref: weakref.ref[Flight]) -> None:
        """Remove the flight of a stream that was closed."""
        self._streams.discard(ref)

    def _forget_the_parents(self) -> None:
        """In a forked child, forget the parent's flights: this client must not end them."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.running, self._streams, self._sockets = set(), set(), set()

    def connected(self, connection: socket.socket) -> None:
        """Record a connection that `close` must shut down."""
        self._forget_the_parents()
        self.was_connected = True
        for known in list(self._sockets):
            if known.fileno() < 0:
                self._sockets.discard(known)
        self._sockets.add(connection)

    def close(self) -> None:
        """End all flights and refuse new ones."""
        self.closed = True
        self._forget_the_parents()
        streams = [stream for ref in list(self._streams) if (stream := ref()) is not None]
        for flight in {*list(self.running), *streams}:
            flight.end()
        for transport in self._transports:
            if (end_requests := getattr(transport, "end_requests", None)) is not None:
                end_requests()
        for connection in list(self._sockets):
            with suppress(OSError):  # it is already closed
                # The method of plain sockets: that of TLS would drop state another thread still uses.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def wait(self) -> None:
        """After `close`, in sync code: wait until no other thread uses a connection.

        As soon as a connection is closed, its file descriptor may be reused, and a thread that still
        reads from the old one would read someone else's data.
        """
        until = time.monotonic() + _LONGEST_GOODBYE
        here = threading.get_ident()
        while time.monotonic() < until and any(
            flight.sent and flight.thread != here for flight in list(self.running)
        ):
            time.sleep(_STEP)


class Flight:
    """One flight of a sync client; `AsyncFlight` is the one for async clients."""

    # Class-level defaults: setting each of them per instance takes time in every request.
    thread: int | None = None
    """The id of the thread that runs it."""
    _was_late = _ended = _answered = False
    _on_end: Callable[[], object] | None = None
    _stream: weakref.ref[Flight] | None = None
    _others: Callable[..., Any] | None = None

    def __init__(self, client: InFlight, request: httpx.Request) -> None:
        self.request = request
        self.sent: bool | None = False if client.is_traced else None
        """Whether anything may have been sent to the server; None if the transport does not report it."""
        self._client = client

    def ended(self) -> bool:
        """Return whether the client has been closed."""
        return self._ended

    def end(self) -> None:
        """End the flight: the client is closed."""
        self._ended = True
        if self._on_end is not None:
            self._on_end()

    def on_end(self, callback: Callable[[], object]) -> None:
        """Call a function when the client is closed, on any thread, or now if it is already closed."""
        self._on_end = callback
        if self.ended():
            callback()

    def error(self) -> ClientClosed:
        """Return the error that tells the caller of the close."""
        what = f"{self.request.method} {shown_url(self.request.url)}"
        if self._answered:
            message = f"The client was closed before the answer to {what} was read"
        elif self._was_late:
            message = f"The client is closed: {what} was not sent"
        else:
            message = f"The client was closed before {what} was answered"
        error = ClientClosed(message, request=bare_request(self.request))
        if not (self._was_late or self._answered or self.sent is False):
            error.may_have_acted(repeatable=is_repeatable(self.request))
        return error

    def send(self, send: Callable[..., R], request: httpx.Request, **options: Any) -> R:
        """Send the request with ``send``, as httpx does.

        Raises:
            ClientClosed: the client is closed, or was closed while the request was in progress.
        """
        extensions = request.extensions
        request.extensions = self._traced(extensions, self._trace)
        try:
            return self.run(send, request, **options)
        finally:
            request.extensions = extensions

    def keep(self, response: R) -> R:
        """Keep a response in flight that the caller will read."""
        assert isinstance(response.stream, httpx.SyncByteStream)
        self._keep()
        response.stream = _Stream(response.stream, self)
        return response

    def run(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call a function that returns or raises when the client is closed."""
        self.thread = threading.get_ident()
        try:
            self.begin()
            result = function(*args, **options)
        except Exception as exc:  # noqa: BLE001 - each is raised again, or is the cause of what is raised
            raise self.told(exc) from exc.__cause__
        finally:
            self.over()
        if self.ended():
            # A body that ends with its connection may have been cut off.
            raise self.error()
        return result

    def leave(self) -> None:
        """Remove the flight: its stream is closed."""
        if self._stream is not None:
            self._client.forget(self._stream)

    def _keep(self) -> None:
        self._answered = True
        self._stream = self._client.keep(self)
        if self._client.closed:
            self.end()

    def begin(self) -> None:
        """Begin to run; the caller must call `over` at the end."""
        self._client.running.add(self)
        if self._client.closed:  # otherwise `close` will find this flight
            self._refuse()

    def _refuse(self) -> NoReturn:
        self._ended = self._was_late = True
        raise self.error()

    def over(self) -> None:
        """Record that it no longer runs."""
        self._client.running.discard(self)

    def told(self, exc: Exception) -> Exception:
        """Return the error to raise for an error: the same one, or `ClientClosed`, as closing the client
        may have caused it."""
        if isinstance(exc, ClientClosed) or not self.ended():
            return exc
        error = self.error()
        error.__cause__ = exc
        return error

    def _traced(self, extensions: Any, trace: Callable[..., Any]) -> dict[str, Any]:
        self._others = extensions.get("trace")
        return {**extensions, "trace": trace, IN_FLIGHT: self}

    def _trace(self, name: str, info: dict[str, Any]) -> None:
        """Handle an event of httpcore's trace extension, which reports on the request's connection."""
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
        # A CONNECT goes to the proxy; nothing has been sent to the server yet.
        if name.endswith(_SENDING) and info["request"].method != b"CONNECT":
            self.sent = True


class AsyncFlight(Flight):
    """One flight of an async client. On asyncio, closing cancels its task, and the cancellation is undone
    at the end: a cancel scope takes 3 % of a request."""

    _task: asyncio.Task[Any] | None = None
    _is_cancelled = False
    _token: Any = None
    _scope: anyio.CancelScope | None = None

    def end(self) -> None:
        """End the flight, from any thread: the client is closed."""
        super().end()
        loop = self._token if self._task is None else self._task.get_loop()
        if loop is not None:  # otherwise it is a stream that nobody is reading now
            _call_on(loop, self._cancel)

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        task = self._task
        # A task that closes its own client gets the error at its next step.
        if task is not None and not self._is_cancelled and task is not asyncio.current_task():
            self._is_cancelled = True
            task.cancel()

    async def asend(
        self,
        send: Callable[..., Awaitable[R]],
        request: httpx.Request,
        **options: Any,
    ) -> R:
        """Send the request as `send` does, in async code. For a repeatable request `arun` is enough: it
        does not matter how far it got."""
        extensions = request.extensions
        request.extensions = self._traced(extensions, self._atrace)
        try:
            return await self.arun(send, request, **options)
        finally:
            request.extensions = extensions

    def keep(self, response: R) -> R:
        """Keep a response in flight as `Flight.keep` does."""
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._keep()
        response.stream = _AsyncStream(response.stream, self)
        return response

    async def arun(self, function: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        """Await a function until it ends or the client is closed."""
        if not on_asyncio():
            return await self._arun_on_trio(function, *args, **options)
        try:
            self.begin()
            return await function(*args, **options)
        except asyncio.CancelledError:
            if not self.was_cancelled():
                raise
        except Exception as exc:  # noqa: BLE001 - each is raised again, or is the cause of what is raised
            raise self.told(exc) from exc.__cause__
        finally:
            self.over()
        raise self.error()

    def begin(self) -> None:
        """Begin to run, on asyncio."""
        self._task = asyncio.current_task()
        self._client.running.add(self)  # as in `Flight.begin`, without the time of a call
        if self._client.closed:
            self._refuse()

    def over(self) -> None:
        """Record that it no longer runs, as `Flight.over` does."""
        self._client.running.discard(self)
        task, self._task = self._task, None
        if self._is_cancelled and task is not None and sys.version_info >= (3, 11):
            task.uncancel()

    def was_cancelled(self) -> bool:
        """Return whether the close, and nothing else, has cancelled the task."""
        if sys.version_info >= (3, 11) and self._task is not None:
            return self._is_cancelled and self._task.cancelling() == 1
        return self._is_cancelled  # Python 3.10 does not count

    async def _arun_on_trio(
        self, function: Callable[..., Awaitable[T]], *args: Any, **options: Any
    ) -> T:
        self._token = current_loop()
        try:
            with anyio.CancelScope() as self._scope:
                super().begin()
                return await function(*args, **options)
        except Exception as exc:  # noqa: BLE001 - each is raised again, or is the cause of what is raised
            raise self.told(exc) from exc.__cause__
        finally:
            self._scope = self._token = None
            self.over()
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


def on_asyncio() -> bool:
    """Return whether this code runs on asyncio; otherwise it runs on trio."""
    return "trio" not in sys.modules or not _in_trio()()


@cache
def _in_trio() -> Callable[[], bool]:
    from trio import lowlevel

    if hasattr(lowlevel, "in_trio_run"):
        asks: Callable[[], bool] = lowlevel.in_trio_run
        return asks

    def ask() -> bool:
        with suppress(RuntimeError):  # no task; before trio 0.28 this is the only way to find out
            lowlevel.current_task()
            return True
        return False

    return ask


def _call_on(loop: Any, function: Callable[[], object]) -> None:
    """Call a function on an event loop: now if the loop runs here, otherwise soon."""
    if current_loop() is loop:
        function()
        return
    with suppress(RuntimeError):  # the loop has ended, so nothing waits there
        if isinstance(loop, _AsyncioLoop):
            loop.call_soon_threadsafe(function)
        else:
            loop.run_sync_soon(function)
