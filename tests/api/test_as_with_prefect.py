"""What code written for Prefect's client relies on, on both clients and both servers."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx
import pytest

import orchnb
from orchnb import (
    AmbiguousReference,
    PrefectClient,
    ReferenceNotFound,
    SyncPrefectClient,
    temporary_settings,
)
from orchnb.api.client import API_VERSION
from orchnb.api.models import EventTrigger, IntervalSchedule, State
from tests.api import both
from tests.api.conftest import opened
from tests.api.fakes import LosingAnswers, Scripted, http_server, tiny_api

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left


def test_states_and_their_details_are_models(client: Any, name: str) -> None:
    run = client.create_flow_run(name, state="SCHEDULED")
    assert isinstance(run.state, State)
    assert (run.state.is_scheduled(), run.state.is_final()) == (True, False)
    assert run.state.state_details.flow_run_id == run.id
    assert run.state.state_details.scheduled_time.tzinfo is not None
    assert (run.empirical_policy.retries, run.total_run_time) == (None, timedelta(0))
    result = client.set_flow_run_state(run.id, "COMPLETED")
    assert result.status.value == "ACCEPT"
    assert client.read_flow_run(run.id).state.is_completed()


def test_a_state_is_sent_as_it_was_made(client: Any, name: str) -> None:
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    state = State(type="SCHEDULED", name="AwaitingRetry")
    state.state_details.scheduled_time = later
    run = client.create_flow_run(name, state=state)
    assert run.state.state_details.scheduled_time == later
    assert (run.state.name, run.state.message) == ("AwaitingRetry", None)
    again = client.create_flow_run(name, state=run.state)
    assert again.state.state_details.scheduled_time == later


# Artifacts.


def test_automations_react_to_artifacts(client: Any, name: str) -> None:
    deployment = client.create_deployment(name, "d")
    client.create_automation(
        f"{name} created",
        trigger=EventTrigger(
            expect={"prefect.artifact.created"}, match={"prefect.resource.name": name}
        ),
        actions=[{"type": "pause-deployment", "source": "selected", "deployment_id": deployment}],
    )

    def is_paused_after(write: Callable[[], Any]) -> Callable[[], bool]:
        """Write each time: the server knows a new automation a moment after it has created it."""
        return lambda: bool((write(), client.read_deployment(deployment).paused)[1])

    artifact = client.create_artifact(key=name, type="markdown", data="# Done")
    create = is_paused_after(lambda: client.create_artifact(key=name))
    assert both.eventually(create, bool)
    client.create_automation(
        f"{name} updated",
        trigger={
            "type": "event",
            "posture": "Reactive",
            "expect": ["prefect.artifact.updated"],
            "match": {"prefect.resource.id": f"prefect.artifact.{artifact.id}"},
            "threshold": 1,
            "within": 0,
        },
        actions=[{"type": "resume-deployment", "source": "selected", "deployment_id": deployment}],
    )
    update = is_paused_after(lambda: client.update_artifact(artifact.id, data="# Done again"))
    assert not both.eventually(update, lambda is_paused: not is_paused)


def test_an_event_that_is_lost_is_no_failure(server_url: str, kind: str, name: str) -> None:
    transport = LosingAnswers("/api/events")
    with opened(kind, server_url, httpx_settings={"transport": transport}) as client:
        artifact = client.create_artifact(key=name, data="a")
        assert transport.lost == 1
        client.update_artifact(artifact.id, data="b")
        assert client.read_artifact(artifact.id).data == "b"


def test_an_event_is_not_waited_for_in_maintenance(kind: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(503, headers={"Prefect-Maintenance": "true"})
        return httpx.Response(200, json={"id": str(uuid.uuid4())})

    transport = Scripted(answer)
    options = {"transport": transport, "enable_csrf_support": False}
    with opened(kind, "http://orch.invalid/api", httpx_settings=options) as client:
        client.create_artifact(key="a")
    assert [request.url.path for request in transport.requests] == [
        "/api/artifacts/",
        "/api/events",
    ]


# Flows and tasks.


def test_a_flow_keeps_its_retries_and_its_version(client: Any, name: str) -> None:
    from prefect import flow

    @flow(name=name, retries=3, retry_delay_seconds=1.5, version="v7")
    def mine() -> None: ...

    run = client.create_flow_run(mine)
    assert run.flow_version == "v7"
    assert (run.empirical_policy.retries, run.empirical_policy.retry_delay) == (3, 2)
    plain = client.create_flow_run(name)
    assert (plain.flow_version, plain.empirical_policy.retries) == (None, None)
    assert plain.flow_id == run.flow_id


@pytest.mark.parametrize("delay", [4, 0.5, [1, 2, 4]], ids=str)
def test_a_task_keeps_its_retries_and_its_version(client: Any, name: str, delay: Any) -> None:
    from prefect import task

    @task(name=name, retries=3, retry_delay_seconds=delay, retry_jitter_factor=0.25, version="v7")
    def mine() -> None: ...

    run = client.create_task_run(mine, None, f"{name} {delay}")
    policy = run.empirical_policy
    assert (run.task_version, policy.retries, policy.retry_delay) == ("v7", 3, delay)
    assert policy.retry_jitter_factor == 0.25
    other = client.create_task_run(mine, None, f"{name} other", empirical_policy={"retries": 9})
    assert other.empirical_policy.retries == 9


def test_the_anchor_of_an_interval_is_kept(client: Any, name: str) -> None:
    from prefect.client.schemas.actions import (
        DeploymentScheduleCreate,
        DeploymentScheduleUpdate,
        DeploymentUpdate,
    )
    from prefect.client.schemas.schedules import IntervalSchedule as Theirs

    hour, anchor = timedelta(hours=1), datetime(2020, 1, 1, 3, tzinfo=timezone.utc)
    deployment = client.create_deployment(name, "d")
    # Prefect's own schedule has an anchor in any case: when it was made.
    for schedule in (
        Theirs(interval=hour, anchor_date=anchor),
        Theirs(interval=hour),
        IntervalSchedule(interval=hour, anchor_date=anchor),
    ):
        nested = DeploymentScheduleCreate.model_construct(schedule=schedule, active=True)
        client.create_deployment_schedules(deployment, [(schedule, False)])
        client.create_deployment_schedules(deployment, [nested])
        schedules = client.read_deployment_schedules(deployment)
        assert [each.schedule.anchor_date for each in schedules] == [schedule.anchor_date] * 2
        assert {each.schedule.interval for each in schedules} == {hour}
        client.update_deployment_schedule(deployment, schedules[0].id, None, schedule)
        for each in client.read_deployment_schedules(deployment):
            assert each.schedule.anchor_date == schedule.anchor_date
            client.delete_deployment_schedule(deployment, each.id)
    theirs = Theirs(interval=hour)
    update = DeploymentUpdate(schedules=[DeploymentScheduleUpdate(schedule=theirs)])
    client.update_deployment(deployment, update)
    (kept,) = client.read_deployment(deployment).schedules
    assert kept.schedule.anchor_date == theirs.anchor_date


# Names in place of ids.


@pytest.mark.parametrize(
    "operation", ["read_deployment", "pause_deployment", "resume_deployment", "delete_deployment"]
)
@pytest.mark.filterwarnings("error:There is no flow")
def test_a_deployment_is_called_by_its_name(client: Any, name: str, operation: str) -> None:
    name = name[:13]
    for not_an_id in ("nope", f"{name}/{name}", "ab cd/x/y", "abcd1234"):
        with pytest.raises(ReferenceNotFound, match=f"no deployment .* id '{not_an_id}'"):
            getattr(client, operation)(not_an_id)
    for reference in (name, f"{name}/{name}", 13, None):
        its_id = client.create_deployment(name, name)
        if reference is None:
            getattr(client, operation)(client.read_deployment(its_id))
        else:
            getattr(client, operation)(str(its_id)[:13] if reference == 13 else reference)
    other = client.create_flow_from_name(f"{name}-other")
    both_ids = {client.create_deployment(name, name), client.create_deployment(other, name)}
    with pytest.raises(AmbiguousReference, match=f"'{name}-other/{name}'") as caught:
        getattr(client, operation)(name)
    assert set(caught.value.candidates) == both_ids


# Requests and clients.


def test_a_path_is_filled_in(client: Any, name: str) -> None:
    flow_id = client.create_flow_from_name(name)
    found = client.request("GET", "/flows/{id}", path_params={"id": flow_id})
    assert found.json()["name"] == name
    asked = client.request("POST", "/flows/filter", {"a": 1}, None, json={"limit": 1})
    assert asked.request.url.query == b"a=1"
    odd = "a/../b?c#d {x}"
    with pytest.raises(orchnb.PrefectHTTPStatusError) as caught:
        client.request("GET", "/flows/name/{flow}", path_params={"flow": odd})
    assert caught.value.request.url.raw_path.endswith(b"/name/a%2F..%2Fb%3Fc%23d%20%7Bx%7D")
    with pytest.raises(ValueError, match="a value for 'id'"):
        client.request("GET", "/flows/{id}", path_params={"other": 1})


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, API_VERSION),
        ({"api_version": "0.8.1"}, "0.8.1"),
        ({"httpx_settings": {"headers": {"x-prefect-api-version": "0.8.2"}}}, "0.8.2"),
    ],
)
def test_the_version_of_the_api_is_sent(kind: str, options: dict[str, Any], sent: str) -> None:
    came: list[list[str] | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
        came.append(handler.headers.get_all("X-PREFECT-API-VERSION"))
        return 200, {"content-type": "application/json"}, b'"3.8.8"'

    with http_server(answer) as url, opened(kind, f"{url}/api", **options) as asked:
        asked.api_version()
    assert came[-1] == [sent]


def test_the_version_is_that_of_prefects_client() -> None:
    from prefect.client.constants import SERVER_API_VERSION

    assert SERVER_API_VERSION >= API_VERSION


def test_the_clients_version() -> None:
    for kind in (PrefectClient, SyncPrefectClient):
        assert kind(tiny_api).client_version() == orchnb.__version__


def test_links_lead_where_the_setting_says() -> None:
    api = "http://127.0.0.1:4200/api"
    with temporary_settings(api_url=api, ui_url="https://pages.invalid/prefect/"):
        for kind in (PrefectClient, SyncPrefectClient):
            assert kind(api).ui_url == "https://pages.invalid/prefect"
            assert kind("http://other.invalid/api").ui_url == "http://other.invalid"


# Pages of events.


@pytest.mark.anyio
async def test_the_next_page_of_events(server_url: str, name: str, kind: str) -> None:
    with SyncPrefectClient(server_url) as writer:
        for _ in range(20):  # the server writes them down in batches
            writer.emit_event("lab.thing", name)
        mine = {"resource": {"id": [name]}}
        both.eventually(lambda: writer.read_events(mine), lambda page: page.total >= 20)
        first = writer.read_events(mine, limit=10)
        if kind == "sync":
            second = first.get_next_page(writer)
            assert second is not None
            assert first.get_next_page_sync(writer) == second
            assert (second.get_next_page(writer), second.get_next_page_sync(writer)) == (None, None)
        else:
            async with PrefectClient(server_url) as reader:
                second = await first.get_next_page(reader)
                assert second is not None
                assert await second.get_next_page(reader) is None
    assert len({event.id for page in (first, second) for event in page.events}) == 20
