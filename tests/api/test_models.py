"""What comes over the wire, also from a server that is newer than we are."""

from __future__ import annotations

import json
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchnb.api.models import (
    Automation,
    CreatedBy,
    Deployment,
    Event,
    EventPage,
    Flow,
    FlowRun,
    FlowRunCreateResult,
    FlowRunPolicy,
    Model,
    ModelList,
    OrchestrationResult,
    State,
    StateDetails,
    StateType,
    TaskRun,
)
from orchnb.api.models.base import FROM_SERVER
from orchnb.notebook.views.objects import model_card
from tests.api.fakes import FLOW_ID, RUN_ID

RUN: dict[str, Any] = {"id": RUN_ID, "flow_id": FLOW_ID}


def test_unknown_fields_are_kept_as_attributes() -> None:
    run = FlowRun.model_validate({**RUN, "from_the_future": {"a": [1]}})
    assert run.from_the_future == {"a": [1]}  # type: ignore[attr-defined]
    assert run.model_dump()["from_the_future"] == {"a": [1]}


def test_an_unknown_type_of_state_stays_a_text() -> None:
    run = FlowRun.model_validate({**RUN, "state_type": "DREAMING", "state": {"type": "DREAMING"}})
    assert run.state_type == "DREAMING"
    assert run.state is not None
    assert not isinstance(run.state.type, StateType)
    assert run.state_type.value == run.state.type.value == "DREAMING"  # type: ignore[union-attr]
    assert not run.state.is_final()
    known = FlowRun.model_validate({**RUN, "state_type": "FAILED"})
    assert known.state_type is StateType.FAILED
    assert f"{known.state_type}" == "FAILED"


@pytest.mark.parametrize("kind", StateType, ids=str)
def test_a_state_says_what_it_is(kind: StateType) -> None:
    for state in (State(type=kind), State(type=kind.value)):
        said = {
            name.removeprefix("is_").upper()
            for name in dir(State)
            if name.startswith("is_") and getattr(state, name)()
        }
        ends = {"FINAL"} if kind.value in ("COMPLETED", "FAILED", "CANCELLED", "CRASHED") else set()
        assert said == {kind.value} | ends
        assert state.type == kind.value == state.type.value  # type: ignore[union-attr]


def test_lengths_of_time_are_timedeltas_and_seconds_in_json() -> None:
    run = FlowRun.model_validate({**RUN, "total_run_time": 72.25})
    assert run.total_run_time == timedelta(minutes=1, seconds=12, milliseconds=250)
    assert run.estimated_run_time == timedelta(0)
    dumped = json.loads(run.model_dump_json())
    assert dumped["total_run_time"] == run.model_dump(mode="json")["total_run_time"] == 72.25


WORLD = {"from": ["another", 1]}


@pytest.mark.parametrize(
    ("kind", "field", "sent", "kept"),
    [
        (State, "state_details", WORLD, WORLD),
        (State, "state_details", 5, 5),
        (State, "state_details", {"flow_run_id": 5, "pause_key": "x"}, "pause_key"),
        (FlowRun, "empirical_policy", [WORLD], [WORLD]),
        (FlowRun, "empirical_policy", {"retries": "many", "retry_delay": 3}, "retry_delay"),
        (FlowRun, "created_by", "me", "me"),
        (FlowRun, "total_run_time", 1e300, 1e300),
        (FlowRun, "total_run_time", "long", "long"),
        (TaskRun, "task_inputs", [1], [1]),
        (Deployment, "global_concurrency_limit", {"limit": 3}, {"limit": 3}),
        (Deployment, "concurrency_options", {"collision_strategy": "LUCK", "a": 1}, "a"),
        (Deployment, "schedules", [{"id": RUN_ID, "schedule": {"moon": "full"}}], None),
        (Automation, "trigger", {"type": "event", "expect": 5, "threshold": 2}, "threshold"),
        (Automation, "trigger", {"type": "moon", "phase": "full"}, "phase"),
        (Automation, "trigger", "moon", "moon"),
        (Automation, "actions", [7, {"type": "moon"}], None),
        (Event, "resource", ["x"], ["x"]),
        (Event, "related", "x", "x"),
    ],
    ids=str,
)
def test_a_nested_value_of_another_form_is_kept(
    kind: type[Model], field: str, sent: Any, kept: Any
) -> None:
    """A string in ``kept`` that is a key of what was sent names the field that must be read."""
    least = {"id": RUN_ID, "flow_id": FLOW_ID, "name": "x", "type": "x", "event": "x"}
    keys = {"task_key": "x", "dynamic_key": "x", "occurred": "2026-01-02T03:04:05Z"}
    found = kind.model_validate({**least, **keys, field: sent})
    value = getattr(found, field)
    if isinstance(kept, str) and isinstance(sent, dict):
        assert getattr(value, kept) == sent[kept]
    elif kept is not None and not isinstance(value, Model):
        assert value == kept
    dumped = json.loads(found.model_dump_json(exclude_unset=True))[field]
    assert dumped == sent
    assert kind.model_validate_json(found.model_dump_json()) == found
    assert model_card(found)
    assert repr(found)


NULLABLE = sorted({*FlowRun.model_fields} - {"id", "flow_id"})


@pytest.mark.parametrize("field", NULLABLE)
def test_a_null_is_borne_where_a_server_may_send_one(field: str) -> None:
    run = FlowRun.model_validate({**RUN, field: None})
    default = FlowRun.model_fields[field].get_default(call_default_factory=True)
    assert getattr(run, field) == default


def test_nulls_in_flows_and_results_are_borne() -> None:
    flow = Flow.model_validate({"id": FLOW_ID, "name": "etl", "tags": None, "labels": None})
    assert flow.tags == []
    result = OrchestrationResult.model_validate({"status": "WAIT", "state": None, "details": None})
    assert result.details is None


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-01-02T03:04:05", 3),
        ("2026-01-02T03:04:05Z", 3),
        ("2026-01-02T03:04:05.123456+02:00", 1),
    ],
)
def test_times_from_a_server_are_aware_and_those_without_a_zone_are_utc(
    text: str, hour: int
) -> None:
    run = FlowRun.model_validate({**RUN, "start_time": text}, context=FROM_SERVER)
    assert run.start_time is not None
    assert run.start_time.utcoffset() is not None
    assert run.start_time.astimezone(timezone.utc).hour == hour


@pytest.mark.parametrize("field", ["context", "parameters"])
def test_what_a_server_may_put_anything_into_is_not_walked(field: str) -> None:
    sent = {"a": {"b": [1, None]}, "👩‍🚀": "x"}
    run = FlowRun.model_validate({**RUN, field: sent})
    assert getattr(run, field) is sent
    assert getattr(FlowRun.model_validate_json(run.model_dump_json()), field) == sent
    for no_dict in ([["a", 1]], "a", 1):
        with pytest.raises(ValidationError):
            FlowRun.model_validate({**RUN, field: no_dict})
        with pytest.raises(ValidationError):
            FlowRun.model_validate_json(json.dumps({**RUN, field: no_dict}))


def test_what_no_server_may_leave_out_is_missed() -> None:
    with pytest.raises(ValidationError):
        FlowRun.model_validate({"id": RUN_ID})
    with pytest.raises(ValidationError):
        Flow.model_validate({"id": "no id", "name": "etl"})


def test_defaults_are_not_shared() -> None:
    first, second = FlowRun.model_validate(RUN), FlowRun.model_validate(RUN)
    first.tags.append("x")
    first.parameters["a"] = 1
    assert second.tags == []
    assert second.parameters == {}


aware = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=timezone.utc)
) | st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=timezone(timedelta(hours=5, minutes=30)))
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
loose = st.none() | st.dictionaries(st.text(), plain, max_size=3)
states = st.builds(
    State,
    type=st.sampled_from(StateType) | st.text(),
    name=st.none() | st.text(),
    message=st.none() | st.text(),
    timestamp=st.none() | aware,
    data=plain,
    state_details=st.builds(
        StateDetails, flow_run_id=st.none() | st.uuids(), scheduled_time=st.none() | aware, x=plain
    ),
)
lengths = st.integers(-(10**15), 10**15).map(lambda micros: timedelta(microseconds=micros))
runs = st.builds(
    FlowRun,
    id=st.uuids(),
    flow_id=st.uuids(),
    name=st.none() | st.text(),
    state=st.none() | states,
    parameters=st.dictionaries(st.text(), plain, max_size=3),
    tags=st.lists(st.text(), max_size=3),
    start_time=st.none() | aware,
    total_run_time=lengths,
    estimated_run_time=lengths,
    estimated_start_time_delta=lengths,
    auto_scheduled=st.booleans(),
    context=loose,
    created_by=st.none() | st.builds(CreatedBy, id=st.none() | st.uuids(), display_value=st.text()),
    empirical_policy=st.builds(FlowRunPolicy, retries=st.none() | st.integers(0, 9), x=plain),
    job_variables=loose,
    labels=loose,
    deployment_version=st.none() | st.text(),
    flow_version=st.none() | st.text(),
    infrastructure_pid=st.none() | st.text(),
    infrastructure_document_id=st.none() | st.uuids(),
    state_id=st.none() | st.uuids(),
    work_pool_id=st.none() | st.uuids(),
    work_queue_id=st.none() | st.uuids(),
    a_field_of_tomorrow=plain,
)


@given(runs)
def test_a_run_survives_json_and_pickle(run: FlowRun) -> None:
    assert FlowRun.model_validate_json(run.model_dump_json()) == run
    assert FlowRun.model_validate(json.loads(run.model_dump_json())) == run
    assert pickle.loads(pickle.dumps(run)) == run


def test_a_list_of_models_is_a_list_that_knows_its_kind() -> None:
    flow = Flow(id=UUID(FLOW_ID), name="etl")
    flows = ModelList([flow], model=Flow)
    assert flows == [flow]
    assert isinstance(flows, list)
    assert pickle.loads(pickle.dumps(flows)).model is Flow


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (
            "(sqlalchemy.dialects.postgresql.asyncpg.IntegrityError) <class "
            "'asyncpg.exceptions.ForeignKeyViolationError'>: insert or update violates a constraint\n"
            'DETAIL:  Key (id)=(7) is not present in table "task_run".\n'
            "[SQL: INSERT INTO x VALUES (%s)]\n[parameters: ('a',)]\n(Background on ...)",
            "insert or update violates a constraint DETAIL: Key (id)=(7) is not present in table "
            '"task_run".',
        ),
        ("(a.B) gone\n(Background on this error at: https://x.invalid)", "gone"),
        ("Parameter validation failed:\n  (x) 1 is no text", None),
        ("", None),
    ],
    ids=["postgresql", "no statement", "another", "empty"],
)
def test_an_error_of_a_database_is_short_and_kept_whole(error: str, short: str | None) -> None:
    result = FlowRunCreateResult.model_validate({"status": "FAILED", "error": error})
    assert result.error == (error if short is None else short)
    assert result.full_error == (None if short is None else error)
    assert FlowRunCreateResult.model_validate(result.model_dump()) == result
    assert FlowRunCreateResult.model_validate_json(result.model_dump_json()) == result
    assert FlowRunCreateResult(status="CREATED", error=None).full_error is None


def test_of_a_list_that_does_not_fit_one_item_is_described() -> None:
    """Else a million wrong items are a million descriptions, of a thousand bytes each."""
    wrong: list[Any] = [{}] * 50
    with pytest.raises(ValidationError) as caught:
        EventPage.model_validate({"events": wrong, "total": 1})
    assert {problem["loc"][1] for problem in caught.value.errors()} == {0}
    with pytest.raises(ValidationError) as caught:
        FlowRun.model_validate({**RUN, "tags": [[]] * 50})
    assert len([each for each in caught.value.errors() if each["loc"][0] == "tags"]) == 1
