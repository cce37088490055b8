"""Flows and flow runs, on both clients and both servers: what they are changed, counted and handed."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from orchnb import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from orchnb.api.models import (
    FlowRunGraph,
    FlowRunInput,
    FlowRunOrchestrationResult,
    RunHistory,
    State,
    StateType,
)
from tests.api import both

pytestmark = [*both.SQLALCHEMY, pytest.mark.filterwarnings("ignore:The Result.t method")]
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left

NOBODY = uuid.UUID(int=7)


def of(name: str) -> dict[str, Any]:
    """The filter for the runs of a flow, or for the flow."""
    return {"name": {"any_": [name]}}


# Flows.


def test_a_flow_is_created_with_tags_and_labels_once(client: Any, name: str) -> None:
    flow_id = client.create_flow(name, tags=["x"], labels={"team": "data"})
    assert client.create_flow(SimpleNamespace(name=name)) == flow_id
    flow = client.read_flow(flow_id)
    assert (flow.name, flow.tags, flow.labels) == (name, ["x"], {"team": "data"})
    with pytest.raises(TypeError, match="an object with a name, not int"):
        client.create_flow(3)


def test_flows_are_counted(client: Any, name: str) -> None:
    for letter in "ab":
        client.create_flow(f"{name}-{letter}")
    assert client.count_flows(flow_filter={"name": {"like_": name}}) == 2
    no_run = {"name": {"any_": ["no such run"]}}
    assert client.count_flows(flow_filter={"name": {"like_": name}}, flow_run_filter=no_run) == 0


def test_a_flows_tags_are_changed(client: Any, name: str) -> None:
    flow_id = client.create_flow(name, tags=["x"])
    assert client.update_flow(flow_id, tags=("y",)) is None
    assert client.read_flow(flow_id).tags == ["y"]


def test_a_deleted_flow_is_gone_with_its_runs(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    assert client.delete_flow(run.flow_id) is None
    with pytest.raises(ObjectNotFound):
        client.read_flow(run.flow_id)
    with pytest.raises(ObjectNotFound):
        client.read_flow_run(run.id)


@both.since("3.6.16")
def test_many_flows_are_deleted(client: Any, name: str) -> None:
    ids = {client.create_flow(f"{name}-{letter}") for letter in "abc"}
    some = {"name": {"like_": name}}
    first = client.bulk_delete_flows(some, limit=2)
    assert len(first) == 2
    assert {*first, *client.bulk_delete_flows(some)} == ids
    assert client.bulk_delete_flows(some) == []
    assert client.count_flows(flow_filter=some) == 0


def test_a_wrong_name_of_a_flow_brings_near_ones(client: Any) -> None:
    name = f"sales-{uuid.uuid4()}"
    client.create_flow(name)
    with pytest.raises(ObjectNotFound) as caught:
        client.read_flow_by_name(name.replace("sales", "slaes").upper())
    assert f"Did you mean '{name}'?" in str(caught.value)
    assert caught.value.hint.startswith(f"Did you mean '{name}'?")
    assert caught.value.status_code == 404
    with pytest.raises(ObjectNotFound) as caught:
        client.read_flow_by_name("☃" * 40)
    assert "Did you mean" not in f"{caught.value} {caught.value.hint}"


# Flow runs.


def test_a_run_is_changed_by_what_is_given(client: Any, name: str) -> None:
    run = client.create_flow_run(name, name="old", tags=["x"], parameters={"a": 1, "b": 2})
    assert client.update_flow_run(run.id, name="new", parameters={"a": 3}) is None
    client.update_flow_run(
        str(run.id),
        flow_version="2",
        infrastructure_pid="host:1",
        empirical_policy={"retries": 4},
    )
    found = client.read_flow_run(run.id)
    assert (found.name, found.parameters, found.tags) == ("new", {"a": 3}, ["x"])
    assert (found.flow_version, found.infrastructure_pid) == ("2", "host:1")
    assert found.empirical_policy.retries == 4
    client.update_flow_run(run.id, tags=[])
    assert client.read_flow_run(run.id).tags == []


def test_a_change_of_nothing_is_refused(client: Any) -> None:
    with pytest.raises(ValueError, match="There is nothing to change"):
        client.update_flow_run(NOBODY)


def test_a_run_is_renamed_and_labelled(client: Any, name: str) -> None:
    run = client.create_flow_run(name, labels={"a": 1, "b": 2})
    assert client.set_flow_run_name(run.id, "renamed") is None
    assert client.update_flow_run_labels(run.id, {"b": "two", "c": True}) is None
    found = client.read_flow_run(run.id)
    assert found.name == "renamed"
    assert {key: found.labels[key] for key in "abc"} == {"a": 1, "b": "two", "c": True}


def test_runs_are_counted(client: Any, name: str) -> None:
    for state in ("PENDING", "PENDING", "COMPLETED"):
        client.create_flow_run(name, state=state)
    assert client.count_flow_runs(flow_filter=of(name)) == 3
    completed = {"state": {"type": {"any_": ["COMPLETED"]}}}
    assert client.count_flow_runs(flow_filter=of(name), flow_run_filter=completed) == 1


@pytest.mark.parametrize(
    ("first", "status", "state"),
    [
        ("SCHEDULED", "REJECT", StateType.CANCELLED),
        ("RUNNING", "ACCEPT", StateType.CANCELLING),
        ("COMPLETED", "ABORT", StateType.COMPLETED),
    ],
)
def test_a_run_is_cancelled(
    client: Any, name: str, first: str, status: str, state: StateType
) -> None:
    run = client.create_flow_run(name, state=first)
    assert client.cancel_flow_run(run.id).status == status
    assert client.read_flow_run(run.id).state_type is state


def test_a_run_is_paused_and_resumed(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    refused = client.pause_flow_run(run.id)
    assert (refused.status, refused.details.reason) == (
        "REJECT",
        "Cannot pause flows that are not currently running.",
    )
    client.set_flow_run_state(run.id, "RUNNING")
    before = datetime.now(timezone.utc)
    paused = client.pause_flow_run(run.id, timeout=timedelta(minutes=5))
    assert (paused.status, paused.state.type) == ("ACCEPT", StateType.PAUSED)
    ends = paused.state.state_details.pause_timeout
    assert timedelta(minutes=5) <= ends - before < timedelta(minutes=6)
    assert paused.state.state_details.pause_reschedule is False

    resumed = client.resume_flow_run(run.id)
    assert resumed.status == "ACCEPT"
    assert client.read_flow_run(run.id).state_type is StateType.RUNNING
    assert client.resume_flow_run(run.id).status == "ABORT"
    with pytest.raises(ObjectNotFound):
        client.resume_flow_run(NOBODY)


def test_a_run_without_deployment_cannot_be_suspended(client: Any, name: str) -> None:
    run = client.create_flow_run(name, state="RUNNING")
    refused = client.pause_flow_run(run.id, reschedule=True)
    assert refused.details.reason == "Cannot suspend flows without a deployment."


def test_a_run_that_waits_for_an_input_is_given_it(client: Any, name: str) -> None:
    """As Prefect does it when a flow asks: a schema under a key, and a pause that names the key."""
    run = client.create_flow_run(name, state="RUNNING")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    client.create_flow_run_input(run.id, "ask-schema", json.dumps(schema))
    keys = {"schema": "ask-schema", "response": "ask-response"}
    details = {"run_input_keyset": keys, "pause_reschedule": False}
    state = State.model_validate({"type": "PAUSED", "state_details": details})
    assert client.set_flow_run_state(run.id, state).status == "ACCEPT"

    refused = client.resume_flow_run(run.id, {"n": "three"})
    assert refused.status == "REJECT"
    assert "is not of type 'integer'" in refused.details.reason
    assert client.resume_flow_run(run.id, run_input={"n": 3}).status == "ACCEPT"
    assert json.loads(client.read_flow_run_input(run.id, "ask-response")) == {"n": 3}


def test_the_states_of_a_run_are_read(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    client.set_flow_run_state(run.id, "RUNNING")
    states = client.read_flow_run_states(run.id)
    assert states.model is State
    assert [state.type for state in states] == [StateType.PENDING, StateType.RUNNING]
    assert client.read_flow_run_state(states[1].id) == states[1]
    assert client.read_flow_run_states(NOBODY) == []


def test_the_graph_of_a_run_is_read(client: Any, name: str) -> None:
    run = client.create_flow_run(name, state="RUNNING")
    task_run = client.create_task_run("load", run.id, "0", name="load-0", state="RUNNING")
    graph = client.read_flow_run_graph(run.id)
    assert isinstance(graph, FlowRunGraph)
    assert graph.root_node_ids == [task_run.id]
    assert [(uuid.UUID(node), known["label"]) for node, known in graph.nodes] == [
        (task_run.id, "load-0")
    ]
    client.set_task_run_state(task_run.id, "COMPLETED")
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    assert client.read_flow_run_graph(run.id, since="1h").root_node_ids == [task_run.id]
    assert client.read_flow_run_graph(run.id, since=tomorrow).root_node_ids == []


def test_the_history_of_runs_is_read(client: Any, name: str) -> None:
    for state in ("RUNNING", "RUNNING", "FAILED"):
        client.create_flow_run(name, state=state)
    # To the second: the server of 3.6 loses what is below a millisecond.
    moment = datetime.now(timezone.utc).replace(microsecond=0)
    history = client.read_flow_run_history(
        history_start=moment - timedelta(hours=1),
        history_end=moment + timedelta(minutes=1),
        history_interval=timedelta(minutes=10),
        flow_filter=of(name),
    )
    assert history.model is RunHistory
    assert {each.interval_end - each.interval_start for each in history} == {timedelta(minutes=10)}
    counts = Counter[str]()
    for interval in history:  # the runs may be on both sides of a border
        counts.update({state.state_name: state.count_runs for state in interval.states})
    assert counts == {"Running": 2, "Failed": 1}
    with pytest.raises(PrefectHTTPStatusError, match="must not be less than 1 second"):
        client.read_flow_run_history(history_start="1h", history_interval=0.5)


def test_how_late_runs_are(client: Any, name: str) -> None:
    assert client.average_flow_run_lateness(flow_filter=of(name)) is None
    due = datetime.now(timezone.utc) - timedelta(hours=1)
    details = {"scheduled_time": due}
    state = State.model_validate({"type": "SCHEDULED", "state_details": details})
    client.create_flow_run(name, state=state)
    assert client.average_flow_run_lateness(flow_filter=of(name)) == pytest.approx(3600, abs=60)


@pytest.mark.parametrize(
    "kind_of_filter", ["flow_run", "task_run", "deployment", "work_pool", "work_queue"]
)
def test_every_filter_counts(client: Any, name: str, kind_of_filter: str) -> None:
    client.create_flow_run(name, state="RUNNING")
    filters = {"flow_filter": of(name), f"{kind_of_filter}_filter": of("no such")}
    assert client.count_flow_runs(**filters) == 0
    assert client.average_flow_run_lateness(**filters) is None
    history = client.read_flow_run_history(
        history_start="1h", history_interval=timedelta(hours=2), **filters
    )
    assert [interval.states for interval in history] == [[]]


@both.since("3.6.16")
def test_many_runs_are_put_into_a_state(client: Any, name: str) -> None:
    ids = {client.create_flow_run(name, state="RUNNING").id for _ in range(3)}
    done = client.create_flow_run(name, state="COMPLETED").id
    some = {"id": {"any_": [str(each) for each in [*ids, done]]}}
    results = client.bulk_set_flow_run_state(some, State(type="CANCELLING", message="no more"))
    assert results.model is FlowRunOrchestrationResult
    assert {result.flow_run_id: result.status for result in results} == {
        **dict.fromkeys(ids, "ACCEPT"),
        done: "ABORT",
    }
    run = client.read_flow_run(min(ids))
    assert (run.state_type, run.state.message) == (StateType.CANCELLING, "no more")
    (forced,) = client.bulk_set_flow_run_state(
        {"id": {"any_": [str(done)]}}, "CRASHED", force=True, limit=1
    )
    assert (forced.status, forced.state.type) == ("ACCEPT", StateType.CRASHED)


@both.since("3.6.16")
def test_many_runs_are_deleted(client: Any, name: str) -> None:
    ids = {client.create_flow_run(name, tags=[name]).id for _ in range(3)}
    some = {"tags": {"all_": [name]}}
    first = client.bulk_delete_flow_runs(some, limit=1)
    assert len(first) == 1
    assert {*first, *client.bulk_delete_flow_runs(some)} == ids
    assert client.count_flow_runs(flow_filter=of(name)) == 0
    with pytest.raises(PrefectHTTPStatusError) as caught:
        client.bulk_delete_flow_runs(some, limit=51)
    assert [field.location for field in caught.value.fields] == ["body.limit"]


# Inputs.


def test_a_run_is_handed_values(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    values = {"q-1": '{"a": "ü ☃"}', "q-2": "<html>\r\nnot JSON", "other": ""}
    for key, value in values.items():
        assert client.create_flow_run_input(run.id, key, value, sender="me") is None
        assert client.read_flow_run_input(run.id, key) == value
    inputs = client.filter_flow_run_input(run.id, "q-", limit=5)
    assert inputs.model is FlowRunInput
    assert {each.key: each.value for each in inputs} == {key: values[key] for key in ("q-1", "q-2")}
    assert {(each.flow_run_id, each.sender) for each in inputs} == {(run.id, "me")}
    assert len(client.filter_flow_run_input(run.id, "q-")) == 1
    (left,) = client.filter_flow_run_input(run.id, "q-", 5, {"q-1"})
    assert left.key == "q-2"

    with pytest.raises(ObjectAlreadyExists, match="The flow run already has an input 'q-1'"):
        client.create_flow_run_input(run.id, "q-1", "again")
    assert client.delete_flow_run_input(run.id, "q-1") is None
    with pytest.raises(ObjectNotFound, match="There is no input 'q-1' of the flow run"):
        client.read_flow_run_input(run.id, "q-1")


@pytest.mark.parametrize(
    ("operation", "arguments", "words"),
    [
        ("update_flow", {"flow_id": NOBODY, "tags": []}, "flow with the id"),
        ("delete_flow", {"flow_id": NOBODY}, "flow with the id"),
        ("update_flow_run", {"flow_run_id": NOBODY, "name": "x"}, "flow run with the id"),
        ("set_flow_run_name", {"flow_run_id": NOBODY, "name": "x"}, "flow run with the id"),
        ("update_flow_run_labels", {"flow_run_id": NOBODY, "labels": {}}, "flow run with the id"),
        ("cancel_flow_run", {"flow_run_id": NOBODY}, "flow run with the id"),
        ("pause_flow_run", {"flow_run_id": NOBODY}, "flow run with the id"),
        ("read_flow_run_state", {"flow_run_state_id": NOBODY}, "flow run state with the id"),
        ("read_flow_run_graph", {"flow_run_id": NOBODY}, "flow run with the id"),
        (
            "create_flow_run_input",
            {"flow_run_id": NOBODY, "key": "k", "value": "v"},
            "flow run with the id",
        ),
        ("delete_flow_run_input", {"flow_run_id": NOBODY, "key": "k"}, "input 'k' of the flow run"),
    ],
)
def test_a_404_says_what_was_not_found(
    client: Any, operation: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(
        ObjectNotFound, match=f"^There is no {words}.*{NOBODY}.: 404 Not Found"
    ) as caught:
        getattr(client, operation)(**arguments)
    assert "\n" not in str(caught.value)
