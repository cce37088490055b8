"""Work pools, their queues, and the workers that execute their runs."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Field

from orchnb.api.models.base import (
    LENIENT,
    Duration,
    EnumText,
    Model,
    NullIsDefault,
    Part,
    Time,
)
from orchnb.api.models.runs import FlowRun
from orchnb.api.models.states import AnyStateType


class WorkPoolStorage(Part):
    """The defaults for how a work pool's workers get flows, and where results are stored."""

    bundle_upload_step: dict[str, Any] | None = None
    bundle_execution_step: dict[str, Any] | None = None
    default_result_storage_block_id: UUID | None = None


class WorkPool(Model):
    """A pool in which runs wait for workers of one type."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "type", "status")

    id: UUID
    name: str
    type: str
    description: str | None = None
    created: Time | None = None
    updated: Time | None = None
    base_job_template: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    is_paused: Annotated[bool, NullIsDefault] = False
    concurrency_limit: int | None = None
    status: EnumText | None = None
    """``READY``, ``NOT_READY`` or ``PAUSED``."""
    default_queue_id: UUID | None = None
    active_slots: int | None = None
    storage_configuration: Annotated[WorkPoolStorage, LENIENT, NullIsDefault] = Field(
        default_factory=WorkPoolStorage
    )


class WorkQueueFilter(Part):
    """On older servers: which runs are in a work queue."""

    tags: list[str] | None = None
    deployment_ids: list[UUID] | None = None


class WorkQueue(Model):
    """A queue within a work pool; queues with a lower ``priority`` come first."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "work_pool_name", "status")

    id: UUID
    name: str
    description: str | None = None
    created: Time | None = None
    updated: Time | None = None
    is_paused: Annotated[bool, NullIsDefault] = False
    concurrency_limit: int | None = None
    priority: Annotated[int, NullIsDefault] = 1
    work_pool_id: UUID | None = None
    work_pool_name: str | None = None
    filter: Annotated[WorkQueueFilter | None, LENIENT] = None
    last_polled: Time | None = None
    status: EnumText | None = None
    """``READY``, ``NOT_READY`` or ``PAUSED``."""
    active_slots: int | None = None


class WorkQueueHealthPolicy(Part):
    """When a work queue counts as unhealthy."""

    maximum_late_runs: int | None = None
    maximum_seconds_since_last_polled: int | None = None


class WorkQueueStatusDetail(Model):
    """Whether a queue's runs start on time."""

    healthy: bool
    late_runs_count: Annotated[int, NullIsDefault] = 0
    last_polled: Time | None = None
    health_check_policy: Annotated[WorkQueueHealthPolicy, LENIENT, NullIsDefault] = Field(
        default_factory=WorkQueueHealthPolicy
    )


class FlowRunSlot(Part):
    """A flow run that holds a slot of a work queue."""

    id: UUID | None = None
    name: str | None = None
    state_type: AnyStateType | None = None
    state_name: str | None = None
    start_time: Time | None = None
    state_timestamp: Time | None = None
    time_in_current_state: Duration | None = None


class WorkQueueSlots(Part):
    """How many runs hold a work queue's slots, and which."""

    queue_id: UUID | None = None
    queue_name: str | None = None
    active_slots: Annotated[int, NullIsDefault] = 0
    concurrency_limit: int | None = None
    flow_runs: Annotated[list[FlowRunSlot], NullIsDefault] = Field(default_factory=list)
    flow_run_count: int | None = None


class WorkPoolConcurrencyStatus(Model):
    """How many runs hold a work pool's slots, by queue; one page of its queues."""

    active_slots: int
    concurrency_limit: int | None = None
    queues: Annotated[list[WorkQueueSlots], LENIENT, NullIsDefault] = Field(default_factory=list)
    count: int
    limit: int
    pages: int
    page: int


class WorkQueueConcurrencyStatus(Model):
    """The runs that hold a work queue's slots; one page of them."""

    active_slots: int
    concurrency_limit: int | None = None
    flow_runs: Annotated[list[FlowRunSlot], LENIENT, NullIsDefault] = Field(default_factory=list)
    count: int
    limit: int
    pages: int
    page: int


class Worker(Model):
    """A process that executes a work pool's runs, and when its last heartbeat was."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "status")

    id: UUID
    name: str
    created: Time | None = None
    updated: Time | None = None
    work_pool_id: UUID | None = None
    last_heartbeat_time: Time | None = None
    heartbeat_interval_seconds: float | None = None
    status: EnumText | None = None
    """``ONLINE`` or ``OFFLINE``."""


class WorkerFlowRun(Model):
    """A flow run that a worker can execute, and the pool and queue it is waiting in."""

    work_pool_id: UUID
    work_queue_id: UUID
    flow_run: FlowRun
