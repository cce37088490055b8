"""Why a run failed: tracebacks in logs, the failing task, and the card, also of a real run."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from orchnb.api.models import FlowRun, Log, TaskRun
from orchnb.notebook.views.failed_runs import failed_run_card
from orchnb.notebook.views.model import TableCell, html, text
from orchnb.runs.failures import FailedRun, failing_task
from orchnb.runs.tracebacks_in_logs import traceback_in
from tests.api.both import eventually

OWN = '  File "/home/ann/train.py", line 31, in train\n    return fit(model)\n           ^^^^^^^^^^'
ENGINE = (
    '  File "/venv/lib/python3.12/site-packages/prefect/engine.py", line 810, in run\n    yield'
)
START = "Traceback (most recent call last):"


def message(*frames: str, error: str = "ValueError: no", before: str = "It broke:") -> str:
    return "\n".join([before, START, *frames, error])


@pytest.mark.parametrize(
    ("path", "is_own"),
    [
        ("/home/ann/train.py", True),
        ("train.py", True),
        ("C:\\Users\\ann\\train.py", True),
        ("/tmp/ipykernel_7/123.py", True),
        ("<stdin>", True),
        ("/home/ann/lib/mine.py", True),
        ("/venv/lib/python3.12/site-packages/prefect/engine.py", False),
        ("/usr/lib/python3/dist-packages/yaml.py", False),
        ("/usr/lib/python3.12/json/__init__.py", False),
        ("/home/ann/.local/share/uv/python/cpython-3.13/lib/python3.13t/asyncio/runners.py", False),
        ("C:\\Python312\\Lib\\json\\decoder.py", False),
        ("C:\\venv\\Lib\\site-packages\\torch\\nn.py", False),
        ("<frozen importlib._bootstrap>", False),
    ],
)
def test_a_frame_is_told_by_its_path(path: str, is_own: bool) -> None:
    found = traceback_in(message(f'  File "{path}", line 3, in f\n    g()'))
    assert found is not None
    assert [frame.is_own for frame in found.frames] == [is_own]
    assert (found.frames[0].path, found.frames[0].line, found.frames[0].function) == (path, 3, "f")


def test_the_own_frames_come_with_their_source_and_the_error() -> None:
    found = traceback_in(message(ENGINE, OWN, ENGINE, error="ValueError: no\nmore of it"))
    assert found is not None
    assert found.excerpt() == f"{OWN}\nValueError: no\nmore of it"
    assert found.before == "It broke:"
    assert (len(found.frames), found.error) == (3, "ValueError: no\nmore of it")


def test_without_own_frames_the_innermost_is_shown() -> None:
    other = ENGINE.replace("810", "9")
    found = traceback_in(message(ENGINE, other))
    assert found is not None
    assert found.excerpt() == f"{other}\nValueError: no"


def test_of_several_tracebacks_the_last_one_is_the_error_that_was_raised() -> None:
    cause = message(ENGINE, error="KeyError: 'x'")
    words = "The above exception was the direct cause of the following exception:"
    found = traceback_in(f"{cause}\n\n{words}\n\n{START}\n{OWN}\nValueError: no")
    assert found is not None
    assert found.error == "ValueError: no"
    assert "KeyError" in found.text


@pytest.mark.parametrize(
    "odd",
    [
        "no traceback",
        "",
        START,
        f"{START}\nValueError",
        f"{START}\n\n\n",
        f"{START}\n{OWN}",
        f'{START}\n  File "x", line {"9" * 400}, in f\nE',
        f"{START}\n{OWN}\n  [Previous line repeated 992 more times]\nRecursionError",
        START * 1000,
        START + '\n  File "x", line 1' * 20_000,
    ],
    ids=range(10),
)
def test_any_text_is_read(odd: str) -> None:
    found = traceback_in(odd)
    assert (found is None) == (START not in odd)
    if found is not None:
        found.excerpt()


def a_task(message: str, name: str = "fit-0") -> TaskRun:
    state = {"type": "FAILED", "name": "Failed", "message": message}
    fields = {"id": uuid.uuid4(), "task_key": name, "dynamic_key": "0", "name": name}
    return TaskRun.model_validate({**fields, "state": state, "state_type": "FAILED"})


def a_run(message: str | None, **more: Any) -> FlowRun:
    state = {"type": "FAILED", "name": "Failed", "message": message}
    fields = {"id": uuid.uuid4(), "flow_id": uuid.uuid4(), "name": "brave-otter", **more}
    return FlowRun.model_validate({**fields, "state": state, "state_type": "FAILED"})


FLOW, TASK = "Flow run encountered an exception: ", "Task run encountered an exception "


@pytest.mark.parametrize(
    ("run", "tasks", "index"),
    [
        (f"{FLOW}ValueError: no", [f"{TASK}KeyError: 1", f"{TASK}ValueError: no"], 1),
        (f"{FLOW}ValueError: no", [f"{TASK}KeyError: 1"], None),
        (f"{FLOW}ValueError: no", [], None),
        ("2/3 states failed.", [f"{TASK}KeyError: 1", f"{TASK}ValueError: no"], 0),
        (None, [f"{TASK}KeyError: 1"], 0),
        (None, [], None),
        ("Flow run process exited with non-zero status code 1.", [f"{TASK}KeyError: 1"], None),
    ],
)
def test_the_failing_task_is_the_one_whose_error_is_the_runs(
    run: str | None, tasks: list[str], index: int | None
) -> None:
    given = [a_task(each) for each in tasks]
    assert failing_task(a_run(run), given) is (None if index is None else given[index])


def test_the_card_says_why_where_and_what_to_do() -> None:
    now = datetime(2026, 11, 28, 19, tzinfo=timezone.utc)
    task = a_task(f"{TASK}ValueError: no")
    said = message(ENGINE, OWN, ENGINE)
    lines = [
        Log(name="prefect.flow_runs", level=level, message=words, timestamp=now)
        for level, words in ((20, "fine so far"), (40, said))
    ]
    run = a_run(f"{FLOW}ValueError: no", deployment_id=uuid.uuid4(), start_time=now)
    failed = FailedRun(run, task, traceback_in(said), lines, "train", "http://x")
    card = failed_run_card(failed, now + timedelta(minutes=1))
    assert (card.title, card.tone) == ("Flow run brave-otter of train: Failed", "error")
    rows = dict(card.rows)
    assert rows["Why"] == "ValueError: no"
    assert rows["In task"] == TableCell("fit-0", link=f"http://x/runs/task-run/{task.id}")
    assert card.excerpt == f"{OWN}\nValueError: no"
    shown = text(card)
    assert shown.index("Why") < shown.index("train.py") < shown.index("fine so far")
    assert f'client.retry_flow_run("{str(run.id)[:8]}")' in shown
    assert "engine.py" not in shown
    assert "engine.py" in html(card)
    assert html(card).count("train.py") == 2, "in sight, and in the whole traceback"


def test_a_run_without_a_deployment_cannot_be_retried_and_is_told_so() -> None:
    card = failed_run_card(FailedRun(a_run(None), None, None, []))
    assert "It has no deployment" in text(card)
    assert card.excerpt == ""


def test_a_real_failure_is_explained(client: Any) -> None:
    run = client.run_deployment("train/here", parameters={"x": 4, "fail": True})
    # Processes send their lines in batches, the last ones after the run's end.
    failed = eventually(
        lambda: client.read_failed_run(run),
        lambda found: "Finished in state" in found.log_lines[-1].message and found.traceback,
    )
    assert failed.flow_name == "train"
    assert failed.reason == "ValueError: loss is nan at lr=4.0"
    assert failed.failing_task.name.startswith("breaks-")
    assert [frame.function for frame in failed.traceback.own] == ["breaks"]
    assert failed.traceback.own[0].path.endswith("executor.py")
    assert len(failed.traceback.frames) > 1
    assert any("about to fail" in line.message for line in failed.log_lines)
    assert repr(failed).endswith("(Failed): ValueError: loss is nan at lr=4.0>")


def test_a_run_that_has_not_failed_has_no_reason(client: Any) -> None:
    run = client.run_deployment("train/here")
    with pytest.raises(ValueError, match=r"\(Completed\) has not failed"):
        client.read_failed_run(run)
