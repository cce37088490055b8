"""Who created or updated an object."""

from __future__ import annotations

from uuid import UUID

from orchnb.api.models.base import Part


class CreatedBy(Part):
    """Who created an object: a deployment, an automation, a schedule."""

    id: UUID | None = None
    type: str | None = None
    display_value: str | None = None
    """Its name."""


class UpdatedBy(CreatedBy):
    """Who updated an object last."""
