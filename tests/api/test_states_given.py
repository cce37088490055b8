"""Every place that takes a state accepts the same forms of it, and names what it cannot read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import State as PrefectState
from prefect.client.schemas.objects import StateType as PrefectStateType

from orchnb.api.models import State, StateType
from orchnb.api.operations.coercion import as_state
from orchnb.api.operations.filters import run_words
from orchnb.hosting.ephemeral import EphemeralApp
from tests.api import both
from tests.api.conftest import opened

pytestmark = both.SQLALCHEMY
server_here = both.server_here
nothing_is_left = both.nothing_is_left
name = both.name

DUE = datetime(2030, 1, 2, 3, tzinfo=timezone.utc)


@pytest.fixture
def client(kind: str, in_process_app: EphemeralApp) -> Iterator[Any]:
    with opened(kind, in_process_app) as client:
        yield client


def retry(**more: Any) -> dict[str, Any]:
    return {"type": "SCHEDULED", "name": "AwaitingRetry", **more}


GIVEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "type": ("scheduled", {"type": "SCHEDULED"}),
    "enum": (StateType.SCHEDULED, {"type": "SCHEDULED"}),
    "Prefect's enum": (PrefectStateType.SCHEDULED, {"type": "SCHEDULED"}),
    "name": ("awaitingretry", retry()),
    "name that is its type": ("Running", {"type": "RUNNING"}),
    "new type": ("ARCHIVED", {"type": "ARCHIVED"}),
    "mapping": (retry(message="m"), retry(message="m")),
    "mapping with an enum": (
        {"type": PrefectStateType.SCHEDULED, "name": None},
        {"type": "SCHEDULED"},
    ),
    "mapping of a name": ({"name": "Late"}, {"type": "SCHEDULED", "name": "Late"}),
    "state": (State(**retry()), retry()),
    "state with data": (
        State(type="COMPLETED", data={"a": 1}),
        {"type": "COMPLETED", "data": {"a": 1}},
    ),
    "dumped state": (State(**retry(id=uuid4(), timestamp=DUE)).model_dump(), retry()),
    "Prefect's result stays": (
        PrefectState(type=PrefectStateType.COMPLETED, data=object()),
        {"type": "COMPLETED", "name": "Completed"},
    ),
}


@pytest.mark.parametrize(("given", "expected"), GIVEN.values(), ids=GIVEN)
def test_a_state_in_any_form(given: Any, expected: dict[str, Any]) -> None:
    found = as_state(given)
    found.pop("state_details", None)
    assert found == expected


@pytest.mark.parametrize(
    "given",
    [
        retry(state_details={"scheduled_time": DUE, "transition_id": uuid4()}),
        State(**retry(state_details={"scheduled_time": DUE, "transition_id": uuid4()})),
        retry(state_details={"scheduled_time": "2030-01-02T03:00Z"}),
        PrefectState(
            type=PrefectStateType.SCHEDULED,
            name="AwaitingRetry",
            state_details={"scheduled_time": DUE, "transition_id": uuid4()},
        ),
    ],
    ids=["mapping", "state", "text", "Prefect's"],
)
def test_details_of_a_state(given: Any) -> None:
    details = as_state(given)["state_details"]
    assert details["scheduled_time"] == DUE
    assert "transition_id" not in details


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"tpye": "FAILED"}, ValueError, "A state has no tpye; it has type, name"),
        ({"message": "m"}, ValueError, "A state needs a type"),
        ({"name": "Mine"}, ValueError, "A state needs a type"),
        ("COMPLETE", ValueError, "'COMPLETE' is neither .* Did you mean 'COMPLETED'"),
        ({"type": "COMPLETE"}, ValueError, "Did you mean 'COMPLETED'"),
        ("two words", ValueError, "The types are SCHEDULED"),
        (5, TypeError, "state should be a type such as"),
        (["FAILED"], TypeError, "state should be a type such as"),
        (None, TypeError, "state should be a type such as"),
    ],
)
def test_what_is_no_state_is_refused(given: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        as_state(given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (State(**retry()), {"name": {"any_": ["AwaitingRetry"]}}),
        (retry(), {"name": {"any_": ["AwaitingRetry"]}}),
        ({"type": "FAILED"}, {"type": {"any_": ["FAILED"]}}),
        (PrefectState(type=PrefectStateType.FAILED), {"type": {"any_": ["FAILED"]}}),
        ([StateType.FAILED, State(type="CRASHED")], {"type": {"any_": ["FAILED", "CRASHED"]}}),
        (map(str, ["FAILED"]), {"type": {"any_": ["FAILED"]}}),
    ],
)
def test_filters_take_states_too(given: Any, expected: dict[str, Any]) -> None:
    assert run_words({"state": given})["state"] == expected


def _set_flow_run_state(client: Any, name: str, state: Any) -> Any:
    run = client.create_flow_run(name)
    client.set_flow_run_state(run.id, state)
    return client.read_flow_run(run.id).state


def _bulk(client: Any, name: str, state: Any) -> Any:
    run = client.create_flow_run(name)
    client.bulk_set_flow_run_state({"id": {"any_": [run.id]}}, state)
    return client.read_flow_run(run.id).state


def _create(client: Any, name: str, state: Any) -> Any:
    return client.read_flow_run(client.create_flow_run(name, state=state).id).state


def _deployment(client: Any, name: str, state: Any) -> Any:
    deployment_id = client.create_deployment(name, "d")
    run = client.create_flow_run_from_deployment(deployment_id, state=state)
    return client.read_flow_run(run.id).state


def _bulk_deployment(client: Any, name: str, state: Any) -> Any:
    deployment_id = client.create_deployment(name, "d")
    (made,) = client.bulk_create_flow_runs_from_deployment(deployment_id, [{"state": state}])
    return client.read_flow_run(made.flow_run_id).state


def _task_run(client: Any, name: str, state: Any) -> Any:
    run = client.create_flow_run(name)
    task_run = client.create_task_run("task", run.id, "0", state=state)
    return client.read_task_run(task_run.id).state


def _set_task_run_state(client: Any, name: str, state: Any) -> Any:
    run = client.create_flow_run(name)
    task_run = client.create_task_run("task", run.id, "0")
    return client.set_task_run_state(task_run.id, state).state


PLACES = {
    place.__name__.strip("_"): place
    for place in (
        _set_flow_run_state,
        _bulk,
        _create,
        _deployment,
        _bulk_deployment,
        _task_run,
        _set_task_run_state,
    )
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_every_place_takes_every_form(
    client: Any, name: str, place: Callable[[Any, str, Any], Any]
) -> None:
    details = {"scheduled_time": DUE}
    forms = [
        retry(state_details=details),
        State(**retry(state_details=details)),
        PrefectState(type=PrefectStateType.SCHEDULED, name="AwaitingRetry", state_details=details),
    ]
    for form in forms:
        state = place(client, name, form)
        assert (state.type, state.name) == ("SCHEDULED", "AwaitingRetry")
        assert (
            datetime.fromisoformat(
                str(dict(state.state_details)["scheduled_time"]).replace("Z", "+00:00")
            )
            == DUE
        )
    assert place(client, name, "TimedOut").name == "TimedOut"


def test_the_time_of_a_paused_state_can_be_a_length() -> None:
    state = as_state({"type": "PAUSED", "state_details": {"pause_timeout": timedelta(hours=1)}})
    left = state["state_details"]["pause_timeout"] - datetime.now(timezone.utc)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


def test_ids_in_details_are_kept() -> None:
    flow_run_id = UUID(int=1)
    given = {"type": "RUNNING", "state_details": {"flow_run_id": flow_run_id}}
    assert as_state(given)["state_details"] == {"flow_run_id": flow_run_id}
