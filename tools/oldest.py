"""Constraints for pip that hold orchnb to the oldest versions that ``pyproject.toml`` admits.

Printed for the Python that runs this, one requirement a line. What ``pyproject.toml`` names is held to
its lower bound. Everything else is held to at most what ``constraints.txt`` pins, so that tomorrow's
release of something further down does not change today's answer; where an old version needs an older
one, pip finds it.

The tools of ``make check`` only read the source and have no part in how orchnb runs, so they count as
everything else. So does a dependency that is only bounded from above: whoever needs it sets its floor.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]


def constraints(document: dict[str, Any], pinned: list[str]) -> list[str]:
    """The lines for pip, sorted, from ``pyproject.toml`` and the lines of a constraints file."""
    floors = {name: f"{name}=={version}" for name, version in lower_bounds(document)}
    ceilings = {
        canonicalize_name(pin.name): str(pin).replace("==", "<=", 1) for pin in requirements(pinned)
    }
    return sorted({**ceilings, **floors}.values())


def lower_bounds(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and oldest version of each dependency that has one."""
    project, groups = document["project"], document["dependency-groups"]
    named = [*project["dependencies"], *project["optional-dependencies"]["server"], *groups["test"]]
    for wanted in requirements(named):
        versions = [bound.version for bound in wanted.specifier if bound.operator == ">="]
        if versions:
            yield canonicalize_name(wanted.name), versions[0]


def requirements(lines: list[str]) -> Iterator[Requirement]:
    """The requirements among the lines whose markers hold here."""
    for line in lines:
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                requirement.marker = None
                yield requirement


if __name__ == "__main__":
    with (ROOT / "pyproject.toml").open("rb") as file:
        document = tomllib.load(file)
    print(*constraints(document, (ROOT / "constraints.txt").read_text().splitlines()), sep="\n")
