"""Timelines: what runs did when, from their states, and from a real server."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from orchnb.api.models import FlowRun, ModelList, State, TaskRun
from orchnb.notebook.views.model import Table, html, text
from orchnb.notebook.views.objects import model_table
from orchnb.notebook.views.timeline import MOST_BARS, timeline_chart
from orchnb.runs.timelines import Doing, Span, Timeline, TimelineRow, spans_of

NOON = datetime(2026, 11, 28, 12, 0, 0, tzinfo=timezone.utc)
FLOW_ID = uuid.UUID(int=1)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def task_run(
    state: str = "COMPLETED",
    due: float | None = 0,
    start: float | None = 1,
    end: float | None = 3,
    **fields: Any,
) -> TaskRun:
    times = {"expected_start_time": due, "start_time": start, "end_time": end}
    return TaskRun.model_validate(
        {
            "id": uuid.uuid4(),
            "task_key": "fit",
            "dynamic_key": "0",
            "name": "fit-1a2",
            "state": {"type": state, "name": state.title()},
            "state_type": state,
            "state_name": state.title(),
            "run_count": 1,
            **{name: None if at is None else after(at) for name, at in times.items()},
            **fields,
        }
    )


def flow_run(state: str = "COMPLETED", start: float = 0, end: float | None = 10) -> FlowRun:
    return FlowRun.model_validate(
        {
            "id": uuid.uuid4(),
            "flow_id": FLOW_ID,
            "name": "fuzzy-fox",
            "state": {"type": state, "name": state.title()},
            "state_type": state,
            "state_name": state.title(),
            "run_count": 1,
            "expected_start_time": after(start),
            "start_time": after(start),
            "end_time": None if end is None else after(end),
        }
    )


def states(*each: tuple[str, float]) -> list[State]:
    return [State.model_validate({"type": kind, "timestamp": after(at)}) for kind, at in each]


def short(spans: Sequence[Span]) -> list[tuple[str, float, float]]:
    return [
        (span.doing.value, (span.start - NOON).total_seconds(), (span.end - NOON).total_seconds())
        for span in spans
    ]


@pytest.mark.parametrize(
    ("run", "history", "expected"),
    [
        (task_run(), (), [("waited", 0, 1), ("ran", 1, 3)]),
        (task_run("FAILED"), (), [("waited", 0, 1), ("failed", 1, 3)]),
        (task_run("CRASHED", start=None), (), []),
        (task_run("RUNNING", end=None), (), [("waited", 0, 1), ("ran", 1, 9)]),
        (task_run("PENDING", start=None, end=None), (), [("waited", 0, 9)]),
        (task_run("SCHEDULED", due=20, start=None, end=None), (), []),
        (task_run(due=None, start=None, end=None), (), []),
        (task_run(due=2), (), [("ran", 1, 3)]),  # its clock is not the server's
        (task_run(start=3, end=1), (), [("waited", 0, 3), ("ran", 3, 3)]),
        (
            task_run(),
            states(
                ("PENDING", 0), ("RUNNING", 1), ("SCHEDULED", 2), ("RUNNING", 4), ("COMPLETED", 6)
            ),
            [("waited", 0, 1), ("failed", 1, 2), ("waited", 2, 4), ("ran", 4, 6)],
        ),
        (
            task_run("FAILED"),
            states(("RUNNING", 1), ("SCHEDULED", 2), ("PENDING", 3), ("RUNNING", 4), ("FAILED", 5)),
            [("failed", 1, 2), ("waited", 2, 4), ("failed", 4, 5)],
        ),
        (
            task_run(),  # the states in another order, and a final state that is left again
            states(
                ("COMPLETED", 9), ("RUNNING", 8), ("FAILED", 2), ("RUNNING", 1), ("SCHEDULED", 6)
            ),
            [("failed", 1, 2), ("waited", 2, 8), ("ran", 8, 9)],
        ),
        (task_run(), states(("RUNNING", 1), ("PAUSED", 2)), [("ran", 1, 2), ("waited", 2, 9)]),
        (task_run(), states(("NEW IN A NEWER SERVER", 1)), [("waited", 1, 9)]),
    ],
)
def test_what_a_run_did_when(
    run: TaskRun, history: Sequence[State], expected: list[tuple[str, float, float]]
) -> None:
    assert short(spans_of(run, history, after(9))) == expected


def timeline_of(count: int, *, waited: float = 0) -> Timeline:
    whole = flow_run(start=0, end=count + 2)
    start = after(-waited)
    rows = [
        TimelineRow(
            whole.id,
            "fuzzy-fox",
            whole,
            0,
            [Span(Doing.WAITED, start, after(0)), Span(Doing.RAN, after(0), after(count + 2))],
        )
    ]
    for number in range(count):
        run = task_run("FAILED" if number % 9 == 1 else "COMPLETED", number, number, number + 2)
        rows.append(
            TimelineRow(run.id, f"fit-{number:03x}", run, 1, spans_of(run, (), after(count)))
        )
    return Timeline(rows, after(count + 5), ui_url="http://127.0.0.1:4200")


def test_two_hundred_tasks_take_less_than_a_hundred_kilobytes() -> None:
    assert len(html(timeline_chart(timeline_of(200)))) < 100_000


def test_many_tasks_are_grouped_by_name() -> None:
    chart = timeline_chart(timeline_of(MOST_BARS))
    assert [row.label for row in chart.rows] == ["fuzzy-fox", f"fit × {MOST_BARS}"]
    assert "56 failed" in chart.rows[1].words
    assert len(timeline_chart(timeline_of(MOST_BARS - 1)).rows) == MOST_BARS


def test_a_long_wait_takes_at_most_a_fifth_of_the_axis() -> None:
    chart = timeline_chart(timeline_of(8, waited=7200))
    ran = next(bar for bar in chart.rows[0].bars if bar.doing == "ran")
    assert ran.start == pytest.approx(0.2)
    assert any("waited 2 h 0 min" in note for note in chart.notes)


@pytest.mark.parametrize("seconds", [1e-3, 0.04, 1, 2.9, 3, 59, 61, 3599, 86_000, 1e6, 4e7])
def test_the_axis_has_a_few_round_times(seconds: float) -> None:
    whole = flow_run()
    rows = [TimelineRow(whole.id, "x", whole, 0, [Span(Doing.RAN, NOON, after(seconds))])]
    chart = timeline_chart(Timeline(rows, after(seconds)))
    assert 2 <= len(chart.ticks) <= 9
    places = [at for at, _ in chart.ticks]
    assert places == sorted(places)
    assert all(0 <= at < 1 for at in places)
    assert len({words for _, words in chart.ticks}) == len(places)


def test_bars_are_on_the_axis_and_in_the_text() -> None:
    chart = timeline_chart(timeline_of(30))
    for row in chart.rows:
        assert all(0 <= bar.start <= bar.start + bar.length <= 1.0001 for bar in row.bars)
    lines = text(chart).splitlines()
    assert "✗ fit-001" in lines[4]
    assert "━✗" in lines[4]
    assert lines[4].endswith("2.0 s, Failed")


def test_a_run_without_tasks_and_a_run_that_did_not_begin_are_drawn() -> None:
    whole = flow_run("SCHEDULED", end=None)
    chart = timeline_chart(Timeline([TimelineRow(whole.id, "x", whole, 0, [])], after(1)))
    assert "No tasks" in chart.notes[0]
    assert "<svg" in html(chart)


@pytest.mark.parametrize("ui_url", ["javascript:alert(1)//", "data:text/html,", 'http:"onclick="'])
def test_a_row_links_to_web_pages_only(ui_url: str) -> None:
    source = html(timeline_chart(dataclasses.replace(timeline_of(2), ui_url=ui_url)))
    assert "<a" not in source
    assert html(timeline_chart(timeline_of(2))).count('<a href="http://127.0.0.1:4200/runs/') == 3


def test_a_list_of_runs_has_a_bar_for_each_duration() -> None:
    runs = [flow_run(end=10), flow_run(end=5), flow_run("RUNNING", end=None)]
    table = model_table(ModelList(runs), after(20))
    assert isinstance(table, Table)
    column = list(table.columns).index("duration")
    cells = [row[column] for row in table.rows]
    assert [getattr(cell, "share", None) for cell in cells] == [1.0, 0.5, 0.0]
    assert [str(cell) for cell in cells] == ["━━━━━━━━ 10 s", "━━━━ 5.0 s", "20 s"]
    assert html(table).count("<svg") == 3
    assert "<svg" not in html(model_table(ModelList(runs[1:]), after(20)))


# A real server.


def test_a_real_run_with_retries_and_a_subflow(client: Any) -> None:
    run = client.run_deployment("nested/here")
    assert run.state_name == "Completed"
    timeline = client.read_timeline(run)
    names = [(row.depth, row.name.rpartition("-")[0] or row.name) for row in timeline.rows]
    inner = timeline.rows[2]
    assert [names[0][0], names[1], inner.depth, *names[3:]] == [
        *(0, (1, "wobbles"), 1),
        *((2, "step"), (2, "step"), (1, "step")),
    ]
    assert inner.is_flow
    assert inner.run.parent_task_run_id is not None
    for row in timeline.rows:
        assert all(span.start <= span.end for span in row.spans)
        assert timeline.start <= row.spans[0].start
        assert row.spans[-1].end <= timeline.end
    assert not timeline.is_cut
    assert client.read_timeline(str(run.id), max_runs=2).is_cut
    with pytest.raises(ValueError, match="max_runs should be 1 or more"):
        client.read_timeline(run, max_runs=0)


def test_each_try_is_a_span(client: Any) -> None:
    runs = client.read_flow_runs(flow_name="nested", state="COMPLETED")
    retried = [
        row
        for run in runs
        for row in client.read_timeline(run).rows
        if row.name.startswith("wobbles") and row.tries > 1
    ]
    assert retried, "the first run of the flow retries its task"
    doings = [span.doing.value for span in retried[0].spans]
    assert [doing for doing in doings if doing != "waited"] == ["failed", "failed", "ran"]
