"""A sweep of a deployment that logs, fails at random and retries, on a real worker, watched to the end.

The server is restarted in the middle. ``make scale`` starts two hundred runs, or as many as
ORCHNB_SCALE_RUNS says, on PostgreSQL.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.frontend import Page
from tests.notebook.kernels import kernel
from tests.scale.processes import environment_in, free_port, server, worker
from tests.scale.test_two_workers import ALL_RUNS, ENGINE, RUNS, result_of

SECONDS_FOR_A_RUN = 15  # several times what one takes where nothing else runs

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the processes are ended by signals that Windows does not have"
)

_DEPLOY = """
await client.create_work_pool("lab", type="process")
flow_id = await client.create_flow("fails-at-random")
await client.create_deployment(
    flow_id,
    "at-scale",
    work_pool_name="lab",
    path={path!r},
    entrypoint="flows.py:fails_at_random",
    job_variables={{"command": {command!r}, "env": {{"LEDGER": {ledger!r}}}}},
);
"""

_SWEEP = """
runs = await client.map_deployment(
    "fails-at-random/at-scale",
    {items},
    max_running={at_a_time},
);
"""

_FOUND = """
[
    (str(run.id), run.parameters["number"], str(run.state_type), run.run_count)
    for run in [run async for run in client.iter_flow_runs(flow_name="fails-at-random")]
]
"""


class Server:
    """Prefect's server on a port, which can be restarted."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self._port = free_port()
        self._database = database
        self.api = f"http://127.0.0.1:{self._port}/api"
        self._stack = ExitStack()

    def start(self) -> None:
        self._stack.enter_context(server(self._folder, self._port, self._database))

    def stop(self) -> None:
        self._stack.close()

    @contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()


def sweep(
    folder: Path, database: str, runs: int, at_a_time: int, tell: Callable[[str], None]
) -> None:
    """Run the sweep, and check what the display says against what the server has."""
    ledger = folder / "ledger.txt"
    ledger.touch()
    site = Server(folder, database)
    chance = random.Random(19)
    failing = [chance.choice([0, 0, 0, 1, 2]) for _ in range(runs)]
    items = [{"number": number, "failing": tries} for number, tries in enumerate(failing)]
    environment = environment_in(folder)
    with ExitStack() as stack:
        stack.enter_context(site.running())
        cell = stack.enter_context(
            kernel(
                folder,
                PREFECT_API_URL=site.api,
                TMPDIR=environment["TMPDIR"],
                PYTHONPATH=environment["PYTHONPATH"],
            )
        )
        result_of(cell, "%load_ext orchnb")
        result_of(cell, "client = orchnb.get_client()")
        path = str(Path(__file__).parent)
        result_of(cell, _DEPLOY.format(path=path, command=ENGINE, ledger=str(ledger)))
        stack.enter_context(
            worker(folder, "one", api=site.api, pool="lab", limit=at_a_time, env={})
        )
        page = Page(cell)
        began = time.monotonic()
        watch = page.begin(_SWEEP.format(items=items, at_a_time=at_a_time))
        page.until(
            lambda: re.search(r"\d+ (done|failed)", page.text(watch)),
            timeout=120 + runs * SECONDS_FOR_A_RUN / 3,
        )
        site.stop()
        page.until(lambda: "The server does not respond" in page.text(watch), timeout=60)
        site.start()
        page.until(lambda: watch in page.idle, timeout=120 + runs * SECONDS_FOR_A_RUN)
        seconds = time.monotonic() - began
        text = page.text(watch)
        found = result_of(cell, _FOUND, timeout=60 + runs)
        returned = result_of(cell, "[str(run.id) for run in runs]")
        result_of(cell, "%unload_ext orchnb")

    states = Counter(state for _, _, state, _ in found)
    tell(f"{runs} runs in {seconds:.0f} s: {dict(states)}")

    # Exactly one run for each item, in the order of the items.
    numbers = {run_id: number for run_id, number, _, _ in found}
    assert len(found) == runs
    assert [numbers[run_id] for run_id in returned] == list(range(runs))
    # Each ended as its number says, unless the server's absence made its process crash.
    for run_id, number, state, attempts in found:
        if state == "CRASHED":
            continue
        assert state == ("FAILED" if attempts <= failing[number] else "COMPLETED"), run_id
    # Prefect's own client needs a server when a process starts.
    assert states["CRASHED"] <= at_a_time
    # What the display says in the end is what the server has.
    words = {"COMPLETED": "done", "FAILED": "failed", "CRASHED": "crashed"}
    counts = " · ".join(f"{states[kind]} {word}" for kind, word in words.items() if states[kind])
    assert f"{runs} flow runs: {counts} (" in text
    assert "ended 2" in text
    # Nothing else was shown, and not too much of it.
    shown = [m for m in page.displays(watch) if "orchnb-watch" in str(m["content"]["data"])]
    arrivals = [m["header"]["date"].timestamp() for m in shown]
    for arrived in arrivals:
        assert sum(1 for other in arrivals if arrived <= other < arrived + 1) <= 4
    assert max(len(m["content"]["data"]["text/html"]) for m in shown) < 20_000
    done = [_done(m["content"]["data"]["text/plain"]) for m in shown]
    tell(f"drawn {len(shown)} times, at most {max(map(_size, shown)):,} bytes")
    assert done[-1] == runs
    # A retry of a flow runs under the same state type, so ended runs never become fewer.
    assert done == sorted(done)


def _size(message: dict[str, Any]) -> int:
    return len(message["content"]["data"]["text/html"])


def _done(text: str) -> int:
    """How many runs have ended by what a display says."""
    title = text.splitlines()[0]
    return sum(int(n) for n in re.findall(r"(\d+) (?:done|failed|crashed|cancelled)", title))


@pytest.mark.scale
@pytest.mark.timeout(600 + RUNS * SECONDS_FOR_A_RUN)
def test_a_large_sweep_is_watched_to_the_end(
    programs: Path, folder: Path, tell: Callable[[str], None]
) -> None:
    from tests.scale.postgres import postgres

    if RUNS != ALL_RUNS:
        tell(f"{RUNS} instead of {ALL_RUNS} runs, because ORCHNB_SCALE_RUNS says so")
    with postgres(programs, folder) as database:
        sweep(folder, database, RUNS, 8, tell)
