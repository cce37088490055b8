"""A cache, in the user's cache folder, of files that can be generated again.

The content is data: it may be corrupt, but it is never executed.
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
    """Return the folder for the user's cached files on this platform."""
    from platformdirs import user_cache_path

    return user_cache_path("orchnb", appauthor=False) / kind


class FileCache:
    """A folder of files, each under a key. The oldest are removed when there are too many.

    A folder that cannot be used is not an error: it is treated as empty.

    Args:
        folder: returns the folder's path; the folder need not exist.
        suffix: the suffix of its file names, such as ``.json``.
        largest: the maximum size of a file, in bytes.
        most_files: the maximum number of files.
    """

    def __init__(
        self,
        folder: Callable[[], Path],
        *,
        suffix: str,
        largest: int,
        most_files: int = 8,
    ) -> None:
        self._folder = folder
        self._suffix = suffix
        self._largest = largest
        self._most_files = most_files

    def read(self, key: str) -> bytes | None:
        """Return the content, or None if it does not exist, may be another user's, or is too large."""
        try:
            path = self._folder() / f"{key}{self._suffix}"
            # Opening or reading a pipe or a device could block.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
            with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
                if not _is_trusted(os.fstat(file.fileno()), self._largest):
                    return None
                return file.read(self._largest)
        except OSError:
            return None

    def write(self, key: str, content: bytes) -> None:
        """Store content, completely or not at all, even if others write it at the same time."""
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
        files = sorted(self._files(folder), reverse=True)
        for _, path in files[self._most_files :]:
            with suppress(OSError):
                path.unlink()

    def _files(self, folder: Path) -> Iterator[tuple[float, Path]]:
        for path in folder.iterdir():
            if path.suffix in (self._suffix, _UNFINISHED):
                with suppress(OSError):  # another process has removed it
                    yield path.lstat().st_mtime, path


def _is_trusted(status: os.stat_result, largest: int) -> bool:
    """Return whether it is a file within the size limit that only this user may have written."""
    if not stat.S_ISREG(status.st_mode) or status.st_size > largest:
        return False
    if not hasattr(os, "geteuid"):
        return True  # the folder is the user's own on Windows
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
