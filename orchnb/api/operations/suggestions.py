"""Suggestions: names similar to one that was not found."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

import httpx

from orchnb.api.models.base import Model, ModelList
from orchnb.errors import ObjectNotFound, OrchnbError
from orchnb.http.calls import Call, Steps
from orchnb.text import one_line

T = TypeVar("T")
M = TypeVar("M", bound=Model)

Names = Generator[Call[Any], Any, Iterable[str]]

_MOST_PAGES = 3
_MOST_NAMES = 3
_LEAST_LIKENESS = 0.6
_LONGEST = 200


def near_names(name: str, names: Iterable[str], likeness: float = _LEAST_LIKENESS) -> list[str]:
    """Return at most three names that are similar to this one, the most similar first.

    ``likeness``: the least similarity, from 0 to 1, as measured by `difflib.SequenceMatcher.ratio`.
    """
    by_key = {each.casefold(): each for each in names}
    keys = difflib.get_close_matches(name.casefold(), by_key, _MOST_NAMES, likeness)
    return [by_key[key] for key in keys]


def did_you_mean(names: Iterable[str]) -> str:
    """Return the question; an empty string if there are no names."""
    words = " or ".join(repr(one_line(name, _LONGEST)) for name in names)
    return f"Did you mean {words}?" if words else ""


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


def or_none(names: Names) -> Names:
    """Return the names, or none if they cannot be read: they only add to an error already raised."""
    try:
        return (yield from names)
    except (OrchnbError, httpx.HTTPError):
        return ()


def callers_level() -> int:
    """Return the ``stacklevel`` with which a warning is shown at the line that called the client."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("orchnb."):
        level, frame = level + 1, frame.f_back
    return level


def first_pages(read: Callable[[int], Steps[ModelList[M]]]) -> Generator[Call[Any], Any, list[M]]:
    """Return the objects on the first pages of a read: all if there are few. ``read`` takes an offset."""
    found: list[M] = []
    for _ in range(_MOST_PAGES):
        page: ModelList[M] = yield from read(len(found))
        if not page:
            break
        found += page
    return found
