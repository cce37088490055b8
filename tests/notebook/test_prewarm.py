"""What the load of the extension imports in the background, and what it must not do meanwhile."""

from __future__ import annotations

import builtins
import importlib
import os
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from orchnb.runtime import background_imports
from tests.http.wire import http, wire
from tests.notebook.kernels import Kernel, kernel

ROOT = Path(__file__).parents[2]

SERVER = "prefect.server.api.server"

TIMED_LOAD = """
began = time.perf_counter()
%load_ext orchnb
took = time.perf_counter() - began
"""


def until(cell: Kernel, condition: str, timeout: float = 60) -> None:
    """Ask again and again, in cells of their own, until something holds."""
    deadline = time.monotonic() + timeout
    while cell.value(condition) != "True":
        assert time.monotonic() < deadline, condition
        time.sleep(0.05)  # between two looks


def until_ended(cell: Kernel) -> None:
    until(cell, "'orchnb-prewarm' not in [t.name for t in threading.enumerate()]")


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_loading_returns_at_once_and_prints_nothing(tmp_path: Path) -> None:
    environment = {"ORCHNB_EPHEMERAL_APP": "tests.notebook.apps:app", "PYTHONPATH": str(ROOT)}
    with kernel(tmp_path, **environment) as cell:
        cell("import sys, threading, time")
        times = []
        for _ in range(7):
            shown = cell(TIMED_LOAD)
            assert shown.outputs == []
            times.append(float(cell.value("took")))
            until_ended(cell)
            # As new as in a fresh kernel.
            cell(
                "%unload_ext orchnb\n"
                "for name in [n for n in sys.modules if n.partition('.')[0] == 'orchnb']:\n"
                "    del sys.modules[name]"
            )
    assert statistics.median(times) < 0.15, times
    assert times[0] < 0.6, "the first one on a machine that does other things as well"


def test_the_server_is_imported_while_cells_run_and_nothing_is_written(tmp_path: Path) -> None:
    with kernel(tmp_path) as cell:
        cell("import sys, threading, time")
        before = files(tmp_path)
        shown = [cell(TIMED_LOAD)]
        assert float(cell.value("took")) < 0.6
        until(cell, f"'{SERVER}' in sys.modules")
        shown += [cell("1"), cell("import asyncio; await asyncio.sleep(0)")]
        until_ended(cell)
        shown.append(cell("%unload_ext orchnb"))
        assert [one.streams for one in shown] == [""] * 4
        written = files(tmp_path) - before
        assert not {name for name in written if Path(name).parts[0] == "home"} - {"home/.prefect"}


@pytest.mark.parametrize(
    "environment",
    [
        {"ORCHNB_EPHEMERAL_PREWARM": "0"},
        {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
        {"ORCHNB_EPHEMERAL_APP": "an_app:app"},
    ],
    ids=["switched off", "a server elsewhere", "another app"],
)
def test_what_is_not_needed_is_not_imported(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "an_app.py").write_text("raise SystemExit('imported')")
    with kernel(tmp_path, **environment) as cell:
        cell("import sys, threading")
        assert cell("%load_ext orchnb").outputs == []
        until_ended(cell)
        assert cell.value("[n for n in ('prefect', 'an_app') if n in sys.modules]") == "[]"
        imported = cell.value("'orchnb.api.context' in sys.modules")
        assert imported == str("ORCHNB_EPHEMERAL_PREWARM" not in environment)


@pytest.mark.parametrize("time", ["first", "second", "third"])
def test_prefect_can_be_imported_right_after_the_load(tmp_path: Path, time: str) -> None:
    with kernel(tmp_path) as cell:
        cell.begin("%load_ext orchnb")  # the next cell is there before it has ended
        imported = cell("from prefect import flow\n@flow\ndef mine(): ...")
        assert imported.errors == [], imported.traceback
        assert imported.streams == ""


def test_a_module_that_is_half_there_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switching the server while the background imports what holds the clients."""
    (tmp_path / "half_there.py").write_text(
        "import builtins\nbuiltins.half_began.set()\nbuiltins.half_goes_on.wait(30)\nwhole = True"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(builtins, "half_began", began := threading.Event(), raising=False)
    monkeypatch.setattr(builtins, "half_goes_on", goes_on := threading.Event(), raising=False)
    assert background_imports.loaded_module("half_there") is None
    with ThreadPoolExecutor(2) as threads:
        threads.submit(importlib.import_module, "half_there")
        assert began.wait(30)
        found = threads.submit(background_imports.loaded_module, "half_there")
        _, waiting = wait([found], 0.2)
        goes_on.set()
        assert waiting == {found}
        assert found.result(30).whole


def test_unloading_right_after_loading_leaves_no_thread(tmp_path: Path) -> None:
    with kernel(tmp_path) as cell:
        cell("import sys, threading")
        before = cell.value("sorted(t.name for t in threading.enumerate())")
        cell("%load_ext orchnb\n%unload_ext orchnb")
        until_ended(cell)
        assert cell.value("sorted(t.name for t in threading.enumerate())") == before


def test_the_stop_button_ends_a_cell_that_waits_for_the_import(tmp_path: Path) -> None:
    with kernel(tmp_path) as cell:
        cell("import sys, threading, time\nran = []")
        cell("%load_ext orchnb")
        waiting = cell.begin("import prefect\nran.append(1)\ntime.sleep(60)")
        while cell.client.get_iopub_msg(timeout=30)["msg_type"] != "execute_input":
            pass  # it is on its way
        time.sleep(0.2)  # the moment within the wait
        cell.manager.interrupt_kernel()
        stopped = time.monotonic()
        shown = cell.finish(waiting, timeout=30)
        assert time.monotonic() - stopped < 3
        assert [error["ename"] for error in shown.errors] == ["KeyboardInterrupt"]
        assert "the cell did not run" in shown.errors[0]["evalue"]
        assert cell.value("ran") == "[]"
        assert cell.value("1 + 1") == "2", "only that one is refused"


# A cell in which Prefect's name is waits for the end of the import.
FORK = """
while "{module}" not in sys.modules:
    time.sleep(0.001)
child = os.fork()
if child == 0:
    signal.alarm(60)  # rather than wait forever
    import_module("pre" "fect.server.api.server")
    os.environ["PRE" "FECT_API_URL"] = {url!r}
    with orchnb.get_client(sync_client=True) as client:
        os._exit(client.hello().status_code - 100)
"""

WAIT = "os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("module", ["orchnb.settings", "sqlalchemy"])
def test_a_child_forked_in_the_meantime_can_import_the_same(module: str, tmp_path: Path) -> None:
    with wire(http(200)) as server, kernel(tmp_path) as cell:
        cell("import os, signal, sys, time; from importlib import import_module")
        source = FORK.format(module=module, url=server.url)
        shown = [cell("%load_ext orchnb"), cell(source), cell(WAIT)]
        assert [one.errors for one in shown] == [[], [], []], shown[1].traceback
        assert shown[2].text == "100"
