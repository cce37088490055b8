"""The start-up and shutdown of the server in this process, with faults at random moments.

Every phase fails, hangs, blocks or is given up by whoever waits for it, in any order, while others come
and go. The next attempt works, and nothing is left. ``ORCHNB_TEST_SEED`` repeats a failure.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from orchnb import OrchnbError, PrefectClient, SyncPrefectClient
from orchnb.runtime import host, lifespan
from orchnb.runtime.ephemeral import EphemeralApp

logger = logging.getLogger(__name__)

SEED = int(os.environ.get("ORCHNB_TEST_SEED", time.time_ns() % 1_000_000))

TIMES = 100
START_TIMEOUT = 0.1
"""Seconds that a start may take; half of the faults last longer."""

FAULTY = '''
"""An app with switches: what each phase is to do is in ``fault``."""

import anyio, os, socket, sys, tempfile, threading, time
import switches

switches.act("import")

class App:
    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b'"1.2.3"'})
            return
        await receive()
        # What a server holds while it is up, and gives back however it ends.
        with (
            tempfile.TemporaryDirectory(prefix="faulty-", dir=switches.folder),
            socket.create_server(("127.0.0.1", 0)),
            switches.lock,
        ):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                await switches.act_async("start", send)
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await switches.act_async("shutdown", send)
                tasks.cancel_scope.cancel()
        await send({"type": "lifespan.shutdown.complete"})

def make():
    switches.act("create")
    return App()
'''

SWITCHES = '''
"""Which fault comes in which phase; a module of its own, as the app is imported again and again."""

import sys, threading, time
import anyio

folder = None
lock = threading.Lock()
phase = fault = ""
reached = threading.Event()

def act(here):
    if here != phase:
        return
    reached.set()
    if fault == "raises":
        raise RuntimeError("as it was told")
    if fault == "exits":
        sys.exit(3)
    if fault in ("hangs", "blocks"):
        time.sleep(0.2)

async def act_async(here, send):
    if here != phase:
        return
    reached.set()
    if fault == "raises":
        raise RuntimeError("as it was told")
    if fault == "exits":
        sys.exit(3)
    if fault == "says that it failed":
        await send({"type": f"lifespan.{here}.failed".replace("start.", "startup."), "message": "told"})
        raise RuntimeError("and raises, as frameworks do")
    if fault == "hangs":
        await anyio.sleep(0.2)
    if fault == "blocks":
        time.sleep(0.2)
'''

PHASES = ["import", "create", "start", "shutdown"]
FAULTS = ["raises", "exits", "says that it failed", "hangs", "blocks", "none"]


@pytest.fixture
def switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that has the switches of the app ``faulty:make``."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "switches.py").write_text(SWITCHES)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("switches")
    module.folder = tmp_path / "folders"
    module.folder.mkdir()
    yield module
    for name in ("faulty", "switches"):
        sys.modules.pop(name, None)


def left() -> Counter[str]:
    """Threads, files and what orchnb itself keeps, once it is quiet."""
    gc.collect()
    found = Counter(f"thread {thread.name}" for thread in threading.enumerate())
    if os.path.isdir("/proc/self/fd"):
        found["files"] = len(os.listdir("/proc/self/fd"))
    found["leases"] = host._tenancy.leases
    found["apps"] = len(host._tenancy.apps)
    found["lifespans"] = len(lifespan._lifespans)
    return found


def until_quiet(before: Counter[str]) -> Counter[str]:
    """What there is more of than before, once that is nothing or some seconds are over."""
    deadline = time.monotonic() + 8
    while more := left() - before:
        if time.monotonic() > deadline:
            return more
        time.sleep(0.01)
    return more


def plain(app: EphemeralApp, chance: random.Random) -> None:
    with SyncPrefectClient(app) as client:
        client.api_version()


def awaited(app: EphemeralApp, chance: random.Random) -> None:
    async def ask() -> None:
        async with PrefectClient(app) as client:
            await client.api_version()

    asyncio.run(ask())


def given_up(app: EphemeralApp, chance: random.Random) -> None:
    """Whoever waits is stopped after a while, in the middle of whatever there is then."""

    async def ask() -> None:
        with anyio.move_on_after(chance.uniform(0, 0.2)):
            async with PrefectClient(app) as client:
                await client.api_version()
                await anyio.sleep(1)

    asyncio.run(ask())


def let_go(app: EphemeralApp, chance: random.Random) -> None:
    """Opened without waiting, and closed some time later, as when a notebook is done with it."""
    client = SyncPrefectClient(app)
    client.open()
    time.sleep(chance.uniform(0, 0.2))
    client.close()


WAYS: list[Callable[[EphemeralApp, random.Random], None]] = [plain, awaited, given_up, let_go]


@pytest.mark.timeout(180)
def test_after_any_fault_the_next_start_works_and_nothing_is_left(
    switches: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=__name__)
    logger.info("ORCHNB_TEST_SEED=%d", SEED)
    chance = random.Random(SEED)
    plain(EphemeralApp("faulty:make", home=tmp_path, timeout=10), chance)  # makes what stays
    before = left()
    seen: Counter[str] = Counter()
    for number in range(TIMES):
        sys.modules.pop("faulty", None)
        switches.phase, switches.fault = chance.choice(PHASES), chance.choice(FAULTS)
        ways = chance.choices(WAYS, k=chance.choice([1, 1, 2, 3]))
        logger.info(
            "%d: %s %s, for %s",
            number,
            switches.phase,
            switches.fault,
            ", ".join(way.__name__ for way in ways),
        )
        app = EphemeralApp("faulty:make", home=tmp_path, timeout=START_TIMEOUT)
        failures: list[BaseException] = []

        def run(way: Any, app: EphemeralApp = app, failures: Any = failures) -> None:
            try:
                way(app, chance)
            except BaseException as exc:
                failures.append(exc)

        threads = [threading.Thread(target=run, args=(way,)) for way in ways]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
        for failure in failures:
            assert isinstance(failure, OrchnbError), repr(failure)
            assert str(failure)
            seen[getattr(failure, "phase", "")] += 1
        switches.phase = ""
        app.timeout = 10
        plain(app, chance)
        assert not app.is_up
    assert not until_quiet(before)
    assert not switches.lock.locked()
    assert not list(switches.folder.iterdir())
    assert {"import", "create", "start"} <= set(seen)  # there were faults
    assert seen.total() > TIMES / 10, seen
