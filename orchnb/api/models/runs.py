"""Flows, flow runs, and task runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Field, model_validator

from orchnb.api.models.base import (
    LENIENT,
    Duration,
    EnumText,
    LooseDict,
    Model,
    NullIsDefault,
    Part,
    Time,
)
from orchnb.api.models.creators import CreatedBy
from orchnb.api.models.states import AnyStateType, FlowRunPolicy, State, TaskRunPolicy
from orchnb.text import one_line


class Flow(Model):
    """A flow: the name that its runs share."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "id")

    id: UUID
    name: str
    created: Time | None = None
    updated: Time | None = None
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    labels: dict[str, Any] | None = None


class FlowRun(Model):
    """One run of a flow."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "state_name", "id")

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
    """Data passed to the run in addition to its parameters."""
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
    """Overrides of the deployment's job variables, which configure the run's infrastructure."""
    infrastructure_document_id: UUID | None = None
    """The block that says where it executes, if any."""
    infrastructure_pid: str | None = None
    """Its id on its infrastructure: of a process, a container, or a job."""
    empirical_policy: Annotated[FlowRunPolicy, LENIENT, NullIsDefault] = Field(
        default_factory=FlowRunPolicy
    )
    auto_scheduled: Annotated[bool, NullIsDefault] = False
    """Whether a schedule of its deployment created it."""
    created_by: Annotated[CreatedBy | None, LENIENT] = None
    run_count: Annotated[int, NullIsDefault] = 0
    expected_start_time: Time | None = None
    next_scheduled_start_time: Time | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    total_run_time: Annotated[Duration, NullIsDefault] = timedelta(0)
    """How long the run has been running."""
    estimated_run_time: Annotated[Duration, NullIsDefault] = timedelta(0)
    """The same; for a run in progress, up to the time of the request."""
    estimated_start_time_delta: Annotated[Duration, NullIsDefault] = timedelta(0)
    """How late it started, or is by now."""


class OrchestrationDetails(Part):
    """Why the server did not set a state, or when to ask again."""

    type: str | None = None
    """``accept_details``, ``reject_details``, ``abort_details`` or ``wait_details``."""
    reason: str | None = None
    delay_seconds: int | None = None


class OrchestrationResult(Model):
    """The server's response to a request to set a state."""

    status: EnumText
    """``ACCEPT``, ``REJECT``, ``ABORT`` or ``WAIT``."""
    state: State | None = None
    details: Annotated[OrchestrationDetails | None, LENIENT] = None


class FlowRunOrchestrationResult(OrchestrationResult):
    """The server's response for one of several runs whose state it was asked to set."""

    flow_run_id: UUID


class FlowRunOrchestrationResults(Model):
    """The server's responses for several runs whose state it was asked to set."""

    results: list[FlowRunOrchestrationResult]


class FlowRunCreateResult(Model):
    """The result for one of several runs that the server was asked to create."""

    status: EnumText
    """``CREATED`` or ``FAILED``."""
    flow_run_id: UUID | None = None
    error: str | None = None
    """Why it failed: the database's message without the failed statement."""
    full_error: str | None = Field(default=None, repr=False)
    """The server's whole message, if ``error`` is shorter."""

    @model_validator(mode="before")
    @classmethod
    def _leave_out_the_statement(cls, data: Any) -> Any:
        error = data.get("error") if isinstance(data, Mapping) else None
        words, *statement = _STATEMENT.split(error, maxsplit=1) if isinstance(error, str) else ("",)
        if not statement:
            return data
        short = one_line(_DRIVERS_NAME.sub("", words, count=1))
        return {**data, "error": short, "full_error": error}


# The text that SQLAlchemy adds to a database's message, and the driver's name of the error before it.
_STATEMENT = re.compile(r"\n(?:\[SQL: |\[parameters: |\(Background on this error at: )")
_DRIVERS_NAME = re.compile(r"\([\w.]+\) (?:<class '[\w.]+'>: )?")


class FlowRunCreateResults(Model):
    """The results for several runs that the server was asked to create."""

    results: list[FlowRunCreateResult]


class FlowRunInput(Model):
    """A value that was sent to a flow run while it ran."""

    id: UUID
    flow_run_id: UUID
    key: str
    value: str
    """As it was sent; Prefect sends JSON."""
    sender: str | None = None
    created: Time | None = None
    updated: Time | None = None


class FlowRunGraph(Model):
    """A flow run's task runs and subflow runs, as a graph."""

    start_time: Time | None = None
    end_time: Time | None = None
    root_node_ids: Annotated[list[UUID], NullIsDefault] = Field(default_factory=list)
    nodes: Annotated[list[Any], NullIsDefault] = Field(default_factory=list)
    """Pairs of an id and the details of the task run or flow run with that id."""
    artifacts: Annotated[list[Any], NullIsDefault] = Field(default_factory=list)
    states: Annotated[list[Any], NullIsDefault] = Field(default_factory=list)


class TaskRunInput(Part):
    """Where a task run's input comes from: a run, a parameter of the flow, or a constant."""

    input_type: str | None = None
    """``task_run``, ``flow_run``, ``parameter`` or ``constant``."""
    id: UUID | None = None
    """Of the run."""
    name: str | None = None
    """Of the parameter."""
    type: str | None = None
    """Of the constant."""


class TaskRun(Model):
    """One run of a task."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "state_name", "id")

    id: UUID
    task_key: str
    """Identifies the task."""
    dynamic_key: str
    """Identifies this run among the task's runs within the flow run."""
    flow_run_id: UUID | None = None
    name: str | None = None
    created: Time | None = None
    updated: Time | None = None
    state: State | None = None
    state_type: AnyStateType | None = None
    state_name: str | None = None
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    task_inputs: Annotated[dict[str, list[TaskRunInput]], LENIENT, NullIsDefault] = Field(
        default_factory=dict
    )
    labels: LooseDict | None = None
    state_id: UUID | None = None
    task_version: str | None = None
    empirical_policy: Annotated[TaskRunPolicy, LENIENT, NullIsDefault] = Field(
        default_factory=TaskRunPolicy
    )
    cache_key: str | None = None
    cache_expiration: Time | None = None
    run_count: Annotated[int, NullIsDefault] = 0
    flow_run_run_count: Annotated[int, NullIsDefault] = 0
    """How often the flow run had been started when this task run was created."""
    expected_start_time: Time | None = None
    next_scheduled_start_time: Time | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    total_run_time: Annotated[Duration, NullIsDefault] = timedelta(0)
    """How long the run has been running."""
    estimated_run_time: Annotated[Duration, NullIsDefault] = timedelta(0)
    """The same; for a run in progress, up to the time of the request."""
    estimated_start_time_delta: Annotated[Duration, NullIsDefault] = timedelta(0)
    """How late it started, or is by now."""


class RunHistoryState(Model):
    """How many runs were in a state, and for how long."""

    state_type: AnyStateType | None = None
    state_name: str | None = None
    count_runs: Annotated[int, NullIsDefault] = 0
    sum_estimated_run_time: Annotated[Duration, NullIsDefault] = timedelta(0)
    sum_estimated_lateness: Annotated[Duration, NullIsDefault] = timedelta(0)


class RunHistory(Model):
    """The number of runs by state in one time interval."""

    interval_start: Time
    interval_end: Time
    states: Annotated[list[RunHistoryState], NullIsDefault] = Field(default_factory=list)
