"""Two hundred runs of a deployment, started and followed from a notebook, on two workers.

A run takes about three seconds of a core, because it is a process that imports Prefect's engine.
ORCHNB_SCALE_RUNS asks for fewer.
"""

from __future__ import annotations

import ast
import os
import shlex
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.kernels import Kernel, kernel
from tests.scale.postgres import postgres
from tests.scale.processes import (
    environment_in,
    free_port,
    is_listened_on,
    processes_of,
    server,
    worker,
)

pytestmark = pytest.mark.scale

ALL_RUNS = 200
RUNS = int(os.environ.get("ORCHNB_SCALE_RUNS", ALL_RUNS))
AT_A_TIME = 2  # on each worker
# A worker left to itself starts it too, from a process that has imported Prefect: twice the time.
ENGINE = shlex.join([sys.executable, "-m", "prefect.engine"])
LEFT_BY_PREFECT = "runner_storage"  # where each worker makes an empty folder, and forgets it
SECONDS_FOR_A_RUN = 15  # several times what one takes where nothing else runs

_POOL = "await client.create_work_pool('lab', type='process')"

_WORKERS_ARE_THERE = """
import asyncio

async def names_of_workers(count):
    while True:
        workers = await client.read_workers_for_work_pool("lab")
        online = [worker.name for worker in workers if worker.status == "ONLINE"]
        if len(online) == count:
            return sorted(online)
        await asyncio.sleep(0.2)

await asyncio.wait_for(names_of_workers(2), 180)
"""

_DEPLOY = """
flow_id = await client.create_flow("add-a-line")
deployment_id = await client.create_deployment(
    flow_id,
    "at-scale",
    work_pool_name="lab",
    path={path!r},
    entrypoint="flows.py:add_a_line",
    job_variables={{"command": {command!r}, "env": {{"LEDGER": {ledger!r}}}}},
)
"""

_START = """
runs = [
    await client.create_flow_run_from_deployment("add-a-line/at-scale", parameters={{"number": number}})
    for number in range({runs})
]
"""

_FOLLOW = """
import collections
import time

ENDS = {{"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}}
reads = []  # how long each took
deadline = time.monotonic() + {seconds}
while True:
    began = time.perf_counter()
    found = [run async for run in client.iter_flow_runs(flow_name="add-a-line")]
    reads.append(time.perf_counter() - began)
    counts = collections.Counter(str(run.state_type) for run in found)
    if ENDS.issuperset(counts) or time.monotonic() > deadline:
        break
    await asyncio.sleep(1)
dict(counts)
"""

_HISTORIES = """
[
    [str(state.type) for state in await client.read_flow_run_states(run.id)]
    for run in runs
]
"""


@pytest.mark.timeout(300 + RUNS * SECONDS_FOR_A_RUN)
def test_every_run_is_done_once_and_nothing_is_left(
    programs: Path, folder: Path, tell: Callable[[str], None]
) -> None:
    if RUNS != ALL_RUNS:
        tell(
            f"{RUNS} instead of {ALL_RUNS} runs, because ORCHNB_SCALE_RUNS says so: each imports "
            "Prefect's engine, which takes seconds of a core"
        )
    used_before = core_seconds()
    ledger, port = folder / "ledger.txt", free_port()
    ledger.touch()
    with ExitStack() as stack:
        database = stack.enter_context(postgres(programs, folder))
        api = stack.enter_context(server(folder, port, database))
        environment = environment_in(folder)
        cell = stack.enter_context(
            kernel(folder, PREFECT_API_URL=api, TMPDIR=environment["TMPDIR"])
        )
        assert result_of(cell, "%load_ext orchnb") is None
        result_of(cell, "client = orchnb.get_client()")
        result_of(cell, f"{_POOL};")
        for name in ("one", "two"):
            stack.enter_context(
                worker(folder, name, api=api, pool="lab", limit=AT_A_TIME, env={"WORKER": name})
            )
        assert result_of(cell, _WORKERS_ARE_THERE) == ["one", "two"]
        result_of(
            cell,
            _DEPLOY.format(path=str(Path(__file__).parent), command=ENGINE, ledger=str(ledger)),
        )

        began = time.monotonic()
        result_of(cell, _START.format(runs=RUNS), timeout=30 + RUNS)
        started = time.monotonic()
        seconds = 60 + RUNS * (SECONDS_FOR_A_RUN - 1)
        counts = result_of(cell, _FOLLOW.format(seconds=seconds), timeout=seconds + 60)
        ended = time.monotonic()
        assert counts == {"COMPLETED": RUNS}

        made = result_of(cell, "[(str(run.id), run.parameters['number']) for run in runs]")
        found = result_of(
            cell, "[(str(run.id), run.labels['prefect.worker.name']) for run in found]"
        )
        histories = result_of(cell, _HISTORIES, timeout=60 + RUNS)
        reads = result_of(cell, "reads")
        assert result_of(cell, "%unload_ext orchnb") is None

    assert len(made) == RUNS
    workers = dict(found)
    assert len(found) == len(workers) == RUNS
    lines = [line.split() for line in ledger.read_text().splitlines()]
    expected = [[id_, str(number), workers[id_]] for id_, number in made]
    assert sorted(lines) == sorted(expected), "what ran is what was started, each once"
    for history in histories:
        assert (history.count("RUNNING"), history.count("COMPLETED")) == (1, 1), history
    assert set(workers.values()) == {"one", "two"}

    assert processes_of(folder, patience=10) == []
    paths = (folder / "tmp").rglob("*")
    left = [path for path in paths if path.is_file() or LEFT_BY_PREFECT not in path.parts]
    assert left == []
    assert not is_listened_on(port)

    shares = ", ".join(f"{name} {n}" for name, n in sorted(Counter(workers.values()).items()))
    used = core_seconds() - used_before
    tell(
        f"{RUNS} runs, each done once: started in {started - began:.1f} s, all done after "
        f"{ended - began:.0f} s; all processes together used {used:.0f} s of a core"
    )
    tell(f"workers: {shares}, at most {AT_A_TIME} at a time on each")
    tell(
        f"followed with {len(reads)} reads of all runs: median {statistics.median(reads) * 1000:.0f} "
        f"ms, longest {max(reads) * 1000:.0f} ms"
    )


def result_of(cell: Kernel, source: str, *, timeout: float = 240) -> Any:
    """A cell's result, None if it shows none; the cell must not fail, and nothing else may be in it."""
    shown = cell(source, timeout=timeout)
    assert not shown.errors, shown.traceback
    assert shown.streams == ""
    return ast.literal_eval(shown.text) if shown.text else None


def core_seconds() -> float:
    """What the processes that were started here, and have ended, have used of the cores."""
    times = os.times()
    return times.children_user + times.children_system
