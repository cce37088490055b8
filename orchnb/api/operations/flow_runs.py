"""Flow runs and their states."""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterable, Mapping
from typing import Any
from uuid import UUID

from orchnb.api.calls import Call, a, list_of, nothing, operation, path, quoted, without_none
from orchnb.api.models import FlowRun, ModelList, OrchestrationResult, StateType
from orchnb.api.operations.arguments import AnyState, Filter, HasName, as_state, as_tags, as_uuid
from orchnb.api.operations.flows import create_flow_from_name

_flow_run = a(FlowRun)
_flow_runs = list_of(FlowRun)


@operation
def create_flow_run(
    flow: UUID | str | HasName,
    *,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    tags: Iterable[str] | None = None,
    parent_task_run_id: UUID | str | None = None,
    state: AnyState | None = None,
    work_pool_name: str | None = None,
    work_queue_name: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
    labels: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Generator[Call[Any], Any, FlowRun]:
    """Create a run of a flow.

    Args:
        flow: the flow's id or name, or anything that has a ``name``; a flow that a name does not
            find is created.
        name: of the run; by default the server makes one up.
        parameters: what the run is given; must be such as JSON can hold.
        state: the first state, ``PENDING`` by default; a type such as ``"SCHEDULED"`` will do.
        idempotency_key: two calls with the same key make one run. By default a key of its own, so
            that a request whose answer is lost can be sent again without making a second run.
    """
    flow_id = as_uuid(getattr(flow, "id", None)) or as_uuid(flow)
    if flow_id is None:
        flow_name = flow if isinstance(flow, str) else getattr(flow, "name", None)
        if not isinstance(flow_name, str) or not flow_name:
            raise TypeError(
                "flow should be an id, a name, or something that has a name; "
                f"{type(flow).__name__} is none of them"
            )
        flow_id = yield from create_flow_from_name(flow_name)
    run: FlowRun = yield from Call(
        "POST",
        path("/flow_runs/"),
        _flow_run,
        repeatable=True,  # by its idempotency key
        json=without_none(
            flow_id=str(flow_id),
            name=name,
            parameters=dict(parameters or {}),
            context=None if context is None else dict(context),
            tags=as_tags(tags),
            parent_task_run_id=None if parent_task_run_id is None else str(parent_task_run_id),
            state=as_state(StateType.PENDING if state is None else state),
            work_pool_name=work_pool_name,
            work_queue_name=work_queue_name,
            job_variables=None if job_variables is None else dict(job_variables),
            labels=None if labels is None else dict(labels),
            idempotency_key=str(uuid.uuid4()) if idempotency_key is None else idempotency_key,
        ),
        conflict="The server could not make the run: it exists already, or what it refers to, such "
        "as its flow, does not exist",
    )
    return run


@operation
def read_flow_run(flow_run_id: UUID | str) -> Call[FlowRun]:
    """Read a flow run by its id.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    return Call(
        "GET",
        path("/flow_runs/{}", flow_run_id),
        _flow_run,
        missing=f"flow run with the id {quoted(flow_run_id)}",
    )


@operation
def read_flow_runs(
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
) -> Call[ModelList[FlowRun]]:
    """Read flow runs.

    Filters are the API's filter objects, ``sort`` one of its orders (``START_TIME_DESC``,
    ``NAME_ASC``, ...). ``limit`` None leaves the number to the server, which gives 200 at most.
    """
    return Call(
        "POST",
        path("/flow_runs/filter"),
        _flow_runs,
        repeatable=True,
        json=without_none(
            flows=flow_filter,
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=deployment_filter,
            work_pools=work_pool_filter,
            work_pool_queues=work_queue_filter,
            sort=sort,
            limit=limit,
            offset=offset,
        ),
    )


@operation
def set_flow_run_state(
    flow_run_id: UUID | str, state: AnyState, force: bool = False
) -> Call[OrchestrationResult]:
    """Ask the server to put a flow run into a state; the result says what it made of that.

    ``force`` sets the state past the server's rules.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    return Call(
        "POST",
        path("/flow_runs/{}/set_state", flow_run_id),
        a(OrchestrationResult),
        json={"state": as_state(state), "force": force},
        look="read_flow_run",
        missing=f"flow run with the id {quoted(flow_run_id)}",
    )


@operation
def delete_flow_run(flow_run_id: UUID | str) -> Call[None]:
    """Delete a flow run.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    return Call(
        "DELETE",
        path("/flow_runs/{}", flow_run_id),
        nothing,
        missing=f"flow run with the id {quoted(flow_run_id)}",
    )


class FlowRunOperations:
    """Flow runs and their states."""

    create_flow_run = create_flow_run
    read_flow_run = read_flow_run
    read_flow_runs = read_flow_runs
    set_flow_run_state = set_flow_run_state
    delete_flow_run = delete_flow_run
