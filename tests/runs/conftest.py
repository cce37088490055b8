"""A real Prefect server, with a process that executes the runs of its deployments."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import opened
from tests.servers import clean_environment, prefect_home, prefect_server


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The API URL of a server whose runs are executed, and its home folder."""
    home = tmp_path_factory.mktemp("site")
    prefect_home(home / ".prefect")
    with prefect_server(home) as url:
        executor = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "executor.py"), "4"],
            env=clean_environment(
                home,
                PREFECT_API_URL=url,
                PREFECT_LOGGING_TO_API_BATCH_INTERVAL="0.2",
                PREFECT_LOGGING_LEVEL="INFO",
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert executor.stdout is not None
            assert executor.stdout.readline() == "ready\n", "the executor did not start"
            yield url, home
        finally:
            executor.kill()
            executor.wait()
            assert executor.stdout is not None
            executor.stdout.close()


@pytest.fixture(params=["async", "sync"])
def client(request: pytest.FixtureRequest, site: tuple[str, Path]) -> Iterator[Any]:
    """Each client, on the server whose runs are executed."""
    with opened(request.param, site[0]) as client:
        yield client
