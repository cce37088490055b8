"""Read tracebacks in log messages: which frames are the person's own, and what the error was.

The text comes from a process on any machine, so a frame is told by its path alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_START = "Traceback (most recent call last):"
_FRAME = re.compile(r'\s*File "([^"\n]+)", line (\d+)(?:, in (.+))?')
_LIBRARY = re.compile(
    r"[\\/](site|dist)-packages[\\/]"  # installed
    r"|[\\/]lib[\\/]python3[\d.]*t?[\\/]"  # the standard library
    r"|[\\/]Python3\d+[\\/]Lib[\\/]"  # the same on Windows
    r"|^<frozen "
    r"|[\\/]python3\d+\.zip[\\/]",
    re.IGNORECASE,
)
_MOST_LINES = 4000


class LoggedFrame(NamedTuple):
    """A frame of a traceback, as written in a log."""

    path: str
    line: int
    function: str
    lines: Sequence[str]
    """The frame's lines: its place, and its source if it was written."""

    @property
    def is_own(self) -> bool:
        """Whether its code is the person's, and not an installed library's or Python's."""
        return not _LIBRARY.search(self.path)


class LoggedTraceback(NamedTuple):
    """The last traceback in a message; earlier ones are those of its causes."""

    before: str
    """What the message says before its first traceback."""
    frames: Sequence[LoggedFrame]
    error: str
    """The error's type and message, of one line or several."""
    text: str
    """All of the message's tracebacks."""

    @property
    def own(self) -> Sequence[LoggedFrame]:
        """The person's own frames, outermost first; without any, the innermost frame."""
        own = [frame for frame in self.frames if frame.is_own]
        return own or list(self.frames[-1:])

    def excerpt(self) -> str:
        """Return the own frames and the error, as Python writes them."""
        lines = [line for frame in self.own for line in frame.lines]
        return "\n".join([*lines, self.error])


def traceback_in(message: str) -> LoggedTraceback | None:
    """Return the traceback in a log message; None without a traceback."""
    start = message.find(_START)
    if start < 0:
        return None
    text = message[start:]
    last = text.rsplit(_START, 1)[1].splitlines()[-_MOST_LINES:]
    frames: list[LoggedFrame] = []
    end = 0
    for after, lines in _blocks(last):
        end = after
        found = _FRAME.match(lines[0])
        assert found is not None, "a block begins with a frame"
        frames.append(LoggedFrame(found[1], int(found[2][:9]), found[3] or "", lines))
    error = "\n".join(last[end:]).strip("\n")
    return LoggedTraceback(message[:start].rstrip(), frames, error, text)


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield each frame's lines, and the index after them. A frame has its place, and then lines that are
    indented more."""
    place = 0
    while place < len(lines) and not lines[place].strip():
        place += 1
    while place < len(lines) and _FRAME.match(lines[place]):
        end = place + 1
        while end < len(lines) and _indent(lines[end]) > _indent(lines[place]):
            end += 1
        while end < len(lines) and lines[end].lstrip().startswith("[Previous line repeated"):
            end += 1
        yield end, lines[place:end]
        place = end


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
