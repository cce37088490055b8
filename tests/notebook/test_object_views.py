"""Views of the API's objects: what people ask about them, in words, and nothing of Python's."""

from __future__ import annotations

import re
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from IPython.core.formatters import PlainTextFormatter

from orchnb.api import models
from orchnb.api.models import FlowRun, Log, ModelList
from orchnb.api.related import related_objects
from orchnb.notebook.extension import _as_text
from orchnb.notebook.views.kinds import LOOKS
from orchnb.notebook.views.model import Card, Table, TableCell, View, html, text
from orchnb.notebook.views.objects import model_card, model_line, model_table
from orchnb.notebook.views.run_logs import log_card
from orchnb.notebook.views.schedules import schedule_in_words
from orchnb.notebook.views.words import assignments, in_words, short_id
from tests.notebook.test_hostile_text import HARMLESS, NOUNS

NOW = datetime(2026, 11, 28, 19, 5, 2, tzinfo=timezone.utc)


def flow_run(kind: str = "COMPLETED", **changes: Any) -> FlowRun:
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "flow_id": uuid.UUID(int=1),
        "name": "brave-otter",
        "state_type": kind,
        "state": {"type": kind, "name": kind.capitalize(), "message": "why"},
        "start_time": NOW - timedelta(minutes=3),
    }
    return FlowRun.model_validate({**values, **changes})


def cell(view: View, column: str, row: int = 0) -> TableCell:
    assert isinstance(view, Table)
    found = view.rows[row][list(view.columns).index(column)]
    return found if isinstance(found, TableCell) else TableCell(found)


# States


@pytest.mark.parametrize("kind", [each.value for each in models.StateType] + ["DREAMING"])
def test_each_state_has_a_sign_an_edge_and_its_word(kind: str) -> None:
    view = model_table(ModelList([flow_run(kind)]), NOW)
    state = cell(view, "state")
    assert state.tone is not None, "all states are in line"
    assert state.words[1:] == f" {kind.capitalize()}"
    assert not state.words[0].isalnum()
    on_one_line = state.words.replace(" ", "\u00a0")
    assert f'<span class="orchnb-tone orchnb-{state.tone}">{on_one_line}</span>' in html(view)


def test_the_signs_differ_where_the_outcome_does() -> None:
    def sign(kind: str) -> str:
        return cell(model_table(ModelList([flow_run(kind)]), NOW), "state").words[0]

    signs = [
        sign(kind) for kind in ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "PAUSED")
    ]
    assert len(set(signs)) == len(signs)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("Flow run encountered an exception: ValueError: loss is nan", "ValueError: loss is nan"),
        ("Task run encountered an exception ValueError: no", "ValueError: no"),
        (
            "Flow run process exited with non-zero status code 1.",
            "Flow run process exited with non-ze…",
        ),
        ("", ""),
    ],
)
def test_a_state_has_its_reason(message: str, reason: str) -> None:
    run = flow_run("FAILED", state={"type": "FAILED", "name": "Failed", "message": message})
    state = cell(model_table(ModelList([run]), NOW), "state")
    assert state.why.startswith(reason.removesuffix("…"))
    assert ("✗ Failed: " + reason if reason else "✗ Failed").removesuffix("…") in str(state)


def test_a_reason_that_says_nothing_is_left_out() -> None:
    assert cell(model_table(ModelList([flow_run("COMPLETED")]), NOW), "state").why == ""


# Flow runs


def test_flow_runs_have_what_people_look_for() -> None:
    flow_id = uuid.uuid4()
    related_objects.flow_names.set(flow_id, "train")
    run = flow_run(flow_id=flow_id, parameters={"lr": 0.1}, tags=["nightly"], total_run_time=83)
    view = model_table(ModelList([run], ui_url="http://x"), NOW)
    assert isinstance(view, Table)
    assert view.columns == [
        *("name", "flow", "state", "start", "duration", "parameters", "tags", "id")
    ]
    assert [str(each) for each in view.rows[0]] == [
        "brave-otter",
        "train",
        "✓ Completed",
        f"Nov {(NOW - timedelta(minutes=3)).astimezone():%d %H:%M:%S}",
        "1 min 23 s",
        "lr=0.1",
        "nightly",
        str(run.id)[:8],
    ]
    card = model_card(run, NOW)
    assert isinstance(card, Card)
    assert ("Flow", "train") in card.rows
    assert (card.title, card.tone) == ("Flow run brave-otter", "good")


def test_the_id_is_short_and_last_and_whole_on_hover_and_by_attribute() -> None:
    run = flow_run()
    view = model_table(ModelList([run]), NOW)
    assert isinstance(view, Table)
    assert view.columns[-1] == "id"
    assert f'<code title="{run.id}" data-id="{run.id}">{str(run.id)[:8]}</code>' in html(view)


def test_a_run_that_waits_has_when_it_is_due_and_one_that_runs_how_long_so_far() -> None:
    waits = flow_run("SCHEDULED", start_time=None, expected_start_time=NOW + timedelta(hours=1))
    assert cell(model_table(ModelList([waits]), NOW), "start").words.startswith("due ")
    runs = flow_run("RUNNING")
    assert cell(model_table(ModelList([runs]), NOW), "duration").words == "3 min 0 s"


def test_times_have_a_year_if_it_is_not_this_one() -> None:
    old = flow_run(start_time=NOW.replace(year=2024))
    assert cell(model_table(ModelList([old]), NOW), "start").words.startswith("2024-11-28 ")


# Words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        (True, "yes"),
        ("text", "text"),
        ({"a": [1, None, True], "b": {"c": "d"}}, 'a=[1, null, true], b={c: "d"}'),
        (["a", "b"], "a, b"),
        ([], ""),
        ([1, 2], "[1, 2]"),
        (timedelta(seconds=72), "1 min 12 s"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (models.StateType.FAILED, "FAILED"),
    ],
)
def test_values_are_in_words(value: Any, words: str) -> None:
    assert in_words(value) == words


def test_of_a_long_value_both_ends_are_shown() -> None:
    path = "s3://bucket/" + "x" * 500 + "/last.parquet"
    shown = assignments({"path": path, "n": 1}, 60, 20)
    assert shown == 'path="s3://buck….parquet", n=1'
    assert short_id(None) == ""


SCHEDULES = [
    ({"cron": "0 6 * * *", "timezone": "Europe/Vienna"}, "every day at 6:00 Europe/Vienna"),
    ({"cron": "0 6,18 * * *"}, "every day at 6:00 and 18:00 UTC"),
    ({"cron": "30 7 * * 1-5"}, "Monday to Friday at 7:30 UTC"),
    ({"cron": "0 9 * * MON,wed"}, "every Monday and Wednesday at 9:00 UTC"),
    ({"cron": "0 0 * * 7"}, "every Sunday at 0:00 UTC"),
    ({"cron": "0 0 1 * *"}, "on day 1 of every month at 0:00 UTC"),
    ({"cron": "0 0 1 1 *"}, "every January 1 at 0:00 UTC"),
    ({"cron": "*/15 * * * *"}, "every 15 minutes UTC"),
    ({"cron": "0 * * * *"}, "every hour UTC"),
    ({"cron": "5 */2 * * *"}, "every 2 hours at minute 5 UTC"),
    ({"cron": "* * * * *"}, "every minute UTC"),
    ({"cron": "@daily"}, "every day at 0:00 UTC"),
    ({"cron": "0 6 * * 1#2", "timezone": "Asia/Tokyo"}, "cron 0 6 * * 1#2 Asia/Tokyo"),
    ({"cron": "0 6 31 2-4 *"}, "cron 0 6 31 2-4 *"),
    ({"cron": "99 * * * 9"}, "cron 99 * * * 9"),
    ({"cron": ""}, "cron"),
    ({"interval": 600}, "every 10 minutes"),
    ({"interval": 86400}, "every day"),
    ({"interval": 5400}, "every 90 minutes"),
    ({"interval": 0.5}, "every 0.5 seconds"),
    ({"rrule": "FREQ=DAILY;INTERVAL=2"}, "every 2 days"),
    ({"rrule": "DTSTART:20240101T000000\nRRULE:FREQ=WEEKLY", "timezone": "UTC"}, "every week UTC"),
    ({"rrule": "FREQ=DAILY;COUNT=3"}, "rule FREQ=DAILY;COUNT=3"),
    ({"brand_new": 1}, "brand_new=1"),
]


@pytest.mark.parametrize(("fields", "words"), SCHEDULES, ids=[words for _, words in SCHEDULES])
def test_schedules_are_in_words(fields: dict[str, Any], words: str) -> None:
    schedule = models.DeploymentSchedule.model_validate({"id": uuid.uuid4(), "schedule": fields})
    assert schedule_in_words(schedule.schedule) == words


# All kinds

_PYTHON = re.compile(r"\bNone\b|\b(True|False)\b|UUID\(|datetime\.|<class|[A-Z]\w+\(\w+=|\[\]|\{\}")


@pytest.mark.parametrize("kind", NOUNS)
def test_no_view_has_a_none_or_a_repr(kind: str) -> None:
    full = NOUNS[kind](HARMLESS)
    for name, empty in (("full", full), ("empty", _emptied(full))):
        for view in (model_card(empty, NOW), model_table(ModelList([empty]), NOW)):
            assert not _PYTHON.search(text(view)), name
            assert text(view).strip()
        assert not _PYTHON.search(model_line(empty))


def _emptied(model: models.Model) -> models.Model:
    """The same without what a server may leave out."""
    fields = {
        name: getattr(model, name)
        for name, field in type(model).model_fields.items()
        if field.is_required()
    }
    return type(model).model_validate(fields)


def test_all_kinds_with_a_look_are_tested() -> None:
    tested = {type(make(HARMLESS)) for make in NOUNS.values()}
    elsewhere = {models.Flow, models.FlowRun, models.State, models.OrchestrationResult}
    assert set(LOOKS) <= tested | elsewhere


def test_what_a_newer_server_sends_in_another_form_does_not_break_a_view() -> None:
    odd = models.TaskRun.model_validate(
        {"id": uuid.uuid4(), "task_key": "x", "dynamic_key": "0", "task_inputs": 5, "name": "x"}
    )
    assert "Task run x" in text(model_card(odd, NOW))


# Within lists and dicts


def pretty(value: object) -> str:
    """As IPython shows it, with orchnb's formatters."""
    formatter = PlainTextFormatter()
    formatter.for_type_by_name("orchnb.api.models.base", "Model", _as_text("model_card"))
    formatter.for_type_by_name("orchnb.api.models.base", "ModelList", _as_text("model_table"))
    return str(formatter(value))


@pytest.mark.parametrize(
    "within",
    [
        lambda runs: [*runs],
        lambda runs: sorted(runs, key=lambda run: run.id),
        lambda runs: runs + runs[:0],
        lambda runs: {run.id: run for run in runs},
        tuple,
        lambda runs: [runs],
    ],
)
def test_a_model_within_something_else_is_one_line(within: Any) -> None:
    runs = ModelList([flow_run("FAILED") for _ in range(40)], model=FlowRun)
    lines = pretty(within(runs)).splitlines()
    # A dict that does not fit has one key per line.
    assert len(lines) <= 2 * len(runs)
    assert sum("✗ Failed: why" in line for line in lines) == 40
    assert max(map(len, lines)) < 250


def test_alone_it_is_a_card_and_a_table() -> None:
    assert pretty(flow_run()).startswith("✓ Flow run brave-otter\n")
    assert "1 flow run, as of " in pretty(ModelList([flow_run()]))


def test_a_repr_is_one_line_too_and_str_has_every_field() -> None:
    run = flow_run(parameters={"x": "y" * 5000})
    assert repr(run).startswith("FlowRun(name='brave-otter', id=UUID('")
    assert len(repr([run])) < 200
    assert "y" * 5000 in str(run)
    log = Log(name="x", level=20, message="long " * 1000, timestamp=NOW)
    assert len(repr(log)) < 250


# Logs

TRACEBACK = """Encountered exception during execution: ValueError('no')
Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/prefect/engine.py", line 1, in run
    call()
  File "/home/ann/train.py", line 31, in train
    fit()
  File "/usr/lib/python3.12/json/__init__.py", line 9, in loads
    raise
ValueError: no"""


def log(message: str, level: int = 20, milliseconds: int = 0, **more: Any) -> Log:
    at = NOW + timedelta(milliseconds=milliseconds)
    return Log(name="prefect.flow_runs", level=level, message=message, timestamp=at, **more)


def test_log_lines_have_the_time_the_level_and_whole_messages() -> None:
    long = "word " * 300
    view = log_card([log("hello", milliseconds=7), log(long, 30)])
    assert view.title == "2 log lines · 1 warning"
    shown = text(view).splitlines()
    assert re.search(r"\d\d:\d\d:02\.007  INFO     hello$", shown[1])
    assert long.strip() in shown[2]


def test_a_traceback_is_folded_to_the_own_frames_and_opens_without_scripts() -> None:
    view = log_card([log("first"), log(TRACEBACK, 40), log("last")])
    for twin in (text(view), html(view)):
        begin = twin.index("Encountered exception")
        assert begin < twin.index("train.py") < twin.index("ValueError: no")
    assert "engine.py" not in text(view)
    folded = re.search(
        r"<details><summary>Whole traceback, 9 lines</summary>(.*?)</details>", html(view), re.S
    )
    assert folded is not None
    assert "engine.py" in folded[1]
    assert "engine.py" not in html(view).replace(folded[0], "")
    assert 'tabindex="0"' in html(view), "it scrolls by keyboard"


def test_a_log_line_names_its_task_and_its_logger() -> None:
    task = uuid.uuid4()
    own = Log(name="my.module", level=20, message="x", timestamp=NOW, task_run_id=task)
    assert f"task {str(task)[:8]} my.module  x" in text(log_card([own]))
    related_objects.task_names.set(task, "fit-0")
    assert "fit-0 my.module  x" in text(log_card([own]))


def test_many_long_messages_are_shortened_and_short_ones_are_not() -> None:
    many = [log("short") for _ in range(150)] + [log("x" * 30_000 + "the end") for _ in range(50)]
    view = log_card(many)
    assert sum(entry.words == "short" for entry in view.entries) == 150
    assert all(entry.words.endswith("the end") for entry in view.entries[150:])
    assert len(html(view)) < 150_000
