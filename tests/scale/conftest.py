"""A site as one machine can hold it: PostgreSQL, Prefect's server on it, two workers, and a notebook.

These tests take minutes, so a plain run leaves them out: ``make scale`` asks for them by their marker.
Without PostgreSQL they are skipped, except where the environment variable CI is set: there they fail.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

_lines = pytest.StashKey[list[str]]()


@pytest.fixture
def tell(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Call it with a line that a person is to see, whether the test passes or not."""
    return pytestconfig.stash.setdefault(_lines, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what was told."""
    if lines := terminalreporter.config.stash.get(_lines, []):
        terminalreporter.section("at scale")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def programs() -> Path:
    """The folder of PostgreSQL's binaries."""
    if sys.platform == "win32":
        pytest.skip("the processes here are ended by signals that Windows does not have")
    from tests.scale.postgres import binaries

    found = binaries()
    if found is None:
        _missing("PostgreSQL's initdb is neither on the PATH nor in /usr/lib/postgresql/*/bin")
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short name, for sockets have one; whoever still works in it is ended."""
    from tests.scale.processes import processes_of

    with tempfile.TemporaryDirectory(prefix="orchnb-scale-") as name:
        place = Path(name).resolve()
        yield place
        for left in processes_of(place):
            left.kill()
            left.wait(10)


def _missing(reason: str) -> NoReturn:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
