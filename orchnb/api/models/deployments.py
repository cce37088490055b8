"""Deployments and their schedules."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from orchnb.api.models.base import LooseDict, Model, NullIsDefault, Time


class DeploymentSchedule(Model):
    """When a deployment makes runs by itself."""

    id: UUID
    deployment_id: UUID | None = None
    schedule: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    """``{"interval": seconds, ...}``, ``{"cron": "0 6 * * *", ...}`` or ``{"rrule": ...}``."""
    active: Annotated[bool, NullIsDefault] = True
    max_scheduled_runs: int | None = None
    parameters: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    """What its runs are given beside the deployment's own parameters."""
    slug: str | None = None
    created: Time | None = None
    updated: Time | None = None


class Deployment(Model):
    """A flow with all that is needed to run it somewhere else."""

    id: UUID
    flow_id: UUID
    name: str
    """Without the flow's."""
    created: Time | None = None
    updated: Time | None = None
    description: str | None = None
    version: str | None = None
    version_id: UUID | None = None
    version_info: LooseDict | None = None
    """Where the version comes from: its ``type``, and what that type knows, such as a commit."""
    status: str | None = None
    """``READY`` if something has asked for its runs of late, else ``NOT_READY``."""
    paused: Annotated[bool, NullIsDefault] = False
    schedules: Annotated[list[DeploymentSchedule], NullIsDefault] = Field(default_factory=list)
    parameters: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    """What its runs are given if they are not given something else."""
    parameter_openapi_schema: dict[str, Any] | None = None
    """Which parameters the flow takes."""
    enforce_parameter_schema: Annotated[bool, NullIsDefault] = True
    """Whether the server refuses parameters that the schema does not take."""
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    labels: dict[str, Any] | None = None
    work_pool_name: str | None = None
    work_queue_name: str | None = None
    work_queue_id: UUID | None = None
    job_variables: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    concurrency_limit: int | None = None
    concurrency_options: dict[str, Any] | None = None
    entrypoint: str | None = None
    path: str | None = None
    pull_steps: list[dict[str, Any]] | None = None
    storage_document_id: UUID | None = None
    """The block that says where the flow's code is, if one does."""
    infrastructure_document_id: UUID | None = None
    """The block that says where its runs run, if one does."""
    last_polled: Time | None = None
    created_by: LooseDict | None = None
    """Who made it: ``id``, ``type``, ``display_value``."""
    updated_by: LooseDict | None = None
    """Who changed it last, likewise."""
