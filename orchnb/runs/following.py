"""Follow flow runs until all have ended.

This module decides what to request and when; the clients make the calls and the waits that it yields. A
thousand runs take at most two requests per second. A server that does not respond is a wait, not an end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import httpx

from orchnb.api.operations.flow_runs import read_flow_run
from orchnb.errors import PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.http.calls import AT_MOST, Call, path
from orchnb.http.effects import Sleep
from orchnb.observers import follow_observers
from orchnb.runs.reading import flow_runs
from orchnb.runs.states import has_ended

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, State

SHORTEST_GAP = 0.5
"""Seconds between two requests, at least."""

SHORTEST_INTERVAL = 0.5
LONGEST_INTERVAL = 2.0
"""Seconds between two looks at the same run; the longer nothing changes, the longer."""

LONGEST_BACKOFF = 30.0
"""Seconds between two requests to a server that does not respond."""

_PATIENCE = 20.0
"""Seconds that the server may take for one request."""

_CHUNK = 200
"""Runs per request: the most that Prefect's server returns."""

_PASSING = frozenset({408, 429})
"""Statuses that say to try again later, as those from 500 do."""


class RunChange(NamedTuple):
    """A flow run that has changed its state, or is seen for the first time."""

    run: FlowRun
    previous: State | None
    """The state that it was in when it was last seen; None if it had not been seen."""


class Following:
    """The flow runs that are followed, as last seen, and what to request next.

    Args:
        ids: the runs.
        poll_interval: seconds between two looks at the same run; by default between a half and two.
        clock: returns seconds, for the intervals.
    """

    def __init__(
        self,
        ids: Iterable[UUID],
        *,
        poll_interval: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runs: dict[UUID, FlowRun] = {}
        """The runs as last seen, by id, in the order given."""
        self.trouble: Exception | None = None
        """Why the server could not be asked the last time; None if it responded."""
        self.deleted: set[UUID] = set()
        """Runs that were deleted while they were followed."""
        self.began = clock()
        self.ended: float | None = None
        """When the following ended, on the same clock."""
        self._ids = list(dict.fromkeys(ids))
        self._chunk = _CHUNK
        self._round: list[UUID] = []
        self._asked: list[UUID] = []
        self._fixed_interval = poll_interval
        self._clock = clock
        self._changed = self.began
        self._round_began = self._last_request = float("-inf")
        self._failures = 0

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

    def _is_over(self, run_id: UUID) -> bool:
        run = self.runs.get(run_id)
        return run_id in self.deleted or (run is not None and has_ended(run))

    def call(self, until: float | None = None) -> Generator[Call[Any] | Sleep, Any, list[FlowRun]]:
        """Wait until the next look is due, and make it; it covers some of the runs.

        ``until`` is a time on the clock. If the wait would go on after it, it ends then, and there is no
        look.
        """
        while True:
            due = self._due()
            now = self._clock()
            if until is not None and due > until:
                yield Sleep(max(until - now, 0.0))
                return []
            if due > now:
                yield Sleep(due - now)
            self._last_request = self._clock()
            if not self._round:
                self._round, self._round_began = self.active, self._last_request
            self._asked = self._round[: self._chunk]
            left = _PATIENCE if until is None else min(_PATIENCE, max(until - now, 1.0))
            try:
                found = yield from self._look(left)
            except (httpx.TransportError, PrefectHTTPStatusError, UnexpectedAnswer) as exc:
                self._failed(exc)
                follow_observers.tell(self)
                continue
            self.trouble, self._failures = None, 0
            del self._round[: len(self._asked)]
            return found

    def _look(self, patience: float) -> Generator[Call[Any], Any, list[FlowRun]]:
        found: list[FlowRun] = yield from Call(
            "POST",
            path("/flow_runs/filter"),
            flow_runs,
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

    def _failed(self, error: Exception) -> None:
        """Record a failure that may pass, and raise any other. Before the first success each is raised: the
        address may be wrong."""
        if isinstance(error, PrefectHTTPStatusError):
            most = AT_MOST.search(error.detail)
            if error.status_code == 422 and most is not None and int(most[1]) < self._chunk:
                self._chunk = max(int(most[1]), 1)
                return
            if error.status_code < 500 and error.status_code not in _PASSING:
                raise error
        if not self.runs:
            raise error
        self.trouble = error
        self._failures += 1

    def _due(self) -> float:
        """When the next request is due."""
        if self._failures:
            return self._last_request + min(2.0 ** (self._failures - 1), LONGEST_BACKOFF)
        gap = self._last_request + SHORTEST_GAP
        return gap if self._round else max(gap, self._round_began + self._interval())

    def _interval(self) -> float:
        if self._fixed_interval is not None:
            return self._fixed_interval
        quiet = self._clock() - self._changed
        return min(max(quiet / 10, SHORTEST_INTERVAL), LONGEST_INTERVAL)

    def take(self, found: Sequence[FlowRun]) -> list[RunChange]:
        """Record what a look has found, and return the changes."""
        changes: list[RunChange] = []
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
            self._changed = self._clock()
        follow_observers.tell(self)
        return changes

    def end(self) -> None:
        """Say that nobody follows the runs any more."""
        if self.ended is None:
            self.ended = self._clock()
            follow_observers.tell(self)


def _state_of(run: FlowRun) -> object:
    return run.state_id or (run.state_type, run.state_name)
