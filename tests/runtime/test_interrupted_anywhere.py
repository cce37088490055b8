"""The stop button at every single moment: it is an interrupt, nothing else, and nothing is left behind.

Moments of chance hardly ever meet the few microseconds in which something is taken and nobody has
noted yet who gives it back. Here the interrupt comes at the first moment, then at the second, and so on.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from orchnb.api.client import PrefectClient, SyncPrefectClient
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.port import Served
from orchnb.runtime.run import run
from tests.notebook.apps import app
from tests.servers import ROOT, run_script


def plain_request() -> None:
    with SyncPrefectClient(app) as client:
        client.request("GET", "/hello")


def request_that_is_run() -> None:
    async def request() -> None:
        async with PrefectClient(app) as client:
            await client.request("GET", "/hello")

    run(request())


def task_that_is_run() -> None:
    async def wait() -> None:
        run(asyncio.get_running_loop().create_task(asyncio.sleep(0)))

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(wait())
    finally:
        loop.close()


def port() -> None:
    served = Served(EphemeralApp("app", home=Path(), timeout=10, given=app))
    try:
        served.close()
    finally:  # as a person would, whose first try was interrupted
        served.close()


FILES = {
    "plain_request": (
        "hosting/host.py",
        "runtime/futures.py",
        "hosting/transport.py",
        "api/client.py",
    ),
    "request_that_is_run": ("runtime/run.py", "runtime/loops.py", "runtime/futures.py"),
    "task_that_is_run": ("runtime/run.py", "runtime/loops.py"),
    "port": ("hosting/port.py",),
}


@pytest.mark.parametrize("work", FILES)
def test_at_every_moment(work: str, tmp_path: Path) -> None:
    script = f"""
        import json
        from tests.moments import sweep
        from tests.runtime.test_interrupted_anywhere import {work}
        print(json.dumps(sweep({work}, {FILES[work]})))
    """
    done = run_script(script, tmp_path, timeout=110, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    moments, wrong = json.loads(done.stdout)
    assert not wrong
    assert moments > 20
