"""Follow flow runs until all have ended.

This module decides what to request and when; the clients make the calls and the waits that it yields. A
thousand runs take at most two requests per second. A server that does not respond is a wait, not an end.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from uuid import UUID

from orchnb.api.event_stream import Hints, listen
from orchnb.api.operations.flow_runs import flow_runs_of, read_flow_run
from orchnb.http.calls import Call, path
from orchnb.http.effects import Sleep, WaitControl
from orchnb.observers import follow_observers
from orchnb.runs.pace import LOOK_TIMEOUT, PASSING, Pace, smaller_limit
from orchnb.runs.states import has_ended

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, State

_CHUNK = 200
"""Runs per request: the most that Prefect's server returns."""

_SETTLING = 0.05
"""Seconds between an event and the look at its run: the server sends it before it stores the state."""


class RunChange(NamedTuple):
    """A flow run that has changed its state, or is seen for the first time."""

    run: FlowRun
    previous: State | None
    """The state that it was in when it was last seen; None if it had not been seen."""

    @property
    def id(self) -> UUID:
        """The run's id."""
        return self.run.id


EndReason = Literal["done", "timeout", "stopped", "error"]


class Companion(Protocol):
    """Requests to make between the looks at the runs, such as those for what a display shows."""

    def steps(self, until: float | None) -> Generator[Call[Any] | Sleep, Any, None]:
        """Make those that are due; ``until`` is when the following ends, on its clock."""

    def last_steps(self) -> Generator[Call[Any] | Sleep, Any, None]:
        """Make the last ones, when all runs have ended."""


class Following:
    """The flow runs that are followed, as last seen, and what to request next.

    Args:
        ids: the runs.
        poll_interval: seconds between two looks at the same run; by default between a half and two.
        is_shown: whether a notebook shows these runs by itself: yes if the code only waits.
        clock: returns seconds, for the intervals.
    """

    def __init__(
        self,
        ids: Iterable[UUID],
        *,
        poll_interval: float | None = None,
        is_shown: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runs: dict[UUID, FlowRun] = {}
        """The runs as last seen, by id, in the order given."""
        self.ui_url: str | None = None
        """Where the server's web pages are; None if unknown."""
        self._is_shown = is_shown
        self.expected: int | None = None
        """How many runs there will be, if more will be added; None if these are all."""
        self.companion: Companion | None = None
        """An observer can set it."""
        self.creates_no_more: bool = False
        """Whether to create no more of the ``expected`` runs; the observer can set it."""
        self.deleted: set[UUID] = set()
        """Runs that were deleted while they were followed."""
        self.began: float = clock()
        self.ended: float | None = None
        """When the following ended, on the same clock."""
        self.end_reason: EndReason | None = None
        """Why it ended."""
        self._ids = list(dict.fromkeys(ids))
        self._chunk = _CHUNK
        self._round: list[UUID] = []
        self._asked: list[UUID] = []
        self._known = set(self._ids)
        self._hinted: deque[tuple[UUID, float]] = deque()
        self._woken = WaitControl()
        self._listened = False
        self._stream: weakref.finalize[Any, Following] | None = None
        self._clock = clock
        self.pace: Pace = Pace(poll_interval, clock=clock)
        """When the next request is due; its companion keeps to it, too."""

    @property
    def trouble(self) -> Exception | None:
        """Why the last request failed; None if the server responded."""
        return self.pace.trouble

    @property
    def active(self) -> list[UUID]:
        """The runs that have not ended, in the order given."""
        return [each for each in self._ids if not self._is_over(each)]

    @property
    def done(self) -> bool:
        """Whether all runs have ended."""
        return not self.active

    @property
    def elapsed(self) -> float:
        """Seconds since the following began, up to its end."""
        return (self._clock() if self.ended is None else self.ended) - self.began

    def all_runs(self) -> list[FlowRun]:
        """Return the runs as last seen, in the order given, without those that were deleted."""
        return [self.runs[each] for each in self._ids if each in self.runs]

    def add(self, run: FlowRun) -> None:
        """Follow another run, one that was just created."""
        if run.id not in self.runs:
            self._ids.append(run.id)
            self._known.add(run.id)
        self.runs[run.id] = run
        self.pace.changed()

    def _is_over(self, run_id: UUID) -> bool:
        run = self.runs.get(run_id)
        return run_id in self.deleted or (run is not None and has_ended(run))

    def call(self, until: float | None = None) -> Generator[Call[Any] | Sleep, Any, list[FlowRun]]:
        """Wait until the next look is due, and make it; it covers some of the runs.

        ``until`` is a time on the clock. If the wait would go on after it, it ends then, and there is no
        look.
        """
        pace = self.pace
        yield from self._listen()
        if self.companion is not None and not self._round:
            yield from self.companion.steps(until)
        while True:
            woken = WaitControl()
            self._woken = woken
            due, now = self._due(), self._clock()
            late = until is not None and due > until
            wait = (until if late and until is not None else due) - now
            if wait > 0:
                yield Sleep(wait, woken if self._stream is not None else None)
                if woken.ended:
                    continue
            if late:
                return []
            pace.requested(new_round=not self._round)
            self._asked = self._next_asked()
            patience = LOOK_TIMEOUT if until is None else min(LOOK_TIMEOUT, max(until - now, 1.0))
            try:
                found = yield from self._look(patience)
            except PASSING as exc:
                if (limit := smaller_limit(exc, self._chunk)) is not None:
                    self._chunk = limit
                    continue
                pace.failed(exc)
                self.tell()
                continue
            pace.succeeded()
            asked = set(self._asked)
            self._round = [each for each in self._round if each not in asked]
            return found

    def _listen(self) -> Generator[Call[Any], Any, None]:
        """Open the server's event stream, from the second look on: many runs have ended at the first."""
        if self._listened or not self.runs or self.pace.is_fixed:
            return
        self._listened = True
        myself = weakref.ref(self)

        def hint(run_id: UUID) -> None:
            if (following := myself()) is not None:
                following.hint(run_id)

        active = self.active if self.expected is None else ()
        stream: Hints | None = yield from listen(hint, active)
        if stream is not None:
            self._stream = weakref.finalize(self, stream.close)
            self._stream.atexit = False

    def hint(self, run_id: UUID) -> None:
        """Look at a run soon, because it may have changed; from any thread."""
        if run_id in self._known and not self._is_over(run_id):
            self._hinted.append((run_id, self._clock()))
            self._woken.try_now()

    def _due(self) -> float:
        """Return the time of the next look. A hint makes it earlier, not more frequent."""
        due = self.pace.due(new_round=not self._round)
        if self._hinted:
            hinted = self._hinted[0][1] + _SETTLING
            due = min(due, max(hinted, self.pace.due(new_round=False)))
        return due

    def _next_asked(self) -> list[UUID]:
        """Return the runs of the next look: those with hints first, then the rest of this round."""
        self._round = self._round or self.active
        hinted: list[UUID] = []
        while self._hinted and len(hinted) < self._chunk:
            run_id, _ = self._hinted.popleft()
            if not self._is_over(run_id):
                hinted.append(run_id)
        if hinted:
            self.pace.changed()
        return list(dict.fromkeys([*hinted, *self._round]))[: self._chunk]

    def _look(self, patience: float) -> Generator[Call[Any], Any, list[FlowRun]]:
        found: list[FlowRun] = yield from Call(
            "POST",
            path("/flow_runs/filter"),
            flow_runs_of,
            json={
                "flow_runs": {"id": {"any_": [str(each) for each in self._asked]}},
                "limit": len(self._asked),
                "sort": "ID_DESC",
            },
            repeatable=True,
            timeout=patience,
        )
        lacking = set(self._asked) - {run.id for run in found}
        for run_id in lacking - self.runs.keys():
            run = yield from read_flow_run(run_id)  # raises ObjectNotFound
            found.append(run)
        return found

    def take(self, found: Sequence[FlowRun]) -> list[RunChange]:
        """Record what a look has found, and return the changes."""
        changes: list[RunChange] = []
        self.ui_url = getattr(found, "ui_url", None) or self.ui_url
        seen = {run.id: run for run in found}
        for run_id in self._asked:
            run, before = seen.get(run_id), self.runs.get(run_id)
            if run is None:
                if found or run_id in self.runs:
                    self.deleted.add(run_id)
                continue
            self.runs[run_id] = run
            if before is None or _state_of(before) != _state_of(run):
                changes.append(RunChange(run, before.state if before is not None else None))
        self._asked = []
        if changes:
            self.pace.changed()
        self.tell()
        return changes

    def last_look(self) -> Generator[Call[Any] | Sleep, Any, None]:
        """Make the companion's last requests."""
        if self.companion is not None:
            yield from self.companion.last_steps()

    @contextmanager
    def until_end(self) -> Iterator[None]:
        """Record the end of the following at the end of a ``with`` block, and why it ended."""
        self.end_reason = None
        reason: EndReason = "error"
        try:
            yield
            reason = "done" if self.done else "timeout"
        except GeneratorExit:  # an interrupt or a cancellation closes the steps
            reason = "stopped"
            raise
        finally:
            if self._stream is not None:
                self._stream()
            if self.ended is None:
                self.end_reason = reason
                self.ended = self._clock()
                self.tell()

    def tell(self) -> None:
        """Tell the observers, such as a notebook's display."""
        if self._is_shown:
            follow_observers.tell(self)


def _state_of(run: FlowRun) -> object:
    return run.state_id or (run.state_type, run.state_name)
