"""Follow the logs of a flow run until it has ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api.operations.flow_runs import flow_run_of
from orchnb.api.operations.logs import logs_of
from orchnb.api.operations.related import with_task_names
from orchnb.http.calls import Call, path
from orchnb.http.effects import Sleep
from orchnb.runs.pace import LOOK_TIMEOUT, PASSING, Clock, Pace, smaller_limit
from orchnb.runs.states import has_ended

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, Log

LINES_AT_ONCE = 200
"""Lines per request: the most that Prefect's server returns."""

LATE = 10.0
"""Seconds by which a line may arrive after younger ones. Each process sends its lines in batches, by
default every two seconds."""

_LOOK_BACK_EVERY = 4.0
"""Seconds between two requests that also cover lines that arrived late."""

QUIET_AT_THE_END = 4.0
"""Seconds without new lines after the run's end, until the logs are considered complete."""


class LogTail:
    """The log lines of one flow run as they arrive, each once. Lines that arrive together are in order.

    Args:
        run_id: the run; its task runs are included.
        level: only lines of at least this level, a number as in ``logging``.
        clock: returns seconds, for the intervals.
    """

    def __init__(
        self, run_id: UUID, *, level: int | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._run_id = run_id
        self._level = level
        self._clock = clock
        self._pace = Pace(clock=clock)
        self.run: FlowRun | None = None
        """The run as last seen."""
        self._seen: dict[object, datetime] = {}
        self._newest: datetime | None = None
        self._looked_back = float("-inf")
        self._offset = 0
        self._size = LINES_AT_ONCE
        self._after: datetime | None = None
        self._quiet_since: float | None = None
        self.done: bool = False
        """Whether the run has ended and all of its lines are there."""

    def call(self) -> Generator[Call[Any] | Sleep, Any, list[Log]]:
        """Wait until the next look is due, and make it."""
        pace = self._pace
        while True:
            due, now = pace.due(new_round=not self._offset), self._clock()
            if self._offset and pace.trouble is None:
                due = now  # a full page: the next one is there already
            if due > now:
                yield Sleep(due - now)
            pace.requested()
            try:
                if self.run is None or not (self._offset or has_ended(self.run)):
                    self.run = yield from Call(
                        "GET",
                        path("/flow_runs/{}", self._run_id),
                        flow_run_of,
                        missing=f"flow run with the id '{self._run_id}'",
                        timeout=LOOK_TIMEOUT,
                    )
                found = yield from self._page()
            except PASSING as exc:
                if (limit := smaller_limit(exc, self._size)) is not None:
                    self._size = limit
                else:
                    pace.failed(exc)
                continue
            pace.succeeded()
            return found

    def _page(self) -> Generator[Call[Any], Any, list[Log]]:
        if not self._offset:
            self._after = self._newest
            if self._after is not None and self._clock() - self._looked_back >= _LOOK_BACK_EVERY:
                self._looked_back = self._clock()
                self._after -= timedelta(seconds=LATE)
        conditions: dict[str, Any] = {"flow_run_id": {"any_": [str(self._run_id)]}}
        if self._level is not None:
            conditions["level"] = {"ge_": self._level}
        if self._after is not None:
            conditions["timestamp"] = {"after_": self._after.isoformat()}
        found: list[Log] = yield from Call(
            "POST",
            path("/logs/filter"),
            logs_of,
            after=with_task_names(),
            json={
                "logs": conditions,
                "sort": "TIMESTAMP_ASC",
                "limit": self._size,
                "offset": self._offset,
            },
            repeatable=True,
            timeout=LOOK_TIMEOUT,
        )
        return found

    def take(self, found: Sequence[Log]) -> list[Log]:
        """Record what a look has found, and return the lines that are new."""
        new = []
        for line in found:
            key = line.id or (line.timestamp, line.name, line.message)
            if key not in self._seen:
                new.append(line)
                self._seen[key] = line.timestamp
        self._offset = self._offset + len(found) if len(found) >= self._size else 0
        if new:
            newest = max(line.timestamp for line in new)
            self._newest = newest if self._newest is None else max(newest, self._newest)
            self._forget_old()
            self._pace.changed()
            self._quiet_since = None
        assert self.run is not None, "the run is read before its lines"
        if has_ended(self.run) and not self._offset:
            now = self._clock()
            if self._quiet_since is None:
                self._quiet_since = now
                self._looked_back = float("-inf")
            self.done = now - self._quiet_since >= QUIET_AT_THE_END
        return new

    def _forget_old(self) -> None:
        """Forget lines that no later request can return."""
        assert self._newest is not None
        if len(self._seen) > 10 * LINES_AT_ONCE:
            oldest = self._newest - timedelta(seconds=2 * LATE)
            self._seen = {key: at for key, at in self._seen.items() if at >= oldest}


def level_of(level: int | str | None) -> int | None:
    """Return a level of `logging` as a number.

    Raises:
        ValueError: there is no level of that name.
    """
    if not isinstance(level, str):
        return level
    number = logging.getLevelName(level.strip().upper())
    if not isinstance(number, int):
        raise ValueError(f"level should be debug, info, warning, error or critical, not {level!r}")
    return number
