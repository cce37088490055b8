"""Send records to the server, on a thread that exists only while something is recorded.

Each request has a time limit. The code that is recorded never waits for the server
longer than its caller allows.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from orchnb.errors import ClientClosed, PrefectHTTPStatusError
from orchnb.http.calls import Call, LongSteps, Steps
from orchnb.http.effects import Sleep
from orchnb.runs.lost_runs import HEARTBEAT_INTERVAL, LostRuns
from orchnb.runs.records import Outcome, Record
from orchnb.runtime.futures import ThreadFuture
from orchnb.runtime.interrupts import deferred_interrupts

T = TypeVar("T")

logger: logging.Logger = logging.getLogger(__name__)

_SEND_INTERVAL = 1.0
"""Seconds between two requests with the lines of one cell."""

_REQUEST_TIMEOUT = 10.0
"""Seconds that the server may take for one request."""

_WAITS_IF_BUSY = (0.1, 0.3)
"""Seconds before the second and the third try."""


class Performer(Protocol):
    """What the recorder needs of a sync client."""

    def perform(self, steps: LongSteps[Any], operation: str = "") -> Any: ...


Again = Callable[[], AbstractContextManager[Performer]]


class Recorder:
    """Sends the records of one notebook.

    Args:
        lost: how the runs of notebooks that have ended are found.
        heartbeat: seconds between two heartbeats of a run.
        clock: seconds since any moment, as `time.monotonic`.
    """

    def __init__(
        self,
        lost: LostRuns | None = None,
        *,
        heartbeat: float = HEARTBEAT_INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lost = lost or LostRuns()
        self._heartbeat = heartbeat
        self._clock = clock
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._active: dict[Record, Performer] = {}
        self._again: dict[Record, Again | None] = {}
        self._sent = self._beaten = clock()
        self._looked = float("-inf")
        self._thread: threading.Thread | None = None

    def begin(
        self, record: Record, client: Performer, again: Again | None = None
    ) -> ThreadFuture[None]:
        """Create a record's run; the result is there when it exists.

        ``again`` opens another client of the same server, if this one is closed before the end.
        """

        def created() -> None:
            _perform(client, record.begin(self._lost.labels()))
            if record.run is not None:
                self._active[record] = client
                self._again[record] = again

        return self._soon(created)

    def end(self, record: Record, outcome: Outcome) -> ThreadFuture[None]:
        """Finish a record; the result is there when its last state is set."""

        def finished() -> None:
            client = self._active.pop(record, None)
            again = self._again.pop(record, None)
            if client is None:
                return
            try:
                _perform(client, record.end(outcome))
            except ClientClosed:
                if again is None:
                    raise
                with again() as other:
                    _perform(other, record.end(outcome))
                    _perform(other, record.send_artifacts())
                return
            self._soon(lambda: _perform(client, record.send_artifacts()))
            self._soon(lambda: self._look(client))

        return self._soon(finished)

    def do(self, client: Performer, steps: Steps[Any]) -> ThreadFuture[None]:
        """Make other calls, in turn."""
        return self._soon(lambda: _perform(client, steps))

    def close(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds until everything that was passed so far is sent."""
        if self._thread is not None:
            # What is sent after the end of a record is passed by the end.
            self._soon(lambda: self._soon(self._active.clear)).wait(timeout / 2)
            self._soon(lambda: None).wait(timeout / 2)

    def _soon(self, job: Callable[[], object]) -> ThreadFuture[None]:
        future: ThreadFuture[None] = ThreadFuture()

        def run() -> None:
            try:
                job()
            except Exception as exc:  # noqa: BLE001 - raised or shown where the result is awaited
                future.set_error(exc)
            else:
                future.set_result()

        with deferred_interrupts(), self._lock:
            self._jobs.put(run)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="orchnb-recorder", daemon=True
                )
                self._thread.start()
        return future

    def _run(self) -> None:
        while True:
            try:
                self._jobs.get(timeout=min(_SEND_INTERVAL, self._heartbeat))()
            except queue.Empty:
                with self._lock:
                    if not self._active and self._jobs.empty():
                        self._thread = None
                        return
            if self._clock() - self._sent >= _SEND_INTERVAL:
                self._sent = self._clock()
                self._each(self._send)
            if self._clock() - self._beaten >= self._heartbeat:
                self._beaten = self._clock()
                self._each(self._beat)

    def _each(self, act: Callable[[Record, Performer], None]) -> None:
        for record, client in list(self._active.items()):
            try:
                act(record, client)
            except Exception as exc:  # noqa: BLE001 - the next try may succeed
                logger.debug("A recorded run was not updated: %s", type(exc).__name__)

    def _send(self, record: Record, client: Performer) -> None:
        _perform(client, record.send_lines())
        _perform(client, record.send_artifacts())

    def _beat(self, record: Record, client: Performer) -> None:
        _perform(client, record.beat(self._lost.heartbeat()))
        self._look(client)

    def _look(self, client: Performer) -> None:
        if self._clock() - self._looked >= self._heartbeat:
            self._looked = self._clock()
            with suppress(Exception):  # another notebook's runs, which the next look finds again
                _perform(client, self._lost.find())


def _perform(client: Performer, steps: Steps[T]) -> T:
    result: T = client.perform(_within_limits(steps))
    return result


def _within_limits(steps: Steps[T]) -> Generator[Call[Any] | Sleep, Any, T]:
    """Make the calls with a limit on the time of each. A server that is too busy for a moment is asked
    again; nothing else is retried."""
    each = iter(steps)
    try:
        call = next(each)
        while True:
            try:
                answer = yield from _tried(call)
            except Exception as exc:  # noqa: BLE001 - passed on to the steps
                call = each.throw(exc)
            else:
                call = each.send(answer)
    except StopIteration as done:
        result: T = done.value
        return result


def _tried(call: Call[Any]) -> Generator[Call[Any] | Sleep, Any, Any]:
    for wait in (*_WAITS_IF_BUSY, None):
        try:
            return (yield replace(call, timeout=_REQUEST_TIMEOUT))
        except PrefectHTTPStatusError as exc:
            if wait is None or exc.status_code not in (429, 503):
                raise
        yield Sleep(wait)
