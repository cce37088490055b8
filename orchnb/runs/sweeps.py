"""Sweeps: one flow run of a deployment for each of many sets of parameters."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from orchnb.api import models
from orchnb.api.models.base import ModelList
from orchnb.api.operations.deployments import create_flow_run_from_deployment
from orchnb.errors import PrefectHTTPStatusError
from orchnb.http.calls import Call
from orchnb.http.effects import Sleep
from orchnb.runs.following import Following
from orchnb.runs.pace import LOOK_TIMEOUT, Clock, with_timeout

if TYPE_CHECKING:
    from orchnb.api.models import Deployment, FlowRun

CREATIONS_AT_ONCE = 10
"""Runs that are created between two looks at those that exist."""


def sweep_key(deployment_id: UUID, items: Sequence[Mapping[str, Any]], sweep: str | None) -> str:
    """Return the key of a sweep: the same for the same deployment, parameters and name."""
    text = json.dumps([str(deployment_id), sweep, items], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24]


class SweepRuns(ModelList["FlowRun"]):
    """The flow runs of a sweep, in the order of its items; a notebook shows them as a table."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return each run as a dict: its parameters first, then its other fields.

        A parameter with the name of a field is called ``parameters.name``.
        """
        fields = models.FlowRun.model_fields
        return [
            {
                **{
                    f"parameters.{name}" if name in fields else name: value
                    for name, value in run.parameters.items()
                },
                **run.model_dump(exclude={"parameters"}),
            }
            for run in self
        ]


class Sweep:
    """A run for each item, at most ``max_running`` at a time, and each created exactly once.

    The idempotency key of a run is derived from the sweep and the item's place, so the server recognizes
    an item that was sent before: after a lost response, and when the cell is run again.
    """

    def __init__(
        self,
        deployment: Deployment,
        items: Sequence[Mapping[str, Any]],
        *,
        max_running: int | None,
        sweep: str | None,
        options: Mapping[str, Any],
        poll_interval: float | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._deployment = deployment
        self._items = items
        self._max_running = max_running
        self._key = sweep_key(deployment.id, items, sweep)
        self._options = options
        self._clock = clock
        self.following: Following = Following([], poll_interval=poll_interval, clock=clock)
        self.created: list[FlowRun] = []
        """The runs so far, in the order of the items, as created."""

    def run(self, timeout: float | None) -> Generator[Call[Any] | Sleep, Any, bool]:
        """Create all runs, and wait until all have ended; return False if they have not in time.

        With a timeout of 0, create what ``max_running`` allows, and do not wait.
        """
        until = None if timeout is None else self._clock() + timeout
        following = self.following
        following.expected = len(self._items)
        if not self._items:
            return True
        with following.until_end():
            while True:
                yield from self._create()
                if timeout == 0:
                    return False
                if self._is_done:
                    yield from following.last_look()
                    return True
                found = yield from following.call(until)
                following.take(found)
                if until is not None and self._clock() >= until:
                    return self._is_done

    @property
    def _is_done(self) -> bool:
        following = self.following
        are_all = len(self.created) == len(self._items) or following.creates_no_more
        return are_all and following.done

    def _create(self) -> Generator[Call[Any] | Sleep, Any, None]:
        """Create the next runs, as many as may run now."""
        for _ in range(CREATIONS_AT_ONCE):
            index = len(self.created)
            running = len(self.following.active)
            if index == len(self._items) or self.following.creates_no_more:
                return
            if self._max_running is not None and running >= self._max_running:
                return
            try:
                run = yield from self._create_one(index)
            except (httpx.TransportError, PrefectHTTPStatusError) as exc:
                pace = self.following.pace
                pace.requested(new_round=False)
                pace.failed(exc)  # raises it if it does not pass
                self.following.tell()
                if not self.following.active:  # else the next look waits as long
                    yield Sleep(max(pace.due() - self._clock(), 0.0))
                return
            self.following.pace.succeeded()
            self.created.append(run)
            self.following.add(run)

    def _create_one(self, index: int) -> Generator[Call[Any], Any, FlowRun]:
        """Create a run. After the first one, a server that does not respond is noticed soon, so that the
        runs that exist are followed in the meantime."""
        steps = iter(
            create_flow_run_from_deployment(
                self._deployment.id,
                parameters=self._items[index],
                idempotency_key=f"orchnb-sweep-{self._key}-{index}",
                **self._options,
            )
        )
        run: FlowRun = yield from with_timeout(steps, LOOK_TIMEOUT) if self.created else steps
        return run

    def runs(self) -> SweepRuns:
        """Return the runs as last seen, in the order of the items; only those that were created."""
        seen = [self.following.runs.get(run.id, run) for run in self.created]
        return SweepRuns(seen, model=models.FlowRun)

    def left(self) -> int:
        """Return how many items have no run yet."""
        return len(self._items) - len(self.created)
