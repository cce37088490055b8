"""Random interleavings of enter, leave, cancel and fail: an app is up while anybody is inside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchnb.errors import LifespanStartupFailed
from orchnb.hosting import lifespan
from orchnb.hosting.lifespan import app_lifespan_context
from tests.hosting.apps import Message, Receive, Send, run_jumping

SHUTDOWN_TIMEOUT = 4.0


@dataclass(frozen=True)
class Period:
    """How one period of the app goes: seconds that it takes, and whether it goes well."""

    start_takes: int
    start: str
    shutdown_takes: int
    shutdown: str


@dataclass(frozen=True)
class Visit:
    """Somebody who enters at a time, stays for a while, and leaves in some way."""

    at: int
    stays: int
    ends: str
    gives_up_after: int


PERIODS = st.builds(
    Period,
    start_takes=st.integers(0, 3),
    start=st.sampled_from(["ok", "ok", "ok", "fails", "raises", "unsupported"]),
    shutdown_takes=st.integers(0, 6),  # beyond the time-out: it is cancelled
    shutdown=st.sampled_from(["ok", "ok", "fails", "raises"]),
)
VISITS = st.builds(
    Visit,
    at=st.integers(0, 8),
    stays=st.integers(0, 5),
    ends=st.sampled_from(["ok", "ok", "raises"]),
    gives_up_after=st.sampled_from([0, 1, 2, 3, 5, 100, 100]),
)


class World:
    """An app, its visitors, and what has to be true whenever anything happens."""

    def __init__(self, periods: list[Period], visits: list[Visit]) -> None:
        self.periods = periods
        self.visits = visits
        self.calls = 0
        self.called = False
        self.state = "down"
        self.history: list[str] = []
        self.inside = 0
        self.waiting = 0
        self.failures: set[str] = set()
        self.broken: list[str] = []  # an app's own errors are its lifespan's, and not the test's

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if self.called:
            self.broken.append("two periods overlap")
        period = self.periods[self.calls % len(self.periods)]
        self.calls += 1
        self.called = True
        self.history.append("call")
        self.state = "starting"
        try:
            await self.live(period, receive, send)
        finally:
            self.called = False
            self.state = "up" if period.start == "unsupported" else "down"

    async def live(self, period: Period, receive: Receive, send: Send) -> None:
        if period.start == "unsupported":
            await anyio.sleep(period.start_takes)
            raise AssertionError("only http is known here")
        assert (await receive())["type"] == "lifespan.startup"
        await anyio.sleep(period.start_takes)
        if period.start == "raises":
            raise RuntimeError("no database")
        if period.start == "fails":
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        await send({"type": "lifespan.startup.complete"})
        self.state = "up"
        self.history.append("up")
        assert (await receive())["type"] == "lifespan.shutdown"
        if self.inside:
            self.broken.append("it is shut down under somebody")
        self.state = "ending"
        self.history.append("shutdown")
        await anyio.sleep(period.shutdown_takes)
        if period.shutdown == "raises":
            raise RuntimeError("pool is busy")
        answer = "complete" if period.shutdown == "ok" else "failed"
        await send({"type": f"lifespan.shutdown.{answer}"})

    async def visit(self, visit: Visit) -> None:
        await anyio.sleep(visit.at)
        self.waiting += 1
        with anyio.move_on_after(visit.gives_up_after):
            try:
                async with app_lifespan_context(self, shutdown_timeout=SHUTDOWN_TIMEOUT):
                    await self.stay(visit)
            except LifespanStartupFailed as exc:
                self.failures.add(str(exc))
            except ZeroDivisionError:
                pass
        self.waiting -= 1

    async def stay(self, visit: Visit) -> None:
        self.inside += 1
        try:
            for _ in range(visit.stays):
                self.check()
                await anyio.sleep(1)
            self.check()
            if visit.ends == "raises":
                raise ZeroDivisionError
        finally:
            self.inside -= 1

    def check(self) -> None:
        assert self.state == "up" or not self.inside

    async def watch(self) -> None:
        """Between any two things that happen: up while anyone is inside, down once nobody is."""
        await anyio.sleep(0.5)
        while self.waiting or anyio.current_time() < self.watched_until:
            self.check()
            if not self.waiting:
                assert not self.called
                assert not lifespan._lifespans
            await anyio.sleep(1)

    async def run(self) -> None:
        self.watched_until = anyio.current_time() + 10
        async with anyio.create_task_group() as group:
            group.start_soon(self.watch)
            for visit in self.visits:
                group.start_soon(self.visit, visit)
        assert not self.broken
        assert self.failures <= {"no database"}
        assert not self.called
        assert not lifespan._lifespans
        assert self.history.count("shutdown") == self.history.count("up")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(
    periods=st.lists(PERIODS, min_size=1, max_size=4),
    visits=st.lists(VISITS, min_size=1, max_size=12),
)
@settings(deadline=None, max_examples=250, derandomize=True, database=None)
def test_up_while_anyone_is_inside_down_once_nobody_is_started_once_per_period(
    backend: str, periods: list[Period], visits: list[Visit]
) -> None:
    world = World(periods, visits)
    run_jumping(backend, world.run)
    _assert_periods(world.history)


def _assert_periods(history: list[str]) -> None:
    """Every start-up that completes is followed by one shutdown before the next call."""
    up = False
    for event in history:
        if event == "up":
            assert not up
            up = True
        elif event == "shutdown":
            assert up
            up = False
        else:
            assert not up, "called again while it was up"
    assert not up


@st.composite
def orders(draw: st.DrawFn) -> tuple[int, list[Any]]:
    """A number of people, and an order in which each enters and leaves, in one of three ways."""
    count = draw(st.integers(1, 8))
    ways = [draw(st.sampled_from(["leave", "raise", "cancel"])) for _ in range(count)]
    pending = [[("enter", number), (ways[number], number)] for number in range(count)]
    steps = []
    while any(pending):
        queue = draw(st.sampled_from([steps for steps in pending if steps]))
        steps.append(queue.pop(0))
    return count, steps


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(order=orders())
@settings(deadline=None, max_examples=150, derandomize=True, database=None)
def test_step_by_step_in_any_order_the_messages_are_those_of_the_periods(
    backend: str, order: tuple[int, list[Any]]
) -> None:
    """Each step is waited for, so the exact messages are known after each."""
    _, steps = order
    messages: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for _ in range(2):
            kind = (await receive())["type"]
            messages.append(kind)
            await send({"type": f"{kind}.complete"})

    async def visit(
        entered: anyio.Event, leave: anyio.Event, scope: anyio.CancelScope, way: str
    ) -> None:
        with scope:
            try:
                async with app_lifespan_context(app):
                    entered.set()
                    await leave.wait()
                    if way == "raise":
                        raise ZeroDivisionError
            except ZeroDivisionError:
                pass

    async def main() -> None:
        inside: set[int] = set()
        expected: list[str] = []
        people: dict[int, tuple[anyio.Event, anyio.CancelScope]] = {}
        ways = {number: way for way, number in steps if way != "enter"}
        async with anyio.create_task_group() as group:
            for step, number in steps:
                if step == "enter":
                    entered, leave, scope = anyio.Event(), anyio.Event(), anyio.CancelScope()
                    people[number] = leave, scope
                    group.start_soon(visit, entered, leave, scope, ways[number])
                    await entered.wait()
                    expected += [] if inside else ["lifespan.startup"]
                    inside.add(number)
                else:
                    leave, scope = people[number]
                    scope.cancel() if step == "cancel" else leave.set()
                    inside.remove(number)
                    expected += [] if inside else ["lifespan.shutdown"]
                await anyio.wait_all_tasks_blocked()
                assert messages == expected
                assert bool(lifespan._lifespans) == bool(inside)

    run_jumping(backend, main)
