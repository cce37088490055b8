"""Keywords in place of the API's filter objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from pydantic import BaseModel

from orchnb.api import models
from orchnb.api.operations.coercion import (
    STATE_NAMES,
    Filter,
    HasId,
    as_id,
    as_list,
    as_tags,
    as_word,
)
from orchnb.api.operations.payloads import without_none
from orchnb.api.times import When, moment
from orchnb.text import did_you_mean, near_names, one_line


class NamedWords(TypedDict, total=False):
    """Keywords for objects with a name and tags."""

    name_like: str | None
    tags: Iterable[str] | None


class PeriodWords(TypedDict, total=False):
    """Keywords for a period of time."""

    since: When | None
    until: When | None


class RunWords(NamedWords, PeriodWords, total=False):
    """Keywords for flow runs and task runs."""

    state: str | Iterable[str] | None


class EventQuery(PeriodWords, total=False):
    """Keywords of a query for events."""

    event: str | Iterable[str] | None
    resource_id: str | Iterable[str] | None


def with_words(filter: Filter | None, name: str, words: Mapping[str, Any]) -> Filter | None:
    """Return the filter object extended by the conditions of keywords; None if there are neither.

    ``name`` is the name of the caller's filter argument. Keywords that are None were not given.

    Raises:
        ValueError: a keyword repeats a condition of the filter object.
    """
    said = {field: value for field, value in words.items() if value is not None}
    if not said:
        return filter
    given = _conditions_of(filter)
    twice = sorted(said.keys() & given.keys())
    if twice:
        raise ValueError(f"{', '.join(twice)} is given twice: as a keyword, and in {name}")
    return {**given, **said}


def run_words(query: RunWords) -> dict[str, Any]:
    """Return the parts of a filter object for the keywords of flow runs or task runs.

    ``since`` and ``until`` bound the expected start time. ``state`` is a type or a name; case does not
    matter.

    Raises:
        ValueError: ``state`` mixes types and names, or looks like a misspelled name of one of Prefect's
            states; or ``since`` is later than ``until``.
    """
    state = query.get("state")
    after, before = _bounds(query)
    return {
        "state": None if state is None else _state_condition(state),
        **named_words(query),
        "expected_start_time": without_none(after_=after, before_=before) or None,
    }


def named_words(query: NamedWords) -> dict[str, Any]:
    """Return the parts of a filter object for the keywords of objects with a name and tags.

    ``name_like`` is part of the name; case does not matter. Objects must have all of ``tags``.
    """
    name_like, tags = query.get("name_like"), query.get("tags")
    return {
        "name": None if name_like is None else {"like_": name_like},
        "tags": None if tags is None else {"all_": as_tags(tags)},
    }


def event_words(query: EventQuery) -> dict[str, Any]:
    """Return the parts of a filter object for the keywords of events.

    ``event`` is a name, or a prefix followed by ``*``; ``resource_id`` is a resource that was involved.

    Raises:
        ValueError: ``event`` mixes names and prefixes; or ``since`` is later than ``until``.
    """
    event, resource_id = query.get("event"), query.get("resource_id")
    since, until = _bounds(query)
    return {
        "event": None if event is None else _event_names(event),
        "any_resource": None if resource_id is None else {"id": several(resource_id)},
        "occurred": without_none(since=since, until=until) or None,
    }


def _event_names(event: str | Iterable[str]) -> dict[str, Any]:
    names = several(event)
    beginnings = [each.removesuffix("*") for each in names if each.endswith("*")]
    if beginnings and len(beginnings) != len(names):
        raise ValueError("event mixes names and prefixes with a *; give only one kind")
    return {"prefix": beginnings} if beginnings else {"name": names}


def several(words: str | Iterable[str]) -> list[str]:
    """Return one word or several as a list."""
    return [words] if isinstance(words, str) else as_list(words, "a condition")


def any_of(wanted: UUID | str | Iterable[str] | None) -> dict[str, Any] | None:
    """Return the condition for this value, or one of these; None sets no condition."""
    if wanted is None:
        return None
    if isinstance(wanted, (str, UUID)):
        return {"any_": [as_word(wanted)]}
    return {"any_": as_list(wanted, "a condition")}


def identified(id: UUID | str | HasId | None, name: str) -> dict[str, Any] | None:
    """Return the condition for this id; None sets no condition. ``name`` is the argument's.

    Raises:
        ValueError: it is not an id.
    """
    return None if id is None else any_of(as_id(id, name))


def _state_name(name: str) -> str:
    by_key = {known.casefold(): known for known in STATE_NAMES}
    known = by_key.get(name.casefold())
    if known is not None:
        return known
    near = near_names(name, STATE_NAMES, likeness=0.75)
    if near:
        raise ValueError(
            f"state: {one_line(name, 80)!r} is not one of Prefect's states, but is close to one. "
            f"{did_you_mean(near)} If your flows use this state name, use a filter object: "
            "{'state': {'name': {'any_': [...]}}}"
        )
    return name


def _state_condition(state: Any) -> dict[str, Any]:
    one = isinstance(state, (str, Mapping, BaseModel))
    wanted = [_word_of_state(each) for each in ([state] if one else as_list(state, "state"))]
    known = {kind.value for kind in models.StateType}
    types = [each.upper() for each in wanted if each.upper() in known]
    if len(types) == len(wanted):
        return {"type": {"any_": types}}
    if types:
        names = [_state_name(each) for each in wanted if each.upper() not in known]
        raise ValueError(
            f"state mixes types ({', '.join(types)}) and names ({', '.join(names)}); give only one "
            "kind"
        )
    return {"name": {"any_": [_state_name(each) for each in wanted]}}


def _word_of_state(state: Any) -> str:
    """Return the name of a state, or its type if it has no name or one that says the same."""
    if isinstance(state, str):
        return as_word(state)
    fields = state if isinstance(state, Mapping) else vars(state)
    word = fields.get("name") or fields.get("type")
    if word is None:
        raise TypeError(f"state should be a type, a name or a state, not {type(state).__name__}")
    return as_word(word)


def _bounds(query: PeriodWords) -> tuple[datetime | None, datetime | None]:
    since, until = query.get("since"), query.get("until")
    after = None if since is None else moment(since)
    before = None if until is None else moment(until)
    if after is not None and before is not None and after > before:
        raise ValueError("since is later than until, so nothing can match")
    return after, before


def _conditions_of(filter: Filter | None) -> dict[str, Any]:
    if isinstance(filter, BaseModel):
        return filter.model_dump(mode="json", exclude_none=True)
    return dict(filter or {})
