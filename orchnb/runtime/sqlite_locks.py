"""Other processes' locks on an SQLite database: wait for them, and say which process it is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import anyio
import anyio.to_thread

from orchnb.runtime.progress import report_wait

_LOOK_EVERY = 0.1
"""Seconds between two looks."""

_REPORTED_FROM = 4
"""How many looks in a row must find a lock before it is reported. Short transactions are not reported."""

_PROC = Path("/proc")


async def until_writable(database: Path) -> None:
    """Wait until SQLite lets this process write to a database file; report the wait.

    Prefect gives up after some seconds, with an error that does not say what to do. A file that is not
    there, or cannot be opened, is left to Prefect.
    """
    looks = 0
    while await anyio.to_thread.run_sync(_is_locked, database, abandon_on_cancel=True):
        looks += 1
        if looks >= _REPORTED_FROM:
            report_wait(await anyio.to_thread.run_sync(writer_of, database))
        await anyio.sleep(_LOOK_EVERY)
    report_wait("")


def writer_of(database: Path) -> str:
    """Who writes to an SQLite database, in words, as far as the system tells."""
    pids = set(_writers(database))
    if os.getpid() in pids:
        who = "other code of this process"
    elif len(pids) == 1:
        who = f"another process ({pids.pop()})"
    else:
        who = "another process"
    return f"{who} that writes to the database {database}"


def is_about_a_lock(text: str) -> bool:
    """Return whether an error's text is what SQLite says when another connection holds a lock."""
    return "database is locked" in text or "database table is locked" in text


def _is_locked(database: Path) -> bool:
    if not database.exists():
        return False
    try:
        # A mode that makes no file, in case somebody removes it at this moment.
        address = f"{database.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=0, isolation_level=None)) as mine:
            mine.execute("BEGIN IMMEDIATE")
            mine.execute("ROLLBACK")
    except sqlite3.Error as exc:
        return is_about_a_lock(str(exc))
    return False


def _writers(database: Path) -> Iterator[int]:
    """The processes with a write lock on a database; none where the system does not tell (not Linux).

    SQLite locks parts of the file itself or, with a write-ahead log, of the file ``-shm``.
    """
    files: dict[str, str] = {}
    for name in (str(database.absolute()), f"{database.absolute()}-shm"):
        with suppress(OSError):
            files[str(os.stat(name).st_ino)] = os.path.realpath(name)
    try:
        lines = (_PROC / "locks").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        # 1: POSIX  ADVISORY  WRITE 4711 fe:01:305 120 120
        fields = line.split()
        if len(fields) != 8 or fields[1] != "POSIX" or fields[3] != "WRITE":
            continue
        file = files.get(fields[5].rpartition(":")[2])
        # Files of different devices can have the same number.
        if file is not None and _has_open(fields[4], file):
            yield int(fields[4])


def _has_open(pid: str, file: str) -> bool:
    with suppress(OSError):  # it has ended, or it is another user's
        for descriptor in (_PROC / pid / "fd").iterdir():
            with suppress(OSError):
                if os.readlink(descriptor) == file:
                    return True
    return False
