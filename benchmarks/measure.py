"""Ratios of paired measurements.

Machines are shared and noisy, so a figure here is never a time alone: the contestants take turns
within one run, each round gives a ratio to the reference, and the median of these with its quartiles
is the result.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Result:
    """One contestant's figure in one comparison."""

    name: str
    amount: float
    """Median of a single operation, in ``unit``."""
    ratio: float
    """Median of the ratios to the reference, round by round."""
    low: float
    high: float
    """Quartiles of these ratios."""
    unit: Literal["s", "B"] = "s"


def summarise(
    rounds: Mapping[str, list[float]], reference: str, unit: Literal["s", "B"] = "s"
) -> list[Result]:
    """Medians and quartiles from the amounts of every round."""
    results = []
    for name, amounts in rounds.items():
        ratios = sorted(own / base for own, base in zip(amounts, rounds[reference], strict=True))
        low, middle, high = statistics.quantiles(ratios, n=4)
        results.append(Result(name, statistics.median(amounts), middle, low, high, unit))
    return results


async def compare_async(
    operations: Mapping[str, Callable[[], Awaitable[object]]],
    *,
    reference: str,
    rounds: int,
    repeat: int,
) -> list[Result]:
    """Each operation ``repeat`` times a round, in an order that chance gives."""
    for operation in operations.values():
        for _ in range(repeat):
            await operation()
    taken: dict[str, list[float]] = {name: [] for name in operations}
    order = list(operations)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            operation = operations[name]
            began = time.perf_counter()
            for _ in range(repeat):
                await operation()
            taken[name].append((time.perf_counter() - began) / repeat)
    return summarise(taken, reference)


def compare_calls(
    operations: Mapping[str, Callable[[], object]], *, reference: str, rounds: int
) -> list[Result]:
    """`compare_async` for plain functions, one call a round."""
    for operation in operations.values():
        operation()
    taken: dict[str, list[float]] = {name: [] for name in operations}
    order = list(operations)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            began = time.perf_counter()
            operations[name]()
            taken[name].append(time.perf_counter() - began)
    return summarise(taken, reference)


def process(code: str, **environment: str) -> Callable[[], object]:
    """A fresh interpreter that runs ``code`` to its end, as an operation for `compare_calls`."""
    # Compiled modules are kept, as they are for anybody who installs a package.
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "ORCHNB_")) and name != "PYTHONDONTWRITEBYTECODE"
    }

    def run() -> None:
        subprocess.run(
            [sys.executable, "-c", code], env={**clean, **environment}, check=True, timeout=120
        )

    return run
