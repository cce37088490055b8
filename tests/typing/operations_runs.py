"""The types of operations on runs and deployments as a user meets them. Checked, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from typing_extensions import assert_type

from orchnb import InvalidParameters, PrefectClient, SyncPrefectClient
from orchnb.api.models import (
    Deployment,
    DeploymentSchedule,
    Flow,
    FlowRun,
    FlowRunCreateResult,
    FlowRunGraph,
    FlowRunInput,
    FlowRunOrchestrationResult,
    ModelList,
    OrchestrationResult,
    RunHistory,
    State,
    TaskRun,
)
from orchnb.errors import FieldProblem


async def asynchronous(client: PrefectClient, some_id: UUID, moment: datetime) -> None:
    assert_type(await client.create_flow("etl", tags=["x"]), UUID)
    assert_type(await client.read_flow_by_name("etl"), Flow)
    assert_type(await client.count_flows(), int)
    assert_type(await client.bulk_delete_flows({}, limit=3), list[UUID])
    _renamed = assert_type(client.set_flow_run_name(some_id, "x"), Coroutine[Any, Any, None])
    assert_type(await client.cancel_flow_run("id"), OrchestrationResult)
    assert_type(await client.pause_flow_run(some_id, timeout=60), OrchestrationResult)
    assert_type(await client.read_flow_run_states(some_id), ModelList[State])
    assert_type(await client.read_flow_run_graph(some_id, since="1h"), FlowRunGraph)
    assert_type(await client.average_flow_run_lateness(), float | None)
    history = await client.read_flow_run_history(
        history_start=timedelta(days=1), history_end=moment, history_interval=3600
    )
    assert_type(history, ModelList[RunHistory])
    assert_type(await client.read_flow_run_input(some_id, "key"), str)
    assert_type(await client.filter_flow_run_input(some_id, "k"), ModelList[FlowRunInput])
    results = await client.bulk_set_flow_run_state({}, "FAILED")
    assert_type(results, ModelList[FlowRunOrchestrationResult])
    assert_type(results[0].flow_run_id, UUID)

    assert_type(await client.count_flow_runs(flow_name="etl", state=["FAILED"]), int)
    assert_type(await client.average_flow_run_lateness(since="1h", tags=["x"]), float | None)
    async for run in client.iter_flow_runs(3, flow_name="etl", until=moment):
        assert_type(run, FlowRun)

    assert_type(await client.create_task_run("load", some_id, "0"), TaskRun)
    assert_type(await client.read_task_runs(limit=3), ModelList[TaskRun])

    deployment_id = await client.create_deployment(
        "etl", "nightly", schedules=[{"cron": "0 6 * * *"}, ({"interval": 60}, False)]
    )
    assert_type(deployment_id, UUID)
    assert_type(await client.read_deployment_by_name("etl/nightly"), Deployment)
    schedules = await client.create_deployment_schedules(some_id, [{"interval": 60}])
    assert_type(schedules, ModelList[DeploymentSchedule])
    await client.create_deployment_schedules(some_id, schedules)
    await client.update_deployment(some_id, {"paused": True}, tags=["x"], description=None)
    try:
        created = await client.create_flow_run_from_deployment(
            "etl/nightly", parameters={"a": 1}, scheduled_time=timedelta(hours=1)
        )
    except InvalidParameters as error:
        assert_type(error.fields, tuple[FieldProblem, ...])
    else:
        assert_type(created, FlowRun)

    await client.read_flow_runs(sicne="1h")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.count_task_runs(flow_run_id=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.iter_flow_runs(flow_name=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.create_task_run("load")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.pause_flow_run(some_id, timeout="1h")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def plain(client: SyncPrefectClient, some_id: UUID) -> None:
    assert_type(client.create_flow_run_from_deployment(some_id), FlowRun)
    many = client.bulk_create_flow_runs_from_deployment(some_id, [{"name": "x"}])
    assert_type(many, ModelList[FlowRunCreateResult])
    assert_type(client.read_deployments(), ModelList[Deployment])
    assert_type(client.get_scheduled_flow_runs_for_deployments([some_id]), ModelList[FlowRun])
    client.delete_task_run(some_id)

    client.create_deployment("etl")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client.bulk_delete_flow_runs()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
