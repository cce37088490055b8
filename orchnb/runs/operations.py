"""The operations of both clients that take time: start flow runs, and wait for them."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import as_uuid
from orchnb.api.operations.deployments import (
    create_flow_run_from_deployment,
    read_deployment,
    read_deployment_by_name,
)
from orchnb.api.operations.parameter_validation import check_parameters
from orchnb.api.operations.payloads import quoted
from orchnb.api.operations.references import FlowRunRef, find_flow_run, find_flow_runs
from orchnb.api.pagination import Later, iteration
from orchnb.api.pagination import Pages as Changes
from orchnb.api.times import ToCome
from orchnb.http.calls import Call
from orchnb.http.effects import Sleep
from orchnb.runs.bulk import cancel_flow_runs, retry_flow_run, retry_flow_runs
from orchnb.runs.comparison import compare_flow_runs
from orchnb.runs.failure_groups import read_failures
from orchnb.runs.failures import read_failed_run
from orchnb.runs.following import Following, RunChange
from orchnb.runs.log_tail import LogTail, level_of
from orchnb.runs.results import read_result, read_results, read_task_result
from orchnb.runs.sweeps import Sweep, SweepRuns
from orchnb.runs.timelines import read_timeline
from orchnb.runs.waiting import (
    failed,
    in_seconds,
    list_of_runs,
    timed_out,
    wait_for,
)

if TYPE_CHECKING:
    from orchnb.api.models import Deployment, FlowRun, Log

logger: logging.Logger = logging.getLogger("orchnb.runs")


def _interval(poll_interval: float | None) -> float | None:
    if poll_interval is not None and not poll_interval > 0:
        raise ValueError(f"poll_interval should be more than 0 seconds, not {poll_interval}")
    return poll_interval


def find_deployment(name: UUID | str | Any) -> Generator[Call[Any], Any, Deployment]:
    """Return the deployment with this name, ``flow/deployment``, or id."""
    found = as_uuid(getattr(name, "id", name))
    if found is None:
        deployment: Deployment = yield from read_deployment_by_name(str(name))
    else:
        deployment = yield from read_deployment(found)
    return deployment


@operation
def run_deployment(
    name: UUID | str | Any,
    *,
    parameters: Mapping[str, Any] | None = None,
    scheduled_time: ToCome | None = None,
    flow_run_name: str | None = None,
    timeout: float | timedelta | None = None,
    poll_interval: float | None = None,
    tags: Iterable[str] | None = None,
    idempotency_key: str | None = None,
    work_queue_name: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
) -> Generator[Call[Any] | Sleep, Any, FlowRun]:
    """Create a flow run of a deployment, wait for it, and return it as last seen.

    A run that fails is returned as well; look at its ``state``. An interrupt ends the wait, not the run.

    Args:
        name: the deployment's name, ``flow/deployment``, or its id, or the deployment.
        parameters: the run's parameters; for the others the deployment's defaults apply.
        scheduled_time: when the run should start, or how far from now; by default now.
        timeout: seconds to wait for the run to end; 0 returns at once, None waits without a limit.
        poll_interval: seconds between two looks; by default between a half and two.
        tags: the run's tags, in addition to the deployment's.
        idempotency_key: two calls with the same key create one run; by default a new key.

    Raises:
        ObjectNotFound: there is no such deployment; the message suggests similar names.
        InvalidParameters: a parameter is unknown to the flow, or a required one is missing.
        ValueError: ``timeout`` or ``poll_interval`` is not allowed.
    """
    seconds, interval = in_seconds(timeout), _interval(poll_interval)
    run: FlowRun = yield from create_flow_run_from_deployment(
        getattr(name, "id", name),
        parameters=parameters,
        scheduled_time=scheduled_time,
        name=flow_run_name,
        tags=tags,
        idempotency_key=idempotency_key,
        work_queue_name=work_queue_name,
        job_variables=job_variables,
    )
    if seconds == 0:
        return run
    following = Following([run.id], poll_interval=interval)
    yield from wait_for(following, seconds)
    return following.runs.get(run.id, run)


@operation
def wait_for_flow_run(
    flow_run_id: FlowRunRef,
    *,
    timeout: float | timedelta | None = 10_800,
    poll_interval: float | None = None,
    log_states: bool = False,
) -> Generator[Call[Any] | Sleep, Any, FlowRun]:
    """Wait until a flow run has ended, and return it.

    A run that fails is returned as well; look at its ``state``. An interrupt ends the wait, not the run.

    Args:
        flow_run_id: the run: its id, a short id, its name, or the object.
        timeout: seconds to wait; None waits without a limit.
        poll_interval: seconds between two looks; by default between a half and two.
        log_states: whether to log each state of the run, to the logger ``orchnb.runs``.

    Raises:
        FlowRunWaitTimeout: the run has not ended in time. It goes on.
        ObjectNotFound: there is no flow run with that id.
    """
    runs = yield from _wait([flow_run_id], timeout, poll_interval, log_states)
    return runs[0]


@operation
def wait_for_flow_runs(
    runs: Iterable[FlowRunRef],
    *,
    timeout: float | timedelta | None = None,
    raise_on_failure: bool = False,
    poll_interval: float | None = None,
) -> Generator[Call[Any] | Sleep, Any, ModelList[FlowRun]]:
    """Wait until all of these flow runs have ended, and return them in the order given.

    A thousand runs take at most two requests per second. An interrupt ends the wait, not the runs.

    Args:
        runs: their ids, short ids, names, or the objects.
        timeout: seconds to wait for all of them; None waits without a limit.
        raise_on_failure: whether to raise if a run fails, crashes or is cancelled, after all have ended.
        poll_interval: seconds between two looks at the same run; by default between a half and two.

    Raises:
        FlowRunWaitTimeout: some have not ended in time; ``runs`` has all as last seen. They go on.
        FlowRunsFailed: ``raise_on_failure`` is set, and some did not complete.
        ObjectNotFound: one of them does not exist.
    """
    ended = yield from _wait(runs, timeout, poll_interval, False)
    if raise_on_failure and (error := failed(ended)) is not None:
        raise error
    return ended


def _wait(
    runs: Iterable[FlowRunRef],
    timeout: float | timedelta | None,
    poll_interval: float | None,
    log_states: bool,
) -> Generator[Call[Any] | Sleep, Any, ModelList[FlowRun]]:
    seconds, interval = in_seconds(timeout), _interval(poll_interval)
    following = Following((yield from find_flow_runs(runs)), poll_interval=interval)
    if not (yield from wait_for(following, seconds, on_change=_log if log_states else None)):
        assert seconds is not None
        raise timed_out(following, seconds)
    return list_of_runs(following.all_runs())


def _log(change: RunChange) -> None:
    run = change.run
    words = run.state.message if run.state is not None and run.state.message else ""
    logger.info("Flow run %r: %s%s", run.name, run.state_name, f": {words}" if words else "")


@operation
def map_deployment(
    name: UUID | str | Any,
    parameters: Iterable[Mapping[str, Any]],
    *,
    max_running: int | None = None,
    sweep: str | None = None,
    timeout: float | timedelta | None = None,
    raise_on_failure: bool = False,
    tags: Iterable[str] | None = None,
    work_queue_name: str | None = None,
    job_variables: Mapping[str, Any] | None = None,
    poll_interval: float | None = None,
) -> Generator[Call[Any] | Sleep, Any, SweepRuns]:
    """Create a flow run of a deployment for each set of parameters, and wait until all have ended.

    Each item gets exactly one run, also after lost responses, and when the same cell is run again: then
    the runs that exist are found, and the ones that are missing are created. Give another ``sweep`` to
    create all runs again. Returns the runs in the order of the items; ``to_pandas()`` has a column for
    each parameter. An interrupt ends the wait, not the runs that were created.

    Args:
        name: the deployment's name, ``flow/deployment``, or its id, or the deployment.
        parameters: a mapping for each run; for parameters that are not in it the deployment's defaults
            apply.
        max_running: how many runs may exist at a time that have not ended; None for all.
        sweep: a name that distinguishes this sweep from others of the same parameters.
        timeout: seconds to wait for all runs; with 0, create the first ``max_running`` and return them.
        raise_on_failure: whether to raise if a run fails, crashes or is cancelled, after all have ended.
        tags: the runs' tags, in addition to the deployment's.

    Raises:
        ObjectNotFound: there is no such deployment; the message suggests similar names.
        InvalidParameters: a parameter is unknown to the flow, or a required one is missing, in any item.
            No run was created.
        FlowRunWaitTimeout: not all runs were created and have ended in time.
        FlowRunsFailed: ``raise_on_failure`` is set, and some did not complete.
    """
    seconds, interval = in_seconds(timeout), _interval(poll_interval)
    if max_running is not None and max_running < 1:
        raise ValueError(f"max_running should be 1 or more, or None for all, not {max_running}")
    items = _items(parameters)
    deployment = yield from find_deployment(name)
    for number, item in enumerate(items):
        check_parameters(
            deployment, f"Item {number} for deployment {quoted(deployment.name)}", item
        )
    made = Sweep(
        deployment,
        items,
        max_running=max_running,
        sweep=sweep,
        options={
            "tags": tags,
            "work_queue_name": work_queue_name,
            "job_variables": job_variables,
        },
        poll_interval=interval,
    )
    ended = yield from made.run(seconds)
    runs = made.runs()
    if not ended and seconds:
        raise timed_out(made.following, seconds, left=made.left())
    if raise_on_failure and ended and (error := failed(runs)) is not None:
        raise error
    return runs


def _items(parameters: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(parameters, (str, bytes, Mapping)):
        raise TypeError(
            "parameters should have a mapping for each run: [{'day': 1}, {'day': 2}]; for one run use "
            "run_deployment"
        )
    items = []
    for number, item in enumerate(parameters):
        if not isinstance(item, Mapping):
            raise TypeError(
                f"parameters: item {number} should be a mapping of names to values, not "
                f"{type(item).__name__}"
            )
        items.append(dict(item))
    return items


@iteration
def follow_flow_runs(
    runs: Iterable[FlowRunRef], *, poll_interval: float | None = None
) -> Changes[RunChange]:
    """Iterate over the changes of flow runs until all have ended: ``async for change in ...``.

    Each run is first reported as it is. Then each change of its state that is seen is reported once; the
    end is never missed. A server that does not respond is waited for.

    Args:
        runs: their ids, short ids, names, or the objects.
        poll_interval: seconds between two looks at the same run; by default between a half and two.

    Raises:
        ObjectNotFound: one of them does not exist.
    """
    interval = _interval(poll_interval)
    return Later(
        lambda: find_flow_runs(runs),
        lambda ids: Following(ids, poll_interval=interval, is_shown=False),
    )


@iteration
def follow_logs(flow_run: FlowRunRef, *, level: int | str | None = None) -> Changes[Log]:
    """Iterate over the log lines of a flow run as they arrive, each once, until it has ended.

    Lines that arrive together are in order. Processes send their lines in batches, so a line can arrive
    some seconds after it was written.

    Args:
        flow_run: the run: its id, a short id, its name, or the object. Its task runs' lines are included.
        level: only lines of at least this level: a number or a name, as in ``logging``.

    Raises:
        ObjectNotFound: there is no flow run with that id.
        ValueError: ``level`` is not a level.
    """
    number = level_of(level)
    return Later(lambda: find_flow_run(flow_run), lambda run_id: LogTail(run_id, level=number))


class RunOperations:
    """Start flow runs, and wait for them."""

    map_deployment = map_deployment
    compare_flow_runs = compare_flow_runs
    read_failures = read_failures
    read_result = read_result
    read_results = read_results
    read_task_result = read_task_result
    retry_flow_run = retry_flow_run
    retry_flow_runs = retry_flow_runs
    cancel_flow_runs = cancel_flow_runs
    follow_flow_runs = follow_flow_runs
    follow_logs = follow_logs
    read_timeline = read_timeline
    read_failed_run = read_failed_run

    run_deployment = run_deployment
    wait_for_flow_run = wait_for_flow_run
    wait_for_flow_runs = wait_for_flow_runs
