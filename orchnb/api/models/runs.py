"""Flows, their runs, and the states that runs are in."""

from __future__ import annotations

import enum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from orchnb.api.models.base import Model, NullIsDefault, Time


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
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
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
    parameters: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    idempotency_key: str | None = None
    deployment_id: UUID | None = None
    parent_task_run_id: UUID | None = None
    work_queue_name: str | None = None
    work_pool_name: str | None = None
    run_count: Annotated[int, NullIsDefault] = 0
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
