"""What an app still does when it is closed: its calls end before its lifespan does."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import anyio
import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from orchnb.api.client import PrefectClient, SyncPrefectClient
from orchnb.hosting.host import HostedApp, host_log
from orchnb.hosting.lifespan import (
    CALLS_SHARE,
    LAST_RESORT_TIMEOUT,
    SHUTDOWN_TIMEOUT,
    app_call,
    app_lifespan_context,
)
from orchnb.hosting.transport import HostedTransport
from orchnb.runtime import loops
from tests.hosting.apps import SHUTDOWN_COMPLETE, ScriptedApp, jumping_backend
from tests.hosting.leases import lease_host

SECONDS = 10  # at most; nothing here should take any
SHARE = CALLS_SHARE * SHUTDOWN_TIMEOUT


# How long the shutdown waits, by a clock that jumps, on both kinds of event loop


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return jumping_backend(request.param)


class Call:
    """A call of an app that takes so many seconds, and so many more once it is cancelled."""

    def __init__(self, app: ScriptedApp, takes: float, cleans_up: float = 0.0) -> None:
        self.app = app
        self.takes = takes
        self.cleans_up = cleans_up
        self.scope = anyio.CancelScope()
        self.began = anyio.Event()
        self.ended_at = math.nan
        self.was_up: bool | None = None
        self.was_cancelled = False

    async def run(self) -> None:
        with app_call(self.app, self.scope.cancel) as is_up:
            assert is_up
            self.began.set()
            with self.scope:
                await anyio.sleep(self.takes)
            self.was_cancelled = self.scope.cancelled_caught
            if self.was_cancelled:
                await anyio.sleep(self.cleans_up)
            self.ended_at, self.was_up = anyio.current_time(), self.app.is_up


class Timing(NamedTuple):
    takes: tuple[float, ...]
    """Seconds of each call after the last has left."""
    shutdown_at: float
    """Seconds until the app is told to shut down."""
    cleans_up: float = 0.0
    cancelled: int = 0
    said: tuple[str, ...] = ()


CANCELLED = "Cancelled 1 calls of the app 'scripted': they did not end in time"

TIMINGS = {
    "no call": Timing((), 0.0),
    "one in time": Timing((0.6,), 0.6),
    "several in time": Timing((0.1, 0.9, 0.5), 0.9),
    "just in time": Timing((SHARE - 0.001,), SHARE - 0.001),
    "one too long": Timing((3600,), SHARE, cancelled=1, said=(CANCELLED,)),
    "one of three too long": Timing((0.2, 3600, 0.7), SHARE, cancelled=1, said=(CANCELLED,)),
    "one that cleans up": Timing((3600,), SHARE + 0.3, 0.3, cancelled=1, said=(CANCELLED,)),
    "one that does not end": Timing(
        (3600,),
        0.75 * SHUTDOWN_TIMEOUT,
        3600,
        cancelled=1,
        said=(
            CANCELLED,
            "Abandoned 1 calls of the app 'scripted': they swallowed their cancellation",
        ),
    ),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", TIMINGS)
async def test_the_shutdown_begins_when_the_calls_have_ended_or_used_up_their_share(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    timing, app = TIMINGS[name], ScriptedApp()
    calls = [Call(app, takes, timing.cleans_up) for takes in timing.takes]
    async with anyio.create_task_group() as group:
        async with app_lifespan_context(app):
            for call in calls:
                group.start_soon(call.run)
                await call.began.wait()
            began = anyio.current_time()
        assert anyio.current_time() - began == pytest.approx(timing.shutdown_at)
        assert app.messages[-1] == SHUTDOWN_COMPLETE
        group.cancel_scope.cancel()
    assert [call.was_cancelled for call in calls].count(True) == timing.cancelled
    assert all(call.was_up for call in calls if not math.isnan(call.ended_at))
    assert tuple(record.getMessage() for record in caplog.records) == timing.said


@pytest.mark.anyio
@pytest.mark.parametrize("takes", [0.0, 0.4, 3600])
async def test_calls_and_shutdown_together_keep_to_the_time_of_the_shutdown(takes: float) -> None:
    app = ScriptedApp(shutdown="hangs")
    call = Call(app, takes)
    async with anyio.create_task_group() as group:
        async with app_lifespan_context(app):
            group.start_soon(call.run)
            await call.began.wait()
            began = anyio.current_time()
        assert anyio.current_time() - began == pytest.approx(SHUTDOWN_TIMEOUT)


@pytest.mark.anyio
@pytest.mark.parametrize("comes_after", [0.0, SHARE / 2])
async def test_who_enters_while_calls_are_waited_for_keeps_the_app_up_and_the_calls(
    comes_after: float, caplog: pytest.LogCaptureFixture
) -> None:
    app = ScriptedApp()
    call = Call(app, 5.0)
    left, may_leave = anyio.Event(), anyio.Event()

    async def visit() -> None:
        async with app_lifespan_context(app):
            group.start_soon(call.run)
            await may_leave.wait()
        left.set()

    async with anyio.create_task_group() as group:
        group.start_soon(visit)
        await call.began.wait()
        may_leave.set()
        await anyio.wait_all_tasks_blocked()
        await anyio.sleep(comes_after)
        async with app_lifespan_context(app):
            await left.wait()  # it is not the last, and waits no longer
            began = anyio.current_time()
            await anyio.sleep(10.0)
        assert anyio.current_time() == began + 10.0
    assert not call.was_cancelled
    assert call.was_up
    assert app.calls == 1
    assert not caplog.records


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(100))
async def test_no_call_that_fits_into_the_share_is_cancelled_whoever_comes_and_goes(
    seed: int,
) -> None:
    """And none is under way when the app is told to shut down. Those who come may find it shutting down
    and start it again."""
    chance = random.Random(seed)
    app = ScriptedApp()
    calls: list[Call] = []

    async def visit() -> None:
        await anyio.sleep(chance.uniform(0, 3))
        async with app_lifespan_context(app):
            for _ in range(chance.randrange(3)):
                call = Call(app, chance.uniform(0, SHARE * 0.99))
                calls.append(call)
                group.start_soon(call.run)
                await call.began.wait()
            await anyio.sleep(chance.choice([0, 0, chance.uniform(0, 2)]))

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(visit)
    assert app.messages[-1] == SHUTDOWN_COMPLETE
    assert not any(call.was_cancelled for call in calls)
    assert all(call.was_up for call in calls)


@pytest.mark.anyio
async def test_where_the_app_is_not_up_nothing_is_counted_as_its_call() -> None:
    app = ScriptedApp()
    with app_call(app, lambda: None) as is_up:
        assert not is_up


# Frameworks on the host


class Notes:
    """What a framework's app did, in order, and how long its work takes."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.lines: list[str] = []
        self.began = threading.Event()
        self.is_down = threading.Event()

    async def work(self) -> None:
        self.begin()
        await asyncio.sleep(self.seconds)
        self.lines.append("worked")

    def work_in_a_thread(self) -> None:
        self.begin()
        time.sleep(self.seconds)
        self.lines.append("worked")

    def begin(self) -> None:
        self.lines.append("began")
        self.began.set()

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        yield
        self.lines.append("down")
        self.is_down.set()


def plain(notes: Notes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            notes.lines.append("down")
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
        await notes.work()

    return app


def starlette(notes: Notes) -> Any:
    async def answer(request: Request) -> Response:
        return PlainTextResponse("{}", background=BackgroundTask(notes.work))

    return Starlette(routes=[Route("/api/work", answer)], lifespan=notes.lifespan)


def starlette_in_a_thread(notes: Notes) -> Any:
    def answer(request: Request) -> Response:
        return PlainTextResponse("{}", background=BackgroundTask(notes.work_in_a_thread))

    return Starlette(routes=[Route("/api/work", answer)], lifespan=notes.lifespan)


def starlette_stream(notes: Notes) -> Any:
    async def parts() -> AsyncIterator[str]:
        yield "{"
        yield "}"

    async def answer(request: Request) -> Response:
        return StreamingResponse(parts(), background=BackgroundTask(notes.work))

    return Starlette(routes=[Route("/api/work", answer)], lifespan=notes.lifespan)


def fastapi_app(notes: Notes) -> Any:
    app = fastapi.FastAPI(lifespan=notes.lifespan)

    @app.get("/api/work")
    async def answer(tasks: fastapi.BackgroundTasks) -> dict[str, str]:
        tasks.add_task(notes.work)
        return {}

    return app


def fastapi_in_a_thread(notes: Notes) -> Any:
    app = fastapi.FastAPI(lifespan=notes.lifespan)

    def work(tasks: fastapi.BackgroundTasks) -> dict[str, str]:
        tasks.add_task(notes.work_in_a_thread)
        return {}

    app.get("/api/work")(work)
    return app


APPS: dict[str, Callable[[Notes], Any]] = {
    "plain ASGI": plain,
    "Starlette": starlette,
    "Starlette, in a thread": starlette_in_a_thread,
    "Starlette, after a stream": starlette_stream,
    "FastAPI": fastapi_app,
    "FastAPI, in a thread": fastapi_in_a_thread,
}


def ask_and_close(app: Any, notes: Notes, kind: str) -> None:
    """Ask for work, and close the client, which was the last one, once the work has begun."""
    if kind == "sync":
        with SyncPrefectClient(app) as client:
            assert client.request("GET", "/work").status_code == 200
            assert notes.began.wait(SECONDS)
        return

    async def main() -> None:
        async with PrefectClient(app) as client:
            assert (await client.request("GET", "/work")).status_code == 200
            assert await anyio.to_thread.run_sync(notes.began.wait, SECONDS)

    anyio.run(main, backend=kind)


@pytest.mark.parametrize("kind", ["asyncio", "trio", "sync"])
@pytest.mark.parametrize("name", APPS)
def test_work_after_the_answer_ends_before_the_app_is_shut_down(name: str, kind: str) -> None:
    notes = Notes(0.05)
    ask_and_close(APPS[name](notes), notes, kind)
    assert notes.lines == ["began", "worked", "down"]


@pytest.mark.parametrize("kind", ["asyncio", "sync"])
def test_work_that_has_hardly_been_asked_for_when_the_app_is_closed_is_done(kind: str) -> None:
    """In whatever moment the close comes: work of any length within the share is never lost."""
    chance = random.Random(0)
    for _ in range(20):
        notes = Notes(chance.uniform(0, 0.02))
        app = APPS["Starlette"](notes)
        if kind == "sync":
            with SyncPrefectClient(app) as client:
                client.request("GET", "/work")
        else:

            async def main(app: Any = app) -> None:
                async with PrefectClient(app) as client:
                    await client.request("GET", "/work")

            anyio.run(main)
        assert notes.lines == ["began", "worked", "down"]


def test_work_that_does_not_end_is_cancelled_when_its_share_is_used_up() -> None:
    notes = Notes(3600)
    began = time.monotonic()
    ask_and_close(starlette(notes), notes, "sync")
    assert SHARE <= time.monotonic() - began < SHUTDOWN_TIMEOUT + LAST_RESORT_TIMEOUT
    assert notes.lines == ["began", "down"]
    assert "Cancelled 1 calls of the app 'Starlette': they did not end" in host_log.lines(1)[0]


@pytest.fixture
def leases() -> Iterator[Callable[[Any], HostedApp]]:
    held: list[HostedApp] = []

    def lease(app: Any) -> HostedApp:
        held.append(HostedApp(app))
        held[-1].wait_started()
        return held[-1]

    yield lease
    for each in held:
        each.close()
        assert each.wait_closed(SECONDS)


def test_closing_one_lease_of_several_neither_waits_nor_cancels(leases: Any) -> None:
    notes = Notes(0.2)
    app = starlette(notes)
    first, second = leases(app), leases(app)
    with httpx.Client(transport=HostedTransport(lambda: first), base_url="http://app") as client:
        client.get("/api/work")
    assert notes.began.wait(SECONDS)
    first.close()
    assert first.wait_closed(SECONDS)
    assert notes.lines == ["began"]
    second.close()
    assert second.wait_closed(SECONDS)
    assert notes.lines == ["began", "worked", "down"]


def test_a_new_lease_keeps_the_app_up_that_was_about_to_be_shut_down(leases: Any) -> None:
    notes = Notes(0.3)
    app = starlette(notes)
    first = leases(app)
    with httpx.Client(transport=HostedTransport(lambda: first), base_url="http://app") as client:
        client.get("/api/work")
        assert notes.began.wait(SECONDS)
        first.close()
        second = leases(app)
        assert first.wait_closed(SECONDS)
    assert notes.lines == ["began"]
    with httpx.Client(transport=HostedTransport(lambda: second), base_url="http://app") as client:
        client.get("/api/work")
    second.close()
    assert second.wait_closed(SECONDS)
    assert notes.lines.count("worked") == 2
    assert notes.lines[-1] == "down"


class Answering:
    """An app that answers when it is told to, if ever."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("I know http only")
        self.asked.set()
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})


@pytest.mark.parametrize("answers", [True, False], ids=["in time", "never"])
@pytest.mark.parametrize("kind", ["asyncio", "trio", "sync"])
def test_who_still_waits_for_an_answer_gets_it_if_it_comes_in_time(
    kind: str, answers: bool, leases: Any
) -> None:
    """The app is closed by somebody else, such as the end of the process."""
    app = Answering()
    hosted = leases(app)
    outcomes: list[object] = []

    def ask() -> None:
        options: Any = {"transport": HostedTransport(lambda: hosted), "base_url": "http://app"}

        async def main() -> None:
            async with httpx.AsyncClient(**options) as client:
                outcomes.append((await client.get("/")).text)

        try:
            if kind == "sync":
                with httpx.Client(**options) as client:
                    outcomes.append(client.get("/").text)
            else:
                anyio.run(main, backend=kind)
        except httpx.TransportError as exc:
            outcomes.append(exc)

    asking = threading.Thread(target=ask)
    asking.start()
    assert app.asked.wait(SECONDS)
    hosted.close()
    if answers:
        hosted.host.post(app.may_answer.set)
    assert hosted.wait_closed(SECONDS)
    asking.join(SECONDS)
    if answers:
        assert outcomes == ["answered"]
    else:
        (error,) = outcomes
        assert isinstance(error, httpx.RemoteProtocolError)
        assert "was stopped before it responded" in str(error)


def test_a_call_whose_caller_has_gone_is_told_and_not_waited_for_once_it_has_ended(
    leases: Any,
) -> None:
    ended = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        await receive()
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    hosted = leases(app)
    began = time.monotonic()
    with (
        httpx.Client(transport=HostedTransport(lambda: hosted), base_url="http://app") as client,
        client.stream("GET", "/") as response,
    ):
        assert next(response.iter_raw()) == b"part"
    hosted.close()
    assert hosted.wait_closed(SECONDS)
    assert ended.is_set()
    assert time.monotonic() - began < SHARE


@pytest.mark.parametrize("in_a_thread", [True, False])
def test_work_that_itself_uses_a_client_of_the_app_does_not_wait_for_itself(
    in_a_thread: bool,
) -> None:
    """It closes the last client, while the shutdown waits for it."""
    notes = Notes(0)
    may_go_on = threading.Event()

    async def use() -> None:
        async with PrefectClient(app) as client:
            notes.began.set()
            await anyio.to_thread.run_sync(may_go_on.wait, SECONDS)
            assert (await client.request("GET", "/hello")).text == "hello"
        notes.lines.append("worked")

    def use_in_a_thread() -> None:
        with SyncPrefectClient(app) as client:
            notes.began.set()
            may_go_on.wait(SECONDS)
            assert client.request("GET", "/hello").text == "hello"
        notes.lines.append("worked")

    async def work(request: Request) -> Response:
        return PlainTextResponse(
            "{}", background=BackgroundTask(use_in_a_thread if in_a_thread else use)
        )

    async def hello(request: Request) -> Response:
        return PlainTextResponse("hello")

    routes = [Route("/api/work", work), Route("/api/hello", hello)]
    app = Starlette(routes=routes, lifespan=notes.lifespan)
    with lease_host() as host:
        ask_and_close(app, notes, "sync")
        began = time.monotonic()
        may_go_on.set()
        assert notes.is_down.wait(SECONDS)
        assert time.monotonic() - began < SHARE
    assert host.join(SECONDS)
    assert notes.lines == ["worked", "down"]


def test_leaving_a_notebook_finishes_the_work_of_its_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``%unload_ext`` does, in a plain cell of a loop that runs."""
    from orchnb.api import context

    notes = Notes(0.05)

    async def cell() -> None:
        loops.set_notebook_loop(asyncio.get_running_loop())
        try:
            context.use_app(starlette(notes))
            await context.get_client().request("GET", "/work")
            assert await asyncio.to_thread(notes.began.wait, SECONDS)
            context.use_app(None)
        finally:
            context.close_notebook_clients()
            loops.set_notebook_loop(None)

    asyncio.run(cell())
    assert notes.lines == ["began", "worked", "down"]
