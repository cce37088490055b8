"""Limits to how much may run at once."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from orchnb.api.models.base import Model, NullIsDefault, Time


class ConcurrencyLimit(Model):
    """How many task runs with a tag may run at once, and which do."""

    id: UUID
    tag: str
    concurrency_limit: int
    created: Time | None = None
    updated: Time | None = None
    active_slots: Annotated[list[UUID], NullIsDefault] = Field(default_factory=list)
    """The ids of the task runs that take a slot each."""


class GlobalConcurrencyLimit(Model):
    """How many slots there are under a name, and how many are taken."""

    id: UUID
    name: str
    limit: int
    created: Time | None = None
    updated: Time | None = None
    active: Annotated[bool, NullIsDefault] = True
    active_slots: Annotated[int, NullIsDefault] = 0
    slot_decay_per_second: Annotated[float, NullIsDefault] = 0.0


class TakenSlots(Model):
    """A limit of which slots were taken or given back."""

    id: UUID
    name: str
    limit: int


class ConcurrencyLease(Model):
    """Slots that are taken for a time, and the id by which to keep them or give them back."""

    lease_id: UUID
    limits: Annotated[list[TakenSlots], NullIsDefault] = Field(default_factory=list)
