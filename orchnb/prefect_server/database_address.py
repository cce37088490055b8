"""Check the address of Prefect's database before the server opens it, and explain what goes wrong later.

The errors of SQLAlchemy, sqlite and Alembic name neither the file nor the way on, and an address with a
``?`` in its path opens another file without any error.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from orchnb.errors import ServerStartFailed
from orchnb.prefect_server import internals
from orchnb.redaction import redact_url

_SETTING = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_FRESH = (
    "To use a new, separate database in the meantime: %orch_server_type ephemeral --fresh in a notebook, "
    "or PREFECT_HOME set to another folder."
)
_EXAMPLE = "sqlite+aiosqlite:////path/to/prefect.db or postgresql+asyncpg://user:password@host/name"
_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}
_SQLITE_HEADER = b"SQLite format 3\0"
_UNKNOWN_REVISION = re.compile(r"Can't locate revision identified by '(\w+)'")


def address_of_file(path: Path) -> str:
    """Return the database address for a file, whatever characters are in its path.

    Raises:
        ServerStartFailed: this version of SQLAlchemy has no such address.
    """
    prefix = "sqlite+aiosqlite:///"
    for text in (str(path), quote(str(path), safe="/\\:~")):
        url = _parsed(f"{prefix}{text}")
        if url is not None and url.database == str(path) and not url.query:
            return f"{prefix}{text}"
    raise _unusable(
        f"The Prefect server keeps its database in {path}, and a database address cannot have a ? or % "
        "in its path",
        "Set PREFECT_HOME to a folder without these characters.",
    )


def check_folder(folder: Path) -> None:
    """Check that files can be made in the folder that contains the database.

    Raises:
        ServerStartFailed: they cannot.
    """
    probe = folder / f".orchnb-{uuid4().hex}"
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as exc:
        raise _unusable(
            f"The Prefect server keeps its database in {folder}, where no file can be written: "
            f"{exc.strerror or type(exc).__name__}",
            "Set PREFECT_HOME to a folder that can be written to.",
        ) from None


def check_address(address: str) -> None:
    """Check an address from the settings as far as that is possible without opening the database.

    Raises:
        ServerStartFailed: the database cannot be opened, or would be another one than the address says.
    """
    url = _parsed(address)
    if url is None:
        raise _unusable(f"{_SETTING} is not a database address", f"It should be {_EXAMPLE}.")
    backend = url.get_backend_name()
    driver = _DRIVERS.get(backend)
    if driver is None:
        raise _unusable(
            f"{_SETTING} names a {backend} database, which Prefect does not support",
            f"It should be {_EXAMPLE}.",
        )
    if url.drivername != f"{backend}+{driver}":
        raise _unusable(
            f"{_SETTING} begins with {url.drivername}://, which is not an async driver",
            f"Write {backend}+{driver}:// instead.",
        )
    if backend != "sqlite" or not url.database or url.database == ":memory:":
        return
    options = address.partition("?")[2].split("&")
    if any(option and not re.match(r"\w+=[^/]*$", option) for option in options):
        raise _unusable(
            f"{_SETTING} has a ? in its path, and what follows it is not taken for a part of the path",
            "Write %3F for it, or rename the file or folder.",
        )
    if not url.database.startswith("file:"):
        _check_file(Path(url.database), address)


def _check_file(path: Path, address: str) -> None:
    folder = path.parent
    if not folder.is_dir():
        hint = f"Create the folder, or correct {_SETTING}."
        if "$" in str(path):
            hint = f"Variables such as $HOME are not expanded in {_SETTING}: write the path itself."
        elif "%" in address:
            hint += " In an address % begins an escaped character: write %25 for %."
        raise _unusable(f"The database {path} cannot be created: there is no folder {folder}", hint)
    check_folder(folder)
    if path.is_dir():
        raise _unusable(f"The database {path} is a folder", "Move it away.")
    try:
        with path.open("r+b") as file:
            header = file.read(len(_SQLITE_HEADER))
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _unusable(
            f"The database {path} cannot be written: {exc.strerror or type(exc).__name__}",
            "Change its permissions.",
        ) from None
    if header and header != _SQLITE_HEADER:
        raise _unusable(
            f"{path} is not an SQLite database, or is damaged",
            "Move the file away, and restore a backup if there is one.",
        )


def place_of(address: str) -> str:
    """Return where a database is, without credentials."""
    url = _parsed(address)
    if url is None:
        return _SETTING
    if url.get_backend_name() == "sqlite":
        return url.database if url.database and url.database != ":memory:" else "in memory"
    return redact_url(url.render_as_string())  # without the password


def newer_database(words: str, place: str) -> tuple[str, str] | None:
    """Return what is wrong and what to do, if an error says that the database is a newer Prefect's.

    Args:
        words: the error's message.
        place: the database, as `place_of` returns it.
    """
    unknown = _UNKNOWN_REVISION.search(words)
    if unknown is None:
        return None
    return (
        f"the database {place} was made by a newer Prefect than the one that is installed here, "
        f"{internals.version()}, which does not know its revision {unknown[1]}",
        f"Upgrade Prefect: pip install --upgrade prefect. {_FRESH}",
    )


def what_to_check() -> str:
    """Return what to do about a database that cannot be opened for another reason."""
    return f"Check that it can be opened: PREFECT_HOME and {_SETTING} say where it is. {_FRESH}"


def _parsed(address: str) -> Any:
    """Return SQLAlchemy's URL, or None if the address is not one. Its error contains the password."""
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    try:
        return sqlalchemy.make_url(address)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None


def _unusable(message: str, hint: str) -> ServerStartFailed:
    return ServerStartFailed(message, phase="create", hint=f"{hint} {_FRESH}")
