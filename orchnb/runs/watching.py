"""Watch flow runs: their states, their tasks and last log lines, as snapshots for displays.

A `Watching` accompanies a `Following` and makes its requests between the looks, at the same pace, so
that both together make at most two requests per second, also for a thousand runs. It reads details only
for the runs that a display shows. The same steps, and so the same client, do what the buttons ask for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

import httpx

from orchnb.api import models
from orchnb.api.models.base import ModelList
from orchnb.api.operations.flow_runs import cancel_flow_run, read_flow_run, set_flow_run_state
from orchnb.errors import PrefectHTTPStatusError
from orchnb.http.calls import Call
from orchnb.http.effects import Sleep
from orchnb.runs.details import LineReader, RunDetails, TaskReader, with_line
from orchnb.runs.following import EndReason, Following
from orchnb.runs.pace import PASSING, Clock, smaller_limit
from orchnb.runs.states import has_ended, has_failed, state_type
from orchnb.runs.waiting import wait_for

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, Log

MOST_SHOWN = 10
"""How many runs are shown, and so have details, while many are watched."""

MOST_SHOWN_AT_THE_END = 20
"""How many are shown in the end."""

_DETAILS_EVERY = 1.5
"""Seconds between two requests for the same kind of details."""

_AT_ONCE = 10
"""How many runs are cancelled or retried between two looks."""

LAST_WAIT = 2.5
"""Seconds that a watch of one run waits for its last log lines: processes send them in batches, by
default every two seconds."""

WatchAction = Literal["cancel", "retry"]

_IMPORTANCE = ("RUNNING", "CANCELLING", "PAUSED", "PENDING", "SCHEDULED")


@dataclass(frozen=True)
class Snapshot:
    """Flow runs as they were last seen."""

    runs: Sequence[FlowRun]
    """In the order given."""
    shown: Sequence[FlowRun]
    """Those to show, in the order to show them: all if they are few."""
    details: Mapping[UUID, RunDetails]
    """More about those that are shown, by id."""
    lines: Sequence[Log]
    """The last log lines if there is only one run, the oldest first."""
    total: int
    """How many there will be."""
    age: float
    """Seconds since the server last responded."""
    elapsed: float
    """Seconds since the watching began, or that it took."""
    ui_url: str | None
    """Where the server's web pages are; None if unknown."""
    trouble: Exception | None
    """Why the last request failed; None if the server responded."""
    deleted: int
    """How many were deleted in the meantime."""
    end_reason: EndReason | None
    """Why the watching has ended; None if it goes on."""
    asked: Mapping[WatchAction, int]
    """How many runs will still be cancelled or retried, because a person has asked for it."""
    refused: Sequence[str]
    """Why the server refused what a person has asked for."""
    creates_no_more: bool
    """Whether no more of the runs will be created, because a person has cancelled them."""

    @property
    def is_over(self) -> bool:
        """Whether the watching has ended."""
        return self.end_reason is not None


class Watching:
    """What is shown of the runs that are followed, and what to request for it.

    Its steps run where the runs are followed; `snapshot` and `ask` can be called on any thread.
    """

    def __init__(self, following: Following, *, clock: Clock = time.monotonic) -> None:
        self.following: Following = following
        self.waits_for_lines: bool = False
        """Whether to wait for the last log lines of a single run, after its end."""
        self._clock = clock
        self._tasks = TaskReader()
        self._lines = LineReader()
        self._readers: dict[str, tuple[TaskReader | LineReader, float]] = {
            "tasks": (self._tasks, float("-inf")),
            "lines": (self._lines, float("-inf")),
        }
        self._lock = threading.Lock()
        self._asked: dict[UUID, WatchAction] = {}
        self._refused: list[str] = []
        following.companion = self

    # For displays, on any thread.

    def snapshot(self) -> Snapshot:
        """Return the runs as they were last seen."""
        following = self.following
        runs = following.all_runs()
        is_only = self._is_only(runs)
        shown = self._shown(runs)
        with self._lock:
            asked = list(self._asked.values())
            refused = tuple(self._refused)
        return Snapshot(
            runs=runs,
            shown=shown,
            details={
                run.id: with_line(
                    self._tasks.details(run.id, with_tasks=is_only), self._lines.last.get(run.id)
                )
                for run in shown
            },
            lines=self._lines.lines if is_only else (),
            total=max(len(runs), following.expected or 0),
            age=self._age(),
            elapsed=following.elapsed,
            ui_url=following.ui_url,
            trouble=following.trouble,
            deleted=len(following.deleted),
            end_reason=following.end_reason if following.ended is not None else None,
            asked={kind: asked.count(kind) for kind in set(asked)},
            refused=refused,
            creates_no_more=following.creates_no_more,
        )

    def _age(self) -> float:
        seen = self.following.pace.last_success
        return max(self._clock() - seen, 0.0) if seen is not None else 0.0

    def ask(self, action: WatchAction) -> None:
        """Cancel all runs that have not ended, and create no more; or retry all that have failed."""
        runs = self.following.all_runs()
        wanted = retryable(runs) if action == "retry" else [r for r in runs if not has_ended(r)]
        with self._lock:
            if action == "cancel":
                self.following.creates_no_more = True
            self._asked.update(dict.fromkeys((run.id for run in wanted), action))

    # Steps, where the runs are followed.

    def steps(self, until: float | None) -> Generator[Call[Any] | Sleep, Any, None]:
        """Do what a person has asked for, and request the details that are due."""
        yield from self._do_what_is_asked()
        pace = self.following.pace
        is_first = True
        while pace.trouble is None and (due := self._due()) is not None:
            name, runs = due
            at = pace.due(new_round=False)
            # States come first, but once per round details are requested in any case.
            if not is_first and at + 0.5 > pace.due():
                return
            if until is not None and at > until:
                return
            yield Sleep(max(at - self._clock(), 0.0))
            is_first = False
            pace.requested(new_round=False)
            yield from self._read(name, runs)

    def last_steps(self) -> Generator[Call[Any] | Sleep, Any, None]:
        """Request the details of how the runs have ended."""
        runs = self._shown(self.following.all_runs(), is_over=True)
        with_tasks = self._tasks.wanted(runs)[:MOST_SHOWN_AT_THE_END]
        if with_tasks:
            yield from self._read("tasks", with_tasks)
        if runs and self._is_only(runs):
            if self.waits_for_lines:
                yield Sleep(LAST_WAIT)
            yield from self._read("lines", runs)

    def _due(self) -> tuple[str, Sequence[FlowRun]] | None:
        """Return which details to request next, and for which runs; None if it is too early."""
        shown = [run for run in self._shown(self.following.all_runs()) if run.start_time]
        name = min(self._readers, key=lambda name: self._readers[name][1])
        if self._readers[name][1] + _DETAILS_EVERY > self._clock():
            return None
        runs = (
            self._tasks.wanted(shown)
            if name == "tasks"
            else [run for run in shown if not has_ended(run) or not self._lines.has_read(run.id)]
        )
        if runs:
            return name, runs
        self._readers[name] = self._readers[name][0], self._clock()
        return self._due()

    def _read(self, name: str, runs: Sequence[FlowRun]) -> Generator[Call[Any], Any, None]:
        reader, _ = self._readers[name]
        self._readers[name] = reader, self._clock()
        try:
            yield from reader.read(runs)
        except PASSING as exc:
            limit = smaller_limit(exc, reader.page_size)
            if limit is not None:
                reader.page_size = limit
                return
            # Details are not worth an error. If the server does not respond, the next look will tell.
            self._readers[name] = reader, self._clock() + 10 * _DETAILS_EVERY
        self._tasks.forget(run.id for run in self._shown(self.following.all_runs()))

    def _do_what_is_asked(self) -> Generator[Call[Any] | Sleep, Any, None]:
        for _ in range(_AT_ONCE):
            with self._lock:
                if not self._asked:
                    return
                run_id, action = next(iter(self._asked.items()))
            try:
                yield from self._do(run_id, action)
            except (httpx.TransportError, PrefectHTTPStatusError) as exc:
                if isinstance(exc, httpx.TransportError):
                    return  # the server does not respond: later
                self._refused.append(exc.detail or str(exc))
            with self._lock:
                self._asked.pop(run_id, None)

    def _do(self, run_id: UUID, action: WatchAction) -> Generator[Call[Any] | Sleep, Any, None]:
        run = self.following.runs.get(run_id)
        if run is None or has_ended(run) != (action == "retry"):
            return
        if action == "cancel":
            result = yield from cancel_flow_run(run_id)
        else:
            state = {"type": "SCHEDULED", "name": "AwaitingRetry"}
            result = yield from set_flow_run_state(run_id, models.State.model_validate(state))
        if result.status != "ACCEPT":
            reason = result.details.reason if result.details is not None else None
            self._refused.append(f"{run.name}: {reason or result.status}")
        self._tasks.again(run_id)
        run = yield from read_flow_run(run_id)
        self.following.add(run)

    # Which runs are shown.

    def _is_only(self, runs: Sequence[FlowRun]) -> bool:
        return len(runs) == 1 and (self.following.expected or 1) == 1

    def _shown(self, runs: Sequence[FlowRun], *, is_over: bool | None = None) -> Sequence[FlowRun]:
        if is_over is None:
            is_over = self.following.ended is not None
        return runs_to_show(runs, MOST_SHOWN_AT_THE_END if is_over else MOST_SHOWN)


class WatchedRuns(ModelList["FlowRun"]):
    """Flow runs as last seen by a watch. A notebook does not show them again in the cell of the watch."""

    def __init__(self, following: Following) -> None:
        super().__init__(following.all_runs(), model=models.FlowRun, ui_url=following.ui_url)
        self.following: Following = following


def watch_runs(
    runs: Sequence[FlowRun | UUID], timeout: float | None, *, clock: Clock = time.monotonic
) -> Generator[Call[Any] | Sleep, Any, WatchedRuns]:
    """Watch flow runs until all have ended, or for ``timeout`` seconds; return them as last seen."""
    known = {run.id: run for run in runs if not isinstance(run, UUID)}
    ids = [run if isinstance(run, UUID) else run.id for run in runs]
    following = Following(ids, clock=clock)
    following.runs.update(known)
    watching = Watching(following, clock=clock)
    watching.waits_for_lines = not following.done
    if known:
        following.tell()
    yield from wait_for(following, timeout, clock=clock)
    return WatchedRuns(following)


def runs_to_show(runs: Sequence[FlowRun], most: int) -> Sequence[FlowRun]:
    """Return the runs to show: all if they are few, else at most ``most`` of the active and the failed
    ones, each of which can have at least half of the places."""
    if len(runs) <= most:
        return runs
    failed = sorted(filter(has_failed, runs), key=_end, reverse=True)
    active = [run for run in runs if not has_ended(run)]
    active.sort(key=_importance)
    places = most // 2
    of_failed = min(len(failed), max(places, most - len(active)))
    return active[: most - of_failed] + failed[:of_failed]


def retryable(runs: Sequence[FlowRun]) -> list[FlowRun]:
    """Return the runs that have failed and can be retried: those of deployments."""
    return [run for run in runs if has_failed(run) and run.deployment_id is not None]


def _importance(run: FlowRun) -> int:
    kind = state_type(run)
    return _IMPORTANCE.index(kind) if kind in _IMPORTANCE else len(_IMPORTANCE)


def _end(run: FlowRun) -> float:
    return run.end_time.timestamp() if run.end_time is not None else 0.0
