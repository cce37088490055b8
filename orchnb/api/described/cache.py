"""Documents of servers on disk, so that each version of a server is asked for its own once.

What is found there is read as what a server sends is: it can be broken, but it is never run.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx

from orchnb.api.described.document import LARGEST_DOCUMENT

_SUFFIX = ".json"
_UNFINISHED = ".part"


def user_cache_folder() -> Path:
    """Where this platform wants the files of a person's that can be had anew."""
    from platformdirs import user_cache_path

    return user_cache_path("orchnb", appauthor=False) / "openapi"


def document_key(api_url: str, version: str) -> str:
    """What the document of a server of this version, at this address, is filed under."""
    url = httpx.URL(api_url).copy_with(userinfo=b"", fragment=None)
    return hashlib.sha256(f"{url}\n{version}".encode("utf-8", "replace")).hexdigest()


class DocumentCache:
    """A folder of documents; the longest unused go when there are too many.

    A folder that cannot be used is no error: then nothing is found in it.

    Args:
        folder: gives the folder's path; it need not be there.
        most_files: how many documents it holds at most.
        most_bytes: how large they are together at most.
    """

    def __init__(
        self,
        folder: Callable[[], Path] = user_cache_folder,
        *,
        most_files: int = 32,
        most_bytes: int = 3 * LARGEST_DOCUMENT,
    ) -> None:
        self._folder = folder
        self._most_files = most_files
        self._most_bytes = most_bytes

    def read(self, key: str) -> bytes | None:
        """The document, if it is there, was written by nobody else, and is not too large."""
        try:
            path = self._folder() / f"{key}{_SUFFIX}"
            # A pipe or a device would keep us waiting.
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
            with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb") as file:
                if not _is_trusted(os.fstat(file.fileno())):
                    return None
                content = file.read(LARGEST_DOCUMENT)
            os.utime(path)  # it was used
        except OSError:
            return None
        return content

    def write(self, key: str, content: bytes) -> None:
        """File a document: whole or not at all, whoever else does so at the same time."""
        with suppress(OSError):
            folder = self._folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(_UNFINISHED, dir=folder)
            try:
                with open(handle, "wb") as file:
                    file.write(content)
                os.replace(name, folder / f"{key}{_SUFFIX}")
            except BaseException:
                with suppress(OSError):
                    os.unlink(name)
                raise
            self._shrink(folder)

    def _shrink(self, folder: Path) -> None:
        files = sorted(_files(folder), key=lambda each: each[1].st_mtime, reverse=True)
        size = 0
        for count, (path, status) in enumerate(files, 1):
            size += status.st_size
            if count > self._most_files or size > self._most_bytes:
                with suppress(OSError):
                    path.unlink()


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.iterdir():
        if path.suffix in (_SUFFIX, _UNFINISHED):
            with suppress(OSError):  # another process was first
                yield path, path.lstat()


def _is_trusted(status: os.stat_result) -> bool:
    """Whether it is a file of moderate size that nobody but its owner, this user, may have written."""
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_DOCUMENT:
        return False
    if not hasattr(os, "geteuid"):
        return True  # the folder is the user's own on Windows
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
