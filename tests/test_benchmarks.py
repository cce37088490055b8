"""The benchmarks work, and README shows what they have found, no figure written by hand."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest

from tests.servers import ROOT

FOLDER = ROOT / "benchmarks"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks/report.py, which is found beside what it imports."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("report")


def test_readme_shows_the_figures_of_the_results(report: Any) -> None:
    (shown,) = report.IN_README.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown == report.readme_table(report.RESULTS.read_text(encoding="utf-8"))
    assert all(f"| {title} |" in shown for title in report.README_ROWS)


def test_every_case_is_in_the_results_and_every_limit_counts(report: Any) -> None:
    from cases import CASES

    results = report.RESULTS.read_text(encoding="utf-8")
    for case in CASES:
        assert f"| {case.title} | {case.reference} | 1 |" in results
        for name in case.limits:
            assert f"| {case.title} | {name} |" in results


def test_a_table_is_made_of_what_was_measured(report: Any) -> None:
    from cases import AFTER_READING, ORCHNB, PREFECT, Case, Limit
    from measure import summarise

    taken = {PREFECT: [2.0, 4.0, 6.0], ORCHNB: [1.0, 1.0, 3.0], AFTER_READING: [0.2, 0.2, 0.2]}
    limits = {ORCHNB: Limit(0.4), AFTER_READING: Limit(0.3, "s")}
    case = Case("An answer", PREFECT, lambda rounds, size: taken, 3, limits=limits)
    results = summarise(taken, PREFECT)

    rows = [report.row(case, result, 3) for result in results]
    assert rows == [
        "| An answer | Prefect's client | 1 | 4 s | 3 |  |",
        "| An answer | orchnb | 0.500 (0.250 to 0.500) | 1 s | 3 | at most 0.4 |",
        f"| An answer | {AFTER_READING} | 0.050 (0.033 to 0.100) | 200 ms | 3 | at most 300 ms |",
    ]
    assert [report.over_limit(case, result) for result in results] == [
        "",
        "An answer, orchnb: 0.5 is more than 0.4",
        "",
    ]
    assert report.readme_table("\n".join(["# Results", *rows]), ["An answer"]).splitlines()[2:] == [
        "| An answer | 1 s (0.5) | 4 s (1) |  |  |",
        "| An answer, with ten seconds to read in between | 200 ms (0.05) | 4 s (1) |  |  |",
    ]


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [(12.345, "s", "12.3 s"), (0.0123, "s", "12.3 ms"), (9.5e-5, "s", "95 µs"), (3e6, "B", "3 MB")],
)
def test_an_amount_is_read_easily(report: Any, value: float, unit: str, words: str) -> None:
    assert report.amount(value, unit) == words


def test_cases_run() -> None:
    """Those that take seconds; `python benchmarks/run.py --once` runs all, which takes minutes."""
    done = subprocess.run(
        [sys.executable, FOLDER / "run.py", "--once", "another client", "overhead"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("| orchnb |") == 2
