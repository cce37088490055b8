"""Flows are deployed from their cells: a real kernel, server and process."""

from __future__ import annotations

import ast
import os
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchnb import ServingFailed, SyncPrefectClient
from orchnb.runs.serving import FlowProcess, failed_to_serve, serving_source, write_source
from tests.notebook.kernels import Kernel, kernel


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"name": "x"}, "name='x'"),
        ({"name": "it's", "cron": ["0 6 * * *"]}, 'name="it\'s", cron=["0 6 * * *"]'),
        ({"name": "x", "interval": timedelta(minutes=2)}, "name='x', interval=120.0"),
        ({"name": "x", "tags": {"b", "a"}, "rrule": None}, "name='x', tags=['a', 'b']"),
        (
            {"name": "x", "parameters": {"lr": 0.1, "deep": [{"a": None}]}},
            "name='x', parameters={'lr': 0.1, 'deep': [{'a': None}]}",
        ),
    ],
)
def test_the_arguments_are_in_the_file(options: dict[str, Any], arguments: str) -> None:
    source = serving_source("def train(): pass\n", "train", **options)
    call = ast.parse(f"train.serve({arguments})").body[0]
    block = ast.parse(source).body[-1]
    assert isinstance(block, ast.If)
    assert ast.dump(block.body[0]) == ast.dump(call)


@pytest.mark.parametrize(
    "value", [object(), {"x": object()}, [float("nan")], range(3), b"x" and len]
)
def test_an_argument_that_cannot_be_written_is_named(value: object) -> None:
    with pytest.raises(TypeError, match="parameters should be made of"):
        serving_source("", "train", parameters=value)


def test_a_file_of_the_persons_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "new" / "train.py"
    write_source(file, "x = 1\n", replace=False)
    write_source(file, "x = 1\n", replace=False)
    with pytest.raises(FileExistsError, match="to_file"):
        write_source(file, "x = 2\n", replace=False)
    write_source(file, "x = 3\n", replace=True)
    assert file.read_text() == "x = 3\n"


def ended(pid: int) -> bool:
    """Whether a process ends within half a minute; its new parent may not ask how."""
    try:
        process = psutil.Process(pid)
        until = time.monotonic() + 30
        while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.05)
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("detach", [False, True])
def test_a_process_can_be_stopped(tmp_path: Path, detach: bool) -> None:
    file = tmp_path / "waits.py"
    file.write_text("import time\nprint('begun', __name__)\ntime.sleep(60)\n")
    process = FlowProcess(file, log=tmp_path / "log", detach=detach)
    try:
        until = time.monotonic() + 30
        while not process.log_lines() and time.monotonic() < until:
            time.sleep(0.02)
        assert process.log_lines() == ["begun __main__"]
        assert process.is_running
    finally:
        process.stop()
    assert not process.is_running
    assert process.exit_code != 0
    process.stop()


def test_a_process_that_ends_by_itself_is_told_with_its_last_lines(tmp_path: Path) -> None:
    file = tmp_path / "fails.py"
    file.write_text("import nothing_like_it\n")
    process = FlowProcess(file, log=tmp_path / "log")
    assert ended_by_itself(process)
    error = failed_to_serve(process, "train/nightly", "its process ended with 1")
    assert isinstance(error, ServingFailed)
    assert "No module named 'nothing_like_it'" in error.log[-1]
    process.stop()


def ended_by_itself(process: FlowProcess) -> bool:
    until = time.monotonic() + 30
    while process.is_running and time.monotonic() < until:
        time.sleep(0.02)
    return not process.is_running


# From a cell.


@pytest.fixture(scope="module")
def cell(site: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("serving")
    with kernel(
        folder,
        PREFECT_API_URL=site[0],
        PREFECT_HOME=str(site[1] / ".prefect"),
        PREFECT_RUNNER_POLL_FREQUENCY="1",
    ) as running:
        shown = running("%load_ext orchnb\nclient = orchnb.get_client()")
        assert not shown.traceback
        yield running


@pytest.fixture(scope="module")
def serving(cell: Kernel) -> Kernel:
    """A kernel in which ``served`` is a flow that is served from its cell."""
    for source in (
        "import json\nfrom prefect import flow\nFACTOR = 3",
        "def scaled(x):\n    return json.loads(str(x)) * FACTOR",
        "@flow(name='scaling', persist_result=True)\n"
        "def scale(x: int = 1) -> int:\n"
        "    return scaled(x)\n"
        "served = await orchnb.serve(scale, 'nightly', cron='0 6 * * *', parameters={'x': 5})",
    ):
        shown = cell(source)
        assert not shown.traceback, shown.traceback
    return cell


def test_a_flow_is_deployed_from_its_cell(serving: Kernel) -> None:
    assert "scaling/nightly is served" in serving("served").text
    assert "FACTOR = 3\n" in serving("print(served.file.read_text())").streams


def test_its_runs_are_executed(serving: Kernel) -> None:
    shown = serving(
        "run = await client.run_deployment(served)\nprint(await client.read_result(run))"
    )
    assert "15" in shown.streams, shown.everything


def test_serving_it_again_replaces_the_process(serving: Kernel, site: tuple[str, Path]) -> None:
    pid = int(serving("print(served.process.pid)").streams)
    with SyncPrefectClient(site[0]) as client:
        deployment = client.read_deployment_by_name("scaling/nightly")
        shown = serving("served = await orchnb.serve(scale, 'nightly', cron='0 7 * * *')\nserved")
        assert not shown.traceback, shown.traceback
        assert ended(pid)
        again = client.read_deployment_by_name("scaling/nightly")
        assert (again.id, again.paused) == (deployment.id, False)
        assert "0 7" in str(again.schedules)


def test_its_process_ends_with_a_killed_kernel(serving: Kernel) -> None:
    pid = int(serving("print(served.process.pid)").streams)
    os.kill(int(serving("import os\nprint(os.getpid())").streams), signal.SIGKILL)
    assert ended(pid), "it outlives the kernel"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("await orchnb.serve(print, 'x')", "decorate the function with @flow"),
        ("await orchnb.serve(flow(lambda: 1, name='l'), 'x')", "lambda"),
        ("await orchnb.serve(uses, 'x')", "live: no cell defines it"),
        (
            "await orchnb.serve(fine, 'x', parameters={'a': object()})",
            "parameters should be made of",
        ),
        ("await orchnb.serve(broken, 'x')", "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_served_is_a_card(source: str, words: str, fresh_cell: Kernel) -> None:
    shown = fresh_cell(source)
    assert words in shown.everything


@pytest.fixture(scope="module")
def fresh_cell(
    site: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("serving-errors")
    with kernel(folder, PREFECT_API_URL=site[0], PREFECT_HOME=str(site[1] / ".prefect")) as running:
        shown = running(
            "%load_ext orchnb\nfrom prefect import flow\nget_ipython().user_ns['live'] = object()\n"
        )
        assert not shown.traceback
        shown = running(
            "@flow\ndef uses():\n    return live\n\n"
            "@flow\ndef fine(a=1):\n    return a\n\n"
            "def half(x):\n    return 1 / x\n"
        )
        shown = running("broken_at = 0\nimport sys\nIN_NOTEBOOK = 'ipykernel' in sys.modules")
        shown = running(
            "value = 1 if IN_NOTEBOOK else half(0)\n@flow\ndef broken():\n    return value"
        )
        assert not shown.traceback
        yield running
