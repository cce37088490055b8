"""The two clients on real connections that really break. Each test runs with both."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import orchnb
from orchnb.errors import PrefectHTTPStatusError
from orchnb.http import clients
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import RetryPolicy
from tests.http.wire import close, cut, cut_in_body, http, reset, wire

Options = dict[str, Any]


class Both:
    """A client of either kind, behind one async face; waits are noted and not waited."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.waits: list[float] = []

    def make(self, url: str, **options: Any) -> Any:
        options = {
            "base_url": url,
            "retry_policy": RetryPolicy(random=lambda: 0.5),
            "trust_env": False,
            **options,
        }
        if self.kind == "sync":
            return orchnb.PrefectHttpxSyncClient(sleep=self.waits.append, **options)
        return orchnb.PrefectHttpxAsyncClient(sleep=self._note, **options)

    async def _note(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def request(self, url: str, method: str = "GET", path: str = "/x", **options: Any) -> Any:
        sending = {k: options.pop(k) for k in ("json", "content", "params") if k in options}
        client = self.make(url, **options)
        if self.kind == "sync":
            with client:
                return client.request(method, path, **sending)
        async with client:
            return await client.request(method, path, **sending)


@pytest.fixture(params=["async", "sync"])
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize("fault", [cut, cut_in_body, reset, close])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_broken_connection_is_tried_again(both: Both, fault: Any, method: str) -> None:
    with wire(fault, fault, http(200, b'"ok"')) as server:
        answer = await both.request(server.url, method, json={"a": 1} if method == "POST" else None)
    assert answer.json() == "ok"
    assert both.waits == [2.0, 4.0]
    assert len(server.requests) == 3
    assert server.requests[0] == server.requests[2]


async def test_a_server_that_keeps_breaking_is_given_up(both: Both) -> None:
    with wire(reset) as server, pytest.raises(httpx.TransportError):
        await both.request(server.url)
    assert len(server.requests) == 6


async def test_retry_after_is_waited(both: Both) -> None:
    with wire(http(503, b"", "Retry-After: 7"), http(200)) as server:
        answer = await both.request(server.url)
    assert answer.status_code == 200
    assert both.waits == [pytest.approx(7.7)]


async def test_nobody_listening_is_an_error_after_three_quick_tries(both: Both) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(httpx.ConnectError):
        await both.request(f"http://127.0.0.1:{port}")
    assert both.waits == [0.0, 0.5, 1.0]


async def test_a_server_that_restarts_is_waited_for(both: Both) -> None:
    with wire(http(200)) as server:
        client = both.make(server.url)
        first = client.get("/x")
        if isinstance(first, Awaitable):
            await first

    async def again() -> None:
        answer = client.get("/x")
        if isinstance(answer, Awaitable):
            await answer

    with pytest.raises(httpx.ConnectError):
        await again()
    assert both.waits == [2.0, 4.0, 8.0, 16.0, 32.0]
    closing = client.aclose() if both.kind == "async" else client.close()
    if closing is not None:
        await closing


async def test_an_error_status_raises_and_tells_what_the_server_said(both: Both) -> None:
    with (
        wire(http(404, b'{"detail": "no such flow"}')) as server,
        pytest.raises(PrefectHTTPStatusError, match="no such flow") as caught,
    ):
        await both.request(server.url)
    assert isinstance(caught.value, httpx.HTTPStatusError)
    assert caught.value.status_code == 404


async def test_errors_can_be_left_to_the_caller(both: Both) -> None:
    with wire(http(500, b"oops")) as server:
        answer = await both.request(server.url, raise_on_all_errors=False)
    assert isinstance(answer, PrefectResponse)
    assert answer.text == "oops"


async def test_a_read_time_out_is_tried_again(both: Both) -> None:
    with wire(close) as server:
        server.answers[:] = [server.hang, http(200)]
        answer = await both.request(server.url, timeout=0.05)
    assert answer.status_code == 200
    # A machine that stalls may let the second answer be late as well.
    assert both.waits
    assert both.waits == [2.0, 4.0, 8.0, 16.0, 32.0][: len(both.waits)]


def parts() -> Iterator[bytes]:
    yield b"once"


async def async_parts() -> AsyncIterator[bytes]:
    yield b"once"


async def test_a_body_from_a_stream_is_not_sent_twice(both: Both) -> None:
    with wire(http(503, b"", "Content-Length: 0"), http(200)) as server:
        body = parts() if both.kind == "sync" else async_parts()
        with pytest.raises(PrefectHTTPStatusError, match="503"):
            await both.request(server.url, "POST", content=body)


# Streams


async def test_a_success_still_streams_after_a_retry(both: Both) -> None:
    with wire(http(503, b"gone"), http(200, b"a" * 100_000)) as server:
        client = both.make(server.url)
        if both.kind == "sync":
            with client, client.stream("GET", "/x") as answer:
                assert not answer.is_closed
                assert sum(map(len, answer.iter_bytes())) == 100_000
        else:
            async with client, client.stream("GET", "/x") as answer:
                assert not answer.is_closed
                assert sum([len(part) async for part in answer.aiter_bytes()]) == 100_000
    assert both.waits == [2.0]


async def test_an_error_tells_its_detail_where_successes_stream(both: Both) -> None:
    with wire(http(404, b'{"detail": "gone"}')) as server:
        client = both.make(server.url)

        async def stream() -> None:
            if both.kind == "sync":
                with client, client.stream("GET", "/x"):
                    pass
            else:
                async with client, client.stream("GET", "/x"):
                    pass

        with pytest.raises(PrefectHTTPStatusError, match="gone"):
            await stream()


class Counted(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Notes which of its responses were closed; a stand-in, as a socket does not tell."""

    def __init__(self, statuses: list[int]) -> None:
        self.statuses = statuses
        self.closed: list[int] = []

    def response(self) -> httpx.Response:
        status = self.statuses.pop(0)
        outer = self

        class Stream(httpx.AsyncByteStream, httpx.SyncByteStream):
            def __iter__(self) -> Iterator[bytes]:
                yield b"{}"

            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield b"{}"

            def close(self) -> None:
                outer.closed.append(status)

            async def aclose(self) -> None:
                outer.closed.append(status)

        return httpx.Response(status, stream=Stream())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self.response()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.response()


@pytest.mark.parametrize("abandoned", [503, 299], ids=["an error", "a streaming success"])
async def test_the_body_of_an_abandoned_attempt_is_closed(both: Both, abandoned: int) -> None:
    transport = Counted([abandoned, 200])
    policy = RetryPolicy(extra_codes=frozenset({299}))
    client = both.make("http://server", transport=transport, retry_policy=policy)
    if both.kind == "sync":
        with client, client.stream("GET", "/x"):
            assert transport.closed == [abandoned]
    else:
        async with client, client.stream("GET", "/x"):
            assert transport.closed == [abandoned]
    assert transport.closed == [abandoned, 200]


# Stopping


async def test_a_cancelled_wait_ends_at_once_and_the_client_goes_on() -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await anyio.sleep_forever()

    with wire(http(503), http(200, b'"ok"')) as server:
        async with orchnb.PrefectHttpxAsyncClient(base_url=server.url, sleep=sleep) as client:
            task = asyncio.create_task(client.get("/x"))
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await client.get("/x")).json() == "ok"
    assert len(server.requests) == 2


def test_an_interrupted_wait_ends_at_once_and_the_client_goes_on() -> None:
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    with (
        wire(http(503), http(200, b'"ok"')) as server,
        orchnb.PrefectHttpxSyncClient(base_url=server.url, sleep=sleep) as client,
    ):
        with pytest.raises(KeyboardInterrupt):
            client.get("/x")
        assert client.get("/x").json() == "ok"


async def test_a_cancelled_request_is_not_tried_again() -> None:
    with wire(close) as server:
        server.answers[:] = [server.hang]
        async with orchnb.PrefectHttpxAsyncClient(base_url=server.url) as client:
            task = asyncio.create_task(client.get("/x"))
            await asyncio.to_thread(server.hanging.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert len(server.requests) == 1


# The short way and the long way of `send` give the same


SCRIPTS: list[list[int | type[Exception]]] = [
    [200],
    [204],
    [404],
    [302],
    [503, 200],
    [503, 404],
    [httpx.ReadError, 200],
    [httpx.ConnectError],
    [503, httpx.ConnectError, 200],
    [503] * 6,
    [httpx.ReadTimeout] * 6,
]


@pytest.mark.parametrize("script", SCRIPTS, ids=str)
async def test_with_and_without_csrf_the_outcome_is_the_same(both: Both, script: Any) -> None:
    """A request that wants a token goes all through the flow, the others mostly not."""

    async def outcome(**options: Any) -> tuple[Any, ...]:
        left = list(script)

        def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/csrf-token":
                return httpx.Response(200, json={"token": "t", "expiration": None})
            step = left.pop(0)
            if isinstance(step, int):
                return httpx.Response(step, json={"detail": "d"} if step != 204 else None)
            raise step("x", request=request)

        both.waits.clear()
        transport = httpx.MockTransport(handle)
        try:
            got = await both.request(
                "http://server", "POST", transport=transport, json={}, **options
            )
            return (got.status_code, got.text, type(got), tuple(both.waits), len(left))
        except Exception as exc:
            return (type(exc), str(exc), tuple(both.waits), len(left))

    # The token's own answer counts as having been connected, so a refusal would be retried.
    if script == [httpx.ConnectError]:
        return
    assert await outcome() == await outcome(enable_csrf_support=True)


async def test_fifty_changes_at_once_share_a_servers_single_token() -> None:
    fetched = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal fetched
        headers = dict(scope["headers"])
        await anyio.sleep(0)
        if scope["path"].endswith("/csrf-token"):
            fetched += 1
            status, body = 200, b'{"token": "%d", "expiration": null}' % fetched
        elif headers.get(b"prefect-csrf-token") == b"%d" % fetched:
            status, body = 201, b"{}"
        else:
            status, body = 403, b'{"detail": "Invalid CSRF token or client identifier."}'
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async with orchnb.PrefectHttpxAsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://s", enable_csrf_support=True
    ) as client:
        answers = await asyncio.gather(*(client.post("/x", json={}) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {201}
    assert fetched == 1


# Headers


async def test_custom_headers_are_sent_and_protected_ones_warn(
    both: Both, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(
        "PREFECT_CLIENT_CUSTOM_HEADERS",
        '{"X-Team": "data", "user-agent": "canary", "Prefect-CSRF-Token": "canary"}',
    )
    with wire(http(200)) as server, caplog.at_level(logging.WARNING):
        await both.request(server.url)
    sent = server.requests[0].lower()
    assert b"x-team: data" in sent
    assert f"user-agent: orchnb/{orchnb.__version__}".encode() in sent
    assert b"canary" not in sent
    assert "user-agent" in caplog.text
    assert "Prefect-CSRF-Token" in caplog.text
    assert "PREFECT_CLIENT_CUSTOM_HEADERS" in caplog.text
    assert "canary" not in caplog.text


# TLS and proxies


def test_clients_share_one_ssl_context() -> None:
    first, second = clients._httpx_options({}), clients._httpx_options({})
    assert first["verify"] is second["verify"]
    assert clients._httpx_options({"http2": True})["verify"] is not first["verify"]
    assert clients._httpx_options({"verify": False})["verify"] is not first["verify"]


def test_a_changed_certificate_file_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import certifi

    file = tmp_path / "cert.pem"
    file.write_bytes(Path(certifi.where()).read_bytes())
    before = clients._httpx_options({})["verify"]
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert clients._httpx_options({})["verify"] is not before


def test_what_the_caller_says_of_tls_stands() -> None:
    mine = httpx.create_ssl_context()
    assert clients._httpx_options({"verify": mine})["verify"] is mine
    with pytest.raises(orchnb.InvalidSetting, match=r"The argument cert names mine\.pem"):
        clients._httpx_options({"cert": "mine.pem"})


async def test_the_environments_proxy_is_used(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    with wire(http(200, b'"from the proxy"')) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        answer = await both.request("http://server.invalid/api", trust_env=True)
    assert answer.json() == "from the proxy"


def test_threads_share_a_sync_client() -> None:
    answers: list[Any] = []
    with (
        wire(http(200, b'"ok"')) as server,
        orchnb.PrefectHttpxSyncClient(base_url=server.url) as client,
    ):

        def ask() -> None:
            answers.append(client.get("/x").json())

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert answers == ["ok"] * 16


def test_a_client_that_is_never_closed_ends_with_the_process_quietly() -> None:
    code = (
        "import orchnb, asyncio\n"
        "c = orchnb.PrefectHttpxSyncClient(); d = orchnb.PrefectHttpxAsyncClient()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
