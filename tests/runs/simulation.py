"""A server with flow runs in a simulated time, for stepping through decisions without a clock."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from orchnb.api.event_stream import Listen
from orchnb.api.models import FlowRun
from orchnb.http.calls import Call
from orchnb.http.effects import Sleep

EPOCH = datetime(2026, 11, 28, tzinfo=timezone.utc)


class Stream:
    """An open event stream."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


@dataclass
class SimulatedServer:
    """Flow runs that change their states at given times; it answers within no time."""

    schedules: dict[uuid.UUID, list[tuple[float, str]]]
    """For each run the times and types of its states, in order; the first one is at 0 or earlier."""
    failures: Callable[[float], Exception | None] = lambda now: None
    """The error of a request at this time, None if it succeeds."""
    most: int = 200
    """How many runs it returns at most."""
    events: Callable[[float, uuid.UUID], int] | None = None
    """How many events of a change arrive, by its time and run; None if there is no event stream."""
    now: float = 0.0
    hint: Callable[[uuid.UUID], object] | None = None
    stream: Stream | None = None
    requests: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def run(self, run_id: uuid.UUID, at: float | None = None) -> FlowRun:
        """Return a run as it is at a time, by default now."""
        when = self.now if at is None else at
        schedule = self.schedules[run_id]
        index, (since, kind) = max(
            (place, entry) for place, entry in enumerate(schedule) if entry[0] <= when or place == 0
        )
        return FlowRun.model_validate(
            {
                "id": run_id,
                "flow_id": uuid.UUID(int=1),
                "name": f"run-{run_id.int}",
                "state_type": kind,
                "state_name": kind.title(),
                "state_id": uuid.uuid5(run_id, str(index)),
                "state": {"type": kind, "name": kind.title()},
                "start_time": EPOCH + timedelta(seconds=since),
            }
        )

    def perform(self, effect: Call[Any] | Sleep) -> Any:
        """Carry out an effect in the simulated time."""
        if isinstance(effect, Sleep):
            assert effect.seconds >= 0
            self._sleep(effect)
            return None
        if isinstance(effect, Listen):
            self.hint = effect.hint if self.events is not None else None
            self.stream = Stream() if self.events is not None else None
            return self.stream
        self.requests.append(self.now)
        error = self.failures(self.now)
        if error is not None:
            raise error
        assert effect.path == "/flow_runs/filter", effect.path
        wanted = [uuid.UUID(each) for each in effect.json["flow_runs"]["id"]["any_"]]
        assert len(wanted) <= self.most
        assert effect.json["limit"] >= len(wanted), "else some are not returned"
        return [self.run(each) for each in wanted if each in self.schedules]

    def _sleep(self, effect: Sleep) -> None:
        """Let time pass until the end of the wait, or until an event ends it."""
        end = self.now + effect.seconds
        changes = sorted(
            (at, run_id)
            for run_id, schedule in (self.schedules.items() if self.hint else ())
            for at, _ in schedule
            if self.now < at <= end
        )
        for at, run_id in changes:
            assert self.hint is not None
            assert self.events is not None
            self.now = at
            for _ in range(self.events(at, run_id)):
                self.hint(run_id)
            if effect.control is not None and effect.control.ended:
                return
        self.now = end

    def drive(self, steps: Generator[Call[Any] | Sleep, Any, Any]) -> Any:
        """Run steps to their end; every effect takes at least a little time."""
        outcome: Any = None
        failed: Exception | None = None
        while True:
            try:
                effect = steps.throw(failed) if failed is not None else steps.send(outcome)
            except StopIteration as done:
                return done.value
            failed = outcome = None
            try:
                outcome = self.perform(effect)
            except Exception as exc:
                failed = exc


def runs_that_end(
    count: int, end: Callable[[int], float]
) -> dict[uuid.UUID, list[tuple[float, str]]]:
    """Return schedules of runs that start at 0, and complete at ``end(number)``."""
    return {
        uuid.UUID(int=number + 10): [(0.0, "RUNNING"), (end(number), "COMPLETED")]
        for number in range(count)
    }
