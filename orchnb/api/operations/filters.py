"""Plain keywords for the API's filter objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from orchnb.api import models
from orchnb.api.calls import without_none
from orchnb.api.operations.arguments import Filter, as_tags, as_word
from orchnb.api.operations.near_names import did_you_mean, near_names
from orchnb.api.times import When, moment
from orchnb.http.response import one_line


def with_words(filter: Filter | None, name: str, words: Mapping[str, Any]) -> Filter | None:
    """The filter object with what was said in plain keywords; None if there is neither.

    ``name`` is what the caller knows the filter object by. Keywords that are None were not given.

    Raises:
        ValueError: the same is said by a keyword and by the filter object.
    """
    said = {field: value for field, value in words.items() if value is not None}
    if not said:
        return filter
    given = _plain(filter)
    twice = sorted(said.keys() & given.keys())
    if twice:
        raise ValueError(f"{', '.join(twice)} is given twice: as a keyword, and in {name}")
    return {**given, **said}


def run_words(
    *,
    state: str | Iterable[str] | None = None,
    name_like: str | None = None,
    since: When | None = None,
    until: When | None = None,
    tags: Iterable[str] | None = None,
) -> dict[str, Any]:
    """What keywords say of flow runs or task runs, as the parts of a filter object.

    ``since`` and ``until`` are about when a run was, or is, to start. ``state`` is a type or a name, in
    capitals or not.

    Raises:
        ValueError: ``state`` holds types and names, or nearly the name of one of Prefect's states, which
            no run has; or ``since`` is later than ``until``.
    """
    return {
        "state": None if state is None else _states(state),
        **named_words(name_like=name_like, tags=tags),
        "expected_start_time": _period(since, until),
    }


def named_words(
    *, name_like: str | None = None, tags: Iterable[str] | None = None
) -> dict[str, Any]:
    """What keywords say of anything with a name and tags, as the parts of a filter object.

    ``name_like`` is a part of the name, in capitals or not; ``tags`` are those that it must all have.
    """
    return {
        "name": None if name_like is None else {"like_": name_like},
        "tags": None if tags is None else {"all_": as_tags(tags)},
    }


def event_words(
    *,
    event: str | Iterable[str] | None = None,
    resource_id: str | Iterable[str] | None = None,
    since: When | None = None,
    until: When | None = None,
) -> dict[str, Any]:
    """What keywords say of events, as the parts of a filter object.

    ``event`` is what happened, by its name, or by how that begins with a ``*`` at its end;
    ``resource_id`` what had a part in it.

    Raises:
        ValueError: ``event`` holds names and beginnings; or ``since`` is later than ``until``.
    """
    occurred = _bounds(since, until)
    return {
        "event": None if event is None else _event_names(event),
        "any_resource": None if resource_id is None else {"id": several(resource_id)},
        "occurred": without_none(since=occurred[0], until=occurred[1]) or None,
    }


def _event_names(event: str | Iterable[str]) -> dict[str, Any]:
    names = several(event)
    beginnings = [each.removesuffix("*") for each in names if each.endswith("*")]
    if beginnings and len(beginnings) != len(names):
        raise ValueError("event holds names and beginnings with a *; ask for the one or the other")
    return {"prefix": beginnings} if beginnings else {"name": names}


def several(words: str | Iterable[str]) -> list[str]:
    """One word or more as a list."""
    return [words] if isinstance(words, str) else list(words)


def called(name: str | None) -> dict[str, Any]:
    """What says that something has just this name."""
    return {"name": any_of(name)}


def identified(id: UUID | str | None) -> dict[str, Any]:
    """What says that something has this id."""
    return {"id": any_of(id)}


def any_of(wanted: UUID | str | Iterable[str] | None) -> dict[str, Any] | None:
    """What says that something is this, or one of these; None says nothing."""
    if wanted is None:
        return None
    return {"any_": [as_word(wanted)] if isinstance(wanted, (str, UUID)) else list(wanted)}


_STATE_NAMES = (
    *("Scheduled", "Late", "AwaitingRetry", "AwaitingConcurrencySlot", "Resuming", "Pending"),
    *("Submitting", "InfrastructurePending", "Running", "Retrying", "Completed", "Cached"),
    *(
        "RolledBack",
        "Failed",
        "TimedOut",
        "Crashed",
        "Cancelled",
        "Cancelling",
        "Paused",
        "Suspended",
    ),
)
"""What Prefect calls its states; a flow may call its own as it likes."""


def _state_name(name: str) -> str:
    by_key = {known.casefold(): known for known in _STATE_NAMES}
    known = by_key.get(name.casefold())
    if known is not None:
        return known
    near = near_names(name, _STATE_NAMES, likeness=0.75)
    if near:
        raise ValueError(
            f"state: {one_line(name, 80)!r} is no state of Prefect's, but nearly one. "
            f"{did_you_mean(near)} If your flows do give states this name, ask with a filter "
            "object: {'state': {'name': {'any_': [...]}}}"
        )
    return name


def _states(state: str | Iterable[str]) -> dict[str, Any]:
    wanted = [as_word(each) for each in several(state)]
    known = {kind.value for kind in models.StateType}
    types = [each.upper() for each in wanted if each.upper() in known]
    if len(types) == len(wanted):
        return {"type": {"any_": types}}
    if types:
        names = [_state_name(each) for each in wanted if each.upper() not in known]
        raise ValueError(
            f"state holds types ({', '.join(types)}) and names ({', '.join(names)}); ask for the one or "
            "the other"
        )
    return {"name": {"any_": [_state_name(each) for each in wanted]}}


def _period(since: When | None, until: When | None) -> dict[str, Any] | None:
    after, before = _bounds(since, until)
    return without_none(after_=after, before_=before) or None


def _bounds(since: When | None, until: When | None) -> tuple[datetime | None, datetime | None]:
    after = None if since is None else moment(since)
    before = None if until is None else moment(until)
    if after is not None and before is not None and after > before:
        raise ValueError("since is later than until: nothing can be in between")
    return after, before


def _plain(filter: Filter | None) -> dict[str, Any]:
    if isinstance(filter, BaseModel):
        return filter.model_dump(mode="json", exclude_none=True)
    return dict(filter or {})
