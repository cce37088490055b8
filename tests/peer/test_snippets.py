"""Code of the kind that Prefect's documentation of its client shows: with orchnb's ``get_client`` it runs
as it is.

Each snippet makes the calls of one there, with Prefect's own classes for filters, states and schedules,
and runs with both clients.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import prefect
import prefect.exceptions
import pytest
from prefect.client.schemas.actions import (
    ArtifactCreate,
    ArtifactUpdate,
    DeploymentScheduleCreate,
    DeploymentUpdate,
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
    LogCreate,
    VariableCreate,
    VariableUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterName,
    FlowFilter,
    FlowRunFilter,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_runs import wait_for_flow_run
from prefect.settings import PREFECT_API_URL
from prefect.settings import temporary_settings as prefects_settings
from prefect.states import Cancelled, Completed, Running, Scheduled

import orchnb

Snippet = Callable[[Callable[..., Any], str], Awaitable[None]]


@prefect.flow(retries=1)
def a_flow(day: str = "monday") -> None:
    """Is only registered here, never run."""


async def _deployment(client: Any, name: str) -> Any:
    flow_id = await client.create_flow_from_name(name)
    return await client.create_deployment(flow_id=flow_id, name=name)


async def say_hello(get_client: Any, name: str) -> None:
    async with get_client() as client:
        response = await client.hello()
        assert response.json() == "👋"


async def say_hello_without_await(get_client: Any, name: str) -> None:
    with get_client(sync_client=True) as client:
        assert client.hello().json() == "👋"


async def settings_of_httpx(get_client: Any, name: str) -> None:
    async with get_client(httpx_settings={"timeout": 30, "headers": {"X-Team": "lab"}}) as client:
        response = await client.hello()
        assert response.request.headers["X-Team"] == "lab"


async def page_by_page(get_client: Any, name: str) -> None:
    async with get_client() as client:
        deployment_id = await _deployment(client, name)
        for _ in range(5):
            await client.create_flow_run_from_deployment(deployment_id)
        chosen = FlowRunFilter(deployment_id={"any_": [deployment_id]})
        runs: list[Any] = []
        while page := await client.read_flow_runs(
            flow_run_filter=chosen, limit=2, offset=len(runs), sort=FlowRunSort.ID_DESC
        ):
            runs.extend(page)
        assert len({run.id for run in runs}) == 5


async def reschedule_late_runs(get_client: Any, name: str) -> None:
    async with get_client() as client:
        deployment_id = await _deployment(client, name)
        due = datetime.now(timezone.utc) - timedelta(hours=1)
        for hours in range(3):
            state = Scheduled(scheduled_time=due - timedelta(hours=hours))
            await client.create_flow_run_from_deployment(deployment_id, state=state)

        late = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state={"type": {"any_": ["SCHEDULED"]}},
                expected_start_time={"before_": datetime.now(timezone.utc)},
            ),
            deployment_filter=DeploymentFilter(name={"like_": name}),
            sort=FlowRunSort.START_TIME_DESC,
        )
        assert len(late) == 3
        ordered = sorted(late, key=lambda run: run.expected_start_time, reverse=True)
        moved = []
        for run in ordered[:2]:
            await client.delete_flow_run(flow_run_id=run.id)
            again = await client.create_flow_run_from_deployment(
                deployment_id=run.deployment_id,
                state=Scheduled(scheduled_time=run.expected_start_time + timedelta(hours=6)),
            )
            moved.append(again)
        for run in ordered[2:]:
            await client.delete_flow_run(flow_run_id=run.id)
        delays = [
            new.expected_start_time - old.expected_start_time
            for new, old in zip(moved, ordered[:2], strict=True)
        ]
        assert delays == [timedelta(hours=6)] * 2


async def last_completed_runs(get_client: Any, name: str) -> None:
    async with get_client() as client:
        for number in range(3):
            run = await client.create_flow_run(a_flow, name=f"{name}-{number}", tags=[name])
            await client.set_flow_run_state(run.id, Running(), force=True)
            await client.set_flow_run_state(run.id, Completed(message="done"))
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state={"type": {"any_": [StateType.COMPLETED]}}, tags={"all_": [name]}
            ),
            sort=FlowRunSort.END_TIME_DESC,
            limit=2,
        )
        assert [run.name for run in runs] == [f"{name}-2", f"{name}-1"]
        assert all(run.state.is_completed() for run in runs)
        assert all(run.total_run_time > timedelta(0) for run in runs)


async def cancel_running_runs(get_client: Any, name: str) -> None:
    async with get_client() as client:
        for _ in range(2):
            run = await client.create_flow_run(a_flow, tags=[name])
            await client.set_flow_run_state(run.id, Running(), force=True)
        running = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state={"type": {"any_": ["RUNNING"]}}, tags={"all_": [name]}
            )
        )
        results = await asyncio.gather(
            *(client.set_flow_run_state(run.id, state=Cancelled(), force=True) for run in running)
        )
        assert [result.status for result in results] == [SetStateStatus.ACCEPT] * 2
        assert {result.state.type.value for result in results} == {"CANCELLED"}


async def artifacts(get_client: Any, name: str) -> None:
    async with get_client() as client:
        created = await client.create_artifact(
            artifact=ArtifactCreate(key=name, type="markdown", data="# one", description="first")
        )
        await client.update_artifact(created.id, ArtifactUpdate(data="# two"))
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[name]))
        )
        assert [(each.key, each.data) for each in found] == [(name, "# two")]
        await client.delete_artifact(created.id)
        with pytest.raises(prefect.exceptions.ObjectNotFound):
            await client.delete_artifact(created.id)


async def limits_on_tags(get_client: Any, name: str) -> None:
    async with get_client() as client:
        await client.create_concurrency_limit(tag=name, concurrency_limit=10)
        limit = await client.read_concurrency_limit_by_tag(tag=name)
        assert (limit.concurrency_limit, limit.active_slots) == (10, [])
        limits = await client.read_concurrency_limits(limit=200, offset=0)
        assert name in [each.tag for each in limits]
        await client.delete_concurrency_limit_by_tag(tag=name)


async def global_limits(get_client: Any, name: str) -> None:
    async with get_client() as client:
        await client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=name, limit=2, slot_decay_per_second=1.5)
        )
        await client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=3))
        limit = await client.read_global_concurrency_limit_by_name(name)
        assert (limit.limit, limit.slot_decay_per_second) == (3, 1.5)
        await client.delete_global_concurrency_limit_by_name(name)


async def variables(get_client: Any, name: str) -> None:
    name = name.replace("-", "_")
    async with get_client() as client:
        await client.create_variable(VariableCreate(name=name, value={"a": [1]}, tags=["t"]))
        await client.update_variable(VariableUpdate(name=name, value="two"))
        found = await client.read_variable_by_name(name)
        assert (found.value, found.tags) == ("two", ["t"])
        await client.delete_variable_by_name(name)
        assert await client.read_variable_by_name(name) is None


async def work_pools(get_client: Any, name: str) -> None:
    async with get_client() as client:
        await client.create_work_pool(work_pool=WorkPoolCreate(name=name, type="process"))
        await client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=4, is_paused=True))
        pool = await client.read_work_pool(name)
        assert (pool.type, pool.concurrency_limit, pool.is_paused) == ("process", 4, True)
        queue = await client.create_work_queue(name="gpu", work_pool_name=name)
        assert queue.work_pool_name == name
        await client.delete_work_pool(name)


async def deployments_and_schedules(get_client: Any, name: str) -> None:
    async with get_client() as client:
        flow_id = await client.create_flow(prefect.flow(name=name)(lambda: None))
        deployment_id = await client.create_deployment(
            flow_id=flow_id,
            name="nightly",
            schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron="0 3 * * *"))],
            parameters={"day": "monday"},
        )
        hourly = IntervalSchedule(interval=timedelta(hours=1))
        await client.create_deployment_schedules(deployment_id, [(hourly, False)])
        await client.update_deployment(deployment_id, DeploymentUpdate(description="at night"))
        deployment = await client.read_deployment_by_name(f"{name}/nightly")
        assert (deployment.description, deployment.parameters) == ("at night", {"day": "monday"})
        schedules = await client.read_deployment_schedules(deployment_id)
        by_kind = {type(each.schedule).__name__: each for each in schedules}
        assert by_kind["CronSchedule"].schedule.cron == "0 3 * * *"
        assert by_kind["IntervalSchedule"].schedule.interval == timedelta(hours=1)
        assert [each.active for each in by_kind.values()].count(True) == 1
        found = await client.read_deployments(
            flow_filter=FlowFilter(name={"any_": [name]}),
            deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=["nightly"])),
        )
        assert [each.id for each in found] == [deployment_id]


async def run_a_deployment_and_wait(get_client: Any, name: str) -> None:
    async with get_client() as client:
        deployment_id = await _deployment(client, name)
        run = await client.create_flow_run_from_deployment(deployment_id, parameters={"n": 1})
        waiting = asyncio.create_task(
            wait_for_flow_run(flow_run_id=run.id, poll_interval=0, client=client)
        )
        await client.set_flow_run_state(run.id, Completed(message="by hand"), force=True)
        ended = await waiting
        assert ended.state.is_final()
        assert ended.state.message == "by hand"


async def states_and_history(get_client: Any, name: str) -> None:
    async with get_client() as client:
        run = await client.create_flow_run(a_flow, parameters={"day": "friday"}, state=Scheduled())
        assert run.empirical_policy.retries == 1
        result = await client.set_flow_run_state(run.id, Running(), force=True)
        assert result.status == SetStateStatus.ACCEPT
        states = await client.read_flow_run_states(run.id)
        assert [state.type for state in states] == [StateType.SCHEDULED, StateType.RUNNING]
        assert states[0].state_details.scheduled_time is not None
        run = await client.read_flow_run(run.id)
        assert (run.state_name, run.parameters) == ("Running", {"day": "friday"})


async def logs(get_client: Any, name: str) -> None:
    async with get_client() as client:
        run = await client.create_flow_run(a_flow)
        line = LogCreate(
            name="lab",
            level=20,
            message=name,
            timestamp=datetime.now(timezone.utc),
            flow_run_id=run.id,
        )
        await client.create_logs([line])
        chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
        for _ in range(100):
            if found := await client.read_logs(log_filter=chosen):
                break
            await asyncio.sleep(0.1)
        assert [each.message for each in found] == [name]


async def errors(get_client: Any, name: str) -> None:
    async with get_client() as client:
        with pytest.raises(prefect.exceptions.ObjectNotFound):
            await client.read_flow_run(uuid.uuid4())
        await client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        with pytest.raises(prefect.exceptions.ObjectAlreadyExists):
            await client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        with pytest.raises(prefect.exceptions.PrefectHTTPStatusError) as refused:
            await client.request("POST", "/flows/filter", json={"limit": -1})
        assert refused.value.response.status_code == 422


SNIPPETS: list[Snippet] = [
    say_hello,
    say_hello_without_await,
    settings_of_httpx,
    page_by_page,
    reschedule_late_runs,
    last_completed_runs,
    cancel_running_runs,
    artifacts,
    limits_on_tags,
    global_limits,
    variables,
    work_pools,
    deployments_and_schedules,
    run_a_deployment_and_wait,
    states_and_history,
    logs,
    errors,
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:prefect")
@pytest.mark.parametrize("peer", ["orchnb", "prefect"])
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.__name__)
def test_a_snippet_runs_with_both_clients(server_url: str, snippet: Snippet, peer: str) -> None:
    get_client = orchnb.get_client if peer == "orchnb" else prefect.get_client
    name = f"{snippet.__name__.replace('_', '-')}-{peer}"
    # wait_for_flow_run opens a connection of its own for events.
    with (
        orchnb.temporary_settings(api_url=server_url),
        prefects_settings({PREFECT_API_URL: server_url}),
    ):
        asyncio.run(snippet(get_client, name))  # type: ignore[arg-type] # a coroutine


def test_there_are_as_many_as_in_the_documentation() -> None:
    assert len(SNIPPETS) == 17
