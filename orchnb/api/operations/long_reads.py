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

from orchnb.api.calls import Steps
from orchnb.api.operations.arguments import Filter
from orchnb.api.operations.artifacts import read_artifacts
from orchnb.api.operations.automations import read_automations
from orchnb.api.operations.blocks import read_block_documents
from orchnb.api.operations.concurrency import read_global_concurrency_limits
from orchnb.api.operations.deployments import read_deployments
from orchnb.api.operations.events import read_events, read_events_page
from orchnb.api.operations.flow_runs import read_flow_runs
from orchnb.api.operations.flows import read_flows
from orchnb.api.operations.logs import read_logs
from orchnb.api.operations.task_runs import read_task_runs
from orchnb.api.operations.variables import read_variables
from orchnb.api.operations.work_pools import read_work_pools, read_work_queues
from orchnb.api.paging import Chain, Paging, iteration, pages_of
from orchnb.api.times import When
from orchnb.errors import UnexpectedAnswer

if TYPE_CHECKING:
    from orchnb.api.models import (
        Artifact,
        Automation,
        BlockDocument,
        Deployment,
        Event,
        EventPage,
        Flow,
        FlowRun,
        GlobalConcurrencyLimit,
        Log,
        TaskRun,
        Variable,
        WorkPool,
        WorkQueue,
    )


class NamedQuery(TypedDict, total=False):
    """What flows, deployments and runs are asked for by."""

    flow_filter: Filter | None
    flow_run_filter: Filter | None
    task_run_filter: Filter | None
    deployment_filter: Filter | None
    name_like: str | None
    tags: Iterable[str] | None


class FlowQuery(NamedQuery, total=False):
    """What flows are asked for by."""

    work_pool_filter: Filter | None
    work_queue_filter: Filter | None


class DeploymentQuery(FlowQuery, total=False):
    """What deployments are asked for by."""

    flow_name: str | None


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


class ArtifactQuery(TypedDict, total=False):
    """What artifacts are asked for by."""

    artifact_filter: Filter | None
    flow_run_filter: Filter | None
    task_run_filter: Filter | None
    flow_filter: Filter | None
    deployment_filter: Filter | None
    key: str | None
    key_like: str | None
    type: str | Iterable[str] | None
    flow_run_id: UUID | str | None
    flow_name: str | None


@iteration
def iter_flow_runs(limit: int | None = None, **query: Unpack[FlowRunQuery]) -> Paging[FlowRun]:
    """Each flow run once, by the keywords of `read_flow_runs`, in the order of the ids."""
    return Paging(pages_of(read_flow_runs(**query, sort="ID_DESC")), limit)


@iteration
def iter_task_runs(limit: int | None = None, **query: Unpack[TaskRunQuery]) -> Paging[TaskRun]:
    """Each task run once, by the keywords of `read_task_runs`, in the order of the ids."""
    return Paging(pages_of(read_task_runs(**query, sort="ID_DESC")), limit)


@iteration
def iter_flows(limit: int | None = None, **query: Unpack[FlowQuery]) -> Paging[Flow]:
    """Each flow once, by the keywords of `read_flows`, in the order of the names."""
    return Paging(pages_of(read_flows(**query, sort="NAME_ASC")), limit)


@iteration
def iter_deployments(
    limit: int | None = None, **query: Unpack[DeploymentQuery]
) -> Paging[Deployment]:
    """Each deployment once, by the keywords of `read_deployments`, the latest first.

    Not by name, as those of several flows may have the same: between two of them no order holds from one
    page to the next.
    """
    return Paging(pages_of(read_deployments(**query, sort="CREATED_DESC")), limit)


@iteration
def iter_logs(
    limit: int | None = None,
    *,
    log_filter: Filter | None = None,
    flow_run_id: UUID | str | None = None,
    task_run_id: UUID | str | None = None,
) -> Paging[Log]:
    """Each log line once, oldest first, by the keywords of `read_logs`.

    Lines of the same microsecond are in no order, so at the end of a page one may be left out.
    """
    query = read_logs(
        log_filter, sort="TIMESTAMP_ASC", flow_run_id=flow_run_id, task_run_id=task_run_id
    )
    return Paging(pages_of(query), limit)


@iteration
def iter_events(
    limit: int | None = None,
    *,
    filter: Filter | None = None,
    event: str | Iterable[str] | None = None,
    resource_id: str | Iterable[str] | None = None,
    since: When | None = None,
    until: When | None = None,
) -> Chain[Event]:
    """Each event once, the latest first, by the keywords of `read_events`.

    The server sets down at the first page what there is: what happens later is not among them.
    """

    def following(page: EventPage) -> Steps[EventPage] | None:
        try:
            return read_events_page(page.next_page) if page.next_page else None
        except ValueError:
            raise UnexpectedAnswer(
                "The server names an address as that of the next page of events that is not one"
            ) from None

    first = read_events(filter, event=event, resource_id=resource_id, since=since, until=until)
    return Chain(first, following, lambda page: page.events, limit)


@iteration
def iter_artifacts(limit: int | None = None, **query: Unpack[ArtifactQuery]) -> Paging[Artifact]:
    """Each artifact once, by the keywords of `read_artifacts`, in the order of the ids."""
    return Paging(pages_of(read_artifacts(**query, sort="ID_DESC")), limit)


@iteration
def iter_variables(
    limit: int | None = None,
    *,
    variable_filter: Filter | None = None,
    name_like: str | None = None,
    tags: Iterable[str] | None = None,
) -> Paging[Variable]:
    """Each variable once, by the keywords of `read_variables`, in the order of the names."""
    query = read_variables(
        variable_filter=variable_filter, name_like=name_like, tags=tags, sort="NAME_ASC"
    )
    return Paging(pages_of(query), limit)


@iteration
def iter_automations(
    limit: int | None = None,
    *,
    automations: Filter | None = None,
    tags: Iterable[str] | None = None,
) -> Paging[Automation]:
    """Each automation once, by the keywords of `read_automations`, in the order of the names.

    Those that have the same name are in no order, so at the end of a page one may be left out.
    """
    query = read_automations(automations=automations, tags=tags, sort="NAME_ASC")
    return Paging(pages_of(query), limit)


@iteration
def iter_block_documents(
    limit: int | None = None,
    *,
    include_secrets: bool = True,
    block_document_filter: Filter | None = None,
    block_type_filter: Filter | None = None,
    block_schema_filter: Filter | None = None,
    name_like: str | None = None,
    block_type_slug: str | Iterable[str] | None = None,
) -> Paging[BlockDocument]:
    """Each block document once, by the keywords of `read_block_documents`, by type and name."""
    query = read_block_documents(
        include_secrets=include_secrets,
        block_document_filter=block_document_filter,
        block_type_filter=block_type_filter,
        block_schema_filter=block_schema_filter,
        name_like=name_like,
        block_type_slug=block_type_slug,
        sort="BLOCK_TYPE_AND_NAME_ASC",
    )
    return Paging(pages_of(query), limit)


@iteration
def iter_work_pools(
    limit: int | None = None,
    *,
    work_pool_filter: Filter | None = None,
    type: str | Iterable[str] | None = None,
) -> Paging[WorkPool]:
    """Each work pool once, by the keywords of `read_work_pools`, in the order of the names."""
    return Paging(pages_of(read_work_pools(work_pool_filter=work_pool_filter, type=type)), limit)


@iteration
def iter_work_queues(
    limit: int | None = None,
    *,
    work_pool_name: str | None = None,
    work_queue_filter: Filter | None = None,
) -> Paging[WorkQueue]:
    """Each work queue once, by the keywords of `read_work_queues`: those of one work pool in the order
    of their priorities, else all in the order of the names.

    Queues of several pools that have the same name are in no order, so at the end of a page one may be
    left out; by work pool none is.
    """
    return Paging(pages_of(read_work_queues(work_pool_name, work_queue_filter)), limit)


@iteration
def iter_global_concurrency_limits(limit: int | None = None) -> Paging[GlobalConcurrencyLimit]:
    """Each global concurrency limit once, in the order of the names."""
    return Paging(pages_of(read_global_concurrency_limits()), limit)


class LongReads:
    """Reads that can be long."""

    iter_flow_runs = iter_flow_runs
    iter_task_runs = iter_task_runs
    iter_flows = iter_flows
    iter_deployments = iter_deployments
    iter_logs = iter_logs
    iter_events = iter_events
    iter_artifacts = iter_artifacts
    iter_variables = iter_variables
    iter_automations = iter_automations
    iter_block_documents = iter_block_documents
    iter_work_pools = iter_work_pools
    iter_work_queues = iter_work_queues
    iter_global_concurrency_limits = iter_global_concurrency_limits
