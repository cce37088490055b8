"""Work pools, workers and queues, on both clients and both servers."""

from __future__ import annotations

import uuid
import warnings
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from orchnb import ObjectAlreadyExists, ObjectNotFound
from orchnb.api.models import (
    FlowRun,
    ModelList,
    State,
    Worker,
    WorkerFlowRun,
    WorkPool,
    WorkQueue,
)
from tests.api import both

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left


@pytest.fixture
def pool(client: Any, name: str) -> WorkPool:
    created = client.create_work_pool(name, type="process")
    assert isinstance(created, WorkPool)
    return created


# Pools.


def test_a_pool_comes_back_as_it_was_created(client: Any, name: str) -> None:
    template = {
        "job_configuration": {"command": "{{ command }}"},
        "variables": {"properties": {"command": {"type": "string"}}},
    }
    created = client.create_work_pool(
        name=name,
        type="process",
        description="for the lab",
        base_job_template=template,
        is_paused=True,
        concurrency_limit=3,
    )
    found = client.read_work_pool(name)
    assert found.id == created.id
    assert (found.name, found.type, found.description) == (name, "process", "for the lab")
    assert (found.base_job_template, found.concurrency_limit) == (template, 3)
    assert (found.is_paused, found.status) == (True, "PAUSED")
    assert found.created.tzinfo is not None


def test_its_fields_may_be_data_or_prefects_objects(client: Any, name: str) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

    client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=1))
    client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=2))
    client.update_work_pool(name, {"description": "d"})
    found = client.read_work_pool(name)
    assert (found.concurrency_limit, found.description) == (2, "d")
    client.create_work_pool(found, name=f"{name}-copy")  # one that was read will do
    assert client.read_work_pool(f"{name}-copy").concurrency_limit == 2


def test_pools_are_filtered_paged_and_counted(client: Any, name: str) -> None:
    for letter in "abc":
        client.create_work_pool(f"{name}-{letter}", type="process")
    mine = {"name": {"any_": [f"{name}-{letter}" for letter in "abc"]}}
    pools = client.read_work_pools(work_pool_filter=mine)
    assert isinstance(pools, ModelList)
    assert pools.model is WorkPool
    assert {pool.name[-1] for pool in pools} == set("abc")
    assert len(client.read_work_pools(2, 2, mine)) == 1
    assert client.count_work_pools(work_pool_filter=mine) == 3


def test_a_pool_is_changed_by_what_is_given(client: Any, pool: WorkPool) -> None:
    client.update_work_pool(pool.name, is_paused=True, concurrency_limit=5)
    found = client.read_work_pool(pool.name)
    assert (found.is_paused, found.concurrency_limit) == (True, 5)
    client.update_work_pool(pool.name, concurrency_limit=None)
    found = client.read_work_pool(pool.name)
    assert (found.is_paused, found.concurrency_limit) == (True, None)
    with pytest.raises(ValueError, match="There is nothing to change: give one of description"):
        client.update_work_pool(pool.name)


def test_a_pool_is_overwritten_only_if_that_is_asked_for(client: Any, pool: WorkPool) -> None:
    with pytest.raises(ObjectAlreadyExists, match=f"A work pool '{pool.name}' already exists"):
        client.create_work_pool(pool.name, type="process", description="new")
    changed = client.create_work_pool(
        pool.name, overwrite=True, type="process", description="new", concurrency_limit=1
    )
    assert (changed.id, changed.description, changed.concurrency_limit) == (pool.id, "new", 1)
    assert client.create_work_pool(pool.name, overwrite=True).description == "new"


def test_a_pools_type_stays_and_that_is_told(client: Any, kind: str, pool: WorkPool) -> None:
    with pytest.warns(UserWarning, match="keeps the type 'process'") as caught:
        assert client.create_work_pool(pool.name, True, type="docker").type == "process"
    if kind == "sync":  # the other one is called from a portal here
        ours = [warning for warning in caught if "keeps" in str(warning.message)]
        assert [warning.filename for warning in ours] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        client.create_work_pool(pool.name, True, type="process", description="x")


def test_a_deleted_pool_is_gone(client: Any, pool: WorkPool) -> None:
    assert client.delete_work_pool(pool.name) is None
    with pytest.raises(ObjectNotFound):
        client.read_work_pool(pool.name)


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("read_work_pool", ()),
        ("update_work_pool", ({"is_paused": True},)),
        ("delete_work_pool", ()),
        ("get_scheduled_flow_runs_for_work_pool", ()),
        pytest.param("read_work_pool_concurrency_status", (), marks=both.since("3.6.23")),
        ("read_workers_for_work_pool", ()),
        ("read_work_queues", ()),
        ("match_work_queues", ()),
    ],
)
def test_a_pool_that_is_not_there_is_told(
    client: Any, name: str, operation: str, arguments: tuple[Any, ...]
) -> None:
    arguments = (["a"], name) if operation == "match_work_queues" else (name, *arguments)
    with pytest.raises(ObjectNotFound, match=f"There is no work pool '{name}': 404"):
        getattr(client, operation)(*arguments)


def test_a_queue_needs_its_pool(client: Any, name: str) -> None:
    with pytest.raises(ObjectNotFound, match=f"There is no work pool '{name}': 404"):
        client.create_work_queue("q", work_pool_name=name)
    with pytest.raises(ObjectNotFound, match=f"queue 'q' in the work pool '{name}': 404"):
        client.read_work_queue_by_name("q", name)


def test_a_pool_needs_a_name(client: Any) -> None:
    with pytest.raises(TypeError, match="Missing name"):
        client.create_work_pool(type="process")


# Workers.


def test_a_worker_is_known_by_its_heartbeats(client: Any, pool: WorkPool) -> None:
    for worker in ("one", "two"):
        assert client.send_worker_heartbeat(pool.name, worker, 30) is None
    client.send_worker_heartbeat(pool.name, "one", get_worker_id=True)
    workers = client.read_workers_for_work_pool(pool.name)
    assert isinstance(workers, ModelList)
    assert workers.model is Worker
    assert {worker.name for worker in workers} == {"one", "two"}
    assert {worker.status for worker in workers} == {"ONLINE"}
    assert all(worker.last_heartbeat_time.tzinfo for worker in workers)
    assert client.read_work_pool(pool.name).status == "READY"
    assert len(client.read_workers_for_work_pool(pool.name, limit=1, offset=1)) == 1
    offline = {"status": {"any_": ["OFFLINE"]}}
    assert client.read_workers_for_work_pool(pool.name, offline) == []
    assert len(client.read_workers_for_work_pool(pool.name, status="online")) == 2
    assert client.read_workers_for_work_pool(pool.name, status=["OFFLINE"]) == []
    with pytest.raises(
        ValueError, match="status is given twice: as a keyword, and in worker_filter"
    ):
        client.read_workers_for_work_pool(pool.name, offline, status="online")

    assert client.delete_worker(pool.name, "one") is None
    assert [worker.name for worker in client.read_workers_for_work_pool(pool.name)] == ["two"]
    with pytest.raises(ObjectNotFound, match="There is no worker 'one' of the work pool"):
        client.delete_worker(pool.name, "one")


def test_the_kinds_of_workers_are_told(client: Any) -> None:
    kinds = client.read_worker_metadata()
    process = kinds["prefect"]["process"]
    assert process["type"] == "process"
    assert {"job_configuration", "variables"} <= set(process["default_base_job_configuration"])


# Queues.


def test_a_queue_comes_back_as_it_was_created(client: Any, pool: WorkPool) -> None:
    created = client.create_work_queue(
        "urgent",
        description="first",
        is_paused=True,
        concurrency_limit=2,
        priority=1,
        work_pool_name=pool.name,
    )
    assert isinstance(created, WorkQueue)
    for found in (
        client.read_work_queue(created.id),
        client.read_work_queue(str(created.id)),
        client.read_work_queue_by_name("urgent", pool.name),
    ):
        assert (found.id, found.name, found.description) == (created.id, "urgent", "first")
        assert (found.is_paused, found.concurrency_limit, found.priority) == (True, 2, 1)
        assert found.work_pool_name == pool.name
    with pytest.raises(ObjectAlreadyExists, match="A work queue 'urgent' already exists"):
        client.create_work_queue("urgent", work_pool_name=pool.name)


def test_a_queue_needs_no_pool(client: Any, name: str) -> None:
    created = client.create_work_queue(name)
    assert client.read_work_queue_by_name(name).id == created.id
    assert created.id in [queue.id for queue in client.read_work_queues()]
    assert [queue.id for queue in client.match_work_queues([name])] == [created.id]
    client.delete_work_queue_by_id(created.id)
    with pytest.raises(ObjectNotFound, match=f"There is no work queue '{name}': 404"):
        client.read_work_queue_by_name(name)


def test_queues_are_filtered_paged_and_matched(client: Any, pool: WorkPool) -> None:
    for queue in ("a-1", "a-2", "b-1"):
        client.create_work_queue(queue, work_pool_name=pool.name)
    queues = client.read_work_queues(pool.name)
    assert queues.model is WorkQueue
    assert {queue.name for queue in queues} == {"default", "a-1", "a-2", "b-1"}
    one = {"name": {"any_": ["a-2"]}}
    assert [queue.name for queue in client.read_work_queues(pool.name, one)] == ["a-2"]
    assert len(client.read_work_queues(pool.name, limit=3, offset=2)) == 2
    matched = client.match_work_queues(["a-", "b"], pool.name)
    assert matched.model is WorkQueue
    assert {queue.name for queue in matched} == {"a-1", "a-2", "b-1"}
    with pytest.raises(TypeError, match=r"prefixes should be a list of strings: \['a-'\]"):
        client.match_work_queues("a-", pool.name)


def test_a_queue_is_changed_by_what_is_given(client: Any, pool: WorkPool) -> None:
    queue = client.create_work_queue("q", concurrency_limit=2, work_pool_name=pool.name)
    client.update_work_queue(queue.id, name="r", description="new", is_paused=True, priority=1)
    found = client.read_work_queue(queue.id)
    assert (found.name, found.description, found.is_paused) == ("r", "new", True)
    assert (found.priority, found.concurrency_limit) == (1, 2)
    client.update_work_queue(str(queue.id), concurrency_limit=None)
    assert client.read_work_queue(queue.id).concurrency_limit is None
    with pytest.raises(ValueError, match="There is nothing to change"):
        client.update_work_queue(queue.id)


@pytest.mark.parametrize(
    "operation",
    [
        "read_work_queue",
        "delete_work_queue_by_id",
        "get_runs_in_work_queue",
        "read_work_queue_status",
        pytest.param("read_work_queue_concurrency_status", marks=both.since("3.6.23")),
        "update_work_queue",
    ],
)
def test_a_queue_that_is_not_there_is_told(client: Any, operation: str) -> None:
    nobody = uuid.UUID(int=7)
    changes = {"is_paused": True} if operation == "update_work_queue" else {}
    with pytest.raises(ObjectNotFound, match=f"no work queue with the id '{nobody}': 404"):
        getattr(client, operation)(nobody, **changes)


# Runs that wait.


@pytest.fixture
def queue(client: Any, pool: WorkPool) -> WorkQueue:
    """Named after its pool: the server looks for an agent's runs by the name of the queue alone."""
    created: WorkQueue = client.create_work_queue(pool.name, work_pool_name=pool.name)
    return created


@pytest.fixture
def waiting(client: Any, pool: WorkPool, queue: WorkQueue) -> FlowRun:
    """A run in the queue that should have begun a minute ago."""
    moment = datetime.now(timezone.utc) - timedelta(minutes=1)
    late = State.model_validate(
        {"type": "SCHEDULED", "state_details": {"scheduled_time": moment.isoformat()}}
    )
    run: FlowRun = client.create_flow_run(
        pool.name, state=late, work_pool_name=pool.name, work_queue_name=queue.name
    )
    return run


def test_runs_wait_in_pool_and_queue(
    client: Any, pool: WorkPool, queue: WorkQueue, waiting: FlowRun
) -> None:
    runs = client.get_scheduled_flow_runs_for_work_pool(pool.name)
    assert isinstance(runs, ModelList)
    assert runs.model is WorkerFlowRun
    assert [run.flow_run.id for run in runs] == [waiting.id]
    assert (runs[0].work_pool_id, runs[0].work_queue_id) == (pool.id, queue.id)

    long_ago = datetime(2020, 1, 1, tzinfo=timezone.utc)
    assert client.get_scheduled_flow_runs_for_work_pool(pool.name, [queue.name], long_ago) == []
    queued = client.get_runs_in_work_queue(queue.id)
    assert queued.model is FlowRun
    assert [run.id for run in queued] == [waiting.id]
    assert client.get_runs_in_work_queue(queue.id, 5, "1h ago") == []
    in_an_hour = client.get_scheduled_flow_runs_for_work_pool(pool.name, None, "1h")
    assert [run.flow_run.id for run in in_an_hour] == [waiting.id]


def test_the_health_of_a_queue_is_told(client: Any, pool: WorkPool, queue: WorkQueue) -> None:
    before = client.read_work_queue_status(queue.id)
    assert (before.healthy, before.last_polled) == (False, None)
    assert before.health_check_policy.maximum_late_runs is not None

    client.get_scheduled_flow_runs_for_work_pool(pool.name)
    # The server writes it down after it has answered.
    after = both.eventually(
        lambda: client.read_work_queue_status(queue.id), lambda status: status.healthy
    )
    assert after.last_polled.tzinfo is not None


@both.since("3.6.23")
def test_the_runs_that_take_slots_are_told(
    client: Any, pool: WorkPool, queue: WorkQueue, waiting: FlowRun
) -> None:
    client.set_flow_run_state(waiting.id, "RUNNING", force=True)
    of_pool = client.read_work_pool_concurrency_status(pool.name)
    assert (of_pool.active_slots, of_pool.count, of_pool.page) == (1, 2, 1)
    runs = {each.queue_name: each.flow_runs for each in of_pool.queues}
    assert [run.id for run in runs[queue.name]] == [waiting.id]
    assert runs[queue.name][0].time_in_current_state >= timedelta(0)
    none_named = client.read_work_pool_concurrency_status(pool.name, flow_run_limit=0)
    assert [each.flow_runs for each in none_named.queues] == [[], []]
    assert len(client.read_work_pool_concurrency_status(pool.name, 2, limit=1).queues) == 1

    of_queue = client.read_work_queue_concurrency_status(queue.id, limit=5)
    assert (of_queue.active_slots, of_queue.limit) == (1, 5)
    assert of_queue.flow_runs[0].id == waiting.id
