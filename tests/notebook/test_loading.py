"""Loading and leaving out of the ordinary: by configuration, in a cell that goes on, stopped halfway."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.kernels import Kernel, kernel
from tests.servers import ROOT, prefect_home

BY_CONFIGURATION = '--IPKernelApp.extensions=["orchnb"]'

SLOW_TO_STOP = """
import anyio
from tests.notebook.apps import app as usual

async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        await usual(scope, receive, send)
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await anyio.sleep(1.5)
    await send({"type": "lifespan.shutdown.complete"})
"""

WHAT_IS_IN = """
import sys
from orchnb import observers
from orchnb.runtime import loops
{
    "stdout": type(sys.stdout).__module__,
    "magic": "orch_serve" in get_ipython().magics_manager.magics["line"],
    "observers": len(observers.retry_observers._observers),
    "hooks": len(get_ipython().events.callbacks["pre_run_cell"]),
    "loop": loops.notebook_loop() is not None,
}
"""


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel without the extension; the server in it is the small app."""
    (tmp_path / "slow_to_stop.py").write_text(SLOW_TO_STOP)
    with kernel(
        tmp_path,
        ORCHNB_EPHEMERAL_APP="slow_to_stop:app",
        PYTHONPATH=str(ROOT),
        HANG_FILE=str(tmp_path / "hanging"),
    ) as cell:
        yield cell


def test_one_that_the_kernel_loads_at_its_start(tmp_path: Path) -> None:
    """No loop runs there yet, and no cell."""
    with kernel(
        tmp_path,
        BY_CONFIGURATION,
        ORCHNB_EPHEMERAL_APP="tests.notebook.apps:app",
        PYTHONPATH=str(ROOT),
    ) as cell:
        assert "200 OK" in cell.value("await orchnb.get_client().hello()")
        assert "200 OK" in cell.value("orchnb.get_client(sync_client=True).hello()")
        cell.value("from orchnb.notebook import extension")
        assert cell.value("extension._loaded.cells.current().source") == repr(
            "extension._loaded.cells.current().source"
        )
        running = "[cell.source for cell in extension._loaded.cells._running.values()]"
        assert cell.value(running) == repr([running])


def test_loading_replaces_nothing_that_the_process_shares(cell: Kernel) -> None:
    cell("from tests import process_wide\nbefore = process_wide.taken_down()")
    cell("%env ORCHNB_EPHEMERAL_PREWARM=0")  # while it imports, the switch interval is shorter
    cell("%load_ext orchnb")
    assert cell.value("process_wide.changed(before)") == "[]"


def stop_when_it_hangs(cell: Kernel, source: str) -> float:
    """Run a cell that asks for what hangs, stop it then, and return how many seconds it took to end."""
    under_way = cell.folder / "hanging"
    message = cell.begin(source)
    while not under_way.exists():
        time.sleep(0.01)  # the kernel makes it; pytest's time-out is the limit
    time.sleep(0.1)  # so that the kernel's loop has gone to sleep; sooner is the easier case
    began = time.monotonic()
    cell.manager.interrupt_kernel()
    shown = cell.finish(message)
    assert shown.errors[0]["ename"] in ("KeyboardInterrupt", "CancelledError")
    return time.monotonic() - began


HANGS = "await orchnb.get_client().request('GET', '/hang')"


@pytest.mark.parametrize(
    ("first", "source"),
    [
        ("", f"%load_ext orchnb\n{HANGS}"),
        ("%load_ext orchnb", f"get_ipython().run_cell('pass')\n{HANGS}"),
    ],
    ids=["that loads it", "after code run as a cell"],
)
def test_a_cell_that_waits_is_stopped(cell: Kernel, first: str, source: str) -> None:
    cell(first)
    assert stop_when_it_hangs(cell, source) < 2  # nothing else would wake the loop for a minute
    assert "200 OK" in cell.value("await orchnb.get_client().hello()")


def test_the_loop_is_left_asleep_between_cells(cell: Kernel) -> None:
    cell("%load_ext orchnb")
    cell("get_ipython().run_cell('pass')")
    cell("from orchnb.notebook import extension, stop_button")
    beats = "[b for b in __import__('gc').get_objects() if isinstance(b, stop_button.Pulse)]"
    source = f"(pulse,) = {beats}\nfound = []\nimport asyncio, threading\n"
    # Looked at from the loop itself, between this cell and the next.
    source += (
        "handle = asyncio.get_running_loop().call_later(0.05, lambda: found.append(pulse._beat))"
    )
    cell(source)
    deadline = time.monotonic() + 20
    while (seen := cell.value("found")) == "[]":
        assert time.monotonic() < deadline
    assert seen == "[None]"


def test_leaving_that_is_stopped_has_left_all_the_same(cell: Kernel) -> None:
    before = cell.value(WHAT_IS_IN)
    cell("%load_ext orchnb")
    assert "200 OK" in cell.value("orchnb.get_client(sync_client=True).hello()")
    loaded = cell.value(WHAT_IS_IN)
    assert loaded != before
    message = cell.begin("open('leaving', 'w').close()\n%unload_ext orchnb")
    while not (cell.folder / "leaving").exists():
        time.sleep(0.01)
    time.sleep(0.4)  # the app takes 1.5 s to stop; whenever the interrupt comes, all has to be out
    cell.manager.interrupt_kernel()
    assert cell.finish(message).errors[0]["ename"] == "KeyboardInterrupt"
    assert cell.value(WHAT_IS_IN) == before
    cell("%reload_ext orchnb")
    assert cell.value(WHAT_IS_IN) == loaded
    assert "200 OK" in cell.value("await orchnb.get_client().hello()")


@pytest.mark.timeout(180)
def test_the_cell_that_loads_it_may_import_prefect(tmp_path: Path) -> None:
    """Two threads that import it in different orders can meet modules that are only half there."""
    home = prefect_home(tmp_path / "prefect-home")
    with kernel(tmp_path, PREFECT_HOME=str(home), PYTHONPATH=str(ROOT)) as cell:
        shown = cell(
            "%load_ext orchnb\nimport threading, time\n"
            "before = [each.name for each in threading.enumerate()]\n"
            "from prefect.client.orchestration import get_client",
            timeout=120,
        )
        assert (shown.streams, shown.errors) == ("", [])
        assert "orchnb-prewarm" not in cell.value("before")


@pytest.mark.parametrize("setting", ["PREFECT_HOME", "PREFECT_PROFILES_PATH"])
def test_errors_are_shown_whatever_the_settings_are(cell: Kernel, setting: str) -> None:
    cell("%load_ext orchnb")
    cell(f"%env {setting}=~nobody-of-that-name/data")
    assert cell("1/0").errors[0]["ename"] == "ZeroDivisionError"
    error = cell("orchnb.get_settings()").errors[0]
    assert error["ename"] == "InvalidSetting"
    assert (
        f"{setting} (environment) begins with ~, but the home folder is unknown" in error["evalue"]
    )


def test_a_switch_to_a_new_database_that_is_stopped_leaves_no_folder(cell: Kernel) -> None:
    cell("%load_ext orchnb")
    assert "200 OK" in cell.value("await orchnb.get_client().hello()")
    message = cell.begin("open('switching', 'w').close()\n%orch_server_type ephemeral --fresh")
    while not (cell.folder / "switching").exists():
        time.sleep(0.01)
    time.sleep(0.4)  # the app before takes 1.5 s to stop; whenever it comes, no folder may stay
    cell.manager.interrupt_kernel()
    cell.finish(message)
    cell("folder = orchnb.get_settings().ephemeral_home")
    cell("%unload_ext orchnb")
    assert cell.value("folder is not None and folder.exists()") == "False"
