"""The start-up and shutdown of the server in this process, with faults at random moments.

Every phase fails, hangs, blocks or is given up by whoever waits for it, in any order, while others come
and go. The next attempt works, and nothing is left. ``ORCHNB_TEST_SEED`` repeats a failure;
``ORCHNB_TEST_STARTS`` asks for more starts of Prefect's own server, each of which takes seconds.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import random
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from orchnb import OrchnbError, PrefectClient, SyncPrefectClient
from orchnb.hosting import host, lifespan
from orchnb.hosting.ephemeral import EphemeralApp
from tests import servers

logger = logging.getLogger(__name__)

SEED = int(os.environ.get("ORCHNB_TEST_SEED", time.time_ns() % 1_000_000))

TIMES = 100
STARTS = int(os.environ.get("ORCHNB_TEST_STARTS", "6"))
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


def plain(app: EphemeralApp, later: Callable[[], float]) -> None:
    with SyncPrefectClient(app) as client:
        client.api_version()


def awaited(app: EphemeralApp, later: Callable[[], float]) -> None:
    async def ask() -> None:
        async with PrefectClient(app) as client:
            await client.api_version()

    asyncio.run(ask())


def given_up(app: EphemeralApp, later: Callable[[], float]) -> None:
    """Whoever waits is stopped after a while, in the middle of whatever there is then."""

    async def ask() -> None:
        with anyio.move_on_after(later()):
            async with PrefectClient(app) as client:
                await client.api_version()
                await anyio.sleep(1)

    asyncio.run(ask())


def let_go(app: EphemeralApp, later: Callable[[], float]) -> None:
    """Opened without waiting, and closed some time later, as when a notebook is done with it."""
    client = SyncPrefectClient(app)
    client.open()
    time.sleep(later())
    client.close()


WAYS: list[Callable[[EphemeralApp, Callable[[], float]], None]] = [plain, awaited, given_up, let_go]


def at_once() -> float:
    return 0


def failures_of(
    ways: list[Any], app: EphemeralApp, later: Callable[[], float], patience: float
) -> list[BaseException]:
    """What those raise that use an app in these ways at the same time, each in a thread, which take no
    more than ``patience`` seconds."""
    failures: list[BaseException] = []

    def run(way: Any) -> None:
        try:
            way(app, later)
        except BaseException as exc:  # an app that exits is to end nobody's thread
            failures.append(exc)

    threads = [threading.Thread(target=run, args=(way,)) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(patience)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
    return failures


@pytest.mark.timeout(180)
def test_after_any_fault_the_next_start_works_and_nothing_is_left(
    switches: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger=__name__)
    logger.info("ORCHNB_TEST_SEED=%d", SEED)
    chance = random.Random(SEED)

    def later() -> float:
        return chance.uniform(0, 0.2)

    plain(EphemeralApp("faulty:make", home=tmp_path, timeout=10), later)  # makes what stays
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
        for failure in failures_of(ways, app, later, patience=20):
            assert isinstance(failure, OrchnbError), repr(failure)
            assert str(failure)
            seen[getattr(failure, "phase", "")] += 1
        switches.phase = ""
        app.timeout = 10
        plain(app, later)
        assert not app.is_up
    assert not until_quiet(before)
    assert not switches.lock.locked()
    assert not list(switches.folder.iterdir())
    assert {"import", "create", "start"} <= set(seen)  # there were faults
    assert seen.total() > TIMES / 10, seen


def locked(app: EphemeralApp, later: Callable[[], float]) -> None:
    """Somebody else keeps everybody from the database for a while."""
    database = app.home / "prefect.db"
    if database.exists():
        with closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as others:
            others.execute("BEGIN EXCLUSIVE")
            time.sleep(later())


@pytest.mark.filterwarnings("ignore:Type object:DeprecationWarning")  # SQLAlchemy's
@pytest.mark.timeout(max(180, 30 * STARTS))
def test_prefects_own_server_starts_after_having_been_given_up_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a database that is there, on a new one that is copied, and on one that is being migrated."""
    caplog.set_level(logging.INFO, logger=__name__)
    logger.info("ORCHNB_TEST_SEED=%d", SEED)
    chance = random.Random(SEED)
    there = servers.prefect_home(tmp_path / "there")
    app = EphemeralApp("prefect", home=there, timeout=60)
    plain(app, at_once)  # imports it
    (tmp_path / "first").mkdir()
    plain(EphemeralApp("prefect", home=tmp_path / "first", timeout=60), at_once)  # to copy from
    before = left()
    start = sum(app.phases.values()) - app.phases["import"]
    for number in range(STARTS):
        kind = ["there", "copied", "there", "migrated", "there", "copied"][number % 6]
        longest = 1.5 * start
        home = there
        with monkeypatch.context() as here:
            if kind != "there":
                home = tmp_path / f"home-{number}"
                home.mkdir()
            if kind == "migrated":
                longest = 8 * start
                here.setenv("XDG_CACHE_HOME", str(home / "no-empty-database-there"))
            ways = [chance.choice([given_up, let_go]), chance.choice([given_up, let_go, locked])]
            logger.info("%d: %s, for %s", number, kind, ", ".join(way.__name__ for way in ways))
            app = EphemeralApp("prefect", home=home, timeout=60)
            failures = failures_of(
                ways, app, lambda most=longest: chance.uniform(0, most), patience=60
            )
        assert not failures
        plain(app, at_once)
        assert not app.is_up
    assert not until_quiet(before)
