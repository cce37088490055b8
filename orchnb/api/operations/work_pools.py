"""Work pools, their queues, and the workers that execute their runs."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import a, created_once, list_of
from orchnb.api.methods import operation, warn_caller
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, as_id, as_list
from orchnb.api.operations.filters import any_of, several, with_words
from orchnb.api.operations.flow_runs import flow_runs_of
from orchnb.api.operations.payloads import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    named,
    quoted,
    required,
    with_id,
    without_none,
)
from orchnb.api.operations.queries import filters_of
from orchnb.api.operations.verbs import change, count, delete, get, search
from orchnb.api.pagination import Paging, every, pages_of
from orchnb.api.times import ToCome, to_come
from orchnb.errors import ObjectAlreadyExists
from orchnb.http.calls import Call, path

if TYPE_CHECKING:
    from orchnb.api.models import (
        FlowRun,
        Worker,
        WorkerFlowRun,
        WorkPool,
        WorkPoolConcurrencyStatus,
        WorkQueue,
        WorkQueueConcurrencyStatus,
        WorkQueueStatusDetail,
    )


_work_pool = a(lambda: models.WorkPool)
_work_pools = list_of(lambda: models.WorkPool)
_work_queue = a(lambda: models.WorkQueue)
_work_queues = list_of(lambda: models.WorkQueue)


@operation
def create_work_pool(
    work_pool: Data | str | None = None,
    overwrite: bool = False,
    *,
    name: str | None = None,
    type: str | None = None,
    description: str | None = None,
    base_job_template: Mapping[str, Any] | None = None,
    is_paused: bool | None = None,
    concurrency_limit: int | None = None,
) -> Generator[Call[Any], Any, WorkPool]:
    """Create a work pool: ``create_work_pool("lab", type="process")``.

    Args:
        work_pool: the pool's name, or its fields.
        overwrite: update the pool if one with that name exists. Its type cannot change; a warning says
            so if another type was requested.
        type: the type of its workers, such as ``process``, ``docker`` or ``kubernetes``.

    Raises:
        ObjectAlreadyExists: a work pool with that name exists, and ``overwrite`` is false.
        TypeError: no name is given.
    """
    fields = fields_of(
        work_pool,
        name=name,
        type=type,
        description=description,
        base_job_template=base_job_template,
        is_paused=is_paused,
        concurrency_limit=concurrency_limit,
    )
    required(fields, "name")
    create = Call(
        "POST",
        path("/work_pools/"),
        _work_pool,
        repeatable=True,  # identified by its name
        look="read_work_pool",
        json=fields,
        conflict=f"A work pool {quoted(fields['name'])} already exists",
    )
    try:
        created = yield from created_once(create, read_work_pool(fields["name"]))
    except ObjectAlreadyExists:
        if not overwrite:
            raise
    else:
        return created
    changes = {key: value for key, value in fields.items() if key not in ("name", "type")}
    if changes:
        yield from update_work_pool(fields["name"], changes)
    pool = yield from read_work_pool(fields["name"])
    if fields.get("type") not in (None, pool.type):
        warn_caller(
            f"The work pool {quoted(pool.name)} keeps the type {quoted(pool.type)}: a pool's type "
            "cannot be changed"
        )
    return pool


@operation
def read_work_pool(work_pool_name: str) -> Call[WorkPool]:
    """Read a work pool by its name.

    Raises:
        ObjectNotFound: there is no work pool with that name.
    """
    return get(
        path("/work_pools/{}", work_pool_name), _work_pool, named("work pool", work_pool_name)
    )


@operation
def read_work_pools(
    limit: int | None = None,
    offset: int = 0,
    work_pool_filter: Filter | None = None,
    *,
    type: str | Iterable[str] | None = None,
) -> Call[ModelList[WorkPool]]:
    """Read work pools: ``read_work_pools(type="process")``, or by the API's filter object.

    With ``limit=None`` the server decides; it returns at most 200.

    Raises:
        ValueError: the type is also in the filter object.
    """
    wanted = with_words(work_pool_filter, "work_pool_filter", {"type": any_of(type)})
    return search(
        path("/work_pools/filter"), _work_pools, work_pools=wanted, limit=limit, offset=offset
    )


class WorkPoolQuery(TypedDict, total=False):
    """Keywords of a query for work pools."""

    work_pool_filter: Filter | None
    type: str | Iterable[str] | None


@operation
def count_work_pools(**query: Unpack[WorkPoolQuery]) -> Call[int]:
    """Return the number of work pools; filter and keyword as in `read_work_pools`."""
    return count(
        path("/work_pools/count"),
        **filters_of(query, work_pool_filter={"type": any_of(query.get("type"))}),
    )


@operation
def update_work_pool(
    work_pool_name: str,
    work_pool: Data | None = None,
    *,
    description: str | Unchanged | None = UNCHANGED,
    is_paused: bool | Unchanged = UNCHANGED,
    base_job_template: Mapping[str, Any] | Unchanged = UNCHANGED,
    concurrency_limit: int | Unchanged | None = UNCHANGED,
) -> Call[None]:
    """Update a work pool: ``update_work_pool("lab", is_paused=True)``.

    ``concurrency_limit=None`` removes its limit.

    Raises:
        ObjectNotFound: there is no work pool with that name.
        ValueError: no changes are given.
    """
    return change(
        path("/work_pools/{}", work_pool_name),
        changes_of(
            work_pool,
            description=description,
            is_paused=is_paused,
            base_job_template=base_job_template,
            concurrency_limit=concurrency_limit,
        ),
        named("work pool", work_pool_name),
    )


@operation
def delete_work_pool(work_pool_name: str) -> Call[None]:
    """Delete a work pool and its queues.

    Raises:
        ObjectNotFound: there is no work pool with that name.
    """
    return delete(path("/work_pools/{}", work_pool_name), named("work pool", work_pool_name))


@operation
def get_scheduled_flow_runs_for_work_pool(
    work_pool_name: str,
    work_queue_names: Iterable[str] | None = None,
    scheduled_before: ToCome | None = None,
) -> Call[ModelList[WorkerFlowRun]]:
    """Read the scheduled runs of a work pool, as its workers do.

    The server treats this as a sign of life: the queues count as polled.

    Args:
        work_queue_names: only runs of these queues.
        scheduled_before: only runs scheduled to start by then: ``"1h"`` is an hour from now.

    Raises:
        ObjectNotFound: there is no work pool with that name.
    """
    return search(
        path("/work_pools/{}/get_scheduled_flow_runs", work_pool_name),
        list_of(lambda: models.WorkerFlowRun),
        missing=named("work pool", work_pool_name),
        work_queue_names=None
        if work_queue_names is None
        else as_list(work_queue_names, "work_queue_names"),
        scheduled_before=None if scheduled_before is None else to_come(scheduled_before),
    )


@operation
def read_work_pool_concurrency_status(
    work_pool_name: str, page: int = 1, limit: int | None = None, flow_run_limit: int = 10
) -> Call[WorkPoolConcurrencyStatus]:
    """Read which runs hold a work pool's slots.

    Args:
        page: the page of its queues, counted from 1.
        limit: queues per page; with None the server decides.
        flow_run_limit: how many runs to list for each queue.

    Raises:
        ObjectNotFound: there is no work pool with that name.
    """
    return search(
        path("/work_pools/{}/concurrency_status", work_pool_name),
        a(lambda: models.WorkPoolConcurrencyStatus),
        missing=named("work pool", work_pool_name),
        page=page,
        limit=limit,
        flow_run_limit=flow_run_limit,
    )


@operation
def read_worker_metadata() -> Call[dict[str, Any]]:
    """Read the available types of workers, by package and type: ``["prefect"]["process"]``.

    Each includes its ``default_base_job_configuration``, the initial job template of a work pool of that
    type. The server looks this up in Prefect's public registry; if it cannot reach the registry, it
    returns the types it knows itself.
    """
    return get(path("/collections/views/aggregate-worker-metadata"), a(lambda: dict[str, Any]))


@operation
def read_workers_for_work_pool(
    work_pool_name: str,
    worker_filter: Filter | None = None,
    offset: int | None = None,
    limit: int | None = None,
    *,
    status: str | Iterable[str] | None = None,
) -> Call[ModelList[Worker]]:
    """Read the workers of a work pool, those with the latest heartbeat first.

    ``status`` is ``"online"`` or ``"offline"``; case does not matter.

    Raises:
        ObjectNotFound: there is no work pool with that name.
        ValueError: a status is given both by keyword and in the filter object.
    """
    statuses = None if status is None else [each.upper() for each in several(status)]
    worker_filter = with_words(worker_filter, "worker_filter", {"status": any_of(statuses)})
    return search(
        path("/work_pools/{}/workers/filter", work_pool_name),
        list_of(lambda: models.Worker),
        missing=named("work pool", work_pool_name),
        workers=worker_filter,
        offset=offset,
        limit=limit,
    )


@operation
def send_worker_heartbeat(
    work_pool_name: str,
    worker_name: str,
    heartbeat_interval_seconds: float | None = None,
    get_worker_id: bool = False,
    worker_metadata: Data | None = None,
) -> Call[UUID | None]:
    """Send a worker's heartbeat; the first one registers the worker.

    Returns the worker's id if it is requested and the server returns it, as Prefect Cloud does.

    Raises:
        ObjectNotFound: there is no work pool with that name.
    """
    return Call(
        "POST",
        path("/work_pools/{}/workers/heartbeat", work_pool_name),
        lambda response: a(lambda: UUID)(response) if get_worker_id and response.content else None,
        repeatable=True,  # identified by its name
        json=without_none(
            name=worker_name,
            heartbeat_interval_seconds=heartbeat_interval_seconds,
            metadata=worker_metadata,
            return_id=get_worker_id or None,
        ),
        missing=named("work pool", work_pool_name),
    )


@operation
def delete_worker(work_pool_name: str, worker_name: str) -> Call[None]:
    """Delete a worker from the server; a running worker comes back with its next heartbeat.

    Raises:
        ObjectNotFound: there is no such work pool, or no such worker in it.
    """
    return delete(
        path("/work_pools/{}/workers/{}", work_pool_name, worker_name),
        f"worker {quoted(worker_name)} of the work pool {quoted(work_pool_name)}",
    )


@operation
def create_work_queue(
    name: str,
    description: str | None = None,
    is_paused: bool | None = None,
    concurrency_limit: int | None = None,
    priority: int | None = None,
    work_pool_name: str | None = None,
) -> Generator[Call[Any], Any, WorkQueue]:
    """Create a work queue.

    Args:
        priority: runs of queues with a lower number come first; 1 is the lowest.
        work_pool_name: by default the server's pool for agents.

    Raises:
        ObjectAlreadyExists: the pool already has a work queue with that name.
        ObjectNotFound: there is no such work pool.
    """
    pool = () if work_pool_name is None else (work_pool_name,)
    create = Call(
        "POST",
        path("/work_pools/{}/queues", *pool) if pool else path("/work_queues/"),
        _work_queue,
        repeatable=True,  # identified by its name
        json=fields_of(
            name,
            description=description,
            is_paused=is_paused,
            concurrency_limit=concurrency_limit,
            priority=priority,
        ),
        conflict=f"A work queue {quoted(name)} already exists",
        missing=named("work pool", work_pool_name) if pool else "",
    )
    return (yield from created_once(create, read_work_queue_by_name(name, work_pool_name)))


@operation
def read_work_queue(id: UUID | str) -> Call[WorkQueue]:
    """Read a work queue by its id.

    Raises:
        ObjectNotFound: there is no work queue with that id.
    """
    return get(
        path("/work_queues/{}", as_id(id, "work_queue_id")), _work_queue, with_id("work queue", id)
    )


@operation
def read_work_queue_by_name(name: str, work_pool_name: str | None = None) -> Call[WorkQueue]:
    """Read a work queue by its name, in a work pool or the server's pool for agents.

    Raises:
        ObjectNotFound: there is no work queue with that name.
    """
    if work_pool_name is None:
        place, pool = path("/work_queues/name/{}", name), ""
    else:
        place = path("/work_pools/{}/queues/{}", work_pool_name, name)
        pool = f" in the work pool {quoted(work_pool_name)}"
    return get(place, _work_queue, f"work queue {quoted(name)}{pool}")


@operation
def read_work_queues(
    work_pool_name: str | None = None,
    work_queue_filter: Filter | None = None,
    limit: int | None = None,
    offset: int | None = None,
) -> Call[ModelList[WorkQueue]]:
    """Read work queues, of one work pool or of all.

    With ``limit=None`` the server decides; it returns at most 200.

    Raises:
        ObjectNotFound: there is no such work pool.
    """
    everywhere = work_pool_name is None
    return search(
        path("/work_queues/filter")
        if everywhere
        else path("/work_pools/{}/queues/filter", work_pool_name),
        _work_queues,
        missing="" if everywhere else named("work pool", work_pool_name),
        work_queues=work_queue_filter,
        limit=limit,
        offset=offset,
    )


@operation
def match_work_queues(
    prefixes: Iterable[str], work_pool_name: str | None = None
) -> Generator[Call[Any], Any, ModelList[WorkQueue]]:
    """Read all work queues whose names begin with one of the prefixes.

    Raises:
        ObjectNotFound: there is no such work pool.
        TypeError: ``prefixes`` is a string; each letter would become a prefix.
    """
    wanted = {"name": {"startswith_": as_list(prefixes, "prefixes")}}
    pages = pages_of(read_work_queues(work_pool_name, wanted))
    queues = yield from every(Paging[models.WorkQueue](pages))
    return ModelList(queues, model=models.WorkQueue)


@operation
def update_work_queue(
    id: UUID | str,
    *,
    name: str | Unchanged = UNCHANGED,
    description: str | Unchanged | None = UNCHANGED,
    is_paused: bool | Unchanged = UNCHANGED,
    concurrency_limit: int | Unchanged | None = UNCHANGED,
    priority: int | Unchanged = UNCHANGED,
) -> Call[None]:
    """Update a work queue; ``concurrency_limit=None`` removes its limit.

    Raises:
        ObjectNotFound: there is no work queue with that id.
        ValueError: no changes are given.
    """
    return change(
        path("/work_queues/{}", as_id(id, "work_queue_id")),
        changes_of(
            None,
            name=name,
            description=description,
            is_paused=is_paused,
            concurrency_limit=concurrency_limit,
            priority=priority,
        ),
        with_id("work queue", id),
    )


@operation
def delete_work_queue_by_id(id: UUID | str) -> Call[None]:
    """Delete a work queue.

    Raises:
        ObjectNotFound: there is no work queue with that id.
    """
    return delete(path("/work_queues/{}", as_id(id, "work_queue_id")), with_id("work queue", id))


@operation
def get_runs_in_work_queue(
    id: UUID | str, limit: int = 10, scheduled_before: ToCome | None = None
) -> Call[ModelList[FlowRun]]:
    """Read the runs waiting in a work queue, as an agent does.

    The server treats this as a sign of life: the queue counts as polled.

    Args:
        scheduled_before: only runs scheduled to start by then, by default now; ``"1h"`` is an hour from
            now.

    Raises:
        ObjectNotFound: there is no work queue with that id.
    """
    before = to_come("now" if scheduled_before is None else scheduled_before)
    return search(
        path("/work_queues/{}/get_runs", as_id(id, "work_queue_id")),
        flow_runs_of,
        missing=with_id("work queue", id),
        limit=limit,
        scheduled_before=before,
    )


@operation
def read_work_queue_status(id: UUID | str) -> Call[WorkQueueStatusDetail]:
    """Read a work queue's status: whether its runs start on time.

    Raises:
        ObjectNotFound: there is no work queue with that id.
    """
    return get(
        path("/work_queues/{}/status", as_id(id, "work_queue_id")),
        a(lambda: models.WorkQueueStatusDetail),
        with_id("work queue", id),
    )


@operation
def read_work_queue_concurrency_status(
    id: UUID | str, page: int = 1, limit: int | None = None
) -> Call[WorkQueueConcurrencyStatus]:
    """Read which runs hold a work queue's slots; pages are counted from 1.

    Raises:
        ObjectNotFound: there is no work queue with that id.
    """
    return search(
        path("/work_queues/{}/concurrency_status", as_id(id, "work_queue_id")),
        a(lambda: models.WorkQueueConcurrencyStatus),
        missing=with_id("work queue", id),
        page=page,
        limit=limit,
    )


class WorkPoolOperations:
    """Work pools, their queues, and the workers that execute their runs."""

    create_work_pool = create_work_pool
    read_work_pool = read_work_pool
    read_work_pools = read_work_pools
    count_work_pools = count_work_pools
    update_work_pool = update_work_pool
    delete_work_pool = delete_work_pool
    get_scheduled_flow_runs_for_work_pool = get_scheduled_flow_runs_for_work_pool
    read_work_pool_concurrency_status = read_work_pool_concurrency_status
    read_worker_metadata = read_worker_metadata
    read_workers_for_work_pool = read_workers_for_work_pool
    send_worker_heartbeat = send_worker_heartbeat
    delete_worker = delete_worker
    create_work_queue = create_work_queue
    read_work_queue = read_work_queue
    read_work_queue_by_name = read_work_queue_by_name
    read_work_queues = read_work_queues
    match_work_queues = match_work_queues
    update_work_queue = update_work_queue
    delete_work_queue_by_id = delete_work_queue_by_id
    get_runs_in_work_queue = get_runs_in_work_queue
    read_work_queue_status = read_work_queue_status
    read_work_queue_concurrency_status = read_work_queue_concurrency_status
