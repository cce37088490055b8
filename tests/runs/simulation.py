"""A server with flow runs in a simulated time, for stepping through decisions without a clock."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from orchnb.api.event_stream import Listen
from orchnb.api.models import Deployment, FlowRun, Log, OrchestrationResult, TaskRun
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
    tasks: Callable[[uuid.UUID, float], list[tuple[str, str]]] = lambda run_id, now: []
    """The names and states of a run's task runs at a time, in the order of their start."""
    lines: Callable[[uuid.UUID, float], list[tuple[float, str]]] = lambda run_id, now: []
    """The times and texts of a run's log lines up to a time, in order."""
    deployed: bool = True
    requests: list[float] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """The paths of the requests."""

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
                "start_time": (
                    None if kind in ("SCHEDULED", "PENDING") else EPOCH + timedelta(seconds=since)
                ),
                "deployment_id": uuid.UUID(int=2) if self.deployed else None,
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
        self.asked.append(effect.path)
        if effect.path == "/task_runs/filter":
            return self._task_runs(effect.json)
        if effect.path == "/logs/filter":
            return self._logs(effect.json)
        if effect.path.endswith("/create_flow_run"):
            run_id = uuid.uuid5(uuid.NAMESPACE_OID, effect.json["idempotency_key"])
            self.schedules.setdefault(run_id, [(self.now, "RUNNING"), (self.now + 9, "COMPLETED")])
            return self.run(run_id)
        if effect.path.startswith("/deployments/"):
            found = {"id": effect.path.split("/")[2], "name": "here", "flow_id": uuid.UUID(int=1)}
            return Deployment.model_validate(found)
        if effect.path.startswith("/flow_runs/") and effect.path != "/flow_runs/filter":
            run_id = uuid.UUID(effect.path.split("/")[2])
            if effect.path.endswith("/set_state"):
                self.schedules[run_id].append((self.now, effect.json["state"]["type"]))
                return OrchestrationResult.model_validate({"status": "ACCEPT"})
            return self.run(run_id)
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

    def _task_runs(self, wanted: dict[str, Any]) -> list[TaskRun]:
        field_, chosen = next(iter(wanted["task_runs"].items()))
        ids = (
            {
                uuid.uuid5(run_id, str(number)): run_id
                for run_id in self.schedules
                for number in range(len(self.tasks(run_id, self.now)))
            }
            if field_ == "id"
            else {}
        )
        of = {ids.get(uuid.UUID(each), uuid.UUID(each)) for each in chosen["any_"]}
        found = [
            TaskRun.model_validate(
                {
                    "id": uuid.uuid5(run_id, str(number)),
                    "flow_run_id": run_id,
                    "task_key": "task",
                    "dynamic_key": str(number),
                    "name": name,
                    "state_type": kind,
                    "state_name": kind.title(),
                    "expected_start_time": EPOCH + timedelta(seconds=number),
                }
            )
            for run_id in of
            for number, (name, kind) in enumerate(self.tasks(run_id, self.now))
        ]
        found = [task for task in found if str(getattr(task, field_)) in chosen["any_"]]
        found.sort(key=lambda task: task.expected_start_time or EPOCH, reverse=True)
        return found[wanted["offset"] :][: wanted["limit"]]

    def _logs(self, wanted: dict[str, Any]) -> list[Log]:
        conditions = wanted["logs"]
        after = conditions.get("timestamp", {}).get("after_", "")
        found = [
            Log.model_validate(
                {
                    "id": uuid.uuid5(run_id, f"{at} {text}"),
                    "name": "prefect.flow_runs",
                    "level": 20,
                    "message": text,
                    "timestamp": EPOCH + timedelta(seconds=at),
                    "flow_run_id": run_id,
                }
            )
            for run_id in map(uuid.UUID, conditions["flow_run_id"]["any_"])
            for at, text in self.lines(run_id, self.now)
        ]
        found = [line for line in found if line.timestamp.isoformat() >= after]
        found.sort(key=lambda line: line.timestamp, reverse=True)
        return found[: wanted["limit"]]

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
