"""What servers in this kernel have logged, as a card."""

from __future__ import annotations

import logging

from orchnb.notebook.views import Card, Line
from orchnb.runtime.host import host_log
from orchnb.runtime.logs import secret_mask

_MOST_OF_THE_BEGIN, _MOST_OF_THE_END = 500, 3500
"""Characters of a line, which may be a whole traceback: the error is at its end."""


def log_view(count: int, level: str) -> Card | Line:
    """The last ``count`` lines of at least that level, by its lower-case name."""
    number = logging.getLevelName(level.upper())
    lines = host_log.lines(count, number)
    among = "" if level == "notset" else f" of level {level} or higher"
    if not lines:
        return Line(f"No server in this kernel has logged anything{among}")
    kept = len(host_log.lines(host_log.size, number))
    notes = [f"{len(lines)} of {kept} lines{among}"] if kept > len(lines) else []
    # Whole lines, as a part of a secret would not be known for one.
    shown = [_shown(line) for line in map(secret_mask(), lines)]
    return Card("Log of the servers in this kernel", log=shown, notes=notes)


def _shown(line: str) -> str:
    if len(line) > _MOST_OF_THE_BEGIN + _MOST_OF_THE_END:
        line = f"{line[:_MOST_OF_THE_BEGIN]}\n…\n{line[-_MOST_OF_THE_END:]}"
    return "\n".join(line.splitlines())  # of all kinds of line ends
