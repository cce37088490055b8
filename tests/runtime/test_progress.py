"""What counts as progress of a start, and for how long a start without it is waited for."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from orchnb import PrefectClient, ServerStartFailed, SyncPrefectClient
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.host import HostedApp, host_log
from orchnb.runtime.file_locks import lock_at, locked
from orchnb.runtime.progress import (
    NoProgress,
    Patience,
    Progress,
    limited_without_progress,
    report_progress,
)
from tests.hosting.apps import jumping_backend

log = logging.getLogger("the app")


def in_a_start(main: Callable[[Progress], Awaitable[Any]]) -> Any:
    """Run a function on a clock that jumps, as code of a start."""
    progress = Progress()

    async def start() -> Any:
        progress.begin()
        return await main(progress)

    backend, options = jumping_backend("asyncio")
    return anyio.run(start, backend=backend, backend_options=options)


STEPS: dict[str, tuple[Callable[[int], object], bool]] = {
    "nothing": (lambda _: None, False),
    "a new step": (lambda n: report_progress(("step", n)), True),
    "the same step again": (lambda _: report_progress("step"), False),
    "a new line": (lambda n: log_hosted(f"row {n}"), True),
    "the same line again": (lambda _: log_hosted("waiting for the database"), False),
    "a module": (lambda n: sys.modules.setdefault(f"imported_{n}", ModuleType("x")), True),
    "a module that comes and goes": (lambda n: come_and_go(n), False),
}


def log_hosted(line: str) -> None:
    host_log.add(logging.LogRecord("app", logging.INFO, "", 0, line, None, None))


def come_and_go(n: int) -> None:
    if n % 2:
        sys.modules["comes_and_goes"] = ModuleType("comes_and_goes")
    else:
        sys.modules.pop("comes_and_goes", None)


@pytest.fixture(autouse=True)
def _modules_as_before() -> Iterator[None]:
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        if name.startswith(("imported_", "comes_")):
            del sys.modules[name]


@pytest.mark.parametrize("what", STEPS)
def test_a_start_is_given_up_after_its_limit_without_progress(what: str) -> None:
    """It does the same thing every 8 s, ten times; its limit is 10 s."""
    step, is_progress = STEPS[what]

    async def main(progress: Progress) -> float:
        loop = asyncio.get_running_loop()
        step(0)
        came = loop.time()
        with suppress(NoProgress), limited_without_progress(progress, 10):
            for n in range(1, 11):
                await asyncio.sleep(8)
                step(n)
            await asyncio.sleep(9)
        return loop.time() - came

    took = in_a_start(main)
    if is_progress:
        assert took == pytest.approx(89)
    else:
        assert 10 <= took <= 21  # what came first may have been the first of its kind


def test_a_limit_shorter_than_the_time_between_two_looks_is_kept() -> None:
    async def main(progress: Progress) -> float:
        loop = asyncio.get_running_loop()
        with (
            pytest.raises(NoProgress, match=r"^no progress for 0\.25 s$"),
            limited_without_progress(progress, 0.25),
        ):
            await asyncio.sleep(60)
        return loop.time()

    assert in_a_start(main) == pytest.approx(0.25)


def test_code_of_another_start_and_of_one_that_has_ended_is_not_heard() -> None:
    mine, other = Progress(), Progress()

    async def start(progress: Progress, line: str) -> None:
        progress.begin()
        log_hosted(line)

    async def main() -> tuple[object, object, object]:
        await asyncio.create_task(start(mine, "mine"))
        before = mine.mark()
        await asyncio.create_task(start(other, "another's"))
        between = mine.mark()
        mine.end()
        ended = mine.mark()
        mine.report("too late")
        assert mine.mark() == ended
        return before, between, ended

    before, between, _ = asyncio.run(main())
    assert before == between


def test_patience_is_whole_again_after_progress() -> None:
    mark = 0
    patience = Patience(10, lambda: mark)
    assert not patience.spend(6)
    assert patience.left == 4
    mark = 1
    assert patience.spend(6)
    assert patience.left == 10
    assert not patience.spend(11)
    assert patience.left < 0


# With apps on the host


class Steps:
    """An app whose start takes as many steps as it is told; ``step`` does one."""

    def __init__(self, count: int, step: Callable[[int], Awaitable[object]]) -> None:
        self.count = count
        self.step = step

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b'"1.2.3"'})
            return
        await receive()
        for n in range(self.count):
            await self.step(n)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


def plain(app: EphemeralApp) -> str:
    with SyncPrefectClient(app) as client:
        return client.api_version()


def awaited(app: EphemeralApp) -> str:
    async def ask() -> str:
        async with PrefectClient(app) as client:
            return await client.api_version()

    return asyncio.run(ask())


async def log_and_wait(n: int) -> None:
    log.warning("row %d", n)
    await asyncio.sleep(0.3)


async def print_and_wait(n: int) -> None:
    log_hosted(f"row {n}")
    await asyncio.to_thread(threading.Event().wait, 0.3)


async def log_and_block(n: int) -> None:
    log.warning("row %d", n)
    threading.Event().wait(0.3)


async def repeat(n: int) -> None:
    log.warning("waiting for the database")
    await asyncio.sleep(0.3)


@pytest.mark.parametrize("ask", [plain, awaited])
@pytest.mark.parametrize("step", [log_and_wait, print_and_wait, log_and_block])
def test_a_start_that_goes_on_is_not_given_up(
    step: Callable[[int], Awaitable[object]],
    ask: Callable[[EphemeralApp], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where it blocks the loop of the host, so that only those who wait have a clock."""
    monkeypatch.setattr("orchnb.hosting.ephemeral._GRACE", 0.0)
    app = EphemeralApp("app", home=Path(), timeout=1.5, given=Steps(8, step))
    assert ask(app) == "1.2.3"
    assert app.phases["start"] > app.timeout


@pytest.mark.parametrize("ask", [plain, awaited])
def test_a_start_that_only_repeats_itself_is_given_up(ask: Callable[[EphemeralApp], str]) -> None:
    app = EphemeralApp("app", home=Path(), timeout=1.0, given=Steps(200, repeat))
    with pytest.raises(ServerStartFailed) as caught:
        ask(app)
    assert caught.value.message.endswith("did not start: no progress for 1 s (phase: start)")
    assert caught.value.phase == "start"
    assert "ORCHNB_EPHEMERAL_STARTUP_TIMEOUT" in caught.value.hint


def test_a_long_import_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six modules, one after the other, of which each takes a while."""
    for n in range(6):
        after = f"import slow_{n + 1}\n" if n < 5 else ""
        (tmp_path / f"slow_{n}.py").write_text(f"import time\ntime.sleep(0.4)\n{after}")
    (tmp_path / "slow_app.py").write_text("import slow_0\nfrom tests.api.fakes import tiny_api\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    app = EphemeralApp("slow_app:tiny_api", home=tmp_path, timeout=1.2)
    try:
        assert plain(app) == "1.2.3"
        assert app.phases["import"] > app.timeout
    finally:
        for name in [name for name in sys.modules if name.startswith("slow_")]:
            del sys.modules[name]


def test_an_import_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hanging.py").write_text("import threading\nthreading.Event().wait(4)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    app = EphemeralApp("hanging:app", home=tmp_path, timeout=0.5)
    with pytest.raises(ServerStartFailed) as caught:
        plain(app)
    assert caught.value.message.endswith("no progress for 0.5 s (phase: import)")
    sys.modules.pop("hanging", None)


def test_an_apps_own_time_out_is_not_taken_for_the_limit() -> None:
    async def fail(n: int) -> None:
        raise TimeoutError("the database does not answer")

    app = EphemeralApp("app", home=Path(), timeout=30, given=Steps(1, fail))
    with pytest.raises(ServerStartFailed, match=r"\(phase: start\): the database does not answer"):
        plain(app)


def test_who_gave_up_on_a_blocked_start_waits_again_once_it_goes_on() -> None:
    goes_on, ends = threading.Event(), threading.Event()
    mark = 0

    async def block(n: int) -> None:
        goes_on.wait(20)
        await asyncio.to_thread(ends.wait, 20)

    hosted = HostedApp(Steps(1, block), start_timeout=0.3, progress=lambda: mark)
    for _ in range(2):
        with pytest.raises(ServerStartFailed, match=r"no progress for 0.3 s \(phase: start\)"):
            hosted.wait_started()
    mark = 1
    goes_on.set()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hosted.wait_started)
        ends.set()
        waiting.result(20)
    hosted.close()
    assert hosted.wait_closed()


# Between processes


def test_a_holder_that_makes_progress_is_progress_of_those_who_wait_for_it(tmp_path: Path) -> None:
    path = tmp_path / "start.lock"
    lock, other = lock_at(path), lock_at(path)
    lock.acquire()

    async def main(progress: Progress) -> tuple[float, float]:
        loop = asyncio.get_running_loop()

        async def wait() -> None:
            async with locked(other):
                pass

        touched = 0

        def touch() -> None:
            nonlocal touched
            touched += 1
            os.utime(path, (touched, touched))
            if touched < 5:
                loop.call_later(8, touch)

        touch()
        with pytest.raises(NoProgress), limited_without_progress(progress, 10):
            await wait()
        return loop.time(), touched

    took, touched = in_a_start(main)
    assert touched == 5
    assert 42 <= took <= 44
    lock.release()


def test_a_holder_tells_of_its_progress(tmp_path: Path) -> None:
    path = tmp_path / "start.lock"

    async def main(progress: Progress) -> list[float]:
        times = []
        with limited_without_progress(progress, 10):
            async with locked(lock_at(path)):
                for n in range(3):
                    os.utime(path, (0, 0))
                    report_progress(n // 2)
                    await asyncio.sleep(2.5)
                    times.append(path.stat().st_mtime)
        return times

    first, second, third = in_a_start(main)
    assert first > 0
    assert second == 0, "it made none"
    assert third > 0
