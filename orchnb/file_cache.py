"""Files that can be had anew, kept in the person's cache folder so that they need not be.

What is found there is data: it can be broken, but it is never run.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_UNFINISHED = ".part"


def user_cache_folder(kind: str) -> Path:
    """Where this platform wants such files of a person's."""
    from platformdirs import user_cache_path

    return user_cache_path("orchnb", appauthor=False) / kind


class FileCache:
    """A folder of files, each under a key; the longest unused go when there are too many.

    A folder that cannot be used is no error: then nothing is found in it.

    Args:
        folder: gives the folder's path; it need not be there.
        suffix: how the names of its files end, such as ``.json``.
        largest: how many bytes a file has at most.
        most_files: how many files it holds at most.
        most_bytes: how large they are together at most; None is three times the largest.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        *,
        suffix: str,
        largest: int,
        most_files: int = 32,
        most_bytes: int | None = None,
    ) -> None:
        self._folder = folder
        self._suffix = suffix
        self._largest = largest
        self._most_files = most_files
        self._most_bytes = 3 * largest if most_bytes is None else most_bytes

    def read(self, key: str) -> bytes | None:
        """The content, if it is there, was written by nobody else, and is not too large."""
        try:
            path = self._folder() / f"{key}{self._suffix}"
            # A pipe or a device would keep us waiting.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
            with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
                if not _is_trusted(os.fstat(file.fileno()), self._largest):
                    return None
                content = file.read(self._largest)
            os.utime(path)  # it was used
        except OSError:
            return None
        return content

    def write(self, key: str, content: bytes) -> None:
        """Keep a content: whole or not at all, whoever else does so at the same time."""
        with suppress(OSError):
            folder = self._folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(_UNFINISHED, dir=folder)
            try:
                with open(handle, "wb") as file:
                    file.write(content)
                os.replace(name, folder / f"{key}{self._suffix}")
            except BaseException:
                with suppress(OSError):
                    os.unlink(name)
                raise
            self._shrink(folder)

    def _shrink(self, folder: Path) -> None:
        files = sorted(self._files(folder), key=lambda each: each[1].st_mtime, reverse=True)
        size = 0
        for count, (path, status) in enumerate(files, 1):
            size += status.st_size
            if count > self._most_files or size > self._most_bytes:
                with suppress(OSError):
                    path.unlink()

    def _files(self, folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
        for path in folder.iterdir():
            if path.suffix in (self._suffix, _UNFINISHED):
                with suppress(OSError):  # another process was first
                    yield path, path.lstat()


def _is_trusted(status: os.stat_result, largest: int) -> bool:
    """Whether it is a file of moderate size that nobody but its owner, this user, may have written."""
    if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
        return False
    if not hasattr(os, "geteuid"):
        return True  # the folder is the user's own on Windows
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
