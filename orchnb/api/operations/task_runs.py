"""Task runs and their states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import (
    Filter,
    as_dict,
    as_id,
    as_state,
    as_tags,
    task_policy,
    version_of,
)
from orchnb.api.operations.filters import RunWords, identified, run_words
from orchnb.api.operations.flow_runs import states_of, transition_of
from orchnb.api.operations.payloads import with_id, without_none
from orchnb.api.operations.queries import RelatedFilters, filters_of, history
from orchnb.api.operations.references import FlowRunRef, of_flow_run
from orchnb.api.operations.verbs import change, count, delete, get, search
from orchnb.api.times import When, as_moment
from orchnb.http.calls import Call, path
from orchnb.http.response import PrefectResponse

if TYPE_CHECKING:
    from orchnb.api.models import AnyState, OrchestrationResult, RunHistory, State, TaskRun


_task_run = a(lambda: models.TaskRun)
task_runs_of: Callable[[PrefectResponse], ModelList[TaskRun]] = list_of(lambda: models.TaskRun)


class HasTaskKey(Protocol):
    """Anything with a task's key, such as a Prefect task."""

    @property
    def task_key(self) -> Any: ...


def _key_of(task: str | HasTaskKey) -> str:
    key = task if isinstance(task, str) else getattr(task, "task_key", None)
    if not isinstance(key, str) or not key:
        raise TypeError(
            f"task should be a task's key, or an object with a task_key, not {type(task).__name__}"
        )
    return key


@operation
def create_task_run(
    task: str | HasTaskKey,
    flow_run_id: UUID | str | None,
    dynamic_key: str,
    id: UUID | str | None = None,
    name: str | None = None,
    extra_tags: Iterable[str] | None = None,
    state: AnyState | None = None,
    task_inputs: Mapping[str, Any] | None = None,
    *,
    task_version: str | None = None,
    cache_key: str | None = None,
    cache_expiration: datetime | None = None,
    empirical_policy: Filter | None = None,
    labels: Mapping[str, Any] | None = None,
) -> Call[TaskRun]:
    """Create a task run, or return the existing one with the same flow run and the same two keys.

    Args:
        task: the task's key, or an object with a ``task_key``; the run also gets that object's
            ``tags`` and ``version``, and its retries with their delays and jitter.
        flow_run_id: the flow run that it belongs to; None for a task run outside a flow run.
        dynamic_key: identifies this run among the task's runs within the flow run.
        name: the run's name; by default the server generates one.
        extra_tags: the run's tags, in addition to the task's.
        state: the initial state, ``PENDING`` by default; a type such as ``"SCHEDULED"`` is enough.
        task_inputs: the run's dependencies, in the API's form: lists of references by parameter.
        empirical_policy: the API's object for retries, as plain data or a model.
    """
    tags = {*(getattr(task, "tags", None) or ()), *(as_tags(extra_tags) or ())}
    return Call(
        "POST",
        path("/task_runs/"),
        _task_run,
        repeatable=True,  # identified by its flow run and keys
        look="read_task_runs",
        json=without_none(
            id=None if id is None else str(id),
            task_key=_key_of(task),
            dynamic_key=str(dynamic_key),
            flow_run_id=None if flow_run_id is None else as_id(flow_run_id, "flow_run_id"),
            name=name,
            tags=sorted(tags),
            state=as_state(models.StateType.PENDING if state is None else state),
            task_inputs=as_dict(task_inputs, "task_inputs"),
            task_version=version_of(task) if task_version is None else task_version,
            cache_key=cache_key,
            cache_expiration=as_moment(cache_expiration),
            empirical_policy=task_policy(task) if empirical_policy is None else empirical_policy,
            labels=as_dict(labels, "labels"),
        ),
        refusal="The server could not create the task run: its id is taken, or its flow run does not "
        "exist",
    )


@operation
def read_task_run(task_run_id: UUID | str) -> Call[TaskRun]:
    """Read a task run by its id.

    Raises:
        ObjectNotFound: there is no task run with that id.
    """
    return get(
        path("/task_runs/{}", as_id(task_run_id, "task_run_id")),
        _task_run,
        with_id("task run", task_run_id),
    )


class TaskRunQuery(RelatedFilters, RunWords, total=False):
    """Keywords of a query for task runs."""

    flow_run_id: FlowRunRef | None


def _task_run_filters(query: TaskRunQuery) -> dict[str, Any]:
    return filters_of(
        query,
        flow_run_filter={"id": identified(query.get("flow_run_id"), "flow_run_id")},
        task_run_filter=run_words(query),
    )


@operation
@of_flow_run
def read_task_runs(
    *,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    **query: Unpack[TaskRunQuery],
) -> Call[ModelList[TaskRun]]:
    """Read task runs.

    Filters are the API's filter objects; ``sort`` is one of its sort orders
    (``EXPECTED_START_TIME_DESC``, ``NAME_ASC``, ...). With ``limit=None`` the server decides; it returns
    at most 200.

    Keywords: ``state`` takes types such as ``FAILED`` or names such as ``Late``; ``name_like`` is part
    of the name; ``since`` and ``until`` bound the expected start time: a datetime, a date, or how long
    ago as a timedelta or in words (``"1h"``); runs must have all of ``tags``; ``flow_run_id`` is the
    flow run that they belong to.

    Raises:
        ValueError: a keyword has an invalid value, or repeats a condition of a filter object.
    """
    return search(
        path("/task_runs/filter"),
        task_runs_of,
        **_task_run_filters(query),
        sort=sort,
        limit=limit,
        offset=offset,
    )


@operation
@of_flow_run
def count_task_runs(**query: Unpack[TaskRunQuery]) -> Call[int]:
    """Return the number of task runs; filters and keywords as in `read_task_runs`.

    Raises:
        ValueError: a keyword has an invalid value, or repeats a condition of a filter object.
    """
    return count(path("/task_runs/count"), **_task_run_filters(query))


@operation
@of_flow_run
def read_task_run_history(
    *,
    history_start: When,
    history_end: When = "now",
    history_interval: timedelta | float,
    **query: Unpack[TaskRunQuery],
) -> Call[ModelList[RunHistory]]:
    """Count task runs by state in consecutive intervals; filters and keywords as in `read_task_runs`.

    Args:
        history_start: a time, or how long ago: ``"1d"``.
        history_interval: the length of each interval, at least one second; a number is in seconds.

    Raises:
        ValueError: a keyword has an invalid value, or repeats a condition of a filter object.
    """
    place = path("/task_runs/history")
    return history(place, history_start, history_end, history_interval, **_task_run_filters(query))


@operation
def set_task_run_name(task_run_id: UUID | str, name: str) -> Call[None]:
    """Rename a task run.

    Raises:
        ObjectNotFound: there is no task run with that id.
    """
    return change(
        path("/task_runs/{}", as_id(task_run_id, "task_run_id")),
        {"name": name},
        with_id("task run", task_run_id),
    )


@operation
def set_task_run_state(
    task_run_id: UUID | str, state: AnyState, force: bool = False
) -> Call[OrchestrationResult]:
    """Ask the server to set a task run's state; the result says how it responded.

    ``force`` bypasses the server's orchestration rules.

    Raises:
        ObjectNotFound: there is no task run with that id.
    """
    return Call(
        "POST",
        path("/task_runs/{}/set_state", as_id(task_run_id, "task_run_id")),
        transition_of,
        json={"state": as_state(state), "force": force},
        look="read_task_run",
        missing=with_id("task run", task_run_id),
    )


@operation
def read_task_run_states(task_run_id: UUID | str) -> Call[ModelList[State]]:
    """Read the states a task run has been in; an empty list if there is no such run."""
    return get(
        path("/task_run_states/?task_run_id={}", as_id(task_run_id, "task_run_id")), states_of
    )


@operation
def delete_task_run(task_run_id: UUID | str) -> Call[None]:
    """Delete a task run.

    Raises:
        ObjectNotFound: there is no task run with that id.
    """
    return delete(
        path("/task_runs/{}", as_id(task_run_id, "task_run_id")), with_id("task run", task_run_id)
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
