"""A limit on the total time of a blocking call.

httpx's timeouts apply between two bytes, and name resolution has none. A server that sends one byte a
second, or endless informational responses, keeps such a call waiting forever.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from orchnb.runtime.futures import ThreadFuture
from orchnb.runtime.interrupts import deferred_interrupts

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T], *, give_up: Callable[[], object]) -> T:
    """Return the result of ``call``, which runs in another thread, in a copy of this context.

    ``give_up`` is called in this thread if the call does not end in time, or if the wait is interrupted.
    It should make the call end soon; the result is then dropped.

    Raises:
        TimeoutError: the call has not ended in ``seconds``.
    """
    future: ThreadFuture[T] = ThreadFuture()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            result = context.run(call)
        except BaseException as exc:  # noqa: BLE001 - raised where the result is waited for
            future.set_error(exc)
        else:
            future.set_result(result)

    try:
        with deferred_interrupts():
            threading.Thread(target=run, name="orchnb-bounded", daemon=True).start()
        if future.wait(seconds):
            return future.result()
    finally:
        if not future.done():
            give_up()
    raise TimeoutError(f"not done within {seconds:g} s")
