"""The log of in-kernel servers, as a card."""

from __future__ import annotations

import logging

from orchnb.hosting.host import host_log
from orchnb.hosting.logs import secret_mask
from orchnb.notebook.views.model import Card, Line

_MOST_OF_THE_BEGIN, _MOST_OF_THE_END = 500, 3500
"""Characters to keep of a line, which may be a whole traceback: the error is at its end."""


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
    shown = [_shown(line) for line in map(secret_mask(), lines)]
    return Card("Log of the in-kernel servers", log=shown, notes=notes)


def _shown(line: str) -> str:
    if len(line) > _MOST_OF_THE_BEGIN + _MOST_OF_THE_END:
        line = f"{line[:_MOST_OF_THE_BEGIN]}\n…\n{line[-_MOST_OF_THE_END:]}"
    return "\n".join(line.splitlines())  # normalizes all kinds of line ends
