"""What is requested when, and what is reported, in a simulated time."""

from __future__ import annotations

import itertools
import statistics
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchnb.errors import FlowRunWaitTimeout, PrefectHTTPStatusError
from orchnb.runs.following import Following, RunChange
from orchnb.runs.waiting import timed_out, wait_for
from tests.runs.simulation import SimulatedServer, runs_that_end


def followed(
    server: SimulatedServer, timeout: float | None = None, **options: Any
) -> tuple[Following, bool, list[tuple[float, RunChange]]]:
    """Follow all runs of a server to the end; return the changes, with the times when they were seen."""
    following = Following(server.schedules, clock=server.clock, **options)
    changes: list[tuple[float, RunChange]] = []
    ended = server.drive(
        wait_for(
            following,
            timeout,
            on_change=lambda change: changes.append((server.now, change)),
            clock=server.clock,
        )
    )
    return following, ended, changes


def most_in_a_window(requests: list[float], window: float) -> int:
    return max(
        sum(1 for other in requests if began <= other < began + window) for began in requests
    )


@pytest.mark.parametrize("count", [1, 20, 200, 1_000])
def test_requests_are_few_and_changes_are_seen_soon(count: int) -> None:
    server = SimulatedServer(runs_that_end(count, lambda number: 30 + number * 300 / count))
    following, ended, changes = followed(server)
    assert ended
    assert following.done
    # Two per second, also in any ten seconds.
    assert most_in_a_window(server.requests, 10) <= 20
    ends = {change.run.id: at for at, change in changes if change.run.state_type == "COMPLETED"}
    assert len(ends) == count
    delays = [ends[run_id] - schedule[-1][0] for run_id, schedule in server.schedules.items()]
    assert min(delays) >= 0
    assert statistics.median(delays) <= 2
    assert max(delays) <= 4


@pytest.mark.parametrize(("count", "most"), [(1, 0.1), (20, 0.1), (200, 1), (1_000, 1)])
def test_with_events_changes_are_seen_sooner_and_requests_stay_few(count: int, most: float) -> None:
    server = SimulatedServer(
        runs_that_end(count, lambda number: 30 + number * 300 / count),
        events=lambda at, run_id: 1,
    )
    _, ended, changes = followed(server)
    assert ended
    assert most_in_a_window(server.requests, 10) <= 20
    ends = {change.run.id: at for at, change in changes if change.run.state_type == "COMPLETED"}
    delays = [ends[run_id] - schedule[-1][0] for run_id, schedule in server.schedules.items()]
    assert min(delays) >= 0
    assert statistics.median(delays) <= most


def test_events_that_say_nothing_new_do_not_make_requests_more_frequent() -> None:
    schedules = {uuid.UUID(int=10): [(0.0, "RUNNING"), (60.0, "COMPLETED")]}
    for number in range(500):  # a run that is not followed changes all the time
        schedules.setdefault(uuid.UUID(int=11), []).append((number / 10, "RUNNING"))
    server = SimulatedServer(schedules, events=lambda at, run_id: 3)
    following = Following([uuid.UUID(int=10)], clock=server.clock)
    server.drive(wait_for(following, None, clock=server.clock))
    quiet = SimulatedServer(schedules)
    quiet.drive(
        wait_for(Following([uuid.UUID(int=10)], clock=quiet.clock), None, clock=quiet.clock)
    )
    assert len(server.requests) <= len(quiet.requests)


def test_the_stream_is_closed_at_the_end_and_when_nobody_follows() -> None:
    for is_abandoned in (False, True):
        server = SimulatedServer(runs_that_end(1, lambda number: 9), events=lambda at, run_id: 1)
        following = Following(server.schedules, clock=server.clock)
        if is_abandoned:
            server.drive(following.call())
            following.take([server.run(uuid.UUID(int=10))])
            server.drive(following.call())
            assert server.stream is not None
            assert not server.stream.is_closed
            del following
        else:
            server.drive(wait_for(following, None, clock=server.clock))
        assert server.stream is not None
        assert server.stream.is_closed


def test_no_run_is_asked_for_after_its_end() -> None:
    server = SimulatedServer(runs_that_end(400, lambda number: 5 if number < 390 else 60))
    followed(server)
    late = [at for at in server.requests if at > 12]
    assert len(late) <= 60, "ten runs are one request"


@pytest.mark.parametrize(
    ("failure", "passes"),
    [
        (lambda: httpx.ConnectError("refused"), True),
        (lambda: httpx.ReadTimeout("silent"), True),
        (lambda: httpx.RemoteProtocolError("gone"), True),
        (lambda: status_error(500), True),
        (lambda: status_error(502), True),
        (lambda: status_error(503), True),
        (lambda: status_error(429), True),
        (lambda: status_error(401), False),
        (lambda: status_error(404), False),
        (lambda: RuntimeError("a bug"), False),
    ],
)
def test_a_server_that_is_away_is_a_wait(failure: Callable[[], Exception], passes: bool) -> None:
    server = SimulatedServer(
        runs_that_end(3, lambda number: 100), lambda now: failure() if 10 < now < 70 else None
    )
    if not passes:
        with pytest.raises(type(failure())):
            followed(server)
        return
    following, ended, changes = followed(server)
    assert ended
    assert following.trouble is None
    assert [change.run.state_type for _, change in changes] == ["RUNNING"] * 3 + ["COMPLETED"] * 3
    assert sum(10 < at < 70 for at in server.requests) < 12, "it is asked less and less often"


def test_a_failure_of_the_first_look_is_raised() -> None:
    server = SimulatedServer(
        runs_that_end(1, lambda number: 1), lambda now: httpx.ConnectError("refused")
    )
    with pytest.raises(httpx.ConnectError):
        followed(server)
    assert len(server.requests) == 1


def test_a_smaller_limit_of_the_server_is_kept() -> None:
    server = SimulatedServer(runs_that_end(100, lambda number: 5), most=30)
    perform = server.perform

    def limited(effect: Any) -> Any:
        wanted = getattr(effect, "json", None)
        if wanted and wanted["limit"] > 30:
            server.requests.append(server.now)
            raise status_error(422, "Invalid limit: must be less than or equal to 30")
        return perform(effect)

    server.perform = limited  # type: ignore[method-assign]
    _, ended, changes = followed(server)
    assert ended
    assert len(changes) == 200


def test_a_deleted_run_counts_as_ended() -> None:
    server = SimulatedServer(runs_that_end(2, lambda number: 1e9))
    first, second = server.schedules
    following = Following([first, second], clock=server.clock)
    server.drive(wait_for(following, 5, clock=server.clock))
    del server.schedules[first]
    server.schedules[second].append((server.now, "FAILED"))
    again = Following([first, second], clock=server.clock)
    again.runs = following.runs
    assert server.drive(wait_for(again, 60, clock=server.clock))
    assert again.deleted == {first}


@pytest.mark.parametrize("timeout", [0, 0.2, 7, 60])
def test_a_timeout_ends_the_wait_in_time(timeout: float) -> None:
    server = SimulatedServer(runs_that_end(3, lambda number: 3 if number == 0 else 1e9))
    following, ended, _ = followed(server, timeout)
    assert not ended
    assert server.now == pytest.approx(timeout)
    assert len(server.requests) >= 1
    error = timed_out(following, timeout)
    assert isinstance(error, FlowRunWaitTimeout)
    assert isinstance(error, TimeoutError)
    assert [run.id for run in error.runs] == list(server.schedules)
    waiting = 3 if timeout < 3 else 2
    assert str(error).startswith(f"{waiting} of 3 flow runs have not ended after {timeout:g} s: ")
    assert "They go on" in error.hint


def test_a_fixed_interval_is_kept() -> None:
    server = SimulatedServer(runs_that_end(1, lambda number: 100))
    followed(server, poll_interval=5)
    assert server.requests == [pytest.approx(5 * n) for n in range(21)]


KINDS = st.sampled_from(["SCHEDULED", "PENDING", "RUNNING", "PAUSED"])
ENDS = st.sampled_from(["COMPLETED", "FAILED", "CRASHED", "CANCELLED"])
SCHEDULES = st.builds(
    lambda first, middle, gaps, last: list(
        zip(
            [0.0, *(sum(gaps[: place + 1]) for place in range(len(middle) + 1))],
            [first, *middle, last],
            strict=True,
        )
    ),
    KINDS,
    st.lists(KINDS, max_size=4),
    st.lists(st.floats(0.01, 60), min_size=5, max_size=5),
    ENDS,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(SCHEDULES, min_size=1, max_size=8),
    st.lists(st.tuples(st.floats(1, 200), st.floats(0.1, 60)), max_size=3),
    st.none() | st.lists(st.integers(0, 3), min_size=1, max_size=7),
)
def test_whatever_happens_each_change_is_told_once_and_in_order(
    schedules: list[list[tuple[float, str]]],
    outages: list[tuple[float, float]],
    events: list[int] | None,
) -> None:
    """Also if there is an event stream, and events are lost or come several times."""
    arriving = itertools.cycle(events or [])
    server = SimulatedServer(
        {uuid.UUID(int=number + 10): schedule for number, schedule in enumerate(schedules)},
        lambda now: (
            httpx.ReadError("away")
            if any(began <= now < began + length for began, length in outages)
            else None
        ),
        events=None if events is None else lambda at, run_id: next(arriving),
    )
    _, ended, changes = followed(server)
    assert ended
    assert most_in_a_window(server.requests, 10) <= 20
    for run_id, schedule in server.schedules.items():
        told = [change for _, change in changes if change.run.id == run_id]
        ids = [change.run.state_id for change in told]
        assert len(ids) == len(set(ids)), "nothing is told twice"
        assert told[-1].run.state_type == schedule[-1][1], "the end is never lost"
        order = [uuid.uuid5(run_id, str(place)) for place in range(len(schedule))]
        assert [order.index(each) for each in ids if each is not None] == sorted(
            order.index(each) for each in ids if each is not None
        )
        for before, after in itertools.pairwise(told):
            assert after.previous == before.run.state


def status_error(status: int, detail: str = "") -> PrefectHTTPStatusError:
    request = httpx.Request("POST", "http://server.invalid/api/flow_runs/filter")
    response = httpx.Response(status, request=request)
    return PrefectHTTPStatusError(f"{status}", request=request, response=response, detail=detail)
