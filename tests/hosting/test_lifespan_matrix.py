"""Start-up x body x shutdown, each in every way it can go, alone and in a crowd."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable
from typing import Any

import anyio
import pytest

from orchnb.errors import LifespanStartupFailed
from orchnb.hosting.lifespan import app_lifespan_context
from tests.hosting.apps import (
    COMPLETE,
    FAILED,
    SHUTDOWN,
    SHUTDOWN_COMPLETE,
    SHUTDOWN_FAILED,
    STARTUP,
    ScriptedApp,
    jumping_backend,
)

SHUTDOWN_TIMEOUT = 5.0


pytestmark = pytest.mark.anyio

ASYNCIO_ONLY = {"cancels_itself", "cancelled_natively"}
"""Raising a cancellation of one's own, and cancelling a task without a scope."""


def matrix(**axes: Iterable[str]) -> pytest.MarkDecorator:
    """Every combination of the axes, on every event loop where there is such a thing."""
    rows = [
        (backend, *row)
        for backend in ("asyncio", "trio")
        for row in itertools.product(*axes.values())
        if backend == "asyncio" or not ASYNCIO_ONLY & {*row}
    ]
    return pytest.mark.parametrize(
        ("anyio_backend", *axes),
        [pytest.param(*row, id="-".join(row)) for row in rows],
        indirect=["anyio_backend"],
    )


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return jumping_backend(request.param)


@pytest.fixture(params=[1, 1000], ids=["alone", "crowd"])
def count(request: pytest.FixtureRequest) -> int:
    return request.param


class BodyError(Exception):
    pass


class Crowd:
    """Entrants who are all inside at once, every second of whom then leaves in a given way."""

    def __init__(self, app: ScriptedApp, count: int, body: str) -> None:
        self.app = app
        self.count = count
        self.body = body
        self.inside = 0
        self.everybody = anyio.Event()
        self.served = 0

    async def visit(self) -> None:
        async with anyio.create_task_group() as group:
            for number in range(self.count):
                group.start_soon(getattr(self, "ok" if number % 2 else self.body))
        assert self.served == self.count

    async def stay(self) -> None:
        assert self.app.calls == 1
        self.inside += 1
        if self.inside == self.count:
            self.everybody.set()
        await self.everybody.wait()
        self.served += 1

    def context(self) -> Any:
        return app_lifespan_context(self.app, shutdown_timeout=SHUTDOWN_TIMEOUT)

    async def ok(self) -> None:
        async with self.context():
            await self.stay()
            await anyio.sleep(1)  # outlast those who leave in another way

    async def raises(self) -> None:
        async def enter() -> None:
            async with self.context():
                await self.stay()
                raise BodyError

        with pytest.raises(BodyError):
            await enter()

    async def cancelled(self) -> None:
        with anyio.CancelScope() as scope:
            async with self.context():
                await self.stay()
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    async def cancelled_natively(self) -> None:
        async def enter() -> None:
            async with self.context():
                await self.stay()
                asyncio.current_task().cancel()  # type: ignore[union-attr]
                await anyio.sleep_forever()

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(enter())

    async def closed_generator(self) -> None:
        async def values() -> AsyncIterator[int]:
            async with self.context():
                await self.stay()
                yield 1

        generator = values()
        assert await generator.__anext__() == 1
        await generator.aclose()  # type: ignore[attr-defined]


BODIES = ["ok", "raises", "cancelled", "cancelled_natively", "closed_generator"]
IN_TIME = 1.0  # the sleep of the orderly half of a crowd
LATE = IN_TIME + SHUTDOWN_TIMEOUT + 1.0

_SAID = "The shutdown of the app 'scripted' failed: pool is busy"

SHUTDOWNS = {
    "ok": ([SHUTDOWN_COMPLETE], [], IN_TIME),
    "silent": ([], [], IN_TIME),
    "failed": ([SHUTDOWN_FAILED], [_SAID], IN_TIME),
    "failed_and_raises": ([SHUTDOWN_FAILED], [_SAID], IN_TIME),
    "raises": ([], [_SAID], IN_TIME),
    "exits": ([], ["The shutdown of the app 'scripted' failed: SystemExit: 4"], IN_TIME),
    "cancels_itself": ([], ["The shutdown of the app 'scripted' was cancelled"], IN_TIME),
    "hangs": ([], ["Cancelled the app 'scripted': it did not end in time"], LATE - 1),
    "swallows_cancellation": (
        [],
        [
            "Cancelled the app 'scripted': it did not end in time",
            "Abandoned the app 'scripted': it swallowed its cancellation",
        ],
        LATE,
    ),
}
"""How it goes: what the app then says, what is logged, and how long it may take in all."""


@matrix(body=BODIES, shutdown=SHUTDOWNS)
async def test_an_app_that_starts_is_shut_down_once_whatever_the_bodies_do(
    body: str, shutdown: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The exact messages; a shutdown that goes wrong is logged once, bounded, and raises nothing."""
    answer, log, at_most = SHUTDOWNS[shutdown]
    app = ScriptedApp(shutdown=shutdown)
    began = anyio.current_time()
    await Crowd(app, count, body).visit()
    assert anyio.current_time() - began <= at_most + 0.001
    assert app.messages == [STARTUP, COMPLETE, SHUTDOWN, *answer]
    assert app.calls == 1
    assert caplog.messages == log
    app.released.set()
    await anyio.wait_all_tasks_blocked()
    assert not app.is_called


UNSUPPORTED = {
    "unsupported": [],
    "silent": [],
    "received_and_silent": [STARTUP],
    "http_answer": [STARTUP, "send http.response.start"],
    "complete_and_return": [STARTUP, COMPLETE],
}


@matrix(start=UNSUPPORTED, body=BODIES)
async def test_an_app_without_a_lifespan_to_speak_of_is_asked_once_and_served(
    body: str, start: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = ScriptedApp(start)
    await Crowd(app, count, body).visit()
    assert app.messages == UNSUPPORTED[start]
    assert app.calls == 1
    assert not caplog.records


FAILURES = {
    "failed": ("no database", [STARTUP, FAILED]),
    "failed_and_raises": ("no database", [STARTUP, FAILED]),
    "failed_and_hangs": ("no database", [STARTUP, FAILED]),
    "failed_without_message": ("The app gave no reason", [STARTUP, FAILED]),
    "raises": ("no database", [STARTUP]),
    "raises_without_words": ("ConnectionRefusedError", [STARTUP]),
    "exits": ("SystemExit: 3", [STARTUP]),
    "cancels_itself": ("The start-up was cancelled", [STARTUP]),
}


@matrix(start=FAILURES)
async def test_a_failed_start_reaches_everybody_in_the_apps_own_words_and_leaves_nothing(
    start: str, count: int
) -> None:
    message, messages = FAILURES[start]
    app = ScriptedApp(start)
    told: list[str] = []

    async def enter() -> None:
        with pytest.raises(LifespanStartupFailed) as caught:
            async with app_lifespan_context(app, shutdown_timeout=SHUTDOWN_TIMEOUT):
                raise AssertionError("the body runs on a dead app")
        told.append(str(caught.value))

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(enter)
    assert told == [message] * count
    assert app.messages == messages
    assert not app.is_called

    app.start, app.messages = "ok", []
    await Crowd(_forgetful(app), count, "ok").visit()
    assert app.messages == [STARTUP, COMPLETE, SHUTDOWN, SHUTDOWN_COMPLETE]


def _forgetful(app: ScriptedApp) -> ScriptedApp:
    app.calls = 0
    return app


@matrix()
async def test_a_hanging_start_is_cancelled_when_the_last_who_waits_for_it_gives_up(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = ScriptedApp("hangs")

    async def enter(patience: float) -> None:
        with anyio.move_on_after(patience) as scope:
            async with app_lifespan_context(app):
                raise AssertionError("it never starts")
        assert scope.cancelled_caught
        assert anyio.current_time() - began == pytest.approx(patience)

    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(enter, 1 + number / 1000)
        await app.start_reached.wait()
        assert app.is_called
    assert app.messages == [STARTUP]
    assert not app.is_called
    assert not caplog.records


@matrix()
async def test_the_first_entrants_cancellation_during_the_start_is_felt_by_nobody_else(
    count: int,
) -> None:
    app = ScriptedApp("when_told")
    crowd = Crowd(app, count, "ok")
    first = anyio.CancelScope()

    async def enter_first() -> None:
        with first:
            async with app_lifespan_context(app):
                raise AssertionError("it was cancelled")

    async with anyio.create_task_group() as group:
        group.start_soon(enter_first)
        await app.start_reached.wait()
        group.start_soon(crowd.visit)
        await anyio.wait_all_tasks_blocked()
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        app.may_start.set()
    assert app.messages == [STARTUP, COMPLETE, SHUTDOWN, SHUTDOWN_COMPLETE]
    assert app.calls == 1
