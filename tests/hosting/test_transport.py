"""Requests to an app on the host: what goes over, what comes back, and when."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from orchnb.errors import LifespanStartupFailed
from orchnb.hosting import transport
from orchnb.hosting.host import HostedApp, host_log
from orchnb.hosting.transport import HostedTransport
from tests.hosting.apps import ScriptedApp

SECONDS = 10  # at most; nothing here should take any
Handler = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class App:
    """An app without a lifespan, whose requests go to a handler of the test's."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await self.handler(scope, receive, send)


class Given(HostedTransport):
    """A transport of which a test knows the app that is up."""

    def __init__(self, hosted: HostedApp) -> None:
        super().__init__(lambda: hosted)
        self.hosted = hosted


@pytest.fixture
def host_app() -> Iterator[Callable[..., HostedTransport]]:
    """Puts an app on the host, and gives the transport to it."""
    held: list[HostedApp] = []

    def host(app: Any) -> HostedTransport:
        hosted = HostedApp(app)
        held.append(hosted)
        return Given(hosted)

    yield host
    for hosted in held:
        hosted.close()
    for hosted in held:
        assert hosted.wait_closed(SECONDS)


class Client:
    """A client that is used alike whether it is sync, or async on any event loop."""

    def __init__(self, kind: str, given: HostedTransport, **options: Any) -> None:
        self.kind = kind
        self.options = {"transport": given, "base_url": "http://app:81", **options}

    def request(self, method: str, url: str, **kwargs: Any) -> httpx.Response:
        if self.kind == "sync":
            with httpx.Client(**self.options) as client:
                return client.request(method, url, **kwargs)

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(**self.options) as client:
                return await client.request(method, url, **kwargs)

        return anyio.run(ask, backend=self.kind)

    def stream(self, url: str, use: Callable[[httpx.Response, Any], Any]) -> Any:
        """Calls ``use`` with the open response and a function that reads its next part or None."""
        if self.kind == "sync":
            with httpx.Client(**self.options) as client, client.stream("GET", url) as response:
                parts = response.iter_raw()
                return use(response, lambda: next(parts, None))

        async def ask() -> Any:
            async with (
                httpx.AsyncClient(**self.options) as client,
                client.stream("GET", url) as response,
            ):
                parts = response.aiter_raw()
                # A generator's steps do not mind being awaited one by one.
                steps = _Stepper(parts)
                return await steps.drive(use, response)

        return anyio.run(ask, backend=self.kind)


class _Stepper:
    """Lets plain code read from an async iterator, by running it in a worker thread."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self.parts = parts

    async def drive(self, use: Callable[..., Any], response: httpx.Response) -> Any:
        async def read() -> bytes | None:
            return await anext(self.parts, None)

        return await anyio.to_thread.run_sync(
            lambda: use(response, lambda: anyio.from_thread.run(read))
        )


@pytest.fixture(params=["asyncio", "trio", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


async def respond(
    send: Any, body: bytes = b"", status: int = 200, headers: Any = (), more: bool = False
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def body_of(receive: Any) -> bytes:
    message = await receive()
    assert message["type"] == "http.request"
    assert not message["more_body"]
    return message["body"]


def test_what_is_sent_arrives_as_it_was(host_app: Any, kind: str) -> None:
    scopes: list[dict[str, Any]] = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await respond(
            send, await body_of(receive), 207, [(b"x-raw", b"\xff\x00"), (b"x-raw", b"2")]
        )

    response = Client(kind, host_app(App(echo))).request(
        "PATCH",
        "/caf%C3%A9%2Fa b?q=%20x&q=&r=a%26b",
        content=b"\x00\xff",
        headers=[(b"X-Odd", b"\xe9"), (b"X-Odd", b"2")],
    )
    assert (response.status_code, response.content) == (207, b"\x00\xff")
    assert response.headers.raw == [(b"x-raw", b"\xff\x00"), (b"x-raw", b"2")]
    (scope,) = scopes
    assert scope["method"] == "PATCH"
    assert scope["path"] == "/café/a b"
    assert scope["raw_path"] == b"/caf%C3%A9%2Fa%20b"
    assert scope["query_string"] == b"q=%20x&q=&r=a%26b"
    assert scope["scheme"] == "http"
    assert scope["server"] == ("app", 81)
    assert [value for name, value in scope["headers"] if name == b"x-odd"] == [b"\xe9", b"2"]
    assert (b"host", b"app:81") in scope["headers"]


@pytest.mark.parametrize(
    ("method", "status", "body", "content"),
    [("HEAD", 200, b"unseen", b""), ("GET", 204, b"", b""), ("POST", 200, b"", b"")],
)
def test_answers_without_a_body(
    host_app: Any, kind: str, method: str, status: int, body: bytes, content: bytes
) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        assert await body_of(receive) == b""
        await respond(send, body, status, [(b"content-length", b"6")] if body else [])

    response = Client(kind, host_app(App(answer))).request(method, "/")
    assert (response.status_code, response.content) == (status, content)


def test_parts_arrive_before_the_app_has_sent_the_rest(host_app: Any, kind: str) -> None:
    """The head before any part of the body, and each part before the next: the app waits for that."""
    steps = [threading.Event() for _ in range(3)]

    async def drip(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number, step in enumerate(steps):
            await asyncio.to_thread(step.wait, SECONDS)
            await send({"type": "http.response.body", "body": b"%d" % number, "more_body": True})
        await send({"type": "http.response.body"})

    def read(response: httpx.Response, next_part: Any) -> list[bytes | None]:
        assert response.status_code == 200
        parts = []
        for step in steps:
            step.set()
            parts.append(next_part())
        return [*parts, next_part()]

    assert Client(kind, host_app(App(drip))).stream("/", read) == [b"0", b"1", b"2", None]


def test_an_answer_in_one_go_wakes_the_caller_once(host_app: Any) -> None:
    """Waking another thread is what costs most."""
    woken: list[int] = []
    exchange_wakes = transport._Exchange._tell

    def counting(self: Any) -> None:
        woken.append(1 if self._notify is not None else 0)
        exchange_wakes(self)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"all")

    given = host_app(App(answer))
    transport._Exchange._tell = counting  # type: ignore[method-assign]
    try:
        assert Client("sync", given).request("GET", "/").content == b"all"
    finally:
        transport._Exchange._tell = exchange_wakes  # type: ignore[method-assign]
    assert sum(woken) == 1


def test_a_slow_reader_makes_the_app_wait(host_app: Any, kind: str) -> None:
    """What is buffered is bounded, and everything arrives in the end."""
    part = b"x" * 300_000
    sent = 0
    waiting = threading.Event()

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(40):
            sending = asyncio.ensure_future(
                send({"type": "http.response.body", "body": part, "more_body": True})
            )
            await asyncio.wait([sending], timeout=0)
            await asyncio.sleep(0)
            if not sending.done():
                waiting.set()
            await sending
            sent += len(part)
        await send({"type": "http.response.body"})

    def read(response: httpx.Response, next_part: Any) -> int:
        assert waiting.wait(SECONDS)
        assert sent <= transport._MOST_BUFFERED + len(part)
        total = 0
        while data := next_part():
            assert len(data) <= transport._MOST_BUFFERED + len(part)
            total += len(data)
        return total

    assert Client(kind, host_app(App(flood))).stream("/", read) == 40 * len(part)


def test_a_hundred_megabytes_go_there_and_back(host_app: Any, kind: str) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body = await body_of(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for start in range(0, len(body), 65536):
            part = body[start : start + 65536]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    body = bytes(100_000_000)
    began = time.monotonic()
    response = Client(kind, host_app(App(echo)), timeout=60).request("POST", "/", content=body)
    assert response.content == body
    assert time.monotonic() - began < 20


def test_an_app_that_fails_before_its_answer_is_a_500(host_app: Any, kind: str) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("nothing here")

    response = Client(kind, host_app(App(fail))).request("GET", "/")
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert "LookupError: nothing here" in host_log.lines(1)[0]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_handler_that_means_to_exit_ends_neither_the_host_nor_the_answer(
    host_app: Any, kind: str, error: BaseException
) -> None:
    async def leave(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/exit":
            raise error
        await respond(send, b"still here")

    client = Client(kind, host_app(App(leave)))
    assert client.request("GET", "/exit").status_code == 500
    assert client.request("GET", "/").text == "still here"


def test_an_app_that_says_nothing_at_all_is_a_500(host_app: Any, kind: str) -> None:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        return

    assert Client(kind, host_app(App(nothing))).request("GET", "/").status_code == 500


@pytest.mark.parametrize("sent", [b"", b"some"], ids=["after the head", "within the body"])
def test_an_app_that_fails_within_its_answer_breaks_it_off(
    host_app: Any, kind: str, sent: bytes
) -> None:
    async def fail(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if sent:
            await send({"type": "http.response.body", "body": sent, "more_body": True})
        raise LookupError("nothing more")

    with pytest.raises(httpx.RemoteProtocolError, match="ended before its response was complete"):
        Client(kind, host_app(App(fail))).request("GET", "/")


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body", "body": b"too early"}],
        [{"type": "http.response.trailers"}],
        [{"type": "http.response.start", "status": 200, "headers": []}] * 2,
    ],
    ids=["body before head", "unknown", "two heads"],
)
def test_an_app_that_breaks_the_protocol_is_told_so(
    host_app: Any, messages: list[dict[str, Any]]
) -> None:
    errors: list[str] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        try:
            for message in messages:
                await send(message)
        except RuntimeError as exc:
            errors.append(str(exc))

    client = Client("sync", host_app(App(answer)))
    if messages[0]["type"] == "http.response.start":
        with pytest.raises(httpx.RemoteProtocolError):
            client.request("GET", "/")
    else:
        assert client.request("GET", "/").status_code == 500
    assert len(errors) == 1


class Watched:
    """A handler that never answers, or sends parts for ever, until it is told of a disconnect."""

    def __init__(self, first: bytes | None = None) -> None:
        self.first = first
        self.reached = threading.Event()
        self.disconnected = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/well":
            await respond(send, b"well")
            return
        await body_of(receive)
        if self.first is not None:
            await respond(send, self.first, more=True)
        self.reached.set()
        assert (await receive())["type"] == "http.disconnect"
        self.disconnected.set()


def test_an_app_that_never_answers_is_a_time_out_that_names_the_time(
    host_app: Any, kind: str
) -> None:
    watched = Watched()
    client = Client(kind, host_app(App(watched)), timeout=httpx.Timeout(5, read=0.02))
    with pytest.raises(httpx.ReadTimeout, match=r"sent nothing for 0\.02 s"):
        client.request("GET", "/")
    assert watched.disconnected.wait(SECONDS)
    assert Client(kind, client.options["transport"]).request("GET", "/well").text == "well"


def test_the_time_out_holds_between_any_two_parts_of_an_answer(host_app: Any, kind: str) -> None:
    watched = Watched(first=b"part")
    client = Client(kind, host_app(App(watched)), timeout=httpx.Timeout(5, read=0.02))
    with pytest.raises(httpx.ReadTimeout):
        client.request("GET", "/")
    assert watched.disconnected.wait(SECONDS)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.parametrize("first", [None, b"part"], ids=["before the answer", "within the answer"])
async def test_a_cancelled_caller_is_a_disconnect_for_the_app(
    host_app: Any, first: bytes | None
) -> None:
    watched = Watched(first)
    given = host_app(App(watched))
    async with httpx.AsyncClient(transport=given, base_url="http://app", timeout=None) as client:
        async with anyio.create_task_group() as group:
            group.start_soon(client.get, "/")
            await anyio.to_thread.run_sync(watched.reached.wait, SECONDS)
            group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(watched.disconnected.wait, SECONDS)
        assert (await client.get("/well")).text == "well"


def test_a_stream_that_is_closed_early_is_a_disconnect_for_the_app(
    host_app: Any, kind: str
) -> None:
    watched = Watched(first=b"part")
    client = Client(kind, host_app(App(watched)))
    assert client.stream("/", lambda response, next_part: next_part()) == b"part"
    assert watched.disconnected.wait(SECONDS)


def test_an_app_that_floods_a_caller_who_has_left_is_not_held_up_for_ever(
    host_app: Any, kind: str
) -> None:
    ended = threading.Event()

    async def flood(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        part = {"type": "http.response.body", "body": bytes(600_000), "more_body": True}
        for _ in range(20):
            await send(part)
        ended.set()

    Client(kind, host_app(App(flood))).stream("/", lambda response, next_part: None)
    assert ended.wait(SECONDS)


@pytest.mark.parametrize("streams", [False, True])
def test_background_tasks_run_after_the_response_has_arrived(
    streams: bool, host_app: Any, kind: str
) -> None:
    arrived, done = threading.Event(), threading.Event()

    def later() -> None:
        assert arrived.wait(SECONDS)
        done.set()

    async def parts() -> AsyncIterator[str]:
        for part in ("fi", "rst"):
            yield part
            await asyncio.sleep(0.05)  # until which the caller has it, and waits for more

    async def answer(request: Request) -> Response:
        background = BackgroundTask(later)
        if streams:
            return StreamingResponse(parts(), background=background)
        return PlainTextResponse("first", background=background)

    given = host_app(Starlette(routes=[Route("/", answer)]))
    assert Client(kind, given).request("GET", "/").text == "first"
    arrived.set()
    assert done.wait(SECONDS)


def test_frameworks_see_a_disconnect_through_their_middleware(host_app: Any, kind: str) -> None:
    """Starlette's base middleware receives on behalf of the app, and cancels its stream."""
    ended = threading.Event()

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b"part"
            await asyncio.sleep(0)

    async def answer(request: Request) -> Response:
        return StreamingResponse(parts())

    async def passing(request: Request, call_next: Any) -> Response:
        return await call_next(request)

    app = Starlette(
        routes=[Route("/", answer)],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=passing)],
    )

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                ended.set()

    part = Client(kind, host_app(watched)).stream("/", lambda response, next_part: next_part())
    assert part.startswith(b"part")
    assert ended.wait(SECONDS)


def test_requests_get_a_copy_of_the_lifespans_state(host_app: Any, kind: str) -> None:
    class Stateful(ScriptedApp):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                scope["state"]["pool"] = ["shared"]
                await super().__call__(scope, receive, send)
            else:
                scope["state"]["pool"].append("seen")
                await respond(send, ",".join([*scope["state"]["pool"], *scope["state"]]).encode())
                scope["state"]["mine"] = True

    client = Client(kind, host_app(Stateful()))
    assert client.request("GET", "/").text == "shared,seen,pool"
    assert client.request("GET", "/").text == "shared,seen,seen,pool"


def test_a_request_waits_for_the_start_up_and_tells_when_it_fails(host_app: Any, kind: str) -> None:
    with pytest.raises(LifespanStartupFailed, match="no database"):
        Client(kind, host_app(ScriptedApp("failed"))).request("GET", "/")


async def _echo_number(request: Request) -> Response:
    await asyncio.sleep(0)
    return JSONResponse(
        {"number": request.path_params["number"], "body": (await request.body()).decode()}
    )


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_thousand_tasks_each_get_their_own_answer(host_app: Any) -> None:
    given = host_app(Starlette(routes=[Route("/{number}", _echo_number, methods=["POST"])]))
    answers: dict[int, dict[str, str]] = {}

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        answers[number] = (await client.post(f"/{number}", content=f"body {number}")).json()

    async with (
        httpx.AsyncClient(transport=given, base_url="http://app", timeout=60) as client,
        anyio.create_task_group() as group,
    ):
        for number in range(1000):
            group.start_soon(ask, client, number)
    assert answers == {n: {"number": str(n), "body": f"body {n}"} for n in range(1000)}


def test_many_threads_each_get_their_own_answers(host_app: Any) -> None:
    given = host_app(Starlette(routes=[Route("/{number}", _echo_number, methods=["POST"])]))
    answers: dict[int, dict[str, str]] = {}

    def ask(first: int) -> None:
        client = Client(["sync", "asyncio", "trio"][first % 3], given, timeout=60)
        for number in range(first, 400, 8):
            answers[number] = client.request("POST", f"/{number}", content=f"body {number}").json()

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {n: {"number": str(n), "body": f"body {n}"} for n in range(400)}


def test_after_the_close_a_request_is_a_connection_error(host_app: Any, kind: str) -> None:
    given = host_app(ScriptedApp())
    given.hosted.wait_started()
    given.hosted.close()
    with pytest.raises(httpx.ConnectError, match="in-kernel server has been stopped"):
        Client(kind, given).request("GET", "/")


def test_a_request_that_is_under_way_when_the_host_ends_is_told_so(
    host_app: Any, kind: str
) -> None:
    watched = Watched()
    given = host_app(App(watched))

    def stop() -> None:
        assert watched.reached.wait(SECONDS)
        given.hosted.close()

    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(httpx.RemoteProtocolError, match="stopped before it responded"):
        Client(kind, given, timeout=None).request("GET", "/")
    stopping.join()


def test_a_request_that_comes_just_when_the_host_has_ended_is_told_so(
    host_app: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had asked whether the app was up a moment before."""
    hosted = host_app(ScriptedApp()).hosted
    hosted.wait_started()
    hosted.close()
    assert hosted.wait_closed(SECONDS)
    closed_by_then = iter([False, True])

    def find() -> HostedApp:
        hosted._closing = next(closed_by_then)
        return hosted

    monkeypatch.setattr(HostedApp, "is_up", True)
    with pytest.raises(httpx.ConnectError, match="has been stopped"):
        Client(kind, HostedTransport(find), timeout=None).request("GET", "/")


def test_a_sync_request_of_a_hosted_app_to_itself_is_refused(host_app: Any) -> None:
    """It would wait for the thread that it blocks."""

    async def ask_itself(scope: Any, receive: Any, send: Any) -> None:
        try:
            Client("sync", given).request("GET", "/")
        except RuntimeError as exc:
            await respond(send, str(exc).encode())

    given = host_app(App(ask_itself))
    answer = Client("sync", given).request("GET", "/").text
    assert answer.endswith("use an async client in the code of a hosted app")
