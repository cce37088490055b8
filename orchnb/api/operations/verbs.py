"""The requests that most operations make, by what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from uuid import UUID

from orchnb.api.answers import a
from orchnb.api.models.base import Model
from orchnb.api.operations.payloads import without_none
from orchnb.http.calls import Call, Path, Steps, nothing
from orchnb.http.response import PrefectResponse

T = TypeVar("T")


class _Deleted(Model):
    deleted: list[UUID]


_number = a(lambda: int)
_deleted = a(lambda: _Deleted)


def get(
    place: Path,
    read: Callable[[PrefectResponse], T],
    missing: str = "",
    *,
    after: Callable[[T], Steps[None]] | None = None,
) -> Call[T]:
    """Return the call of a read; ``missing`` describes the object, for the error if it does not exist."""
    return Call("GET", place, read, missing=missing, after=after)


def search(
    place: Path,
    read: Callable[[PrefectResponse], T],
    *,
    missing: str = "",
    after: Callable[[T], Steps[None]] | None = None,
    **body: Any,
) -> Call[T]:
    """Return the call of a read by ``POST``; None is left out of its body."""
    return Call(
        "POST",
        place,
        read,
        json=without_none(**body),
        repeatable=True,
        missing=missing,
        after=after,
    )


def count(place: Path, **body: Any) -> Call[int]:
    """Return the call that counts objects; None is left out of its body."""
    return search(place, _number, **body)


def change(place: Path, changes: object, missing: str) -> Call[None]:
    """Return the call of an update."""
    return Call("PATCH", place, nothing, json=changes, missing=missing)


def delete(place: Path, missing: str = "") -> Call[None]:
    """Return the call of a deletion."""
    return Call("DELETE", place, nothing, missing=missing)


def delete_matching(place: Path, *, look: str, **body: Any) -> Call[list[UUID]]:
    """Return the call that deletes the objects that match a filter; its result is their ids."""
    return Call(
        "POST",
        place,
        lambda response: _deleted(response).deleted,
        json=without_none(**body),
        look=look,
    )
