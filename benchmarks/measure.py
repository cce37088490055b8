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
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

Taken = dict[str, list[float]]
"""What a single operation took, in seconds or bytes: of each contestant, round by round."""


@dataclass(frozen=True)
class Result:
    """One contestant's figure in one comparison."""

    name: str
    amount: float
    """Median of a single operation."""
    ratio: float
    """Median of the ratios to the reference, round by round."""
    low: float
    high: float
    """Quartiles of these ratios."""


def summarise(taken: Taken, reference: str) -> list[Result]:
    """Medians and quartiles from the amounts of every round."""
    results = []
    for name, amounts in taken.items():
        ratios = [own / base for own, base in zip(amounts, taken[reference], strict=True)]
        middle = statistics.median(ratios)
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else 3 * [middle]
        results.append(Result(name, statistics.median(amounts), middle, low, high))
    return results


async def compare_async(
    operations: Mapping[str, Callable[[], Awaitable[object]]], *, rounds: int, repeat: int
) -> Taken:
    """Each operation ``repeat`` times a round, in an order that chance gives; one round first that
    does not count."""
    taken: Taken = {name: [] for name in operations}
    for name in turns(operations, rounds + 1):
        began = time.perf_counter()
        for _ in range(repeat):
            await operations[name]()
        taken[name].append((time.perf_counter() - began) / repeat)
    return {name: amounts[1:] for name, amounts in taken.items()}


def compare_calls(operations: Mapping[str, Callable[[], object]], *, rounds: int) -> Taken:
    """`compare_async` for plain functions, one call a round."""
    taken: Taken = {name: [] for name in operations}
    for name in turns(operations, rounds + 1):
        began = time.perf_counter()
        operations[name]()
        taken[name].append(time.perf_counter() - began)
    return {name: amounts[1:] for name, amounts in taken.items()}


def turns(names: Iterable[str], rounds: int) -> Iterator[str]:
    """Every name once a round, in an order that chance gives."""
    order = list(names)
    for _ in range(rounds):
        random.shuffle(order)
        yield from order


def process(code: str, **environment: str) -> Callable[[], object]:
    """A fresh interpreter that runs ``code`` to its end, as an operation for `compare_calls`."""

    def run() -> None:
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **environment}, check=True, timeout=120
        )

    return run
