"""httpx transports that pass requests to an app on the host, and return its responses.

The caller may be on any event loop, or on none. Responses stream: the caller can read the first part
before the app has sent the rest.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from typing import Any, NoReturn

import httpx

from orchnb.hosting.host import HostedApp, on_host_thread
from orchnb.hosting.lifespan import app_call
from orchnb.http.closing import IN_FLIGHT, Flight
from orchnb.runtime.futures import ThreadFuture
from orchnb.runtime.loops import LoopEvent, loop_event

logger: logging.Logger = logging.getLogger(__name__)

_MOST_BUFFERED = 1024 * 1024
"""Bytes of a response to buffer for a slow reader before the app has to wait."""

_PARTS = 4
"""The number of parts that a timeout is split into. A jump of the clock, after a laptop's sleep or while
a cell let no other thread run, uses up at most one of them: the app has not had that time."""

_LONGEST_DELAY = 0.002
"""Seconds to delay a response's head for the first part of its body, and the end of the body for the app
to return. Waking another thread is the main cost, and mostly one wake-up is enough for all of them."""


class HostedTransport(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Sends requests to an app on the host, as an async and as a sync transport.

    It waits until the app has started, so a client may be created during the start-up, and applies
    httpx's ``read`` timeout between any two parts of a response. It does not own the `HostedApp`:
    closing the transport does not stop the app. Each request calls ``find`` for the app to use, which
    returns another one if the first has stopped, and None if it was released.
    """

    def __init__(self, find: Callable[[], HostedApp | None]) -> None:
        self._find = find
        # No lock: each change is one step of the interpreter, and an interrupt right after acquiring a
        # lock would leave it locked.
        self._exchanges: set[_Exchange] = set()
        self._ends_requests = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises the errors of starting the app, and ``httpx.ReadTimeout``."""
        assert isinstance(request.stream, httpx.AsyncByteStream)
        body = b"".join([part async for part in request.stream])
        while True:
            _mark(request, sent=False)
            hosted = self._usable(request)
            if not hosted.is_up:
                await hosted.wait_started_async()
                self._refuse_ended(hosted, request)
            event = loop_event()
            exchange = _Exchange(hosted, request, body, event.set, self._exchanges)
            stream = _AsyncStream(exchange)
            self._begin(exchange)
            await stream.wait(event)
            if not exchange.unsent:
                return exchange.response(stream)
            await hosted.wait_closed_async()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request from sync code, but not from the code of a hosted app."""
        if on_host_thread():
            raise RuntimeError(
                "A sync client would deadlock here: use an async client in the code of a hosted app"
            )
        assert isinstance(request.stream, httpx.SyncByteStream)
        body = b"".join(request.stream)
        while True:
            _mark(request, sent=False)
            hosted = self._usable(request)
            if not hosted.is_up:
                hosted.wait_started()
                self._refuse_ended(hosted, request)
            told: ThreadFuture[None] = ThreadFuture()
            exchange = _Exchange(hosted, request, body, told.set_result, self._exchanges)
            stream = _SyncStream(exchange)
            self._begin(exchange)
            stream.wait(told)
            if not exchange.unsent:
                return exchange.response(stream)
            hosted.wait_closed()

    def end_requests(self) -> None:
        """End all requests and notify the app, from any thread: the client is closed."""
        self._ends_requests = True
        for exchange in list(self._exchanges):
            exchange.cut()

    def _begin(self, exchange: _Exchange) -> None:
        _mark(exchange.request, sent=True)
        self._exchanges.add(exchange)
        exchange.hosted.host.begin(exchange)
        if self._ends_requests:
            exchange.cut()

    def _usable(self, request: httpx.Request) -> HostedApp:
        hosted = self._find()
        if hosted is None or hosted.closed:
            raise httpx.ConnectError("The in-kernel server has been stopped", request=request)
        return hosted

    def _refuse_ended(self, hosted: HostedApp, request: httpx.Request) -> None:
        if hosted.ended:
            raise httpx.ConnectError(
                "The in-kernel server has stopped unexpectedly", request=request
            )


class _Exchange:
    """One request and its response.

    The app's side runs on the host's loop, the caller's side wherever the caller is. ``_lock`` guards
    the state that both use; ``notify`` wakes the caller, and is called once per wait. ``under_way``
    contains the transport's exchanges; this one removes itself at its end.
    """

    def __init__(
        self,
        hosted: HostedApp,
        request: httpx.Request,
        body: bytes,
        notify: Callable[[], object],
        under_way: set[_Exchange],
    ) -> None:
        self.request = request
        self._under_way = under_way
        timeouts = request.extensions.get("timeout", {})
        self.read_timeout: float | None = timeouts.get("read")
        self.hosted = hosted
        self._body = body
        self._body_sent = False
        self._lock = threading.Lock()
        self._notify: Callable[[], object] | None = notify
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._complete = False
        self._broken = ""
        self._called = False
        self._cancelled = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # asyncio's events bind to a loop at the first wait: the host's.
        self._disconnected = asyncio.Event()
        self._room = asyncio.Event()

    # On the host.

    def begin(self) -> None:
        """Start the app's call."""
        self._task = self.hosted.host.loop.create_task(self._call_app())
        self._task.add_done_callback(self._over)

    async def _call_app(self) -> None:
        hosted = self.hosted
        try:
            with app_call(hosted.app, self._cancel) as is_up:
                # An app whose lifespan has ended by itself still answers, until it is closed.
                if is_up or not hosted.closed:
                    self._called = True
                    await hosted.app(self._scope(), self._receive, self._send)
        except BaseException as exc:
            if self._cancelled or hosted.host.stopping:
                self.host_ended()
            else:
                logger.error("The app failed on %s", self.request.method, exc_info=exc)

    def _cancel(self) -> None:
        """Cancel the call: the app is shutting down, and cannot wait any longer."""
        self._cancelled = True
        if self._task is not None:
            self._task.cancel()

    def _over(self, _: asyncio.Task[None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Here, because a task that is cancelled before its first step runs none of its code.
        self._finish("The app ended before its response was complete", answer=self._called)
        self.hosted.host.calls.discard(self)
        self._under_way.discard(self)
        # Released here, because asyncio then runs a callback, which in the caller's thread could swallow
        # an interrupt.
        self._task = None

    def host_ended(self) -> None:
        """Tell the caller, from any thread, that there will be no more data."""
        self._under_way.discard(self)
        self._finish("The in-kernel server was stopped before it responded", answer=False)

    def _finish(self, broken: str, *, answer: bool = True) -> None:
        """End the response; if the app has not started one, make it a 500, as any server does."""
        with self._lock:
            if not self._complete:
                self._complete = True
                if answer and self._head is None:
                    self._head = (500, [(b"content-type", b"text/plain; charset=utf-8")])
                    self._chunks.append(b"Internal Server Error")
                else:
                    self._broken = broken
        self._tell()

    def _tell(self) -> None:
        """Wake the caller, if it is waiting."""
        if self._notify is None:
            return
        with self._lock:
            notify, self._notify = self._notify, None
        if notify is not None:
            notify()

    def _scope(self) -> dict[str, Any]:
        request = self.request
        url = request.url
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [
                (name.lower(), value if type(value) is bytes else bytes(value))
                for name, value in request.headers.raw
            ],
            "server": (url.host, url.port),
            "client": ("127.0.0.1", 0),
            "state": self.hosted.state.copy(),
        }

    async def _receive(self) -> MutableMapping[str, Any]:
        if not self._body_sent:
            self._body_sent = True
            body, self._body = self._body, b""
            return {"type": "http.request", "body": body, "more_body": False}
        await self._disconnected.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.body":
            if self._add(message.get("body", b""), more=message.get("more_body", False)):
                await self._room.wait()
        else:
            raise RuntimeError(f"A response has no message {kind!r}")

    def _start(self, message: MutableMapping[str, Any]) -> None:
        headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        with self._lock:
            if self._head is not None:
                raise RuntimeError("The app started its response twice")
            self._head = (message["status"], headers)
        self._tell_later()

    def _tell_later(self) -> None:
        self._timer = self.hosted.host.loop.call_later(_LONGEST_DELAY, self._tell)

    def _add(self, chunk: bytes, *, more: bool) -> bool:
        """Add a part of the body; return whether the app must wait until there is room for the next."""
        with self._lock:
            if self._head is None:
                raise RuntimeError("The app sent a body before it had started its response")
            if self._complete or self._disconnected.is_set():
                return False  # nobody reads it any more, which need not concern the app
            if chunk and self.request.method != "HEAD":
                self._chunks.append(bytes(chunk))
                self._buffered += len(chunk)
            self._complete = not more
            full = more and self._buffered > _MOST_BUFFERED
            if full:
                self._room.clear()
        if self._timer is not None:
            self._timer.cancel()
        # Not now: while the app continues, the caller would only wait for the interpreter lock.
        if more:
            self.hosted.host.loop.call_soon(self._tell)
        else:
            self._disconnected.set()
            self._tell_later()
        return full

    # On the caller's side.

    def cut(self) -> None:
        """End the caller's wait, from any thread, and send the app a disconnect."""
        self._finish("The client was closed", answer=False)
        self.abandon()

    @property
    def unsent(self) -> bool:
        """Whether it has ended without a call of the app, because the app was shutting down."""
        return self._complete and not self._called

    def take(self, notify: Callable[[], object]) -> bytes | None:
        """Return the data that the app has sent since the last call; b"" if there is none yet (then
        ``notify`` will be called once); None at the end of the body."""
        with self._lock:
            if self._chunks:
                data = b"".join(self._chunks)
                self._chunks.clear()
                was_full, self._buffered = self._buffered > _MOST_BUFFERED, 0
            elif not self._complete:
                self._notify = notify
                return b""
            elif self._broken:
                raise httpx.RemoteProtocolError(self._broken, request=self.request)
            else:
                return None
        if was_full:
            self.hosted.host.post(self._room.set)
        return data

    def response(self, stream: httpx.AsyncByteStream | httpx.SyncByteStream) -> httpx.Response:
        """Return the response, after the first wait."""
        if self._head is None:
            raise httpx.RemoteProtocolError(self._broken, request=self.request)
        status, headers = self._head
        return httpx.Response(status, headers=headers, stream=stream)

    def abandon(self) -> None:
        """Send the app a disconnect, as any server does: the caller is gone. The app continues."""
        self.hosted.host.post(self._disconnect)

    def _disconnect(self) -> None:
        self._disconnected.set()
        self._room.set()

    def raise_timeout(self) -> NoReturn:
        raise httpx.ReadTimeout(
            f"The in-kernel server sent nothing for {self.read_timeout:g} s",
            request=self.request,
        )


def _mark(request: httpx.Request, *, sent: bool) -> None:
    """Record for the client whether the app may have received the request."""
    flight: Flight | None = request.extensions.get(IN_FLIGHT)
    if flight is not None:
        flight.sent = sent


class _AsyncStream(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._ended = False

    async def wait(self, event: LoopEvent) -> None:
        exchange = self._exchange
        part = None if exchange.read_timeout is None else exchange.read_timeout / _PARTS
        try:
            for _ in range(_PARTS):
                if await event.wait(part):
                    return
        except BaseException:
            exchange.abandon()
            raise
        exchange.abandon()
        exchange.raise_timeout()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            event = loop_event()
            data = self._exchange.take(event.set)
            if data is None:
                self._ended = True
                return
            if data:
                yield data
            else:
                await self.wait(event)

    async def aclose(self) -> None:
        if not self._ended:
            self._exchange.abandon()


class _SyncStream(httpx.SyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange
        self._ended = False

    def wait(self, told: ThreadFuture[None]) -> None:
        exchange = self._exchange
        try:
            answered = told.wait(
                math.inf if exchange.read_timeout is None else exchange.read_timeout
            )
        except BaseException:
            exchange.abandon()
            raise
        if not answered:
            exchange.abandon()
            exchange.raise_timeout()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            told: ThreadFuture[None] = ThreadFuture()
            data = self._exchange.take(told.set_result)
            if data is None:
                self._ended = True
                return
            if data:
                yield data
            else:
                self.wait(told)

    def close(self) -> None:
        if not self._ended:
            self._exchange.abandon()
