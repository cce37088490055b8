"""The states of runs, and the policies for their retries."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field

from orchnb.api.models.base import LENIENT, EnumText, Model, NullIsDefault, Part, Time


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


FINAL_STATES = frozenset(
    {StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED}
)
"""The types of state in which a run has ended."""

AnyStateType = Annotated[StateType | EnumText, Field(union_mode="left_to_right")]
"""A state's type; a type that is new in a newer server is a text that has ``value``, too."""


class StateDetails(Part):
    """More about a state: the run it belongs to, when a scheduled run is due, until when a paused run
    can be resumed."""

    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None
    child_flow_run_id: UUID | None = None
    scheduled_time: Time | None = None
    cache_key: str | None = None
    cache_expiration: Time | None = None
    deferred: bool | None = None
    untrackable_result: Annotated[bool, NullIsDefault] = False
    pause_timeout: Time | None = None
    pause_reschedule: Annotated[bool, NullIsDefault] = False
    pause_key: str | None = None
    run_input_keyset: dict[str, str] | None = None
    refresh_cache: bool | None = None
    retriable: bool | None = None
    transition_id: UUID | None = None
    task_parameters_id: UUID | None = None
    traceparent: str | None = None
    deployment_concurrency_lease_id: UUID | None = None


class State(Model):
    """What a run is doing, since when, and why."""

    type: AnyStateType
    name: str | None = None
    message: str | None = None
    timestamp: Time | None = None
    id: UUID | None = None
    state_details: Annotated[StateDetails, LENIENT, NullIsDefault] = Field(
        default_factory=StateDetails
    )
    data: Any = None
    """The run's result, or where it is stored, as recorded by the process that executed the run."""

    if TYPE_CHECKING:  # a type can be given as plain text

        def __init__(
            self,
            *,
            type: StateType | str,
            name: str | None = None,
            message: str | None = None,
            timestamp: datetime | None = None,
            id: UUID | None = None,
            state_details: StateDetails | dict[str, Any] | None = None,
            data: Any = None,
        ) -> None: ...

    def is_scheduled(self) -> bool:
        """Return whether the run waits for its time."""
        return self.type == StateType.SCHEDULED

    def is_pending(self) -> bool:
        """Return whether the run is about to start."""
        return self.type == StateType.PENDING

    def is_running(self) -> bool:
        """Return whether the run is running."""
        return self.type == StateType.RUNNING

    def is_completed(self) -> bool:
        """Return whether the run has ended successfully."""
        return self.type == StateType.COMPLETED

    def is_failed(self) -> bool:
        """Return whether the run has failed."""
        return self.type == StateType.FAILED

    def is_crashed(self) -> bool:
        """Return whether the run's infrastructure has failed."""
        return self.type == StateType.CRASHED

    def is_cancelled(self) -> bool:
        """Return whether the run was cancelled and has ended."""
        return self.type == StateType.CANCELLED

    def is_cancelling(self) -> bool:
        """Return whether the run is being cancelled."""
        return self.type == StateType.CANCELLING

    def is_final(self) -> bool:
        """Return whether the run has ended, in whatever way."""
        return self.type in FINAL_STATES

    def is_paused(self) -> bool:
        """Return whether the run is paused."""
        return self.type == StateType.PAUSED


AnyState: TypeAlias = State | StateType | str | Mapping[str, Any] | BaseModel
"""A state, its type such as ``"SCHEDULED"``, the name of one of Prefect's states such as ``"Late"``, a
mapping of a state's fields, or a model of a state such as Prefect's ``State``."""


class FlowRunPolicy(Part):
    """How often a flow run can be retried, and after which delay."""

    max_retries: Annotated[int, NullIsDefault] = 0
    """Superseded by ``retries``."""
    retry_delay_seconds: Annotated[float, NullIsDefault] = 0.0
    """Superseded by ``retry_delay``."""
    retries: int | None = None
    retry_delay: int | None = None
    """Seconds."""
    pause_keys: Annotated[set[str], NullIsDefault] = Field(default_factory=set)
    """The pauses that the run has been through."""
    resuming: Annotated[bool, NullIsDefault] = False
    retry_type: str | None = None
    """``in_process`` or ``reschedule``."""


class TaskRunPolicy(Part):
    """How often a task run can be retried, and after which delay."""

    max_retries: Annotated[int, NullIsDefault] = 0
    """Superseded by ``retries``."""
    retry_delay_seconds: Annotated[float, NullIsDefault] = 0.0
    """Superseded by ``retry_delay``."""
    retries: int | None = None
    retry_delay: int | float | list[int | float] | None = None
    """Seconds: one delay, or one for each retry."""
    retry_jitter_factor: float | None = None
    """The fraction by which the delays vary at random."""
