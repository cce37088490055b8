"""New databases of Prefect's: the first is made by its migrations, the next are copies of it."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from orchnb import get_client, get_settings
from orchnb.file_cache import FileCache
from orchnb.hosting.ephemeral import ephemeral_app
from orchnb.hosting.host import host_log
from orchnb.prefect_server.database_template import made_from_an_empty_one

pytestmark = pytest.mark.filterwarnings("ignore:Type object:DeprecationWarning")  # SQLAlchemy's


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of a person who has none yet; below it are the files that are kept."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def cache(tmp_path: Path) -> FileCache:
    return FileCache(lambda: tmp_path / "kept", suffix=".db", largest=10_000_000)


def address(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path}"


def tables(path: Path) -> list[str]:
    """The statements that would make its tables and indices."""
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT sql FROM sqlite_master ORDER BY type, name").fetchall()
    return [sql for (sql,) in found]


def rows(path: Path) -> dict[str, int]:
    """How many rows the tables have that have any."""
    with closing(sqlite3.connect(path)) as database:
        named = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        numbers = {
            name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
            for (name,) in named
        }
    return {name: number for name, number in numbers.items() if number}


def make(path: Path, cache: FileCache) -> bool:
    """Have a small database made as migrations would; whether a copy was there already."""
    with made_from_an_empty_one(address(path), cache):
        with suppress(FileNotFoundError):
            if path.stat().st_size:
                return True
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("PRAGMA journal_mode = wal")
            database.execute("CREATE TABLE alembic_version (version_num VARCHAR)")
            database.execute("INSERT INTO alembic_version VALUES ('a3b9')")
    return False


def test_prefects_second_new_database_is_the_same_without_the_migrations(
    tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(home: Path) -> None:
        monkeypatch.setenv("PREFECT_HOME", str(home))
        with get_client(sync_client=True) as client:
            client.create_flow_run("etl", name=home.name)
            assert [run.name for run in client.read_flow_runs()] == [home.name]

    level = logging.getLogger("alembic.runtime.migration").level
    progress = ephemeral_app(get_settings()).progress
    steps: list[int] = []
    with progress.told_to(lambda: steps.append(len(progress._steps))):
        start(tmp_path / "first")
    assert sum("Running upgrade" in line for line in host_log.lines(1000)) > 50
    assert max(steps) > 10, "each migration is progress of the start"
    assert logging.getLogger("alembic.runtime.migration").level == level
    (empty,) = kept.rglob("*.db")
    assert rows(empty) == {"alembic_version": 1}, "nothing of anybody's is in what is kept"
    if os.name == "posix":
        assert empty.stat().st_mode & 0o077 == 0

    from alembic.script import ScriptDirectory

    # What alembic asks for what there is to do.
    asked: list[int] = []
    upgrade = ScriptDirectory._upgrade_revs

    def spy(self: Any, target: str, current: Any) -> Any:
        steps = upgrade(self, target, current)
        asked.append(len(steps))
        return steps

    monkeypatch.setattr(ScriptDirectory, "_upgrade_revs", spy)
    start(tmp_path / "second")
    assert asked == [0]
    assert tables(tmp_path / "second" / "prefect.db") == tables(tmp_path / "first" / "prefect.db")
    modes = {(tmp_path / name / "prefect.db").stat().st_mode for name in ("first", "second")}
    assert len(modes) == 1, "others may read the one as much as the other"


def test_the_first_is_kept_and_the_next_are_copies(tmp_path: Path, cache: FileCache) -> None:
    assert [make(tmp_path / f"{number}.db", cache) for number in range(3)] == [False, True, True]
    assert tables(tmp_path / "2.db") == tables(tmp_path / "0.db")
    assert {path.name for path in tmp_path.iterdir()} == {"0.db", "1.db", "2.db", "kept"}


def test_a_database_that_is_there_is_nobodys_copy(tmp_path: Path, cache: FileCache) -> None:
    make(tmp_path / "first.db", cache)
    (tmp_path / "mine.db").write_bytes(b"")
    assert not make(tmp_path / "mine.db", cache)
    with closing(sqlite3.connect(tmp_path / "mine.db")) as database, database:
        database.execute("CREATE TABLE mine (x)")
    before = (tmp_path / "mine.db").read_bytes()
    assert make(tmp_path / "mine.db", cache)
    assert (tmp_path / "mine.db").read_bytes() == before


def test_one_that_others_make_at_the_same_moment_is_left_to_them(
    tmp_path: Path, cache: FileCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "first.db", cache)
    path = tmp_path / "second.db"
    read = cache.read

    def read_while_others_write(key: str) -> bytes | None:
        path.write_bytes(b"theirs")
        return read(key)

    monkeypatch.setattr(cache, "read", read_while_others_write)
    with made_from_an_empty_one(address(path), cache):
        assert path.read_bytes() == b"theirs"
        path.write_bytes(b"")


def _forget_the_revision(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("DELETE FROM alembic_version")


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.write_bytes(b""), id="empty"),
        pytest.param(lambda file: file.write_bytes(b"no database" * 1000), id="something else"),
        pytest.param(lambda file: file.write_bytes(file.read_bytes()[:5000]), id="half"),
        pytest.param(_forget_the_revision, id="never brought up to date"),
    ],
)
def test_a_spoilt_one_is_not_used_and_made_anew(
    tmp_path: Path, cache: FileCache, spoil: Callable[[Path], object]
) -> None:
    make(tmp_path / "first.db", cache)
    (file,) = (tmp_path / "kept").glob("*.db")
    spoil(file)
    assert not make(tmp_path / "second.db", cache)
    assert make(tmp_path / "third.db", cache)


def test_a_failed_start_keeps_nothing(tmp_path: Path, cache: FileCache) -> None:
    path = tmp_path / "first.db"

    def fail() -> None:
        with made_from_an_empty_one(address(path), cache):
            path.write_bytes(b"half")
            raise TimeoutError

    with pytest.raises(TimeoutError):
        fail()
    assert not (tmp_path / "kept").exists()
    assert path.read_bytes() == b"half"


@pytest.mark.parametrize(
    "address",
    [
        "sqlite+aiosqlite:///:memory:",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true",
        "sqlite+aiosqlite:///file:some.db?mode=memory&uri=true",
        "postgresql+asyncpg://me@127.0.0.1/prefect",
    ],
)
def test_what_is_no_file_of_sqlites_is_none_of_its_business(
    tmp_path: Path, cache: FileCache, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "first.db", cache)
    before = sorted(tmp_path.rglob("*"))
    with made_from_an_empty_one(address, cache):
        assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_to_is_left_to_prefect(
    tmp_path: Path, cache: FileCache
) -> None:
    make(tmp_path / "first.db", cache)
    missing = tmp_path / "missing" / "prefect.db"
    with made_from_an_empty_one(address(missing), cache):
        assert not missing.parent.exists()


def test_a_cache_that_cannot_be_used_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = FileCache(lambda: tmp_path / "file" / "kept", suffix=".db", largest=10_000_000)
    assert [make(tmp_path / f"{number}.db", cache) for number in range(2)] == [False, False]
