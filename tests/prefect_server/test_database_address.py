"""The address of Prefect's database: one that cannot be used says why, and what to do."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchnb import PrefectClient, SyncPrefectClient
from orchnb.errors import ServerStartFailed
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.prefect_server.database_address import (
    address_of_file,
    check_address,
    check_folder,
    place_of,
)
from orchnb.runtime.progress import NoProgress
from tests import servers

PASSWORD = "canary-word"
SQLITE = "sqlite+aiosqlite:///"

# An address, of which {0} is a folder, and what the error says; none if it is empty.
ADDRESSES = {
    "a file": (f"{SQLITE}{{0}}/x.db", ""),
    "in memory": (f"{SQLITE}:memory:", ""),
    "in memory, by a URI": (f"{SQLITE}file::memory:?cache=shared&uri=true", ""),
    "with options": (f"{SQLITE}{{0}}/x.db?timeout=5", ""),
    "a #": (f"{SQLITE}{{0}}/x#y.db", ""),
    "a $": (f"{SQLITE}{{0}}/x$y.db", ""),
    "postgres": (f"postgresql+asyncpg://me:{PASSWORD}@host/x", ""),
    "no address": (f"nonsense:{PASSWORD}", "is not a database address. It should be sqlite"),
    "another database": (
        f"mysql://me:{PASSWORD}@h/x",
        "names a mysql database, which Prefect does not",
    ),
    "another driver": (
        f"{SQLITE}".replace("+aiosqlite", "") + "x.db",
        "Write sqlite\\+aiosqlite://",
    ),
    "postgres' other driver": (
        f"postgresql://me:{PASSWORD}@h/x",
        "begins with postgresql://, which is not an async driver. Write postgresql\\+asyncpg://",
    ),
    "a ?": (f"{SQLITE}{{0}}/a?b/x.db", "has a \\? in its path.* Write %3F for it"),
    "a ? and a =": (f"{SQLITE}{{0}}/a?b=/x.db", "has a \\? in its path.* Write %3F for it"),
    "no such folder": (
        f"{SQLITE}{{0}}/no/x.db",
        "there is no folder .*no. Create the folder, or correct",
    ),
    "a variable": (f"{SQLITE}$PREFECT_HOME/x.db", "Variables such as \\$HOME are not expanded"),
    "a %": (f"{SQLITE}{{0}}/a%20b/x.db", "there is no folder .*write %25 for %"),
    "a folder": (f"{SQLITE}{{0}}/folder", "The database .*folder is a folder"),
    "another file": (
        f"{SQLITE}{{0}}/text",
        "text is not an SQLite database, or is damaged.*--fresh",
    ),
    "an empty file": (f"{SQLITE}{{0}}/empty", ""),
}


@pytest.mark.parametrize("case", ADDRESSES)
def test_an_address_is_checked_before_the_server_opens_it(tmp_path: Path, case: str) -> None:
    address, words = ADDRESSES[case]
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("This is a text, and longer than the head of a database.")
    (tmp_path / "empty").touch()
    if not words:
        check_address(address.format(tmp_path))
        return
    with pytest.raises(ServerStartFailed, match=words) as caught:
        check_address(address.format(tmp_path))
    assert PASSWORD not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "folder", "text"]


@pytest.mark.skipif(sys.platform != "linux", reason="a folder that not even root can write to")
def test_a_folder_that_cannot_be_written_to_is_named() -> None:
    words = (
        "keeps its database in /sys, where no file can be written: .*Set PREFECT_HOME to a folder"
    )
    with pytest.raises(ServerStartFailed, match=words):
        check_folder(Path("/sys"))
    with (
        pytest.raises(ServerStartFailed, match=words),
        SyncPrefectClient(EphemeralApp("prefect", home=Path("/sys"), timeout=60)),
    ):
        pass


@pytest.mark.parametrize("name", ["a b", "a#b", "a$b", "${HOME}", "ä", "a%b", "a%20b", "a?b"])
def test_every_file_has_an_address(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / "prefect.db"
    assert place_of(address_of_file(file)) == str(file)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (f"postgresql+asyncpg://me:{PASSWORD}@host:5/x", "postgresql+asyncpg://***@host:5/x"),
        (f"{SQLITE}:memory:", "in memory"),
        (f"{SQLITE}/a/x.db", "/a/x.db"),
    ],
)
def test_the_place_of_a_database_has_no_credentials(address: str, place: str) -> None:
    assert place_of(address) == place


# The real server


def start(kind: str, home: Path) -> None:
    app = EphemeralApp("prefect", home=home, timeout=60)

    async def main() -> None:
        async with PrefectClient(app) as client:
            await client.hello()

    if kind == "async":
        anyio.run(main)
    else:
        with SyncPrefectClient(app) as client:
            client.hello()


def test_a_home_with_special_characters_has_its_database_there(tmp_path: Path) -> None:
    home = tmp_path / "a?b%20c#d $e"
    start("sync", home)
    assert (home / "prefect.db").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_newer_prefects_database_is_told_with_the_way_on(tmp_path: Path, kind: str) -> None:
    home = servers.prefect_home(tmp_path / "home")
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
        database.commit()
    with pytest.raises(ServerStartFailed) as caught:
        start(kind, home)
    words = str(caught.value)
    assert f"the database {home / 'prefect.db'} was made by a newer Prefect than" in words
    for way in (
        "pip install --upgrade prefect",
        "%orch_server_type ephemeral --fresh",
        "PREFECT_HOME",
    ):
        assert way in words


def test_a_database_server_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"postgresql+asyncpg://me:{PASSWORD}@127.0.0.1:9/x"
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", address)
    with pytest.raises(ServerStartFailed) as caught:
        start("sync", tmp_path)
    assert "the database is postgresql+asyncpg://***@127.0.0.1:9/x." in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in "".join(caught.value.log_lines)


def test_a_database_in_memory_that_starts_slowly_is_told() -> None:
    app: Any = EphemeralApp("prefect", home=Path(), timeout=1)
    app._database_place = "in memory"
    error = app._failure("migrate", NoProgress("no progress for 1 s"))
    assert "Use one in a file: unset PREFECT_SERVER_DATABASE_CONNECTION_URL" in str(error)
    app._database_place = "/x/prefect.db"
    assert "in memory" not in str(app._failure("migrate", NoProgress("no progress for 1 s")))
