"""Cells on the record: ``%%orch_track`` makes a cell a flow run, ``%orch_track on`` each cell a task run.

The line ``%%orch_track`` is removed from the cell before IPython runs it, by one of its input
transformers. So the cell runs as any other: with ``await``, magics and rich output. The record begins and
ends before and after the cell, in the functions that IPython calls then.
"""

from __future__ import annotations

import asyncio
import re
import traceback as python_traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from orchnb.notebook._ipython import current_request, name_of_code
from orchnb.notebook.cell_hooks import CellHooks
from orchnb.notebook.cell_tracking import Cell
from orchnb.notebook.display_mode import Mode
from orchnb.notebook.tracebacks import own_frames
from orchnb.notebook.track_options import ParseOptions, TrackOptions, error_line

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.notebook.record_displays import RecordedCell
    from orchnb.notebook.record_displays import Recording as RecordingSession
    from orchnb.runs.records import Outcome

_TRACK = re.compile(r"%%orch_track(?=\s|$)(.*)")
_AROUND = re.compile(r"%%(time|timeit|capture|prun)(?=\s|$)")
"""Cell magics that run the rest of the cell, and so may come before."""

_LONGEST_TRACEBACK = 50_000


class CellRecords:
    """Records the cells of one shell that ask for it.

    ``parse`` parses the magic's line, ``current_cell`` returns the cell that the running code belongs to,
    ``mode`` returns the display mode.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        parse: ParseOptions,
        current_cell: Callable[[], Cell | None],
        mode: Callable[[], Mode],
    ) -> None:
        self._shell = shell
        self._parse = parse
        self._current_cell = current_cell
        self._mode = mode
        self._session: RecordingSession | None = None
        self._open: dict[str, list[RecordedCell | None]] = {}
        self._transformer = self._without_line
        shell.input_transformers_cleanup.append(self._transformer)
        self._hooks = CellHooks(shell, before=self._begin, after=self._end, waits=True)

    def remove(self) -> None:
        """Finish everything, and unregister from the shell."""
        from orchnb.runs.records import Outcome

        self._hooks.remove()
        with suppress(ValueError):
            self._shell.input_transformers_cleanup.remove(self._transformer)
        for recorded in [each for stack in self._open.values() for each in stack]:
            if recorded is not None:
                recorded.end(Outcome("COMPLETED", "orchnb was unloaded in this cell"), None)
        self._open.clear()
        if self._session is not None:
            self._session.close()

    @property
    def session(self) -> RecordingSession:
        """What records, made when first needed."""
        if self._session is None:
            from orchnb.notebook.record_displays import Recording

            self._session = Recording(self._shell, self._current_cell, self._mode)
        return self._session

    def _without_line(self, lines: list[str]) -> list[str]:
        """Remove the magic's line, if it is valid. IPython calls this for more than running a cell, such
        as to find out whether a cell is complete, and perhaps with lines that it has returned."""
        place = _place_of_magic(lines)
        if place is None or self._options(lines[place]) is None:
            return lines
        rest = lines[place + 1 :]
        if place == 0 and rest and not _first(rest).startswith("%%"):
            return [
                "\n",
                *rest,
            ]  # so that tracebacks have the numbers of the lines that the user sees
        return [*lines[:place], *rest[_blank(rest) :]] or ["\n"]

    def _options(self, line: str) -> TrackOptions | None:
        found = _TRACK.match(line)
        if found is None:
            return None
        try:
            return self._parse(found[1])
        except Exception:  # noqa: BLE001 - the magic raises it again when it is called
            return None

    def _begin(self, info: Any = None) -> None:
        source = str(getattr(info, "raw_cell", None) or "")
        recorded = None
        options = None
        if "%%orch_track" in source:
            lines = source.strip("\n").splitlines(keepends=True)
            place = _place_of_magic(lines)
            options = None if place is None else self._options(lines[place])
        stack = self._open.setdefault(self._key(), [])
        stack.append(None)
        # Front ends run code, such as a variable inspector's, without storing it.
        is_on = self._session is not None and self._session.is_on
        if options is not None or (is_on and getattr(info, "store_history", False)):
            recorded = self.session.begin(options, source)
            stack[-1] = recorded

    def _end(self, result: Any = None) -> None:
        key = self._key()
        stack = self._open.get(key)
        if not stack:
            return
        recorded = stack.pop()
        if not stack:
            del self._open[key]
        if recorded is not None:
            recorded.end(self._outcome(result), result)

    def _outcome(self, result: Any) -> Outcome:
        from orchnb.runs.records import Outcome

        error = getattr(result, "error_before_exec", None) or getattr(result, "error_in_exec", None)
        # ipykernel interrupts a cell that awaits by cancelling it, and may then have no result.
        if result is None or isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
            return Outcome("CANCELLED", "Stopped by the user")
        if error is None:
            return Outcome("COMPLETED")
        return Outcome("FAILED", error_line(error), self._traceback(error))

    def _traceback(self, error: BaseException) -> str:
        """Return the traceback of an error with the user's own frames, without values of variables."""
        with suppress(Exception):  # the user's code, such as a `__str__`, can raise anything
            frames = [
                python_traceback.FrameSummary(
                    name_of_code(self._shell, frame.filename),
                    frame.lineno,
                    frame.name,
                    line=frame.line,
                )
                for frame in python_traceback.extract_tb(own_frames(error.__traceback__))
            ]
            lines = python_traceback.StackSummary.from_list(frames).format()
            if lines:
                lines = ["Traceback (most recent call last):\n", *lines]
            lines += python_traceback.format_exception_only(error)
            return "".join(lines).rstrip()[-_LONGEST_TRACEBACK:]
        return ""

    def _key(self) -> str:
        parent = current_request(self._shell) or {}
        return str(parent.get("header", parent).get("msg_id", ""))


def _place_of_magic(lines: Sequence[str]) -> int | None:
    """Return the place of the magic's line: the first that is not blank, but for magics around it."""
    for place in range(_blank(lines), len(lines)):
        if _TRACK.match(lines[place]):
            return place
        if not _AROUND.match(lines[place]):
            return None
    return None


def _blank(lines: Sequence[str]) -> int:
    """Return how many lines at the beginning are blank."""
    return next((place for place, line in enumerate(lines) if line.strip()), len(lines))


def _first(lines: Sequence[str]) -> str:
    place = _blank(lines)
    return lines[place] if place < len(lines) else ""
