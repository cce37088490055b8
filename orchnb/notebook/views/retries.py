"""The outcome of retried requests: one entry for each request, and views of many."""

from __future__ import annotations

import itertools
import math
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from orchnb.http.retry import RetryEvent
from orchnb.notebook.views.model import Line, Live, Step, Table, Tone, clean, duration

MOST_WAITS_SHOWN = 8
"""Number of requests with a row in a live display; the others are only counted."""

MOST_IN_TABLE = 100
"""Number of requests in the table of a session; it shows the last ones."""

_CAUSES = {
    "ConnectError": "cannot connect",
    "ConnectTimeout": "no connection in time",
    "LocalProtocolError": "the connection broke",
    "PoolTimeout": "no connection was free in time",
    "ReadError": "the connection broke",
    "ReadTimeout": "no answer in time",
    "RemoteProtocolError": "the connection broke",
    "WriteError": "the connection broke",
}

# The worst first: several requests get the tone of the worst of them.
_TONES: dict[str, Tone] = {"gave_up": "error", "stopped": "warn", "recovered": "good"}


@dataclass(eq=False)
class Retried:
    """One request that did not succeed at first, and its latest event.

    ``at`` is the time of the event on the clock that measures waits, in seconds; ``time`` is its time of
    day.
    """

    event: RetryEvent
    at: float
    time: datetime
    by_person: bool = False
    """Whether the user stopped it."""

    @property
    def name(self) -> str:
        """The request as method and path."""
        return clean(f"{self.event.method} {urlsplit(self.event.url).path}", 80)

    @property
    def operation(self) -> str:
        """The client's operation that made the request, or else its method and path."""
        return clean(self.event.operation, 80) or self.name

    @property
    def cause(self) -> str:
        """Why the last try failed, in words."""
        words = _CAUSES.get(self.event.cause)
        return f"{words} ({self.event.cause})" if words else clean(self.event.cause)

    @property
    def waits(self) -> bool:
        """Whether it is waiting for its next try."""
        return self.event.kind == "waiting"

    @property
    def outcome(self) -> str:
        """How it ended, in words."""
        if self.waits:
            return "in progress"
        end = {"gave_up": "gave up", "stopped": "stopped by you" if self.by_person else "stopped"}
        tries = "1 try" if self.event.attempt == 1 else f"{self.event.attempt} tries"
        words = end.get(self.event.kind, self.event.kind)
        return f"{words} after {tries} in {duration(self.event.elapsed)}"

    def step(self, now: float) -> Step:
        """Return its row while it is in progress."""
        gone = now - self.at
        left = self.event.wait - gone
        if self.event.max_attempts is None:
            which = "In maintenance: waiting as long as it takes, next try"
        else:
            which = f"Try {self.event.attempt + 1} of {self.event.max_attempts}"
        due = self.time + timedelta(seconds=self.event.wait)
        length = f"{math.ceil(left)} s" if left <= 99 else duration(math.ceil(left))
        when = f"in {length}, at {due:%H:%M:%S}" if left > 0 else "now"
        spent = duration(self.event.elapsed + gone)
        return Step(
            self.name,
            f"{self.cause}. {which} {when}. {spent} so far.",
            fraction=min(1.0, gone / self.event.wait) if self.event.wait > 0 else 1.0,
        )


class Retries:
    """The retried requests of one cell. ``clock`` returns seconds from an arbitrary start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.waiting: dict[int, Retried] = {}
        self.stopped: deque[Retried] = deque(maxlen=500)
        self._clock = clock
        self._ended: Counter[str] = Counter()
        self._tries = 0
        self._last: Retried | None = None
        self._began = math.inf

    def add(self, entry: Retried) -> None:
        """Take note of something that has happened to a request."""
        self._began = min(self._began, entry.at - entry.event.elapsed)
        if entry.waits:
            self.waiting[entry.event.request_id] = entry
        else:
            self.waiting.pop(entry.event.request_id, None)
            self._ended[entry.event.kind] += 1
            self._tries += entry.event.attempt
            self._last = entry
            if entry.event.kind == "stopped":
                self.stopped.append(entry)

    def view(self, ways_out: str = "") -> Live | Line:
        """Return what is in progress and how to end it, or a summary when nothing is in progress."""
        if self.waiting or self._last is None:
            return self._live(ways_out)
        total = sum(self._ended.values())
        tone = next(tone for kind, tone in _TONES.items() if self._ended[kind])
        if total == 1:
            return Line(f"{self._last.name}: {self._last.outcome} ({self._last.cause})", tone)
        took = duration(self._last.at - self._began)
        words = (
            f"{total:,} requests were retried: {self._so_far()}, {self._tries:,} tries in {took}"
        )
        return Line(f"{words}; %orch_retries shows each", tone)

    def _live(self, ways_out: str) -> Live:
        now = self._clock()
        first = itertools.islice(self.waiting.values(), MOST_WAITS_SHOWN)
        steps = [entry.step(now) for entry in first]
        more = len(self.waiting) - len(steps)
        notes = [f"and {more:,} more request{'s' if more > 1 else ''}"] if more else []
        if self._ended:
            notes.append(f"so far: {self._so_far()}")
        if ways_out:
            notes.append(ways_out)
        return Live("The server is not responding normally; retrying", steps, notes)

    def _so_far(self) -> str:
        words = {"recovered": "recovered", "gave_up": "gave up", "stopped": "stopped"}
        return ", ".join(
            f"{self._ended[k]:,} {word}" for k, word in words.items() if self._ended[k]
        )


class RetriedList(list[Retried]):
    """The retried requests of a session, oldest first."""


def retried_table(retried: RetriedList) -> Table | Line:
    """Return a table of when, what, how often and why, and how each request ended."""
    rows = [
        (
            f"{entry.time - timedelta(seconds=entry.event.elapsed):%H:%M:%S}",
            entry.operation,
            str(entry.event.attempt),
            entry.cause,
            entry.outcome,
        )
        for entry in retried[-MOST_IN_TABLE:]
    ]
    if not rows:
        return Line("No requests were retried in this session")
    many = f"{len(retried):,} request{'' if len(retried) == 1 else 's'}"
    if len(rows) < len(retried):
        many = f"the last {len(rows):,} of {many}"
    return Table(("began", "operation", "tries", "last failure", "outcome"), rows, many)


class RetryHistory:
    """The retried requests of this session: the last ``size``, oldest first."""

    def __init__(self, size: int = 500) -> None:
        self._size = size
        self._lock = threading.Lock()  # requests are made on any thread
        self._entries: dict[int, Retried] = {}

    def add(self, entry: Retried) -> None:
        """Take note of something that has happened to a request."""
        with self._lock:
            self._entries[entry.event.request_id] = entry
            if len(self._entries) > self._size:
                del self._entries[next(iter(self._entries))]

    def entries(self) -> RetriedList:
        """Return all entries."""
        with self._lock:
            return RetriedList(self._entries.values())

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._entries.clear()
