"""What the two clients do at the edges: answers that cannot be read, streams, interrupts, threads."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import orchnb
from orchnb.errors import OrchnbError, PrefectHTTPStatusError
from orchnb.http.retry import RetryEvent, RetryPolicy
from tests.http.wire import http, wire

CANARY = "c4nary-Secret"


def quiet(**changes: Any) -> RetryPolicy:
    return RetryPolicy(**{"random": lambda: 0.5, **changes})


class Body(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A body that can break, and that knows whether it was closed."""

    def __init__(self, *parts: bytes | BaseException) -> None:
        self.parts = parts
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self.parts:
            if isinstance(part, BaseException):
                raise part
            yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


class Scripted(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Gives one answer after the other, the last one again and again."""

    def __init__(self, *answers: Callable[[], httpx.Response] | Exception) -> None:
        self.answers = list(answers)
        self.sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in request.stream:  # type: ignore[union-attr] # a body is read, as a socket would
            pass
        return self.next()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async for _ in request.stream:  # type: ignore[union-attr]
            pass
        return self.next()

    def next(self) -> httpx.Response:
        self.sent += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer()


def both(check: Callable[..., Any]) -> Any:
    """Run a check with either client, through ``ask(transport, **options)``."""

    def ask_sync(transport: Scripted, *, stream: bool = False, **options: Any) -> Any:
        content = options.pop("content", None)
        client = orchnb.PrefectHttpxSyncClient(
            transport=transport,
            base_url="http://s",
            sleep=lambda s: None,
            retry_policy=options.pop("retry_policy", quiet()),
            **options,
        )
        with client:
            request = client.build_request("POST", "/x", content=content and content())
            return client.send(request, stream=stream)

    def ask_async(transport: Scripted, *, stream: bool = False, **options: Any) -> Any:
        async def sleep(seconds: float) -> None:
            await anyio.lowlevel.checkpoint()

        async def main() -> Any:
            content = options.pop("content", None)
            client = orchnb.PrefectHttpxAsyncClient(
                transport=transport,
                base_url="http://s",
                sleep=sleep,
                retry_policy=options.pop("retry_policy", quiet()),
                **options,
            )
            async with client:
                body = content and as_async(content())
                request = client.build_request("POST", "/x", content=body)
                return await client.send(request, stream=stream)

        return anyio.run(main)

    return pytest.mark.parametrize("ask", [ask_async, ask_sync], ids=["async", "sync"])(check)


async def as_async(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


# Answers that cannot be read


@both
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_whose_body_breaks_is_tried_again_and_every_body_closed(
    ask: Any, stream: bool
) -> None:
    bodies = [Body(b"{", httpx.ReadError("cut")) for _ in range(6)]
    left = iter(bodies)
    transport = Scripted(lambda: httpx.Response(503, stream=next(left)))
    with pytest.raises(httpx.ReadError):
        ask(transport, stream=stream)
    assert transport.sent == 6
    assert all(body.closed for body in bodies)


@both
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [404, 503])
def test_an_error_whose_body_is_no_gzip_is_closed_and_told(
    ask: Any, stream: bool, status: int
) -> None:
    body = Body(b"no gzip")
    transport = Scripted(
        lambda: httpx.Response(status, stream=body, headers={"Content-Encoding": "gzip"})
    )
    with pytest.raises(httpx.DecodingError):
        ask(transport, stream=stream)
    assert transport.sent == 1
    assert body.closed


@both
def test_an_interrupt_while_an_error_is_read_closes_it(ask: Any) -> None:
    body = Body(b"{", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        ask(Scripted(lambda: httpx.Response(503, stream=body)), stream=True)
    assert body.closed


@both
def test_an_extra_code_that_is_a_success_is_read_and_given_back_in_the_end(ask: Any) -> None:
    transport = Scripted(lambda: httpx.Response(202, stream=Body(b"later")))
    policy = quiet(extra_codes=frozenset({202}))
    assert ask(transport, stream=True, retry_policy=policy).text == "later"
    assert transport.sent == 6


# Bodies that can be sent once


def once() -> Iterator[bytes]:
    yield b"once"


@both
def test_the_outcome_before_stands_where_a_body_is_spent(ask: Any) -> None:
    transport = Scripted(lambda: httpx.Response(503, json={"detail": "busy"}))
    with pytest.raises(PrefectHTTPStatusError, match="busy"):
        ask(transport, content=once)
    transport = Scripted(httpx.ReadError("lost"))
    with pytest.raises(httpx.ReadError, match="lost"):
        ask(transport, content=once)
    assert transport.sent == 1


def test_a_request_that_was_sent_before_says_how_to_send_it_again() -> None:
    with orchnb.PrefectHttpxSyncClient(
        transport=Scripted(lambda: httpx.Response(200)), base_url="http://s"
    ) as client:
        request = client.build_request("POST", "/x", content=once())
        client.send(request)
        with pytest.raises(OrchnbError, match="build a new request"):
            client.send(request)


# Observers hear of every end


@both
@pytest.mark.parametrize(
    ("end", "kinds"),
    [
        (lambda: httpx.Response(200), ["waiting", "recovered"]),
        (lambda: httpx.Response(404), ["waiting", "gave_up"]),
        (httpx.ConnectError("down"), ["waiting"] * 5 + ["gave_up"]),
        (httpx.WriteTimeout("slow"), ["waiting", "gave_up"]),
        (httpx.TooManyRedirects("round"), ["waiting", "gave_up"]),
        (ZeroDivisionError(), ["waiting", "gave_up"]),
    ],
    ids=["success", "404", "refused", "time-out", "redirects", "bug"],
)
def test_whoever_is_told_of_a_wait_is_told_of_the_end(ask: Any, end: Any, kinds: list[str]) -> None:
    events: list[RetryEvent] = []
    with orchnb.observe_retries(events.append):
        try:
            ask(Scripted(lambda: httpx.Response(503), end))
        except Exception:
            assert kinds[-1] == "gave_up"
    assert [event.kind for event in events] == kinds
    assert len({event.request_id for event in events}) == 1


@both
def test_the_time_spent_counts_the_first_try_as_well(ask: Any) -> None:
    """Every try takes 10 s here."""
    clock = 0.0

    def take_time(status: int) -> httpx.Response:
        nonlocal clock
        clock += 10.0
        return httpx.Response(status)

    events: list[RetryEvent] = []
    transport = Scripted(lambda: take_time(503), lambda: take_time(200))
    with orchnb.observe_retries(events.append):
        ask(transport, retry_policy=quiet(monotonic=lambda: clock))
    assert [event.elapsed for event in events] == [10.0, 20.0]


@both
def test_a_reason_phrase_of_the_servers_own_reaches_nobody(ask: Any) -> None:
    """It may be anything, such as what was sent."""
    phrase = {"reason_phrase": CANARY.encode() + b"\x1b[31m"}
    events: list[RetryEvent] = []
    with orchnb.observe_retries(events.append), pytest.raises(PrefectHTTPStatusError) as caught:
        ask(Scripted(lambda: httpx.Response(503, extensions=phrase)))
    assert CANARY not in str(caught.value) + repr(events)
    assert events[0].cause == "503 Service Unavailable"
    assert str(caught.value).startswith("503 Service Unavailable for POST http://s/x")


# The short way and the long way

STEPS = [200, 201, 204, 301, 400, 403, 404, 408, 418, 422, 429, 500, 502, 503]
ERRORS = [httpx.ReadError, httpx.ReadTimeout, httpx.ConnectError, httpx.WriteTimeout, ValueError]


@given(
    st.lists(st.sampled_from([*STEPS, *ERRORS]), min_size=1, max_size=8),
    st.integers(0, 3),
    st.booleans(),
)
@hypothesis_settings(deadline=None)
def test_the_short_way_of_send_gives_what_the_long_way_gives(
    script: list[Any], retries: int, raising: bool
) -> None:
    def outcome(*, short: bool) -> Any:
        answers: list[Any] = [
            (lambda step=step: httpx.Response(step, json={"detail": f"d{step}"}))
            if isinstance(step, int)
            else step("x")
            for step in script
        ]
        waits: list[float] = []
        events: list[RetryEvent] = []
        transport = Scripted(*answers)
        client = orchnb.PrefectHttpxSyncClient(
            transport=transport,
            base_url="http://s",
            raise_on_all_errors=raising,
            retry_policy=quiet(max_retries=retries, monotonic=lambda: 0.0),
            sleep=waits.append,
        )
        request = client.build_request("GET", "/x")
        with client, orchnb.observe_retries(events.append):
            try:
                got = (
                    client.send(request) if short else client._send_by_flow(request, {}, None, 0.0)
                )
                result: Any = (got.status_code, got.text, type(got), got.is_closed)
            except Exception as exc:
                result = (type(exc), str(exc))
        told = [(e.kind, e.attempt, e.cause, e.wait, e.elapsed) for e in events]
        return result, waits, told, transport.sent, client._retrier.connected

    assert outcome(short=True) == outcome(short=False)


# Stopping


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_scope_that_is_cancelled_ends_the_wait_on_either_loop() -> None:
    events: list[RetryEvent] = []
    with wire(http(503, b"", "Retry-After: 600"), http(200, b'"ok"')) as server:
        async with orchnb.PrefectHttpxAsyncClient(base_url=server.url) as client:
            with orchnb.observe_retries(events.append):
                async with anyio.create_task_group() as group:

                    async def cancel_at_the_wait() -> None:
                        while not events:
                            await anyio.lowlevel.checkpoint()
                            await anyio.sleep(0.005)
                        group.cancel_scope.cancel()

                    group.start_soon(cancel_at_the_wait)
                    await client.get("/x")
            assert (await client.get("/x")).json() == "ok"
    assert [event.kind for event in events] == ["waiting", "stopped"]


@pytest.mark.skipif(sys.platform == "win32", reason="there, signals are others")
@pytest.mark.parametrize("doing", ["waiting", "reading"])
def test_ctrl_c_ends_a_wait_and_a_read_at_once_and_the_client_goes_on(doing: str) -> None:
    script = """
        import sys, orchnb
        with orchnb.PrefectHttpxSyncClient(base_url=sys.argv[1]) as client:
            try:
                with orchnb.observe_retries(lambda event: print(event.kind, flush=True)):
                    client.get("/x")
            except KeyboardInterrupt:
                print("interrupted")
            print(client.get("/x").text)
    """
    with wire(http(503, b"", "Retry-After: 600"), http(200, b"ok")) as server:
        if doing == "reading":
            server.answers[:] = [server.hang, http(200, b"ok")]
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), server.url],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        if doing == "waiting":
            assert process.stdout.readline() == "waiting\n"
        else:
            assert server.hanging.wait(30)
        began = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert time.monotonic() - began < 30, "the wait of 600 s goes on"
    assert out == ("stopped\n" if doing == "waiting" else "") + "interrupted\nok\n"


@both
def test_an_interrupt_that_comes_between_a_try_and_its_wait_stops_as_well(ask: Any) -> None:
    """It comes when it comes; here, while an observer is told."""
    kinds: list[str] = []

    def interrupted(event: RetryEvent) -> None:
        if event.kind == "waiting":
            raise KeyboardInterrupt

    transport = Scripted(lambda: httpx.Response(503))
    with (
        orchnb.observe_retries(lambda event: kinds.append(event.kind)),
        orchnb.observe_retries(interrupted),
        pytest.raises(KeyboardInterrupt),
    ):
        ask(transport)
    assert kinds == ["waiting", "stopped"]
    assert transport.sent == 1


# Nothing is left


def test_connections_of_retries_and_streams_are_given_back() -> None:
    """One connection is all there is, so one that was not given back would show."""
    limits = httpx.Limits(max_connections=1)
    answers = [http(503), http(200), http(404), http(503), http(200), http(200)]
    with (
        wire(*answers) as server,
        orchnb.PrefectHttpxSyncClient(
            base_url=server.url, limits=limits, sleep=lambda s: None, timeout=20
        ) as client,
    ):
        client.get("/x")
        with pytest.raises(PrefectHTTPStatusError), client.stream("GET", "/x"):
            pass
        with client.stream("GET", "/x") as answer:
            assert answer.read() == b"{}"
        client.get("/x")
    assert len(server.requests) == 6


def test_a_full_pool_is_tried_again() -> None:
    waits: list[float] = []
    with (
        wire(http(200)) as server,
        orchnb.PrefectHttpxSyncClient(
            base_url=server.url,
            limits=httpx.Limits(max_connections=1),
            timeout=httpx.Timeout(20, pool=0.01),
            sleep=waits.append,
            retry_policy=quiet(max_retries=2),
        ) as client,
    ):
        with client.stream("GET", "/x"), pytest.raises(httpx.PoolTimeout):
            client.get("/x")
        assert client.get("/x").status_code == 200
    assert waits == [2.0, 4.0]


def test_many_retries_leave_nothing_in_memory() -> None:
    transport = Scripted(lambda: httpx.Response(503))
    client = orchnb.PrefectHttpxSyncClient(
        transport=transport, base_url="http://s", sleep=lambda s: None
    )

    def count() -> Counter[str]:
        gc.collect()
        kinds = (httpx.Response, httpx.Request)
        return Counter(type(o).__name__ for o in gc.get_objects() if isinstance(o, kinds))

    with client:
        before = count()
        for _ in range(20):
            with pytest.raises(PrefectHTTPStatusError):
                client.get("/x")
        after = count()
    assert sum((after - before).values()) <= 2


# Threads and tokens


def test_threads_that_share_a_client_share_one_fetch_of_a_token() -> None:
    """The server keeps one token per client; each fetch makes those before void."""
    lock = threading.Lock()
    fetched = refused = 0

    def serve(request: httpx.Request) -> httpx.Response:
        nonlocal fetched, refused
        with lock:
            if request.url.path == "/csrf-token":
                fetched += 1
                return httpx.Response(200, json={"token": str(fetched), "expiration": None})
            if request.headers.get("Prefect-Csrf-Token") != str(fetched):
                refused += 1
                return httpx.Response(403, json={"detail": "Invalid CSRF token"})
        return httpx.Response(201, json={})

    statuses: list[int] = []
    with orchnb.PrefectHttpxSyncClient(
        transport=httpx.MockTransport(serve), base_url="http://s", enable_csrf_support=True
    ) as client:
        barrier = threading.Barrier(8)

        def work() -> None:
            barrier.wait(20)
            statuses.append(client.post("/x", json={}).status_code)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert statuses == [201] * 8
    assert (fetched, refused) == (1, 0)


# Redirects


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_redirect_left_behind_is_still_a_secret(stream: bool) -> None:
    """On its way to another host httpx takes the credentials off, but they have been sent."""

    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.host == "s":
            return httpx.Response(307, headers={"Location": f"http://other/{CANARY}"})
        assert "Authorization" not in request.headers
        return httpx.Response(400, json={"detail": f"{CANARY} and body-{CANARY}"})

    with orchnb.PrefectHttpxSyncClient(
        transport=httpx.MockTransport(serve),
        base_url="http://s",
        headers={"Authorization": f"Bearer {CANARY}"},
        follow_redirects=True,
    ) as client:
        request = client.build_request("POST", "/x", json={"a": 1})
        with pytest.raises(PrefectHTTPStatusError) as caught:
            client.send(request, stream=stream)
    assert caught.value.detail == "*** and body-***"
    assert "307" not in str(caught.value)
    assert "http://other/***" in str(caught.value)
    assert CANARY not in str(caught.value) + str(caught.value.request.url)


def test_httpxs_own_log_shows_no_credentials_of_a_url(caplog: pytest.LogCaptureFixture) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, request=request))
    with caplog.at_level("DEBUG"), orchnb.PrefectHttpxSyncClient(transport=transport) as client:
        client.get("http://me:canary-password@lab/api/x", params={"day": "today"})
        client.send(httpx.Request("GET", "http://me:canary-password@lab/api/y"))
    assert "GET http://lab/api/x?day=today" in caplog.text
    assert "GET http://lab/api/y" in caplog.text
    assert "canary" not in caplog.text
