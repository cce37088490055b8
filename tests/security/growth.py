"""How the work of a function grows with its input, measured so that a busy machine does not matter.

The time of the processor that this thread has used is compared, not that of the clock; the least of
several runs counts; and what is compared is a ratio: four times the text takes four times as long if the
work is linear, and sixteen times if it is quadratic. The limit is in the middle of the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable

MOST = 8.0
_LEAST_SECONDS = 0.004
_RUNS = 6


def seconds(work: Callable[[], object], least: float = 1.0) -> float:
    before = time.thread_time()
    work()
    return min(least, time.thread_time() - before)


def grows_linearly(work: Callable[[int], Callable[[], object]], size: int = 1_000) -> bool:
    """Whether ``work(n)()`` takes at most `MOST` times as long for four times the ``n``.

    ``size`` is the smallest ``n``; it is doubled until the work takes long enough to be measured, or is
    so quick that it does not matter.
    """
    while seconds(work(size), 100.0) < _LEAST_SECONDS and size < 500_000:
        size *= 2
    small, large = work(size), work(4 * size)
    least_small = least_large = 100.0
    for _ in range(_RUNS):
        least_small = seconds(small, least_small)
        least_large = seconds(large, least_large)
        if least_large <= MOST * max(least_small, _LEAST_SECONDS / 4):
            return True
    return False
