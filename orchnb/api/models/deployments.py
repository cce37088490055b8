"""Deployments and their schedules."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import Field

from orchnb.api.models.base import LENIENT, EnumText, Model, NullIsDefault, Part, Time
from orchnb.api.models.concurrency import GlobalConcurrencyLimit
from orchnb.api.models.creators import CreatedBy, UpdatedBy
from orchnb.api.models.schedules import AnySchedule, Schedule


class DeploymentSchedule(Model):
    """When a deployment creates runs automatically."""

    id: UUID
    deployment_id: UUID | None = None
    schedule: Annotated[AnySchedule, NullIsDefault] = Field(default_factory=Schedule)
    active: Annotated[bool, NullIsDefault] = True
    max_scheduled_runs: int | None = None
    parameters: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    """The parameters of its runs, in addition to the deployment's."""
    slug: str | None = None
    created: Time | None = None
    updated: Time | None = None


class VersionInfo(Part):
    """Where a deployment's version comes from, such as a commit; other fields depend on the type."""

    type: str | None = None
    version: str | None = None


class ConcurrencyOptions(Part):
    """What happens to a deployment's runs above its concurrency limit."""

    collision_strategy: EnumText | None = None
    """``ENQUEUE`` or ``CANCEL_NEW``."""
    grace_period_seconds: int | None = None
    """How long a run's infrastructure may take to start until its slot is given to another run."""


class Deployment(Model):
    """A flow with everything needed to run it elsewhere."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "status", "id")

    id: UUID
    flow_id: UUID
    name: str
    """The deployment's own name, without the flow's."""
    created: Time | None = None
    updated: Time | None = None
    description: str | None = None
    version: str | None = None
    version_id: UUID | None = None
    version_info: Annotated[VersionInfo | None, LENIENT] = None
    branch: str | None = None
    """``branch``, ``base`` and ``root`` are from Prefect Cloud."""
    base: UUID | None = None
    root: UUID | None = None
    status: EnumText | None = None
    """``READY`` if something has recently polled for its runs, else ``NOT_READY``."""
    paused: Annotated[bool, NullIsDefault] = False
    schedules: Annotated[list[DeploymentSchedule], NullIsDefault] = Field(default_factory=list)
    parameters: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    """The default parameters of its runs."""
    parameter_openapi_schema: dict[str, Any] | None = None
    """The flow's parameters, as a JSON Schema."""
    enforce_parameter_schema: Annotated[bool, NullIsDefault] = True
    """Whether the server rejects parameters that do not match the schema."""
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    labels: dict[str, Any] | None = None
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    work_queue_id: UUID | None = None
    job_variables: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    concurrency_limit: int | None = None
    """Superseded by ``global_concurrency_limit``."""
    global_concurrency_limit: Annotated[GlobalConcurrencyLimit | None, LENIENT] = None
    """The limit on concurrent runs of the deployment."""
    concurrency_options: Annotated[ConcurrencyOptions | None, LENIENT] = None
    entrypoint: str | None = None
    path: str | None = None
    pull_steps: list[dict[str, Any]] | None = None
    storage_document_id: UUID | None = None
    """The block that says where the flow's code is, if any."""
    infrastructure_document_id: UUID | None = None
    """The block that says where its runs execute, if any."""
    last_polled: Time | None = None
    created_by: Annotated[CreatedBy | None, LENIENT] = None
    updated_by: Annotated[UpdatedBy | None, LENIENT] = None
