"""The arguments of operations, and how they are sent."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Iterable, Mapping
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from uuid import UUID

from pydantic import BaseModel

from orchnb.api import models
from orchnb.api.models.base import Model
from orchnb.api.times import to_come
from orchnb.text import did_you_mean, near_names, one_line

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


_FINDERS = {
    "artifact": "read_artifacts(key={})",
    "automation": "read_automations_by_name({})",
    "block_document": "read_block_documents(name_like={})",
    "block_type": "read_block_type_by_slug({})",
    "deployment": "read_deployments(name_like={})",
    "flow": "read_flow_by_name({})",
    "flow_run": "read_flow_runs(name_like={})",
    "task_run": "read_task_runs(name_like={})",
    "work_queue": "read_work_queues(work_queue_filter={{'name': {{'any_': [{}]}}}})",
}
"""How to find an object by its name, by the kind of object."""


def as_id(value: object, name: str) -> str:
    """Return an id as text; an object's own id if it has one. ``name`` is the argument's.

    Raises:
        ValueError: it is not a UUID; the message says how to find an object by its name.
    """
    found = as_uuid(value) or as_uuid(getattr(value, "id", None))
    if found is not None:
        return str(found)
    if value == "":
        return ""  # `path` refuses it
    if isinstance(value, Awaitable):
        raise ValueError(
            f"{name} should be an id (a UUID), not {type(value).__name__}; await it first"
        )
    kind = name.removesuffix("_id")
    shown = repr(one_line(str(value), 80))
    words = f"{name} should be an id (a UUID), and {shown} is not one"
    if isinstance(value, str) and kind in _FINDERS:
        article = "an" if kind[0] in "aeiou" else "a"
        find = _FINDERS[kind].format(shown)
        words += f". To find {article} {kind.replace('_', ' ')} by its name: client.{find}"
    raise ValueError(words)


def as_word(value: object) -> str:
    """Return the value as a string. An enum member gives its value: the ``str`` of Prefect's enums
    includes the class."""
    return str(value.value) if isinstance(value, Enum) else str(value)


def as_tags(tags: Iterable[str] | None) -> list[str] | None:
    """Return tags as a list; see `as_list`."""
    return None if tags is None else as_list(tags, "tags")


_NOT_LISTS: tuple[type, ...] = (Mapping, BaseModel)


def as_list(values: Any, name: str) -> list[Any]:
    """Return the items of any iterable.

    Raises:
        TypeError: it is a string, whose letters would become the items, or not iterable.
    """
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{name} should be a list of strings: [{values!r}]")
    is_table = hasattr(values, "columns") and hasattr(values, "shape")
    if not isinstance(values, Iterable) or isinstance(values, _NOT_LISTS) or is_table:
        raise TypeError(f"{name} should be a list, not {type(values).__name__}")
    return list(values)


def as_dict(values: Any, name: str) -> dict[str, Any] | None:
    """Return a mapping, a model, a dataclass, or pairs of names and values as a dict; None for None.

    Raises:
        TypeError: it is something else.
    """
    if values is None:
        return None
    if isinstance(values, BaseModel):  # its values may be secrets, which its JSON would mask
        return {key: getattr(values, key) for key in type(values).model_fields}
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    try:
        return dict(values)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name} should be a mapping of names to values, not {type(values).__name__}")


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


_STATE_FIELDS = ("type", "name", "message", "data", "state_details")
_SET_BY_THE_SERVER = frozenset({"id", "timestamp", "created", "updated"})

STATE_NAMES = {
    name: kind
    for kind, names in {
        "SCHEDULED": "Scheduled Late AwaitingRetry AwaitingConcurrencySlot Resuming",
        "PENDING": "Pending Submitting InfrastructurePending",
        "RUNNING": "Running Retrying",
        "COMPLETED": "Completed Cached RolledBack",
        "FAILED": "Failed TimedOut",
        "CRASHED": "Crashed",
        "CANCELLED": "Cancelled",
        "CANCELLING": "Cancelling",
        "PAUSED": "Paused Suspended",
    }.items()
    for name in names.split()
}
"""The names of Prefect's own states, with their types; a flow can give its states any name."""


def as_state(state: AnyState) -> dict[str, Any]:
    """Return a state in the API's form: from a state, its type or its name, or a mapping of its fields.

    Raises:
        TypeError: it is something else.
        ValueError: a mapping has an unknown field or no type, or a text looks like a misspelled type.
    """
    if isinstance(state, BaseModel):
        fields = _fields_of_a_state(state)
    elif isinstance(state, Mapping):
        fields = {key: value for key, value in state.items() if key not in _SET_BY_THE_SERVER}
        unknown = sorted(str(key) for key in fields if key not in _STATE_FIELDS)
        if unknown:
            raise ValueError(
                f"A state has no {' and no '.join(one_line(name, 80) for name in unknown)}; it has "
                f"{', '.join(_STATE_FIELDS)}"
            )
    elif isinstance(state, str):  # enums are too
        return _state_of_a_word(as_word(state))
    else:
        raise TypeError(
            'state should be a type such as "COMPLETED", a state, or a mapping such as '
            f'{{"type": "FAILED", "message": "..."}}, not {type(state).__name__}'
        )
    fields = {key: value for key, value in fields.items() if value is not None}
    if "type" not in fields:
        known = _known_state(as_word(fields.get("name", "")))
        if known is None:
            raise ValueError('A state needs a type: {"type": "SCHEDULED", "name": "Late"}')
        fields["type"] = STATE_NAMES[known]
    fields["type"] = _state_of_a_word(as_word(fields["type"]))["type"]
    details = _state_details(fields.pop("state_details", None))
    return {**fields, "state_details": details} if details else fields


def _fields_of_a_state(state: BaseModel) -> dict[str, Any]:
    if not hasattr(state, "type"):
        raise TypeError(f"state should be a state, not {type(state).__name__}")
    fields = {name: getattr(state, name, None) for name in _STATE_FIELDS}
    if not isinstance(state, models.State):
        # Prefect's states can hold a run's result there; only its description is for the server.
        data: Any = fields["data"]
        if hasattr(data, "metadata"):
            data = data.metadata if getattr(data, "is_persisted", True) else None
        fields["data"] = data if isinstance(data, BaseModel) else None
    return fields


def _state_details(given: Any) -> dict[str, Any]:
    if isinstance(given, BaseModel):
        # The defaults of our models are the server's own.
        given = given.model_dump(exclude_none=True, exclude_defaults=isinstance(given, Model))
    details = as_dict(given, "state_details") or {}
    # It identifies the request that set the state: the server would treat a second request with the
    # same id as a repetition.
    details.pop("transition_id", None)
    for name in ("scheduled_time", "pause_timeout"):
        if isinstance(details.get(name), (str, timedelta)):
            details[name] = to_come(details[name])
    return details


def _state_of_a_word(word: str) -> dict[str, Any]:
    """Return the state for a type or the name of one of Prefect's states, in any case."""
    if word.upper() in models.StateType.__members__:
        return {"type": word.upper()}
    known = _known_state(word)
    if known is not None:
        return {"type": STATE_NAMES[known], "name": known}
    near = near_names(word, [*STATE_NAMES, *models.StateType.__members__], likeness=0.8)
    if near or not word.isidentifier():
        question = did_you_mean(near) or f"The types are {', '.join(models.StateType.__members__)}."
        raise ValueError(
            f"state: {one_line(word, 80)!r} is neither a state's type nor the name of one of Prefect's "
            f"states. {question}"
        )
    return {"type": word.upper()}  # a newer server may have more


def _known_state(name: str) -> str | None:
    return next((known for known in STATE_NAMES if known.casefold() == name.casefold()), None)
