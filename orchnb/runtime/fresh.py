"""Folders for servers on a database of their own, which are gone with the process, also if it crashes.

A folder is in use for as long as its process holds the lock in it, which the operating system gives
back when a process ends, however it ends. Whoever starts a server clears away those that nobody
holds.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from orchnb.runtime.locks import has_locked, lock_at

_PREFIX = "orchnb-fresh-"
_LOCK_NAME = "in-use.lock"


class FreshFolder:
    """An empty folder, for the person alone (mode 700). ``path`` is where it is."""

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        clear_stale(parent)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = lock_at(self.path / _LOCK_NAME)
            if has_locked(self._lock):
                break  # else somebody took it for a stale one, and clears it away
        self._process: int | None = os.getpid()
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove it with all that is in it. A second time, and in a fork, does nothing."""
        if self._process != os.getpid():
            return
        self._process = None
        atexit.unregister(self.remove)
        self._lock.release()  # before, as Windows keeps what is open
        _remove(self.path)


def clear_stale(parent: Path) -> None:
    """Remove the folders there that ended processes of this person have left behind."""
    for path in _folders(parent):
        lock = lock_at(path / _LOCK_NAME)
        if has_locked(lock) and lock.is_locked:
            lock.release()
            _remove(path)


def _folders(parent: Path) -> Iterator[Path]:
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is gone by now, or nobody else may look into it
            mine = not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
            # One without a lock is being made right now.
            if mine and not path.is_symlink() and (path / _LOCK_NAME).is_file():
                yield path


def _remove(path: Path) -> None:
    # What cannot be removed now, such as a file that something on Windows still reads, is cleared
    # away by the next to come: the lock goes last.
    # A database that is being closed takes files of its own away meanwhile.
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
    except OSError:  # another process clears it away as well, and was faster
        return []
