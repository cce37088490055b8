"""Work pools, their queues, and the workers that execute their runs."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from orchnb.api.models.base import LooseDict, Model, NullIsDefault, Time
from orchnb.api.models.runs import FlowRun


class WorkPool(Model):
    """A pool in which runs wait for workers of one type."""

    id: UUID
    name: str
    type: str
    description: str | None = None
    created: Time | None = None
    updated: Time | None = None
    base_job_template: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    is_paused: Annotated[bool, NullIsDefault] = False
    concurrency_limit: int | None = None
    status: str | None = None
    """``READY``, ``NOT_READY`` or ``PAUSED``."""
    default_queue_id: UUID | None = None
    active_slots: int | None = None
    storage_configuration: LooseDict | None = None
    """The defaults for how workers get flows and where results are stored."""


class WorkQueue(Model):
    """A queue within a work pool; queues with a lower ``priority`` come first."""

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
    filter: LooseDict | None = None
    """On older servers: which runs are in the queue, by ``tags`` and ``deployment_ids``."""
    last_polled: Time | None = None
    status: str | None = None
    """``READY``, ``NOT_READY`` or ``PAUSED``."""
    active_slots: int | None = None


class WorkQueueStatusDetail(Model):
    """Whether a queue's runs start on time."""

    healthy: bool
    late_runs_count: Annotated[int, NullIsDefault] = 0
    last_polled: Time | None = None
    health_check_policy: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)


class WorkPoolConcurrencyStatus(Model):
    """How many runs hold a work pool's slots, by queue; one page of its queues."""

    active_slots: int
    concurrency_limit: int | None = None
    queues: Annotated[list[dict[str, Any]], NullIsDefault] = Field(default_factory=list)
    count: int
    limit: int
    pages: int
    page: int


class WorkQueueConcurrencyStatus(Model):
    """The runs that hold a work queue's slots; one page of them."""

    active_slots: int
    concurrency_limit: int | None = None
    flow_runs: Annotated[list[dict[str, Any]], NullIsDefault] = Field(default_factory=list)
    count: int
    limit: int
    pages: int
    page: int


class Worker(Model):
    """A process that executes a work pool's runs, and when its last heartbeat was."""

    id: UUID
    name: str
    created: Time | None = None
    updated: Time | None = None
    work_pool_id: UUID | None = None
    last_heartbeat_time: Time | None = None
    heartbeat_interval_seconds: float | None = None
    status: str | None = None
    """``ONLINE`` or ``OFFLINE``."""


class WorkerFlowRun(Model):
    """A flow run that a worker can execute, and the pool and queue it is waiting in."""

    work_pool_id: UUID
    work_queue_id: UUID
    flow_run: FlowRun
