"""Four notebooks at once: each kernel has a server of its own, all on one database.

Real kernels and real Prefect servers. They come up at the same moment, on no database at all and on
the one that is there then, and write at the same time.
"""

from __future__ import annotations

import json
import time
from ast import literal_eval
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from tests.notebook.kernels import Kernel, Shown, kernel

NUMBER = 4

WINDOW = timedelta(seconds=10)
"""After which an automation acts if nothing has happened; Prefect takes no shorter one."""

SETUP = """
import asyncio, json, pathlib, re, time
from concurrent.futures import ThreadPoolExecutor
%load_ext orchnb
from orchnb.prefect_server.app import import_modules
from orchnb.hosting.host import host_log
import_modules()
retries = []
def log():
    telling = ("locked", "already exists", "IntegrityError")
    return [line for line in host_log.lines(1000) if any(word in line for word in telling)]
def at_once(file):
    while not pathlib.Path(file).exists():
        time.sleep(0.005)
"""

WRITE = """
me = {me!r}
made = dict(runs=[], variables=[], bulk=[], refused=[])
client, plain = orchnb.get_client(), orchnb.get_client(sync_client=True)
async def run(n):
    made_run = await client.create_flow_run(f"flow-{{n % 5}}", name=f"{{me}}-{{n}}")
    await client.set_flow_run_state(made_run.id, "RUNNING")
    await client.set_flow_run_state(made_run.id, "COMPLETED")
    made["runs"].append(str(made_run.id))
async def variable(n):
    made["variables"].append((await client.create_variable(f"{{me}}_{{n}}", value=n)).name)
def plain_variable(n):
    made["variables"].append(plain.create_variable(f"{{me}}_plain_{{n}}", value=n).name)
async def bulk(n):
    wanted = [dict(name=f"{{me}}-bulk-{{n}}-{{k}}") for k in range(20)]
    for result in await client.bulk_create_flow_runs_from_deployment({deployment!r}, wanted):
        if result.flow_run_id:
            made["bulk"].append(str(result.flow_run_id))
        else:
            made["refused"].append(str(result))
at_once({go!r})
with orchnb.observe_retries(lambda event: retries.append(str(event))):
    await asyncio.gather(
        *[run(n) for n in range(15)],
        *[variable(n) for n in range(15)],
        *[bulk(n) for n in range({bulks})],
    )
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(plain_variable, range(15)))
json.dumps(dict(made, retries=retries, log=log()))
"""

READ = """
async def all_of(read):
    found = []
    while page := await read(limit=200, offset=len(found)):
        found += page
    return found
client = orchnb.get_client()
runs = await all_of(client.read_flow_runs)
json.dumps(dict(
    runs=[str(run.id) for run in runs],
    states=[run.state_name for run in runs if re.fullmatch("k[0-9]-[0-9]+", run.name)],
    variables=[one.name for one in await all_of(client.read_variables)],
))
"""

WATCH = """
client = orchnb.get_client()
flow = await client.create_flow_from_name("watched")
deployment = await client.create_deployment(flow, name="watched")
run = {"type": "run-deployment", "source": "selected", "deployment_id": str(deployment)}
trigger = {"type": "event", "posture": "Proactive", "expect": ["never"], "within": %d, "threshold": 1}
await client.create_automation("nothing happens", trigger=trigger, actions=[run]);
"""

ACTED = """
acted = await client.read_flow_runs(flow_filter={"name": {"any_": ["watched"]}})
json.dumps(sorted(run.created.isoformat() for run in acted))
"""


class Kernels:
    """Several kernels that run the same cell at the same time."""

    def __init__(self, kernels: list[Kernel], folder: Path) -> None:
        self.kernels = kernels
        self.folder = folder
        self._starts = 0

    def __call__(self, source: str, **values: str) -> list[Shown]:
        """Run a cell in each, at once; ``{me}`` in it is the kernel's own name, ``{go}`` the file
        that appears when all are there."""
        self._starts += 1
        go = self.folder / f"go-{self._starts}"
        cells = [
            (one, one.begin(source.format(me=f"k{number}", go=str(go), **values)))
            for number, one in enumerate(self.kernels)
        ]
        go.touch()
        return [one.finish(cell) for one, cell in cells]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernels]:
    """Four kernels with the extension loaded and Prefect imported, no server yet, and no database."""
    folder = tmp_path_factory.mktemp("several")
    with ExitStack() as stack:
        kernels = []
        for number in range(NUMBER):
            own = folder / f"kernel-{number}"
            own.mkdir()
            home = str(folder / "prefect")
            kernels.append(stack.enter_context(kernel(own, PREFECT_HOME=home)))
        found = Kernels(kernels, folder)
        for shown in found(SETUP):
            assert not shown.errors, shown.traceback
        yield found


def answers(shown: list[Shown]) -> list[Any]:
    """What the cells have answered, as JSON; none may have failed, or shown text of the server's."""
    for one in shown:
        assert not one.errors, one.traceback
        assert one.stderr == ""
    return [json.loads(literal_eval(one.text)) for one in shown]


START = """
at_once({go!r})
hello = (await orchnb.get_client().hello()).status_code
json.dumps(dict(hello=hello, log=log()))
"""


def test_they_start_at_the_same_moment(four: Kernels) -> None:
    """On no database, which one of them has to make, and then on that one."""
    for answer in answers(four(START)):
        assert answer == {"hello": 200, "log": []}
    # A server reads what there is to be watched when it starts.
    assert not four.kernels[0](WATCH % WINDOW.total_seconds()).errors
    four("%reload_ext orchnb")
    for answer in answers(four(START)):
        assert answer == {"hello": 200, "log": []}


def test_they_write_at_the_same_time(four: Kernels) -> None:
    deployment = literal_eval(
        four.kernels[0].value(
            "client = orchnb.get_client()\n"
            "flow = await client.create_flow_from_name('bulk')\n"
            "str(await client.create_deployment(flow, name='bulk'))"
        )
    )
    bulks = 2 if Version(version("prefect")) >= Version("3.6.16") else 0  # an older server has none
    written = answers(four(WRITE, deployment=deployment, bulks=bulks))
    for one in written:
        assert one["refused"] == one["retries"] == one["log"] == []
    for seen in answers(four(READ)):
        for one in written:
            assert set(one["runs"]) | set(one["bulk"]) <= set(seen["runs"])
            assert set(one["variables"]) <= set(seen["variables"])
        assert set(seen["states"]) == {"Completed"}


def test_what_one_is_to_do_four_do_not_do_four_times(four: Kernels) -> None:
    """Each server watches for what does not happen; the first to act tells the others by the database."""
    deadline = time.monotonic() + 60
    while len(acted := json.loads(literal_eval(four.kernels[0].value(ACTED)))) < 2:
        assert time.monotonic() < deadline, acted
        time.sleep(0.5)
    times = [datetime.fromisoformat(one) for one in acted]
    assert all(later - earlier > WINDOW / 2 for earlier, later in pairwise(times)), acted
