"""Task runs and their states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from orchnb.api import models
from orchnb.api.calls import Call, a, list_of, nothing, path, quoted, without_none
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.arguments import Filter, as_state, as_tags
from orchnb.api.operations.filters import identified, run_words, with_words
from orchnb.api.operations.schedules import as_seconds
from orchnb.api.times import When, moment

if TYPE_CHECKING:
    from orchnb.api.models import AnyState, OrchestrationResult, RunHistory, State, TaskRun


_task_run = a(lambda: models.TaskRun)
_task_runs = list_of(lambda: models.TaskRun)
_states = list_of(lambda: models.State)
_history = list_of(lambda: models.RunHistory)
_count = a(lambda: int)


class HasTaskKey(Protocol):
    """Anything with a task's key, such as a Prefect task."""

    @property
    def task_key(self) -> Any: ...


def _missing(task_run_id: object) -> str:
    return f"task run with the id {quoted(task_run_id)}"


def _key_of(task: str | HasTaskKey) -> str:
    key = task if isinstance(task, str) else getattr(task, "task_key", None)
    if not isinstance(key, str) or not key:
        raise TypeError(
            "task should be a task's key, or something that has a task_key; "
            f"{type(task).__name__} is neither"
        )
    return key


@operation
def create_task_run(
    task: str | HasTaskKey,
    flow_run_id: UUID | str | None,
    dynamic_key: str,
    *,
    id: UUID | str | None = None,
    name: str | None = None,
    extra_tags: Iterable[str] | None = None,
    state: AnyState | None = None,
    task_inputs: Mapping[str, Any] | None = None,
    task_version: str | None = None,
    cache_key: str | None = None,
    cache_expiration: datetime | None = None,
    empirical_policy: Filter | None = None,
    labels: Mapping[str, Any] | None = None,
) -> Call[TaskRun]:
    """Create a run of a task, or return the one that has the same flow run and the same two keys.

    Args:
        task: the task's key, or something that has a ``task_key``, whose ``tags`` and ``version``
            the run is given too.
        flow_run_id: the flow run that it is part of; None if of none.
        dynamic_key: which of the task's runs within the flow run it is.
        name: of the run; by default the server makes one up.
        extra_tags: the run's tags, beside those of the task.
        state: the first state, ``PENDING`` by default; a type such as ``"SCHEDULED"`` will do.
        task_inputs: what it depends on, as the API has it: lists of references by parameter.
        empirical_policy: the API's object for retries, as plain data or a model.
    """
    tags = {*(getattr(task, "tags", None) or ()), *(as_tags(extra_tags) or ())}
    return Call(
        "POST",
        path("/task_runs/"),
        _task_run,
        repeatable=True,  # by its flow run and keys
        json=without_none(
            id=None if id is None else str(id),
            task_key=_key_of(task),
            dynamic_key=str(dynamic_key),
            flow_run_id=None if flow_run_id is None else str(flow_run_id),
            name=name,
            tags=sorted(tags),
            state=as_state(models.StateType.PENDING if state is None else state),
            task_inputs=None if task_inputs is None else dict(task_inputs),
            task_version=getattr(task, "version", None) if task_version is None else task_version,
            cache_key=cache_key,
            cache_expiration=cache_expiration,
            empirical_policy=empirical_policy,
            labels=None if labels is None else dict(labels),
        ),
        refusal="The server could not make the task run: its id is taken, or its flow run does not "
        "exist",
    )


@operation
def read_task_run(task_run_id: UUID | str) -> Call[TaskRun]:
    """Read a task run by its id.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    return Call("GET", path("/task_runs/{}", task_run_id), _task_run, missing=_missing(task_run_id))


@operation
def read_task_runs(
    *,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    state: str | Iterable[str] | None = None,
    name_like: str | None = None,
    since: When | None = None,
    until: When | None = None,
    tags: Iterable[str] | None = None,
    flow_run_id: UUID | str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Call[ModelList[TaskRun]]:
    """Read task runs.

    Filters are the API's filter objects, ``sort`` one of its orders (``EXPECTED_START_TIME_DESC``,
    ``NAME_ASC``, ...). ``limit`` None leaves the number to the server, which gives 200 at most.

    In plain keywords: ``state`` holds types such as ``FAILED`` or names such as ``Late``; ``name_like``
    is a part of the name; ``since`` and ``until`` bound when it was, or is, to start: a datetime, how
    long ago as a timedelta or in words (``"1h"``), a date; it has all of ``tags``; it is one of the run
    ``flow_run_id``.

    Raises:
        ValueError: a keyword means nothing, or says again what a filter object says.
    """
    return Call(
        "POST",
        path("/task_runs/filter"),
        _task_runs,
        repeatable=True,
        json=without_none(
            flows=flow_filter,
            flow_runs=with_words(flow_run_filter, "flow_run_filter", identified(flow_run_id)),
            task_runs=with_words(
                task_run_filter,
                "task_run_filter",
                run_words(state=state, name_like=name_like, since=since, until=until, tags=tags),
            ),
            deployments=deployment_filter,
            sort=sort,
            limit=limit,
            offset=offset,
        ),
    )


@operation
def count_task_runs(
    *,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    state: str | Iterable[str] | None = None,
    name_like: str | None = None,
    since: When | None = None,
    until: When | None = None,
    tags: Iterable[str] | None = None,
    flow_run_id: UUID | str | None = None,
) -> Call[int]:
    """How many task runs there are; filters and keywords as in `read_task_runs`.

    Raises:
        ValueError: a keyword means nothing, or says again what a filter object says.
    """
    return Call(
        "POST",
        path("/task_runs/count"),
        _count,
        repeatable=True,
        json=without_none(
            flows=flow_filter,
            flow_runs=with_words(flow_run_filter, "flow_run_filter", identified(flow_run_id)),
            task_runs=with_words(
                task_run_filter,
                "task_run_filter",
                run_words(state=state, name_like=name_like, since=since, until=until, tags=tags),
            ),
            deployments=deployment_filter,
        ),
    )


@operation
def read_task_run_history(
    *,
    history_start: When,
    history_end: When = "now",
    history_interval: timedelta | float,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
) -> Call[ModelList[RunHistory]]:
    """Count task runs by state in one interval of time after the other.

    Args:
        history_start: a time, or how long ago: ``"1d"``.
        history_interval: how long each interval is, a second at least; seconds, if a number.

    Raises:
        ValueError: words that should be a time are none.
    """
    return Call(
        "POST",
        path("/task_runs/history"),
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
        ),
    )


@operation
def set_task_run_name(task_run_id: UUID | str, name: str) -> Call[None]:
    """Give a task run another name.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    return Call(
        "PATCH",
        path("/task_runs/{}", task_run_id),
        nothing,
        json={"name": name},
        missing=_missing(task_run_id),
    )


@operation
def set_task_run_state(
    task_run_id: UUID | str, state: AnyState, force: bool = False
) -> Call[OrchestrationResult]:
    """Ask the server to put a task run into a state; the result says what it made of that.

    ``force`` sets the state past the server's rules.

    Raises:
        ObjectNotFound: there is no run of that id.
    """
    return Call(
        "POST",
        path("/task_runs/{}/set_state", task_run_id),
        a(lambda: models.OrchestrationResult),
        json={"state": as_state(state), "force": force},
        look="read_task_run",
        missing=_missing(task_run_id),
    )


@operation
def read_task_run_states(task_run_id: UUID | str) -> Call[ModelList[State]]:
    """Read the states that a task run has been in; none if there is no such run."""
    return Call("GET", path("/task_run_states/?task_run_id={}", task_run_id), _states)


@operation
def delete_task_run(task_run_id: UUID | str) -> Call[None]:
    """Delete a task run.

    Raises:
        ObjectNotFound: there is none of that id.
    """
    return Call(
        "DELETE", path("/task_runs/{}", task_run_id), nothing, missing=_missing(task_run_id)
    )


class TaskRunOperations:
    """Task runs and their states."""

    create_task_run = create_task_run
    read_task_run = read_task_run
    read_task_runs = read_task_runs
    count_task_runs = count_task_runs
    read_task_run_history = read_task_run_history
    set_task_run_name = set_task_run_name
    set_task_run_state = set_task_run_state
    read_task_run_states = read_task_run_states
    delete_task_run = delete_task_run
