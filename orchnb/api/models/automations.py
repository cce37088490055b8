"""Automations: actions that run when something happens."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from orchnb.api.models.base import Model, NullIsDefault, Time


class Automation(Model):
    """A trigger, and the actions that run when it fires."""

    id: UUID
    name: str
    description: Annotated[str, NullIsDefault] = ""
    enabled: Annotated[bool, NullIsDefault] = True
    created: Time | None = None
    updated: Time | None = None
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    trigger: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    actions: Annotated[list[dict[str, Any]], NullIsDefault] = Field(default_factory=list)
    actions_on_trigger: Annotated[list[dict[str, Any]], NullIsDefault] = Field(default_factory=list)
    actions_on_resolve: Annotated[list[dict[str, Any]], NullIsDefault] = Field(default_factory=list)
