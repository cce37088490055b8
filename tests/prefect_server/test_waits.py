"""A start that waits for another process says at once which one, and what to do about it.

The other process is a real one, which holds the real lock.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from orchnb import SyncPrefectClient, get_client, observe_startup
from orchnb.errors import ServerStartFailed
from orchnb.hosting.ephemeral import EphemeralApp, StartupEvent
from orchnb.runtime.file_locks import _holder_of, lock_at
from tests import servers

pytestmark = pytest.mark.filterwarnings("ignore:Type object:DeprecationWarning")  # SQLAlchemy's

STARTS = """
import sys, anyio
from pathlib import Path
from orchnb.runtime.file_locks import lock_at, locked
async def main():
    async with locked(lock_at(Path(sys.argv[1], ".orchnb-start.lock")), "starting"):
        print("held", flush=True)
        await anyio.sleep(60)
anyio.run(main)
"""

# As another version of orchnb, which writes no name.
LOCKS = """
import sys, time, filelock
lock = filelock.FileLock(sys.argv[1] + "/.orchnb-start.lock")
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""

WRITES = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1] + "/prefect.db", isolation_level=None)
database.execute("PRAGMA journal_mode = {mode}")
database.execute("BEGIN {kind}")
print("held", flush=True)
time.sleep(60)
"""


STARTING = ", which is starting a server on the same database"

HOLDERS = {
    "a start": (STARTS, "another program (process {pid})" + STARTING),
    "a start that gives no name": (LOCKS, "another process" + STARTING),
    "a transaction in a file": (
        WRITES.format(mode="DELETE", kind="EXCLUSIVE"),
        "another process{number} that writes to the database {database}",
    ),
    "a transaction with a write-ahead log": (
        WRITES.format(mode="WAL", kind="EXCLUSIVE"),
        "another process{number} that writes to the database {database}",
    ),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PREFECT_HOME with a database."""
    home = servers.prefect_home(tmp_path / "prefect-home")
    monkeypatch.setenv("PREFECT_HOME", str(home))
    return home


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """What is logged about starts. Not by caplog, whose handler the import of Prefect removes."""
    logged: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.append(record.getMessage())

    handler = Handler(logging.WARNING)
    log = logging.getLogger("orchnb.hosting.ephemeral")
    log.addHandler(handler)
    yield logged
    log.removeHandler(handler)


@contextmanager
def holder(code: str, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(home)],
        env=servers.clean_environment(home),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def expected(words: str, process: subprocess.Popen[str], home: Path) -> str:
    number = f" ({process.pid})" if sys.platform == "linux" else ""
    return words.format(pid=process.pid, number=number, database=home / "prefect.db")


def version() -> str:
    with get_client(sync_client=True) as client:
        return client.api_version()


def until(condition: Callable[[], object], start: Future[str], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert not start.done(), "the start did not wait"
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("kind", HOLDERS)
def test_it_is_told_at_once_and_ends_with_the_other_process(
    kind: str, home: Path, warnings: list[str]
) -> None:
    code, words = HOLDERS[kind]
    told: list[tuple[float, StartupEvent]] = []
    with (
        holder(code, home) as other,
        observe_startup(lambda event: told.append((time.monotonic(), event))),
        ThreadPoolExecutor(1) as pool,
    ):
        start = pool.submit(version)
        until(lambda: told and told[-1][1].kind == "waits", start)
        (began, _), (waits, event) = told[-2:]
        other.kill()  # the system gives its locks back
        killed = time.monotonic()
        assert start.result(60)
    assert event.waits_for == expected(words, other, home)
    assert event.phase == "migrate"
    assert waits - began < 1
    kinds = [(event.phase, event.kind, event.waits_for) for _, event in told]
    goes_on = kinds.index(("migrate", "waits", ""))
    assert told[goes_on][0] - killed < 1
    assert kinds[-1] == ("start", "ended", "")
    assert warnings == [f"The start of {event.title} is waiting for {event.waits_for}"]


def failure(home: Path) -> ServerStartFailed:
    """The error of a start that waits for a lock and is given up after a second of that."""
    app = EphemeralApp("prefect", home=home, timeout=60)

    def is_told(event: StartupEvent) -> None:
        if (event.phase, event.kind) == ("create", "ended"):
            app.timeout = 1  # of the next phase, so that a busy machine has time for the others

    with (
        observe_startup(is_told),
        pytest.raises(ServerStartFailed) as caught,
        SyncPrefectClient(app) as client,
    ):
        client.api_version()
    return caught.value


@pytest.mark.parametrize("kind", HOLDERS)
def test_the_error_names_it(kind: str, home: Path) -> None:
    code, words = HOLDERS[kind]
    with holder(code, home) as other:
        error = failure(home)
        assert error.message.endswith(
            f"no progress for 1 s (phase: migrate); it was waiting for {expected(words, other, home)}"
        )
    assert "end it" in error.hint
    assert "--fresh" in error.hint
    assert version()


def test_other_code_of_this_process_that_writes_is_not_called_another_process(home: Path) -> None:
    with closing(sqlite3.connect(home / "prefect.db", isolation_level=None)) as own:
        own.execute("BEGIN IMMEDIATE")
        error = failure(home)
    who = "other code of this process" if sys.platform == "linux" else "another process"
    assert f"it was waiting for {who} that writes to the database" in error.message


HERE = socket.gethostname()
WRITTEN = {
    "a notebook": ({"pid": 1, "host": HERE, "notebook": True}, "another notebook (process 1)"),
    "this process": (
        {"pid": os.getpid(), "host": HERE, "notebook": True},
        "an earlier attempt in this process",
    ),
    "elsewhere": (
        {"pid": os.getpid(), "host": "node-7", "notebook": False},
        f"another program (process {os.getpid()} on node-7)",
    ),
    "a strange name": (
        {"pid": 1, "host": "<b>x</b>\n", "notebook": 0},
        "another program (process 1)",
    ),
    "no number": ({"pid": "x", "host": HERE, "notebook": True}, "another process"),
    "no fields": ({}, "another process"),
    "no object": ([], "another process"),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_what_a_holder_has_written(what: str, tmp_path: Path) -> None:
    written, words = WRITTEN[what]
    (tmp_path / "start.holder").write_text(json.dumps(written))
    assert _holder_of(lock_at(tmp_path / "start.lock")) == words


def test_a_holder_that_has_written_nothing(tmp_path: Path) -> None:
    lock = lock_at(tmp_path / "start.lock")
    assert _holder_of(lock) == "another process"
    (tmp_path / "start.holder").write_text('{"pid"')
    assert _holder_of(lock) == "another process"
