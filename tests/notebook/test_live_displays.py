"""Live displays: in the cell that caused them, not too often, and with buttons that work.

A real kernel; its server is a small app that fails as often as it is asked to.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchnb.notebook.pacer import Pacer
from tests.notebook.frontend import Page
from tests.notebook.kernels import Kernel, kernel

ROOT = Path(__file__).parents[2]

ASYNC = "await orchnb.get_client().request('GET', '/flaky/{}')"
SYNC = "plain.request('GET', '/flaky/{}')"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    environment = {
        "ORCHNB_EPHEMERAL_APP": "tests.notebook.apps:app",
        "PREFECT_CLIENT_RETRY_JITTER_FACTOR": "0",
        "PYTHONPATH": str(ROOT),
    }
    with kernel(tmp_path_factory.mktemp("live"), **environment) as cell:
        yield cell


@pytest.fixture
def page(shared: Kernel) -> Iterator[Page]:
    """A page of that kernel with the extension freshly loaded; at its end no widget is left."""
    page = Page(shared)
    page.run("%load_ext orchnb\nimport asyncio, threading, time")
    page.run("plain = orchnb.get_client(sync_client=True)")
    yield page
    page.run("%unload_ext orchnb")
    assert page.comms == set()
    page.run("%reset -f")


def hears(page: Page) -> bool:
    """Whether this kernel listens to widgets while a cell awaits, as ipykernel does from 7 on."""
    info = page.run("get_ipython().kernel.kernel_info.get('supported_features', [])")
    return "kernel subshells" in page.text(info)


@pytest.fixture
def heard(page: Page) -> None:
    """Skips where nobody would hear a button."""
    if not hears(page):
        pytest.skip("this ipykernel, older than 7, listens to no widget while a cell awaits")


_keys = iter(range(10_000))


def flaky(times: int, **query: object) -> str:
    """The end of a path that fails so many times, for nobody else."""
    return f"{times}?key={next(_keys)}" + "".join(f"&{k}={v}" for k, v in query.items())


def waits(page: Page, cell: str) -> bool:
    return "Try " in page.text(cell) or "next try" in page.text(cell)


# What is shown


@pytest.mark.parametrize("source", [ASYNC, SYNC], ids=["async", "plain"])
def test_a_wait_counts_down_and_becomes_one_line(page: Page, source: str) -> None:
    cell = page.run(source.format(flaky(2, after=1)) + ";")
    shown = [message["content"]["data"]["text/plain"] for message in page.displays(cell)]
    assert "503 Service Unavailable. Try 2 of 6 in 1 s, at " in shown[0]
    assert "stop button ends the wait at any time" in shown[0]
    assert any("Try 3 of 6" in text for text in shown)
    assert "recovered after 3 tries in 2." in page.text(cell)
    assert "Try" not in page.text(cell), "nothing of the live display is left"
    assert page.html(cell).count("orchnb-line") - page.html(cell).count(".orchnb-line") == 1


def test_buttons_only_where_they_are_heard(heard: None, page: Page) -> None:
    cell = page.begin(ASYNC.format(flaky(1, after=60)))
    page.until(lambda: page.buttons(cell))
    page.press("Try now")
    page.until(lambda: cell in page.idle)
    assert not page.buttons(cell)
    plain = page.run(SYNC.format(flaky(1, after=1)))
    kinds = {kind for message in page.displays(plain) for kind in message["content"]["data"]}
    assert kinds == {"text/plain", "text/html"}


def test_no_buttons_where_nobody_hears_them(page: Page) -> None:
    cell = page.run(ASYNC.format(flaky(1, after=1)))
    shown = any(
        "application/vnd.jupyter.widget-view+json" in message["content"]["data"]
        for message in page.displays(cell)
    )
    assert shown == hears(page)


def test_try_now_tries_now(heard: None, page: Page) -> None:
    cell = page.begin(ASYNC.format(flaky(1, after=3600)))
    page.until(lambda: page.buttons(cell))
    page.press("Try now")
    page.until(lambda: cell in page.idle)
    assert "200 OK" in page.text(cell)
    assert "recovered after 2 tries" in page.text(cell)


def test_stop_waiting_ends_in_the_servers_answer(heard: None, page: Page) -> None:
    cell = page.begin(ASYNC.format(flaky(9, after=3600)))
    page.until(lambda: page.buttons(cell))
    page.press("Stop waiting")
    page.until(lambda: cell in page.idle)
    assert "stopped by you after 1 try" in page.text(cell)
    assert page.outputs[cell][-1]["ename"] == "PrefectHTTPStatusError"


def test_buttons_reach_requests_of_threads(heard: None, page: Page) -> None:
    source = f"await asyncio.to_thread(lambda: {SYNC.format(flaky(1, after=3600))})"
    cell = page.begin(source)
    page.until(lambda: page.buttons(cell))
    assert "ends the cell at any time; its threads keep waiting" in page.text(cell)
    page.press("Try now")
    page.until(lambda: cell in page.idle)
    assert "recovered after 2 tries" in page.text(cell)


def test_maintenance_waits_as_long_as_it_takes(heard: None, page: Page) -> None:
    cell = page.begin(ASYNC.format(flaky(1, after=3600, maintenance=1)))
    page.until(lambda: page.buttons(cell))
    assert "In maintenance: waiting as long as it takes" in page.text(cell)
    page.press("Try now")
    page.until(lambda: cell in page.idle)


def test_several_requests_share_one_display(heard: None, page: Page) -> None:
    paths = [flaky(1, after=60) for _ in range(12)]
    cell = page.begin(
        f"await asyncio.gather(*[orchnb.get_client().request('GET', f'/flaky/{{p}}') for p in {paths}]);"
    )
    page.until(lambda: "and 4 more requests" in page.text(cell) and page.buttons(cell))
    assert len(page.outputs[cell]) == 2, "one display and its buttons"
    assert page.text(cell).count("Try 2 of 6") == 8
    page.press("Try now")
    page.until(lambda: cell in page.idle)
    assert "12 requests were retried: 12 recovered, 24 tries" in page.text(cell)


@pytest.mark.parametrize(
    "source",
    [
        ASYNC.format(flaky(9, after=3600)),
        SYNC.format(flaky(9, after=3600)),
        f"orchnb.run(orchnb.get_client().request('GET', '/flaky/{flaky(9, after=3600)}'))",
    ],
    ids=["async", "plain", "run"],
)
def test_the_stop_button_is_a_persons(page: Page, source: str) -> None:
    cell = page.begin(source)
    page.until(lambda: waits(page, cell))
    page.kernel.manager.interrupt_kernel()
    page.until(lambda: cell in page.idle)
    assert "stopped by you after 1 try" in page.text(cell)
    after = page.run("(await orchnb.get_client().hello()).status_code")
    assert page.text(after) == "200"
    assert "stopped by you" in page.text(page.run("%orch_retries"))


# Where it is shown


def test_a_task_shows_in_the_cell_that_made_it(page: Page) -> None:
    path = flaky(1, after=1)
    first = page.run(
        f"task = asyncio.create_task(orchnb.get_client().request('GET', '/flaky/{path}'))"
    )
    second = page.run("await asyncio.sleep(0.1)")
    page.run("await task;")
    page.until(lambda: "recovered after 2 tries" in page.text(first))
    assert page.text(second) == ""


def test_a_thread_that_outlives_its_cell_shows_in_the_running_one(page: Page) -> None:
    first = page.run(
        "go = threading.Event()\n"
        f"work = lambda: (go.wait(), {SYNC.format(flaky(1, after=1))})\n"
        "thread = threading.Thread(target=work)\nthread.start()"
    )
    second = page.run("go.set(); thread.join()")
    assert "recovered after 2 tries" in page.text(second)
    assert page.text(first) == ""


def test_a_thread_whose_wait_outlives_its_cell_shows_in_that_cell(page: Page) -> None:
    first = page.begin(
        "failed = threading.Event()\n"
        "observing = orchnb.observe_retries(lambda event: failed.set())\n"
        "observing.__enter__()\n"
        f"thread = threading.Thread(target=lambda: {SYNC.format(flaky(1, after=1))})\n"
        "thread.start()\n"
        "assert failed.wait(20)"
    )
    second = page.run("observing.__exit__(None, None, None); thread.join()")
    page.until(lambda: "recovered after 2 tries" in page.text(first))
    assert page.text(second) == ""


def test_a_thread_that_fails_between_cells_shows_nowhere_but_is_listed(
    page: Page, tmp_path: Path
) -> None:
    done = tmp_path / "done"
    first = page.run(
        "from pathlib import Path\n"
        "from orchnb.notebook import extension\n"
        "running = extension._loaded.cells._running\n"
        "def work():\n"
        "    while running: time.sleep(0.01)\n"
        f"    {SYNC.format(flaky(1, after=0))}\n"
        f"    Path({str(done)!r}).touch()\n"
        "threading.Thread(target=work).start()"
    )
    while not done.exists():
        time.sleep(0.01)  # the kernel makes it; pytest's time-out is the limit
    assert "recovered after 2 tries" in page.text(page.run("%orch_retries"))
    assert page.text(first) == ""


def test_a_thread_of_a_thread_shows_there_too(page: Page) -> None:
    inner = f"threading.Thread(target=lambda: {SYNC.format(flaky(1, after=0))})"
    cell = page.run(
        f"def outer():\n    t = {inner}\n    t.start(); t.join()\n"
        "t = threading.Thread(target=outer); t.start(); t.join()"
    )
    assert "recovered after 2 tries" in page.text(cell)


@pytest.mark.parametrize(
    "more",
    ["", ", initializer=_cell.set, initargs=(_cell.get(),)"],
    ids=[
        "",
        "whose threads have the context of who starts them",
    ],  # as from Python 3.14 on they may
)
def test_the_work_of_a_pool_shows_in_the_running_cell(page: Page, more: str) -> None:
    call = f"lambda: {SYNC}"
    first = page.run(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from orchnb.notebook.cell_tracking import _cell\n"
        f"pool = ThreadPoolExecutor(1{more})\n"
        f"pool.submit({call.format(flaky(1, after=0))}).result();"
    )
    assert "recovered after 2 tries" in page.text(first)
    before = page.text(first)
    second = page.run(f"pool.submit({call.format(flaky(1, after=0))}).result();")
    assert "recovered after 2 tries" in page.text(second)
    page.run("pool.shutdown()")
    assert page.text(first) == before


def test_two_cells_in_flight_have_a_display_each(heard: None, page: Page) -> None:
    """On a kernel with subshells, where two cells can run at the same time."""
    subshell = page.new_subshell()
    first = page.begin(ASYNC.format(flaky(1, after=2)) + ";")
    page.until(lambda: waits(page, first))
    second = page.begin(SYNC.format(flaky(1, after=1)) + ";", subshell)
    page.until(lambda: second in page.idle and first in page.idle)
    for cell in (first, second):
        assert page.text(cell).count("recovered after 2 tries") == 1
        assert len([o for o in page.outputs[cell] if o["data"]["text/plain"]]) == 1


def test_waits_one_after_the_other_leave_one_place_for_buttons(heard: None, page: Page) -> None:
    cell = page.run(
        "for i in range(4):\n"
        "    await orchnb.get_client().request('GET', f'/flaky/1?key=after{i}&after=0.5')"
    )
    assert "4 requests were retried: 4 recovered" in page.text(cell)
    assert len(page.outputs[cell]) <= 2, "the display, and what was the place of its buttons"


# How often


class Drawn:
    """A display that goes on for ever, or cannot be drawn."""

    goes_on = True

    def __init__(self, *, broken: bool = False) -> None:
        self.times = 0
        self.broken = broken
        self.often = threading.Event()

    def draw(self) -> bool:
        self.times += 1
        if self.times == 3:
            self.often.set()
        if self.broken:
            raise ZeroDivisionError
        return True


def test_a_display_that_cannot_be_drawn_does_not_keep_the_others_from_it() -> None:
    pacer = Pacer(interval=0.01)
    broken, good = Drawn(broken=True), Drawn()
    pacer.add(broken)
    pacer.add(good)
    try:
        assert good.often.wait(20)
        assert broken.times == 1
    finally:
        pacer.close()


def test_an_interrupt_while_the_thread_starts_ends_no_display(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def interrupt_and_start(self: threading.Thread) -> None:
        signal.raise_signal(signal.SIGINT)
        start(self)

    pacer, good = Pacer(interval=0.01), Drawn()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupt_and_start)
        with pytest.raises(KeyboardInterrupt):
            pacer.add(good)
    try:
        assert good.often.wait(20)
    finally:
        pacer.close()


def test_four_updates_a_second_at_most(page: Page) -> None:
    cell = page.run(
        "async def one(i):\n"
        "    await orchnb.get_client().request('GET', f'/flaky/3?key=r{i}&after=0.{i % 9 + 1}')\n"
        "await asyncio.gather(*map(one, range(200)));"
    )
    page.until(lambda: "200 recovered" in page.text(cell))
    times = [m["arrived"] for m in page.displays(cell) if m["content"]["data"]["text/plain"]]
    assert len(times) >= 3
    for i, began in enumerate(times):
        within = [t for t in times[i:] if t < began + 1]
        assert len(within) <= 4, "the kernel sends no more in a second"


def test_ten_thousand_requests_at_once_do_not_drown_the_front_end(page: Page) -> None:
    cell = page.begin(
        "async def one(i):\n"
        "    await orchnb.get_client().request('GET', f'/flaky/1?key=t{i}&after=0.{i % 9 + 1}')\n"
        "began = time.monotonic()\n"
        "await asyncio.gather(*map(one, range(10_000)))\n"
        "took = time.monotonic() - began"
    )
    page.until(lambda: cell in page.idle, timeout=90)  # twenty thousand requests
    took = float(page.text(page.run("took")))
    assert "10,000 requests were retried: 10,000 recovered" in page.text(cell)
    assert len(page.displays(cell)) <= 4 * (took + 1)
    assert max(len(str(m["content"])) for m in page.displays(cell)) < 20_000


# Modes


def test_html_has_no_widgets(page: Page) -> None:
    page.run("%orch_display html")
    cell = page.run(ASYNC.format(flaky(1, after=1)))
    kinds = {kind for message in page.displays(cell) for kind in message["content"]["data"]}
    assert kinds == {"text/plain", "text/html"}
    assert "recovered after 2 tries" in page.html(cell)


def test_text_has_no_html(page: Page) -> None:
    page.run("%orch_display text")
    cell = page.run(ASYNC.format(flaky(1, after=1)))
    kinds = {kind for o in page.outputs[cell] for kind in o["data"]}
    assert kinds == {"text/plain"}
    assert "recovered after 2 tries" in page.text(cell)


def test_off_shows_nothing_by_itself_but_remembers(page: Page) -> None:
    page.run("%orch_display off")
    cell = page.run(ASYNC.format(flaky(1, after=1)) + ";")
    assert page.outputs[cell] == []
    assert "recovered after 2 tries" in page.text(page.run("%orch_retries"))


def test_off_takes_away_what_would_stand_still(page: Page) -> None:
    cell = page.run(
        f"path = '/flaky/{flaky(1, after=60)}'\n"
        "task = asyncio.ensure_future(orchnb.get_client().request('GET', path))\n"
        "await asyncio.sleep(0)"
    )
    page.until(lambda: waits(page, cell))
    page.run("%orch_display off")
    page.until(lambda: page.text(cell).strip() == "")
    page.run("task.cancel();")


def test_the_variable_decides_until_the_magic_does(page: Page) -> None:
    page.run("import os; os.environ['ORCHNB_DISPLAY'] = 'html'")
    assert "display: html (decided by ORCHNB_DISPLAY" in page.text(page.run("%orch_display"))
    shown = page.text(page.run("%orch_display text"))
    assert "display: text (decided by %orch_display)" in shown
    assert "display: html" in page.text(page.run("%orch_display settings"))
    page.run("del os.environ['ORCHNB_DISPLAY']")


def test_a_mode_that_there_is_not_is_named(page: Page) -> None:
    cell = page.run("%orch_display pictures")
    assert "auto, html, text, off and settings" in page.text(cell)


# The session's list


def test_the_list_is_cleared_on_demand(page: Page) -> None:
    page.run(ASYNC.format(flaky(1, after=0)))
    shown = page.text(page.run("%orch_retries"))
    assert "GET /api/flaky/1" in shown
    assert "503 Service Unavailable" in shown
    assert "No requests were retried" in page.text(page.run("%orch_retries --clear"))


# Leaving


def test_unloading_while_a_request_waits_leaves_no_thread_and_no_widget(
    heard: None, page: Page
) -> None:
    path = flaky(1, after=3600)
    cell = page.run(
        f"task = asyncio.create_task(orchnb.get_client().request('GET', '/flaky/{path}'))\n"
        "await asyncio.sleep(0)"
    )
    page.until(lambda: page.buttons(cell))
    page.run("%unload_ext orchnb")
    threads = page.text(page.run("[t.name for t in threading.enumerate()]"))
    assert "orchnb-display" not in threads
    assert page.comms == set()
    page.run("%load_ext orchnb")


def test_a_forked_child_stays_silent(page: Page) -> None:
    cell = page.run(
        "import os, warnings\n"
        "warnings.filterwarnings('ignore', '.*multi-threaded', DeprecationWarning)  # from 3.12 on\n"
        "if hasattr(os, 'fork'):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        try:\n"
        "            from orchnb.http.retry import RetryEvent\n"
        "            from orchnb.observers import retry_observers\n"
        "            event = RetryEvent('waiting', 1, 'GET', 'http://s/', 1, 6, '503', 5.0, 0.1)\n"
        "            retry_observers.tell(event)\n"
        "        finally:\n"
        "            os._exit(0)\n"
        "    status = os.waitpid(child, 0)[1]\n"
        "    assert status == 0"
    )
    assert page.text(cell) == ""
