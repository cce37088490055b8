"""The log of in-kernel servers, as a card."""

from __future__ import annotations

import logging
import re

from orchnb.hosting.host import host_log
from orchnb.hosting.logs import secret_mask
from orchnb.notebook.views.model import Card, Line, LogEntry
from orchnb.notebook.views.run_logs import level_tone, log_entry

_LONGEST = 4_000
"""Characters to keep of a record, which may be a whole traceback: the error is at its end."""

_RECORD = re.compile(r"(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d),(\d{3}) (\w{1,12}) ([^\s:]{1,200}): ?")
"""How a record begins."""


def log_view(count: int, level: str) -> Card | Line:
    """Return the last ``count`` lines of at least ``level``, a lower-case name."""
    number = logging.getLevelName(level.upper())
    lines = host_log.lines(count, number)
    among = "" if level == "notset" else f" of level {level} or higher"
    if not lines:
        return Line(f"No in-kernel server has logged anything{among}")
    kept = len(host_log.lines(host_log.size, number))
    notes = [f"{len(lines)} of {kept} lines{among}"] if kept > len(lines) else []
    # Mask whole lines, because a part of a secret would not be recognized.
    entries = [_entry(line) for line in map(secret_mask(), lines)]
    worst = max(map(_severity, entries))
    tone = level_tone(worst) if worst >= logging.WARNING else "plain"
    return Card("Log of the in-kernel servers", tone, entries=entries, notes=notes)


def _entry(line: str) -> LogEntry:
    found = _RECORD.match(line)
    if found is None:
        return log_entry("", logging.INFO, "", "", line, _LONGEST)
    _, time, milliseconds, level, logger = found.groups()
    number = logging.getLevelName(level)
    severity = number if isinstance(number, int) else logging.INFO
    return log_entry(
        f"{time}.{milliseconds}", severity, level, logger, line[found.end() :], _LONGEST
    )


def _severity(entry: LogEntry) -> int:
    return {"error": logging.ERROR, "warn": logging.WARNING}.get(entry.tone, logging.INFO)
