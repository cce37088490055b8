"""Names that are near to one that was not found."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import httpx

from orchnb.api.calls import Call, Steps
from orchnb.api.models.base import Model, ModelList
from orchnb.errors import ObjectNotFound, OrchnbError
from orchnb.http.response import one_line

T = TypeVar("T")
M = TypeVar("M", bound=Model)

Names = Generator[Call[Any], Any, Iterable[str]]

_MOST_PAGES = 3
_MOST_NAMES = 3
_LEAST_LIKENESS = 0.6
_LONGEST = 200


def near_names(name: str, names: Iterable[str], likeness: float = _LEAST_LIKENESS) -> list[str]:
    """Those of the names that are near to this one, the nearest first; three at most.

    ``likeness``: how near, from 0 to 1, as `difflib.SequenceMatcher.ratio` measures it.
    """
    by_key = {each.casefold(): each for each in names}
    keys = difflib.get_close_matches(name.casefold(), by_key, _MOST_NAMES, likeness)
    return [by_key[key] for key in keys]


def did_you_mean(names: Iterable[str]) -> str:
    """The question; nothing if there are none."""
    words = " or ".join(repr(one_line(name, _LONGEST)) for name in names)
    return f"Did you mean {words}?" if words else ""


def or_near(
    call: Call[T], name: str, read_names: Callable[[], Names]
) -> Generator[Call[Any], Any, T]:
    """Make the call; if it finds nothing, its error says which names are near to this one.

    Raises:
        ObjectNotFound: as the call does.
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


def or_none(names: Names) -> Names:
    """The names, or none if they cannot be read: they only help with an error that is there already."""
    try:
        return (yield from names)
    except (OrchnbError, httpx.HTTPError):
        return ()


def first_pages(read: Callable[[int], Steps[ModelList[M]]]) -> Generator[Call[Any], Any, list[M]]:
    """What a read gives on its first pages: all if there are not many. ``read`` takes an offset."""
    found: list[M] = []
    for _ in range(_MOST_PAGES):
        page: ModelList[M] = yield from read(len(found))
        if not page:
            break
        found += page
    return found
