"""Task runs, on both clients and both servers."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from orchnb import ObjectNotFound, PrefectHTTPStatusError
from orchnb.api.models import RunHistory, State, StateType, TaskRun
from tests.api import both

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left

NOBODY = uuid.UUID(int=7)


@pytest.fixture
def flow_run_id(client: Any, name: str) -> Any:
    """A flow run of a flow of this name, for task runs to be part of."""
    return client.create_flow_run(name, state="RUNNING").id


def test_a_task_run_has_what_it_was_created_with(client: Any, flow_run_id: Any) -> None:
    wanted = uuid.uuid4()
    expires = datetime(2031, 1, 1, tzinfo=timezone.utc)
    inputs = {"x": [{"input_type": "parameter", "name": "day"}]}
    created = client.create_task_run(
        "load",
        flow_run_id,
        "0",
        id=wanted,
        name="load-0",
        extra_tags=("b", "a"),
        state=State(type=StateType.SCHEDULED, name="Later"),
        task_inputs=inputs,
        task_version="2",
        cache_key="k",
        cache_expiration=expires,
        empirical_policy={"retries": 3},
        labels={"team": "data"},
    )
    assert isinstance(created, TaskRun)
    run = client.read_task_run(str(wanted))
    assert run.id == created.id == wanted
    assert (run.task_key, run.dynamic_key, run.flow_run_id) == ("load", "0", flow_run_id)
    assert (run.name, sorted(run.tags), run.task_version) == ("load-0", ["a", "b"], "2")
    assert (run.cache_key, run.cache_expiration) == ("k", expires)
    assert (run.state.type, run.state.name) == (StateType.SCHEDULED, "Later")
    (source,) = run.task_inputs["x"]
    assert (source.input_type, source.name) == ("parameter", "day")
    assert run.empirical_policy.retries == 3
    assert run.labels["team"] == "data"


def test_the_same_keys_make_one_run(client: Any, name: str, flow_run_id: Any) -> None:
    first = client.create_task_run(name, flow_run_id, "0")
    assert first.state_type is StateType.PENDING
    assert client.create_task_run(name, flow_run_id, "0").id == first.id
    assert client.create_task_run(name, str(flow_run_id), "1").id != first.id
    alone = client.create_task_run(name, None, "0")
    assert alone.flow_run_id is None
    assert client.create_task_run(name, None, "0").id == alone.id


def test_a_task_gives_key_tags_and_version(client: Any, flow_run_id: Any) -> None:
    task = SimpleNamespace(task_key="mine", tags={"x"}, version="7")
    run = client.create_task_run(task, flow_run_id, "0", extra_tags=["y"])
    assert (run.task_key, sorted(run.tags), run.task_version) == ("mine", ["x", "y"], "7")


def test_prefects_own_task_will_do(client: Any, flow_run_id: Any) -> None:
    from prefect import task

    @task(tags=["x"])
    def load() -> None:
        """Nothing."""

    run = client.create_task_run(load, flow_run_id, dynamic_key="0")
    assert (run.task_key, run.tags) == (load.task_key, ["x"])


@pytest.mark.parametrize("task", [3, None, "", object()], ids=lambda value: type(value).__name__)
def test_what_has_no_key_is_refused(client: Any, task: Any) -> None:
    with pytest.raises(TypeError, match="an object with a task_key"):
        client.create_task_run(task, None, "0")


def test_a_run_in_a_flow_run_that_is_not_there_is_not_said_to_exist(client: Any) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="or its flow run does not exist") as caught:
        client.create_task_run("load", NOBODY, "0")
    assert type(caught.value).__name__ == "PrefectHTTPStatusError"


def test_task_runs_are_filtered_sorted_paged_and_counted(
    client: Any, name: str, flow_run_id: Any
) -> None:
    for index, each in enumerate("cab"):
        client.create_task_run("load", flow_run_id, str(index), name=each, extra_tags=[each])
    mine = {"name": {"any_": [name]}}

    def read(**arguments: Any) -> list[str]:
        runs = client.read_task_runs(flow_filter=mine, sort="NAME_ASC", **arguments)
        assert runs.model is TaskRun
        return [run.name for run in runs]

    assert read() == ["a", "b", "c"]
    assert read(limit=1, offset=1) == ["b"]
    assert read(task_run_filter={"tags": {"all_": ["c"]}}) == ["c"]
    assert read(flow_run_filter={"id": {"any_": [str(NOBODY)]}}) == []
    assert read(deployment_filter={"name": {"any_": ["none"]}}) == []
    assert client.count_task_runs(flow_filter=mine) == 3
    assert (
        client.count_task_runs(
            flow_filter=mine,
            flow_run_filter={"id": {"any_": [str(flow_run_id)]}},
            task_run_filter={"tags": {"all_": ["c"]}},
        )
        == 1
    )


def test_a_state_is_set_and_the_states_are_read(client: Any, flow_run_id: Any) -> None:
    run = client.create_task_run("load", flow_run_id, "0")
    assert client.set_task_run_state(run.id, "running").status == "ACCEPT"
    done = client.set_task_run_state(str(run.id), State(type="COMPLETED", message="ready"))
    assert (done.status, done.state.type) == ("ACCEPT", StateType.COMPLETED)
    forced = client.set_task_run_state(run.id, StateType.PENDING, force=True)
    assert forced.status == "ACCEPT"
    assert client.read_task_run(run.id).state_type is StateType.PENDING
    states = client.read_task_run_states(run.id)
    assert states.model is State
    assert [state.type.value for state in states] == ["PENDING", "RUNNING", "COMPLETED", "PENDING"]
    assert client.read_task_run_states(NOBODY) == []


def test_a_task_run_is_renamed(client: Any, flow_run_id: Any) -> None:
    run = client.create_task_run("load", flow_run_id, "0", name="old")
    assert client.set_task_run_name(run.id, "new") is None
    assert client.read_task_run(run.id).name == "new"


def test_the_history_of_task_runs_is_read(client: Any, name: str, flow_run_id: Any) -> None:
    for index, state in enumerate(("RUNNING", "RUNNING", "FAILED")):
        client.create_task_run("load", flow_run_id, str(index), state=state)
    history = client.read_task_run_history(
        history_start=timedelta(hours=1),
        history_end=datetime.now(timezone.utc) + timedelta(minutes=1),
        history_interval=600,
        flow_filter={"name": {"any_": [name]}},
    )
    assert history.model is RunHistory
    counts = {state.state_name: state.count_runs for each in history for state in each.states}
    assert counts == {"Running": 2, "Failed": 1}


def test_a_deleted_task_run_is_gone(client: Any, flow_run_id: Any) -> None:
    run = client.create_task_run("load", flow_run_id, "0")
    assert client.delete_task_run(run.id) is None
    with pytest.raises(ObjectNotFound, match="There is no task run with the id"):
        client.read_task_run(run.id)


@pytest.mark.parametrize(
    ("operation", "more"),
    [
        ("read_task_run", ()),
        ("delete_task_run", ()),
        ("set_task_run_name", ("x",)),
        ("set_task_run_state", ("RUNNING",)),
    ],
)
def test_a_404_says_what_was_not_found(client: Any, operation: str, more: tuple[Any, ...]) -> None:
    with pytest.raises(ObjectNotFound, match=f"^There is no task run with the id '{NOBODY}': 404"):
        getattr(client, operation)(NOBODY, *more)
