"""What servers in this kernel have logged, as a card."""

from __future__ import annotations

import logging

from orchnb.http.response import printable
from orchnb.notebook.views import Card, Line
from orchnb.runtime.host import host_log

_LONGEST = 4000
"""Characters of a line, which may be a whole traceback."""


def log_view(count: int, level: str) -> Card | Line:
    """The last ``count`` lines of at least that level, by its lower-case name."""
    number = logging.getLevelName(level.upper())
    lines = host_log.lines(count, number)
    among = "" if level == "notset" else f" of level {level} or graver"
    if not lines:
        return Line(f"No server in this kernel has logged anything{among}")
    kept = len(host_log.lines(host_log.size, number))
    notes = [f"{len(lines)} of {kept} lines{among}"] if kept > len(lines) else []
    shown = [printable(line[:_LONGEST] + "…" * (len(line) > _LONGEST)) for line in lines]
    return Card("Log of the servers in this kernel", log=shown, notes=notes)
