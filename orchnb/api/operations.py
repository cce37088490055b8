"""What can be asked of the API, each operation once.

How a function that returns a `Call` becomes a method of both clients stands in `orchnb.api.calls`.
Names and arguments are those of Prefect's client.
"""

from __future__ import annotations

import uuid
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from pydantic import BaseModel

from orchnb.api.calls import (
    Call,
    a,
    json_of,
    list_of,
    nothing,
    operation,
    path,
    quoted,
    response_of,
    without_none,
)
from orchnb.api.models import Flow, FlowRun, ModelList, OrchestrationResult, State, StateType
from orchnb.http.response import PrefectResponse

Filter: TypeAlias = Mapping[str, Any] | BaseModel
"""One of the API's filter objects, as plain data or as a model such as Prefect's ``FlowFilter``."""

AnyState: TypeAlias = State | StateType | str | BaseModel
"""A state, its type such as ``"SCHEDULED"``, or a model of a state such as Prefect's ``State``."""

_flow = a(Flow)
_flows = list_of(Flow)
_flow_run = a(FlowRun)
_flow_runs = list_of(FlowRun)


# The server.


@operation
def hello() -> Call[PrefectResponse]:
    """Say hello; the response is the server's greeting, for testing."""
    return Call("GET", path("/hello"), response_of)


@operation
def api_healthcheck() -> Generator[Call[Any], Any, Exception | None]:
    """None if the API is up, else the error that asking it met; it does not raise."""
    try:
        yield from Call("GET", path("/health"), json_of)
    except Exception as exc:  # noqa: BLE001 - handed over, as promised
        return exc
    return None


@operation
def api_version() -> Call[str]:
    """The server's version, such as ``3.8.8``."""
    return Call("GET", path("/admin/version"), a(str))


# Flows.


@operation
def create_flow_from_name(flow_name: str) -> Call[UUID]:
    """Make sure that a flow of this name exists, and return its id."""
    return Call(
        "POST",
        path("/flows/"),
        lambda response: _flow(response).id,
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


# Flow runs.


class HasName(Protocol):
    """Anything with a name, such as a Prefect flow function."""

    @property
    def name(self) -> Any: ...


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
    flow_id = _as_uuid(getattr(flow, "id", None)) or _as_uuid(flow)
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
        json=without_none(
            flow_id=str(flow_id),
            name=name,
            parameters=dict(parameters or {}),
            context=None if context is None else dict(context),
            tags=_as_tags(tags),
            parent_task_run_id=None if parent_task_run_id is None else str(parent_task_run_id),
            state=_as_state(StateType.PENDING if state is None else state),
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
        json={"state": _as_state(state), "force": force},
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


def _as_uuid(value: object) -> UUID | None:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _as_tags(tags: Iterable[str] | None) -> list[str] | None:
    if isinstance(tags, str):
        raise TypeError(f"tags should be a list of texts: [{tags!r}]")
    return None if tags is None else list(tags)


def _as_state(state: AnyState) -> dict[str, Any]:
    if isinstance(state, BaseModel):
        # What a state is asked for by; id and times of one that was read are the server's to give.
        wanted = {"type", "name", "message", "state_details"}
        return state.model_dump(mode="json", exclude_none=True, include=wanted)
    return {"type": str(state).upper()}


class Operations:
    """What both clients can do."""

    hello = hello
    api_healthcheck = api_healthcheck
    api_version = api_version

    create_flow_from_name = create_flow_from_name
    read_flow = read_flow
    read_flow_by_name = read_flow_by_name
    read_flows = read_flows

    create_flow_run = create_flow_run
    read_flow_run = read_flow_run
    read_flow_runs = read_flow_runs
    set_flow_run_state = set_flow_run_state
    delete_flow_run = delete_flow_run
