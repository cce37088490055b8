"""Create a new Prefect database as a copy of a cached empty one.

Prefect creates a database by applying all of its migrations in order, which takes seconds. The result is
always the same, so the first one is cached before anything is written to it, and later ones are copies:
`%orch_server_type ephemeral --fresh` needs one each time.
"""

from __future__ import annotations

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
from orchnb.prefect_server import internals

_cache = FileCache(
    lambda: user_cache_folder("databases"), suffix=".db", largest=20_000_000, most_files=4
)


@contextmanager
def made_from_an_empty_one(address: str, cache: FileCache = _cache) -> Iterator[None]:
    """Create the database from the cache, or cache it. The block applies Prefect's schema to it.

    If the address is a sqlite file that does not exist yet, it becomes a copy of the empty database of
    this Prefect version on entry; if there is none, it is cached as that on exit. If neither is possible,
    nothing happens.
    """
    path = file_of(address)
    if path is None or path.exists():
        yield
        return
    key = internals.version()
    kept = cache.read(key)
    if kept is not None and _put(kept, path):
        yield
        return
    yield
    with suppress(OSError, sqlite3.Error):
        cache.write(key, _content_of(path))


def file_of(address: str) -> Path | None:
    """Return the file of a sqlite database; None if it is in memory, has URL options, or is not
    sqlite."""
    url: Any = importlib.import_module("sqlalchemy").make_url(address)
    named = url.get_backend_name() == "sqlite" and not url.query and url.database
    if not named or named == ":memory:" or named.startswith("file:"):
        return None
    return Path(named)


def _put(content: bytes, path: Path) -> bool:
    """Create a database with this content if none exists; return whether that succeeded."""
    # A unique name, but not with `tempfile`, whose files only their owner may ever read.
    copy = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        copy.write_bytes(content)
        if not _is_sound(copy):
            return False
        # Unlike a rename, this never replaces one that someone else has created in the meantime.
        os.link(copy, path)
    except OSError:
        return False
    finally:
        _remove(copy)
    return True


def _is_sound(path: Path) -> bool:
    """Return whether it is an intact database with the migrations applied."""
    try:
        with closing(sqlite3.connect(path)) as database:
            (verdict,) = database.execute("PRAGMA quick_check").fetchone()
            versions = database.execute("SELECT version_num FROM alembic_version").fetchall()
    except sqlite3.Error:
        return False
    return verdict == "ok" and len(versions) == 1


def _content_of(path: Path) -> bytes:
    """Return the content of a database as one file, including data still in its journal."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        copy = Path(folder) / "copy.db"
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        return copy.read_bytes()


def _remove(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        with suppress(OSError):
            os.unlink(f"{path}{end}")
