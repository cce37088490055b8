"""Locks between processes, which the operating system gives back however a process ends."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from filelock import FileLock, Timeout

from orchnb.runtime.progress import progress_told_to, report_progress

logger = logging.getLogger(__name__)

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
async def locked(lock: FileLock, told: str = "") -> AsyncIterator[None]:
    """Hold a lock, once no other process does; ``told`` is for the log if that takes a while.

    A start that holds it sets the time of the lock's file whenever it makes progress. To a start that
    waits for it this is progress as well, so it waits for a slow holder, and not for one that hangs.
    """
    waits = False
    while not has_locked(lock):
        if told and not waits:
            logger.info(told)
        waits = True
        with suppress(OSError):
            report_progress(os.stat(lock.lock_file).st_mtime_ns)
        await anyio.sleep(LOOK_AGAIN)

    def tell_waiters() -> None:
        with suppress(OSError):
            os.utime(lock.lock_file)

    try:
        with progress_told_to(tell_waiters):
            yield
    finally:
        lock.release()
