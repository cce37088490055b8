"""The results as tables: RESULTS.md, and from it the one in README."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import psutil
from cases import HTTPX, HTTPX_RETRIES, ORCHNB, PREFECT, Case, Limit
from measure import Result

RESULTS = Path(__file__).with_name("RESULTS.md")
README = RESULTS.parents[1] / "README.md"
PACKAGES = ("orchnb", "prefect", "httpx", "httpx-retries", "anyio", "pydantic")
CONTESTANTS = (ORCHNB, PREFECT, HTTPX, HTTPX_RETRIES)
IN_README = re.compile(r"(?<=<!-- made by make bench -->\n).*?(?=<!-- end -->)", re.DOTALL)

README_ROWS = (
    "A client ready in a fresh process",
    "A cell that wants one answer",
    "A request in a warm cell",
    "From loading it to the first answer of a separate server",
    "Memory for a list of 2,000 flow runs",
)
"""What README shows of the comparisons."""


def results_page(rows: Iterable[str], over: Iterable[str], command: str) -> str:
    """All of RESULTS.md, which names the command that made it."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    lines = [
        "# Results",
        "",
        f"Made by `{command}` on {datetime.now(timezone.utc):%Y-%m-%d}: {machine()}; {versions}.",
        "",
        "An amount is a median. A ratio is the median of the ratios to the contestant with 1, round by "
        "round within one run, and in brackets are its quartiles. Machines are noisy: trust the ratios, "
        "not the times.",
        "",
        "| what | contestant | ratio | amount | rounds | limit |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    over = [f"Over its limit: {words}." for words in over]
    return "\n".join([*lines, *([""] if over else []), *over]) + "\n"


def machine() -> str:
    """What it was measured on."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, "
        f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    )


def processor() -> str:
    """Its name, where the system tells."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "processor unknown"


def row(case: Case, result: Result, rounds: int) -> str:
    """A line of RESULTS.md."""
    ratio = "1"
    if result.name != case.reference:
        ratio = f"{result.ratio:.3f} ({result.low:.3f} to {result.high:.3f})"
    limit = case.limits.get(result.name)
    words = f"at most {limit_of(limit)}" if limit else ""
    shown = amount(result.amount, case.unit)
    return f"| {case.title} | {result.name} | {ratio} | {shown} | {rounds} | {words} |"


def over_limit(case: Case, result: Result) -> str:
    """What is wrong with the result; an empty text if nothing is."""
    limit = case.limits.get(result.name)
    if limit is None:
        return ""
    found = Limit(result.ratio if limit.unit == "ratio" else result.amount, limit.unit)
    if found.most <= limit.most:
        return ""
    return f"{case.title}, {result.name}: {limit_of(found)} is more than {limit_of(limit)}"


def limit_of(limit: Limit) -> str:
    """The limit as it is read."""
    return f"{limit.most:.3g}" if limit.unit == "ratio" else amount(limit.most, "s")


def amount(value: float, unit: str) -> str:
    """With three digits, in a unit that suits them."""
    if unit == "B":
        return f"{value / 1e6:.3g} MB"
    units = ((1.0, "s"), (1e3, "ms"), (1e6, "µs"))
    factor, name = next((unit for unit in units if value * unit[0] >= 1), units[-1])
    return f"{value * factor:.3g} {name}"


def readme_table(results: str, shown_rows: Sequence[str] = README_ROWS) -> str:
    """For README, from the text of RESULTS.md: a contestant a column, the amounts and the ratios."""
    amounts: dict[tuple[str, str], dict[str, str]] = {}
    for line in results.splitlines():
        what, name, ratio, shown = ([*line.strip("| ").split(" | "), "", "", "", ""])[:4]
        contestant, _, manner = name.partition(", ")
        if contestant in CONTESTANTS and what in shown_rows:
            found = amounts.setdefault((what, manner), {})
            found[contestant] = f"{shown} ({float(ratio.split(' ')[0]):.3g})"
    lines = [f"| | {' | '.join(CONTESTANTS)} |", "|---" * (1 + len(CONTESTANTS)) + "|"]
    for (what, manner), found in amounts.items():
        found = {**amounts.get((what, ""), {}), **found}
        cells = [", ".join(filter(None, (what, manner))), *(found.get(c, "") for c in CONTESTANTS)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def write(page: str) -> None:
    """RESULTS.md, and what README shows of it."""
    RESULTS.write_text(page, encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    README.write_text(IN_README.sub(lambda _: readme_table(page), readme), encoding="utf-8")
