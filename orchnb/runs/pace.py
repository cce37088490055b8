"""How often to look: less often where nothing changes, or where the server does not respond."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import httpx

from orchnb.errors import PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.http.calls import AT_MOST, Call

Clock = Callable[[], float]
T = TypeVar("T")

SHORTEST_GAP = 0.5
"""Seconds between two requests, at least."""

LONGEST_INTERVAL = 2.0
"""Seconds between two looks at the same object; the longer nothing changes, the longer."""

_LONGEST_BACKOFF = 30.0
"""Seconds between two requests to a server that does not respond."""

LOOK_TIMEOUT = 20.0
"""Seconds that the server may take for one request."""

PASSING = (httpx.TransportError, PrefectHTTPStatusError, UnexpectedAnswer)
"""Errors after which a later request can succeed; `Pace.failed` tells which do."""

_PASSING_STATUSES = frozenset({408, 429})
"""Statuses that say to try again later, as those from 500 do."""


def smaller_limit(error: Exception, limit: int) -> int | None:
    """Return how many objects the server returns at most, if the error says that ``limit`` is more."""
    if not isinstance(error, PrefectHTTPStatusError) or error.status_code != 422:
        return None
    most = AT_MOST.search(error.detail)
    return int(most[1]) if most is not None and 0 < int(most[1]) < limit else None


def with_timeout(
    steps: Generator[Call[Any], Any, T], seconds: float
) -> Generator[Call[Any], Any, T]:
    """Make an operation's calls with a timeout, and so without retries of the client's."""
    answer: Any = None
    error: Exception | None = None
    while True:
        try:
            call = steps.throw(error) if error is not None else steps.send(answer)
        except StopIteration as done:
            result: T = done.value
            return result
        error = None
        try:
            answer = yield dataclasses.replace(call, timeout=seconds)
        except Exception as exc:  # noqa: BLE001 - the operation decides what an error means
            error = exc


class Pace:
    """When the next request is due."""

    def __init__(self, interval: float | None = None, *, clock: Clock = time.monotonic) -> None:
        self.clock = clock
        self.trouble: Exception | None = None
        """Why the last request failed; None if it succeeded."""
        self._fixed_interval = interval
        self.last_success: float | None = None
        """When the last request succeeded."""
        self._failures = 0
        self._last_request = float("-inf")
        self._round_began = float("-inf")
        self._changed = clock()

    @property
    def is_fixed(self) -> bool:
        """Whether the interval is given, and not adapted."""
        return self._fixed_interval is not None

    def due(self, *, new_round: bool = True) -> float:
        """Return the time of the next request. ``new_round`` is false if it only completes a look."""
        if self._failures:
            return self._last_request + min(2.0 ** (self._failures - 1), _LONGEST_BACKOFF)
        gap = self._last_request + SHORTEST_GAP
        return max(gap, self._round_began + self._interval()) if new_round else gap

    def _interval(self) -> float:
        if self._fixed_interval is not None:
            return self._fixed_interval
        quiet = self.clock() - self._changed
        return min(max(quiet / 10, SHORTEST_GAP), LONGEST_INTERVAL)

    def requested(self, *, new_round: bool = True) -> None:
        """Record that a request is made now."""
        self._last_request = self.clock()
        if new_round:
            self._round_began = self._last_request

    def succeeded(self) -> None:
        """Record that the last request succeeded."""
        self.trouble, self._failures, self.last_success = None, 0, self.clock()

    def changed(self) -> None:
        """Record that something has changed, so that the next look is soon."""
        self._changed = self.clock()

    def failed(self, error: Exception) -> None:
        """Record an error that may pass; raise any other, and the error of the first request."""
        if isinstance(error, PrefectHTTPStatusError):
            passes = error.status_code >= 500 or error.status_code in _PASSING_STATUSES
        else:
            passes = True
        if not passes or self.last_success is None:
            raise error
        self.trouble = error
        self._failures += 1
