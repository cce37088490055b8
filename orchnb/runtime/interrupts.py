"""Interrupts that wait until what is being done is whole."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """An interrupt that comes within the block is handled at its end.

    For a few steps that belong together and wait for nobody: to take something and to note who gives it
    back; to start a thread, of which nobody could tell otherwise whether it will ever run; to make an
    event loop, which half-made complains on stderr when it is collected.

    Raises:
        KeyboardInterrupt: at the end, where that is what interrupts raise.
    """
    handler = signal.getsignal(signal.SIGINT)
    # They arrive in the main thread only; what is no function of Python's raises nothing.
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    interrupts: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        del frame
        interrupts.append(number)

    signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if interrupts:
            # Not the signal once more: asyncio hears of it by its wake-up descriptor, and has done so.
            handler(interrupts[0], inspect.currentframe())
