"""Retry and cancel flow runs, one or many."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from orchnb.api import models
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.flow_runs import (
    cancel_flow_run,
    read_flow_run,
    read_flow_runs,
    set_flow_run_state,
)
from orchnb.api.operations.references import FlowRunRef, find_flow_runs
from orchnb.api.pagination import Paging, every, pages_of
from orchnb.errors import FlowRunsNotChanged, ObjectNotFound, PrefectHTTPStatusError
from orchnb.http.calls import Call, Steps
from orchnb.runs.states import FINAL, has_ended
from orchnb.runs.waiting import name_and_state
from orchnb.text import one_line

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, FlowRunOrchestrationResult, OrchestrationResult

_AT_ONCE = 200
"""Runs that are read with one request."""

_MOST_NAMED = 5


@operation
def retry_flow_run(flow_run: FlowRunRef) -> Generator[Call[Any], Any, OrchestrationResult]:
    """Ask the server to run a flow run that has ended again; the result says how it responded.

    The run keeps its id, name and parameters. A worker or the process that serves the deployment
    executes it, so a run without a deployment cannot be retried.

    Args:
        flow_run: the run: its id, a short id, its name, or the object.

    Raises:
        ObjectNotFound: there is no flow run with that id.
        ValueError: the run has not ended, or has no deployment.
    """
    (run_id,) = yield from find_flow_runs([flow_run])
    run: FlowRun = yield from read_flow_run(run_id)
    if (problem := _why_not_again(run)) is not None:
        raise ValueError(problem)
    result: OrchestrationResult = yield from _again(run_id)
    return result


@operation
def retry_flow_runs(
    runs: Iterable[FlowRunRef],
) -> Generator[Call[Any], Any, ModelList[FlowRunOrchestrationResult]]:
    """Ask the server to run flow runs that have ended again, as `retry_flow_run` does.

    Each run is asked for with its own request, so that none is scheduled twice if a response is lost. A
    run that cannot be retried does not keep the others from it: the error comes at the end.

    Args:
        runs: their ids, short ids, names, or the objects, such as those that `read_failures` returns.

    Returns:
        How the server responded, in the order given.

    Raises:
        FlowRunsNotChanged: some were not retried; it has the results of the others.
    """
    ids = list(dict.fromkeys((yield from find_flow_runs(runs))))
    known = yield from _read_all(ids)
    problems = {run_id: _why_not_again(run) for run_id, run in zip(ids, known, strict=True)}
    results: ModelList[FlowRunOrchestrationResult] = yield from _for_each(
        ids, _again, "retried", problems
    )
    return results


@operation
def cancel_flow_runs(
    runs: Iterable[FlowRunRef],
) -> Generator[Call[Any], Any, ModelList[FlowRunOrchestrationResult]]:
    """Ask the server to cancel flow runs, as `cancel_flow_run` does.

    A run that has ended stays as it is, which is no error. A run that cannot be cancelled does not keep
    the others from it: the error comes at the end.

    Args:
        runs: their ids, short ids, names, or the objects.

    Returns:
        How the server responded, in the order given.

    Raises:
        FlowRunsNotChanged: some were not cancelled; it has the results of the others.
    """
    ids = list(dict.fromkeys((yield from find_flow_runs(runs))))
    results: ModelList[FlowRunOrchestrationResult] = yield from _for_each(
        ids, cancel_flow_run, "cancelled", {}, FINAL | {"CANCELLING"}
    )
    return results


def _again(run_id: UUID) -> Steps[OrchestrationResult]:
    state = models.State.model_validate({"type": "SCHEDULED", "name": "AwaitingRetry"})
    return set_flow_run_state(run_id, state)


def _why_not_again(run: FlowRun | None) -> str | None:
    if run is None:
        return "There is no flow run with that id"
    if not has_ended(run):
        return f"Flow run {name_and_state(run)} has not ended, so it cannot be retried"
    if run.deployment_id is None:
        return f"Flow run {name_and_state(run)} has no deployment, so it cannot run again: call its flow"
    return None


def _read_all(ids: Sequence[UUID]) -> Generator[Call[Any], Any, list[FlowRun | None]]:
    """Return the runs with these ids, in the order given; None for one that does not exist."""
    found: dict[UUID, FlowRun] = {}
    for start in range(0, len(ids), _AT_ONCE):
        wanted = {"id": {"any_": [str(each) for each in ids[start : start + _AT_ONCE]]}}
        read = pages_of(read_flow_runs(flow_run_filter=wanted, sort="ID_DESC"))
        runs: list[FlowRun] = yield from every(Paging(read))
        found.update((run.id, run) for run in runs)
    return [found.get(each) for each in ids]


def _for_each(
    ids: Sequence[UUID],
    ask: Callable[[UUID], Steps[OrchestrationResult]],
    done: str,
    problems: Mapping[UUID, str | None],
    goals: frozenset[str] = frozenset(),
) -> Generator[Call[Any], Any, ModelList[FlowRunOrchestrationResult]]:
    """Ask the server for each run, and raise what went wrong at the end."""
    results: ModelList[FlowRunOrchestrationResult] = ModelList(
        model=models.FlowRunOrchestrationResult
    )
    failed: dict[UUID, str] = {}
    left: list[UUID] = []
    cause: Exception | None = None
    for number, run_id in enumerate(ids):
        why = problems.get(run_id)
        if why is None:
            try:
                result = yield from ask(run_id)
            except ObjectNotFound:
                why = "There is no flow run with that id"
            except (PrefectHTTPStatusError, httpx.TransportError) as exc:
                failed[run_id], left, cause = str(exc), [*ids[number + 1 :]], exc
                break  # the next request would not succeed either
            else:
                why = _refusal(result, goals)
                if why is None:
                    fields = {**result.model_dump(), "flow_run_id": run_id}
                    results.append(models.FlowRunOrchestrationResult.model_validate(fields))
        if why is not None:
            failed[run_id] = why
    if failed:
        raise _not_changed(done, len(ids), results, failed, left) from cause
    return results


def _refusal(result: OrchestrationResult, goals: frozenset[str]) -> str | None:
    """Return why the server did not do it; None if it did, or if the run is in such a state anyway."""
    state = str(result.state.type) if result.state is not None else ""
    if result.status == "ACCEPT" or state in goals:
        return None
    reason = result.details.reason if result.details is not None else None
    return one_line(reason or f"The server answered {result.status}", 300)


def _not_changed(
    done: str,
    count: int,
    results: ModelList[FlowRunOrchestrationResult],
    failed: dict[UUID, str],
    left: Sequence[UUID],
) -> FlowRunsNotChanged:
    shown = "; ".join(f"{run_id}: {why}" for run_id, why in [*failed.items()][:_MOST_NAMED])
    more = len(failed) - _MOST_NAMED
    message = f"{len(failed) + len(left)} of {count} flow runs were not {done}: {shown}"
    if more > 0:
        message += f"; and {more} more"
    if left:
        message += f"; {len(left)} were not tried after that"
    return FlowRunsNotChanged(
        message,
        results=results,
        failed=failed,
        left=left,
        hint="exc.failed has the reasons by id, exc.results how the server responded for the others.",
    )
