"""Concurrency limits."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import Field

from orchnb.api.models.base import Model, NullIsDefault, Time


class ConcurrencyLimit(Model):
    """The limit on concurrent task runs with a tag, and the runs that hold its slots."""

    id: UUID
    tag: str
    concurrency_limit: int
    created: Time | None = None
    updated: Time | None = None
    active_slots: Annotated[list[UUID], NullIsDefault] = Field(default_factory=list)
    """The ids of the task runs that hold a slot."""


class GlobalConcurrencyLimit(Model):
    """A named number of slots, and how many of them are taken."""

    id: UUID
    name: str
    limit: int
    created: Time | None = None
    updated: Time | None = None
    active: Annotated[bool, NullIsDefault] = True
    active_slots: Annotated[int, NullIsDefault] = 0
    slot_decay_per_second: Annotated[float, NullIsDefault] = 0.0


class TakenSlots(Model):
    """A limit whose slots were taken or released."""

    id: UUID
    name: str
    limit: int


class ConcurrencyLease(Model):
    """Slots that are taken for some time, and the id to renew or release them with."""

    lease_id: UUID
    limits: Annotated[list[TakenSlots], NullIsDefault] = Field(default_factory=list)
