"""The view of flow runs that are watched: what they are doing, or how they ended.

The view has a limited size, no matter how many runs there are. It contains the time at which it was
made, so that a notebook that was saved in the middle does not pretend to be live.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Literal, TypeAlias

from orchnb.notebook.views import model
from orchnb.notebook.views.model import clean, duration
from orchnb.runs.states import has_ended, has_failed, state_type
from orchnb.text import LONGEST_LOOKED_AT, printable

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, Log, TaskRun
    from orchnb.runs.details import RunDetails
    from orchnb.runs.watching import Snapshot

WatchTone: TypeAlias = Literal["good", "error", "warn", "active", "idle"]

MOST_TASKS_SHOWN = 12
"""How many task runs of a single flow run have a row."""

_LONGEST_NAME, _LONGEST_PARAMETERS, _LONGEST_WORDS = 60, 60, 160
_LONGEST_FAILURE = 2_000

_OLD = 5.0
"""Seconds after which a view says that its runs were seen earlier."""

_NOT_STARTED = "NOT STARTED"

# What is counted, in this order: word, tone, and a sign that shows the tone without colour.
_STATES: dict[str, tuple[str, WatchTone, str]] = {
    "RUNNING": ("running", "active", "●"),
    "CANCELLING": ("cancelling", "warn", "◌"),
    "PAUSED": ("paused", "warn", "‖"),
    "PENDING": ("pending", "idle", "○"),
    "SCHEDULED": ("scheduled", "idle", "○"),
    _NOT_STARTED: ("not started", "idle", "○"),
    "COMPLETED": ("done", "good", "✓"),
    "FAILED": ("failed", "error", "✗"),
    "CRASHED": ("crashed", "error", "✗"),
    "CANCELLED": ("cancelled", "warn", "!"),
}

# In the bar, what is done comes first.
_IN_THE_BAR = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED", "RUNNING", "CANCELLING", "PAUSED")

_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}

# What Prefect's engine puts before the message of every failure.
_PREFIX = re.compile(r"(Flow|Task) run encountered an exception:? ")


COLOURS: dict[WatchTone, str] = {
    "good": "#2a4",
    "error": "#d33",
    "warn": "#b70",
    "active": "#27c",
    "idle": "#888",
}
"""Those of the other views: they have enough contrast for signs and bars on light and on dark pages."""


@dataclass(frozen=True)
class WatchCount:
    """How many runs are in a state."""

    words: str
    tone: WatchTone
    sign: str


@dataclass(frozen=True)
class WatchPart:
    """A part of a bar, in percent."""

    tone: WatchTone
    start: float
    percent: float


@dataclass(frozen=True)
class WatchRow:
    """One flow run, or one task run."""

    sign: str
    state: str
    tone: WatchTone
    name: str
    link: str = ""
    parameters: str = ""
    done: int = 0
    known: int = 0
    time: str = ""
    latest: str = ""
    """What it is doing, or why it failed."""

    @property
    def tasks(self) -> str:
        """How many tasks are done of those that are known."""
        return f"{self.done:,}/{self.known:,}" if self.known else ""

    @property
    def bar(self) -> Sequence[WatchPart]:
        """The same as a bar."""
        return [WatchPart(self.tone, 0.0, 100 * self.done / self.known)] if self.known else []


@dataclass(frozen=True)
class Watch:
    """Flow runs that are watched, as they were last seen."""

    title: str
    sign: str
    tone: WatchTone
    link: str
    elapsed: str
    counts: Sequence[WatchCount]
    bar: Sequence[WatchPart]
    done: int
    total: int
    name_of_bar: str
    rows: Sequence[WatchRow]
    name_of_rows: str
    name_of_latest: str
    is_over: bool
    about: str
    """The parameters of a single run."""
    failure: str
    """Why a single run failed."""
    more: str
    """What is not shown."""
    log: Sequence[str]
    notes: Sequence[str]
    moment: str
    """The time at which the view was made."""
    status: str
    """What a screen reader says."""

    @property
    def tones(self) -> Sequence[WatchTone]:
        """The tones that it uses."""
        used = {self.tone, *(count.tone for count in self.counts), *(row.tone for row in self.rows)}
        return [tone for tone in COLOURS if tone in used]

    @property
    def colours(self) -> dict[WatchTone, str]:
        """The colours of the tones."""
        return COLOURS

    def has(self, column: str) -> bool:
        """Return whether any row has something in this column."""
        return any(getattr(row, column) for row in self.rows)


def watch_view(snapshot: Snapshot, now: datetime, status: str = "") -> Watch:
    """Return the view of watched runs.

    Args:
        now: the present.
        status: what a screen reader says.
    """
    if not snapshot.is_over and snapshot.age > _OLD:
        now -= timedelta(seconds=snapshot.age)  # what is shown is as of then
    is_only = snapshot.total == 1 and len(snapshot.runs) == 1
    counts = _counts(snapshot)
    ended = sum(map(has_ended, snapshot.runs))
    run = snapshot.runs[0] if is_only else None
    details = snapshot.details.get(run.id) if run is not None else None
    tasks = details.tasks if details is not None else ()
    shown_tasks = _tasks_to_show(tasks)
    words_of_time = "ended" if snapshot.end_reason == "done" else "as of"
    first = _state(run) if run is not None else _overall(snapshot)
    rows = (
        [_task_row(task, now) for task in shown_tasks]
        if run is not None
        else [_run_row(each, snapshot, now) for each in snapshot.shown]
    )
    return Watch(
        title=_title(snapshot),
        sign=first[2],
        tone=first[1],
        link=_link(run, snapshot.ui_url) if run is not None else "",
        elapsed=_elapsed(snapshot, run, details, now),
        counts=() if is_only else counts,
        bar=_bar(snapshot) if run is None else _bar_of_tasks(tasks),
        done=details.done if details is not None else (0 if is_only else ended),
        total=details.known if details is not None else (0 if is_only else snapshot.total),
        name_of_bar="Task runs that have ended" if is_only else "Flow runs that have ended",
        rows=rows,
        name_of_rows="task" if is_only else "run",
        name_of_latest="message" if snapshot.is_over else "latest",
        is_over=snapshot.is_over,
        about=_parameters(run, 300) if run is not None else "",
        failure=_failure(run) if run is not None else "",
        more=_more(tasks, shown_tasks) if is_only else _more(snapshot.runs, snapshot.shown),
        log=[_log_line(line) for line in snapshot.lines],
        notes=list(_notes(snapshot)),
        moment=f"{words_of_time} {_here(now):%Y-%m-%d %H:%M:%S %Z}",
        status=status,
    )


def _elapsed(
    snapshot: Snapshot, run: FlowRun | None, details: RunDetails | None, now: datetime
) -> str:
    if run is None:
        return _spent(snapshot.elapsed, snapshot.is_over)
    tasks = f"{details.done:,} of {details.known:,} tasks" if details and details.known else ""
    return ", ".join(filter(None, (tasks, _time(run, now, snapshot.is_over))))


def watch_status(snapshot: Snapshot) -> str:
    """Return what a screen reader says of the runs."""
    words = _title(snapshot)
    if snapshot.total != 1:
        words += f": {', '.join(count.words for count in _counts(snapshot))}"
    return f"{words}. {'The watch has ended.' if snapshot.is_over else ''}".strip()


def watch_html(watch: Watch) -> str:
    """Return the view as HTML."""
    return model.html(watch)  # type: ignore[arg-type] # it takes any class that has a template


def watch_text(watch: Watch) -> str:
    """Return the view as text."""
    return printable("\n".join(_text(watch)))


def _text(watch: Watch) -> Iterable[str]:
    counts = " · ".join(count.words for count in watch.counts)
    yield f"{watch.sign} {watch.title}{': ' if counts else ''}{counts}{_after(watch.elapsed)}"
    if watch.about:
        yield f"  {watch.about}"
    if watch.failure:
        yield from (f"  | {line}" for line in watch.failure.splitlines())
    columns = ["state", watch.name_of_rows, "parameters", "tasks", "time", watch.name_of_latest]
    cells = [
        [f"{row.sign} {row.state}", row.name, row.parameters, row.tasks, row.time, row.latest]
        for row in watch.rows
    ]
    yield from _aligned([columns, *cells] if cells else [])
    if watch.more:
        yield f"  {watch.more}"
    yield from (f"  | {line}" for line in watch.log)
    yield from (f"  {note}" for note in watch.notes)
    yield f"  {watch.moment}"


def _after(elapsed: str) -> str:
    return f" ({elapsed})" if elapsed else ""


def _aligned(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    if not rows:
        return
    columns = list(zip(*rows, strict=True))
    kept = [column for column in columns if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    for row in zip(*kept, strict=True):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(padded)}".rstrip()


# The whole.


def _title(snapshot: Snapshot) -> str:
    if snapshot.total == 1 and len(snapshot.runs) == 1:
        run = snapshot.runs[0]
        return f"Flow run {_name(run)}: {_state(run)[0]}"
    return f"{snapshot.total:,} flow run{'' if snapshot.total == 1 else 's'}"


def _numbers(snapshot: Snapshot) -> Counter[str]:
    numbers = Counter(map(state_type, snapshot.runs))
    if snapshot.total > len(snapshot.runs):
        numbers[_NOT_STARTED] = snapshot.total - len(snapshot.runs)
    return numbers


def _counts(snapshot: Snapshot) -> list[WatchCount]:
    numbers = _numbers(snapshot)
    known = [
        WatchCount(f"{numbers[kind]:,} {word}", tone, sign)
        for kind, (word, tone, sign) in _STATES.items()
        if numbers[kind]
    ]
    others = sum(number for kind, number in numbers.items() if kind not in _STATES)
    return [*known, WatchCount(f"{others:,} other", "idle", "•")] if others else known


def _bar(snapshot: Snapshot) -> Sequence[WatchPart]:
    numbers = _numbers(snapshot)
    parts, start = [], 0.0
    for kind in _IN_THE_BAR:
        if numbers[kind]:
            percent = 100 * numbers[kind] / snapshot.total
            parts.append(WatchPart(_STATES[kind][1], start, percent))
            start += percent
    return parts


def _bar_of_tasks(tasks: Sequence[TaskRun]) -> Sequence[WatchPart]:
    failed, ended = sum(map(has_failed, tasks)), sum(map(has_ended, tasks))
    share = 100 / len(tasks) if tasks else 0.0
    parts = [
        WatchPart("good", 0.0, share * (ended - failed)),
        WatchPart("error", share * (ended - failed), share * failed),
    ]
    return [part for part in parts if part.percent]


def _overall(snapshot: Snapshot) -> tuple[str, WatchTone, str]:
    if not snapshot.is_over:
        return _STATES["RUNNING"]
    if any(map(has_failed, snapshot.runs)):
        return _STATES["FAILED"]
    if any(state_type(run) != "COMPLETED" for run in snapshot.runs):
        return _STATES["CANCELLED"]
    return _STATES["COMPLETED"]


def _more(
    runs: Sequence[FlowRun] | Sequence[TaskRun], shown: Sequence[FlowRun] | Sequence[TaskRun]
) -> str:
    """Return how many are not shown, by state."""
    if len(runs) == len(shown):
        return ""
    numbers = Counter(map(state_type, runs))
    numbers.subtract(map(state_type, shown))
    words = [f"{numbers[kind]:,} {word}" for kind, (word, *_) in _STATES.items() if numbers[kind]]
    return f"and {len(runs) - len(shown):,} more: {', '.join(words)}" if words else ""


def _notes(snapshot: Snapshot) -> Iterable[str]:
    for action, number in snapshot.asked.items():
        doing = "Cancelling" if action == "cancel" else "Retrying"
        yield f"{doing} {number:,} run{'' if number == 1 else 's'} …"
    if snapshot.refused:
        more = len(snapshot.refused) - 1
        words = f"The server refused this: {clean(snapshot.refused[0], 200)}"
        yield f"{words} (and {more:,} more)" if more else words
    if snapshot.trouble is not None and snapshot.end_reason != "done":
        yield f"The server does not respond; trying again: {clean(str(snapshot.trouble), 200)}"
    if snapshot.deleted:
        yield f"{snapshot.deleted:,} of them were deleted."
    lacking = snapshot.total - len(snapshot.runs)
    waiting = sum(not has_ended(run) for run in snapshot.runs)
    if snapshot.is_over and waiting:
        how = {"stopped": "was stopped", "timeout": "timed out"}.get(
            snapshot.end_reason or "", "ended"
        )
        these = "The run goes" if snapshot.total == 1 else f"{waiting:,} runs go"
        these = "1 run goes" if waiting == 1 and snapshot.total > 1 else these
        yield f"The wait {how}, nothing was cancelled. {these} on."
    if lacking and (snapshot.is_over or snapshot.creates_no_more):
        yield f"{lacking:,} {'was' if lacking == 1 else 'were'} not started."
    if snapshot.is_over and any(map(has_failed, snapshot.runs)):
        which = "it" if snapshot.total == 1 else "one of them"
        yield f"To run {which} again: client.retry_flow_run(run)"


# Rows.


def _state(run: FlowRun | TaskRun) -> tuple[str, WatchTone, str]:
    kind = state_type(run)
    _, tone, sign = _STATES.get(kind, ("", "idle", "•"))
    return clean(run.state_name or kind.title() or "no state", 30), tone, sign


def _name(run: FlowRun | TaskRun) -> str:
    return clean(run.name or str(run.id), _LONGEST_NAME)


def _link(run: FlowRun, ui_url: str | None) -> str:
    return f"{ui_url}/runs/flow-run/{run.id}" if ui_url else ""


def _parameters(run: FlowRun, longest: int) -> str:
    pairs = (f"{key}={value!r}" for key, value in list(run.parameters.items())[:20])
    return clean(", ".join(pairs), longest)


def _run_row(run: FlowRun, snapshot: Snapshot, now: datetime) -> WatchRow:
    state, tone, sign = _state(run)
    details = snapshot.details.get(run.id)
    latest = _message(run) if has_ended(run) else _doing(details)
    return WatchRow(
        sign=sign,
        state=state,
        tone=tone,
        name=_name(run),
        link=_link(run, snapshot.ui_url),
        parameters=_parameters(run, _LONGEST_PARAMETERS),
        done=details.done if details is not None else 0,
        known=details.known if details is not None else 0,
        time=_time(run, now, snapshot.is_over),
        latest=clean(latest, 300 if snapshot.is_over else _LONGEST_WORDS),
    )


def _doing(details: RunDetails | None) -> str:
    """Return the tasks that are running, and the last log line."""
    if details is None:
        return ""
    first, more = ", ".join(details.current[:2]), len(details.current) - 2
    tasks = f"{first} and {more:,} more" if more > 0 else first
    return " › ".join(
        filter(None, (tasks, _first_and_last(details.line.message) if details.line else ""))
    )


def _message(run: FlowRun | TaskRun) -> str:
    if run.state is None or not run.state.message or state_type(run) == "COMPLETED":
        return ""
    return _PREFIX.sub("", run.state.message[:_LONGEST_FAILURE], count=1)


def _failure(run: FlowRun) -> str:
    """Return the message of a run that did not complete, with its lines."""
    if not has_ended(run):
        return ""
    lines = _message(run)[:_LONGEST_FAILURE].splitlines()[:8]
    return "\n".join(filter(None, (clean(line, 300) for line in lines)))


def _tasks_to_show(tasks: Sequence[TaskRun]) -> Sequence[TaskRun]:
    """Return those that are running and those that have failed, then the latest, in their order."""
    if len(tasks) <= MOST_TASKS_SHOWN:
        return tasks
    ranked = sorted(
        range(len(tasks)),
        key=lambda place: (
            not has_failed(tasks[place]),
            state_type(tasks[place]) != "RUNNING",
            -place,
        ),
    )
    return [tasks[place] for place in sorted(ranked[:MOST_TASKS_SHOWN])]


def _task_row(task: TaskRun, now: datetime) -> WatchRow:
    state, tone, sign = _state(task)
    is_over = has_ended(task)
    message = _message(task)
    return WatchRow(
        sign=sign,
        state=state,
        tone=tone,
        name=_name(task),
        time=_time(task, now, is_over),
        latest=clean(message, _LONGEST_WORDS) if is_over else "",
    )


def _time(run: FlowRun | TaskRun, now: datetime, is_over: bool) -> str:
    """Return how long a run has been running, or ran."""
    if run.start_time is None:
        return ""
    end = run.end_time or (now if not has_ended(run) else run.start_time)
    return _spent((end - run.start_time).total_seconds(), is_over or has_ended(run))


def _spent(seconds: float, is_over: bool) -> str:
    """Return a duration; in whole seconds while it grows, so that a view changes once per second."""
    if is_over or seconds >= 10:
        return duration(seconds if is_over else int(seconds))
    return f"{max(0, int(seconds))} s"


def _log_line(line: Log) -> str:
    level = _LEVELS.get(line.level, str(line.level))
    return (
        f"{_here(line.timestamp):%H:%M:%S} {level:<7} {clean(_first_and_last(line.message), 300)}"
    )


def _first_and_last(message: str) -> str:
    """Return a message, of several lines only the first and the last one: of a traceback, the error."""
    first, *others = message.strip()[:LONGEST_LOOKED_AT].splitlines() or [""]
    return f"{first} … {others[-1]}" if others else first


def _here(moment: datetime) -> datetime:
    """Return a time in the local time zone, except on the first and last representable day."""
    try:
        return moment.astimezone()
    except OverflowError:
        return moment.replace(tzinfo=timezone.utc)
