"""The sources of settings: the layers from arguments down to profiles, and which one won.

The source classes of pydantic-settings cannot be used; CONTRIBUTING.md says why, one by one.
"""

from __future__ import annotations

import copy
import functools
import io
import json
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import dotenv

from orchnb.environment import persons_environment
from orchnb.errors import InvalidSetting

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Origin(NamedTuple):
    """Where a value came from: the name it was set under and the source, both as users know them."""

    name: str
    place: str

    def __str__(self) -> str:
        return f"{self.name} ({self.place})" if self.name else self.place


DEFAULT = Origin("", "default")
_DOTENV, _TOML, _PROJECT = ".env", "prefect.toml", "[tool.prefect] in pyproject.toml"
WORKING_FOLDER = frozenset({_DOTENV, _TOML, _PROJECT})
"""The sources that are files in the working folder, which may be someone else's repository."""

_LARGEST_FILE = 1_000_000
"""Bytes. A settings file is never that large."""

SENT = ("api_url", "cloud_api_url", "api_key", "api_auth_string", "client_custom_headers")
"""The fields that determine what is sent, and to which server."""

# The profiles that `prefect` ships; one with the same name in profiles.toml replaces it.
BUILT_IN_PROFILES: dict[str, dict[str, Any]] = {
    "ephemeral": {"PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"},
    "local": {"PREFECT_API_URL": "http://127.0.0.1:4200/api"},
    "cloud": {},
}


class FieldNames(NamedTuple):
    """The names of a setting, in the environment and in toml files, in order of precedence."""

    environment: tuple[str, ...]
    toml: tuple[str, ...]
    is_table: bool = False
    """Whether it is a table of names and values; the tables of all sources are merged."""
    empty_unsets: bool = False
    """Whether an empty string unsets it, as in Prefect, and overrides sources of lower precedence. If
    false, an empty string is ignored."""


Chosen = dict[str, tuple[Any, Origin]]
"""By field: the raw value, and where it came from. None means "not set"."""


def gather(fields: Mapping[str, FieldNames], given: Chosen) -> Chosen:
    """Return the value with the highest precedence for every field; ``given`` comes before environment
    and files.

    Raises:
        InvalidSetting: a file cannot be read, or the requested profile does not exist.
    """
    found = gather_above_profile(fields, given)
    profiles = Profiles(profiles_path(found))
    wanted, origin = _unless_in_file("profile", found)
    if wanted is None:
        wanted, origin = profiles.active, Origin("active", str(profiles.path))
        found["profile"] = (None, DEFAULT) if wanted is None else (wanted, origin)
    if wanted is not None:
        _add(found, profiles.values(fields, wanted, origin), given)
    else:
        _add(found, profiles.default_values(fields), given)
    return found


def gather_above_profile(fields: Mapping[str, FieldNames], given: Chosen) -> Chosen:
    """Return the values from the layers above the profile."""
    found = dict(given)
    _add(found, from_names(fields, _upper(persons_environment()), "environment"), given)
    _add(found, _from_dotenv(fields), given)
    for place, table in toml_tables().items():
        _add(found, _from_toml(fields, table, place), given)
    return found


def toml_tables() -> dict[str, Any]:
    """Return Prefect's tables in the toml files of the working folder, by source, in order of
    precedence."""
    project: Any = _read_toml(Path("pyproject.toml"))
    for key in ("tool", "prefect"):
        project = project.get(key) if isinstance(project, dict) else None
    return {_TOML: _read_toml(Path("prefect.toml")), _PROJECT: project}


def _add(found: Chosen, layer: Iterable[tuple[str, Any, Origin]], given: Chosen) -> None:
    """Add a layer below the existing ones."""
    for field, raw, origin in layer:
        stronger, its_origin = found.setdefault(field, (raw, origin))
        # As in Prefect, tables are merged; a given table is used as it is.
        if isinstance(raw, dict) and isinstance(stronger, dict) and field not in given:
            if its_origin.place in WORKING_FOLDER and origin.place not in WORKING_FOLDER:
                its_origin = Origin(its_origin.name, f"{its_origin.place} and {origin.place}")
            found[field] = {**raw, **stronger}, its_origin


def _upper(table: Mapping[str, str | None]) -> dict[str, str | None]:
    """Convert names to upper case: as in Prefect, the environment and .env may use lower case."""
    return {name.upper(): value for name, value in table.items()}


def from_names(
    fields: Mapping[str, FieldNames], table: Mapping[str, Any], place: str
) -> Iterator[tuple[str, Any, Origin]]:
    """Yield the values set under environment-style names."""
    for field, names in fields.items():
        for name in names.environment:
            raw = table.get(name)
            if _says(raw, names):
                value = _table(raw) if names.is_table else raw
                yield field, None if raw == "" else value, Origin(name, place)
                break


def _from_dotenv(fields: Mapping[str, FieldNames]) -> Iterator[tuple[str, Any, Origin]]:
    """Yield the values of ``.env``, with variables expanded except in values sent to a server.

    Otherwise a ``.env`` in someone else's repository could send any environment variable to a server
    of its choice.
    """
    written = _upper(read_dotenv(Path(".env"), expand=False))
    for field, raw, origin in from_names(fields, _upper(read_dotenv(Path(".env"))), _DOTENV):
        if field in SENT and "${" in (written.get(origin.name) or ""):
            raise InvalidSetting(
                f"{origin} contains a variable such as ${{NAME}}. Variables are not expanded in values "
                "that are sent to a server. Write the value itself, or set it in the environment."
            )
        yield field, raw, origin


def _says(raw: Any, names: FieldNames) -> bool:
    return raw is not None and (raw != "" or names.empty_unsets)


def _table(raw: Any) -> Any:
    """Parse a table from its JSON text; anything else is returned unchanged and rejected later."""
    try:
        return json.loads(raw) if isinstance(raw, str) else raw
    except ValueError:
        return raw


def _from_toml(
    fields: Mapping[str, FieldNames], table: Any, place: str
) -> Iterator[tuple[str, Any, Origin]]:
    for field, names in fields.items():
        for name in names.toml:
            value = table
            for key in name.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            if _says(value, names):
                yield field, None if value == "" else value, Origin(name, place)
                break


class Profiles:
    """The content of ``profiles.toml``: its profiles and the built-in ones, and the active one or
    None."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = _read_toml(path)
        tables = content.get("profiles", {})
        active = content.get("active")
        if not isinstance(tables, dict) or not all(isinstance(t, dict) for t in tables.values()):
            raise InvalidSetting(f"{path}: each profile should be a table such as [profiles.local]")
        if active is not None and not isinstance(active, str):
            raise InvalidSetting(f"{path}: 'active' should be the name of a profile")
        self.tables: dict[str, dict[str, Any]] = {**BUILT_IN_PROFILES, **tables}
        self.active: str | None = active or None

    def values(
        self, fields: Mapping[str, FieldNames], name: object, named_by: Origin
    ) -> Iterator[tuple[str, Any, Origin]]:
        """Return the values of a profile.

        Raises:
            InvalidSetting: there is no profile with that name.
        """
        if not isinstance(name, str) or name not in self.tables:
            raise InvalidSetting(
                f"There is no profile {name!r} (selected by {named_by}). Available profiles: "
                f"{', '.join(sorted(self.tables))}. Choose one of these, or create it with "
                "`prefect profile create`."
            )
        return from_names(fields, self.tables[name], f"profile {name!r}")

    def default_values(self, fields: Mapping[str, FieldNames]) -> Iterator[tuple[str, Any, Origin]]:
        """Yield the values that apply when no profile is chosen."""
        for field, raw, _ in from_names(fields, BUILT_IN_PROFILES["ephemeral"], ""):
            yield field, raw, DEFAULT


def profiles_path(found: Chosen) -> Path:
    """Return the path of ``profiles.toml`` according to the layers above it."""
    path, origin = found.get("profiles_path", (None, DEFAULT))
    if path is not None:
        return _path(path, origin)
    home, origin = _unless_in_file("home", found)
    return (default_home() if home is None else _path(home, origin)) / "profiles.toml"


def default_home() -> Path:
    """Return Prefect's default home folder.

    Raises:
        InvalidSetting: the user's home folder is unknown.
    """
    try:
        return Path.home() / ".prefect"
    except RuntimeError:
        raise InvalidSetting(
            "PREFECT_HOME is not set, and this user has no home folder. Set PREFECT_HOME to a writable "
            "folder."
        ) from None


def _unless_in_file(field: str, found: Chosen) -> tuple[Any, Origin]:
    """Return the value unless it comes from a file in the working folder: as in Prefect, such a file
    cannot choose the active profile or the home folder."""
    value, origin = found.get(field, (None, DEFAULT))
    return (None, DEFAULT) if origin.place in WORKING_FOLDER else (value, origin)


def _path(raw: object, origin: Origin) -> Path:
    if not isinstance(raw, (str, Path)):
        raise InvalidSetting(f"{origin} should be a path.")
    try:
        return Path(raw).expanduser()
    except RuntimeError:
        raise InvalidSetting(
            f"{origin} begins with ~, but the home folder is unknown; write the full path"
        ) from None


def _read_toml(path: Path) -> dict[str, Any]:
    # Raised outside the except block: that error contains the file's text, and so its secrets.
    try:
        return copy.deepcopy(_parsed(_read(path)))
    except tomllib.TOMLDecodeError as exc:
        # Only the position: the parser's message may contain a piece of the text, and so of a key.
        place = re.search(r"\(at .*\)", str(exc))
    problem = f"is not valid TOML {place.group() if place else ''}".rstrip()
    raise InvalidSetting(f"{path} {problem}. Fix or remove the file.")


# Each client reads the settings, and parsing takes most of the time.
@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def read_dotenv(path: Path, *, expand: bool = True) -> dict[str, str | None]:
    """Return the values of a ``.env`` file, or none if it does not exist. ``expand`` says whether
    ``${NAME}`` is expanded."""
    # A virtual environment may be a folder with that name.
    text = "" if path.is_dir() else _read(path)
    return dotenv.dotenv_values(stream=io.StringIO(text), interpolate=expand)


def _read(path: Path) -> str:
    """Return the text of a settings file, or "" if it does not exist.

    Raises:
        InvalidSetting: it is not a regular file, is too large, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            problem = "it is a directory" if path.is_dir() else "it is not a regular file"
        else:
            with path.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
            if len(content) <= _LARGEST_FILE:
                return content.decode("utf-8")
            problem = f"it is larger than {_LARGEST_FILE // 1_000_000} MB"
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as exc:
        problem = _reason(exc)
    raise InvalidSetting(f"{path} cannot be read: {problem}. Fix or remove the file.")


def _reason(exc: Exception) -> str:
    if isinstance(exc, OSError):
        return exc.strerror or type(exc).__name__
    return "it is not UTF-8 text"
