"""Deployments, their schedules and their runs, on both clients and both servers."""

from __future__ import annotations

import json
import pickle
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from orchnb import (
    InvalidParameters,
    ObjectAlreadyExists,
    ObjectNotFound,
    OutcomeUnknown,
    PrefectHTTPStatusError,
)
from orchnb.api.models import (
    CronSchedule,
    Deployment,
    DeploymentSchedule,
    FlowRunCreateResult,
    ModelList,
    StateType,
)
from orchnb.api.operations.parameter_validation import check_parameters
from orchnb.api.operations.schedules import as_schedule
from orchnb.http.retry import RetryPolicy
from tests.api import both
from tests.api.conftest import opened
from tests.api.fakes import FLOW_ID, RUN_ID, LosingAnswers, Scripted

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left

NOBODY = uuid.UUID(int=7)

SCHEMA: dict[str, Any] = {
    "title": "Parameters",
    "type": "object",
    "properties": {
        "day": {"type": "string"},
        "rows": {"type": "integer", "default": 3, "minimum": 1},
        "share": {"type": "number"},
        "mode": {"enum": ["fast", "slow"], "default": "fast"},
        "either": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "names": {"type": "array", "items": {"type": "string"}, "default": []},
        "size": {"$ref": "#/definitions/Size", "default": {"width": 1}},
    },
    "required": ["day"],
    "definitions": {
        "Size": {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}},
            "required": ["width"],
        }
    },
}


def of(name: str) -> dict[str, Any]:
    """The filter for the deployments of a flow."""
    return {"name": {"any_": [name]}}


# Deployments.


def test_a_deployment_has_what_it_was_created_with(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(
        name,
        "nightly",
        version="2",
        description="at night",
        tags=("x", "y"),
        parameters={"day": "monday"},
        parameter_openapi_schema=SCHEMA,
        enforce_parameter_schema=False,
        paused=True,
        path="/srv",
        entrypoint="flow.py:etl",
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": "/srv"}}],
        job_variables={"image": "etl:2"},
        concurrency_limit=2,
        concurrency_options={"collision_strategy": "CANCEL_NEW"},
        labels={"team": "data"},
        schedules=[{"cron": "0 6 * * *", "timezone": "Asia/Tokyo", "slug": "six"}],
    )
    assert isinstance(deployment_id, uuid.UUID)
    found = client.read_deployment(deployment_id)
    assert isinstance(found, Deployment)
    assert client.read_deployment(str(deployment_id)) == found
    assert client.read_deployment_by_name(f"{name}/nightly") == found
    assert found.flow_id == client.read_flow_by_name(name).id
    assert (found.name, found.version, found.description) == ("nightly", "2", "at night")
    assert (sorted(found.tags), found.labels["team"]) == (["x", "y"], "data")
    assert found.parameters == {"day": "monday"}
    assert found.parameter_openapi_schema == SCHEMA
    assert (found.enforce_parameter_schema, found.paused, found.status) == (
        False,
        True,
        "NOT_READY",
    )
    assert (found.path, found.entrypoint) == ("/srv", "flow.py:etl")
    assert found.pull_steps is not None
    assert list(found.pull_steps[0]) == ["prefect.deployments.steps.set_working_directory"]
    assert found.job_variables == {"image": "etl:2"}
    assert found.concurrency_options.collision_strategy.value == "CANCEL_NEW"
    (schedule,) = found.schedules
    assert isinstance(schedule, DeploymentSchedule)
    assert (schedule.slug, schedule.active, schedule.deployment_id) == ("six", True, deployment_id)
    assert schedule.schedule == CronSchedule(cron="0 6 * * *", timezone="Asia/Tokyo", day_or=True)


def test_a_deployment_is_created_once_for_a_flow_and_a_name(client: Any, name: str) -> None:
    flow_id = client.create_flow(name)
    first = client.create_deployment(
        flow_id, "d", tags=["x"], parameters={"a": 1}, schedules=[{"interval": 60}]
    )
    assert client.create_deployment(str(flow_id), "d", version="2") == first
    found = client.read_deployment(first)
    assert (found.version, found.tags) == ("2", ["x"])
    assert (found.parameters, found.schedules) == ({}, [])
    assert client.create_deployment(client.read_flow(flow_id), "other") != first
    assert client.count_deployments(flow_filter=of(name)) == 2


def test_a_deployment_may_have_a_work_pool(client: Any, name: str) -> None:
    client.request("POST", "/work_pools/", json={"name": name, "type": "process"})
    deployment_id = client.create_deployment(
        name, "d", work_pool_name=name, work_queue_name="urgent"
    )
    found = client.read_deployment(deployment_id)
    assert (found.work_pool_name, found.work_queue_name) == (name, "urgent")
    run = client.create_flow_run_from_deployment(deployment_id, work_queue_name="slow")
    assert (run.work_pool_name, run.work_queue_name) == (name, "slow")
    with pytest.raises(
        ObjectNotFound, match=r"no such object \(referenced by deployment 'd'\): 404.*Work pool"
    ):
        client.create_deployment(name, "d", work_pool_name="nobody's")


@pytest.mark.parametrize("wrong", ["a/b", "50%", "a&b", "<b>"])
def test_a_name_that_no_deployment_has_is_refused(client: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match="A deployment's name cannot contain any of"):
        client.create_deployment(NOBODY, wrong)


def test_deployments_are_filtered_sorted_paged_and_counted(client: Any, name: str) -> None:
    for each in "cab":
        client.create_deployment(name, each, tags=[each])

    def read(**arguments: Any) -> list[str]:
        deployments = client.read_deployments(flow_filter=of(name), **arguments)
        assert isinstance(deployments, ModelList)
        assert deployments.model is Deployment
        return [deployment.name for deployment in deployments]

    assert read(sort="NAME_ASC") == ["a", "b", "c"]
    assert read(sort="NAME_DESC", limit=1, offset=1) == ["b"]
    tagged = {"tags": {"all_": ["c"]}}
    assert read(deployment_filter=tagged) == ["c"]
    assert client.count_deployments(flow_filter=of(name), deployment_filter=tagged) == 1
    nothing: dict[str, Any] = {"name": {"any_": ["no such"]}}
    for kind in ("flow_run", "task_run", "work_pool", "work_queue"):
        assert read(**{f"{kind}_filter": nothing}) == []
        assert client.count_deployments(flow_filter=of(name), **{f"{kind}_filter": nothing}) == 0


def test_a_deployment_is_changed_by_what_is_given(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(
        name, "d", tags=["x"], description="old", schedules=[{"interval": 60, "slug": "s"}]
    )
    changed = client.update_deployment(
        deployment_id, {"tags": ["y"]}, parameters={"a": 1}, concurrency_limit=3
    )
    assert changed is None
    found = client.read_deployment(deployment_id)
    assert (found.tags, found.parameters, found.description) == (["y"], {"a": 1}, "old")
    assert found.global_concurrency_limit.limit == 3
    client.update_deployment(
        deployment_id,
        description=None,
        concurrency_limit=None,
        schedules=[{"cron": "0 0 * * *", "slug": "s"}, {"interval": 5, "slug": "t"}],
    )
    found = client.read_deployment(deployment_id)
    assert found.description is None
    assert found.global_concurrency_limit is None
    by_slug = {each.slug: each.schedule for each in found.schedules}
    assert by_slug.keys() == {"s", "t"}
    assert by_slug["s"].cron == "0 0 * * *"
    assert by_slug["t"].interval == timedelta(seconds=5)
    with pytest.raises(ValueError, match="There is nothing to change: give one of version"):
        client.update_deployment(deployment_id)
    with pytest.raises(TypeError, match="tags should be a list"):
        client.update_deployment(deployment_id, tags="nightly")


def test_prefects_own_update_will_do(client: Any, name: str) -> None:
    from prefect.client.schemas.actions import DeploymentUpdate

    deployment_id = client.create_deployment(name, "d", tags=["x"])
    client.update_deployment(deployment_id, DeploymentUpdate(description="new"))
    found = client.read_deployment(deployment_id)
    assert (found.description, found.tags) == ("new", ["x"])


def test_a_deployment_is_paused_and_resumed(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d")
    assert client.pause_deployment(deployment_id) is None
    assert client.read_deployment(deployment_id).paused
    client.pause_deployment(deployment_id)
    assert client.resume_deployment(str(deployment_id)) is None
    assert not client.read_deployment(deployment_id).paused


def test_a_deployment_is_paused_and_resumed_as_by_prefects_client(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d")
    for paused in (True, True, False):
        assert client.set_deployment_paused_state(deployment_id, paused=paused) is None
        assert client.read_deployment(deployment_id).paused is paused
    client.set_deployment_paused_state(str(deployment_id), True)
    assert client.read_deployment(deployment_id).paused
    for paused in (True, False):
        with pytest.raises(ObjectNotFound, match=f"There is no deployment with the id '{NOBODY}'"):
            client.set_deployment_paused_state(NOBODY, paused)


def test_a_branch_is_asked_for_once_as_the_cloud_takes_it(kind: str) -> None:
    """Prefect's server has none; test_lacking.py shows what it says."""
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.client.schemas.objects import DeploymentBranchingOptions

    deployment = {"id": RUN_ID, "flow_id": FLOW_ID, "name": "nightly"}
    transport = Scripted(lambda request: httpx.Response(200, json=deployment))
    options = {"transport": transport, "enable_csrf_support": False}
    with opened(kind, "http://orch.invalid/api", httpx_settings=options) as client:
        assert client.create_deployment_branch(NOBODY, "a") == uuid.UUID(RUN_ID)
        client.create_deployment_branch(
            str(NOBODY), "b", {"schedule_handling": "keep"}, {"tags": ["trial"]}
        )
        client.create_deployment_branch(
            NOBODY,
            branch="c",
            options=DeploymentBranchingOptions(schedule_handling="inactive"),
            overrides=DeploymentUpdate(schedules=[{"schedule": {"cron": "0 6 * * *"}}]),
        )
        for branch in ("", " "):
            with pytest.raises(ValueError, match="A branch's name cannot be blank"):
                client.create_deployment_branch(NOBODY, branch)
        with pytest.raises(ValueError, match="There is nothing to change"):
            client.create_deployment_branch(NOBODY, "d", overrides={})
    plain, with_data, with_models = transport.requests
    assert {request.url.path for request in transport.requests} == {
        f"/api/deployments/{NOBODY}/branch"
    }
    assert json.loads(plain.content) == {"branch": "a", "options": {}}
    assert json.loads(with_data.content) == {
        "branch": "b",
        "options": {"schedule_handling": "keep"},
        "overrides": {"tags": ["trial"]},
    }
    sent = json.loads(with_models.content)
    assert sent["options"] == {"schedule_handling": "inactive"}
    assert list(sent["overrides"]) == ["schedules"]
    assert sent["overrides"]["schedules"][0]["schedule"]["cron"] == "0 6 * * *"


def test_a_branch_whose_answer_is_lost_is_not_asked_for_again(kind: str) -> None:
    def lose(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("gone", request=request)

    transport = Scripted(lose)
    options = {"transport": transport, "enable_csrf_support": False}
    with (
        opened(kind, "http://orch.invalid/api", httpx_settings=options) as client,
        pytest.raises(OutcomeUnknown) as caught,
    ):
        client.create_deployment_branch(NOBODY, "a")
    assert "look with read_deployments" in caught.value.hint
    assert len(transport.requests) == 1


def test_a_deleted_deployment_is_gone(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d")
    assert client.delete_deployment(deployment_id) is None
    with pytest.raises(ObjectNotFound, match="There is no deployment with the id"):
        client.read_deployment(deployment_id)


@both.since("3.6.16")
def test_many_deployments_are_deleted(client: Any, name: str) -> None:
    ids = {client.create_deployment(name, each, tags=[name]) for each in "abc"}
    some = {"tags": {"all_": [name]}}
    first = client.bulk_delete_deployments(some, limit=1)
    assert len(first) == 1
    assert {*first, *client.bulk_delete_deployments(some)} == ids
    assert client.count_deployments(flow_filter=of(name)) == 0


# Names.


def test_a_wrong_name_brings_near_ones(client: Any) -> None:
    name = f"sales-{uuid.uuid4()}"
    deployment_id = client.create_deployment(name, "nightly")
    full = f"{name}/nightly"
    assert client.create_flow_run_from_deployment(full).deployment_id == deployment_id
    for operation in ("read_deployment_by_name", "create_flow_run_from_deployment"):
        with pytest.raises(ObjectNotFound) as caught:
            getattr(client, operation)(f"{name}/Nightyl")
        assert f"There is no deployment '{name}/Nightyl': 404" in str(caught.value)
        assert f"Did you mean '{full}'" in str(caught.value)
        assert caught.value.hint.startswith(f"Did you mean '{full}'")
        assert "\n" not in str(caught.value)
        assert caught.value.__context__ is None or caught.value.__suppress_context__
    with pytest.raises(ObjectNotFound) as caught:
        client.read_deployment_by_name("☃" * 40 + "/x")
    assert "Did you mean" not in f"{caught.value} {caught.value.hint}"


def test_a_name_without_flow_brings_whole_ones(client: Any, name: str) -> None:
    client.create_deployment(name, f"only-{name}")
    with pytest.raises(ValueError, match=f"Did you mean '{name}/only-{name}'") as caught:
        client.create_flow_run_from_deployment(f"only-{name}")
    assert "A deployment's name has the form 'flow/deployment'" in str(caught.value)
    for wrong in ("", "/", "/x", "x/"):
        with pytest.raises(ValueError, match="A deployment's name has the form 'flow/deployment'"):
            client.read_deployment_by_name(wrong)


def test_that_near_names_cannot_be_read_hides_nothing(kind: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(404, json={"detail": "Deployment not found"})
        return httpx.Response(500, text="broken")

    transport = Scripted(answer)
    options = {"transport": transport, "retry_policy": RetryPolicy(max_retries=0)}
    with opened(kind, "http://orch.invalid/api", httpx_settings=options) as client:
        with pytest.raises(ObjectNotFound, match="There is no deployment 'a/b': 404"):
            client.read_deployment_by_name("a/b")
        with pytest.raises(ObjectNotFound, match="There is no flow 'a': 404"):
            client.read_flow_by_name("a")


def test_only_the_first_pages_are_looked_through(kind: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(404, json={"detail": "Deployment not found"})
        if request.url.path == "/api/flows/filter":
            return httpx.Response(200, json=[{"id": FLOW_ID, "name": "etl"}])
        row = {"id": RUN_ID, "flow_id": FLOW_ID, "name": "nightly"}
        return httpx.Response(200, json=[row] * 200)

    transport = Scripted(answer)
    options = {"transport": transport, "enable_csrf_support": False}
    with (
        opened(kind, "http://orch.invalid/api", httpx_settings=options) as client,
        pytest.raises(ObjectNotFound, match="Did you mean 'etl/nightly'"),
    ):
        client.read_deployment_by_name("etl/nightlx")
    assert len(transport.requests) == 1 + 3 + 3


# Schedules.


def _prefects_cron() -> Any:
    from prefect.schedules import Cron

    return Cron("0 6 * * *", timezone="Asia/Tokyo", slug="s", parameters={"a": 1})


def _prefects_interval() -> Any:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import IntervalSchedule

    return DeploymentScheduleCreate(
        schedule=IntervalSchedule(interval=timedelta(hours=1)), slug="s", parameters={"a": 1}
    )


def _prefects_rrule() -> Any:
    from prefect.client.schemas.schedules import RRuleSchedule

    return RRuleSchedule(rrule="FREQ=DAILY", timezone="Asia/Tokyo")


CRON = {"cron": "0 6 * * *", "timezone": "Asia/Tokyo"}


@pytest.mark.parametrize(
    ("make", "expected", "beside"),
    [
        (lambda: CRON, CRON, {}),
        (lambda: {"schedule": CRON}, CRON, {}),
        (lambda: {"interval": timedelta(hours=1)}, {"interval": 3600}, {}),
        (
            lambda: {
                "interval": 90,
                "anchor_date": datetime(2026, 1, 1, tzinfo=timezone.utc),
                "active": False,
            },
            {"interval": 90, "anchor_date": "2026-01-01T00:00:00Z"},
            {"active": False},
        ),
        (lambda: {"rrule": "FREQ=DAILY", "slug": "s"}, {"timezone": "UTC"}, {"slug": "s"}),
        (lambda: (CRON, False), CRON, {"active": False}),
        (_prefects_cron, CRON, {"slug": "s", "parameters": {"a": 1}}),
        (_prefects_interval, {"interval": 3600}, {"slug": "s", "parameters": {"a": 1}}),
        (lambda: (_prefects_rrule(), False), {"timezone": "Asia/Tokyo"}, {"active": False}),
    ],
    ids=[
        "cron",
        "nested",
        "timedelta",
        "seconds",
        "rrule",
        "pair",
        "prefects-cron",
        "prefects-interval",
        "prefects-pair",
    ],
)
def test_a_schedule_may_be_given_in_any_way(
    client: Any, name: str, make: Any, expected: dict[str, Any], beside: dict[str, Any]
) -> None:
    deployment_id = client.create_deployment(name, "d", schedules=[make()])
    (first,) = client.read_deployment_schedules(deployment_id)
    assert expected.items() <= first.schedule.model_dump(mode="json").items()
    assert beside.items() <= first.model_dump().items()
    client.delete_deployment_schedule(deployment_id, first.id)

    created = client.create_deployment_schedules(deployment_id, [first])  # as it was read
    assert created.model is DeploymentSchedule
    (second,) = client.read_deployment_schedules(deployment_id)
    assert second == created[0]
    assert second.id != first.id
    assert second.schedule == first.schedule
    assert (second.slug, second.active, second.parameters) == (
        first.slug,
        first.active,
        first.parameters,
    )


def test_an_interval_is_sent_in_seconds() -> None:
    """The form that the API documents; Prefect's server takes others too."""
    assert as_schedule({"interval": timedelta(hours=1)}) == {"interval": 3600.0}


def test_schedules_are_added_changed_and_deleted(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d")
    (one,) = client.create_deployment_schedules(
        deployment_id, [CRON], parameters={"a": 1}, max_scheduled_runs=2, slug="one"
    )
    assert (one.parameters, one.max_scheduled_runs, one.slug) == ({"a": 1}, 2, "one")
    changed = client.update_deployment_schedule(
        deployment_id, one.id, active=False, schedule={"interval": timedelta(minutes=1)}
    )
    assert changed is None
    client.update_deployment_schedule(
        deployment_id, str(one.id), parameters={"b": 2}, max_scheduled_runs=3, slug="two"
    )
    (found,) = client.read_deployment_schedules(deployment_id)
    assert (found.id, found.active, found.schedule.interval) == (
        one.id,
        False,
        timedelta(minutes=1),
    )
    assert (found.parameters, found.max_scheduled_runs, found.slug) == ({"b": 2}, 3, "two")
    with pytest.raises(ObjectAlreadyExists, match="already has a schedule with that slug"):
        client.create_deployment_schedules(deployment_id, [{**CRON, "slug": "two"}])
    assert client.delete_deployment_schedule(deployment_id, one.id) is None
    assert client.read_deployment_schedules(deployment_id) == []
    with pytest.raises(ValueError, match="There is nothing to change"):
        client.update_deployment_schedule(deployment_id, one.id)


@pytest.mark.parametrize(
    ("schedules", "error", "words"),
    [
        ([{}], ValueError, "one of interval, cron and rrule; it has none"),
        ([{"cron": "0 0 * * *", "interval": 3}], ValueError, "it has interval and cron"),
        (
            [{"cron": "0 0 * * *", "tz": "UTC"}],
            ValueError,
            "also takes timezone and day_or; it has tz",
        ),
        (["0 0 * * *"], TypeError, "a mapping with interval, cron or rrule.*, not str"),
        ("0 0 * * *", TypeError, "schedules should be a list"),
        ({"cron": "0 0 * * *"}, TypeError, "schedules should be a list"),
    ],
)
def test_what_is_no_schedule_is_refused(
    client: Any, schedules: Any, error: type[Exception], words: str
) -> None:
    for operation in ("create_deployment_schedules", "update_deployment"):
        with pytest.raises(error, match=words):
            getattr(client, operation)(NOBODY, schedules=schedules)


# Runs.


def created(client: Any, deployment_id: uuid.UUID, runs: list[dict[str, Any]]) -> Any:
    """Create many runs; Prefect's server says of some, now and then, that its database was locked.

    Where it makes one run, it then answers 503, and the client tries again.
    """
    deadline = time.monotonic() + 30
    while True:
        results = client.bulk_create_flow_runs_from_deployment(deployment_id, runs)
        if not any("database is locked" in (result.error or "") for result in results):
            return results
        assert time.monotonic() < deadline


def test_a_run_of_a_deployment_has_what_was_given(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(
        name,
        "d",
        tags=["x"],
        parameters={"day": "monday", "rows": 1},
        parameter_openapi_schema=SCHEMA,
    )
    task_run = client.create_task_run("parent", None, name)
    created = client.create_flow_run_from_deployment(
        f"{name}/d",
        parameters={"rows": 5},
        context={"who": "me"},
        name="the-run",
        tags=("y",),
        labels={"team": "data"},
        job_variables={"image": "etl:3"},
        parent_task_run_id=task_run.id,
        idempotency_key=f"key-{name}",
    )
    run = client.read_flow_run(created.id)
    assert (run.deployment_id, run.name) == (deployment_id, "the-run")
    assert run.parameters == {"day": "monday", "rows": 5}
    assert (sorted(run.tags), run.labels["team"]) == (["x", "y"], "data")
    assert (run.context, run.job_variables) == ({"who": "me"}, {"image": "etl:3"})
    assert (run.parent_task_run_id, run.idempotency_key) == (task_run.id, f"key-{name}")
    assert run.state_type is StateType.SCHEDULED


def test_a_run_is_scheduled_for_later(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d")
    before = datetime.now(timezone.utc)
    soon = client.create_flow_run_from_deployment(deployment_id, scheduled_time=timedelta(hours=2))
    assert timedelta(hours=2) <= soon.expected_start_time - before < timedelta(hours=2, minutes=1)
    day = datetime(2031, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    then = client.create_flow_run_from_deployment(str(deployment_id), scheduled_time=day)
    assert (then.expected_start_time, then.state_type) == (day, StateType.SCHEDULED)
    pending = client.create_flow_run_from_deployment(deployment_id, state="pending")
    assert pending.state_type is StateType.PENDING
    with pytest.raises(ValueError, match="Give state or scheduled_time, not both"):
        client.create_flow_run_from_deployment(deployment_id, state="PENDING", scheduled_time=day)

    due = client.get_scheduled_flow_runs_for_deployments([deployment_id])
    assert [run.id for run in due] == [soon.id, then.id]
    assert [
        run.id
        for run in client.get_scheduled_flow_runs_for_deployments(
            [str(deployment_id), NOBODY], scheduled_before=timedelta(hours=3), limit=5
        )
    ] == [soon.id]


def test_the_same_key_makes_one_run_and_no_key_makes_two(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d")
    ids = [
        client.create_flow_run_from_deployment(deployment_id, idempotency_key=key).id
        for key in ("k", "k", None, None)
    ]
    assert len(set(ids)) == 3
    assert ids[0] == ids[1]


def test_a_lost_answer_makes_one_run(server_url: str, kind: str, name: str) -> None:
    with opened(kind, server_url) as client:
        deployment_id = client.create_deployment(name, "d")
    place = f"/api/deployments/{deployment_id}"
    transport = LosingAnswers(f"{place}/create_flow_run")

    async def no_time_async(seconds: float) -> None:
        del seconds

    def no_time(seconds: float) -> None:
        del seconds

    options = {"transport": transport, "sleep": no_time if kind == "sync" else no_time_async}
    with opened(kind, server_url, httpx_settings=options) as client:
        run = client.create_flow_run_from_deployment(deployment_id)
        assert transport.lost == 1
        runs = client.read_flow_runs(flow_filter=of(name))
    assert [each.id for each in runs] == [run.id]


@both.since("3.6.16")
def test_a_lost_answer_makes_each_of_many_runs_once(server_url: str, kind: str, name: str) -> None:
    with opened(kind, server_url) as client:
        deployment_id = client.create_deployment(name, "d")
    transport = LosingAnswers(f"/api/deployments/{deployment_id}/create_flow_run/bulk")

    async def no_time_async(seconds: float) -> None:
        del seconds

    def no_time(seconds: float) -> None:
        del seconds

    options = {"transport": transport, "sleep": no_time if kind == "sync" else no_time_async}
    with opened(kind, server_url, httpx_settings=options) as client:
        many = created(client, deployment_id, [{"idempotency_key": key} for key in "ab"])
        assert transport.lost == 1
        runs = client.read_flow_runs(flow_filter=of(name))
    assert {each.id for each in runs} == {each.flow_run_id for each in many}
    assert len(runs) == 2


@both.since("3.6.16")
def test_many_runs_are_created(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d", tags=["x"], parameter_openapi_schema=SCHEMA)
    later = datetime(2031, 1, 1, tzinfo=timezone.utc)
    results = created(
        client,
        deployment_id,
        [
            {
                "parameters": {"day": "monday"},
                "name": "first",
                "scheduled_time": later,
                "idempotency_key": "1",
            },
            {"parameters": {"day": 1}},
            {
                "parameters": {"day": "friday"},
                "state": "PENDING",
                "tags": ["y"],
                "idempotency_key": "3",
            },
        ],
    )
    assert results.model is FlowRunCreateResult
    assert [result.status for result in results] == ["CREATED", "FAILED", "CREATED"]
    assert "1 is not of type 'string'" in results[1].error
    assert results[1].full_error is None
    first, third = (client.read_flow_run(results[index].flow_run_id) for index in (0, 2))
    assert (first.name, first.parameters, first.expected_start_time) == (
        "first",
        {"day": "monday"},
        later,
    )
    assert (third.state_type, sorted(third.tags)) == (StateType.PENDING, ["x", "y"])
    with pytest.raises(TypeError, match="'parametres'"):
        client.bulk_create_flow_runs_from_deployment(deployment_id, [{"parametres": {}}])


@both.since("3.6.16")
def test_what_a_database_says_of_one_of_many_runs_is_told_without_its_statement(
    client: Any, name: str
) -> None:
    deployment_id = client.create_deployment(name, "d")
    run = {"parent_task_run_id": NOBODY, "name": name}
    (result,) = created(client, deployment_id, [run])
    assert (result.status, result.error) == ("FAILED", "FOREIGN KEY constraint failed")
    assert "INSERT INTO flow_run" in result.full_error
    assert name in result.full_error
    assert "INSERT" not in repr(result)


# Parameters.


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_sent(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d", parameter_openapi_schema=SCHEMA)
    given = {"dya": "s3cret-value", "rows": 1, "mood": "s3cret-value"}
    with pytest.raises(InvalidParameters) as caught:
        client.create_flow_run_from_deployment(f"{name}/d", parameters=given)
    error = caught.value
    assert isinstance(error, ValueError)
    assert {row.location: (row.message, row.type) for row in error.fields} == {
        "parameters.dya": ("is not a parameter of the flow. Did you mean 'day'?", "unknown"),
        "parameters.mood": ("is not a parameter of the flow. Did you mean 'mode'?", "unknown"),
        "parameters.day": ("is missing", "required"),
    }
    assert str(error).startswith(f"Deployment '{name}/d' does not take these parameters: ")
    assert all(row.location in str(error) for row in error.fields)
    assert "day (required), rows, share" in error.hint
    assert "s3cret" not in f"{error!s} {error!r} {error.fields} {error.hint}"
    assert "\n" not in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.fields, copy.hint) == (str(error), error.fields, error.hint)
    assert client.count_flow_runs(deployment_filter={"id": {"any_": [str(deployment_id)]}}) == 0


def test_the_deployments_own_parameters_count(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(
        name, "d", parameters={"day": "monday"}, parameter_openapi_schema=SCHEMA
    )
    assert client.create_flow_run_from_deployment(deployment_id).parameters == {"day": "monday"}
    with pytest.raises(PrefectHTTPStatusError, match="1 is not of type 'string'"):
        client.create_flow_run_from_deployment(deployment_id, parameters={"day": 1})


def test_what_is_not_enforced_is_not_checked(client: Any, name: str) -> None:
    strict = client.create_deployment(name, "strict", parameter_openapi_schema=SCHEMA)
    loose = client.create_deployment(
        name, "loose", parameter_openapi_schema=SCHEMA, enforce_parameter_schema=False
    )
    wrong = {"parameters": {"rows": "x", "z": 1}}
    for deployment, more in ((loose, {}), (strict, {"enforce_parameter_schema": False})):
        run = client.create_flow_run_from_deployment(deployment, **wrong, **more)
        assert run.parameters == wrong["parameters"]
    for deployment, more in ((strict, {}), (loose, {"enforce_parameter_schema": True})):
        with pytest.raises(InvalidParameters):
            client.create_flow_run_from_deployment(deployment, **wrong, **more)


def test_values_are_checked_as_they_are_sent(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d", parameter_openapi_schema=SCHEMA)
    moment = datetime(2026, 1, 2, tzinfo=timezone.utc)
    run = client.create_flow_run_from_deployment(
        deployment_id, parameters={"day": moment, "names": ("a", "b")}
    )
    assert run.parameters == {"day": "2026-01-02T00:00:00Z", "names": ["a", "b"]}
    with pytest.raises(ValueError, match=r"parameters\.rows cannot be sent as JSON"):
        client.create_flow_run_from_deployment(deployment_id, parameters={"rows": float("nan")})


JINJA = {"__prefect_kind": "jinja", "template": "{{ 1 }}"}
NESTED = {"A": {"type": "object", "properties": {"b": {"type": "integer"}}}}
INNER = {"a": {"b": None}}
CASES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    *(
        (SCHEMA, parameters)
        for parameters in (
            {},
            {"day": "x"},
            {"day": None},
            {"day": "x", "rows": None},
            {"day": "x", "rows": 0},
            {"day": "x", "rows": 1.0},
            {"day": "x", "rows": True},
            {"day": "x", "rows": 10**400},
            {"day": "x", "share": None},
            {"day": "x", "share": "1"},
            {"day": "x", "mode": None},
            {"day": "x", "mode": "slow"},
            {"day": "x", "either": 3},
            {"day": "x", "names": None},
            {"day": "x", "names": [None]},
            {"day": "x", "size": None},
            {"day": "x", "size": {"width": 1, "height": None}},
            {"day": "x", "size": {"width": None}},
            {"day": "x", "size": {"width": 1, "depth": 1}},
            {"day": "x", "size": {"width": JINJA}},
            {"day": JINJA},
            {"day": "x", "rows": {"__prefect_kind": "json", "value": "3"}},
            {"day": "x", "rows": {"__prefect_kind": "none", "value": 3}},
        )
    ),
    ({}, {"anything": 1}),
    ({"type": "object", "properties": {}}, {"anything": 1}),
    ({"type": "object", "properties": {"a": {}}, "additionalProperties": True}, {"b": 1}),
    ({"type": "object", "properties": {"a": {}}, "patternProperties": {"^b": {}}}, {"b": 1}),
    ({"properties": {"a": {"type": "array", "items": [{"type": "integer"}]}}}, {"a": [1]}),
    ({"properties": {"a": {"type": "array", "prefixItems": [{"type": "integer"}]}}}, {"a": ["x"]}),
    ({"properties": {"a": {"type": "string", "format": "date-time"}}}, {"a": "no date"}),
    ({"properties": {"a": {"type": "string", "pattern": "^x"}}}, {"a": "y"}),
    ({"properties": {"a": {"oneOf": [{"minimum": 3}, {"type": "string"}]}}}, {"a": 1}),
    ({"properties": {"a": {"allOf": [{"$ref": "#/definitions/A"}]}}, "definitions": NESTED}, INNER),
    ({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": NESTED}, INNER),
    ({"properties": {"a": NESTED["A"]}}, INNER),
    ({"properties": {"a": {"type": "array", "items": NESTED["A"]}}}, {"a": [INNER["a"]]}),
    ({"properties": {"a": {"type": "object", "additionalProperties": False}}}, {"a": {"b": 1}}),
    ({"properties": {"a": {"uniqueItems": True}}}, {"a": [1, 1]}),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "parameters"), CASES, ids=range(len(CASES)))
def test_what_the_server_takes_is_taken_and_what_it_refuses_is_refused(
    server_url: str, name: str, schema: dict[str, Any], parameters: dict[str, Any]
) -> None:
    with opened("sync", server_url) as client:
        deployment_id = client.create_deployment(name, "d", parameter_openapi_schema=schema)

        def create_past_the_check() -> None:
            place = f"/deployments/{deployment_id}/create_flow_run"
            client.request("POST", place, json={"parameters": parameters})

        def create() -> None:
            client.create_flow_run_from_deployment(deployment_id, parameters=parameters)

        refused = _status(create_past_the_check)
        assert refused in (None, 409)
        if "day" in schema.get("required", ()) and "day" not in parameters:
            with pytest.raises(InvalidParameters):
                create()
        else:
            assert _status(create) == refused


def _status(create: Callable[[], None]) -> int | None:
    """The status of the server's error; None if there is none."""
    try:
        create()
    except PrefectHTTPStatusError as exc:
        return exc.status_code
    return None


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (
            "create_flow_run_from_deployment",
            {"parameters": {"day": "x", "rows": {"__prefect_kind": "json", "value": '"three"'}}},
        ),
        ("update_deployment", {"parameters": {"day": "x", "rows": "three"}}),
    ],
)
def test_parameters_that_the_server_refuses_are_not_said_to_exist(
    client: Any, name: str, operation: str, arguments: dict[str, Any]
) -> None:
    """It answers 409 to them."""
    deployment_id = client.create_deployment(name, "d", parameter_openapi_schema=SCHEMA)
    with pytest.raises(PrefectHTTPStatusError, match="'three' is not of type 'integer'") as caught:
        getattr(client, operation)(deployment_id, **arguments)
    assert type(caught.value).__name__ == "PrefectHTTPStatusError"
    assert str(caught.value).startswith("The server could not ")
    assert "parameters" in str(caught.value).partition(": 409 Conflict for ")[0]
    assert caught.value.hint.startswith("Correct what the server reports")


def test_a_schema_that_cannot_be_used_is_left_to_the_server(server_url: str, name: str) -> None:
    """None of them is followed to another address, or ends in an error of ours."""
    schemas: list[dict[str, Any]] = [
        {"properties": {"a": {"type": "nonsense"}}},
        {"properties": {"a": {"$ref": "#/definitions/Missing"}}},
        {"properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}},
        {"properties": {"a": {"$ref": "#/properties/a"}}},
        {"properties": {"a": {"pattern": "("}}},
    ]
    with opened("sync", server_url) as client:
        for index, schema in enumerate(schemas):
            try:
                deployment_id = client.create_deployment(
                    name, f"d{index}", parameter_openapi_schema=schema
                )
            except PrefectHTTPStatusError:
                continue  # the server does not have it
            _status(
                lambda found=deployment_id: client.create_flow_run_from_deployment(
                    found, parameters={"a": "x"}
                )
            )


@pytest.mark.parametrize(
    "schema",
    [
        *({"properties": properties, "required": 3} for properties in (3, ["a"], None, {"a": 3})),
        {"properties": {"a": {"pattern": "^(a|a)*$", "default": "a" * 40 + "!"}}},
        {"properties": {"a": {}}, "patternProperties": {"^(a|a)*$": {}}},
        {"properties": {"a": {"anyOf": [{"allOf": [{"$ref": "#/properties/a"}] * 2}] * 2}}},
        {"properties": {"a": {"uniqueItems": True, "default": [{"a": n} for n in range(6000)]}}},
        {"properties": {"a": {"multipleOf": 0.1}, **{f"p{n}": {} for n in range(20_000)}}},
    ],
    ids=range(9),
)
@pytest.mark.timeout(10)  # a second would do
def test_whatever_a_schema_asks_for_takes_no_time_and_is_left_to_the_server(
    kind: str, schema: dict[str, Any]
) -> None:
    """The real server takes hardly any such; another may send it."""
    row = {"id": RUN_ID, "flow_id": FLOW_ID, "name": "d", "parameter_openapi_schema": schema}
    transport = Scripted(lambda _: httpx.Response(200, json=row))
    options = {"transport": transport, "enable_csrf_support": False}
    value = ["a" * 40 + "!", *({"a": number} for number in range(6000))]
    with opened(kind, "http://orch.invalid/api", httpx_settings=options) as client:
        assert client.create_flow_run_from_deployment(RUN_ID, parameters={"a": value}).name == "d"


def test_a_similar_name_is_looked_for_among_so_many_only() -> None:
    properties = {f"parameter_{number}": {} for number in range(200_000)}
    deployment = Deployment.model_construct(
        parameters={}, parameter_openapi_schema={"properties": properties}
    )
    with pytest.raises(InvalidParameters, match="Did you mean 'parameter_1'"):
        check_parameters(deployment, "It", {"paramete_1": 1})


@pytest.mark.parametrize("required", [3, None, "day"])
def test_a_hint_does_without_a_broken_list_of_what_is_required(required: Any) -> None:
    schema = {"properties": {"day": {}, "y": {}}, "required": required}
    deployment = Deployment.model_construct(parameters={}, parameter_openapi_schema=schema)
    with pytest.raises(InvalidParameters, match="is not a parameter of the flow") as caught:
        check_parameters(deployment, "It", {"b": 1})
    assert caught.value.hint == "The flow's parameters are day, y."


@pytest.mark.parametrize(
    ("operation", "arguments", "words"),
    [
        ("read_deployment", (NOBODY,), "deployment with the id"),
        ("update_deployment", (NOBODY, {"paused": True}), "deployment with the id"),
        ("pause_deployment", (NOBODY,), "deployment with the id"),
        ("resume_deployment", (NOBODY,), "deployment with the id"),
        ("delete_deployment", (NOBODY,), "deployment with the id"),
        ("create_deployment_schedules", (NOBODY, [CRON]), "deployment with the id"),
        ("read_deployment_schedules", (NOBODY,), "deployment with the id"),
        ("delete_deployment_schedule", (NOBODY, NOBODY), "schedule"),
        ("create_flow_run_from_deployment", (NOBODY,), "deployment with the id"),
        pytest.param(
            "bulk_create_flow_runs_from_deployment",
            (NOBODY, []),
            "deployment with the id",
            marks=both.since("3.6.16"),
        ),
    ],
)
def test_a_404_says_what_was_not_found(
    client: Any, operation: str, arguments: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(ObjectNotFound, match=f"^There is no {words} '{NOBODY}'.*: 404 Not Found"):
        getattr(client, operation)(*arguments)


def test_a_schedule_that_is_not_there_is_not_found(client: Any, name: str) -> None:
    deployment_id = client.create_deployment(name, "d")
    with pytest.raises(ObjectNotFound, match=f"There is no schedule '{NOBODY}' of the deployment"):
        client.update_deployment_schedule(deployment_id, NOBODY, active=False)
    with pytest.raises(ObjectNotFound, match="There is no deployment"):
        client.create_flow_run_from_deployment(NOBODY, enforce_parameter_schema=False)
