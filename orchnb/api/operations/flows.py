"""Flows."""

from __future__ import annotations

from uuid import UUID

from orchnb.api.calls import Call, a, list_of, operation, path, quoted, without_none
from orchnb.api.models import Flow, ModelList
from orchnb.api.operations.arguments import Filter

_flow = a(Flow)
_flows = list_of(Flow)


@operation
def create_flow_from_name(flow_name: str) -> Call[UUID]:
    """Make sure that a flow of this name exists, and return its id."""
    return Call(
        "POST",
        path("/flows/"),
        lambda response: _flow(response).id,
        repeatable=True,  # by its name
        json={"name": flow_name},
    )


@operation
def read_flow(flow_id: UUID | str) -> Call[Flow]:
    """Read a flow by its id.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    return Call(
        "GET", path("/flows/{}", flow_id), _flow, missing=f"flow with the id {quoted(flow_id)}"
    )


@operation
def read_flow_by_name(flow_name: str) -> Call[Flow]:
    """Read a flow by its name.

    Raises:
        ObjectNotFound: there is none of that name.
    """
    return Call(
        "GET", path("/flows/name/{}", flow_name), _flow, missing=f"flow {quoted(flow_name)}"
    )


@operation
def read_flows(
    *,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    work_pool_filter: Filter | None = None,
    work_queue_filter: Filter | None = None,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Call[ModelList[Flow]]:
    """Read flows.

    Filters are the API's filter objects, ``sort`` one of its orders (``NAME_ASC``,
    ``CREATED_DESC``, ...). ``limit`` None leaves the number to the server, which gives 200 at most.
    ``work_queue_filter`` is sent as Prefect's client sends it; Prefect's server, 3.8 at least, does
    not look at it here.
    """
    return Call(
        "POST",
        path("/flows/filter"),
        _flows,
        repeatable=True,
        json=without_none(
            flows=flow_filter,
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=deployment_filter,
            work_pools=work_pool_filter,
            work_queues=work_queue_filter,
            sort=sort,
            limit=limit,
            offset=offset,
        ),
    )


class FlowOperations:
    """Flows."""

    create_flow_from_name = create_flow_from_name
    read_flow = read_flow
    read_flow_by_name = read_flow_by_name
    read_flows = read_flows
