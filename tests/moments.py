"""Interrupts at every single moment of some work, for processes that do nothing else.

What is traced is no longer quite itself, so tests run this in a process of its own.
"""

from __future__ import annotations

import dis
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import orchnb
from orchnb.hosting import host

FOLDER = Path(orchnb.__file__).parent
NEVER = sys.maxsize
SECONDS = 10  # at most; nothing here should take any


class InterruptAt:
    """An interrupt at a moment of the main thread, counted from 1, in some files of orchnb's.

    Moments are those at which CPython looks for interrupts: where a function begins or goes on, after a
    call, and where a loop begins anew.
    """

    def __init__(self, number: int, files: tuple[str, ...]) -> None:
        self._left = number
        self.files = files
        self._paths = {str(FOLDER / file) for file in files}
        assert all(map(os.path.isfile, self._paths)), files
        self._last: dict[FrameType, str] = {}
        self.place = ""
        """Where it came; empty if there are not so many moments."""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in self._paths:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        if event == "call":
            self._last[frame] = "RESUME"
        elif event == "return":
            self._last.pop(frame, None)
        elif event == "exception":
            self._last[frame] = "raised"  # its handler comes next, with no look for interrupts
        elif event == "opcode":
            last = self._last.get(frame, "")
            self._last[frame] = names_of(frame.f_code)[frame.f_lasti]
            if last.startswith(("RESUME", "CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE")):
                self._left -= 1
                if self._left == 0:
                    self._interrupt(frame)
        return self

    def _interrupt(self, frame: FrameType) -> None:
        self.place = f"{frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno}"
        self._last.clear()
        sys.settrace(None)
        signal.raise_signal(signal.SIGINT)


@cache
def names_of(code: CodeType) -> dict[int, str]:
    """What each instruction of a function does, by its place."""
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


def interrupted(work: Callable[[], None], trace: InterruptAt) -> str:
    """The name of what came of it."""
    before = sys.gettrace()
    # Python 3.12 prepares for opcodes only if a frame has asked for them before `settrace`.
    sys._getframe().f_trace_opcodes = True
    try:
        if sys.version_info[:2] == (3, 13):  # which shows them from the second time on
            sys.settrace(InterruptAt(NEVER, trace.files))
            work()
        sys.settrace(trace)
        work()
    except BaseException as exc:  # it is what is asked for
        return type(exc).__name__
    finally:
        sys.settrace(before)
    return "nothing"


def left_behind() -> list[str]:
    """What still is there of the host, once it has had the time to go."""
    deadline = time.monotonic() + SECONDS
    while True:
        left = [t.name for t in threading.enumerate() if t.name in ("orchnb-host", "orchnb-run")]
        left += ["lease"] * host._tenancy.leases
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()  # what the interrupt's traceback holds
        time.sleep(0.001)


def interruptions(work: Callable[[], None], files: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Interrupt the work at each of its moments, once: where that was, and what came of it."""
    work()  # whatever it imports
    gc.freeze()  # which would be looked through at each collection
    for number in count(1):
        trace = InterruptAt(number, files)
        came_of_it = interrupted(work, trace)
        if not trace.place:
            return
        yield trace.place, came_of_it


def sweep(work: Callable[[], None], files: tuple[str, ...]) -> tuple[int, str]:
    """Interrupt the work at each of its moments, once.

    Returns:
        How many moments there are, and what went wrong first: empty if each was an interrupt, and no
        other error, that left nothing of the host behind.
    """
    dropped: list[type[BaseException]] = []
    sys.unraisablehook = lambda hook: dropped.append(hook.exc_type)
    moments = 0
    for place, came_of_it in interruptions(work, files):
        moments += 1
        # In a finalizer Python drops it.
        one = [KeyboardInterrupt]
        is_right = (came_of_it, dropped) in [("KeyboardInterrupt", []), ("nothing", one)]
        left = left_behind()
        if left or not is_right:
            return moments, f"{place}: {came_of_it}, {dropped}, {left}"
        dropped.clear()
    return moments, ""
