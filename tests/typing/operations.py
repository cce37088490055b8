"""The types of both clients as a user meets them. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from typing_extensions import assert_type

from orchnb import PrefectClient, PrefectResponse, SyncPrefectClient
from orchnb.api.models import (
    EnumText,
    Flow,
    FlowRun,
    ModelList,
    OrchestrationResult,
    State,
    StateType,
)


class MyFlow:
    name = "etl"


async def asynchronous(client: PrefectClient, some_id: UUID) -> None:
    _hello = assert_type(client.hello(), Coroutine[Any, Any, PrefectResponse])
    assert_type(await client.api_healthcheck(), Exception | None)
    assert_type(await client.api_version(), str)
    assert_type(await client.create_flow_from_name("etl"), UUID)
    _flow = assert_type(client.read_flow(some_id), Coroutine[Any, Any, Flow])
    assert_type(await client.read_flow("id"), Flow)
    assert_type(await client.read_flow_by_name("etl"), Flow)
    assert_type(await client.read_flows(limit=3, offset=1, sort="NAME_ASC"), ModelList[Flow])
    run = await client.create_flow_run(
        MyFlow(), name="n", parameters={"a": 1}, tags=["x"], state="SCHEDULED", idempotency_key="k"
    )
    assert_type(run, FlowRun)
    assert_type(run.start_time, datetime | None)
    assert_type(run.state_type, StateType | EnumText | None)
    assert run.state is not None
    assert_type(run.state.is_final(), bool)
    _value: str = run.state.type.value
    assert_type(run.state.state_details.flow_run_id, UUID | None)
    assert_type(run.total_run_time, timedelta)
    assert_type(await client.create_flow_run(some_id, state=State(type="PENDING")), FlowRun)
    assert_type(await client.create_flow_run("etl", state=StateType.PENDING), FlowRun)
    assert_type(await client.read_flow_run(some_id), FlowRun)
    assert_type(await client.read_flow_runs(flow_filter={"a": 1}), ModelList[FlowRun])
    assert_type(await client.set_flow_run_state(some_id, "FAILED", force=True), OrchestrationResult)
    _deleted = assert_type(client.delete_flow_run(some_id), Coroutine[Any, Any, None])
    async with client as same:
        assert_type(same, PrefectClient)
    for flow in await client.read_flows():
        assert_type(flow, Flow)

    await client.read_flow(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.read_flow()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.read_flow(flow="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.create_flow_run(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.read_flows(limit="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def plain(client: SyncPrefectClient, some_id: UUID) -> None:
    assert_type(client.hello(), PrefectResponse)
    assert_type(client.api_healthcheck(), Exception | None)
    assert_type(client.api_version(), str)
    assert_type(client.create_flow_from_name("etl"), UUID)
    assert_type(client.read_flow(some_id), Flow)
    assert_type(client.read_flow_by_name("etl"), Flow)
    assert_type(client.read_flows(), ModelList[Flow])
    assert_type(client.create_flow_run("etl", parameters={"a": 1}), FlowRun)
    assert_type(client.read_flow_run(some_id), FlowRun)
    assert_type(client.read_flow_runs(), ModelList[FlowRun])
    assert_type(client.set_flow_run_state(some_id, "FAILED"), OrchestrationResult)
    client.delete_flow_run(some_id)
    with client as same:
        assert_type(same, SyncPrefectClient)

    client.read_flow(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.create_flow_run()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    SyncPrefectClient(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SyncPrefectClient("http://x/api", api_kee="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def unbound(client: PrefectClient, sync_client: SyncPrefectClient) -> None:
    _version = assert_type(PrefectClient.api_version(client), Coroutine[Any, Any, str])
    assert_type(SyncPrefectClient.api_version(sync_client), str)
    reader: Callable[[str], Flow] = sync_client.read_flow_by_name
    assert_type(reader("etl"), Flow)
