"""Reads that can be long, as iterators: ``async for run in client.iter_flow_runs(...)``, and ``for`` in
plain code.

They page in an order that does not change while rows come and go, see `orchnb.api.paging`. Keywords are
those of the operation that reads one page; ``limit`` is how many there are to be at most, None for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypedDict
from uuid import UUID

from typing_extensions import Unpack

from orchnb.api.operations.arguments import Filter
from orchnb.api.operations.deployments import read_deployments
from orchnb.api.operations.flow_runs import read_flow_runs
from orchnb.api.operations.flows import read_flows
from orchnb.api.operations.logs import read_logs
from orchnb.api.operations.task_runs import read_task_runs
from orchnb.api.paging import Paging, iteration, pages_of
from orchnb.api.times import When

if TYPE_CHECKING:
    from orchnb.api.models import Deployment, Flow, FlowRun, Log, TaskRun


class NamedQuery(TypedDict, total=False):
    """What flows and deployments are asked for by."""

    flow_filter: Filter | None
    flow_run_filter: Filter | None
    task_run_filter: Filter | None
    deployment_filter: Filter | None
    name_like: str | None
    tags: Iterable[str] | None


class RunQuery(NamedQuery, total=False):
    """What runs are asked for by."""

    state: str | Iterable[str] | None
    since: When | None
    until: When | None


class FlowRunQuery(RunQuery, total=False):
    """What flow runs are asked for by."""

    work_pool_filter: Filter | None
    work_queue_filter: Filter | None
    flow_name: str | None


class TaskRunQuery(RunQuery, total=False):
    """What task runs are asked for by."""

    flow_run_id: UUID | str | None


@iteration
def iter_flow_runs(limit: int | None = None, **query: Unpack[FlowRunQuery]) -> Paging[FlowRun]:
    """Each flow run once, by the keywords of `read_flow_runs`, in the order of the ids."""
    return Paging(pages_of(read_flow_runs(**query, sort="ID_DESC")), limit)


@iteration
def iter_task_runs(limit: int | None = None, **query: Unpack[TaskRunQuery]) -> Paging[TaskRun]:
    """Each task run once, by the keywords of `read_task_runs`, in the order of the ids."""
    return Paging(pages_of(read_task_runs(**query, sort="ID_DESC")), limit)


@iteration
def iter_flows(limit: int | None = None, **query: Unpack[NamedQuery]) -> Paging[Flow]:
    """Each flow once, by the keywords of `read_flows`, in the order of the names."""
    return Paging(pages_of(read_flows(**query, sort="NAME_ASC")), limit)


@iteration
def iter_deployments(limit: int | None = None, **query: Unpack[NamedQuery]) -> Paging[Deployment]:
    """Each deployment once, by the keywords of `read_deployments`, in the order of the names."""
    return Paging(pages_of(read_deployments(**query, sort="NAME_ASC")), limit)


@iteration
def iter_logs(
    limit: int | None = None,
    *,
    log_filter: Filter | None = None,
    flow_run_id: UUID | str | None = None,
    task_run_id: UUID | str | None = None,
) -> Paging[Log]:
    """Each log line once, oldest first, by the keywords of `read_logs`."""
    query = read_logs(
        log_filter, sort="TIMESTAMP_ASC", flow_run_id=flow_run_id, task_run_id=task_run_id
    )
    return Paging(pages_of(query), limit)


class LongReads:
    """Reads that can be long."""

    iter_flow_runs = iter_flow_runs
    iter_task_runs = iter_task_runs
    iter_flows = iter_flows
    iter_deployments = iter_deployments
    iter_logs = iter_logs
