"""Flow runs and their states."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api import models
from orchnb.api.calls import (
    Call,
    Steps,
    a,
    json_of,
    list_of,
    nothing,
    path,
    quoted,
    was_resent,
    without_none,
)
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.arguments import Filter, HasName, as_state, as_tags
from orchnb.api.operations.filters import called, run_words, with_words
from orchnb.api.operations.flows import deleted_ids, id_of_flow
from orchnb.api.operations.schedules import as_seconds
from orchnb.api.times import When, moment, to_come
from orchnb.errors import ObjectAlreadyExists, PrefectHTTPStatusError
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


_flow_run = a(lambda: models.FlowRun)
_flow_runs = list_of(lambda: models.FlowRun)
_states = list_of(lambda: models.State)
_inputs = list_of(lambda: models.FlowRunInput)
_history = list_of(lambda: models.RunHistory)
_count = a(lambda: int)
_seconds: Callable[[PrefectResponse], float | None] = a(lambda: float | None)  # type: ignore[arg-type, return-value] # a type to pydantic
_result = a(lambda: models.OrchestrationResult)


_results = a(lambda: models.FlowRunOrchestrationResults)


def _missing(flow_run_id: object) -> str:
    return f"flow run with the id {quoted(flow_run_id)}"


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
    """Create a run of a flow: a record, which nothing executes. What has code run is
    `create_flow_run_from_deployment`.

    Args:
        flow: the flow's id or name, or anything that has a ``name``; a flow that a name does not
            find is created.
        name: of the run; by default the server makes one up.
        parameters: what the run is given; must be such as JSON can hold.
        state: the first state, ``PENDING`` by default; a type such as ``"SCHEDULED"`` will do.
        idempotency_key: two calls with the same key make one run. By default a key of its own, so
            that a request whose answer is lost can be sent again without making a second run.
    """
    flow_id = yield from id_of_flow(flow)
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
            state=as_state(models.StateType.PENDING if state is None else state),
            work_pool_name=work_pool_name,
            work_queue_name=work_queue_name,
            job_variables=None if job_variables is None else dict(job_variables),
            labels=None if labels is None else dict(labels),
            idempotency_key=str(uuid.uuid4()) if idempotency_key is None else idempotency_key,
        ),
        refusal="The server could not make the run: what it refers to, such as its flow, does not exist",
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
        missing=_missing(flow_run_id),
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
    state: str | Iterable[str] | None = None,
    name_like: str | None = None,
    since: When | None = None,
    until: When | None = None,
    tags: Iterable[str] | None = None,
    flow_name: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Call[ModelList[FlowRun]]:
    """Read flow runs.

    Filters are the API's filter objects, ``sort`` one of its orders (``START_TIME_DESC``,
    ``NAME_ASC``, ...). ``limit`` None leaves the number to the server, which gives 200 at most.

    In plain keywords: ``state`` holds types such as ``FAILED`` or names such as ``Late``; ``name_like``
    is a part of the name; ``since`` and ``until`` bound when it was, or is, to start: a datetime, how
    long ago as a timedelta or in words (``"1h"``), a date; it has all of ``tags``; its flow is called
    ``flow_name``.

    Raises:
        ValueError: a keyword means nothing, or says again what a filter object says.
    """
    return Call(
        "POST",
        path("/flow_runs/filter"),
        _flow_runs,
        repeatable=True,
        json=without_none(
            flows=with_words(flow_filter, "flow_filter", called(flow_name)),
            flow_runs=with_words(
                flow_run_filter,
                "flow_run_filter",
                run_words(state=state, name_like=name_like, since=since, until=until, tags=tags),
            ),
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

    ``force`` sets the state past the server's rules. One of them is what makes it safe to send the
    request again when its answer is lost, so that is not done then.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    wanted = as_state(state)
    details = {**wanted.get("state_details", {}), "transition_id": str(uuid.uuid4())}
    return Call(
        "POST",
        path("/flow_runs/{}/set_state", flow_run_id),
        _result_of_a_transition,
        repeatable=not force,
        json={"state": {**wanted, "state_details": details}, "force": force},
        look="read_flow_run",
        missing=_missing(flow_run_id),
    )


def _result_of_a_transition(response: PrefectResponse) -> OrchestrationResult:
    """The result; where an earlier try of the same request did it, that is what counts.

    The server knows the request by its ``transition_id`` and refuses it the second time, giving the
    state that it set the first time.
    """
    result = _result(response)
    if RESENT in response.extensions and result.status == "REJECT" and result.state is not None:
        sent = json.loads(response.request.content)["state"]["state_details"]["transition_id"]
        now = result.state.state_details or {}
        if now.get("transition_id") == sent:
            return result.model_copy(update={"status": "ACCEPT", "details": None})
    return result


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
        missing=_missing(flow_run_id),
    )


@operation
def update_flow_run(
    flow_run_id: UUID | str,
    *,
    flow_version: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    name: str | None = None,
    tags: Iterable[str] | None = None,
    empirical_policy: Filter | None = None,
    infrastructure_pid: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
) -> Call[None]:
    """Change what a flow run is given or called; each thing given takes the place of the old one.

    ``empirical_policy`` is the API's object for retries, as plain data or a model.

    Raises:
        ObjectNotFound: there is no run of that id.
        ValueError: there is nothing to change.
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
    return Call(
        "PATCH",
        path("/flow_runs/{}", flow_run_id),
        nothing,
        json=given,
        missing=_missing(flow_run_id),
    )


@operation
def set_flow_run_name(flow_run_id: UUID | str, name: str) -> Call[None]:
    """Give a flow run another name.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    return Call(
        "PATCH",
        path("/flow_runs/{}", flow_run_id),
        nothing,
        json={"name": name},
        missing=_missing(flow_run_id),
    )


@operation
def update_flow_run_labels(flow_run_id: UUID | str, labels: Mapping[str, Any]) -> Call[None]:
    """Add labels to a flow run; those of the same name are replaced, all others stay.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    return Call(
        "PATCH",
        path("/flow_runs/{}/labels", flow_run_id),
        nothing,
        json=dict(labels),
        missing=_missing(flow_run_id),
    )


@operation
def cancel_flow_run(flow_run_id: UUID | str) -> Steps[OrchestrationResult]:
    """Ask for a flow run to be cancelled; the result says what the server made of that.

    It is ``CANCELLING`` until whatever runs it has stopped it; the server makes one that is only
    scheduled ``CANCELLED`` at once. One that has ended stays as it is.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    return set_flow_run_state(flow_run_id, models.StateType.CANCELLING)


@operation
def pause_flow_run(
    flow_run_id: UUID | str,
    *,
    timeout: timedelta | float | None = None,
    reschedule: bool = False,
) -> Steps[OrchestrationResult]:
    """Ask for a running flow run to be paused; the result says what the server made of that.

    Args:
        timeout: how long it may be resumed; seconds, if a number. None is for ever.
        reschedule: let go of what it runs on; resumed, it is started anew. This takes a run of a
            deployment, and is what Prefect calls to suspend.

    Raises:
        ObjectNotFound: there is no run of that id.
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
def resume_flow_run(
    flow_run_id: UUID | str, run_input: Mapping[str, Any] | None = None
) -> Generator[Call[Any], Any, OrchestrationResult]:
    """Resume a flow run that is paused; the result says what the server made of that.

    ``run_input`` is what the run waits for, if it waits for an input.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    resume = Call(
        "POST",
        path("/flow_runs/{}/resume", flow_run_id),
        _result,
        json={"run_input": None if run_input is None else dict(run_input)},
        look="read_flow_run",
        missing=_missing(flow_run_id),
    )
    try:
        result: OrchestrationResult = yield from resume
    except PrefectHTTPStatusError as exc:
        if exc.status_code == 500:  # Prefect's server fails where there is no such run
            yield from read_flow_run(flow_run_id)
        raise
    return result


@operation
def read_flow_run_states(flow_run_id: UUID | str) -> Call[ModelList[State]]:
    """Read the states that a flow run has been in; none if there is no such run."""
    return Call("GET", path("/flow_run_states/?flow_run_id={}", flow_run_id), _states)


@operation
def read_flow_run_state(flow_run_state_id: UUID | str) -> Call[State]:
    """Read a flow run's state by the state's id.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    return Call(
        "GET",
        path("/flow_run_states/{}", flow_run_state_id),
        a(lambda: models.State),
        missing=f"state of a flow run with the id {quoted(flow_run_state_id)}",
    )


@operation
def read_flow_run_graph(
    flow_run_id: UUID | str, *, since: When | None = None
) -> Call[FlowRunGraph]:
    """Read what a flow run consists of: task runs, runs of other flows, and how they hang together.

    ``since`` leaves out what had ended before.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    graph = path("/flow_runs/{}/graph-v2", flow_run_id)
    if since is not None:
        graph = path("/flow_runs/{}/graph-v2?since={}", flow_run_id, moment(since).isoformat())
    return Call("GET", graph, a(lambda: models.FlowRunGraph), missing=_missing(flow_run_id))


@operation
def count_flow_runs(
    *,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    work_pool_filter: Filter | None = None,
    work_queue_filter: Filter | None = None,
    state: str | Iterable[str] | None = None,
    name_like: str | None = None,
    since: When | None = None,
    until: When | None = None,
    tags: Iterable[str] | None = None,
    flow_name: str | None = None,
) -> Call[int]:
    """How many flow runs there are; filters and keywords as in `read_flow_runs`.

    Raises:
        ValueError: a keyword means nothing, or says again what a filter object says.
    """
    return Call(
        "POST",
        path("/flow_runs/count"),
        _count,
        repeatable=True,
        json=without_none(
            flows=with_words(flow_filter, "flow_filter", called(flow_name)),
            flow_runs=with_words(
                flow_run_filter,
                "flow_run_filter",
                run_words(state=state, name_like=name_like, since=since, until=until, tags=tags),
            ),
            task_runs=task_run_filter,
            deployments=deployment_filter,
            work_pools=work_pool_filter,
            work_pool_queues=work_queue_filter,
        ),
    )


@operation
def average_flow_run_lateness(
    *,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    work_pool_filter: Filter | None = None,
    work_queue_filter: Filter | None = None,
) -> Call[float | None]:
    """How many seconds late flow runs start on average; None if there are none.

    Filters as in `read_flow_runs`.
    """
    return Call(
        "POST",
        path("/flow_runs/lateness"),
        _seconds,
        repeatable=True,
        json=without_none(
            flows=flow_filter,
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=deployment_filter,
            work_pools=work_pool_filter,
            work_pool_queues=work_queue_filter,
        ),
    )


@operation
def read_flow_run_history(
    *,
    history_start: When,
    history_end: When = "now",
    history_interval: timedelta | float,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    work_pool_filter: Filter | None = None,
    work_queue_filter: Filter | None = None,
) -> Call[ModelList[RunHistory]]:
    """Count flow runs by state in one interval of time after the other.

    Args:
        history_start: a time, or how long ago: ``"1d"``.
        history_interval: how long each interval is, a second at least; seconds, if a number.

    Raises:
        ValueError: words that should be a time are none.
    """
    return Call(
        "POST",
        path("/flow_runs/history"),
        _history,
        repeatable=True,
        json=without_none(
            history_start=moment(history_start),
            history_end=moment(history_end),
            history_interval_seconds=as_seconds(history_interval),
            flows=flow_filter,
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=deployment_filter,
            work_pools=work_pool_filter,
            work_queues=work_queue_filter,
        ),
    )


@operation
def bulk_delete_flow_runs(flow_run_filter: Filter, *, limit: int | None = None) -> Call[list[UUID]]:
    """Delete the flow runs that a filter finds, 50 at most in one call; return their ids.

    An empty filter finds all runs. ``limit`` may be less than 50.
    """
    return Call(
        "POST",
        path("/flow_runs/bulk_delete"),
        deleted_ids,
        json=without_none(flow_runs=flow_run_filter, limit=limit),
        look="read_flow_runs",
    )


@operation
def bulk_set_flow_run_state(
    flow_run_filter: Filter,
    state: AnyState,
    force: bool = False,
    *,
    limit: int | None = None,
) -> Call[ModelList[FlowRunOrchestrationResult]]:
    """Ask the server to put the flow runs that a filter finds into a state, 50 at most in one call.

    The results say what it made of that for each. An empty filter finds all runs; ``force`` and
    states are as in `set_flow_run_state`; ``limit`` may be less than 50.
    """
    return Call(
        "POST",
        path("/flow_runs/bulk_set_state"),
        lambda response: ModelList(
            _results(response).results, model=models.FlowRunOrchestrationResult
        ),
        json=without_none(
            flow_runs=flow_run_filter, state=as_state(state), force=force, limit=limit
        ),
        look="read_flow_runs",
    )


@operation
def create_flow_run_input(
    flow_run_id: UUID | str, key: str, value: str, sender: str | None = None
) -> Generator[Call[Any], Any, None]:
    """Hand a value to a flow run, under a key.

    Args:
        value: a text; flows of Prefect's expect JSON.
        sender: who gives it, such as ``prefect.flow-run.<id>``.

    Raises:
        ObjectNotFound: there is no run of that id.
        ObjectAlreadyExists: it has an input of that key.
    """
    create = Call(
        "POST",
        path("/flow_runs/{}/input", flow_run_id),
        nothing,
        repeatable=True,  # by its key
        json=without_none(key=key, value=value, sender=sender),
        missing=_missing(flow_run_id),
        conflict=f"The flow run has an input {quoted(key)} already",
    )
    try:
        yield from create
    except ObjectAlreadyExists as exc:
        if not was_resent(exc) or (yield from read_flow_run_input(flow_run_id, key)) != value:
            raise


@operation
def filter_flow_run_input(
    flow_run_id: UUID | str,
    key_prefix: str,
    limit: int | None = None,
    exclude_keys: Iterable[str] = (),
) -> Call[ModelList[FlowRunInput]]:
    """Read the inputs of a flow run whose keys begin with a text; none if there is no such run.

    ``limit`` None leaves the number to the server, which gives one.
    """
    return Call(
        "POST",
        path("/flow_runs/{}/input/filter", flow_run_id),
        _inputs,
        repeatable=True,
        json=without_none(prefix=key_prefix, limit=limit, exclude_keys=list(exclude_keys)),
    )


@operation
def read_flow_run_input(flow_run_id: UUID | str, key: str) -> Call[str]:
    """Read the value that was handed to a flow run under a key, as it was sent.

    Raises:
        ObjectNotFound: there is none of that key.
    """
    return Call(
        "GET",
        path("/flow_runs/{}/input/{}", flow_run_id, key),
        _text,
        missing=f"input {quoted(key)} of the flow run {quoted(flow_run_id)}",
    )


@operation
def delete_flow_run_input(flow_run_id: UUID | str, key: str) -> Call[None]:
    """Delete what was handed to a flow run under a key.

    Raises:
        ObjectNotFound: there is none of that key.
    """
    return Call(
        "DELETE",
        path("/flow_runs/{}/input/{}", flow_run_id, key),
        nothing,
        missing=f"input {quoted(key)} of the flow run {quoted(flow_run_id)}",
    )


def _text(response: PrefectResponse) -> str:
    """An answer in plain text; a web page comes from something that is no API."""
    if "html" in response.headers.get("content-type", ""):
        json_of(response)
    return response.text


class FlowRunOperations:
    """Flow runs, their states, and what they are handed."""

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
