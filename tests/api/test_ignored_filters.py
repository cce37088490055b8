"""Every filter of every read, on the real Prefect server: it narrows the result, or a warning says that
the server ignores it."""

from __future__ import annotations

import asyncio
import inspect
import uuid
import warnings
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from orchnb import PrefectClient, SyncPrefectClient
from orchnb.api.models import EventPage
from orchnb.api.operations import Operations
from tests.api import both

NOBODY = {"id": {"any_": [str(uuid.uuid4())]}}
NOTHING = {
    "filter": {"event": {"name": ["no-such-event"]}},
    "log_filter": {"flow_run_id": {"any_": [str(uuid.uuid4())]}},
    "worker_filter": {"status": {"any_": ["OFFLINE"]}},
    "block_type_filter": {"slug": {"any_": ["no-such-type"]}},
    "automations": {"name": {"any_": ["no-such-automation"]}},
    "block_schema_type": "no-such-type",
}
"""Filters that nothing matches, where it is not the id that they look at."""
LATEST = {"artifact_filter": {"latest_id": {"any_": [str(uuid.uuid4())]}}}
"""Collections of artifacts have no id of this name."""

POOL = f"pool-{uuid.uuid4()}"
INTERVAL = {"history_start": "1d", "history_interval": 90_000}
REQUIRED: dict[str, dict[str, Any]] = {
    "read_flow_run_history": INTERVAL,
    "read_task_run_history": INTERVAL,
    "read_workers_for_work_pool": {"work_pool_name": POOL},
}

IGNORED = {
    ("read_flows", "work_queue_filter"),
    ("count_flows", "work_queue_filter"),
    ("iter_flows", "work_queue_filter"),
    ("read_block_documents", "block_schema_type"),
}
"""What Prefect's server, as of 3.8, ignores."""


def filters_of(operation: str) -> list[str]:
    """Return the filters that an operation takes; bulk changes are tested elsewhere."""
    method = getattr(SyncPrefectClient, operation)
    return [
        name
        for name in inspect.signature(method).parameters
        if (name.endswith("filter") or name in NOTHING) and not operation.startswith("bulk_")
    ]


OPERATIONS = [
    name
    for name in dir(Operations)
    if hasattr(getattr(SyncPrefectClient, name), "__signature__") and filters_of(name)
]


@pytest.fixture(scope="module")
def client(server_url: str) -> Iterator[SyncPrefectClient]:
    """A client of a server that has something for each read to find."""
    with SyncPrefectClient(server_url) as client:
        name = f"name-{uuid.uuid4()}"
        client.create_work_pool(POOL, type="process")
        client.create_work_queue(name, work_pool_name=POOL)
        deployment = client.create_deployment(name, name, work_pool_name=POOL, work_queue_name=name)
        run = client.create_flow_run_from_deployment(deployment)
        client.create_task_run("load", run.id, "0")
        client.create_artifact(key=name, type="markdown", flow_run_id=run.id)
        client.create_variable(name.replace("-", "_"), value=1)
        client.create_automation(name, trigger=TRIGGER, actions=[{"type": "do-nothing"}])
        kind = client.create_block_type(name=name, slug=name)
        fields = {"title": name, "type": "object", "properties": {}, "block_type_slug": name}
        schema = client.create_block_schema(block_type_id=kind.id, fields=fields, version="1")
        client.create_block_document(
            name=name, data={}, block_type_id=kind.id, block_schema_id=schema.id
        )
        now = datetime.now(timezone.utc)
        line = {"name": "x", "level": 20, "message": "x", "timestamp": now, "flow_run_id": run.id}
        client.create_logs([line])
        client.send_worker_heartbeat(POOL, "worker", 30)
        for _ in range(20):  # the server stores events when it has that many
            client.emit_event("lab.other", "lab.other")
        both.eventually(lambda: client.read_events().total, bool)
        yield client


TRIGGER = {"type": "event", "posture": "Reactive", "expect": ["a"], "threshold": 1, "within": 0}


def found(client: Any, operation: str, **keywords: Any) -> float:
    """How much an operation finds."""
    result = getattr(client, operation)(**REQUIRED.get(operation, {}), **keywords)
    if operation == "average_flow_run_lateness":
        return int(result is not None)  # None for a count of no runs
    if operation.endswith("_history"):
        return sum(state.count_runs for each in result for state in each.states)
    if operation == "count_events":
        return sum(each.count for each in result)
    if isinstance(result, EventPage):
        return result.total
    return result if isinstance(result, int) else len(list(result))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_filter_narrows_the_result_or_a_warning_says_that_it_is_ignored(
    client: SyncPrefectClient, operation: str
) -> None:
    assert found(client, operation)
    for name in filters_of(operation):
        nothing: Any = NOTHING.get(name, NOBODY)
        if "latest" in operation:
            nothing = LATEST.get(name, nothing)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            number = found(client, operation, **{name: nothing})
        messages = [str(each.message) for each in caught if each.category is UserWarning]
        if (operation, name) in IGNORED:
            (message,) = messages
            assert f"Prefect's server ignores {name}" in message
            assert number
        else:
            assert not messages
            assert not number, name


def test_the_warnings_name_the_line_of_the_caller(server_url: str) -> None:
    async def awaited() -> None:
        async with PrefectClient(server_url) as client:
            await client.read_flows(work_queue_filter=NOBODY, limit=1)
            async for _ in client.iter_flows(limit=1, work_queue_filter=NOBODY):
                pass

    def plain() -> None:
        with SyncPrefectClient(server_url) as client:
            client.count_flows(work_queue_filter=NOBODY)
            client.read_block_documents("no-such-type", limit=1)
            next(iter(client.iter_flows(work_queue_filter=NOBODY)), None)

    for function, number in ((lambda: asyncio.run(awaited()), 2), (plain, 3)):
        with pytest.warns(UserWarning, match="Prefect's server ignores") as caught:
            function()
        lines = inspect.getsource(inspect.getmodule(awaited)).splitlines()  # type: ignore[arg-type] # it is this one
        ours = [each for each in caught if "ignores" in str(each.message)]
        assert [each.filename for each in ours] == [__file__] * number
        for each in ours:
            assert "NOBODY" in lines[each.lineno - 1] or "no-such-type" in lines[each.lineno - 1]


def test_the_filter_that_a_warning_suggests_narrows_flows(client: SyncPrefectClient) -> None:
    with pytest.warns(UserWarning, match="use deployment_filter"):
        client.read_flows(work_queue_filter=NOBODY)
    (deployment,) = client.read_deployments(work_pool_filter={"name": {"any_": [POOL]}})
    for queue, number in ((deployment.work_queue_name, 1), ("no-such-queue", 0)):
        wanted = {"work_queue_name": {"any_": [queue]}}
        assert len(client.read_flows(deployment_filter=wanted)) == number
