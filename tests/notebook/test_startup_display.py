"""The start-up of the server in the kernel, as a person sees it: phases, then one line.

A real kernel; its server is a small app that takes as long as the test says.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchnb.runtime.file_locks import lock_at
from tests.notebook.frontend import Page
from tests.notebook.kernels import Kernel, kernel

ROOT = Path(__file__).parents[2]

SERVER = '''
"""The tests' app; its start takes as many seconds as START_SECONDS says, or fails."""

import os
import anyio
from tests.notebook.apps import app as usual

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await anyio.sleep(float(os.environ["START_SECONDS"]))
        if "START_FAILS" in os.environ:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
    await usual(scope, receive, send)
'''

HELLO = "(await orchnb.get_client().hello()).status_code"

READY = r"✓ server:app in this kernel, ready in \d\.\d s"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("startup")
    (folder / "server.py").write_text(SERVER)
    environment = {
        "ORCHNB_EPHEMERAL_APP": "server:app",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "START_SECONDS": "1",
    }
    with kernel(folder, **environment) as cell:
        yield cell


@pytest.fixture
def page(shared: Kernel) -> Iterator[Page]:
    """A page of that kernel with the extension freshly loaded, and no server yet."""
    page = Page(shared)
    page.run("import asyncio, os, threading\n%load_ext orchnb")
    yield page
    page.run("%unload_ext orchnb")
    page.run("os.environ.update(START_SECONDS='1'); os.environ.pop('START_FAILS', None)")
    page.run("%reset -f")


def test_the_phases_appear_while_it_starts_and_become_one_line(page: Page) -> None:
    cell = page.run(f"{HELLO};")
    shown = [message["content"]["data"] for message in page.displays(cell)]
    assert shown[0]["text/plain"].startswith("Starting server:app in this kernel\n")
    for phase in ("import the app", "create the app", "start the app"):
        assert phase in shown[0]["text/plain"]
        assert phase in shown[0]["text/html"]
    assert "✓  create the app" in shown[0]["text/plain"]
    assert re.search(r"…  start the app\s+0\.\d s", shown[0]["text/plain"])
    assert 3 <= len(shown) <= 6, "a second's start, drawn three times a second"
    assert re.fullmatch(READY, page.text(cell))
    assert re.search(READY, page.html(cell))
    assert "start the app" not in page.html(cell)


WAITS = {
    "a request": "await client.hello()",
    "a request of the sync client": "orchnb.get_client(sync_client=True).hello()",
    "async with": "async with client: pass",
    "with": "with orchnb.SyncPrefectClient(client._app): pass",
    "orchnb.run": "orchnb.run(client.hello())",
    "Tab": "dir(client.operations)",
}


@pytest.mark.parametrize("wait", WAITS)
def test_it_is_shown_in_the_cell_that_waits(page: Page, wait: str) -> None:
    """And not in the one that has begun the start by opening a client."""
    first = page.run("client = orchnb.get_client()")
    waits = page.run(f"{WAITS[wait]};")
    shown = [message["content"]["data"]["text/plain"] for message in page.displays(waits)]
    assert shown[0].startswith("Starting server:app in this kernel\n")
    assert re.fullmatch(READY, shown[-1])
    later = page.run("await client.hello();")
    assert page.outputs[first] == page.outputs[later] == []


def test_every_cell_that_waits_shows_it(page: Page) -> None:
    """A task of an earlier cell waits, and so does the next cell."""
    page.run("client = orchnb.get_client()")
    first = page.run("task = asyncio.create_task(client.hello())")
    second = page.run("await client.hello();")
    page.until(lambda: re.fullmatch(READY, page.text(first)))
    assert page.displays(second)[0]["content"]["data"]["text/plain"].startswith("Starting")
    assert re.fullmatch(READY, page.text(second))


def test_many_tasks_of_one_cell_have_one_display(page: Page) -> None:
    cell = page.run("await asyncio.gather(*(orchnb.get_client().hello() for _ in range(50)));")
    assert re.fullmatch(READY, page.text(cell))
    assert len(page.outputs[cell]) == 1


def test_a_short_wait_at_the_end_of_a_long_start_is_not_shown(page: Page) -> None:
    first = page.run("client = orchnb.get_client()\nawait asyncio.sleep(0.9)")
    second = page.run("await client.hello();")
    third = page.run("await asyncio.sleep(0.5)")
    assert page.outputs[first] == page.outputs[second] == page.outputs[third] == []


def test_a_cell_that_blocks_shows_it_too(page: Page) -> None:
    cell = page.run("orchnb.get_client(sync_client=True).hello();")
    assert page.displays(cell)[0]["content"]["data"]["text/plain"].startswith("Starting")
    assert re.fullmatch(READY, page.text(cell))


def test_the_magic_shows_it_below_itself(page: Page) -> None:
    cell = page.run("%orch_server_type ephemeral")
    assert "EPHEMERAL" in page.text(cell)
    page.until(lambda: re.search(READY, page.text(cell)))
    other = page.run(HELLO)
    assert page.text(other) == "200"


@pytest.mark.parametrize(
    ("source", "shows"),
    [
        ("thread = threading.Thread(target=lambda: (go.wait(), plain()))\nthread.start()", 1),
        (
            "async def ask():\n    await asyncio.to_thread(go.wait)\n"
            "    await orchnb.get_client().hello()\n"
            "task = asyncio.create_task(ask())",
            0,
        ),
    ],
    ids=["thread", "task"],
)
def test_a_task_of_an_earlier_cell_shows_it_there_and_a_thread_in_the_running_one(
    page: Page, source: str, shows: int
) -> None:
    page.run(
        "go = threading.Event()\n"
        "def plain():\n    with orchnb.get_client(sync_client=True) as own: own.hello()"
    )
    first = page.run(source)
    cells = first, page.run("go.set()\nawait asyncio.sleep(0.5)")
    page.until(lambda: re.fullmatch(READY, page.text(cells[shows])))
    assert page.text(cells[1 - shows]) == ""


def test_a_fast_one_is_not_shown(page: Page) -> None:
    page.run("os.environ['START_SECONDS'] = '0'")
    cell = page.run(f"{HELLO};")
    later = page.run("await asyncio.sleep(0.5)")
    assert page.displays(cell) == page.displays(later) == []


def test_one_that_fails_is_a_line_and_a_card_where_it_is_waited_for(page: Page) -> None:
    page.run("os.environ['START_FAILS'] = '1'")
    first = page.run("client = orchnb.get_client()")
    second = page.run(HELLO)
    assert page.outputs[first] == []
    page.until(lambda: "did not start" in page.text(second))
    assert re.search(
        r"^✗ server:app did not start: start failed after 1\.\d s$", page.text(second), re.MULTILINE
    )
    assert 'orchnb-line orchnb-error"' in page.html(second)
    assert "no database" in page.text(second)
    assert page.html(second).count('orchnb-card orchnb-error"') == 1


def test_the_next_start_is_shown_where_it_is_asked_for(page: Page) -> None:
    page.run("os.environ['START_FAILS'] = '1'")
    first = page.run(HELLO)
    page.run("del os.environ['START_FAILS']")
    second = page.run(f"{HELLO};")
    assert "did not start" in page.text(first)
    assert re.fullmatch(READY, page.text(second))


def test_unloading_stops_it_and_says_so(page: Page) -> None:
    page.run("os.environ['START_SECONDS'] = '60'")
    page.run(
        "async def ask():\n    try: await orchnb.get_client().hello()\n"
        "    except orchnb.OrchnbError: pass"
    )
    cell = page.run("task = asyncio.create_task(ask())\nawait asyncio.sleep(0.8)")
    assert page.text(cell).startswith("Starting server:app")
    other = page.run("%unload_ext orchnb")
    page.until(lambda: "was stopped after" in page.text(cell))
    assert page.text(other) == ""
    threads = page.text(page.run("[t.name for t in threading.enumerate()]"))
    assert "orchnb-display" not in threads
    page.run("%load_ext orchnb")


def test_a_stopped_wait_does_not_stop_the_start(page: Page) -> None:
    page.run("os.environ['START_SECONDS'] = '2'")
    cell = page.begin(HELLO)
    page.until(lambda: "Starting" in page.text(cell))
    page.kernel.manager.interrupt_kernel()
    page.until(lambda: cell in page.idle)
    assert "Stopped by you" in page.text(cell)
    again = page.run(HELLO)
    assert re.fullmatch(rf"{READY}\n200", page.text(again))
    page.until(lambda: re.search(READY, page.text(cell)))


def test_off_shows_nothing(page: Page) -> None:
    page.run("%orch_display off")
    cell = page.run(f"{HELLO};")
    assert page.outputs[cell] == []


def test_text_is_text(page: Page) -> None:
    page.run("%orch_display text")
    cell = page.run(f"{HELLO};")
    assert {k for m in page.displays(cell) for k in m["content"]["data"]} == {"text/plain"}
    assert re.fullmatch(READY, page.text(cell))


@pytest.mark.skipif(sys.platform == "win32", reason="pexpect.spawn needs a POSIX terminal")
def test_a_terminal_gets_the_last_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.notebook.test_terminal import Terminal

    (tmp_path / "server.py").write_text(SERVER)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("START_SECONDS", "0.8")
    terminal = Terminal(tmp_path)
    try:
        terminal("%load_ext orchnb")
        terminal("import os, sys; os.environ['ORCHNB_EPHEMERAL_APP'] = 'server:app'")
        shown = terminal("await orchnb.get_client().hello();")
        shown += terminal("await orchnb.get_client().hello();")
        assert len(re.findall(READY, shown)) == 1
        assert "Starting" not in shown
        assert "<" not in shown
    finally:
        terminal.end()


def test_prefects_own_server(tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    with kernel(tmp_path, PREFECT_HOME=str(tmp_path / "prefect")) as cell:
        page = Page(cell)
        page.run("%load_ext orchnb")
        lock = lock_at(tmp_path / "prefect" / ".orchnb-start.lock")
        with lock:  # as another process that starts a server
            first = page.begin("(await orchnb.get_client().hello()).json()")
            waits = "Waiting for another process, which is starting a server on the same database"
            page.until(lambda: waits in page.text(first), timeout=90)
            assert waits in page.html(first)
        page.until(lambda: first in page.idle, timeout=90)
        shown = [message["content"]["data"]["text/plain"] for message in page.displays(first)]
        assert waits not in shown[-1]
        assert "open the database" in shown[0]
        assert "start the services" in shown[0]
        last = shown[-1]
        assert re.fullmatch(r"✓ Prefect 3\.\d+\.\d+ in this kernel, ready in \d+(\.\d)? s", last)
        assert [o["msg_type"] for o in page.outputs[first]] == ["display_data", "execute_result"]
