"""Run All: a front end sends all cells at once, and other requests in between. Each is answered, in
order."""

from __future__ import annotations

import os
import random
import sys
import time
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

from tests.notebook.kernels import Kernel, kernel
from tests.servers import ROOT

OTHERS = ("6.29.5", "7.3.0")
"""Versions of ipykernel that are tested as well as the installed one. `make` puts them into ``build``."""

SECONDS = 60

PREPARE = """
import asyncio, sys, threading
import ipywidgets
from tornado.ioloop import IOLoop
from tests import process_wide
before = process_wide.taken_down()
clicks = []
done = []
button = ipywidgets.Button()
"""

USE = """
client = orchnb.get_client()
sync = orchnb.get_client(sync_client=True)
loop = asyncio.get_running_loop()
polling = [asyncio.ensure_future(asyncio.sleep(0.001 * n)) for n in range(5)]

async def hello():
    return (await client.hello()).status_code

def callback(number):
    done.append((number, orchnb.run(hello())))

def task_callback(number):
    done.append((number, orchnb.run(loop.create_task(hello()))))

def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(orchnb.run(hello())))
    thread.start()
    thread.join()
    return found[0]

button.on_click(lambda _: clicks.append(orchnb.run(hello())))
button.comm.comm_id
"""

CELLS = {
    "print": "print({n})",
    "await": "await client.hello(); print({n})",
    "sync": "sync.hello(); print({n})",
    "run": "orchnb.run(client.hello()); print({n})",
    "run a task": "orchnb.run(loop.create_task(hello())); print({n})",
    "run in a thread": "in_thread(); print({n})",
    "run in an async cell": "await asyncio.sleep(0); orchnb.run(hello()); print({n})",
    "task": "made = asyncio.create_task(hello()); print({n})",
    "call_soon": "loop.call_soon(callback, {n}); print({n})",
    "call_later": "loop.call_later(0.001, callback, {n}); print({n})",
    "call_soon, a task": "loop.call_soon(task_callback, {n}); print({n})",
    "from a thread": "loop.call_soon_threadsafe(callback, {n}); print({n})",
    "tornado": "IOLoop.current().add_callback(callback, {n}); print({n})",
    "done callback": "polling[0].add_done_callback(lambda _: callback({n})); print({n})",
    "fails": "print({n}); 1 / 0",
    "fails in run": "print({n}); orchnb.run(client.read_flow_by_name('etl'))",
    "fails in await": "print({n}); await client.read_flow_by_name('etl')",
}
CALLBACKS = {
    "call_soon",
    "call_later",
    "call_soon, a task",
    "from a thread",
    "tornado",
    "done callback",
}

BETWEEN: list[tuple[str, dict[str, Any]]] = [
    ("complete_request", {"code": "clie", "cursor_pos": 4}),
    ("inspect_request", {"code": "client", "cursor_pos": 6, "detail_level": 0}),
    ("is_complete_request", {"code": "print(1)"}),
    ("kernel_info_request", {}),
    ("comm_info_request", {}),
]


def version_folder(version: str) -> Path:
    return ROOT / "build" / f"ipykernel-{version}"


@pytest.fixture(params=["installed", *OTHERS])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kernel]:
    """A kernel with the extension loaded; what the process writes to stderr is in ``stderr.txt``."""
    paths = [str(ROOT)]
    if request.param != "installed":
        if not version_folder(request.param).exists():
            pytest.skip(f"ipykernel {request.param} is not there: make test installs it")
        paths.insert(0, str(version_folder(request.param)))
    with (
        (tmp_path / "stderr.txt").open("w") as errors,
        kernel(
            tmp_path,
            log=errors,
            ORCHNB_EPHEMERAL_APP="tests.notebook.apps:app",
            PYTHONPATH=os.pathsep.join(paths),
        ) as cell,
    ):
        yield cell


def send(cell: Kernel, kind: str, content: dict[str, Any]) -> str:
    message = cell.client.session.msg(kind, content)
    cell.client.shell_channel.send(message)
    return str(message["header"]["msg_id"])


def execute(cell: Kernel, source: str) -> str:
    content = {"code": source, "silent": False, "store_history": True, "user_expressions": {}}
    return send(cell, "execute_request", {**content, "allow_stdin": False, "stop_on_error": False})


def answers(cell: Kernel, asked: list[str]) -> list[dict[str, Any]]:
    """The answers to these requests, in the order in which they come."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + SECONDS
    while len(found) < len(asked):
        try:
            reply = cell.client.get_shell_msg(timeout=max(0.1, deadline - time.monotonic()))
        except Empty:
            break
        if reply["parent_header"]["msg_id"] in asked:  # else it is to the start of the kernel
            found.append(reply)
    return found


def complaints(cell: Kernel) -> list[str]:
    """The lines that the kernel has written to its stderr, without the one of each start."""
    lines = (cell.folder / "stderr.txt").read_text().splitlines()
    return [line for line in lines if "Kernel is running over TCP without encryption" not in line]


def printed(cell: Kernel, ids: list[str]) -> dict[str, str]:
    """What each cell has written to stdout, once all of them are done."""
    texts = dict.fromkeys(ids, "")
    left = set(ids)
    while left:
        message = cell.client.get_iopub_msg(timeout=SECONDS)
        parent, content = message["parent_header"].get("msg_id"), message["content"]
        if message["msg_type"] == "status" and content["execution_state"] == "idle":
            left.discard(parent)
        elif message["msg_type"] == "stream" and content["name"] == "stdout" and parent in texts:
            texts[parent] += content["text"]
    return texts


def test_the_four_cells_of_a_first_run_all(session: Kernel) -> None:
    sources = [
        "%load_ext orchnb",
        "print(orchnb.run(orchnb.get_client().hello()).status_code)",
        "print('three')",
        "print('four')",
    ]
    ids = [execute(session, source) for source in sources]
    replies = answers(session, ids)
    assert [reply["parent_header"]["msg_id"] for reply in replies] == ids
    assert [reply["content"]["status"] for reply in replies] == ["ok"] * 4
    assert list(printed(session, ids).values()) == ["", "200\n", "three\n", "four\n"]


@pytest.mark.timeout(150)  # sixty cells, in each of which something is waited for
def test_sixty_cells_and_what_comes_in_between(session: Kernel) -> None:
    chance = random.Random(60)
    session(PREPARE)
    session("%load_ext orchnb")
    comm = session.value(USE).strip("'")
    kinds = [*CELLS, *chance.choices(list(CELLS), k=60 - len(CELLS))]
    chance.shuffle(kinds)
    asked: list[str] = []
    cells: dict[str, int] = {}
    clicks = 0
    for number, kind in enumerate(kinds):
        cells[execute(session, CELLS[kind].format(n=number))] = number
        asked.append(list(cells)[-1])
        if chance.random() < 0.5:
            asked.append(send(session, *chance.choice(BETWEEN)))
        if chance.random() < 0.2:
            click = {"method": "custom", "content": {"event": "click"}}
            send(session, "comm_msg", {"comm_id": comm, "data": click})
            clicks += 1
    replies = answers(session, asked)
    assert [reply["parent_header"]["msg_id"] for reply in replies] == asked
    statuses = {
        cells[reply["parent_header"]["msg_id"]]: reply["content"]["status"]
        for reply in replies
        if reply["parent_header"]["msg_id"] in cells
    }
    assert statuses == {
        number: "error" if kind.startswith("fails") else "ok" for number, kind in enumerate(kinds)
    }
    assert printed(session, list(cells)) == {each: f"{number}\n" for each, number in cells.items()}
    session("await asyncio.sleep(0.2)")  # the callbacks' own timers
    called = [number for number, kind in enumerate(kinds) if kind in CALLBACKS]
    assert literal_eval(session.value("sorted(done)")) == [(number, 200) for number in called]
    assert literal_eval(session.value("clicks")) == [200] * clicks
    names = session.value("process_wide.changed(before)")
    assert not [name for name in literal_eval(names) if name.startswith("asyncio")]
    session("%unload_ext orchnb")
    assert session.value("process_wide.changed(before)") == "[]"
    assert complaints(session) == []


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe is not a terminal there")
def test_the_asyncio_repl(tmp_path: Path) -> None:
    """``python -m asyncio`` runs each line in a callback of its loop."""
    import subprocess

    lines = """
import orchnb
from tests.notebook.apps import app
client = orchnb.PrefectClient(app)
_ = await client.__aenter__()
orchnb.run(client.hello()).status_code
orchnb.run(asyncio.create_task(client.hello())).status_code
await client.close()
print("end")
"""
    done = subprocess.run(
        [sys.executable, "-m", "asyncio"],
        input=lines,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHON_BASIC_REPL": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout.split().count("200") == 2, done.stderr
    assert "end" in done.stdout
    assert "Traceback" not in done.stderr
