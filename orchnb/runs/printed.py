"""What code prints, as lines with their times, limited in size."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from typing import NamedTuple

from orchnb.text import printable

MOST_PRINTED_LINES = 10_000
"""Lines that are kept of one cell."""

MOST_CHARACTERS = 2_000_000
"""Characters that are kept of one cell."""

LONGEST_LINE = 10_000

_LINES_PER_BATCH = 500
_CHARACTERS_PER_BATCH = 500_000

LEVELS_OF_STREAMS: dict[str, int] = {"stdout": logging.INFO, "stderr": logging.WARNING}
"""The level of a line by its stream: warnings, logs and errors go to stderr."""


class PrintedLine(NamedTuple):
    """One line, with the time when it ended."""

    at: datetime
    stream: str
    level: int
    text: str


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Printed:
    """Collects what is written to streams, from any thread, as lines in the order of their ends.

    Of a line that returns to its beginning, as progress bars do, the last version is kept.
    """

    def __init__(self, now: Callable[[], datetime] = _utc_now) -> None:
        self.left_out: int = 0
        """How many lines were left out because there were too many."""
        self._now = now
        self._lock = threading.Lock()
        self._rest: dict[str, str] = {}
        self._lines: list[PrintedLine] = []
        self._kept = 0
        self._characters = 0

    def write(self, stream: str, text: str) -> None:
        """Add text that was written to a stream."""
        with self._lock:
            *ended, rest = (self._rest.get(stream, "") + text).split("\n")
            self._rest[stream] = rest if len(rest) <= LONGEST_LINE else _last_version(rest)
            for line in ended:
                self._add(stream, line)

    def add(self, stream: str, level: int, text: str) -> None:
        """Add a text of several lines as one entry, even if there are too many."""
        with self._lock:
            self._lines.append(PrintedLine(self._now(), stream, level, text))

    def finish(self) -> None:
        """Regard lines without an end as ended, and say how many were left out."""
        with self._lock:
            rest, self._rest = self._rest, {}
            for stream, line in rest.items():
                if line:
                    self._add(stream, line)
            if self.left_out:
                words = f"{self.left_out:,} more lines were printed; they are not recorded"
                self._lines.append(PrintedLine(self._now(), "orchnb", logging.WARNING, words))

    def take(self) -> list[PrintedLine]:
        """Remove and return the next lines, as many as fit into one request."""
        with self._lock:
            size = count = 0
            for line in self._lines[:_LINES_PER_BATCH]:
                size += len(line.text)
                if count and size > _CHARACTERS_PER_BATCH:
                    break
                count += 1
            taken, self._lines = self._lines[:count], self._lines[count:]
            return taken

    def _add(self, stream: str, line: str) -> None:
        text = "\t".join(map(printable, _last_version(line).split("\t"))).expandtabs()
        if self._kept >= MOST_PRINTED_LINES or self._characters + len(text) > MOST_CHARACTERS:
            self.left_out += 1
            return
        self._kept += 1
        self._characters += len(text)
        level = LEVELS_OF_STREAMS.get(stream, logging.INFO)
        self._lines.append(PrintedLine(self._now(), stream, level, text))


def _last_version(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2][:LONGEST_LINE]
