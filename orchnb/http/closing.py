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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NoReturn, TypeVar

import anyio
import httpx

from orchnb.errors import ClientClosed
from orchnb.event_loop import current_loop
from orchnb.http.response import bare_request
from orchnb.http.retry import is_repeatable
from orchnb.redaction import shown_url

T = TypeVar("T")
R = TypeVar("R", bound=httpx.Response)

_AsyncioLoop = asyncio.AbstractEventLoop

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

    ``transports`` are those that the client was given. httpx's own tell what they do by traces; another
    one may mark the `Flight` that it finds under `IN_FLIGHT`, and have a method ``end_requests``, which
    the close calls on whatever thread.
    """

    # No lock: an interrupt right after one was acquired would leave it so. Each change of a set is one
    # step of the interpreter.

    def __init__(self, transports: Sequence[object] = ()) -> None:
        self.is_traced = not transports
        self.closed = False
        self.was_connected = False
        """Whether a connection was made. Known only with httpx's own transports."""
        self._transports = transports
        self._pid = os.getpid()
        self.running: set[Flight] = set()
        self._streams: set[weakref.ref[Flight]] = set()
        self._sockets: set[socket.socket] = set()

    def keep(self, flight: Flight) -> weakref.ref[Flight]:
        """Note the flight of a stream, for as long as somebody holds that."""
        ref = weakref.ref(flight, self._streams.discard)
        self._streams.add(ref)
        return ref

    def forget(self, ref: weakref.ref[Flight]) -> None:
        """The stream was closed."""
        self._streams.discard(ref)

    def _forget_the_parents(self) -> None:
        """In a forked child: what the parent does is not this client's to end."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.running, self._streams, self._sockets = set(), set(), set()

    def connected(self, connection: socket.socket) -> None:
        """Note a connection that is to be shut down at the close."""
        self._forget_the_parents()
        self.was_connected = True
        for known in list(self._sockets):
            if known.fileno() < 0:
                self._sockets.discard(known)
        self._sockets.add(connection)

    def close(self) -> None:
        """End all flights, and refuse new ones."""
        self.closed = True
        self._forget_the_parents()
        streams = [stream for ref in list(self._streams) if (stream := ref()) is not None]
        for flight in {*list(self.running), *streams}:
            flight.end()
        for transport in self._transports:
            if (end_requests := getattr(transport, "end_requests", None)) is not None:
                end_requests()
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
            flight.sent and flight.thread != here for flight in list(self.running)
        ):
            time.sleep(_STEP)


class Flight:
    """One flight of a sync client; `AsyncFlight` is that of an async one."""

    # Defaults of the class: setting each of them anew takes time in each request.
    thread: int | None = None
    """The thread in which it runs."""
    _was_late = _ended = _answered = False
    _on_end: Callable[[], object] | None = None
    _stream: weakref.ref[Flight] | None = None
    _others: Callable[..., Any] | None = None

    def __init__(self, client: InFlight, request: httpx.Request) -> None:
        self.request = request
        self.sent: bool | None = False if client.is_traced else None
        """Whether the server may have been sent anything; None if the transport does not tell."""
        self._client = client

    def ended(self) -> bool:
        """Whether the client has been closed."""
        return self._ended

    def end(self) -> None:
        """The client is closed."""
        self._ended = True
        if self._on_end is not None:
            self._on_end()

    def on_end(self, callback: Callable[[], object]) -> None:
        """Have a function called when the client is closed, on any thread, or now if it has been."""
        self._on_end = callback
        if self.ended():
            callback()

    def error(self) -> ClientClosed:
        """What its caller is told of the close."""
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
        """Send the request by ``send``, as httpx does.

        Raises:
            ClientClosed: the client is closed, or was while the request was under way.
        """
        extensions = request.extensions
        request.extensions = self._traced(extensions, self._trace)
        try:
            return self.run(send, request, **options)
        finally:
            request.extensions = extensions

    def keep(self, response: R) -> R:
        """Keep a response in flight that is the caller's to read."""
        assert isinstance(response.stream, httpx.SyncByteStream)
        self._keep()
        response.stream = _Stream(response.stream, self)
        return response

    def run(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Call a function that a close makes return or raise."""
        self.thread = threading.get_ident()
        try:
            self.begin()
            result = function(*args, **options)
        except Exception as exc:  # noqa: BLE001 - each goes on, or is the cause of what does
            raise self.told(exc) from exc.__cause__
        finally:
            self.over()
        if self.ended():
            # A body that ends where its connection does may have been cut off.
            raise self.error()
        return result

    def leave(self) -> None:
        """The stream is closed."""
        if self._stream is not None:
            self._client.forget(self._stream)

    def _keep(self) -> None:
        self._answered = True
        self._stream = self._client.keep(self)
        if self._client.closed:
            self.end()

    def begin(self) -> None:
        """Begin to run; it must be `over` in the end."""
        self._client.running.add(self)
        if self._client.closed:  # else whoever closes it knows of this one
            self._refuse()

    def _refuse(self) -> NoReturn:
        self._ended = self._was_late = True
        raise self.error()

    def over(self) -> None:
        """It does not run any more."""
        self._client.running.discard(self)

    def told(self, exc: Exception) -> Exception:
        """What the caller is told of an error: that, or that the client was closed, which may have broken
        anything."""
        if isinstance(exc, ClientClosed) or not self.ended():
            return exc
        error = self.error()
        error.__cause__ = exc
        return error

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
    """One flight of an async client. On asyncio the close cancels its task, and takes the cancellation
    back in the end: a cancel scope takes 3 % of a request."""

    _task: asyncio.Task[Any] | None = None
    _is_cancelled = False
    _token: Any = None
    _scope: anyio.CancelScope | None = None

    def end(self) -> None:
        """The client is closed, on whatever thread."""
        super().end()
        loop = self._token if self._task is None else self._task.get_loop()
        if loop is not None:  # else it is a stream that nobody reads now
            _call_on(loop, self._cancel)

    def _cancel(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        task = self._task
        # One that closes its own client is told by what it does next.
        if task is not None and not self._is_cancelled and task is not asyncio.current_task():
            self._is_cancelled = True
            task.cancel()

    async def asend(
        self,
        send: Callable[..., Awaitable[R]],
        request: httpx.Request,
        **options: Any,
    ) -> R:
        """`send` for async code. A request that may be repeated can do without, by `arun`: it makes no
        difference how far it has come."""
        extensions = request.extensions
        request.extensions = self._traced(extensions, self._atrace)
        try:
            return await self.arun(send, request, **options)
        finally:
            request.extensions = extensions

    def keep(self, response: R) -> R:
        """As `Flight.keep`."""
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._keep()
        response.stream = _AsyncStream(response.stream, self)
        return response

    async def arun(self, function: Callable[..., Awaitable[T]], *args: Any, **options: Any) -> T:
        """Await a function until its end or that of the client."""
        if not on_asyncio():
            return await self._arun_on_trio(function, *args, **options)
        try:
            self.begin()
            return await function(*args, **options)
        except asyncio.CancelledError:
            if not self.was_cancelled():
                raise
        except Exception as exc:  # noqa: BLE001 - each goes on, or is the cause of what does
            raise self.told(exc) from exc.__cause__
        finally:
            self.over()
        raise self.error()

    def begin(self) -> None:
        """Begin to run, on asyncio."""
        self._task = asyncio.current_task()
        self._client.running.add(self)  # as the other one does; a call takes time in each request
        if self._client.closed:
            self._refuse()

    def over(self) -> None:
        """As `Flight.over`."""
        self._client.running.discard(self)
        task, self._task = self._task, None
        if self._is_cancelled and task is not None and sys.version_info >= (3, 11):
            task.uncancel()

    def was_cancelled(self) -> bool:
        """Whether it is the close that has cancelled the task, and nobody else as well."""
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
        except Exception as exc:  # noqa: BLE001 - each goes on, or is the cause of what does
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
    """Whether this code runs on a loop of asyncio's; else it is trio's."""
    return "trio" not in sys.modules or not _in_trio()()


@cache
def _in_trio() -> Callable[[], bool]:
    from trio import lowlevel

    if hasattr(lowlevel, "in_trio_run"):
        asks: Callable[[], bool] = lowlevel.in_trio_run
        return asks

    def ask() -> bool:
        with suppress(RuntimeError):  # no task: before 0.28 trio has only this to tell it by
            lowlevel.current_task()
            return True
        return False

    return ask


def _call_on(loop: Any, function: Callable[[], object]) -> None:
    """Call a function on a loop: now, if that runs here, else soon."""
    if current_loop() is loop:
        function()
        return
    with suppress(RuntimeError):  # it has ended, and nobody waits there
        if isinstance(loop, _AsyncioLoop):
            loop.call_soon_threadsafe(function)
        else:
            loop.run_sync_soon(function)
