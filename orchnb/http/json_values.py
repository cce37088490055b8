"""Convert values that people pass into plain JSON data: one rule for all operations.

Each value is sent as what it is, or refused with an error that names its place. Iterables are sent as
their items and consumed once, so a request that is sent again has the same body.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import AsyncIterable, Awaitable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Secret, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python

from orchnb.concealed import forget_frames

USERS_OWN = frozenset(
    {
        "context",
        "data",
        "job_variables",
        "labels",
        "metadata_",
        "parameters",
        "payload",
        "run_input",
        "value",
    }
)
"""Fields that belong to the user, not to the API. A datetime without a time zone stays as it is in them;
in all other fields it means local time."""

_MOST_ITEMS = 10_000_000
"""An iterator with more items is taken to be infinite."""

_AS_THEY_ARE = frozenset({str, int, bool, type(None)})

_WRAPPED = (
    "parameters, variables and the like are stored and shown as plain text. Save the secret in a block "
    "(in Prefect: Secret(value=...).save(name)) and pass the block's name; or, if it is not secret from "
    "those who can read the server, pass {name}.get_secret_value()"
)
_TABLE = (
    "it can be sent in several forms; for its rows write table.to_dict('records') (polars: "
    "table.to_dicts(), pyarrow: table.to_pylist())"
)


class _Refused(Exception):
    """A value cannot be sent. The place is filled in from the inside to the outside."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(kind, why)
        self.kind = kind
        self.why = why
        self.place: list[str] = []

    def words(self, place: str) -> str:
        name = ".".join(filter(None, (place, *reversed(self.place)))) or "the value"
        return f"{name} cannot be sent as JSON: {self.kind}; {self.why.format(name=name)}"


def plain_json(
    value: Any,
    *,
    place: str = "",
    reveals: bool = False,
    dates_are_times: bool = False,
    users_own: bool = False,
) -> Any:
    """Return the value as JSON's types: dict, list, str, int, float, bool and None.

    Iterables (generators, sets, ranges, arrays, pandas' Series, ...) become lists of their items.
    Enums become their values; dataclasses and pydantic models their fields; UUIDs, paths, decimals,
    times and UTF-8 bytes become strings.

    Args:
        place: where the value is, for errors.
        reveals: keep wrapped secrets, such as pydantic's ``SecretStr``, in the result instead of
            refusing them: the body of a block, of which `revealed` sends the values.
        dates_are_times: a date means its beginning, in local time.
        users_own: keep datetimes without a time zone as they are, as within `USERS_OWN` fields.

    Raises:
        ValueError: JSON has nothing for a value (NaN, infinity, a function, ...), the value has several
            forms (a DataFrame), or it is a wrapped secret. The message names the place.
    """
    convert = _Converter(reveals, dates_are_times)
    try:
        return convert.value(value, users_own)
    except _Refused as exc:
        words = exc.words(place)
    except RecursionError:
        words = _Refused(type(value).__name__, "it contains itself or is nested too deeply").words(
            place
        )
    except Exception as exc:  # raised by the user's own iterator or property
        forget_frames(exc, (__name__,))
        raise
    value = None  # it may hold secrets, and a traceback can show it
    # Outside of the except block: that error's frames contain values of the body.
    raise ValueError(words)


def model_json(model: BaseModel, **options: Any) -> dict[str, Any]:
    """Return what ``model.model_dump(mode="json", **options)`` does; but secrets are not masked.

    Raises:
        ValueError: a field is a wrapped secret; the message names the place.
    """
    try:
        _refuse_secrets(model.model_dump(warnings=False, **options))
    except _Refused as exc:
        words = exc.words("")
    else:
        return model.model_dump(mode="json", **options)
    raise ValueError(words)


def revealed(value: object) -> Any:
    """Return what a wrapped secret in a result of `plain_json` holds."""
    if isinstance(value, (Secret, SecretStr)):
        return value.get_secret_value()
    raise TypeError(f"not plain data: {type(value).__name__}")


class _Converter:
    def __init__(self, reveals: bool, dates_are_times: bool) -> None:
        self._reveals = reveals
        self._dates_are_times = dates_are_times

    def value(self, value: Any, users_own: bool) -> Any:
        """Return one value as plain data."""
        kind = type(value)
        if kind in _AS_THEY_ARE:
            return value
        if kind is dict:
            return self._mapping(value, users_own)
        if kind is list or kind is tuple:
            return self._items(value, users_own)
        if isinstance(value, Enum):
            return self.value(value.value, users_own)
        if isinstance(value, str):
            return value
        if isinstance(value, float):
            if not math.isfinite(value):
                raise _Refused(
                    f"the number {float(value)}", "JSON has none such; send None or a text"
                )
            return float(value)
        if isinstance(value, int):
            return int(value)
        if hasattr(kind, "get_secret_value"):
            return self._secret(value, users_own)
        if isinstance(value, (date, time, timedelta)):
            return self._time(value, users_own)
        if isinstance(value, Mapping):
            return self._mapping(value, users_own)
        if isinstance(value, BaseModel):
            return self._model(value, users_own)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return self._mapping(fields, users_own)
        return self._other(value, users_own)

    def _other(self, value: Any, users_own: bool) -> Any:
        kind = type(value).__name__
        if isinstance(value, Decimal) and not value.is_finite():
            raise _Refused(f"the number {value}", "JSON has none such; send None or a text")
        if isinstance(value, (Decimal, UUID, PurePath)):
            return str(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            try:
                return bytes(value).decode()
            except UnicodeDecodeError:
                pass
            raise _Refused(kind, "they are not UTF-8 text; encode them, such as with base64")
        if hasattr(value, "columns") and hasattr(value, "shape"):
            raise _Refused(kind, _TABLE)
        if hasattr(value, "dtype") and hasattr(value, "tolist"):
            return self._array(value, users_own)
        if hasattr(value, "read") or isinstance(value, io.IOBase):
            raise _Refused(kind, "send its content: file.read()")
        if isinstance(value, Awaitable):
            raise _Refused(kind, "await it first")
        if isinstance(value, AsyncIterable):
            raise _Refused(kind, "send its items: [item async for item in ...]")
        if isinstance(value, Iterable) and not isinstance(value, type):
            return self._items(value, users_own)
        try:
            return self.value(to_jsonable_python(value), users_own)
        except PydanticSerializationError:
            pass
        raise _Refused(kind, "JSON has no such type; send its fields, its name, or a text")

    def _mapping(self, value: Mapping[Any, Any], users_own: bool) -> dict[str, Any]:
        result: dict[str, Any] = {}
        name = None
        try:
            for key, item in value.items():
                name = key if type(key) is str else None
                if name is None:
                    name = self._key(key, type(value).__name__)
                if name in result:
                    twice = f"two of its keys are {name!r} in JSON"
                    raise _Refused(type(value).__name__, twice)
                simple = type(item) in _AS_THEY_ARE
                result[name] = item if simple else self.value(item, users_own or name in USERS_OWN)
                name = None
        except _Refused as exc:
            if name is not None and name not in result:
                exc.place.append(name)
            raise
        return result

    def _key(self, key: Any, kind: str) -> str:
        why = f"JSON's keys are texts, and {type(key).__name__} has no usual one"
        if isinstance(key, Iterable) and not isinstance(key, (str, bytes)):
            raise _Refused(kind, why)
        try:
            name = self.value(key, users_own=True)
        except _Refused:
            name = []
        if isinstance(name, str):
            return name
        if name is None or isinstance(name, bool):
            return {None: "null", True: "true", False: "false"}[name]
        if isinstance(name, (int, float)):
            return repr(name)
        raise _Refused(kind, why)

    def _items(self, value: Iterable[Any], users_own: bool) -> list[Any]:
        result: list[Any] = []
        add, most = result.append, _MOST_ITEMS
        try:
            for item in value:
                add(item if type(item) in _AS_THEY_ARE else self.value(item, users_own))
                if len(result) > most:
                    raise _Refused(type(value).__name__, f"it has more than {most:,} items")
        except _Refused as exc:
            if len(result) <= most:
                exc.place.append(str(len(result)))
            raise
        return result

    def _array(self, value: Any, users_own: bool) -> Any:
        """Return the items of numpy's arrays, pandas' Series and tensors, or the value of one number."""
        kind = getattr(value.dtype, "kind", "")
        if kind in ("M", "m") and not getattr(value, "ndim", 1):
            if str(value) == "NaT":
                raise _Refused("NaT", "it is no time; send None")
            item = value.item()
            if isinstance(item, int):  # of a unit that is smaller than Python's
                unit = "datetime64[us]" if kind == "M" else "timedelta64[us]"
                item = value.astype(unit).item()
            return self.value(item, users_own)
        if not getattr(value, "ndim", 1) or kind in ("b", "i", "u", "f"):
            return self.value(value.tolist(), users_own)
        return self._items(value, users_own)

    def _time(self, value: date | time | timedelta, users_own: bool) -> str:
        if value != value:  # pandas' NaT
            raise _Refused("NaT", "it is no time; send None")
        if isinstance(value, datetime):
            value = plain_datetime(value) if users_own else with_local_zone(value)
        elif not users_own and self._dates_are_times and isinstance(value, date):
            value = with_local_zone(datetime(value.year, value.month, value.day))
        return str(to_jsonable_python(value))

    def _secret(self, value: Any, users_own: bool) -> Any:
        if not self._reveals:
            raise _Refused(f"a wrapped secret ({type(value).__name__})", _WRAPPED)
        inner = value.get_secret_value()
        if isinstance(inner, str):
            return SecretStr(inner)
        return Secret(self.value(inner, users_own))

    def _model(self, value: BaseModel, users_own: bool) -> Any:
        # As JSON its secrets are asterisks, and as Python's values they are still secrets.
        values = value.model_dump(warnings=False, by_alias=True)
        if self._reveals:
            return self.value(values, users_own)
        _refuse_secrets(values)
        return self.value(to_jsonable_python(value), users_own)


def _refuse_secrets(value: Any) -> None:
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple, set, frozenset)):
        items = enumerate(value)
    elif hasattr(type(value), "get_secret_value"):
        raise _Refused(f"a wrapped secret ({type(value).__name__})", _WRAPPED)
    for key, item in items:
        try:
            _refuse_secrets(item)
        except _Refused as exc:
            exc.place.append(str(key))
            raise


def plain_datetime(when: datetime) -> datetime:
    """Return the datetime as Python's own type: pandas' Timestamp has other methods."""
    if type(when) is datetime:
        return when
    return datetime.combine(
        date(when.year, when.month, when.day),
        time(when.hour, when.minute, when.second, when.microsecond, fold=when.fold),
        when.tzinfo,
    )


def with_local_zone(when: datetime) -> datetime:
    """Return the datetime with a time zone: local time, if it has none.

    Raises:
        ValueError: it is too close to the limits of the years 1 to 9999.
    """
    plain = plain_datetime(when)
    if plain.tzinfo is not None:
        return plain
    try:
        return plain.astimezone()
    except (ValueError, OverflowError, OSError):  # which one depends on the system
        raise ValueError(
            f"{when} is too close to the limits of the years 1 to 9999 to change its time zone"
        ) from None
