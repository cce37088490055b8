"""What displays show of flow runs in addition to their states: task runs, and the last log lines."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api.operations.logs import logs_of
from orchnb.api.operations.task_runs import task_runs_of
from orchnb.http.calls import Call, path
from orchnb.runs.log_tail import LATE
from orchnb.runs.pace import LOOK_TIMEOUT
from orchnb.runs.states import has_ended, state_type

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, Log, TaskRun

PAGE_OF_TASKS = 200
"""Task runs per request: the most that Prefect's server returns."""

MOST_TASKS_READ = 2_000
"""How many task runs are read of those that existed before anyone looked."""

LAST_LINES = 12
"""How many of the last log lines are kept, if there is only one flow run."""

_LINES_AT_ONCE = 100
_LEVEL = 20  # INFO, as in `logging`


@dataclass(frozen=True)
class RunDetails:
    """What is known of one flow run in addition to its state."""

    tasks: tuple[TaskRun, ...] = ()
    """Its task runs, in the order of their start; only if it is the only run that is watched."""
    done: int = 0
    """How many of its task runs have ended."""
    known: int = 0
    """How many of its task runs are known; more may follow."""
    current: tuple[str, ...] = ()
    """The names of task runs that are running."""
    line: Log | None = None
    """Its last log line."""


class TaskReader:
    """Reads the task runs of some flow runs, one request at a time."""

    def __init__(self) -> None:
        self.page_size: int = PAGE_OF_TASKS
        self._tasks: dict[UUID, dict[UUID, TaskRun]] = {}
        self._complete: set[UUID] = set()
        self._next_page: dict[tuple[UUID, ...], int] = {}
        self._paged: set[tuple[UUID, ...]] = set()
        self._turn = 0

    def wanted(self, runs: Iterable[FlowRun]) -> list[FlowRun]:
        """Return those of the runs whose task runs can have changed since they were read."""
        return [run for run in runs if run.start_time is not None and run.id not in self._complete]

    def read(self, runs: Sequence[FlowRun]) -> Generator[Call[Any], Any, None]:
        """Make one request for the task runs of these flow runs: the newest ones, or older ones that are
        not known or have not ended."""
        ids = tuple(run.id for run in runs)
        self._turn += 1
        is_others_turn = self._turn % 2 == 0
        older = self._next_page.get(ids)
        stale = self._running(ids) if is_others_turn and older is None else []
        if stale:
            yield from self._request({"id": {"any_": stale[: self.page_size]}}, 0)
            return
        offset = older if older is not None and is_others_turn else 0
        found = yield from self._request(
            {"flow_run_id": {"any_": [str(each) for each in ids]}}, offset
        )
        is_full = len(found) >= self.page_size
        if offset or ids not in self._paged:
            self._paged.add(ids)
            following = offset + len(found)
            self._next_page = {ids: following} if is_full and following < MOST_TASKS_READ else {}
        if not offset and not self._next_page and not self._running(ids):
            self._complete.update(run.id for run in runs if has_ended(run))

    def _running(self, ids: Iterable[UUID]) -> list[str]:
        """Return the ids of known task runs that are too old to be among the newest, the oldest first."""
        known = [task for each in ids for task in self._tasks.get(each, {}).values()]
        known.sort(key=_start, reverse=True)
        older = reversed(known[self.page_size :])
        return [str(task.id) for task in older if not has_ended(task)]

    def _request(
        self, conditions: dict[str, Any], offset: int
    ) -> Generator[Call[Any], Any, Sequence[TaskRun]]:
        found: Sequence[TaskRun] = yield from Call(
            "POST",
            path("/task_runs/filter"),
            task_runs_of,
            json={
                "task_runs": conditions,
                "sort": "EXPECTED_START_TIME_DESC",
                "limit": self.page_size,
                "offset": offset,
            },
            repeatable=True,
            timeout=LOOK_TIMEOUT,
        )
        for task in found:
            if task.flow_run_id is not None:
                self._tasks.setdefault(task.flow_run_id, {})[task.id] = task
        return found

    def details(self, run_id: UUID, *, with_tasks: bool) -> RunDetails:
        """Return what is known of the task runs of a flow run."""
        tasks = sorted(self._tasks.get(run_id, {}).values(), key=_start)
        return RunDetails(
            tasks=tuple(tasks) if with_tasks else (),
            done=sum(map(has_ended, tasks)),
            known=len(tasks),
            current=tuple(
                task.name or task.task_key for task in tasks if state_type(task) == "RUNNING"
            ),
        )

    def forget(self, kept: Iterable[UUID]) -> None:
        """Forget the task runs of all flow runs but these."""
        self._tasks = {each: self._tasks[each] for each in kept if each in self._tasks}

    def again(self, run_id: UUID) -> None:
        """Read the task runs of a flow run again, because it was retried."""
        self._complete.discard(run_id)


class LineReader:
    """Reads the last log lines of some flow runs, one request at a time."""

    def __init__(self) -> None:
        self.last: dict[UUID, Log] = {}
        """The last line of each flow run."""
        self.lines: tuple[Log, ...] = ()
        """The last lines of all of them, the oldest first."""
        self.page_size: int = _LINES_AT_ONCE
        self._newest: datetime | None = None
        self._asked: set[UUID] = set()

    def has_read(self, run_id: UUID) -> bool:
        """Return whether lines of this flow run were requested before."""
        return run_id in self._asked

    def read(self, runs: Sequence[FlowRun]) -> Generator[Call[Any], Any, None]:
        """Make one request for the last lines of these flow runs."""
        ids = [run.id for run in runs]
        conditions: dict[str, Any] = {
            "flow_run_id": {"any_": [str(each) for each in ids]},
            "level": {"ge_": _LEVEL},
        }
        if self._newest is not None and self._asked.issuperset(ids):
            after = self._newest - timedelta(seconds=LATE)
            conditions["timestamp"] = {"after_": after.isoformat()}
        found: Sequence[Log] = yield from Call(
            "POST",
            path("/logs/filter"),
            logs_of,
            json={"logs": conditions, "sort": "TIMESTAMP_DESC", "limit": self.page_size},
            repeatable=True,
            timeout=LOOK_TIMEOUT,
        )
        self._asked.update(ids)
        for line in sorted(found, key=_time):
            if line.flow_run_id is not None:
                before = self.last.get(line.flow_run_id)
                if before is None or before.timestamp <= line.timestamp:
                    self.last[line.flow_run_id] = line
                self._newest = max(self._newest or line.timestamp, line.timestamp)
        known = {line.id or _identity(line): line for line in (*self.lines, *found)}
        self.lines = tuple(sorted(known.values(), key=_time)[-LAST_LINES:])


def with_line(details: RunDetails, line: Log | None) -> RunDetails:
    """Return the details with this last log line."""
    return details if line is None else replace(details, line=line)


def _start(task: TaskRun) -> tuple[float, str]:
    begun = task.start_time or task.expected_start_time or task.created
    return (begun.timestamp() if begun is not None else float("inf"), str(task.id))


def _time(line: Log) -> datetime:
    return line.timestamp


def _identity(line: Log) -> tuple[datetime, str, str]:
    return line.timestamp, line.name, line.message
