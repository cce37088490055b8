"""Starting a thread so that an interrupt can do no harm."""

from __future__ import annotations

import inspect
import signal
import threading
from types import FrameType


def start_thread(thread: threading.Thread) -> None:
    """Start a thread; an interrupt that comes meanwhile is handled as soon as the thread runs.

    ``Thread.start`` waits until the thread says that it runs. Interrupted there, it leaves a thread
    of which nobody can tell whether it will ever run. After this function, whatever it raises,
    ``thread.is_alive()`` is true of one that was started and has not come to its end yet.

    Raises:
        RuntimeError: there can be no more threads, or it has been started before.
        KeyboardInterrupt: there was an interrupt, where that is what interrupts raise.
    """
    handler = signal.getsignal(signal.SIGINT)
    # They arrive in the main thread only; what is no function of Python's raises nothing.
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        thread.start()
        return
    interrupts: list[int] = []

    def keep(number: int, frame: FrameType | None) -> None:
        del frame
        interrupts.append(number)

    signal.signal(signal.SIGINT, keep)
    try:
        thread.start()
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupts:
        # Not the signal once more: asyncio hears of it by its wake-up descriptor, and has done so.
        handler(interrupts[0], inspect.currentframe())
