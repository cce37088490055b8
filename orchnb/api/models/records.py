"""Records that accompany runs: variables, logs, artifacts, events."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Annotated, Any, ClassVar, Protocol, overload
from uuid import UUID

from pydantic import AfterValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from orchnb.api.models.base import LENIENT, Model, ModelList, NullIsDefault, Time
from orchnb.text import one_line


class Variable(Model):
    """A named value that flows share."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "value")

    id: UUID
    name: str
    value: Any = None
    created: Time | None = None
    updated: Time | None = None
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)


class Log(Model):
    """A log line of a run or a worker."""

    named_by: ClassVar[tuple[str, ...]] = ("timestamp", "level", "message")

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

    named_by: ClassVar[tuple[str, ...]] = ("key", "type", "id")

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


class Resource(dict[str, Any]):
    """What an event is about: a dict of labels."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(cls, core_schema.dict_schema())

    @property
    def id(self) -> str:
        """The label ``prefect.resource.id``, such as ``prefect.flow-run.<id>``; empty if missing."""
        return str(self.get("prefect.resource.id", ""))

    @property
    def name(self) -> str | None:
        """The label ``prefect.resource.name``."""
        return self.get("prefect.resource.name")

    @property
    def labels(self) -> Mapping[str, Any]:
        """The labels."""
        return self

    def prefect_object_id(self, kind: str) -> UUID:
        """Return the id within the resource's id, if that is one of a ``kind`` such as
        ``prefect.flow-run``.

        Raises:
            ValueError: it is not.
        """
        prefix = f"{kind.removesuffix('.')}."
        if not self.id.startswith(prefix):
            raise ValueError(f"{one_line(self.id, 200)!r} does not begin with {prefix!r}")
        return UUID(self.id.removeprefix(prefix))


class RelatedResource(Resource):
    """Another resource that an event is about, and its role."""

    @property
    def role(self) -> str:
        """The label ``prefect.resource.role``; empty if missing."""
        return str(self.get("prefect.resource.role", ""))


class Event(Model):
    """Something that happened to a resource."""

    named_by: ClassVar[tuple[str, ...]] = ("event", "occurred", "id")

    id: UUID
    event: str
    """What happened, such as ``prefect.flow-run.Completed``."""
    occurred: Time
    received: Time | None = None
    resource: Annotated[Resource, LENIENT, NullIsDefault] = Field(default_factory=Resource)
    related: Annotated[list[RelatedResource], LENIENT, NullIsDefault] = Field(default_factory=list)
    payload: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    follows: UUID | None = None


def _event_list(events: list[Event]) -> list[Event]:
    return ModelList(events, model=Event)


class _AsyncReader(Protocol):
    async def read_events_page(self, next_page_url: str) -> EventPage: ...


class _SyncReader(Protocol):
    def read_events_page(self, next_page_url: str) -> EventPage: ...


class EventPage(Model):
    """A page of events, and where the next page is."""

    events: Annotated[list[Event], AfterValidator(_event_list)]
    total: int
    """The number of events on all pages."""
    next_page: str | None = None
    """For `read_events_page`; None on the last page."""

    @overload
    def get_next_page(self, client: _AsyncReader) -> Coroutine[Any, Any, EventPage | None]: ...
    @overload
    def get_next_page(self, client: _SyncReader) -> EventPage | None: ...
    def get_next_page(
        self, client: _AsyncReader | _SyncReader
    ) -> EventPage | Coroutine[Any, Any, EventPage | None] | None:
        """Read the next page with a client; None if this is the last one. With an async client the result
        must be awaited."""
        if self.next_page:
            return client.read_events_page(self.next_page)
        return _no_page() if getattr(client, "is_async", False) else None

    def get_next_page_sync(self, client: _SyncReader) -> EventPage | None:
        """Read the next page with a sync client; None if this is the last one."""
        return client.read_events_page(self.next_page) if self.next_page else None


async def _no_page() -> None:
    """Return no page."""


class EventCount(Model):
    """The number of events of one kind, or in one interval."""

    value: str
    label: str
    count: int
    start_time: Time
    end_time: Time
