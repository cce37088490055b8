"""Temporary folders for servers with a separate database, removed even if the process crashes.

A folder is in use as long as its process holds the lock in it. The operating system releases the lock
when the process ends for any reason. Each start of a server removes the folders without a holder.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchnb.runtime.file_locks import has_locked, lock_at

_PREFIX = "orchnb-fresh-"
_LOCK_NAME = "in-use.lock"


class FreshFolder:
    """An empty folder that only the user may access (mode 700). ``path`` is its path."""

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        clear_stale(parent)
        while True:
            self.path: Path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = lock_at(self.path / _LOCK_NAME)
            if has_locked(self._lock):
                break  # otherwise another process considers it stale, and removes it
        self._process: int | None = os.getpid()
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove the folder and its content. A second call, or a call in a fork, does nothing."""
        if self._process != os.getpid():
            return
        self._process = None
        atexit.unregister(self.remove)
        self._lock.release()  # first, because Windows does not delete open files
        _remove(self.path)


def clear_stale(parent: Path) -> None:
    """Remove the folders there that this user's ended processes have left behind."""
    for path in _folders(parent):
        lock = lock_at(path / _LOCK_NAME)
        if has_locked(lock) and lock.is_locked:
            lock.release()
            _remove(path)


def _folders(parent: Path) -> Iterator[Path]:
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it no longer exists, or is not accessible
            mine = not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
            # One without a lock is just being created.
            if mine and not path.is_symlink() and (path / _LOCK_NAME).is_file():
                yield path


def _remove(path: Path) -> None:
    # The next process removes files that cannot be removed now, such as one that is still open on
    # Windows: so the lock goes last. A database that is being closed may remove its files at the same
    # time.
    for entry in _entries_beside_the_lock(path):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()
    if not _entries_beside_the_lock(path):
        shutil.rmtree(path, ignore_errors=True)


def _entries_beside_the_lock(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if entry.name != _LOCK_NAME]
    except OSError:  # another process has removed it
        return []
