"""A client that is closed while requests are under way: each of them ends at once, and says why."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio.from_thread
import httpx
import pytest

import orchnb
from orchnb.errors import ClientClosed
from orchnb.http.retry import ONCE, RetryPolicy, observe_retries
from tests.http.test_clients_tls import certificate, serving  # noqa: F401 - a fixture
from tests.http.wire import Wire, http, read_request, reset, wire

SECONDS = 10.0
"""Far longer than anything here should take, and shorter than what is cut short."""

KINDS = ("asyncio", "trio", "sync")


class Client:
    """A client of either kind, whose requests are made elsewhere: in threads, or on a loop."""

    def __init__(self, kind: str, stack: ExitStack, **options: Any) -> None:
        self.kind = kind
        options = {"trust_env": False, "timeout": 3600, **options}
        if kind == "sync":
            self.client: Any = orchnb.PrefectHttpxSyncClient(**options)
            self._start: Any = stack.enter_context(ThreadPoolExecutor(8)).submit
            self._call: Any = lambda function: function()
            self._close = self.client.close
        else:
            portal = stack.enter_context(anyio.from_thread.start_blocking_portal(kind))
            self.client = orchnb.PrefectHttpxAsyncClient(**options)
            self._start = portal.start_task_soon
            self._call = portal.call
            self._close = self.client.aclose
        stack.callback(self.close)

    def ask(self, url: str, method: str = "GET", **options: Any) -> Future[Any]:
        return self._start(partial(self.client.request, method, url, **options))

    def read(self, url: str, has_begun: threading.Event, method: str = "GET") -> Future[Any]:
        """Read a streamed answer, telling when the first part is there."""

        def read() -> None:
            with self.client.stream(method, url) as response:
                for _ in response.iter_raw():
                    has_begun.set()

        async def aread() -> None:
            async with self.client.stream(method, url) as response:
                async for _ in response.aiter_raw():
                    has_begun.set()

        return self._start(read if self.kind == "sync" else aread)

    def close(self) -> None:
        self._call(self._close)


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Iterator[Callable[..., Client]]:
    with ExitStack() as stack:
        yield lambda **options: Client(request.param, stack, **options)


def closed(outcome: Future[Any]) -> ClientClosed:
    error = outcome.exception(SECONDS)
    assert isinstance(error, ClientClosed), repr(error)
    assert error.request is not None
    return error


def hang_in_body(server: Wire, head: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\npart")
        server.hang(connection)

    return answer


class Phase(NamedTuple):
    """How far a request has come. ``left_open`` is whether the server may have acted."""

    answers: Callable[[Wire], list[Any]]
    left_open: bool


PHASES = {
    "waiting for the answer": Phase(lambda server: [server.hang], True),
    "within the head": Phase(
        lambda server: [lambda c: (c.sendall(b"HTTP/1.1 200 O"), server.hang(c))], True
    ),
    "within the body": Phase(lambda server: [hang_in_body(server, b"Content-Length: 9\r\n")], True),
    "within a body that ends with its connection": Phase(
        lambda server: [hang_in_body(server, b"")], True
    ),
    "waiting for the answer to a second try": Phase(
        lambda server: [http(503, b"", "Retry-After: 0"), server.hang], True
    ),
}


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH"])
@pytest.mark.parametrize("name", PHASES)
def test_a_request_ends_at_once_wherever_it_is(make: Any, name: str, method: str) -> None:
    phase = PHASES[name]
    with wire() as server:
        server.answers[:] = phase.answers(server)
        client = make()
        asked = client.ask(server.url, method)
        assert server.hanging.wait(SECONDS)
        client.close()
        error = closed(asked)
        sent = len(server.requests)
    assert error.message == f"The client was closed before {method} {server.url} was answered"
    assert error.left_open == (phase.left_open and method in ("POST", "PATCH"))
    assert ("find out before" in error.hint) == error.left_open
    assert len(server.requests) == sent


@pytest.mark.parametrize("once", [True, False])
def test_what_may_be_repeated_is_said_by_who_knows(make: Any, once: bool) -> None:
    with wire() as server:
        server.answers[:] = [server.hang]
        client = make()
        asked = client.ask(server.url, "POST", extensions={ONCE: once})
        assert server.hanging.wait(SECONDS)
        client.close()
        assert closed(asked).left_open == once


FAILURES = {
    "refused": (http(503, b"", "Retry-After: 30"), False),
    "in maintenance": (http(503, b"", "Retry-After: 30", "Prefect-Maintenance: true"), False),
    "lost": (reset, True),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_wait_between_two_tries_ends_at_once(make: Any, name: str) -> None:
    answer, left_open = FAILURES[name]
    waits = threading.Event()
    kinds: list[str] = []

    def watch(event: Any) -> None:
        kinds.append(event.kind)
        waits.set()

    with wire(answer) as server, observe_retries(watch):
        client = make(retry_policy=RetryPolicy(jitter_factor=0))
        asked = client.ask(server.url, "POST")
        assert waits.wait(SECONDS)
        began = time.monotonic()
        client.close()
        assert closed(asked).left_open == left_open
        assert time.monotonic() - began < 1.5  # the shortest of the waits is 2 s
    assert kinds == ["waiting", "stopped"]
    assert len(server.requests) == 1


def test_a_request_that_waits_for_a_connection_is_never_sent(make: Any) -> None:
    with wire() as server:
        server.answers[:] = [server.hang]
        client = make(limits=httpx.Limits(max_connections=1))
        first = client.ask(server.url, "POST")
        assert server.hanging.wait(SECONDS)
        queued = [client.ask(server.url, "POST") for _ in range(3)]
        time.sleep(0.1)  # nobody tells when they wait; if they do not yet, the outcome is the same
        client.close()
        assert closed(first).left_open
        assert not any(closed(each).left_open for each in queued)
    assert len(server.requests) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse what does not fit")
@pytest.mark.parametrize("kind", ["asyncio", "trio"])
def test_a_request_that_is_being_connected_is_never_sent(kind: str) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        filler = stack.enter_context(socket.socket())
        filler.connect(listener.getsockname())  # the queue is full: nobody else gets an answer
        client = Client(kind, stack)
        asked = client.ask(f"http://127.0.0.1:{listener.getsockname()[1]}/", "POST")
        time.sleep(0.1)  # as above
        client.close()
        assert not closed(asked).left_open


def test_after_the_close_nothing_is_sent(make: Any) -> None:
    with wire(http(200)) as server:
        client = make()
        assert client.ask(server.url).result(SECONDS).status_code == 200
        client.close()
        error = closed(client.ask(server.url, "POST"))
        assert error.message == f"The client is closed: POST {server.url} was not sent"
        assert not error.left_open
    assert len(server.requests) == 1


@pytest.mark.parametrize("head", [b"Content-Length: 9\r\n", b""], ids=["with", "without"])
def test_who_reads_a_stream_is_told_at_once(make: Any, head: bytes) -> None:
    """With and without a length: without, the end of the connection would be that of the body."""
    begun = threading.Event()
    with wire() as server:
        server.answers[:] = [hang_in_body(server, head)]
        client = make()
        asked = client.read(server.url, begun, "POST")
        assert begun.wait(SECONDS)
        client.close()
        error = closed(asked)
    assert error.message == f"The client was closed before the answer to POST {server.url} was read"
    assert not error.left_open, "the server has answered"


def test_a_stream_that_is_read_to_its_end_or_left_is_no_matter_of_the_close(make: Any) -> None:
    begun = threading.Event()
    with wire(http(200, b"whole")) as server:
        client = make()
        assert client.read(server.url, begun).result(SECONDS) is None
        assert not client.client._in_flight.running
        assert not client.client._in_flight._streams
        client.close()


def test_all_of_many_end(make: Any) -> None:
    with wire() as server:
        server.answers[:] = [server.hang]
        client = make()
        asked = [client.ask(server.url) for _ in range(8)]
        while len(server.requests) < 8:
            time.sleep(0.01)
        client.close()
        for each in asked:
            closed(each)


def test_answers_that_arrive_as_the_client_is_closed_are_answers_or_a_close(make: Any) -> None:
    """In whatever moment, and never anything else."""
    outcomes: set[str] = set()
    with wire(http(200, b"[]")) as server:
        for number in range(30):
            client = make()
            asked = [client.ask(server.url) for _ in range(3)]
            time.sleep(number * 0.0003)
            client.close()
            for each in asked:
                error = each.exception(SECONDS)
                outcomes.add(type(error).__name__)
                if error is None:
                    assert each.result().json() == []
    assert outcomes <= {"NoneType", "ClientClosed"}


def hang_over_http2(connection: socket.socket) -> None:
    import h2.config
    import h2.connection

    talk = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    talk.initiate_connection()
    connection.sendall(talk.data_to_send())
    while data := connection.recv(65536):
        talk.receive_data(data)
        connection.sendall(talk.data_to_send())


def test_over_http2_all_requests_of_a_connection_end(make: Any) -> None:
    arrived = threading.Event()

    def handle(connection: socket.socket) -> None:
        hang_over_http2(Noting(connection, arrived, requests=3))

    with serving(handle) as port:
        client = make(http1=False, http2=True)
        asked = [client.ask(f"http://127.0.0.1:{port}/", "POST", json={}) for _ in range(3)]
        assert arrived.wait(SECONDS)
        client.close()
        assert all(closed(each).left_open for each in asked)


class Noting:
    """A connection that tells when so many requests, whose bodies are ``{}``, have come in."""

    def __init__(self, connection: socket.socket, arrived: threading.Event, requests: int) -> None:
        self._connection = connection
        self._arrived = arrived
        self._requests = requests
        self._received = b""

    def recv(self, size: int) -> bytes:
        data = self._connection.recv(size)
        self._received += data
        if self._received.count(b"{}") == self._requests:
            self._arrived.set()
        return data

    def sendall(self, data: bytes) -> None:
        self._connection.sendall(data)


def test_over_tls_a_request_ends_at_once(make: Any, certificate: Path) -> None:  # noqa: F811
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    arrived = threading.Event()

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            read_request(secured)
            arrived.set()
            secured.recv(1)

    with serving(handle) as port:
        client = make(verify=False)
        asked = client.ask(f"https://127.0.0.1:{port}/", "POST")
        assert arrived.wait(SECONDS)
        client.close()
        assert closed(asked).left_open


def test_a_connection_that_was_used_before_ends_as_well(make: Any) -> None:
    hanging = threading.Event()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        read_request(connection)
        hanging.set()
        connection.recv(1)

    with serving(handle) as port:
        client = make()
        assert client.ask(f"http://127.0.0.1:{port}/").result(SECONDS).json() == {}
        asked = client.ask(f"http://127.0.0.1:{port}/")
        assert hanging.wait(SECONDS)
        client.close()
        closed(asked)


def test_an_async_client_is_told_from_another_thread(make: Any) -> None:
    """Where its loop cannot be waited for, as at the end of a notebook's session."""
    with wire() as server:
        server.answers[:] = [server.hang]
        client = make()
        asked = client.ask(server.url)
        assert server.hanging.wait(SECONDS)
        client.client.end_requests()
        closed(asked)


def test_the_callers_own_trace_is_kept(make: Any) -> None:
    names: list[str] = []

    async def anote(name: str, info: Any) -> None:
        names.append(name)

    with wire(http(200)) as server:
        client = make()
        note = anote if client.kind != "sync" else lambda name, info: names.append(name)
        request = client.client.build_request("POST", server.url, extensions={"trace": note})
        before = request.extensions
        assert client._start(client.client.send, request).result(SECONDS).status_code == 200
        assert request.extensions is before
    assert "connection.connect_tcp.complete" in names


def test_of_a_transport_that_does_not_tell_it_is_thought_that_it_sent(make: Any) -> None:
    asked, go_on = threading.Event(), threading.Event()

    class Transport(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            asked.set()
            go_on.wait(SECONDS)
            return httpx.Response(200)

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            asked.set()
            await anyio.sleep_forever()
            raise AssertionError

    client = make(transport=Transport())
    outcome = client.ask("http://server/", "POST")
    assert asked.wait(SECONDS)
    client.close()
    go_on.set()
    assert closed(outcome).left_open


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_that_closes_the_client_leaves_the_parents_requests_alone() -> None:
    answer = threading.Event()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        answer.wait(SECONDS)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with serving(handle) as port, ExitStack() as stack:
        client = Client("sync", stack)
        asked = client.ask(f"http://127.0.0.1:{port}/")
        while not client.client._in_flight._sockets:
            time.sleep(0.01)
        pid = os.fork()
        if pid == 0:
            client.client.end_requests()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        answer.set()
        assert asked.result(SECONDS).json() == {}


def test_who_waits_for_a_token_has_sent_nothing(make: Any) -> None:
    with wire() as server:
        server.answers[:] = [server.hang]  # to the request for the token
        client = make(base_url=server.url, enable_csrf_support=True)
        asked = [client.ask("/x", "POST") for _ in range(2)]
        assert server.hanging.wait(SECONDS)
        client.close()
        assert not any(closed(each).left_open for each in asked)
    assert b"/csrf-token" in server.requests[0]
    assert len(server.requests) == 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not count cancellations")
@pytest.mark.parametrize("order", ["close first", "cancelled first"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_who_is_cancelled_while_the_client_is_closed_is_cancelled(method: str, order: str) -> None:
    async def main() -> None:
        client = orchnb.PrefectHttpxAsyncClient(trust_env=False)
        task = asyncio.create_task(client.request(method, server.url))
        await asyncio.to_thread(server.hanging.wait, SECONDS)
        if order == "close first":
            client.end_requests()
        task.cancel()
        client.end_requests()
        await asyncio.wait([task], timeout=SECONDS)
        assert task.cancelled()
        await client.aclose()

    with wire() as server:
        server.answers[:] = [server.hang]
        asyncio.run(main())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_task_that_was_told_of_the_close_goes_on_uncancelled(method: str) -> None:
    async def ask(client: Any) -> None:
        with pytest.raises(ClientClosed):
            await client.request(method, server.url)
        if sys.version_info >= (3, 11):
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
        await asyncio.sleep(0)

    async def main() -> None:
        client = orchnb.PrefectHttpxAsyncClient(trust_env=False)
        task = asyncio.create_task(ask(client))
        await asyncio.to_thread(server.hanging.wait, SECONDS)
        await client.aclose()
        await task

    with wire() as server:
        server.answers[:] = [server.hang]
        asyncio.run(main())
