"""The arguments of operations, and how they are sent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from uuid import UUID

from pydantic import BaseModel

from orchnb.api.models.base import Model

if TYPE_CHECKING:
    from orchnb.api.models import AnyState


Filter: TypeAlias = Mapping[str, Any] | BaseModel
"""One of the API's filter objects, as plain data or as a model such as Prefect's ``FlowFilter``."""


class HasName(Protocol):
    """Anything with a name, such as a Prefect flow function."""

    @property
    def name(self) -> Any: ...


class HasId(Protocol):
    """Anything with an id, such as a flow run of ours or of Prefect's."""

    @property
    def id(self) -> Any: ...


def as_uuid(value: object) -> UUID | None:
    """Return the value as a UUID if it is one, or the text of one; else None."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def as_word(value: object) -> str:
    """Return the value as a string. An enum member gives its value: the ``str`` of Prefect's enums
    includes the class."""
    return str(value.value) if isinstance(value, Enum) else str(value)


def strings(argument: str, values: Iterable[str]) -> list[str]:
    """Return the values of an argument as a list.

    Raises:
        TypeError: ``values`` is a string; each letter would become a value.
    """
    if isinstance(values, str):
        raise TypeError(f"{argument} should be a list of strings: [{values!r}]")
    return list(values)


def as_tags(tags: Iterable[str] | None) -> list[str] | None:
    """Return tags as a list; see `strings`."""
    return None if tags is None else strings("tags", tags)


def version_of(source: object) -> str | None:
    """Return the version of a Prefect flow or task; None for anything else."""
    version = getattr(source, "version", None)
    return version if isinstance(version, str) else None


def flow_policy(flow: object) -> dict[str, Any] | None:
    """Return the API's object for the retries of a Prefect flow; None for anything else."""
    retries, delay = _retries_of(flow)
    if retries is None:
        return None
    return {"retries": retries, "retry_delay": _whole(delay) if _is_number(delay) else 0}


def task_policy(task: object) -> dict[str, Any] | None:
    """Return the API's object for the retries of a Prefect task; None for anything else."""
    retries, delay = _retries_of(task)
    if retries is None:
        return None
    if isinstance(delay, (list, tuple)):
        delays = [each for each in delay if _is_number(each)]
        delay = delays if len(delays) == len(delay) else None
    elif not _is_number(delay):
        delay = None
    jitter = getattr(task, "retry_jitter_factor", None)
    policy = {"retries": retries, "retry_delay": delay}
    return {**policy, "retry_jitter_factor": jitter} if _is_number(jitter) else policy


def _retries_of(source: object) -> tuple[int | None, Any]:
    retries = getattr(source, "retries", None)
    known = isinstance(retries, int) and not isinstance(retries, bool)
    return (retries if known else None), getattr(source, "retry_delay_seconds", None)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(seconds: float) -> int:
    """Return a delay of a flow run, which the API takes in whole seconds only, rounded up."""
    return math.ceil(seconds)


def as_state(state: AnyState) -> dict[str, Any]:
    """Return a state in the API's form."""
    if isinstance(state, BaseModel):
        # The fields that a request for a state can have. The server sets the id and the times.
        fields = state.model_dump(
            mode="json",
            exclude_none=True,
            exclude_defaults=isinstance(state, Model),  # ours are the server's own defaults
            include={"type", "name", "message", "state_details"},
        )
        details = fields.pop("state_details", None) or {}
        if not isinstance(details, dict):
            raise TypeError(f"state_details should be a mapping, not {type(details).__name__}")
        # It identifies the request that set the state: the server would treat a second request with
        # the same id as a repetition.
        details.pop("transition_id", None)
        return {**fields, "state_details": details} if details else fields
    return {"type": as_word(state).upper()}
