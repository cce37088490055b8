"""Logs of runs, on both clients and both servers."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from orchnb import PrefectHTTPStatusError, ReferenceNotFound
from orchnb.api.models import Log, ModelList
from tests.api import both

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left

START = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)


def _line(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "name": "lab",
        "level": 20,
        "message": f"line {number}",
        "timestamp": START + timedelta(seconds=number),
        **fields,
    }


def test_lines_are_read_back_oldest_first(client: Any) -> None:
    run = uuid.uuid4()
    assert client.create_logs([_line(n, flow_run_id=run) for n in (2, 0, 1)]) is None
    logs = client.read_logs(flow_run_id=run)
    assert isinstance(logs, ModelList)
    assert logs.model is Log
    assert [log.message for log in logs] == ["line 0", "line 1", "line 2"]
    assert (logs[0].name, logs[0].level, logs[0].flow_run_id) == ("lab", 20, run)
    assert logs[0].timestamp == START


def test_logs_are_filtered_sorted_and_paged(client: Any) -> None:
    run, task = uuid.uuid4(), uuid.uuid4()
    client.create_logs(
        [
            _line(0, flow_run_id=run),
            _line(1, flow_run_id=run, level=40),
            _line(2, flow_run_id=run, task_run_id=task),
        ]
    )

    def read(*args: Any, **arguments: Any) -> list[str]:
        return [log.message[-1] for log in client.read_logs(*args, **arguments)]

    assert read(flow_run_id=str(run), limit=1, offset=1, sort="TIMESTAMP_DESC") == ["1"]
    assert read(task_run_id=task) == ["2"]
    assert read(flow_run_id=run, task_run_id=task) == ["2"]
    assert read({"flow_run_id": {"any_": [run]}, "level": {"ge_": 30}}, 10, 0) == ["1"]


def test_prefects_own_objects_will_do(client: Any) -> None:
    from prefect.client.schemas.actions import LogCreate
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
    from prefect.client.schemas.sorting import LogSort

    run = uuid.uuid4()
    line = LogCreate(name="lab", level=20, message="hi", timestamp=START, flow_run_id=run)
    client.create_logs([line])
    found = client.read_logs(
        LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run])), sort=LogSort.TIMESTAMP_DESC
    )
    assert [log.message for log in found] == ["hi"]
    client.create_logs(found)  # and so will lines that were read
    assert [log.message for log in client.read_logs(flow_run_id=run)] == ["hi", "hi"]


def test_what_is_wrong_is_told_before_anything_is_sent(client: Any) -> None:
    with pytest.raises(TypeError, match="logs should be a list of lines"):
        client.create_logs(_line(0))
    with pytest.raises(TypeError, match="Missing level and timestamp"):
        client.create_logs([{"name": "lab", "message": "hi"}])
    with pytest.raises(ValueError, match="a run or a log_filter, not both"):
        client.read_logs({"level": {"ge_": 30}}, flow_run_id=uuid.uuid4())


def test_what_the_server_refuses_is_told(client: Any) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="422"):
        client.read_logs({"flow_run_id": {"any_": ["nope"]}})
    with pytest.raises(ReferenceNotFound, match="no flow run with the name or id 'nope'"):
        client.read_logs(flow_run_id="nope")
    with pytest.raises(ValueError, match="task_run_id should be an id"):
        client.read_logs(task_run_id="nope")
