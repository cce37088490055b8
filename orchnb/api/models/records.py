"""Records that accompany runs: variables, logs, artifacts, events."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, Field

from orchnb.api.models.base import Model, ModelList, NullIsDefault, Time


class Variable(Model):
    """A named value that flows share."""

    id: UUID
    name: str
    value: Any = None
    created: Time | None = None
    updated: Time | None = None
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)


class Log(Model):
    """A log line of a run or a worker."""

    id: UUID | None = None
    name: str
    level: int
    """As in Python's ``logging``: 20 is INFO, 40 ERROR."""
    message: str
    timestamp: Time
    created: Time | None = None
    updated: Time | None = None
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


class Artifact(Model):
    """A result that a run created for people to look at: a table, a text in Markdown, a link."""

    id: UUID
    key: str | None = None
    type: str | None = None
    description: str | None = None
    data: Any = None
    metadata_: dict[str, Any] | None = None
    created: Time | None = None
    updated: Time | None = None
    flow_run_id: UUID | None = None
    task_run_id: UUID | None = None


class ArtifactCollection(Artifact):
    """All artifacts with one key, represented by the latest, whose id is ``latest_id``."""

    key: str
    latest_id: UUID


class Event(Model):
    """Something that happened to a resource."""

    id: UUID
    event: str
    """What happened, such as ``prefect.flow-run.Completed``."""
    occurred: Time
    received: Time | None = None
    resource: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    related: Annotated[list[dict[str, Any]], NullIsDefault] = Field(default_factory=list)
    payload: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    follows: UUID | None = None


def _event_list(events: list[Event]) -> list[Event]:
    return ModelList(events, model=Event)


class EventPage(Model):
    """A page of events, and where the next page is."""

    events: Annotated[list[Event], AfterValidator(_event_list)]
    total: int
    """The number of events on all pages."""
    next_page: str | None = None
    """For `read_events_page`; None on the last page."""


class EventCount(Model):
    """The number of events of one kind, or in one interval."""

    value: str
    label: str
    count: int
    start_time: Time
    end_time: Time
