"""The fields of an object to create or update, given as data, as a model, or by keyword."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, TypeVar

from pydantic import BaseModel

from orchnb.api.models.base import Model, Part
from orchnb.http.json_values import model_json
from orchnb.text import one_line

T = TypeVar("T")

Data: TypeAlias = Mapping[str, Any] | BaseModel
"""The fields of an API object: plain data, or a model such as Prefect's ``WorkPoolCreate``."""


class Unchanged(enum.Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = "UNCHANGED"

    def __repr__(self) -> str:
        return self.value


UNCHANGED: Final = Unchanged.UNCHANGED
"""The default of an update's arguments. None is a value: it removes a limit, for instance."""


def fields_of(data: Data | str | None, /, **keywords: Any) -> dict[str, Any]:
    """Return the fields to create an object with: those set in the data, overridden by the keywords.

    A string is the name. From a model of orchnb, which may have been read from a server, only the
    fields that can be given by keyword are taken; the server sets the others.

    Raises:
        TypeError: the data has no fields.
    """
    given = without_none(**keywords)
    if isinstance(data, str):
        return {"name": data, **given}
    return {**_set_in(data, keywords), **given}


def changes_of(data: Data | None, /, **keywords: Any) -> dict[str, Any]:
    """Return the fields to change, like `fields_of`; a keyword that is `UNCHANGED` was not given.

    Raises:
        TypeError: the data has no fields.
        ValueError: no changes are given.
    """
    given = {name: _as_sent(value) for name, value in keywords.items() if value is not UNCHANGED}
    changes = {**_set_in(data, keywords), **given}
    if not changes:
        raise ValueError(f"There is nothing to change: give one of {', '.join(keywords)}")
    return changes


def with_defaults(data: T) -> T | dict[str, Any]:
    """Return a model that is not ours as plain data, including fields that were not set: some that the
    API needs, such as a trigger's type, are defaults in Prefect's models."""
    if isinstance(data, BaseModel) and not isinstance(data, Model):
        return model_json(data)
    return data


def required(fields: Mapping[str, Any], *names: str) -> None:
    """Check that these fields were given.

    Raises:
        TypeError: one of them was not.
    """
    missing = [name for name in names if fields.get(name) in (None, "")]
    if missing:
        raise TypeError(f"Missing {' and '.join(missing)}: give fields by keyword or in the data")


def _set_in(data: Data | None, keywords: Mapping[str, Any]) -> dict[str, Any]:
    if data is None:
        return {}
    if isinstance(data, Model):
        fields = model_json(data, exclude_unset=True, include=set(keywords))
        for name in fields:
            value = getattr(data, name)
            if _has_parts(value):
                fields[name] = _as_sent(value)
        return fields
    if isinstance(data, BaseModel):
        return model_json(data, exclude_unset=True)
    if isinstance(data, Mapping):
        return {name: _as_sent(value) for name, value in data.items()}
    raise TypeError(
        f"The fields should be a mapping, a model, or keywords, not {type(data).__name__}"
    )


def quoted(value: object) -> str:
    """Return a value quoted for a message."""
    return repr(one_line(str(value), 80))


def named(kind: str, name: object) -> str:
    """Return an object's description for a message, by its name."""
    return f"{kind} {quoted(name)}"


def with_id(kind: str, id: object) -> str:
    """Return an object's description for a message, by its id."""
    return f"{kind} with the id {quoted(id)}"


def without_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {name: _as_sent(value) for name, value in values.items() if value is not None}


def _as_sent(value: Any) -> Any:
    """Return a part of an object, or a list of them, with its defaults, which the API may require; from
    any other of our models, the fields that were read or set."""
    if isinstance(value, Part):
        return model_json(value, exclude_none=True)
    if isinstance(value, Model):
        return model_json(value, exclude_unset=True)
    if isinstance(value, list):
        return [_as_sent(item) for item in value]
    return value


def _has_parts(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(item, Part) for item in value)
    return isinstance(value, Part)
