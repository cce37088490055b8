"""What is requested to show runs, and what is known of them then, in a simulated time."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from orchnb.api.models import Deployment
from orchnb.runs.following import Following, RunChange
from orchnb.runs.states import state_type
from orchnb.runs.sweeps import Sweep
from orchnb.runs.waiting import wait_for
from orchnb.runs.watching import MOST_SHOWN, Snapshot, Watching, retryable, runs_to_show
from tests.runs.simulation import SimulatedServer, runs_that_end
from tests.runs.test_following import most_in_a_window, status_error

ONE = UUID(int=10)


def watched(
    server: SimulatedServer,
    *,
    timeout: float | None = None,
    at: dict[float, Callable[[Watching], None]] | None = None,
) -> tuple[Watching, list[tuple[float, RunChange]]]:
    """Watch all runs of a server; call functions at times, as a display or a button would."""
    following = Following(server.schedules, clock=server.clock)
    watching = Watching(following, clock=server.clock)
    changes: list[tuple[float, RunChange]] = []
    due = dict(at or {})
    perform = server.perform

    def timed(effect: Any) -> Any:
        for when in [when for when in due if when <= server.now]:
            due.pop(when)(watching)
        return perform(effect)

    server.perform = timed  # type: ignore[method-assign]
    server.drive(
        wait_for(
            following,
            timeout,
            on_change=lambda change: changes.append((server.now, change)),
            clock=server.clock,
        )
    )
    return watching, changes


def five_tasks(run_id: UUID, now: float) -> list[tuple[str, str]]:
    """One task after the other, ten seconds each."""
    begun = min(int(now // 10) + 1, 5)
    states = ["COMPLETED" if now >= 10 * number + 10 else "RUNNING" for number in range(begun)]
    return [(f"step-{number}", state) for number, state in enumerate(states)]


@pytest.mark.parametrize("count", [1, 20, 200, 1_000])
def test_the_details_are_within_the_same_two_requests_per_second(count: int) -> None:
    server = SimulatedServer(
        runs_that_end(count, lambda number: 30 + number * 300 / count), tasks=five_tasks
    )
    watching, changes = watched(server)
    last = 3  # those of the end are not held back
    assert most_in_a_window(server.requests[:-last], 10) <= 20
    assert {"/task_runs/filter", "/logs/filter"} <= set(server.asked)
    ends = {change.run.id: at for at, change in changes if state_type(change.run) == "COMPLETED"}
    assert len(ends) == count
    delays = [ends[run_id] - schedule[-1][0] for run_id, schedule in server.schedules.items()]
    assert statistics.median(delays) <= 2
    assert max(delays) <= 4.5
    assert watching.snapshot().end_reason == "done"


def test_the_tasks_and_lines_of_one_run_are_known() -> None:
    server = SimulatedServer(
        {ONE: [(0.0, "RUNNING"), (60.0, "COMPLETED")]},
        tasks=five_tasks,
        lines=lambda run_id, now: [(float(at), f"line {at}") for at in range(int(now))],
    )
    seen: dict[float, Snapshot] = {}

    def look(at: float) -> Callable[[Watching], None]:
        return lambda watching: seen.update({at: watching.snapshot()})

    watching, _ = watched(server, at={25.0: look(25.0), 45.0: look(45.0)})
    for at, done in ((25.0, 2), (45.0, 4)):
        details = seen[at].details[ONE]
        assert (details.done, details.known) == (done, done + 1)
        assert details.current == (f"step-{done}",)
        assert details.line is not None
        assert 0 <= at - int(details.line.message.split()[1]) <= 5
    end = watching.snapshot()
    assert [task.name for task in end.details[ONE].tasks] == [f"step-{n}" for n in range(5)]
    assert end.details[ONE].current == ()
    assert [line.message for line in end.lines] == [f"line {n}" for n in range(48, 60)]


def test_a_thousand_tasks_are_read_page_by_page() -> None:
    def tasks(run_id: UUID, now: float) -> list[tuple[str, str]]:
        ended = int(now * 10) if now < 90 else 900
        states = ["COMPLETED"] * ended + ["RUNNING"] * (900 - ended)
        return [(f"t{number}", state) for number, state in enumerate(states)]

    server = SimulatedServer({ONE: [(0.0, "RUNNING"), (120.0, "COMPLETED")]}, tasks=tasks)
    seen: list[tuple[float, int, int]] = []

    def look(watching: Watching) -> None:
        details = watching.snapshot().details[ONE]
        seen.append((server.now, details.done, details.known))

    watching, _ = watched(server, at={20.0: look, 50.0: look})
    for now, done, known in seen:
        assert known == 900
        assert abs(done - now * 10) < 200
    details = watching.snapshot().details[ONE]
    assert (details.done, details.known) == (900, 900)
    assert most_in_a_window(server.requests[:-3], 10) <= 20


@pytest.mark.parametrize(
    "failure",
    [
        lambda: httpx.ReadTimeout("silent"),
        lambda: status_error(404),
        lambda: status_error(403),
        lambda: status_error(500),
    ],
)
def test_details_that_cannot_be_had_do_not_end_the_watch(
    failure: Callable[[], Exception],
) -> None:
    server = SimulatedServer(runs_that_end(3, lambda number: 60))
    perform = server.perform

    def without_details(effect: Any) -> Any:
        if getattr(effect, "path", "").startswith(("/task_runs", "/logs")):
            server.requests.append(server.now)
            raise failure()
        return perform(effect)

    server.perform = without_details  # type: ignore[method-assign]
    watching, changes = watched(server)
    assert len(changes) == 6
    assert watching.snapshot().end_reason == "done"
    assert watching.snapshot().trouble is None


def test_a_smaller_limit_for_details_is_kept() -> None:
    server = SimulatedServer({ONE: [(0.0, "RUNNING"), (60.0, "COMPLETED")]}, tasks=five_tasks)
    perform = server.perform

    def limited(effect: Any) -> Any:
        if getattr(effect, "path", "") == "/task_runs/filter" and effect.json["limit"] > 2:
            server.requests.append(server.now)
            raise status_error(422, "Invalid limit: must be less than or equal to 2")
        return perform(effect)

    server.perform = limited  # type: ignore[method-assign]
    watching, _ = watched(server)
    assert watching.snapshot().details[ONE].known == 5


def test_what_a_button_asks_for_is_done_by_the_same_steps() -> None:
    server = SimulatedServer(
        {
            UUID(int=10): [(0.0, "RUNNING"), (5.0, "FAILED")],
            UUID(int=11): [(0.0, "RUNNING"), (60.0, "COMPLETED")],
            UUID(int=12): [(0.0, "RUNNING"), (5.0, "COMPLETED")],
        }
    )
    watching, _ = watched(server, at={15.0: lambda w: w.ask("retry")}, timeout=40)
    assert [run.state_type for run in watching.snapshot().runs] == [
        "SCHEDULED",
        "RUNNING",
        "COMPLETED",
    ]
    assert watching.snapshot().asked == {}
    assert watching.snapshot().end_reason == "timeout"


def test_cancelling_cancels_every_run_that_has_not_ended() -> None:
    server = SimulatedServer(runs_that_end(30, lambda number: 5 if number < 5 else 1e6))
    watching, _ = watched(server, at={15.0: lambda w: w.ask("cancel")}, timeout=40)
    states = [str(run.state_type) for run in watching.snapshot().runs]
    assert states == ["COMPLETED"] * 5 + ["CANCELLING"] * 25
    assert watching.following.creates_no_more


def test_a_refusal_is_told() -> None:
    server = SimulatedServer(runs_that_end(1, lambda number: 60))
    perform = server.perform

    def refusing(effect: Any) -> Any:
        if getattr(effect, "path", "").endswith("/set_state"):
            raise status_error(403, "not yours")
        return perform(effect)

    server.perform = refusing  # type: ignore[method-assign]
    watching, _ = watched(server, at={15.0: lambda w: w.ask("cancel")})
    (refusal,) = watching.snapshot().refused
    assert "not yours" in refusal


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_a_sweep_goes_on_when_the_server_was_away(at_a_time: int) -> None:
    server = SimulatedServer(
        {}, lambda now: httpx.ConnectError("refused") if 20 < now < 90 else None
    )
    deployment = Deployment(id=UUID(int=2), name="here", flow_id=UUID(int=1))
    items = [{"x": number} for number in range(12)]
    sweep = Sweep(
        deployment, items, max_running=at_a_time, sweep=None, options={}, clock=server.clock
    )
    watching = Watching(sweep.following, clock=server.clock)
    seen: list[tuple[float, Snapshot]] = []
    perform = server.perform

    def observed(effect: Any) -> Any:
        seen.append((server.now, watching.snapshot()))
        return perform(effect)

    server.perform = observed  # type: ignore[method-assign]
    assert server.drive(sweep.run(None)) is True
    assert len(server.schedules) == len(sweep.created) == 12
    assert [str(run.state_type) for run in sweep.runs()] == ["COMPLETED"] * 12
    away = [snapshot for now, snapshot in seen if 30 < now < 90]
    assert all(snapshot.trouble is not None for snapshot in away)
    assert all(snapshot.age > 9 for snapshot in away)
    assert sum(20 < at < 90 for at in server.requests) < 15
    assert watching.snapshot().total == 12
    assert watching.snapshot().trouble is None


def test_no_more_runs_are_created_after_a_cancel() -> None:
    server = SimulatedServer({})
    deployment = Deployment(id=UUID(int=2), name="here", flow_id=UUID(int=1))
    sweep = Sweep(
        deployment,
        [{"x": number} for number in range(12)],
        max_running=2,
        sweep=None,
        options={},
        clock=server.clock,
    )
    watching = Watching(sweep.following, clock=server.clock)
    perform = server.perform

    def cancelling(effect: Any) -> Any:
        if server.now > 15 and not sweep.following.creates_no_more:
            watching.ask("cancel")
        outcome = perform(effect)
        for schedule in server.schedules.values():
            if schedule[-1][1] == "CANCELLING":
                schedule.append((server.now + 3, "CANCELLED"))
        return outcome

    server.perform = cancelling  # type: ignore[method-assign]
    assert server.drive(sweep.run(None)) is True
    assert 2 < len(sweep.created) < 12
    states = [str(run.state_type) for run in sweep.runs()]
    assert states == ["COMPLETED"] * (len(states) - 2) + ["CANCELLED"] * 2


FAILS = [(0.0, "RUNNING"), (1.0, "FAILED")]
DONE = [(0.0, "RUNNING"), (1.0, "COMPLETED")]
ACTIVE = [(0.0, "RUNNING")]
WAITS = [(0.0, "SCHEDULED")]


@pytest.mark.parametrize(
    ("schedules", "states"),
    [
        ([DONE, ACTIVE, FAILS], ["COMPLETED", "RUNNING", "FAILED"]),
        ([DONE] * 50 + [ACTIVE] * 50 + [FAILS] * 50, ["RUNNING"] * 5 + ["FAILED"] * 5),
        ([DONE] * 50 + [ACTIVE] * 2 + [FAILS] * 50, ["RUNNING"] * 2 + ["FAILED"] * 8),
        ([DONE] * 50 + [ACTIVE] * 50 + [FAILS], ["RUNNING"] * 9 + ["FAILED"]),
        ([WAITS] * 50 + [ACTIVE] * 3 + [FAILS], ["RUNNING"] * 3 + ["SCHEDULED"] * 6 + ["FAILED"]),
        ([DONE] * 50 + [FAILS], ["FAILED"]),
    ],
)
def test_of_many_runs_the_active_and_the_failed_ones_are_shown(
    schedules: list[list[tuple[float, str]]], states: list[str]
) -> None:
    server = SimulatedServer({UUID(int=10 + n): each for n, each in enumerate(schedules)}, now=5)
    runs = [server.run(each) for each in server.schedules]
    assert [str(run.state_type) for run in runs_to_show(runs, MOST_SHOWN)] == states


def test_only_failed_runs_of_deployments_can_be_retried() -> None:
    for deployed, count in ((True, 1), (False, 0)):
        server = SimulatedServer(
            {uuid.uuid4(): each for each in (FAILS, DONE, ACTIVE)}, now=5, deployed=deployed
        )
        assert len(retryable([server.run(each) for each in server.schedules])) == count
