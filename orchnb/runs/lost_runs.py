"""Heartbeats of the runs that notebooks record, and the runs whose notebook has ended without a word.

A notebook writes the time into its run's labels again and again. A run is lost if it is still running
and its heartbeat has stopped: by the clock of the machine that both notebooks use, and its process no
longer exists; or, as clocks of machines differ, if this notebook has not seen it change for a while.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
import time
import uuid
from collections.abc import Callable, Generator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api import models
from orchnb.api.operations.flow_runs import read_flow_runs, set_flow_run_state
from orchnb.api.operations.task_runs import read_task_runs, set_task_run_state

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, TaskRun
    from orchnb.http.calls import Call

RECORD_TAG = "notebook"
"""The tag of recorded runs, by which they are found: the API has no filter for labels."""

HEARTBEAT_LABEL = "orchnb.heartbeat"
_MACHINE_LABEL = "orchnb.machine"
_PROCESS_LABEL = "orchnb.process"
_RECORDER_LABEL = "orchnb.recorder"

HEARTBEAT_INTERVAL = 15.0
"""Seconds between two heartbeats."""

STOPPED_AFTER = 4 * HEARTBEAT_INTERVAL
"""Seconds without a heartbeat after which a run may be lost."""

_MOST_READ = 200
_LOST = "The notebook that recorded this run has ended without finishing it"

Labels = dict[str, Any]


@lru_cache(maxsize=1)
def this_machine() -> str:
    """Return what identifies this machine since it was started, without its name."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (OSError, ValueError):
        start = str(uuid.getnode())
    return hashlib.sha256(f"{platform.node()} {start}".encode()).hexdigest()[:16]


def process_exists(process: int) -> bool:
    """Return whether a process of this machine exists; False where that cannot be known."""
    if sys.platform == "win32" or process <= 0:  # there, signal 0 ends a process
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is another user's
    return True


class LostRuns:
    """Finds lost runs on one server, and the labels by which others find those of this process.

    Args:
        now: the time of the machine, in seconds.
        clock: seconds since any moment, as `time.monotonic`.
        machine: identifies the machine.
        exists: returns whether a process of this machine exists.
    """

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        machine: Callable[[], str] = this_machine,
        exists: Callable[[int], bool] = process_exists,
    ) -> None:
        self._now = now
        self._clock = clock
        self._machine = machine
        self._exists = exists
        self._recorder = uuid.uuid4().hex
        self._seen: dict[UUID, tuple[float, float]] = {}

    def labels(self) -> Labels:
        """Return the labels of a new run of this process."""
        return {
            **self.heartbeat(),
            _MACHINE_LABEL: self._machine(),
            _PROCESS_LABEL: os.getpid(),
            _RECORDER_LABEL: self._recorder,
        }

    def heartbeat(self) -> Labels:
        """Return the labels of a heartbeat now."""
        return {HEARTBEAT_LABEL: self._now()}

    def find(self) -> Generator[Call[Any], Any, list[FlowRun]]:
        """Set the state of all runs that are lost to Crashed, and return them."""
        running: list[FlowRun] = yield from read_flow_runs(
            state="RUNNING", tags=[RECORD_TAG], sort="START_TIME_ASC", limit=_MOST_READ
        )
        self._seen = {run.id: self._seen[run.id] for run in running if run.id in self._seen}
        lost = [run for run in running if self._is_lost(run)]
        state = models.State(type=models.StateType.CRASHED, message=_LOST)
        for run in lost:
            tasks: list[TaskRun] = yield from read_task_runs(
                flow_run_id=run.id, state="RUNNING", limit=_MOST_READ
            )
            for task in tasks:
                yield from set_task_run_state(task.id, state)
            yield from set_flow_run_state(run.id, state)
        return lost

    def _is_lost(self, run: FlowRun) -> bool:
        labels = run.labels or {}
        beat = labels.get(HEARTBEAT_LABEL)
        if not isinstance(beat, (int, float)) or isinstance(beat, bool):
            return False
        if labels.get(_RECORDER_LABEL) == self._recorder:
            return False
        last, since = self._seen.get(run.id, (None, 0.0))
        if last != beat:
            since = self._clock()
            self._seen[run.id] = beat, since
        if labels.get(_MACHINE_LABEL) == self._machine():
            process = labels.get(_PROCESS_LABEL)
            if isinstance(process, int) and self._exists(process):
                return False  # its heartbeat may stop for as long as a cell lets no thread run
            if self._now() - beat >= STOPPED_AFTER:
                return True
        return self._clock() - since >= STOPPED_AFTER
