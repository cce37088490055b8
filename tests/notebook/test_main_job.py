"""The main job: a real Prefect server inside a real kernel, nothing mocked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from tests.notebook.kernels import Kernel, kernel


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("main-job")) as running:
        yield running


def test_the_main_job_from_load_to_unload(cell: Kernel) -> None:
    loaded = cell("%load_ext orchnb")
    assert loaded.outputs == [], "loading prints nothing"

    status = cell("%orch_server_type")
    assert "EPHEMERAL" in status.text
    assert "not started yet" in status.text

    hello = cell("client = orchnb.get_client()\n(await client.hello()).json()")
    assert hello.text == "'👋'"
    assert hello.streams == "", "the server's start prints nothing"
    assert cell.value("orchnb.get_client(sync_client=True).hello().json()") == "'👋'"
    assert cell.value("orchnb.run(client.hello()).json()") == "'👋'"
    assert cell.value("orchnb.get_client() is client") == "True"
    assert (
        cell.value("import asyncio\nawait asyncio.sleep(0)\norchnb.get_client() is client")
        == "True"
    )

    assert "up, answered in" in cell("%orch_server_type").text

    created = cell(
        "run = await client.create_flow_run('etl', name='one', parameters={'day': 'monday'})\nrun"
    )
    assert "Flow run one" in created.text
    assert 'day="monday"' in unescape(created.html)

    table = cell("orchnb.get_client(sync_client=True).read_flow_runs()")
    assert "1 flow run" in table.text
    assert "<td>one</td>" in table.html
    assert cell.value("(await client.read_flow_run(run.id)).name") == "'one'"

    doctor = cell("report = %orch_doctor\nreport")
    assert "orchnb doctor" in doctor.html
    assert "ipykernel.zmqshell.ZMQInteractiveShell, a kernel" in doctor.text
    assert "up, answered in" in doctor.text

    missing = cell("await client.read_flow_by_name('nobody')")
    assert "There is no flow 'nobody'" in missing.text
    assert missing.errors[0]["ename"] == "ObjectNotFound"
    assert cell.value("len(await client.read_flow_runs())") == "1", "the session goes on"

    left = cell("%unload_ext orchnb")
    assert left.outputs == []
    threads = cell.value("import threading\nsorted(t.name for t in threading.enumerate())")
    assert "orchnb" not in threads
    assert "_connection_worker_thread" not in threads, "the database is closed"


def test_loading_again_finds_what_was_created(cell: Kernel) -> None:
    cell("%load_ext orchnb")
    assert cell.value("[r.name for r in await orchnb.get_client().read_flow_runs()]") == "['one']"


def test_the_server_answers_while_a_cell_blocks_the_notebooks_loop(cell: Kernel) -> None:
    source = """
import threading, time
answers = []
def ask():
    with orchnb.get_client(sync_client=True) as own:
        answers.append(own.hello().json())
thread = threading.Thread(target=ask)
thread.start()
thread.join(30)  # plain code: the notebook's loop stands still meanwhile
answers
"""
    assert cell.value(source) == "['👋']"


def test_a_kernel_that_is_shut_down_while_the_server_runs_is_gone_within_5_seconds(
    tmp_path: Path,
) -> None:
    with kernel(tmp_path) as cell:
        cell("%load_ext orchnb")
        assert cell.value("(await orchnb.get_client().hello()).json()") == "'👋'"
        began = time.monotonic()
        cell.client.shutdown()
        while cell.manager.is_alive():
            assert time.monotonic() - began < 5
            time.sleep(0.02)  # asks the operating system, which has no event for it
