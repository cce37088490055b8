"""What differs between two flow runs."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from orchnb.api.methods import operation
from orchnb.api.operations.flow_runs import read_flow_run
from orchnb.api.operations.references import FlowRunRef, find_flow_runs
from orchnb.api.operations.task_runs import read_task_runs
from orchnb.api.pagination import Paging, every, pages_of
from orchnb.http.calls import Call
from orchnb.runs.states import reason_of, state_type

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, TaskRun

MOST_TASKS = 1_000
"""Task runs of each run that are read at most."""

_DEEPEST = 4
_MISSING = "not given"

DifferenceKind = Literal["outcome", "version", "parameter", "setting", "task"]

_FIELDS: tuple[tuple[DifferenceKind, str, str], ...] = (
    ("version", "flow", "flow_id"),
    ("version", "flow version", "flow_version"),
    ("version", "deployment", "deployment_id"),
    ("version", "deployment version", "deployment_version"),
    ("setting", "work pool", "work_pool_name"),
    ("setting", "work queue", "work_queue_name"),
    ("setting", "tries", "run_count"),
)
"""What is compared as it is, each with its name and field."""


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ."""

    kind: DifferenceKind
    name: str
    first: Any
    """What the first run has: a value, a `timedelta`, or None if it has none."""
    second: Any
    """What the second run has."""

    @property
    def seconds(self) -> float | None:
        """How much longer the second one took; None if this is no length of time."""
        if isinstance(self.first, timedelta) and isinstance(self.second, timedelta):
            return (self.second - self.first).total_seconds()
        return None

    @property
    def size(self) -> float:
        """How large it is, for sorting: seconds, or the relative difference of numbers."""
        if (seconds := self.seconds) is not None:
            return abs(seconds)
        if _is_number(self.first) and _is_number(self.second):
            one, other = float(self.first), float(self.second)
            return abs(other - one) / max(abs(one), abs(other))
        return float("inf")  # one value instead of another


@dataclass(frozen=True)
class RunComparison:
    """Two flow runs and what differs between them."""

    first: FlowRun
    second: FlowRun
    differences: Sequence[Difference]
    """The outcome first, then versions, parameters, settings and tasks, the largest of each first."""
    same: Sequence[str]
    """The names of what is compared and is the same."""
    is_cut: bool = False
    """Whether a run has more task runs than were read."""

    def of(self, kind: DifferenceKind) -> list[Difference]:
        """Return the differences of one kind."""
        return [each for each in self.differences if each.kind == kind]


@operation
def compare_flow_runs(
    a: FlowRunRef, b: FlowRunRef, *, max_tasks: int = MOST_TASKS
) -> Generator[Call[Any], Any, RunComparison]:
    """Compare two flow runs: states, durations, versions, parameters, settings, and the times of tasks.

    A notebook shows a table of what differs. Task runs of the same task are counted together.

    Args:
        a: the first run: its id, a short id, its name, or the object.
        b: the second run, likewise.
        max_tasks: task runs of each to read at most.

    Raises:
        ObjectNotFound: one of them does not exist.
    """
    ids = yield from find_flow_runs([a, b])
    runs: list[FlowRun] = []
    tasks: list[list[TaskRun]] = []
    for run_id in ids:
        run: FlowRun = yield from read_flow_run(run_id)
        read = pages_of(read_task_runs(flow_run_id=run_id, sort="ID_DESC"))
        found: list[TaskRun] = yield from every(Paging(read, max_tasks + 1))
        runs.append(run)
        tasks.append(found)
    differences, same = compared(runs[0], runs[1], tasks[0][:max_tasks], tasks[1][:max_tasks])
    is_cut = any(len(each) > max_tasks for each in tasks)
    return RunComparison(runs[0], runs[1], differences, same, is_cut=is_cut)


def compared(
    first: FlowRun, second: FlowRun, first_tasks: Sequence[TaskRun], second_tasks: Sequence[TaskRun]
) -> tuple[list[Difference], list[str]]:
    """Return what differs between two runs, and the names of what does not."""
    pairs = [
        *_outcomes(first, second),
        *(
            (kind, name, getattr(first, key, None), getattr(second, key, None))
            for kind, name, key in _FIELDS
        ),
        *_of_mappings("parameter", "", first.parameters, second.parameters),
        ("setting", "tags", sorted(first.tags), sorted(second.tags)),
        *_of_mappings(
            "setting",
            "job variables.",
            getattr(first, "job_variables", None) or {},
            getattr(second, "job_variables", None) or {},
        ),
        *_of_tasks(first_tasks, second_tasks),
    ]
    differences = [Difference(*pair) for pair in pairs if pair[2] != pair[3]]
    kinds: tuple[DifferenceKind, ...] = ("outcome", "version", "parameter", "setting", "task")
    differences.sort(key=lambda each: (kinds.index(each.kind), -each.size))
    return differences, [name for _, name, one, other in pairs if one == other and one is not None]


_Pair = tuple[DifferenceKind, str, Any, Any]


def _outcomes(first: FlowRun, second: FlowRun) -> Iterator[_Pair]:
    states = [each.state_name or state_type(each).title() for each in (first, second)]
    yield "outcome", "state", states[0], states[1]
    if state_type(first) != "COMPLETED" or state_type(second) != "COMPLETED":
        yield "outcome", "reason", reason_of(first) or None, reason_of(second) or None
    yield "outcome", "run time", first.total_run_time, second.total_run_time
    waits = [
        each.start_time - each.expected_start_time
        if each.start_time is not None and each.expected_start_time is not None
        else None
        for each in (first, second)
    ]
    yield "outcome", "wait before the start", waits[0], waits[1]


def _of_mappings(
    kind: DifferenceKind, prefix: str, first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[_Pair]:
    one, other = dict(_flat(first, prefix)), dict(_flat(second, prefix))
    for name in dict.fromkeys([*one, *other]):
        yield kind, name, one.get(name, _MISSING), other.get(name, _MISSING)


def _flat(values: Mapping[str, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield names and values; those of mappings within it under names such as ``model.depth``."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value and depth < _DEEPEST:
            yield from _flat(value, f"{prefix}{key}.", depth + 1)
        else:
            yield f"{prefix}{key}", value


def _of_tasks(first: Sequence[TaskRun], second: Sequence[TaskRun]) -> Iterator[_Pair]:
    one, other = _by_task(first), _by_task(second)
    for name in dict.fromkeys([*one, *other]):
        times = [_time(each.get(name)) for each in (one, other)]
        yield "task", name, times[0], times[1]
        counts = [len(each.get(name, ())) for each in (one, other)]
        if counts[0] != counts[1] and all(counts):
            yield "task", f"{name}: number of runs", counts[0], counts[1]
        failures = [
            sum(state_type(task) in ("FAILED", "CRASHED") for task in each.get(name, ()))
            for each in (one, other)
        ]
        if any(failures):
            yield "task", f"{name}: failed", failures[0], failures[1]


def _by_task(tasks: Sequence[TaskRun]) -> dict[str, list[TaskRun]]:
    found: dict[str, list[TaskRun]] = {}
    for task in sorted(tasks, key=lambda task: str(task.start_time or "")):
        # Prefect's key ends in a dash and a hash of the task's source, which changes with each edit.
        name = task.task_key or task.name or "task"
        head, _, tail = name.rpartition("-")
        found.setdefault(head if head and len(tail) == 8 else name, []).append(task)
    return found


def _time(tasks: Sequence[TaskRun] | None) -> timedelta | None:
    if not tasks:
        return None
    return sum((task.total_run_time or timedelta(0) for task in tasks), timedelta(0))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
