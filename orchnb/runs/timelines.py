"""Timelines: when the tasks and the subflows of a flow run waited, worked, and were tried again."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.flow_runs import read_flow_run, read_flow_run_states, read_flow_runs
from orchnb.api.operations.references import FlowRunRef
from orchnb.api.operations.task_runs import read_task_run_states, read_task_runs
from orchnb.api.pagination import Paging, every, pages_of
from orchnb.http.calls import Call
from orchnb.runs.states import FINAL, has_ended, has_failed

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, State, TaskRun

MOST_RUNS = 1000
"""Task runs and subflow runs that a timeline has at most."""

MOST_HISTORIES = 100
"""Runs whose tries are read one by one; each takes a request."""

_DEEPEST = 5
"""Levels of subflows."""


class Doing(str, Enum):
    """What a run did for some time."""

    WAITED = "waited"
    """It was scheduled, pending or paused."""
    RAN = "ran"
    FAILED = "failed"
    """It ran, and this try failed."""


@dataclass(frozen=True)
class Span:
    """A part of a run's time."""

    doing: Doing
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True)
class TimelineRow:
    """A task run or a flow run, with what it did when."""

    id: UUID
    name: str
    run: FlowRun | TaskRun
    depth: int
    """0 for the flow run itself, 1 for its tasks and subflows, 2 for theirs."""
    spans: Sequence[Span]
    """In the order of time; empty if it has not begun to wait."""

    @property
    def is_flow(self) -> bool:
        """Whether it is a flow run: the whole, or a subflow."""
        return hasattr(self.run, "flow_id")

    @property
    def tries(self) -> int:
        """How often it was started."""
        return max(self.run.run_count, sum(span.doing is not Doing.WAITED for span in self.spans))

    @property
    def waited(self) -> float:
        """Seconds that it waited, also between tries."""
        return sum(span.seconds for span in self.spans if span.doing is Doing.WAITED)

    @property
    def ran(self) -> float:
        """Seconds that it was running, over all tries."""
        return sum(span.seconds for span in self.spans if span.doing is not Doing.WAITED)


@dataclass(frozen=True)
class Timeline:
    """A flow run's time: the run first, then its tasks and subflows, each in the order of their start."""

    rows: Sequence[TimelineRow]
    at: datetime
    """When it was read; a run that had not ended goes on up to here."""
    is_cut: bool = False
    """Whether the flow run has more task runs or subflow runs than were read."""
    ui_url: str | None = field(default=None, compare=False)
    """Where the server's web pages are; None if unknown."""

    @property
    def flow_run(self) -> FlowRun:
        """The flow run."""
        run: Any = self.rows[0].run
        return run  # type: ignore[no-any-return] # the first row is the flow run's

    @property
    def start(self) -> datetime:
        """When the first span begins."""
        return min((span.start for row in self.rows for span in row.spans), default=self.at)

    @property
    def end(self) -> datetime:
        """When the last span ends."""
        return max((span.end for row in self.rows for span in row.spans), default=self.at)

    @property
    def seconds(self) -> float:
        """How long it is, from the first span to the last."""
        return (self.end - self.start).total_seconds()


@operation
def read_timeline(
    flow_run: FlowRunRef, *, max_runs: int = MOST_RUNS
) -> Generator[Call[Any], Any, Timeline]:
    """Read when the tasks and subflows of a flow run waited, ran, and were tried again.

    A notebook draws it. The subflows' own tasks are included. Reading takes a request for each 200 runs
    and level of subflows, and one for each run that was tried more than once.

    Args:
        flow_run: the run: its id, a short id, its name, or the object.
        max_runs: task runs and subflow runs to read at most.

    Raises:
        ObjectNotFound: there is no flow run with that id.
        ValueError: ``max_runs`` is less than 1.
    """
    if max_runs < 1:
        raise ValueError(f"max_runs should be 1 or more, not {max_runs}")
    whole: FlowRun = yield from read_flow_run(flow_run)
    found: list[tuple[FlowRun | TaskRun, UUID]] = []
    parents, is_cut = [whole.id], False
    for _ in range(_DEEPEST):
        level = yield from _children(parents, max_runs - len(found) + 1)
        is_cut = is_cut or len(found) + len(level) > max_runs
        found += level[: max_runs - len(found)]
        parents = [run.id for run, _ in level if _is_flow(run)]
        if is_cut or not parents:
            break
    at = datetime.now(timezone.utc)
    spans = yield from _spans_of([whole, *(run for run, _ in found)], at)
    return Timeline(
        list(_ordered(whole, found, spans)),
        at,
        is_cut=is_cut or bool(parents),
        ui_url=getattr(whole, "ui_url", None),
    )


def _is_flow(run: FlowRun | TaskRun) -> bool:
    return hasattr(run, "flow_id")


def _children(
    parents: Sequence[UUID], most: int
) -> Generator[Call[Any], Any, list[tuple[FlowRun | TaskRun, UUID]]]:
    """Return the task runs and subflow runs of flow runs, each with its parent's id."""
    ids = {"any_": [str(each) for each in parents]}
    tasks: list[TaskRun] = yield from every(
        Paging(pages_of(read_task_runs(flow_run_filter={"id": ids}, sort="ID_DESC")), most)
    )
    flows: list[FlowRun] = yield from every(
        Paging(
            pages_of(read_flow_runs(flow_run_filter={"parent_flow_run_id": ids}, sort="ID_DESC")),
            most,
        )
    )
    subflows = {flow.parent_task_run_id: flow for flow in flows}
    # Prefect has a task run for each subflow, which says nothing that the subflow's run does not say.
    runs = [(subflows.get(task.id, task), task.flow_run_id) for task in tasks]
    return [(run, parent) for run, parent in runs if parent is not None]


def _spans_of(
    runs: Sequence[FlowRun | TaskRun], now: datetime
) -> Generator[Call[Any], Any, dict[UUID, list[Span]]]:
    retried = [run for run in runs if run.run_count > 1]
    histories: dict[UUID, ModelList[State]] = {}
    for run in retried[:MOST_HISTORIES]:
        read = read_flow_run_states if _is_flow(run) else read_task_run_states
        histories[run.id] = yield from read(run.id)
    return {run.id: spans_of(run, histories.get(run.id, ()), now) for run in runs}


def spans_of(run: FlowRun | TaskRun, history: Iterable[State], now: datetime) -> list[Span]:
    """Return what a run did when. Without the history of its states, its tries are one span."""
    states = sorted(
        ((state.timestamp, state.type.value) for state in history if state.timestamp is not None),
        key=lambda each: each[0],
    )
    spans = []
    for (start, kind), (end, then) in zip(states, [*states[1:], (now, "")], strict=False):
        if kind in FINAL and then not in ("RUNNING", "PENDING", "SCHEDULED"):
            continue
        if kind == "RUNNING":
            # A task that is tried again goes straight to AwaitingRetry, without being Failed.
            failed = then in ("FAILED", "CRASHED", "SCHEDULED")
            spans.append(Span(Doing.FAILED if failed else Doing.RAN, start, end))
        else:
            spans.append(Span(Doing.WAITED, start, end))
    return _joined(spans) if spans else _whole_span(run, now)


def _whole_span(run: FlowRun | TaskRun, now: datetime) -> list[Span]:
    due = run.expected_start_time or run.created
    began = run.start_time
    spans = []
    if due is not None and (began or not has_ended(run)) and due < (began or now):
        spans.append(Span(Doing.WAITED, due, began or now))
    if began is not None:
        doing = Doing.FAILED if has_failed(run) else Doing.RAN
        spans.append(
            Span(doing, began, max(began, run.end_time or (began if has_ended(run) else now)))
        )
    return spans


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return spans with consecutive waits as one, and without those that took no time."""
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if last is not None and last.doing is span.doing is Doing.WAITED:
            joined[-1] = Span(Doing.WAITED, last.start, span.end)
        elif span.end > span.start or span.doing is not Doing.WAITED:
            joined.append(span)
    return joined


def _ordered(
    whole: FlowRun,
    found: Iterable[tuple[FlowRun | TaskRun, UUID]],
    spans: dict[UUID, list[Span]],
) -> Iterable[TimelineRow]:
    """Yield the rows, each run's children directly after it, in the order of their start."""
    children: dict[UUID, list[FlowRun | TaskRun]] = {}
    for run, parent in found:
        children.setdefault(parent, []).append(run)
    for each in children.values():
        each.sort(key=lambda run: _began(run, spans[run.id]))
    waiting: list[tuple[FlowRun | TaskRun, int]] = [(whole, 0)]
    while waiting:
        run, depth = waiting.pop()
        yield TimelineRow(run.id, run.name or str(run.id), run, depth, spans[run.id])
        waiting += [(child, depth + 1) for child in reversed(children.get(run.id, ()))]


def _began(run: FlowRun | TaskRun, spans: Sequence[Span]) -> tuple[bool, float, str]:
    """Sort by the time when a run started to run; those that did not come last, by name."""
    start = run.start_time or (spans[0].start if spans else None)
    return (start is None, start.timestamp() if start is not None else 0.0, run.name or "")
