"""What hosted code prints goes to the server's log, and not into the cell that happens to run."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any, TextIO

from orchnb.runtime.loops import is_hosted

_LONGEST_LINE = 100_000
"""Characters. A line that is longer than that is cut in pieces."""


class HostedOutput:
    """Stands before ``sys.stdout`` and ``sys.stderr`` until it is removed."""

    def __init__(self) -> None:
        self._streams = [_Diverted("stdout", logging.INFO), _Diverted("stderr", logging.WARNING)]

    def remove(self) -> None:
        """Put back what was there before; who keeps one of ours has all passed on to that."""
        for stream in self._streams:
            stream._give_back()


class _Diverted:
    """A stream that keeps what hosted code writes to it for the log, and is the real one in all else."""

    def __init__(self, name: str, level: int) -> None:
        self._real: TextIO = getattr(sys, name)
        self._name = name
        self._level = level
        self._is_removed = False
        self._begun = threading.local()  # the line that a thread has begun
        setattr(sys, name, self)

    @property  # type: ignore[misc] # nobody sets it
    def __class__(self) -> type[Any]:
        # Kernels and libraries ask what kind of stream it is.
        return type(self._real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __setattr__(self, name: str, value: Any) -> None:
        # IPython itself puts something around `write` for a while, which is to be ours as well.
        if name.startswith("_") or name in _Diverted.__dict__:
            object.__setattr__(self, name, value)
        else:
            setattr(self._real, name, value)

    def __iter__(self) -> Any:
        return iter(self._real)

    def __enter__(self) -> Any:
        return self._real.__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self._real.__exit__(*error)

    def write(self, text: str) -> int:
        """To the log, a line at a time, if hosted code writes."""
        if self._is_removed or not is_hosted.get() or not isinstance(text, str):
            return self._real.write(text)
        *lines, rest = (getattr(self._begun, "line", "") + text).split("\n")
        while len(rest) > _LONGEST_LINE:
            lines.append(rest[:_LONGEST_LINE])
            rest = rest[_LONGEST_LINE:]
        self._begun.line = rest
        for line in lines:
            self._log(line)
        return len(text)

    def flush(self) -> None:
        """Also of a line that has not ended."""
        rest = getattr(self._begun, "line", "")
        if rest:
            self._begun.line = ""
            self._log(rest)
        self._real.flush()

    def writelines(self, lines: Any) -> None:
        """As `write`, each."""
        for line in lines:
            self.write(line)

    def _log(self, line: str) -> None:
        from orchnb.runtime.host import host_log

        host_log.add(logging.LogRecord(self._name, self._level, "", 0, line, None, None))

    def _give_back(self) -> None:
        self._is_removed = True
        if getattr(sys, self._name) is self:
            setattr(sys, self._name, self._real)
