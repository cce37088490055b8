"""Why a flow run failed: the failing task, its traceback, and the last log lines."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api.methods import operation
from orchnb.api.operations.flow_runs import read_flow_run
from orchnb.api.operations.flows import read_flow
from orchnb.api.operations.logs import read_logs
from orchnb.api.operations.references import FlowRunRef
from orchnb.api.operations.task_runs import read_task_runs
from orchnb.errors import PrefectHTTPStatusError
from orchnb.http.calls import Call
from orchnb.runs.states import has_failed, reason_of
from orchnb.runs.tracebacks_in_logs import LoggedTraceback, traceback_in
from orchnb.runs.waiting import name_and_state
from orchnb.text import one_line

if TYPE_CHECKING:
    from orchnb.api.models import Flow, FlowRun, Log, ModelList, TaskRun

_LAST_LINES = 10
_MOST_ERRORS = 20
_MOST_TASKS = 50


@dataclass(frozen=True)
class FailedRun:
    """A flow run that failed, and what is known of the reason. A notebook shows it as a card."""

    run: FlowRun
    failing_task: TaskRun | None
    """The task run in which the error occurred; None if it occurred outside of a task."""
    traceback: LoggedTraceback | None
    """The error's traceback from the logs; None if no process logged one."""
    log_lines: Sequence[Log]
    """The last lines of its logs, oldest first."""
    flow_name: str = ""
    """Empty if unknown."""
    ui_url: str | None = None
    """Where the server's web pages are; None if unknown."""

    @property
    def reason(self) -> str:
        """Why it failed: the state's message, or the error in its traceback."""
        reason = reason_of(self.run)
        return reason or (self.traceback.error if self.traceback is not None else "")

    def __repr__(self) -> str:
        reason = f": {one_line(self.reason, 200)}" if self.reason else ""
        return f"<FailedRun {name_and_state(self.run)}{reason}>"


@operation
def read_failed_run(flow_run: FlowRunRef) -> Generator[Call[Any], Any, FailedRun]:
    """Read why a flow run failed: its failing task, the traceback from its logs, and its last log lines.

    Args:
        flow_run: the run: its id, a short id, its name, or the object.

    Raises:
        ObjectNotFound: there is no flow run with that id.
        ValueError: the run has not failed.
    """
    run: FlowRun = yield from read_flow_run(flow_run)
    if not has_failed(run):
        raise ValueError(f"Flow run {name_and_state(run)} has not failed")
    tasks: ModelList[TaskRun] = yield from read_task_runs(
        flow_run_id=run.id,
        state=["FAILED", "CRASHED"],
        sort="END_TIME_DESC",
        limit=_MOST_TASKS,
    )
    last: ModelList[Log] = yield from read_logs(
        flow_run_id=run.id, sort="TIMESTAMP_DESC", limit=_LAST_LINES
    )
    errors: ModelList[Log] = yield from read_logs(
        {"flow_run_id": {"any_": [str(run.id)]}, "level": {"ge_": logging.ERROR}},
        sort="TIMESTAMP_DESC",
        limit=_MOST_ERRORS,
    )
    flow_name = yield from _name_of_flow(run.flow_id)
    task = failing_task(run, tasks)
    return FailedRun(
        run, task, deciding_traceback(errors, task), last[::-1], flow_name, tasks.ui_url
    )


def _name_of_flow(flow_id: UUID) -> Generator[Call[Any], Any, str]:
    try:
        flow: Flow = yield from read_flow(flow_id)
    except PrefectHTTPStatusError:  # it may have been deleted; all else is known
        return ""
    return flow.name


def failing_task(run: FlowRun, failed_tasks: Sequence[TaskRun]) -> TaskRun | None:
    """Return the task run whose error is the run's; None if the run failed outside of its tasks.

    ``failed_tasks`` are those that failed, the last one first. If the error's text is not theirs, the
    flow handled their errors, and failed by another one.
    """
    reason = reason_of(run)
    if not reason:
        return failed_tasks[0] if failed_tasks else None
    for task in failed_tasks:
        its_own = reason_of(task)
        if its_own and (its_own in reason or reason in its_own):
            return task
    # "1/3 states failed.": the flow returned the states of its tasks.
    return failed_tasks[0] if failed_tasks and "states failed" in reason else None


def deciding_traceback(
    errors: Sequence[Log], failing_task: TaskRun | None
) -> LoggedTraceback | None:
    """Return the traceback that explains a failure, from error lines of which the last one is first.

    That of the failing task is shorter than the flow's, which also has the frames that called the task.
    """
    if failing_task is not None:
        errors = sorted(errors, key=lambda line: line.task_run_id != failing_task.id)
    found = (traceback_in(line.message) for line in errors)
    return next((each for each in found if each is not None and each.frames), None)
