"""What comes over the wire.

Fields that the API documents are typed, all others are kept as they came, so that a newer server
breaks nothing. Times are aware datetimes; one that names no zone is taken to be UTC.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticUseDefault


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


Time = Annotated[datetime, AfterValidator(_aware)]


def _default_for_null(value: object) -> object:
    if value is None:
        raise PydanticUseDefault
    return value


_NullIsDefault = BeforeValidator(_default_for_null)
"""Servers leave out what is empty, or send a null; it is the same."""


class Model(BaseModel):
    """The base of all: keeps fields that it does not know, as attributes."""

    model_config = ConfigDict(extra="allow")


class StateType(str, enum.Enum):
    """The types of state that the API documents."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    CRASHED = "CRASHED"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"

    def __str__(self) -> str:
        return self.value


AnyStateType = Annotated[StateType | str, Field(union_mode="left_to_right")]
"""A state's type; one that a newer server has brought stays a plain text."""


class State(Model):
    """What a run is doing, since when, and why."""

    type: AnyStateType
    name: str | None = None
    message: str | None = None
    timestamp: Time | None = None
    id: UUID | None = None


class Flow(Model):
    """A flow: the name that its runs go under."""

    id: UUID
    name: str
    created: Time | None = None
    updated: Time | None = None
    tags: Annotated[list[str], _NullIsDefault] = []
    labels: dict[str, Any] | None = None


class FlowRun(Model):
    """One run of a flow."""

    id: UUID
    flow_id: UUID
    name: str | None = None
    created: Time | None = None
    updated: Time | None = None
    state: State | None = None
    state_type: AnyStateType | None = None
    state_name: str | None = None
    parameters: Annotated[dict[str, Any], _NullIsDefault] = {}
    tags: Annotated[list[str], _NullIsDefault] = []
    idempotency_key: str | None = None
    deployment_id: UUID | None = None
    parent_task_run_id: UUID | None = None
    work_queue_name: str | None = None
    work_pool_name: str | None = None
    run_count: Annotated[int, _NullIsDefault] = 0
    expected_start_time: Time | None = None
    next_scheduled_start_time: Time | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    total_run_time: float | None = None
    """Seconds that the run has been running."""


class OrchestrationResult(Model):
    """What the server made of a state that it was asked to set."""

    status: str
    """``ACCEPT``, ``REJECT``, ``ABORT`` or ``WAIT``."""
    state: State | None = None
    details: dict[str, Any] | None = None


M = TypeVar("M", bound=Model)


class ModelList(list[M]):
    """A list of models of one kind; a list in every way, and a table where a notebook shows it."""

    def __init__(self, items: Iterable[M] = (), *, model: type[M] | None = None) -> None:
        super().__init__(items)
        self.model = model
