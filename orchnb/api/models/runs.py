"""Flows, their runs, the runs of their tasks, and the states that runs are in."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from orchnb.api.models.base import LooseDict, Model, NullIsDefault, Time
from orchnb.http.response import one_line


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
    state_details: LooseDict | None = None
    """What else belongs to it: when a scheduled run is due, until when a paused one may be resumed."""
    data: Any = None
    """What the run came to, or where that is kept, as whoever ran it wrote it down."""


AnyState: TypeAlias = State | StateType | str | BaseModel
"""A state, its type such as ``"SCHEDULED"``, or a model of a state such as Prefect's ``State``."""


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
    parameters: Annotated[LooseDict, NullIsDefault] = Field(default_factory=dict)
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    labels: LooseDict | None = None
    context: LooseDict | None = None
    """What it was given beside its parameters."""
    idempotency_key: str | None = None
    state_id: UUID | None = None
    flow_version: str | None = None
    deployment_id: UUID | None = None
    deployment_version: str | None = None
    parent_task_run_id: UUID | None = None
    work_queue_id: UUID | None = None
    work_queue_name: str | None = None
    work_pool_id: UUID | None = None
    work_pool_name: str | None = None
    job_variables: LooseDict | None = None
    """What it is given for the place it runs in, instead of what the deployment says."""
    infrastructure_document_id: UUID | None = None
    """The block that says where it runs, if one does."""
    infrastructure_pid: str | None = None
    """What it is called where it runs: the id of a process, of a container, of a job."""
    empirical_policy: LooseDict | None = None
    """How often it may be tried again, and after which wait."""
    auto_scheduled: Annotated[bool, NullIsDefault] = False
    """Whether a schedule of its deployment made it."""
    created_by: LooseDict | None = None
    """Who made it: ``id``, ``type``, ``display_value``."""
    run_count: Annotated[int, NullIsDefault] = 0
    expected_start_time: Time | None = None
    next_scheduled_start_time: Time | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    total_run_time: float | None = None
    """Seconds that the run has been running."""
    estimated_run_time: float | None = None
    """Seconds; of a run that goes on, up to when the server was asked."""
    estimated_start_time_delta: float | None = None
    """Seconds by which it started late, or is late by now."""


class OrchestrationResult(Model):
    """What the server made of a state that it was asked to set."""

    status: str
    """``ACCEPT``, ``REJECT``, ``ABORT`` or ``WAIT``."""
    state: State | None = None
    details: dict[str, Any] | None = None


class FlowRunOrchestrationResult(OrchestrationResult):
    """What the server made of a state for one of many runs."""

    flow_run_id: UUID


class FlowRunOrchestrationResults(Model):
    """What the server made of a state for many runs."""

    results: list[FlowRunOrchestrationResult]


class FlowRunCreateResult(Model):
    """What became of one of many runs that the server was asked to create."""

    status: str
    """``CREATED`` or ``FAILED``."""
    flow_run_id: UUID | None = None
    error: str | None = None
    """Why it came to nothing: of what its database said, without the statement that failed."""
    full_error: str | None = Field(default=None, repr=False)
    """All that the server said, where ``error`` is less than that."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_the_statement(cls, data: Any) -> Any:
        error = data.get("error") if isinstance(data, Mapping) else None
        words, *statement = _STATEMENT.split(error, maxsplit=1) if isinstance(error, str) else ("",)
        if not statement:
            return data
        short = one_line(_DRIVERS_NAME.sub("", words, count=1))
        return {**data, "error": short, "full_error": error}


# What SQLAlchemy adds to the words of a database, and the driver's name for the error before them.
_STATEMENT = re.compile(r"\n(?:\[SQL: |\[parameters: |\(Background on this error at: )")
_DRIVERS_NAME = re.compile(r"\([\w.]+\) (?:<class '[\w.]+'>: )?")


class FlowRunCreateResults(Model):
    """What became of many runs that the server was asked to create."""

    results: list[FlowRunCreateResult]


class FlowRunInput(Model):
    """A value that was handed to a flow run while it ran."""

    id: UUID
    flow_run_id: UUID
    key: str
    value: str
    """As it was sent; Prefect sends JSON."""
    sender: str | None = None
    created: Time | None = None
    updated: Time | None = None


class FlowRunGraph(Model):
    """What a flow run consists of, for a drawing."""

    start_time: Time | None = None
    end_time: Time | None = None
    root_node_ids: Annotated[list[UUID], NullIsDefault] = Field(default_factory=list)
    nodes: Annotated[list[Any], NullIsDefault] = Field(default_factory=list)
    """Pairs of an id and what is known of the task run or flow run of that id."""
    artifacts: Annotated[list[Any], NullIsDefault] = Field(default_factory=list)
    states: Annotated[list[Any], NullIsDefault] = Field(default_factory=list)


class TaskRun(Model):
    """One run of a task."""

    id: UUID
    task_key: str
    """Which task it is a run of."""
    dynamic_key: str
    """Which of the task's runs within its flow run it is."""
    flow_run_id: UUID | None = None
    name: str | None = None
    created: Time | None = None
    updated: Time | None = None
    state: State | None = None
    state_type: AnyStateType | None = None
    state_name: str | None = None
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    task_inputs: Annotated[LooseDict, NullIsDefault] = Field(default_factory=dict)
    labels: LooseDict | None = None
    state_id: UUID | None = None
    task_version: str | None = None
    empirical_policy: LooseDict | None = None
    """How often it may be tried again, and after which wait."""
    cache_key: str | None = None
    cache_expiration: Time | None = None
    run_count: Annotated[int, NullIsDefault] = 0
    flow_run_run_count: Annotated[int, NullIsDefault] = 0
    """How often the flow run had been started when this was made."""
    expected_start_time: Time | None = None
    next_scheduled_start_time: Time | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    total_run_time: float | None = None
    """Seconds that the run has been running."""
    estimated_run_time: float | None = None
    """Seconds; of a run that goes on, up to when the server was asked."""
    estimated_start_time_delta: float | None = None
    """Seconds by which it started late, or is late by now."""


class RunHistoryState(Model):
    """How many runs were in a state, and for how long."""

    state_type: AnyStateType | None = None
    state_name: str | None = None
    count_runs: Annotated[int, NullIsDefault] = 0
    sum_estimated_run_time: float | None = None
    """Seconds."""
    sum_estimated_lateness: float | None = None
    """Seconds."""


class RunHistory(Model):
    """What runs did in an interval of time."""

    interval_start: Time
    interval_end: Time
    states: Annotated[list[RunHistoryState], NullIsDefault] = Field(default_factory=list)
