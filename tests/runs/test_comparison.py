"""Two runs are compared: what differs comes in the order of kinds, the largest of each first."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from orchnb import ReferenceNotFound
from orchnb.api.models import FlowRun, TaskRun
from orchnb.notebook.views.comparison import run_comparison_card
from orchnb.notebook.views.model import html, text
from orchnb.runs.comparison import RunComparison, compared

NOW = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)


FAILED = {
    "state_type": "FAILED",
    "state_name": "Failed",
    "state": {"type": "FAILED", "message": "nan"},
}


def run(**fields: Any) -> FlowRun:
    return FlowRun.model_validate(
        {
            "id": uuid.uuid4(),
            "flow_id": uuid.UUID(int=1),
            "name": "run",
            "state_type": "COMPLETED",
            "state_name": "Completed",
            "total_run_time": 10,
            **fields,
        }
    )


def task(key: str, seconds: float, state: str = "COMPLETED") -> TaskRun:
    return TaskRun.model_validate(
        {
            "id": uuid.uuid4(),
            "task_key": key,
            "dynamic_key": "0",
            "name": key,
            "state_type": state,
            "total_run_time": seconds,
            "start_time": NOW,
        }
    )


@pytest.mark.parametrize(
    ("first", "second", "differing"),
    [
        ({}, {}, []),
        ({"parameters": {"lr": 1}}, {"parameters": {"lr": 2}}, [("parameter", "lr", 1, 2)]),
        (
            {"parameters": {"a": 100, "b": 1, "c": "x"}},
            {"parameters": {"a": 101, "b": 9, "c": "y"}},
            [("parameter", "c", "x", "y"), ("parameter", "b", 1, 9), ("parameter", "a", 100, 101)],
        ),
        (
            {"parameters": {"model": {"depth": 1, "width": 2}}},
            {"parameters": {"model": {"depth": 3, "width": 2}}},
            [("parameter", "model.depth", 1, 3)],
        ),
        ({"parameters": {"a": 0}}, {"parameters": {}}, [("parameter", "a", 0, "not given")]),
        ({"parameters": {"a": 0}}, {"parameters": {"a": 0.0}}, []),
        ({"flow_version": "1"}, {"flow_version": "2"}, [("version", "flow version", "1", "2")]),
        ({"tags": ["b", "a"]}, {"tags": ["a", "b"]}, []),
        ({"tags": ["a"]}, {"tags": []}, [("setting", "tags", ["a"], [])]),
        (
            {
                "state_type": "FAILED",
                "state_name": "Failed",
                "state": {"type": "FAILED", "message": "nan"},
            },
            {},
            [("outcome", "state", "Failed", "Completed"), ("outcome", "reason", "nan", None)],
        ),
        (
            {"job_variables": {"env": {"A": "1"}}},
            {"job_variables": {"env": {"A": "2"}}},
            [("setting", "job variables.env.A", "1", "2")],
        ),
    ],
)
def test_what_differs(first: Any, second: Any, differing: Any) -> None:
    differences, _ = compared(run(**first), run(**second), [], [])
    assert [(d.kind, d.name, d.first, d.second) for d in differences] == differing


def test_tasks_are_compared_by_their_time_the_largest_difference_first() -> None:
    first = [task("load-0a1b2c3d", 1), task("fit", 5), task("fit", 5), task("same", 2)]
    second = [task("load-99999999", 3), task("fit", 90), task("same", 2), task("new", 1, "FAILED")]
    differences, same = compared(run(), run(total_run_time=96), first, second)
    assert [(d.name, d.seconds) for d in differences] == [
        ("run time", 86),
        ("new", None),
        ("fit", 80),
        ("load", 2),
        ("new: failed", None),
        ("fit: number of runs", None),
    ]
    assert "same" in same
    card = run_comparison_card(RunComparison(run(name="old"), run(name="new"), differences, same))
    shown = text(card)
    assert "old and new: 6 differences" in shown
    assert "+1 min 20 s (9.0 times as long)" in shown
    assert "The same: state" in shown
    assert "9.0 times as long" in html(card)
    nothing = run_comparison_card(RunComparison(run(), run(), [], []))
    assert "no differences" in text(nothing)


def test_real_runs_are_compared(client: Any) -> None:
    one = client.run_deployment("train/here", parameters={"x": 1, "steps": 1})
    other = client.run_deployment("train/here", parameters={"x": 2, "steps": 3, "fail": True})
    found = client.compare_flow_runs(one, other.name)
    assert [found.first.id, found.second.id] == [one.id, other.id]
    assert found.differences[0].name == "state"
    assert {each.name for each in found.of("parameter")} == {"x", "steps", "fail"}
    tasks = {each.name: (each.first, each.second) for each in found.of("task")}
    assert tasks["step: number of runs"] == (1, 3)
    assert tasks["breaks"][0] is None
    assert isinstance(tasks["breaks"][1], timedelta)
    assert "flow" in found.same
    assert client.compare_flow_runs(one, other, max_tasks=1).is_cut
    with pytest.raises(ReferenceNotFound):
        client.compare_flow_runs(one, "no such run")
