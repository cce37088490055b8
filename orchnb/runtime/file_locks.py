"""Locks between processes, which the operating system gives back however a process ends."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from filelock import FileLock, Timeout

from orchnb.runtime.loops import notebook_loop
from orchnb.runtime.progress import progress_told_to, report_progress, report_wait

LOOK_AGAIN = 0.02
"""Seconds between two looks at whether somebody else is done."""


def lock_at(path: Path) -> FileLock:
    """The lock of that file, for all threads of this process together."""
    return FileLock(path, thread_local=False)


def has_locked(lock: FileLock) -> bool:
    """Hold it, once more if it is held here; False if another process holds it.

    Where the file system knows no locks, nobody holds any: then it is True, and ``lock.is_locked`` False.
    """
    with suppress(OSError, NotImplementedError):
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
    return True


@asynccontextmanager
async def locked(lock: FileLock, purpose: str = "") -> AsyncIterator[None]:
    """Hold a lock, once no other process does.

    ``purpose`` says what the lock is held for, as in "which is starting a server". With it, the holder's
    name is kept in a file next to the lock, and a start that waits reports the name.

    A start that holds it sets the time of the lock's file whenever it makes progress. To a start that
    waits for it this is progress as well, so it waits for a slow holder, and not for one that hangs.
    """
    looks = 0
    while not has_locked(lock):
        looks += 1
        if purpose and looks > 1:  # at the first look the holder may not have written its name yet
            report_wait(f"{_holder_of(lock)}, which is {purpose}")
        with suppress(OSError):
            report_progress(os.stat(lock.lock_file).st_mtime_ns)
        await anyio.sleep(LOOK_AGAIN)
    if purpose:
        report_wait("")
        _write_holder(lock)

    def tell_waiters() -> None:
        with suppress(OSError):
            os.utime(lock.lock_file)

    try:
        with progress_told_to(tell_waiters):
            yield
        if purpose:  # after an error, a thread of this process may still hold the lock
            with suppress(OSError):
                _holder_file(lock).unlink()
    finally:
        lock.release()


# Not in the lock's own file, which other processes cannot read on Windows, and truncate with old
# versions of filelock.
def _holder_file(lock: FileLock) -> Path:
    return Path(lock.lock_file).with_suffix(".holder")


def _write_holder(lock: FileLock) -> None:
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "notebook": notebook_loop() is not None,
    }
    with suppress(OSError):
        _holder_file(lock).write_text(json.dumps(holder), encoding="utf-8")


def _holder_of(lock: FileLock) -> str:
    """Who holds a lock, in words."""
    try:
        holder = json.loads(_holder_file(lock).read_text(encoding="utf-8"))
        pid, host, is_notebook = int(holder["pid"]), str(holder["host"]), holder["notebook"]
    except (OSError, ValueError, KeyError, TypeError):  # another version's, or half written
        return "another process"
    elsewhere = host != socket.gethostname()
    if pid == os.getpid() and not elsewhere:
        return "an earlier attempt in this process"
    where = f" on {host}" if elsewhere and re.fullmatch(r"[\w.-]{1,64}", host) else ""
    return f"another {'notebook' if is_notebook is True else 'program'} (process {pid}{where})"
