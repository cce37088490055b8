"""A new database of Prefect's as a copy of an empty one that was made before.

Prefect makes a database by applying all of its migrations one after the other, which takes seconds.
What comes out is the same each time, so the first one is kept, before anybody has written to it, and
whoever needs a new one gets a copy: for `%orch_server_type ephemeral --fresh` that is each time.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from orchnb.file_cache import FileCache, user_cache_folder

_MIGRATIONS = "server/database/_migrations/versions/sqlite"

_cache = FileCache(
    lambda: user_cache_folder("databases"), suffix=".db", largest=20_000_000, most_files=4
)


@contextmanager
def made_from_an_empty_one(address: str, cache: FileCache = _cache) -> Iterator[None]:
    """Within it, bring the database at this address to Prefect's schema.

    If it is a sqlite file that is not there yet, it is a copy of an empty database of this version of
    Prefect's on entry, or it is kept as that on exit. Where either is impossible, nothing happens.
    """
    path = file_of(address)
    key = _key()
    if path is None or key is None or path.exists():
        yield
        return
    kept = cache.read(key)
    if kept is not None and _put(kept, path):
        yield
        return
    yield
    with suppress(OSError, sqlite3.Error):
        cache.write(key, _content_of(path))


def file_of(address: str) -> Path | None:
    """The file of a sqlite database; None where it is in memory, somebody else's, or no sqlite at all."""
    url: Any = importlib.import_module("sqlalchemy").make_url(address)
    named = url.get_backend_name() == "sqlite" and not url.query and url.database
    if not named or named == ":memory:" or named.startswith("file:"):
        return None
    return Path(named)


def _key() -> str | None:
    """Tells databases apart that migrations have made; None where it cannot be told which these are."""
    prefect = importlib.import_module("prefect")
    folder = Path(str(prefect.__file__)).parent / _MIGRATIONS
    names = sorted(path.name for path in folder.glob("*.py"))
    told = "\n".join([str(prefect.__version__), *names])
    return hashlib.sha256(told.encode()).hexdigest() if names else None


def _put(content: bytes, path: Path) -> bool:
    """Make a database of this content where there is none, and say whether there is one now."""
    # A name of its own, and not one of `tempfile`, whose files nobody else may ever read.
    copy = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        copy.write_bytes(content)
        if not _is_sound(copy):
            return False
        # Unlike a renaming it never takes the place of one that somebody has made meanwhile.
        os.link(copy, path)
    except OSError:
        return False
    finally:
        _remove(copy)
    return True


def _is_sound(path: Path) -> bool:
    """Whether it is a whole database that migrations have made."""
    try:
        with closing(sqlite3.connect(path)) as database:
            (verdict,) = database.execute("PRAGMA quick_check").fetchone()
            versions = database.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return False
    return verdict == "ok" and len(versions) == 1


def _content_of(path: Path) -> bytes:
    """A database as one file, with what its journal still held."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "copy.db"
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        return copy.read_bytes()


def _remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        with suppress(OSError):
            os.unlink(f"{path}{end}")
