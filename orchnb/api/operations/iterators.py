"""Iterators over long results: ``async for run in client.iter_flow_runs(...)``, or ``for`` with the sync
client.

They page in an order that does not change while rows come and go, see `orchnb.api.pagination`. Keywords
are those of the operation that reads one page; ``limit`` is the maximum number of objects, None for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import Unpack

from orchnb.api.operations.artifacts import ArtifactQuery, read_artifacts
from orchnb.api.operations.automations import AutomationQuery, read_automations
from orchnb.api.operations.blocks import BlockDocumentQuery, read_block_documents
from orchnb.api.operations.coercion import Filter
from orchnb.api.operations.concurrency import read_global_concurrency_limits
from orchnb.api.operations.deployments import DeploymentQuery, read_deployments
from orchnb.api.operations.events import read_events, read_events_page
from orchnb.api.operations.filters import EventQuery
from orchnb.api.operations.flow_runs import FlowRunQuery, read_flow_runs
from orchnb.api.operations.flows import FlowQuery, read_flows
from orchnb.api.operations.logs import LogQuery, read_logs
from orchnb.api.operations.task_runs import TaskRunQuery, read_task_runs
from orchnb.api.operations.variables import VariableQuery, read_variables
from orchnb.api.operations.work_pools import WorkPoolQuery, read_work_pools, read_work_queues
from orchnb.api.pagination import Chain, Paging, iteration, pages_of
from orchnb.errors import UnexpectedAnswer
from orchnb.http.calls import Steps

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


@iteration
def iter_flow_runs(limit: int | None = None, **query: Unpack[FlowRunQuery]) -> Paging[FlowRun]:
    """Iterate over flow runs, each once, ordered by id; keywords as in `read_flow_runs`."""
    return Paging(pages_of(read_flow_runs(**query, sort="ID_DESC")), limit)


@iteration
def iter_task_runs(limit: int | None = None, **query: Unpack[TaskRunQuery]) -> Paging[TaskRun]:
    """Iterate over task runs, each once, ordered by id; keywords as in `read_task_runs`."""
    return Paging(pages_of(read_task_runs(**query, sort="ID_DESC")), limit)


@iteration
def iter_flows(limit: int | None = None, **query: Unpack[FlowQuery]) -> Paging[Flow]:
    """Iterate over flows, each once, ordered by name; keywords as in `read_flows`."""
    return Paging(pages_of(read_flows(**query, sort="NAME_ASC")), limit)


@iteration
def iter_deployments(
    limit: int | None = None, **query: Unpack[DeploymentQuery]
) -> Paging[Deployment]:
    """Iterate over deployments, each once, the latest first; keywords as in `read_deployments`.

    They are not ordered by name, because deployments of different flows can have the same name, and
    their order could then change from one page to the next.
    """
    return Paging(pages_of(read_deployments(**query, sort="CREATED_DESC")), limit)


@iteration
def iter_logs(
    limit: int | None = None, *, log_filter: Filter | None = None, **query: Unpack[LogQuery]
) -> Paging[Log]:
    """Iterate over log lines, each once, oldest first; keywords as in `read_logs`.

    Lines logged in the same microsecond have no fixed order, so one can be missed at the end of a page.
    """
    return Paging(pages_of(read_logs(log_filter, sort="TIMESTAMP_ASC", **query)), limit)


@iteration
def iter_events(
    limit: int | None = None, *, filter: Filter | None = None, **query: Unpack[EventQuery]
) -> Chain[Event]:
    """Iterate over events, each once, the latest first; keywords as in `read_events`.

    The server fixes the result at the first page: later events are not included.
    """

    def following(page: EventPage) -> Steps[EventPage] | None:
        try:
            return read_events_page(page.next_page) if page.next_page else None
        except ValueError:
            raise UnexpectedAnswer(
                "The server's URL for the next page of events is not valid"
            ) from None

    return Chain(read_events(filter, **query), following, lambda page: page.events, limit)


@iteration
def iter_artifacts(limit: int | None = None, **query: Unpack[ArtifactQuery]) -> Paging[Artifact]:
    """Iterate over artifacts, each once, ordered by id; keywords as in `read_artifacts`."""
    return Paging(pages_of(read_artifacts(**query, sort="ID_DESC")), limit)


@iteration
def iter_variables(limit: int | None = None, **query: Unpack[VariableQuery]) -> Paging[Variable]:
    """Iterate over variables, each once, ordered by name; keywords as in `read_variables`."""
    return Paging(pages_of(read_variables(**query, sort="NAME_ASC")), limit)


@iteration
def iter_automations(
    limit: int | None = None, **query: Unpack[AutomationQuery]
) -> Paging[Automation]:
    """Iterate over automations, each once, ordered by name; keywords as in `read_automations`.

    Automations with the same name have no fixed order, so one can be missed at the end of a page.
    """
    return Paging(pages_of(read_automations(**query, sort="NAME_ASC")), limit)


@iteration
def iter_block_documents(
    limit: int | None = None, *, include_secrets: bool = True, **query: Unpack[BlockDocumentQuery]
) -> Paging[BlockDocument]:
    """Iterate over block documents, each once, ordered by type and name; keywords as in
    `read_block_documents`."""
    documents = read_block_documents(
        include_secrets=include_secrets, sort="BLOCK_TYPE_AND_NAME_ASC", **query
    )
    return Paging(pages_of(documents), limit)


@iteration
def iter_work_pools(limit: int | None = None, **query: Unpack[WorkPoolQuery]) -> Paging[WorkPool]:
    """Iterate over work pools, each once, ordered by name; keywords as in `read_work_pools`."""
    return Paging(pages_of(read_work_pools(**query)), limit)


@iteration
def iter_work_queues(
    limit: int | None = None,
    *,
    work_pool_name: str | None = None,
    work_queue_filter: Filter | None = None,
) -> Paging[WorkQueue]:
    """Iterate over work queues, each once; keywords as in `read_work_queues`. The queues of one work
    pool are ordered by priority, those of all pools by name.

    Queues of different pools with the same name have no fixed order, so one can be missed at the end of
    a page. This cannot happen with a ``work_pool_name``.
    """
    return Paging(pages_of(read_work_queues(work_pool_name, work_queue_filter)), limit)


@iteration
def iter_global_concurrency_limits(limit: int | None = None) -> Paging[GlobalConcurrencyLimit]:
    """Iterate over global concurrency limits, each once, ordered by name."""
    return Paging(pages_of(read_global_concurrency_limits()), limit)


class LongReads:
    """Iterators over long results."""

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
