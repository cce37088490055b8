"""What operations are given, and what of that is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias
from uuid import UUID

from pydantic import BaseModel

if TYPE_CHECKING:
    from orchnb.api.models import AnyState


Filter: TypeAlias = Mapping[str, Any] | BaseModel
"""One of the API's filter objects, as plain data or as a model such as Prefect's ``FlowFilter``."""


class HasName(Protocol):
    """Anything with a name, such as a Prefect flow function."""

    @property
    def name(self) -> Any: ...


def as_uuid(value: object) -> UUID | None:
    """The value if it is an id, also as a text; else None."""
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


def as_word(value: object) -> str:
    """The value as a text: an enum's member by its value, as Prefect's write their class into a text."""
    return str(value.value) if isinstance(value, Enum) else str(value)


def as_tags(tags: Iterable[str] | None) -> list[str] | None:
    """Tags as a list.

    Raises:
        TypeError: it is one text, of which each letter would become a tag.
    """
    if isinstance(tags, str):
        raise TypeError(f"tags should be a list of texts: [{tags!r}]")
    return None if tags is None else list(tags)


def as_state(state: AnyState) -> dict[str, Any]:
    """A state as the API takes it."""
    if isinstance(state, BaseModel):
        # What a state is asked for by; id and times of one that was read are the server's to give.
        wanted = {"type", "name", "message", "state_details"}
        fields = state.model_dump(mode="json", exclude_none=True, include=wanted)
        # It says which request set the state: the server takes a second one for the same one again.
        fields.get("state_details", {}).pop("transition_id", None)
        return fields
    return {"type": as_word(state).upper()}
