"""A process forked from a kernel shows nothing: it has no front end, and Jupyter's log is not one.

A real kernel, whose own stderr is a file that must stay empty.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http.wire import Wire, http, wire
from tests.notebook.kernels import Kernel, kernel
from tests.notebook.test_startup_display import ROOT, SERVER

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

BUSY = http(503, b"{}", "Retry-After: 0.5")

PREPARE = """
import asyncio, multiprocessing, os, signal, threading, warnings
%load_ext orchnb
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork with threads

def retries(url):
    with orchnb.SyncPrefectClient(url) as client:
        client.request("GET", "/flows")

def retries_async(url):
    async def ask():
        async with orchnb.PrefectClient(url) as client:
            await asyncio.gather(*(client.request("GET", "/flows") for _ in range(2)))
    asyncio.run(ask())

def starts(url):
    with orchnb.get_client(sync_client=True) as client:
        client.hello()

def ends_the_cell(url):
    retries(url)
    get_ipython().events.trigger("post_run_cell", None)

def in_a_fork(work, url):
    child = os.fork()
    if child == 0:
        status = 1
        signal.alarm(30)  # rather than that it waits for ever
        try:
            work(url)
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def in_a_process(work, url):
    child = multiprocessing.get_context("fork").Process(target=work, args=(url,))
    child.start()
    child.join(30)
    return child.exitcode
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forked")
    (folder / "server.py").write_text(SERVER)
    return folder


@pytest.fixture(scope="module")
def cell(folder: Path) -> Iterator[Kernel]:
    environment = {
        "ORCHNB_EPHEMERAL_APP": "server:app",
        "ORCHNB_EPHEMERAL_PREWARM": "0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "START_SECONDS": "1",
    }
    with (folder / "log").open("wb") as log, kernel(folder, log=log, **environment) as cell:
        shown = cell(PREPARE)
        assert not shown.errors, shown.traceback
        yield cell


class Log:
    """The file of the kernel's own stderr, from the moment that this is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = len(path.read_bytes())

    def text(self) -> str:
        return self._path.read_bytes()[self._before :].decode()


@pytest.fixture
def log(cell: Kernel, folder: Path) -> Log:
    del cell  # it warns of itself when it begins
    return Log(folder / "log")


@pytest.fixture
def busy() -> Iterator[Wire]:
    with wire(BUSY, BUSY, BUSY, http(200)) as server:
        yield server


# The first one: nothing was shown in the kernel itself before.
@pytest.mark.parametrize("way", ["in_a_fork", "in_a_process"])
@pytest.mark.parametrize("work", ["retries", "retries_async", "starts", "ends_the_cell"])
def test_a_child_shows_nothing(way: str, work: str, cell: Kernel, log: Log, busy: Wire) -> None:
    shown = cell(f"{way}({work}, {busy.url!r})")
    assert shown.text == "0", shown.everything
    assert [output["msg_type"] for output in shown.outputs] == ["execute_result"]
    assert log.text() == ""
    assert busy.requests or work == "starts"


def test_a_child_of_a_cell_with_a_display_shows_nothing(cell: Kernel, log: Log, busy: Wire) -> None:
    """It is forked while a request of the same cell waits, and inherits the display of that."""
    shown = cell(
        f"""
        import threading
        waits = threading.Thread(target=retries, args=({busy.url!r},))
        waits.start()
        await asyncio.sleep(0.3)
        status = in_a_fork(ends_the_cell, {busy.url!r})
        waits.join()
        status
        """
    )
    assert not shown.errors, shown.traceback
    assert re.search("recovered", shown.everything), "the parent shows its own"
    assert not [output for output in shown.outputs if output["msg_type"] == "stream"]
    assert log.text() == ""


def test_an_error_in_a_child_makes_no_card(cell: Kernel, log: Log) -> None:
    """IPython itself still tries to send its traceback; none of orchnb's html is in the log."""
    with wire(http(404)) as server:
        shown = cell(
            f"""
            def fails(url):
                try:
                    retries(url)
                except orchnb.OrchnbError:
                    get_ipython().showtraceback()
            in_a_fork(fails, {server.url!r})
            """
        )
    assert not shown.errors, shown.traceback
    deadline = time.monotonic() + 5
    while "from fork" not in log.text() + shown.everything and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = log.text() + shown.everything
    assert "attempted to send message from fork" in seen, "this test would see it"
    assert "orchnb-card" not in seen


def test_the_kernel_itself_shows_what_it_did(cell: Kernel, busy: Wire) -> None:
    shown = cell(f"retries({busy.url!r})")
    assert "recovered after" in shown.everything
