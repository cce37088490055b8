"""A kernel that is killed in the middle of its writes: what it was told is written, is there.

The kernel is killed after a time of chance, which ``ORCHNB_TEST_SEED`` repeats, and the next one opens
the same database. A real kernel and the real Prefect server.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
from ast import literal_eval
from pathlib import Path

import pytest

from tests.notebook.kernels import Kernel, kernel
from tests.servers import prefect_home

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")

SEED = int(os.environ.get("ORCHNB_TEST_SEED", time.time_ns() % 1_000_000))

ROUNDS = 2

WRITE = """
import asyncio, itertools, os
%load_ext orchnb
client = orchnb.get_client()
await client.hello()
file = os.open({acknowledged!r}, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
def note(kind, name):
    os.write(file, f"{{kind}} {{name}}\\n".encode())
    os.fsync(file)
async def runs(k):
    for n in itertools.count():
        run = await client.create_flow_run("killed", name=f"r{round}-{{k}}-{{n}}")
        note("run", run.id)
        await client.set_flow_run_state(run.id, "RUNNING")
        note("running", run.id)
async def variables(k):
    for n in itertools.count():
        note("variable", (await client.create_variable(f"v{round}_{{k}}_{{n}}", value=n)).name)
await asyncio.gather(*[runs(k) for k in range(3)], *[variables(k) for k in range(3)])
"""

READ = """
%load_ext orchnb
import json
client = orchnb.get_client()
async def all_of(read):
    found = []
    while page := await read(limit=200, offset=len(found)):
        found += page
    return found
runs = await all_of(client.read_flow_runs)
json.dumps(dict(
    run=[str(run.id) for run in runs],
    running=[str(run.id) for run in runs if run.state_name == "Running"],
    variable=[one.name for one in await all_of(client.read_variables)],
))
"""


def noted(file: Path) -> set[tuple[str, str]]:
    """What the kernel was told is written. The last line may have been cut short."""
    text = file.read_text() if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return {(kind, name) for kind, name in (line.split() for line in whole.splitlines())}


def until_noted(cell: Kernel, file: Path, number: int) -> None:
    deadline = time.monotonic() + 60
    while len(noted(file)) < number:
        assert time.monotonic() < deadline, "it writes nothing"
        assert cell.manager.is_alive()
        time.sleep(0.02)


@pytest.mark.timeout(240)
def test_what_was_acknowledged_is_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    chance = random.Random(SEED)
    logger.info("ORCHNB_TEST_SEED=%d", SEED)
    home = str(prefect_home(tmp_path / "prefect"))
    told: set[tuple[str, str]] = set()
    for round_number in range(ROUNDS):
        file = tmp_path / f"acknowledged-{round_number}"
        number, delay = chance.randint(1, 60), chance.uniform(0, 0.1)
        logger.info("to be killed %.3f s after its write number %d", delay, number)
        with kernel(tmp_path, PREFECT_HOME=home) as cell:
            cell.begin(WRITE.format(acknowledged=str(file), round=round_number))
            until_noted(cell, file, number)
            time.sleep(delay)  # the moment is what is tried here
            process = cell.manager.provisioner.process
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        told |= noted(file)
        logger.info("%d were acknowledged by then", len(told))
    with kernel(tmp_path, PREFECT_HOME=home) as cell:
        shown = cell(READ)
        assert not shown.errors, shown.traceback
        assert shown.stderr == ""
        found = json.loads(literal_eval(shown.text))
    there = {(kind, name) for kind, names in found.items() for name in names}
    assert told <= there, sorted(told - there)
