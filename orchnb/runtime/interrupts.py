"""Interrupts (the stop button, Ctrl-C) during a block: hold them, or handle them in another way.

All interrupt handling in orchnb uses `interrupts_handled_by`, which sets the handler of SIGINT for a
block.
"""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

Handler: TypeAlias = Callable[[int, FrameType | None], object]


@contextmanager
def interrupts_handled_by(handler: Handler) -> Iterator[None]:
    """Call ``handler`` for each interrupt that comes during the block.

    Interrupts come to the main thread. In other threads, and where a program ignores interrupts or
    handles them outside of Python, nothing changes.
    """
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def held_interrupts() -> Iterator[list[int]]:
    """Put the number of each interrupt into the list, instead of raising it."""
    held: list[int] = []
    with interrupts_handled_by(lambda number, _: held.append(number)):
        yield held


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Handle an interrupt that comes during the block at its end.

    Use it for a few steps that belong together and do not wait: acquiring something and registering its
    release; starting a thread, because otherwise it is unknown whether it will ever run; creating an
    event loop, which reports on stderr if it is collected half-initialized.

    Raises:
        KeyboardInterrupt: at the end, if that is what interrupts raise.
    """
    held: list[int] = []
    try:
        with held_interrupts() as held:
            yield
    finally:
        if held:
            # Do not raise the signal again: asyncio already got it through its wake-up descriptor.
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                handler(held[0], inspect.currentframe())
