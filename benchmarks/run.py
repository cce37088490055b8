"""``make bench``: every case, one table; written to RESULTS.md beside this file, and to README.

Ends with 1 if orchnb is over a limit. ``--once`` runs each case once, as small as can be, to see that it
works; then nothing is written, and no limit counts. ``--rounds`` asks for no more than so many.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cases import CASES, Case
from measure import Taken, process, summarise
from report import over_limit, results_page, row, write

_FIRST_START = "import orchnb\nwith orchnb.get_client(sync_client=True) as client: client.hello()"


def main() -> int:
    """Run, print, write; the exit code."""
    parser = argparse.ArgumentParser(description="Compare orchnb with its peers.")
    parser.add_argument("--once", action="store_true", help="only see that each case works")
    parser.add_argument("--rounds", type=int, default=sys.maxsize, help="at most so many a case")
    parser.add_argument("words", nargs="*", help="only the cases with one of these in their title")
    asked = parser.parse_args()
    rows, over = [], []
    with tempfile.TemporaryDirectory(prefix="orchnb-bench-", ignore_cleanup_errors=True) as folder:
        without_settings(Path(folder, "used"))
        for number, case in enumerate(CASES):
            if asked.words and not any(word in case.title for word in asked.words):
                continue
            rounds, size = min(case.rounds, asked.rounds), case.size
            if asked.once:
                rounds, size = 1, 1
            home = prepared_home(Path(folder), case)
            for result in summarise(in_fresh_process(number, rounds, size, home), case.reference):
                rows.append(row(case, result, rounds))
                print(rows[-1], flush=True)
                over += filter(None, [over_limit(case, result)])
    if asked.once:
        return 0
    print(*over, sep="\n")
    if not asked.words:
        command = " ".join(["python benchmarks/run.py", *sys.argv[1:]])
        write(results_page(rows, over, command if sys.argv[1:] else "make bench"))
    return 1 if over else 0


def without_settings(home: Path) -> None:
    """From here on: nothing of this machine's settings, and this folder for Prefect's things."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "ORCHNB_"))]:
        del os.environ[name]
    # Compiled modules are kept, as they are for anybody who installs a package.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["PREFECT_HOME"] = str(home)


def prepared_home(folder: Path, case: Case) -> Path:
    """An empty folder, or one with a database that a server has used before."""
    home, used = Path(tempfile.mkdtemp(dir=folder), "home"), Path(os.environ["PREFECT_HOME"])
    if not case.database:
        home.mkdir()
        return home
    if not used.exists():
        process(_FIRST_START)()
    shutil.copytree(used, home)
    return home


def in_fresh_process(number: int, rounds: int, size: int, home: Path) -> Taken:
    """A case by itself, so that none warms or burdens another."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(run_case, number, rounds, size, home).result()


def run_case(number: int, rounds: int, size: int, home: Path) -> Taken:
    """In the fresh process."""
    os.environ["PREFECT_HOME"] = str(home)
    return CASES[number].run(rounds, size)


if __name__ == "__main__":
    sys.exit(main())
