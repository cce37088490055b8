"""The types of operations beside runs as a user meets them. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from typing_extensions import assert_type

from orchnb import PrefectClient, SyncPrefectClient
from orchnb.api.models import (
    Artifact,
    ArtifactCollection,
    Automation,
    BlockDocument,
    BlockSchema,
    ConcurrencyLease,
    ConcurrencyLimit,
    EventPage,
    GlobalConcurrencyLimit,
    Log,
    ModelList,
    ServerDefaultResultStorage,
    TakenSlots,
    Variable,
    Worker,
    WorkerFlowRun,
    WorkPool,
    WorkQueue,
)


async def asynchronous(client: PrefectClient, some_id: UUID) -> None:
    assert_type(await client.create_variable("x", value=1, tags=["a"]), Variable)
    assert_type(await client.create_variable({"name": "x"}), Variable)
    assert_type(await client.read_variable_by_name("x"), Variable | None)
    _updated = assert_type(client.update_variable("x", value=None), Coroutine[Any, Any, None])
    assert_type(await client.read_logs(flow_run_id=some_id, limit=3), ModelList[Log])
    assert_type(await client.create_artifact(key="k", type="markdown", data="# x"), Artifact)
    assert_type(await client.read_latest_artifacts(limit=3), ModelList[ArtifactCollection])
    assert_type(await client.create_work_pool("lab", type="process", overwrite=True), WorkPool)
    await client.update_work_pool("lab", concurrency_limit=None, is_paused=True)
    assert_type(await client.read_workers_for_work_pool("lab"), ModelList[Worker])
    assert_type(await client.get_scheduled_flow_runs_for_work_pool("lab"), ModelList[WorkerFlowRun])
    assert_type(await client.create_work_queue("q", work_pool_name="lab"), WorkQueue)
    assert_type(await client.match_work_queues(["q"]), ModelList[WorkQueue])
    assert_type(await client.read_concurrency_limit_by_tag("t"), ConcurrencyLimit)
    assert_type(await client.create_global_concurrency_limit("db", limit=2), UUID)
    assert_type(
        await client.increment_concurrency_slots(["db"], 1, "concurrency"), ModelList[TakenSlots]
    )
    assert_type(await client.increment_v1_concurrency_slots(["t"], some_id), ModelList[TakenSlots])
    assert_type(await client.read_worker_metadata(), dict[str, Any])
    assert_type(await client.read_server_default_result_storage(), ServerDefaultResultStorage)
    _cleared = assert_type(client.clear_server_default_result_storage(), Coroutine[Any, Any, None])
    assert_type(await client.emit_event("a.b", "lab.1", payload={"a": 1}), UUID)
    page = assert_type(await client.read_events(limit=3), EventPage)
    assert_type(page.next_page, str | None)
    assert_type(await client.find_automation("night"), Automation | None)
    assert_type(await client.read_block_document_by_name("db", "secret"), BlockDocument)
    assert_type(
        await client.get_most_recent_block_schema_for_block_type(some_id), BlockSchema | None
    )

    await client.read_latest_artifacts(key=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.count_block_documents(name="db")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.create_automation("night", triger={})  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.read_variables(limit="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.update_work_queue(some_id, priority=None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await client.increment_concurrency_slots(["db"], 1, "luck")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def plain(client: SyncPrefectClient, some_id: UUID) -> None:
    assert_type(client.read_variables(3), ModelList[Variable])
    assert_type(client.count_variables(), int)
    assert_type(client.read_artifact(some_id), Artifact)
    assert_type(client.read_work_pools(), ModelList[WorkPool])
    assert_type(client.read_work_queue_by_name("q", "lab"), WorkQueue)
    assert_type(client.read_global_concurrency_limits(), ModelList[GlobalConcurrencyLimit])
    assert_type(
        client.increment_concurrency_slots_with_lease(["db"], 1, "rate_limit", 60),
        ConcurrencyLease,
    )
    assert_type(client.create_automation("night", trigger={}, actions=[]), UUID)
    assert_type(client.read_block_documents_by_type("secret"), ModelList[BlockDocument])
    client.delete_variable_by_name("x")
    client.set_deployment_paused_state(some_id, paused=True)
    assert_type(client.create_deployment_branch(some_id, "b", overrides={"tags": []}), UUID)

    client.create_variable(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.create_logs("line")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
