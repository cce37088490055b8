"""Interrupts that wait until what is being done is whole."""

from __future__ import annotations

import inspect
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def held_interrupts() -> Iterator[list[int]]:
    """An interrupt that comes within the block is not raised: its number is put into the list.

    Interrupts arrive in the main thread. Elsewhere, and where what handles them is no function of
    Python's, the list stays empty.
    """
    held: list[int] = []
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield held
        return

    def hold(number: int, frame: FrameType | None) -> None:
        del frame
        held.append(number)

    signal.signal(signal.SIGINT, hold)
    try:
        yield held
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """An interrupt that comes within the block is handled at its end.

    For a few steps that belong together and wait for nobody: to take something and to note who gives it
    back; to start a thread, of which nobody could tell otherwise whether it will ever run; to make an
    event loop, which half-made complains on stderr when it is collected.

    Raises:
        KeyboardInterrupt: at the end, where that is what interrupts raise.
    """
    held: list[int] = []
    try:
        with held_interrupts() as held:
            yield
    finally:
        if held:
            # Not the signal once more: asyncio hears of it by its wake-up descriptor, and has done so.
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                handler(held[0], inspect.currentframe())
