"""What hosted code may do to the host, and what an hour, a cell or a crowd may do to both.

The server goes on, or the next request starts it anew; nothing of it is said on stderr.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchnb.api.client import PrefectClient, SyncPrefectClient
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.host import HostedApp, _tenancy, host_log
from orchnb.hosting.transport import HostedTransport
from orchnb.settings import get_settings
from tests.hosting.apps import ScriptedApp
from tests.servers import run_script

SECONDS = 10  # at most; nothing here should take any

FAULTY_APP = """
    import asyncio, json, os, signal, sys, threading
    from orchnb import SyncPrefectClient
    from orchnb.hosting import host

    class Odd(BaseException):
        pass

    class App:
        starts = 0

        async def __call__(self, scope, receive, send):
            if scope["type"] == "lifespan":
                self.starts += 1
                self.crash = asyncio.Event()
                await receive()
                await send({"type": "lifespan.startup.complete"})
                wanted = asyncio.create_task(receive())
                crashed = asyncio.create_task(self.crash.wait())
                await asyncio.wait([wanted, crashed], return_when=asyncio.FIRST_COMPLETED)
                if self.crash.is_set():
                    raise RuntimeError("the scheduler died")
                await send({"type": "lifespan.shutdown.complete"})
                return
            fault = getattr(self, scope["path"].rpartition("/")[2], None)
            if fault is not None:
                await fault(asyncio.get_running_loop())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})

        async def lifespan_raises(self, loop):
            self.crash.set()

        async def task_raises(self, loop):
            async def odd():
                raise Odd("nobody asks for this error")
            self.task = asyncio.create_task(odd())
            await asyncio.wait([self.task])

        async def task_exits(self, loop):
            async def leave():
                sys.exit(3)
            self.task = asyncio.create_task(leave())
            await asyncio.wait([self.task])

        async def callback_exits(self, loop):
            loop.call_soon(sys.exit, 3)
            await asyncio.sleep(0.01)

        async def stops_the_loop(self, loop):
            loop.stop()

        async def closes_the_loop(self, loop):
            try:
                loop.close()
            except RuntimeError:
                pass

        async def cancels_everything(self, loop):
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        async def breaks_the_selector(self, loop):
            loop._selector.close()

    def try_out(fault):
        app = App()
        client = SyncPrefectClient(app)
        client.open()

        def get(path):
            try:
                return client.request("GET", path, timeout=2).status_code
            except Exception as exc:
                return type(exc).__name__

        get("/hello")
        get("/" + fault)
        after = [get("/hello") for _ in range(3)]
        with SyncPrefectClient(App()) as other:
            after.append(other.request("GET", "/hello", timeout=2).status_code)
        client.close()
        client = SyncPrefectClient(app)
        with client:
            after.append(get("/hello"))
        host.close_all()
        threads = [t.name for t in threading.enumerate() if t.name.startswith("orchnb")]
        log = [line.split(": ", 1)[1].splitlines()[0] for line in host.host_log.lines(9)]
        return dict(after=after, threads=threads, log=log)

    # A process for each, but orchnb imported once.
    for fault in sys.argv[1:]:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        os.dup2(os.open(fault + ".err", os.O_CREAT | os.O_WRONLY), 2)
        signal.alarm(10)  # rather than that it waits for ever
        with open(fault + ".json", "w") as file:
            json.dump(try_out(fault), file)
        os._exit(0)
"""


FAULTS = {
    "lifespan_raises": "The lifespan of the app 'App' failed: the scheduler died",
    "task_raises": "",  # asyncio says it when the task is collected
    "task_exits": "A task of a hosted app raised SystemExit(3)",
    "callback_exits": "A task of a hosted app raised SystemExit(3)",
    "closes_the_loop": "",
    "stops_the_loop": "A hosted app stopped the event loop it runs on; it was restarted",
    "cancels_everything": "The lifespan of the app 'App' was cancelled",
    "breaks_the_selector": "The event loop of the hosted apps failed",
}
"""What an app does, and what the log says of it."""


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what became of each."""
    folder = tmp_path_factory.mktemp("faults")
    run_script(FAULTY_APP, folder, arguments=tuple(FAULTS), PREFECT_CLIENT_MAX_RETRIES="0")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="the script forks")
@pytest.mark.parametrize(
    "fault",
    FAULTS,
)
def test_a_server_that_dies_is_there_again_for_the_next_request(fault: str, faults: Path) -> None:
    assert (faults / f"{fault}.err").read_text() == ""
    seen = json.loads((faults / f"{fault}.json").read_text())
    assert seen["after"] == [200] * 5
    assert seen["threads"] == []
    assert FAULTS[fault] in seen["log"] or not FAULTS[fault]


class GoesDown(ScriptedApp):
    """Cancels all that runs on its loop, at the moment that the request after that has come there."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        self.paths.append(scope["path"])
        if scope["path"] == "/api/last":
            assert _tenancy.host is not None
            calls = _tenancy.host.calls
            self.asked.set()
            deadline = time.monotonic() + SECONDS
            while len(calls) < 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            assert len(calls) == 2
            await asyncio.sleep(0)  # the next request has a task now, which has not run
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside another"])
def test_a_request_that_a_dying_server_was_not_given_goes_to_the_next(
    kind: str, alone: bool
) -> None:
    app, settings = GoesDown(), get_settings().model_copy(update={"client_max_retries": 0})

    def ask_async() -> int:
        async def main() -> int:
            async with PrefectClient(app, settings=settings) as client:
                ready.set()
                await asyncio.to_thread(app.asked.wait, SECONDS)
                return (await client.request("GET", "/next", timeout=SECONDS)).status_code

        return asyncio.run(main())

    def ask_sync() -> int:
        ready.set()
        app.asked.wait(SECONDS)
        return client.request("GET", "/next", timeout=SECONDS).status_code

    ready = threading.Event()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        client = stack.enter_context(SyncPrefectClient(app, settings=settings))
        if not alone:
            stack.enter_context(SyncPrefectClient(ScriptedApp()))
        following = pool.submit(ask_async if kind == "async" else ask_sync)
        assert ready.wait(SECONDS)
        assert client.request("GET", "/last", timeout=SECONDS).status_code == 200
        assert following.result(SECONDS / 2) == 200
    assert app.paths == ["/api/last", "/api/next"]
    assert app.messages.count("receive lifespan.startup") == 2


def test_a_retry_finds_the_server_that_was_started_anew() -> None:
    """Within one request: the app goes down in the middle of its first answer."""

    class Breaks(ScriptedApp):
        broken = False

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await super().__call__(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if not self.broken:
                self.broken = True
                for task in asyncio.all_tasks():
                    task.cancel()
                await asyncio.sleep(SECONDS)
            await send({"type": "http.response.body", "body": b"done"})

    waits: list[float] = []
    with SyncPrefectClient(Breaks(), httpx_settings={"sleep": waits.append}) as client:
        assert client.request("GET", "/anything", timeout=SECONDS).text == "done"
    assert len(waits) == 1


# What cells do while others ask.


class Echo(ScriptedApp):
    """An app that is up, and answers each request with its path."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})


@pytest.fixture
def hosted() -> Iterator[HostedApp]:
    one = HostedApp(Echo())
    one.wait_started()
    yield one
    one.close()
    assert one.wait_closed(SECONDS)


def hold_the_interpreter(seconds: float) -> None:
    """As an extension in C does that does not let other threads run."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


def block_the_loop(seconds: float) -> None:
    time.sleep(seconds)


def compute(seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        pass


def backtrack(seconds: float) -> None:
    """A regular expression that takes for ever, more or less, and holds the interpreter."""
    ends = time.monotonic() + seconds
    length = 18
    while time.monotonic() < ends:
        re.match(r"(a+)+$", "a" * length + "b")


BUSY: list[Callable[[float], None]] = [block_the_loop, compute, backtrack]
if sys.platform != "win32":
    BUSY.append(hold_the_interpreter)


@pytest.mark.parametrize(
    "busy",
    BUSY,
    ids=lambda busy: busy.__name__,
)
def test_a_busy_cell_holds_nobody_up_for_longer_than_it_must(
    hosted: HostedApp, busy: Callable[[float], None]
) -> None:
    """Threads ask while a cell is busy on its own loop; whatever it does, their answers come, and
    those of the cell's own requests, which it awaits afterwards."""
    transport = HostedTransport(lambda: hosted)
    go_on, answered = threading.Event(), threading.Event()
    seen: Counter[int] = Counter()
    errors: list[Exception] = []

    def ask() -> None:
        with httpx.Client(transport=transport, base_url="http://app", timeout=5) as client:
            while not go_on.is_set():
                try:
                    seen[client.get("/thread").status_code] += 1
                except Exception as exc:
                    errors.append(exc)
                answered.set()

    async def cell() -> list[str]:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://app", timeout=1
        ) as client:
            waiting = [asyncio.create_task(client.get(f"/{n}")) for n in range(20)]
            await asyncio.sleep(0)
            busy(1.5)  # longer than the time-out: an answer that is there is not late
            return [(await one).text for one in waiting]

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert answered.wait(SECONDS)
    before = seen[200]
    answers = asyncio.run(cell())
    between = seen[200] - before
    go_on.set()
    for thread in threads:
        thread.join(SECONDS)
    assert answers == [f"/{n}" for n in range(20)]
    assert errors == []
    assert set(seen) == {200}
    if busy is not hold_the_interpreter:
        assert between > 20


def test_five_thousand_requests_at_once(hosted: HostedApp) -> None:
    """From tasks, threads and tasks of threads, all under way together."""
    transport = HostedTransport(lambda: hosted)
    number = 5000

    async def many(start: int, stop: int) -> list[str]:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://app", timeout=60
        ) as client:
            answers = await asyncio.gather(*[client.get(f"/{n}") for n in range(start, stop)])
        return [answer.text for answer in answers]

    def plain(start: int, stop: int) -> list[str]:
        with httpx.Client(transport=transport, base_url="http://app", timeout=60) as client:
            return [client.get(f"/{n}").text for n in range(start, stop)]

    part = number // 20
    with ThreadPoolExecutor(12) as pool:
        futures = [
            pool.submit(plain, n * part, (n + 1) * part)
            if n < 8
            else pool.submit(lambda n=n: asyncio.run(many(n * part, (n + 1) * part)))
            for n in range(12)
        ]
        answers = asyncio.run(many(12 * part, number))
        for future in futures:
            answers += future.result()
    assert Counter(answers) == Counter(f"/{n}" for n in range(number))
    assert not hosted.host.calls


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_clock_that_jumps_ends_no_request(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a laptop's sleep, where the clock of the system has gone on: on Windows it does."""
    reached, go_on = threading.Event(), asyncio.Event()
    jump, real = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + jump[0])

    class Slow(Echo):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "lifespan":
                await asyncio.sleep(0.1)  # by now the caller has begun to wait
                reached.set()
                await go_on.wait()
            await super().__call__(scope, receive, send)

    slow = HostedApp(Slow())
    slow.wait_started()
    options: dict[str, Any] = {"transport": HostedTransport(lambda: slow), "timeout": 2}

    def plain() -> str:
        with httpx.Client(**options) as client:
            return client.get("http://app/slow").text

    async def awaited() -> str:
        async def look_at_the_clock() -> None:
            while True:
                await asyncio.sleep(0.01)

        looking = asyncio.create_task(look_at_the_clock())  # as a loop with more to do does
        async with httpx.AsyncClient(**options) as client:
            answer = await client.get("http://app/slow")
        looking.cancel()
        return answer.text

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(plain if kind == "sync" else lambda: asyncio.run(awaited()))
        assert reached.wait(SECONDS)
        jump[0] = 3 * 3600
        done, _ = wait([answer], 0.3)  # whoever believes the clock gives up by now
        slow.host.post(go_on.set)
        slow.close()
        assert slow.wait_closed(SECONDS)
        assert not done
        assert answer.result(SECONDS) == "/slow"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_clock_that_jumps_ends_no_start(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jump, real = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + jump[0])
    starting = threading.Event()
    go_on = asyncio.Event()

    class SlowToStart(Echo):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                starting.set()
                await go_on.wait()
            await super().__call__(scope, receive, send)

    app = EphemeralApp("slow", home=tmp_path, timeout=30, given=SlowToStart())
    hosted = HostedApp(app, start_timeout=31)
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(
            hosted.wait_started
            if kind == "sync"
            else lambda: asyncio.run(hosted.wait_started_async())
        )
        assert starting.wait(SECONDS)
        jump[0] = 3 * 3600
        hosted.host.post(lambda: None)  # the loop looks at the clock
        done, _ = wait([started], 1.5)  # whoever believes the clock gives up by now
        hosted.host.post(go_on.set)
        assert not done
        started.result(SECONDS)
    assert app.is_up
    hosted.close()
    assert hosted.wait_closed(SECONDS)


def test_what_dies_of_a_server_is_told_and_the_server_goes_on(tmp_path: Path) -> None:
    die = asyncio.Event()

    async def background() -> None:
        await die.wait()
        raise LookupError("the queue of sql://me:pw@host is gone")

    class WithABackground(Echo):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                self.background = asyncio.create_task(background(), name="the janitor")
            await super().__call__(scope, receive, send)

    app = EphemeralApp("mine", home=tmp_path, timeout=30, given=WithABackground())
    hosted = HostedApp(app)
    hosted.wait_started()
    assert app.errors == 0
    hosted.host.post(die.set)
    with httpx.Client(transport=HostedTransport(lambda: hosted)) as client:
        assert [client.get(f"http://app/{n}").text for n in range(3)] == ["/0", "/1", "/2"]
    assert app.errors == 1
    (line,) = host_log.lines(1)
    assert "A task that was started with" in line
    assert "has failed: the janitor" in line
    assert "LookupError: the queue of sql://***@host is gone" in line
    hosted.close()
    assert hosted.wait_closed(SECONDS)
    again = HostedApp(app)
    again.wait_started()
    assert app.errors == 0, "of the last start"
    again.close()
    assert again.wait_closed(SECONDS)
