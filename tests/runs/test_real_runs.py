"""Start runs of real deployments, wait for them, follow them, retry them; on both clients."""

from __future__ import annotations

import logging
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchnb import (
    FlowRunsFailed,
    FlowRunsNotChanged,
    FlowRunWaitTimeout,
    InvalidParameters,
    ObjectNotFound,
    PrefectClient,
    SyncPrefectClient,
)
from orchnb.api.models import FlowRun
from tests.api.fakes import Scripted


def test_a_run_is_started_and_waited_for(client: Any) -> None:
    run = client.run_deployment("train/here", parameters={"x": 2}, tags=["trial"])
    assert run.state_name == "Completed"
    assert run.parameters["x"] == 2
    assert "trial" in run.tags
    assert client.wait_for_flow_run(run).id == run.id
    assert client.wait_for_flow_run(str(run.id), timeout=0).id == run.id


def test_a_run_that_fails_is_returned(client: Any) -> None:
    run = client.run_deployment("train/here", parameters={"x": 3, "fail": True})
    assert run.state_name == "Failed"
    assert "loss is nan at lr=3" in run.state.message


def test_without_a_wait_the_run_is_returned_at_once(client: Any) -> None:
    run = client.run_deployment("train/here", timeout=0)
    assert run.state_name == "Scheduled"
    assert client.wait_for_flow_run(run.id).state_name == "Completed"


def test_one_key_makes_one_run(client: Any) -> None:
    key = str(uuid.uuid4())
    first = client.run_deployment("train/here", idempotency_key=key)
    assert client.run_deployment("train/here", idempotency_key=key).id == first.id


def test_a_timeout_is_an_error_with_the_run_which_goes_on(client: Any) -> None:
    run = client.run_deployment("train/here", parameters={"seconds": 2}, timeout=0)
    with pytest.raises(FlowRunWaitTimeout, match=r"has not ended after 0\.5 s") as caught:
        client.wait_for_flow_run(run, timeout=0.5)
    assert isinstance(caught.value, TimeoutError)
    assert [each.id for each in caught.value.runs] == [run.id]
    assert client.wait_for_flow_run(run).state_name == "Completed"
    # As with Prefect's function, a run that is started and not awaited to its end is no error.
    left = client.run_deployment("train/here", parameters={"seconds": 2}, timeout=0.2)
    assert left.state_name in {"Scheduled", "Pending", "Running"}


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda client: client.run_deployment("train/nowhere"), ObjectNotFound),
        (
            lambda client: client.run_deployment("train/here", parameters={"y": 1}),
            InvalidParameters,
        ),
        (lambda client: client.run_deployment("train/here", timeout=-1), ValueError),
        (lambda client: client.run_deployment("train/here", poll_interval=0), ValueError),
        (lambda client: client.wait_for_flow_run(uuid.uuid4()), ObjectNotFound),
        (lambda client: client.wait_for_flow_run("not an id"), ValueError),
        (lambda client: client.map_deployment("train/here", {"x": 1}), TypeError),
        (lambda client: client.map_deployment("train/here", [1]), TypeError),
        (lambda client: client.map_deployment("train/here", [{}], max_running=0), ValueError),
        (lambda client: list(client.follow_logs(uuid.uuid4(), level="loud")), ValueError),
    ],
)
def test_what_cannot_be_done_is_an_error(site: tuple[str, Path], call: Any, error: type) -> None:
    with SyncPrefectClient(site[0]) as client:
        before = client.count_flow_runs()
        with pytest.raises(error):
            call(client)
        assert client.count_flow_runs() == before, "nothing was started"


def test_states_are_logged_if_asked_for(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "orchnb.runs")
    run = client.run_deployment("train/here", timeout=0)
    client.wait_for_flow_run(run, log_states=True)
    states = [record.getMessage() for record in caplog.records]
    assert states[-1] == f"Flow run {run.name!r}: Completed"


def test_a_sweep_makes_one_run_for_each_item(client: Any) -> None:
    name = str(uuid.uuid4())
    items = [{"x": number, "steps": 1, "fail": number % 3 == 0} for number in range(7)]
    runs = client.map_deployment("train/here", iter(items), max_running=3, sweep=name)
    assert [run.parameters["x"] for run in runs] == list(range(7))
    assert Counter(run.state_name for run in runs) == {"Completed": 4, "Failed": 3}
    frame = runs.to_pandas()
    assert list(frame.columns[:3]) == ["x", "steps", "fail"]
    assert list(frame["x"]) == list(range(7))
    # Again, as when the cell is run again: the same runs, and none is added.
    count = client.count_flow_runs()
    again = client.map_deployment("train/here", items, max_running=3, sweep=name)
    assert [run.id for run in again] == [run.id for run in runs]
    assert client.count_flow_runs() == count
    with pytest.raises(FlowRunsFailed, match="3 of 7 flow runs did not complete") as caught:
        client.map_deployment("train/here", items, sweep=name, raise_on_failure=True)
    assert [run.parameters["x"] for run in caught.value.failed] == [0, 3, 6]


def test_no_run_of_a_sweep_is_made_if_an_item_is_wrong(client: Any) -> None:
    count = client.count_flow_runs()
    with pytest.raises(InvalidParameters, match=r"Item 1 .*\.y is not a parameter"):
        client.map_deployment("train/here", [{"x": 1}, {"y": 2}])
    assert client.count_flow_runs() == count
    assert client.map_deployment("train/here", []) == []


def test_a_sweep_that_is_not_done_in_time_says_what_is_left(client: Any) -> None:
    items = [{"seconds": 1, "x": number} for number in range(4)]
    name = str(uuid.uuid4())
    with pytest.raises(FlowRunWaitTimeout, match=r"; 3 more were not created"):
        client.map_deployment("train/here", items, max_running=1, sweep=name, timeout=0.5)
    runs = client.map_deployment("train/here", items, max_running=4, sweep=name)
    assert [run.state_name for run in runs] == ["Completed"] * 4


def test_a_failed_run_is_retried_under_its_id(client: Any) -> None:
    run = client.run_deployment("train/here", parameters={"fail": True})
    assert client.retry_flow_run(run).status == "ACCEPT"
    again = client.wait_for_flow_run(run)
    assert again.state_name == "Failed"
    assert again.run_count == run.run_count + 1
    pending = client.run_deployment("train/here", scheduled_time="in 1h", timeout=0)
    with pytest.raises(ValueError, match="has not ended"):
        client.retry_flow_run(pending)


def test_failed_runs_are_retried_together(client: Any) -> None:
    items = [{"fail": True, "steps": 0, "x": number} for number in range(3)]
    runs = client.map_deployment("train/here", items, sweep=str(uuid.uuid4()))
    results = client.retry_flow_runs(runs)
    assert [each.flow_run_id for each in results] == [run.id for run in runs]
    assert {each.status for each in results} == {"ACCEPT"}
    again = client.wait_for_flow_runs(runs)
    assert [run.run_count for run in again] == [run.run_count + 1 for run in runs]


def test_what_cannot_be_retried_is_told_and_the_others_are(client: Any) -> None:
    fails = client.run_deployment("train/here", parameters={"fail": True, "steps": 0})
    other = client.create_flow_run("train", name=f"name-{uuid.uuid4()}", state="FAILED")
    waits = client.run_deployment("train/here", scheduled_time="in 1h", timeout=0)
    nobody = uuid.uuid4()
    with pytest.raises(FlowRunsNotChanged, match="3 of 4 flow runs were not retried") as caught:
        client.retry_flow_runs([other.name, fails, nobody, waits])
    assert [each.flow_run_id for each in caught.value.results] == [fails.id]
    reasons = caught.value.failed
    assert [*reasons] == [other.id, nobody, waits.id]
    assert "has no deployment" in reasons[other.id]
    assert "There is no flow run" in reasons[nobody]
    assert "has not ended" in reasons[waits.id]
    assert client.wait_for_flow_run(fails).run_count == fails.run_count + 1
    results = client.cancel_flow_runs([waits, other])
    assert [each.state.type for each in results] == ["CANCELLED", "FAILED"]
    with pytest.raises(FlowRunsNotChanged, match="1 of 2 flow runs were not cancelled"):
        client.cancel_flow_runs([nobody, waits])
    assert client.cancel_flow_runs([]) == client.retry_flow_runs([]) == []


def test_a_server_that_fails_ends_a_change_of_many_runs() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        if len(asked) == 2:
            return httpx.Response(500, json={"detail": "broken"})
        return httpx.Response(200, json={"status": "ACCEPT"})

    options = {"transport": Scripted(answer), "enable_csrf_support": False}
    ids = [uuid.UUID(int=number) for number in range(1, 6)]
    with (
        SyncPrefectClient("http://orch.invalid/api", httpx_settings=options) as client,
        pytest.raises(FlowRunsNotChanged, match="3 were not tried after that") as caught,
    ):
        client.cancel_flow_runs(ids)
    assert [each.flow_run_id for each in caught.value.results] == ids[:1]
    assert [*caught.value.failed] == ids[1:2]
    assert [*caught.value.left] == ids[2:]
    assert len(asked) == 2


@pytest.mark.anyio
async def test_changes_and_log_lines_are_followed_to_the_end(site: tuple[str, Path]) -> None:
    async with PrefectClient(site[0]) as client:
        run = await client.run_deployment(
            "train/here", parameters={"steps": 3, "seconds": 1}, timeout=0
        )
        changes = [change async for change in client.follow_flow_runs([run])]
        assert changes[0].previous is None
        assert changes[-1].run.state_name == "Completed"
        assert all(isinstance(change.run, FlowRun) for change in changes)
        lines = [line async for line in client.follow_logs(run)]
    messages = [line.message for line in lines]
    assert [text for text in messages if text.startswith("step")] == ["step 0", "step 1", "step 2"]
    assert messages.count("done") == 1
    assert len({line.id for line in lines}) == len(lines)


def test_log_lines_arrive_while_the_run_goes_on(site: tuple[str, Path]) -> None:
    with SyncPrefectClient(site[0]) as client:
        run = client.run_deployment("train/here", parameters={"seconds": 4}, timeout=0)
        lines = client.follow_logs(run, level="info")
        first = next(line for line in lines if line.message.startswith("training"))
        assert first.level == logging.INFO
        assert client.read_flow_run(run.id).state_name == "Running"
        assert [line.message for line in lines if line.message == "done"] == ["done"]
        failed = client.run_deployment("train/here", parameters={"fail": True})
        levels = {line.level for line in client.follow_logs(failed, level="warning")}
        assert levels == {logging.WARNING, logging.ERROR}
