"""Check how complete the types of the package are: ``python tools/type_completeness.py``.

Fails if the score of ``basedpyright --verifytypes`` is below the one written here, and prints what is
unknown or ambiguous.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent

SCORE = 1.0
"""Raise it when the score rises; never lower it."""


def verified(package: str) -> dict[str, Any]:
    """Return what basedpyright says about a package."""
    # Here it ignores --pythonpath, and uses the packages of the first Python on the path.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    options = ("--verifytypes", package, "--ignoreexternal", "--outputjson")
    done = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-m", "basedpyright", *options],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,  # it fails below 100%
    )
    try:
        found: dict[str, Any] = json.loads(done.stdout)["typeCompleteness"]
    except (ValueError, KeyError):
        sys.exit(f"basedpyright failed:\n{done.stdout}{done.stderr}")
    return found


def main() -> None:
    """Print the score and what lowers it; fail if it is too low."""
    found = verified("orchnb")
    if not found["symbols"]:
        sys.exit("basedpyright found no symbols: it did not find the package")
    for symbol in found["symbols"]:
        if not symbol["isTypeKnown"] and symbol["diagnostics"]:
            words = "; ".join(problem["message"] for problem in symbol["diagnostics"])
            print(f"{symbol['name']}: {' '.join(words.split())}")
    score = found["completenessScore"]
    print(f"types: {score:.2%} of {len(found['symbols'])} symbols, {SCORE:.2%} expected")
    if score < SCORE:
        sys.exit(1)


if __name__ == "__main__":
    main()
