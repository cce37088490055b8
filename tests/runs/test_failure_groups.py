"""Failed runs are grouped by cause, whatever numbers, ids and paths are in their messages."""

from __future__ import annotations

import itertools
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from orchnb.api.models import FlowRun
from orchnb.notebook.views.failure_groups import failure_groups_view
from orchnb.notebook.views.model import Card, html, text
from orchnb.runs.failure_groups import FailureGroups, cause_of, grouped, ranges

NOW = datetime(2026, 11, 28, 12, tzinfo=timezone.utc)
_numbers = itertools.count(1)


def failed(message: str, minutes: float = 0, **fields: Any) -> FlowRun:
    number = next(_numbers)
    return FlowRun.model_validate(
        {
            "id": uuid.UUID(int=number),
            "flow_id": uuid.UUID(int=0),
            "name": f"run-{number}",
            "state_type": "FAILED",
            "state_name": "Failed",
            "state": {"type": "FAILED", "name": "Failed", "message": message},
            "end_time": NOW - timedelta(minutes=minutes),
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("Flow run encountered an exception: ValueError: loss is nan", "ValueError: loss is nan"),
        ("loss is nan at lr=1.6e-05", "loss is nan at lr=…"),
        ("loss is nan at lr=-2", "loss is nan at lr=…"),
        ("took 1,234.5 s, at 12:30:01", "took … s, at …"),
        (f"run {uuid.UUID(int=2**127 + 12345)} is gone", "run … is gone"),
        ("at 0x7f3a2b91 and deadbeefdeadbeef", "at … and …"),
        ("No such file: '/data/7/x.csv'", "No such file: '…'"),
        (r"No such file: 'C:\data\x.csv'", "No such file: '…'"),
        ('cannot read "s3://bucket/a b"', 'cannot read "…"'),
        ("KeyError: 'customer'", "KeyError: 'customer'"),
        ("utf8 is not int64, HTTP2", "utf8 is not int64, HTTP2"),
        ("task step-17 failed", "task step-… failed"),
        ("first line 1\nsecond line", "first line …"),
        ("", "Failed, without a message"),
        ("it's 5 o'clock", "it's … o'clock"),
    ],
)
def test_a_cause_is_a_message_without_what_varies(message: str, cause: str) -> None:
    assert cause_of(failed(message)) == cause


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ([{"lr": 1.6}, {"lr": 1.9}, {"lr": 1.7}], ["lr 1.6 to 1.9"]),
        ([{"lr": 1, "day": "mon"}, {"lr": 1, "day": "tue"}], ["day mon, tue"]),
        ([{"a": n, "b": 1} for n in "vwxyz"], ["a v, w, x, …"]),
        ([{"lr": 1, "deep": True}], ["lr 1", "deep True"]),
        ([{"lr": 1}, {"lr": "auto"}, {}], ["lr 1, auto"]),
        ([{"x": [1]}, {"x": {"y": 2}}], ["x [1], {'y': 2}"]),
        ([{"flag": True}, {"flag": False}], ["flag True, False"]),
        ([{}, {}], []),
        ([{"x": float("nan")}, {"x": 1}], None),
    ],
)
def test_parameters_are_ranges(parameters: list[dict[str, Any]], words: list[str] | None) -> None:
    found = [str(each) for each in ranges([failed("x", parameters=each) for each in parameters])]
    assert words is None or found == words


def test_runs_of_a_cause_are_a_group_and_the_largest_comes_first() -> None:
    other = uuid.UUID(int=99)
    runs = [
        failed("KeyError: 'x'", 1),
        failed("loss is nan at lr=1.6", 5, parameters={"lr": 1.6}, deployment_id=other),
        failed("loss is nan at lr=1.9", 2, parameters={"lr": 1.9}, flow_id=other),
        failed("KeyError: 'y'", 0),
    ]
    names = {uuid.UUID(int=0): "train", other: "tune"}
    groups = grouped(runs, names)
    assert [str(group) for group in groups] == [
        "loss is nan at lr=…: 2 runs of train, tune, lr 1.6 to 1.9",
        "KeyError: 'y': 1 run of train",
        "KeyError: 'x': 1 run of train",
    ]
    assert [run.name for run in groups[0].runs] == [runs[2].name, runs[1].name]
    assert groups[0].retriable == [runs[1]]
    assert groups[0].last == NOW - timedelta(minutes=2)


def test_the_view_says_how_many_and_what_to_do() -> None:
    runs = [failed(f"loss is nan at lr={n}", parameters={"lr": n}) for n in range(4)]
    found = FailureGroups(grouped(runs, {uuid.UUID(int=0): "train"}), NOW - timedelta(hours=1))
    view = failure_groups_view(found, NOW)
    assert isinstance(view, Card)
    shown = text(view)
    assert shown.startswith("✗ 4 failed runs since 2026-11-28")
    assert "loss is nan at lr=…  train  lr 0 to 3" in shown
    assert "retry_flow_runs" not in shown, "they have no deployment"
    assert "read_failed_run" in html(view)
    nothing = failure_groups_view(FailureGroups([], NOW), NOW)
    assert "No flow run has failed since" in text(nothing)


def test_failed_runs_are_read_and_retried(client: Any) -> None:
    began = datetime.now(timezone.utc)
    tag = str(uuid.uuid4())
    items = [{"x": 100 + number, "fail": True, "steps": 0} for number in range(3)]
    runs = client.map_deployment("train/here", items, sweep=tag)
    client.create_flow_run("other", state={"type": "CRASHED", "message": "killed by signal 9"})
    found = client.read_failures(began, "train")
    (group,) = found
    assert "ValueError: loss is nan at lr=…" in group.cause
    assert {run.id for run in group.runs} == {run.id for run in runs}
    assert group.flows == ["train"]
    assert [str(each) for each in group.parameters] == ["x 100 to 102"]
    assert [each.status for each in client.retry_flow_runs(group.retriable)] == ["ACCEPT"] * 3
    client.wait_for_flow_runs(runs)
    assert "killed by signal …" in [each.cause for each in client.read_failures("1h")]
    cut = client.read_failures("1h", max_runs=1)
    assert cut.is_cut
    assert len(cut.runs) == 1
    assert len(client.read_failures("1h", "no such flow")) == 0
    with pytest.raises(ValueError, match="max_runs"):
        client.read_failures("1h", max_runs=0)
