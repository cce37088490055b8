"""Locks between processes, which the operating system gives back however a process ends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


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
