"""The operations of both clients that take time: start flow runs, and wait for them."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.deployments import create_flow_run_from_deployment
from orchnb.api.times import ToCome
from orchnb.http.calls import Call
from orchnb.http.effects import Sleep
from orchnb.runs.following import Following, RunChange
from orchnb.runs.waiting import failed, id_of, ids_of, list_of_runs, timed_out, wait_for

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun

logger = logging.getLogger("orchnb.runs")

RunLike = UUID | str | Any


def _in_seconds(timeout: float | timedelta | None) -> float | None:
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if seconds is not None and not seconds >= 0:
        raise ValueError(
            f"timeout should be 0 or more seconds, or None for no limit, not {timeout}"
        )
    return seconds


def _interval(poll_interval: float | None) -> float | None:
    if poll_interval is not None and not poll_interval > 0:
        raise ValueError(f"poll_interval should be more than 0 seconds, not {poll_interval}")
    return poll_interval


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
    seconds, interval = _in_seconds(timeout), _interval(poll_interval)
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
    flow_run_id: RunLike,
    *,
    timeout: float | timedelta | None = 10_800,
    poll_interval: float | None = None,
    log_states: bool = False,
) -> Generator[Call[Any] | Sleep, Any, FlowRun]:
    """Wait until a flow run has ended, and return it.

    A run that fails is returned as well; look at its ``state``. An interrupt ends the wait, not the run.

    Args:
        flow_run_id: the run, or its id.
        timeout: seconds to wait; None waits without a limit.
        poll_interval: seconds between two looks; by default between a half and two.
        log_states: whether to log each state of the run, to the logger ``orchnb.runs``.

    Raises:
        FlowRunWaitTimeout: the run has not ended in time. It goes on.
        ObjectNotFound: there is no flow run with that id.
    """
    runs = yield from _wait([id_of(flow_run_id)], timeout, poll_interval, log_states)
    return runs[0]


@operation
def wait_for_flow_runs(
    runs: Iterable[RunLike],
    *,
    timeout: float | timedelta | None = None,
    raise_on_failure: bool = False,
    poll_interval: float | None = None,
) -> Generator[Call[Any] | Sleep, Any, ModelList[FlowRun]]:
    """Wait until all of these flow runs have ended, and return them in the order given.

    A thousand runs take at most two requests per second. An interrupt ends the wait, not the runs.

    Args:
        runs: the runs, or their ids.
        timeout: seconds to wait for all of them; None waits without a limit.
        raise_on_failure: whether to raise if a run fails, crashes or is cancelled, after all have ended.
        poll_interval: seconds between two looks at the same run; by default between a half and two.

    Raises:
        FlowRunWaitTimeout: some have not ended in time; ``runs`` has all as last seen. They go on.
        FlowRunsFailed: ``raise_on_failure`` is set, and some did not complete.
        ObjectNotFound: one of them does not exist.
    """
    ended = yield from _wait(ids_of(runs), timeout, poll_interval, False)
    if raise_on_failure and (error := failed(ended)) is not None:
        raise error
    return ended


def _wait(
    ids: list[UUID],
    timeout: float | timedelta | None,
    poll_interval: float | None,
    log_states: bool,
) -> Generator[Call[Any] | Sleep, Any, ModelList[FlowRun]]:
    seconds = _in_seconds(timeout)
    following = Following(ids, poll_interval=_interval(poll_interval))
    if not (yield from wait_for(following, seconds, on_change=_log if log_states else None)):
        assert seconds is not None
        raise timed_out(following, seconds)
    return list_of_runs(following.all_runs())


def _log(change: RunChange) -> None:
    run = change.run
    words = run.state.message if run.state is not None and run.state.message else ""
    logger.info("Flow run %r: %s%s", run.name, run.state_name, f": {words}" if words else "")


class RunOperations:
    """Start flow runs, and wait for them."""

    run_deployment = run_deployment
    wait_for_flow_run = wait_for_flow_run
    wait_for_flow_runs = wait_for_flow_runs
