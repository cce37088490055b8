"""``make bench``: every case, one table; written to RESULTS.md beside this file.

Ends with 1 if orchnb's ratio is over a case's limit.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from cases import CASES, Case
from measure import Result

PACKAGES = ("orchnb", "prefect", "httpx", "httpx-retries", "anyio", "pydantic")


def main() -> int:
    """Run, print, write; the exit code."""
    lines = [
        "# Results",
        "",
        f"{datetime.now(timezone.utc):%Y-%m-%d}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores; "
        + ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
        + ".",
        "",
        "Made by `make bench`. Ratios of medians, paired in one run; in brackets the quartiles. Machines "
        "are noisy: trust the ratios, not the times.",
        "",
        "| what | contestant | ratio | amount | limit |",
        "|---|---|---|---|---|",
    ]
    over = []
    for number, case in enumerate(CASES):
        results = in_fresh_process(number)
        for result in results:
            lines.append(row(case, result))
            print(lines[-1], flush=True)
            if is_ours(result) and result.ratio > case.limit:
                over.append(f"{case.title}: {result.ratio:.3f} is over {case.limit}")
    lines += ["", *(f"Over its limit: {words}." for words in over), *([""] if over else [])]
    Path(__file__).with_name("RESULTS.md").write_text("\n".join(lines).rstrip() + "\n")
    print(*over, sep="\n")
    return 1 if over else 0


def in_fresh_process(number: int) -> list[Result]:
    """A case by itself, so that none warms or burdens another."""
    # Their defaults would be found in this project's folder or home.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(run_case, number).result()


def run_case(number: int) -> list[Result]:
    """In the fresh process."""
    return CASES[number].run()


def row(case: Case, result: Result) -> str:
    """A line of the table."""
    amount = result.amount
    if result.unit == "B":
        shown = f"{amount / 1e6:.1f} MB"
    else:
        shown = f"{1e6 * amount:.0f} µs" if amount < 1e-3 else f"{1e3 * amount:.3g} ms"
    limit = f"at most {case.limit}" if is_ours(result) else ""
    ratio = "1" if result.name == case.reference else f"{result.ratio:.3f}"
    spread = "" if result.name == case.reference else f" ({result.low:.3f} to {result.high:.3f})"
    return f"| {case.title} | {result.name} | {ratio}{spread} | {shown} | {limit} |"


def is_ours(result: Result) -> bool:
    """Whether this contestant is orchnb."""
    return "orchnb" in result.name


if __name__ == "__main__":
    sys.exit(main())
