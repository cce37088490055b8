"""What a person reads of retries: pure, with a clock by hand."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal

import pytest

from orchnb.http.retry import RetryEvent
from orchnb.notebook.views.model import Line, Live, Table, duration, text
from orchnb.notebook.views.retries import (
    MOST_WAITS_SHOWN,
    Retried,
    RetriedList,
    Retries,
    RetryHistory,
    retried_table,
)

Kind = Literal["waiting", "recovered", "gave_up", "stopped"]
NOON = datetime(2026, 11, 21, 12, 0, 0)


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def retries(clock: Clock) -> Retries:
    return Retries(clock)


def entry(clock: Clock, kind: Kind = "waiting", request: int = 1, **changes: Any) -> Retried:
    values: dict[str, Any] = {
        "kind": kind,
        "request_id": request,
        "method": "POST",
        "url": "http://server/api/flow_runs/filter?limit=5",
        "attempt": 1,
        "max_attempts": 6,
        "cause": "503 Service Unavailable",
        "wait": 4.0 if kind == "waiting" else 0.0,
        "elapsed": 0.5,
    }
    return Retried(RetryEvent(**{**values, **changes}), clock(), NOON)


def words(retries: Retries) -> str:
    return text(retries.view())


def test_a_wait_says_what_why_which_try_when_and_how_long_so_far(
    retries: Retries, clock: Clock
) -> None:
    retries.add(entry(clock))
    clock.time += 1
    view = retries.view("The stop button ends it.")
    assert isinstance(view, Live)
    assert text(view) == (
        "The server is not responding normally; retrying\n"
        "    POST /api/flow_runs/filter  503 Service Unavailable. Try 2 of 6 in 3 s, at 12:00:04."
        " 1.5 s so far.\n"
        "  The stop button ends it."
    )


def test_the_bar_goes_from_nothing_to_all(retries: Retries, clock: Clock) -> None:
    retries.add(entry(clock))
    seen = []
    for _ in range(6):
        view = retries.view()
        assert isinstance(view, Live)
        seen.append(view.steps[0].fraction)
        clock.time += 1
    assert seen == [0, 0.25, 0.5, 0.75, 1, 1]


def test_when_the_wait_is_over_it_says_now(retries: Retries, clock: Clock) -> None:
    retries.add(entry(clock))
    clock.time += 5
    assert "Try 2 of 6 now. 5.5 s so far." in words(retries)


def test_a_long_wait_is_in_minutes_and_hours(retries: Retries, clock: Clock) -> None:
    retries.add(entry(clock, wait=3616.0))
    assert "Try 2 of 6 in 1 h 0 min, at 13:00:16" in words(retries)


def test_a_wait_of_no_time_has_a_full_bar(retries: Retries, clock: Clock) -> None:
    retries.add(entry(clock, wait=0.0))
    view = retries.view()
    assert isinstance(view, Live)
    assert view.steps[0].fraction == 1


def test_maintenance_says_that_it_waits_without_end(retries: Retries, clock: Clock) -> None:
    retries.add(entry(clock, max_attempts=None))
    assert "In maintenance: waiting as long as it takes, next try in 4 s" in words(retries)


@pytest.mark.parametrize(
    ("cause", "in_words"),
    [
        ("ReadTimeout", "no answer in time (ReadTimeout)"),
        ("ConnectError", "cannot connect (ConnectError)"),
        ("429 Too Many Requests", "429 Too Many Requests"),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_causes_are_in_words(retries: Retries, clock: Clock, cause: str, in_words: str) -> None:
    retries.add(entry(clock, cause=cause))
    assert f"{in_words}. Try 2" in words(retries)


@pytest.mark.parametrize(
    ("kind", "by_person", "line"),
    [
        ("recovered", False, "✓ POST /api/flow_runs/filter: recovered after 3 tries in 4.2 s (503"),
        ("gave_up", False, "✗ POST /api/flow_runs/filter: gave up after 3 tries in 4.2 s (503"),
        ("stopped", False, "! POST /api/flow_runs/filter: stopped after 3 tries in 4.2 s (503"),
        ("stopped", True, "! POST /api/flow_runs/filter: stopped by you after 3 tries in 4.2 s"),
    ],
)
def test_the_end_is_one_line(
    retries: Retries, clock: Clock, kind: Kind, by_person: bool, line: str
) -> None:
    retries.add(entry(clock))
    last = entry(clock, kind, attempt=3, elapsed=4.2)
    last.by_person = by_person
    retries.add(last)
    assert isinstance(retries.view(), Line)
    assert words(retries).startswith(line)


def test_several_have_a_row_each_up_to_eight_then_a_count(retries: Retries, clock: Clock) -> None:
    for request in range(1, 13):
        retries.add(entry(clock, request=request))
    retries.add(entry(clock, "recovered", request=1))
    view = retries.view()
    assert isinstance(view, Live)
    assert len(view.steps) == MOST_WAITS_SHOWN
    assert view.notes == ["and 3 more requests", "so far: 1 recovered"]


def test_the_end_of_several_counts_and_takes_the_tone_of_the_worst(
    retries: Retries, clock: Clock
) -> None:
    kinds: list[Kind] = ["recovered", "stopped", "recovered"]
    for request, kind in enumerate(kinds, 1):
        retries.add(entry(clock, request=request))
        retries.add(entry(clock, kind, request=request, attempt=2))
    assert words(retries) == (
        "! 3 requests were retried: 2 recovered, 1 stopped, 6 tries in 0.5 s; "
        "%orch_retries shows each"
    )
    retries.add(entry(clock, "gave_up", request=9))
    view = retries.view()
    assert isinstance(view, Line)
    assert view.tone == "error"


def test_one_that_waits_again_makes_it_live_again(retries: Retries, clock: Clock) -> None:
    retries.add(entry(clock))
    retries.add(entry(clock, "recovered"))
    assert isinstance(retries.view(), Line)
    retries.add(entry(clock, request=2))
    assert isinstance(retries.view(), Live)


def test_ten_thousand_are_drawn_as_fast_as_eight(retries: Retries, clock: Clock) -> None:
    for request in range(10_000):
        retries.add(entry(clock, request=request))
    drawn = words(retries)
    assert "and 9,992 more requests" in drawn
    assert len(drawn) < 2000


def test_the_history_keeps_the_last_ones_only(clock: Clock) -> None:
    history = RetryHistory(size=3)
    for request in range(1, 6):
        history.add(entry(clock, request=request))
    history.add(entry(clock, "recovered", request=4))
    kept = [(e.event.request_id, e.outcome) for e in history.entries()]
    assert kept == [(3, "in progress"), (4, "recovered after 1 try in 0.5 s"), (5, "in progress")]
    history.clear()
    assert history.entries() == []


def test_the_history_is_kept_by_any_number_of_threads(clock: Clock) -> None:
    history = RetryHistory(size=5)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            told = [
                threads.submit(history.add, entry(clock, request=request))
                for request in range(4000)
            ]
            read = [threads.submit(history.entries) for _ in range(400)]
        for each in (*told, *read):
            each.result()
    finally:
        sys.setswitchinterval(interval)
    assert len(history.entries()) == 5


def test_the_table_of_a_long_session_shows_the_last_ones(clock: Clock) -> None:
    many = RetriedList(entry(clock, "recovered", request=request) for request in range(1, 501))
    table = retried_table(many)
    assert isinstance(table, Table)
    assert len(list(table.rows)) == 100
    assert table.caption == "the last 100 of 500 requests"


def test_the_table_tells_when_what_how_often_why_and_what_came_of_it(clock: Clock) -> None:
    ended = {"attempt": 2, "elapsed": 3.0, "cause": "ReadError"}
    plain = entry(clock, "recovered", **ended)
    operation = entry(clock, "recovered", **ended, operation="read_flow_runs")
    table = retried_table(RetriedList([plain, operation]))
    assert isinstance(table, Table)
    assert list(table.rows) == [
        (
            "11:59:57",
            what,
            "2",
            "the connection broke (ReadError)",
            "recovered after 2 tries in 3.0 s",
        )
        for what in ("POST /api/flow_runs/filter", "read_flow_runs")
    ]
    assert table.caption == "2 requests"


def test_the_table_of_nothing_is_a_sentence() -> None:
    assert text(retried_table(RetriedList())) == "• No requests were retried in this session"


@pytest.mark.parametrize(
    ("seconds", "in_words"),
    [
        (0, "0.0 s"),
        (-1, "0.0 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3600, "1 h 0 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_durations(seconds: float, in_words: str) -> None:
    assert duration(seconds) == in_words
