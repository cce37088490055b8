"""Flow runs and their states."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import (
    Filter,
    HasName,
    as_dict,
    as_id,
    as_list,
    as_state,
    as_tags,
    flow_policy,
    version_of,
)
from orchnb.api.operations.filters import RunWords, any_of, run_words
from orchnb.api.operations.flows import check_flow_name, id_of_flow
from orchnb.api.operations.payloads import quoted, with_id, without_none
from orchnb.api.operations.queries import RelatedFilters, filters_of, history
from orchnb.api.operations.references import FlowRunRef, of_flow_run
from orchnb.api.operations.related import with_flow_names
from orchnb.api.operations.schedules import as_seconds
from orchnb.api.operations.unanswered import created_with_keys
from orchnb.api.operations.verbs import change, count, delete, delete_matching, get, search
from orchnb.api.times import When, moment, to_come
from orchnb.errors import ObjectAlreadyExists, PrefectHTTPStatusError
from orchnb.http.calls import Call, Steps, json_of, nothing, path, was_resent
from orchnb.http.json_values import plain_json
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import RESENT

if TYPE_CHECKING:
    from orchnb.api.models import (
        AnyState,
        FlowRun,
        FlowRunGraph,
        FlowRunInput,
        FlowRunOrchestrationResult,
        OrchestrationResult,
        RunHistory,
        State,
    )


flow_run_of: Callable[[PrefectResponse], FlowRun] = a(lambda: models.FlowRun)
flow_runs_of: Callable[[PrefectResponse], ModelList[FlowRun]] = list_of(lambda: models.FlowRun)
states_of: Callable[[PrefectResponse], ModelList[State]] = list_of(lambda: models.State)
_inputs = list_of(lambda: models.FlowRunInput)
_seconds: Callable[[PrefectResponse], float | None] = a(lambda: float | None)  # type: ignore[arg-type, return-value] # a type to pydantic
transition_of: Callable[[PrefectResponse], OrchestrationResult] = a(
    lambda: models.OrchestrationResult
)
_transitions = a(lambda: models.FlowRunOrchestrationResults)


class RunFields(TypedDict, total=False):
    """Fields of a new flow run of a deployment."""

    name: str | None
    parameters: Mapping[str, Any] | None
    context: Mapping[str, Any] | None
    tags: Iterable[str] | None
    parent_task_run_id: UUID | str | None
    state: AnyState | None
    work_queue_name: str | None
    job_variables: Mapping[str, Any] | None
    labels: Mapping[str, Any] | None
    idempotency_key: str | None


def run_fields(run: Mapping[str, Any], state: dict[str, Any] | None) -> dict[str, Any]:
    """Return the fields of a new run in the API's form, with its initial state."""
    fields = {"parameters": {}, **without_none(**run)}
    for name in ("parameters", "context", "job_variables", "labels"):
        if name in fields:
            fields[name] = as_dict(fields[name], name)
    return without_none(**{**fields, "tags": as_tags(fields.get("tags")), "state": state})


@operation
def create_flow_run(
    flow: UUID | str | HasName,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    context: Mapping[str, Any] | None = None,
    tags: Iterable[str] | None = None,
    parent_task_run_id: UUID | str | None = None,
    state: AnyState | None = None,
    work_pool_name: str | None = None,
    work_queue_name: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
    *,
    labels: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> Generator[Call[Any], Any, FlowRun]:
    """Create a flow run. This is only a record: nothing executes it. To execute code, use
    `create_flow_run_from_deployment`.

    Args:
        flow: the flow's id or name, or anything with a ``name``. If no flow has that name, one is
            created. The run has the version, the retries and the retry delay of a Prefect flow.
        name: the run's name; by default the server generates one.
        parameters: the run's parameters; must be JSON-serializable.
        state: the initial state, ``PENDING`` by default; a type such as ``"SCHEDULED"`` is enough.
        idempotency_key: two calls with the same key create one run. By default a new key, so that a
            request whose response is lost can be sent again without creating a second run. If the call
            fails, the same call in the next hour sends the same key, for the same reason.
    """
    flow_id = yield from id_of_flow(flow)
    fields = {
        "name": name,
        "parameters": parameters,
        "context": context,
        "tags": tags,
        "parent_task_run_id": parent_task_run_id,
        "work_pool_name": work_pool_name,
        "work_queue_name": work_queue_name,
        "job_variables": job_variables,
        "labels": labels,
        "idempotency_key": idempotency_key,
    }
    create = Call(
        "POST",
        path("/flow_runs/"),
        flow_run_of,
        repeatable=True,  # identified by its idempotency key
        look="read_flow_runs",
        json=without_none(
            **run_fields(fields, as_state(models.StateType.PENDING if state is None else state)),
            flow_id=str(flow_id),
            flow_version=version_of(flow),
            empirical_policy=flow_policy(flow),
        ),
        refusal="The server could not create the run: something it refers to, such as its flow, does "
        "not exist",
    )
    return (yield from created_with_keys(create))


@operation
@of_flow_run
def read_flow_run(flow_run_id: FlowRunRef) -> Call[FlowRun]:
    """Read a flow run by its id.

    Raises:
        ObjectNotFound: there is no flow run with that id.
    """
    return get(
        path("/flow_runs/{}", as_id(flow_run_id, "flow_run_id")),
        flow_run_of,
        with_id("flow run", flow_run_id),
        after=with_flow_names(),
    )


class FlowRunQuery(RelatedFilters, RunWords, total=False):
    """Keywords of a query for flow runs."""

    work_pool_filter: Filter | None
    work_queue_filter: Filter | None
    flow_name: str | None


def _flow_run_filters(query: FlowRunQuery) -> dict[str, Any]:
    return filters_of(
        query,
        flow_filter={"name": any_of(query.get("flow_name"))},
        flow_run_filter=run_words(query),
    )


@operation
def read_flow_runs(
    *,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    **query: Unpack[FlowRunQuery],
) -> Call[ModelList[FlowRun]]:
    """Read flow runs, the newest first: by when they started, or should start.

    Filters are the API's filter objects; ``sort`` is one of its sort orders (``START_TIME_DESC``,
    ``NAME_ASC``, ...). With ``limit=None`` the server decides; it returns at most 200.

    Keywords: ``state`` takes types such as ``FAILED`` or names such as ``Late``; ``name_like`` is part
    of the name; ``since`` and ``until`` bound the expected start time: a datetime, a date, or how long
    ago as a timedelta or in words (``"1h"``); runs must have all of ``tags``; ``flow_name`` is the name
    of their flow.

    Raises:
        ValueError: a keyword has an invalid value, or repeats a condition of a filter object.
    """
    return search(
        path("/flow_runs/filter"),
        flow_runs_of,
        after=with_flow_names(check_flow_name(query.get("flow_name"), offset)),
        **_flow_run_filters(query),
        sort="START_TIME_DESC" if sort is None else sort,
        limit=limit,
        offset=offset,
    )


@operation
@of_flow_run
def set_flow_run_state(
    flow_run_id: FlowRunRef, state: AnyState, force: bool = False
) -> Call[OrchestrationResult]:
    """Ask the server to set a flow run's state; the result says how it responded.

    ``force`` bypasses the server's orchestration rules. One of those rules makes it safe to resend a
    request whose response is lost, so a forced request is not resent.

    Raises:
        ObjectNotFound: there is no flow run with that id.
    """
    wanted = as_state(state)
    details = {**wanted.get("state_details", {}), "transition_id": str(uuid.uuid4())}
    return Call(
        "POST",
        path("/flow_runs/{}/set_state", as_id(flow_run_id, "flow_run_id")),
        _result_of_a_transition,
        repeatable=not force,
        json={"state": {**wanted, "state_details": details}, "force": force},
        look="read_flow_run",
        missing=with_id("flow run", flow_run_id),
    )


def _result_of_a_transition(response: PrefectResponse) -> OrchestrationResult:
    """Return the result; if an earlier try of the same request succeeded, that one counts.

    The server recognizes the request by its ``transition_id`` and rejects it the second time, with the
    state that it set the first time.
    """
    result = transition_of(response)
    if RESENT in response.extensions and result.status == "REJECT" and result.state is not None:
        sent = json.loads(response.request.content)["state"]["state_details"]["transition_id"]
        now = getattr(result.state.state_details, "transition_id", None)
        if str(now) == sent:
            return result.model_copy(update={"status": "ACCEPT", "details": None})
    return result


@operation
@of_flow_run
def delete_flow_run(flow_run_id: FlowRunRef) -> Call[None]:
    """Delete a flow run.

    Raises:
        ObjectNotFound: there is no flow run with that id.
    """
    return delete(
        path("/flow_runs/{}", as_id(flow_run_id, "flow_run_id")), with_id("flow run", flow_run_id)
    )


@operation
@of_flow_run
def update_flow_run(
    flow_run_id: FlowRunRef,
    flow_version: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    name: str | None = None,
    tags: Iterable[str] | None = None,
    empirical_policy: Filter | None = None,
    infrastructure_pid: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
) -> Call[None]:
    """Update a flow run; each given value replaces the old one.

    ``empirical_policy`` is the API's object for retries, as plain data or a model.

    Raises:
        ObjectNotFound: there is no flow run with that id.
        ValueError: no changes are given.
    """
    given = without_none(
        flow_version=flow_version,
        parameters=parameters,
        name=name,
        tags=as_tags(tags),
        empirical_policy=empirical_policy,
        infrastructure_pid=infrastructure_pid,
        job_variables=job_variables,
    )
    if not given:
        raise ValueError("There is nothing to change: give a name, tags, parameters, ...")
    return change(
        path("/flow_runs/{}", as_id(flow_run_id, "flow_run_id")),
        given,
        with_id("flow run", flow_run_id),
    )


@operation
@of_flow_run
def set_flow_run_name(flow_run_id: FlowRunRef, name: str) -> Call[None]:
    """Rename a flow run.

    Raises:
        ObjectNotFound: there is no flow run with that id.
    """
    return change(
        path("/flow_runs/{}", as_id(flow_run_id, "flow_run_id")),
        {"name": name},
        with_id("flow run", flow_run_id),
    )


@operation
@of_flow_run
def update_flow_run_labels(flow_run_id: FlowRunRef, labels: Mapping[str, Any]) -> Call[None]:
    """Add labels to a flow run; labels with the same name are replaced, all others stay.

    Raises:
        ObjectNotFound: there is no flow run with that id.
    """
    changes = plain_json(as_dict(labels, "labels"), place="labels", users_own=True)
    return change(
        path("/flow_runs/{}/labels", as_id(flow_run_id, "flow_run_id")),
        changes,
        with_id("flow run", flow_run_id),
    )


@operation
@of_flow_run
def cancel_flow_run(flow_run_id: FlowRunRef) -> Steps[OrchestrationResult]:
    """Ask the server to cancel a flow run; the result says how it responded.

    The run is ``CANCELLING`` until the process that executes it has stopped it. A run that is only
    scheduled becomes ``CANCELLED`` immediately. A run that has ended stays as it is.

    Raises:
        ObjectNotFound: there is no flow run with that id.
    """
    return set_flow_run_state(flow_run_id, models.StateType.CANCELLING)


@operation
@of_flow_run
def pause_flow_run(
    flow_run_id: FlowRunRef, *, timeout: timedelta | float | None = None, reschedule: bool = False
) -> Steps[OrchestrationResult]:
    """Ask the server to pause a running flow run; the result says how it responded.

    Args:
        timeout: how long the run can be resumed; a number is in seconds. None means forever.
        reschedule: release the run's infrastructure; when resumed, the run starts again. Only for runs
            of a deployment. Prefect calls this suspending.

    Raises:
        ObjectNotFound: there is no flow run with that id.
    """
    details: dict[str, Any] = {"pause_reschedule": reschedule}
    if timeout is not None:
        details["pause_timeout"] = to_come(timedelta(seconds=as_seconds(timeout)))
    state = models.State.model_validate(
        {
            "type": models.StateType.PAUSED,
            "name": "Suspended" if reschedule else "Paused",
            "state_details": details,
        }
    )
    return set_flow_run_state(flow_run_id, state)


@operation
@of_flow_run
def resume_flow_run(
    flow_run_id: FlowRunRef, run_input: Mapping[str, Any] | None = None
) -> Generator[Call[Any], Any, OrchestrationResult]:
    """Resume a paused flow run; the result says how the server responded.

    ``run_input`` is the input that the run waits for, if any.

    Raises:
        ObjectNotFound: there is no flow run with that id.
    """
    resume = Call(
        "POST",
        path("/flow_runs/{}/resume", as_id(flow_run_id, "flow_run_id")),
        transition_of,
        json={"run_input": as_dict(run_input, "run_input")},
        look="read_flow_run",
        missing=with_id("flow run", flow_run_id),
    )
    try:
        result: OrchestrationResult = yield from resume
    except PrefectHTTPStatusError as exc:
        if exc.status_code == 500:  # Prefect's server fails if there is no such run
            yield from read_flow_run(flow_run_id)
        raise
    return result


@operation
@of_flow_run
def read_flow_run_states(flow_run_id: FlowRunRef) -> Call[ModelList[State]]:
    """Read the states a flow run has been in; an empty list if there is no such run."""
    return get(
        path("/flow_run_states/?flow_run_id={}", as_id(flow_run_id, "flow_run_id")), states_of
    )


@operation
def read_flow_run_state(flow_run_state_id: UUID | str) -> Call[State]:
    """Read a flow run's state by the state's id.

    Raises:
        ObjectNotFound: there is no flow run state with that id.
    """
    return get(
        path("/flow_run_states/{}", as_id(flow_run_state_id, "flow_run_state_id")),
        a(lambda: models.State),
        f"flow run state with the id {quoted(flow_run_state_id)}",
    )


@operation
@of_flow_run
def read_flow_run_graph(
    flow_run_id: FlowRunRef, *, since: When | None = None
) -> Call[FlowRunGraph]:
    """Read a flow run's graph: its task runs, its subflow runs, and how they depend on each other.

    ``since`` leaves out runs that had ended before.

    Raises:
        ObjectNotFound: there is no flow run with that id.
    """
    graph = path("/flow_runs/{}/graph-v2", as_id(flow_run_id, "flow_run_id"))
    if since is not None:
        graph = path(
            "/flow_runs/{}/graph-v2?since={}",
            as_id(flow_run_id, "flow_run_id"),
            moment(since).isoformat(),
        )
    return get(graph, a(lambda: models.FlowRunGraph), with_id("flow run", flow_run_id))


@operation
def count_flow_runs(**query: Unpack[FlowRunQuery]) -> Call[int]:
    """Return the number of flow runs; filters and keywords as in `read_flow_runs`.

    Raises:
        ValueError: a keyword has an invalid value, or repeats a condition of a filter object.
    """
    return count(
        path("/flow_runs/count"),
        after=check_flow_name(query.get("flow_name")),
        **_flow_run_filters(query),
    )


@operation
def average_flow_run_lateness(**query: Unpack[FlowRunQuery]) -> Call[float | None]:
    """Return how many seconds late flow runs start on average; None if there are no runs.

    Filters and keywords as in `read_flow_runs`.
    """
    return search(path("/flow_runs/lateness"), _seconds, **_flow_run_filters(query))


@operation
def read_flow_run_history(
    *,
    history_start: When,
    history_end: When = "now",
    history_interval: timedelta | float,
    **query: Unpack[FlowRunQuery],
) -> Call[ModelList[RunHistory]]:
    """Count flow runs by state in consecutive intervals; filters and keywords as in `read_flow_runs`.

    Args:
        history_start: a time, or how long ago: ``"1d"``.
        history_interval: the length of each interval, at least one second; a number is in seconds.

    Raises:
        ValueError: a keyword has an invalid value, or repeats a condition of a filter object.
    """
    filters = _flow_run_filters(query)
    filters["work_queues"] = filters.pop("work_pool_queues")
    place = path("/flow_runs/history")
    return history(place, history_start, history_end, history_interval, **filters)


@operation
def bulk_delete_flow_runs(flow_run_filter: Filter, *, limit: int | None = None) -> Call[list[UUID]]:
    """Delete the flow runs that match a filter, at most 50 per call; return their ids.

    An empty filter matches all runs. ``limit`` can be less than 50.
    """
    return delete_matching(
        path("/flow_runs/bulk_delete"),
        flow_runs=flow_run_filter,
        limit=limit,
        look="read_flow_runs",
    )


@operation
def bulk_set_flow_run_state(
    flow_run_filter: Filter, state: AnyState, force: bool = False, *, limit: int | None = None
) -> Call[ModelList[FlowRunOrchestrationResult]]:
    """Ask the server to set the state of the flow runs that match a filter, at most 50 per call.

    There is one result for each run. An empty filter matches all runs; ``state`` and ``force`` are as
    in `set_flow_run_state`; ``limit`` can be less than 50.
    """
    return Call(
        "POST",
        path("/flow_runs/bulk_set_state"),
        lambda response: ModelList(
            _transitions(response).results, model=models.FlowRunOrchestrationResult
        ),
        json=without_none(
            flow_runs=flow_run_filter, state=as_state(state), force=force, limit=limit
        ),
        look="read_flow_runs",
    )


@operation
@of_flow_run
def create_flow_run_input(
    flow_run_id: FlowRunRef, key: str, value: str, sender: str | None = None
) -> Generator[Call[Any], Any, None]:
    """Send an input to a flow run: a value under a key.

    Args:
        value: a string; Prefect flows expect JSON.
        sender: the sender, such as ``prefect.flow-run.<id>``.

    Raises:
        ObjectNotFound: there is no flow run with that id.
        ObjectAlreadyExists: the run already has an input with that key.
    """
    create = Call(
        "POST",
        path("/flow_runs/{}/input", as_id(flow_run_id, "flow_run_id")),
        nothing,
        repeatable=True,  # identified by its key
        json=without_none(key=key, value=value, sender=sender),
        missing=with_id("flow run", flow_run_id),
        conflict=f"The flow run already has an input {quoted(key)}",
    )
    try:
        yield from create
    except ObjectAlreadyExists as exc:
        if not was_resent(exc) or (yield from read_flow_run_input(flow_run_id, key)) != value:
            raise


@operation
@of_flow_run
def filter_flow_run_input(
    flow_run_id: FlowRunRef,
    key_prefix: str,
    limit: int | None = None,
    exclude_keys: Iterable[str] = (),
) -> Call[ModelList[FlowRunInput]]:
    """Read the inputs of a flow run whose keys begin with a prefix; an empty list if there is no such
    run.

    ``limit=None`` means one, as on the server.
    """
    return search(
        path("/flow_runs/{}/input/filter", as_id(flow_run_id, "flow_run_id")),
        _inputs,
        prefix=key_prefix,
        limit=1 if limit is None else limit,
        exclude_keys=as_list(exclude_keys, "exclude_keys"),
    )


@operation
@of_flow_run
def read_flow_run_input(flow_run_id: FlowRunRef, key: str) -> Call[str]:
    """Read the value of a flow run's input, as it was sent.

    Raises:
        ObjectNotFound: there is no flow run input with that key.
    """
    return get(
        path("/flow_runs/{}/input/{}", as_id(flow_run_id, "flow_run_id"), key),
        _text,
        f"input {quoted(key)} of the flow run {quoted(flow_run_id)}",
    )


@operation
@of_flow_run
def delete_flow_run_input(flow_run_id: FlowRunRef, key: str) -> Call[None]:
    """Delete a flow run's input.

    Raises:
        ObjectNotFound: there is no flow run input with that key.
    """
    return delete(
        path("/flow_runs/{}/input/{}", as_id(flow_run_id, "flow_run_id"), key),
        f"input {quoted(key)} of the flow run {quoted(flow_run_id)}",
    )


def _text(response: PrefectResponse) -> str:
    """Return a plain-text response; a web page means that the server is not an API."""
    if "html" in response.headers.get("content-type", ""):
        json_of(response)
    return response.text


class FlowRunOperations:
    """Flow runs, their states and inputs."""

    create_flow_run = create_flow_run
    read_flow_run = read_flow_run
    read_flow_runs = read_flow_runs
    count_flow_runs = count_flow_runs
    update_flow_run = update_flow_run
    set_flow_run_name = set_flow_run_name
    update_flow_run_labels = update_flow_run_labels
    delete_flow_run = delete_flow_run
    set_flow_run_state = set_flow_run_state
    cancel_flow_run = cancel_flow_run
    pause_flow_run = pause_flow_run
    resume_flow_run = resume_flow_run
    read_flow_run_state = read_flow_run_state
    read_flow_run_states = read_flow_run_states
    read_flow_run_graph = read_flow_run_graph
    read_flow_run_history = read_flow_run_history
    average_flow_run_lateness = average_flow_run_lateness
    bulk_delete_flow_runs = bulk_delete_flow_runs
    bulk_set_flow_run_state = bulk_set_flow_run_state
    create_flow_run_input = create_flow_run_input
    filter_flow_run_input = filter_flow_run_input
    read_flow_run_input = read_flow_run_input
    delete_flow_run_input = delete_flow_run_input
