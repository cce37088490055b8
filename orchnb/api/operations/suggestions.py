"""Suggestions: names similar to one that was not found."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import httpx

from orchnb.api.models.base import Model, ModelList
from orchnb.errors import ObjectNotFound, OrchnbError
from orchnb.http.calls import Call, Steps
from orchnb.text import did_you_mean, near_names

T = TypeVar("T")
M = TypeVar("M", bound=Model)

Names = Generator[Call[Any], Any, Iterable[str]]

_MOST_PAGES = 3


def or_near(
    call: Call[T], name: str, read_names: Callable[[], Names]
) -> Generator[Call[Any], Any, T]:
    """Make the call; if it finds nothing, the error suggests similar names.

    Raises:
        ObjectNotFound: raised by the call.
    """
    try:
        result: T = yield from call
    except ObjectNotFound as exc:
        not_found = exc
    else:
        return result
    question = did_you_mean(near_names(name, (yield from or_none(read_names()))))
    if not question:
        raise not_found
    error = ObjectNotFound.from_status_error(not_found, f"{not_found}. {question}")
    error.hint = f"{question} {not_found.hint}".strip()
    raise error


def or_none(
    names: Generator[Call[Any], Any, Iterable[T]],
) -> Generator[Call[Any], Any, Iterable[T]]:
    """Return the names, or none if they cannot be read: they only add to an error already raised."""
    try:
        return (yield from names)
    except (OrchnbError, httpx.HTTPError):
        return ()


def first_pages(read: Callable[[int], Steps[ModelList[M]]]) -> Generator[Call[Any], Any, list[M]]:
    """Return the objects on the first pages of a read: all if there are few. ``read`` takes an offset."""
    found: list[M] = []
    for _ in range(_MOST_PAGES):
        page: ModelList[M] = yield from read(len(found))
        if not page:
            break
        found += page
    return found
