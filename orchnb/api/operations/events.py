"""Events: what happened to resources."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, as_dict, as_list
from orchnb.api.operations.filters import EventQuery, event_words, with_words
from orchnb.api.operations.payloads import without_none
from orchnb.api.operations.verbs import get, search
from orchnb.api.times import When, moment
from orchnb.http.calls import Call, nothing, path
from orchnb.http.response import PrefectResponse

if TYPE_CHECKING:
    from orchnb.api.models import EventCount, EventPage


_page = a(lambda: models.EventPage)

_LARGEST_PAGE = 50


@operation
def emit_event(
    event: str,
    resource: Mapping[str, str] | str,
    *,
    occurred: When | None = None,
    related: Iterable[Mapping[str, str]] | None = None,
    payload: Mapping[str, Any] | None = None,
    id: UUID | str | None = None,
    follows: UUID | str | None = None,
) -> Call[UUID]:
    """Emit an event about a resource; return the event's id.

    The server accepts it immediately and stores it a moment later.

    Args:
        event: what happened, such as ``model.trained``.
        resource: what it happened to: an id that you choose, such as ``lab.model.7``, or labels with
            the id as ``prefect.resource.id``.
        occurred: when, such as ``"5m"`` for five minutes ago; by default now.
        related: labels of other resources involved, each with ``prefect.resource.role``.
        payload: any other JSON-serializable data.
        id: two events with the same id are one. By default a new id, so that a request whose response
            is lost can be sent again without creating a second event.
        follows: the id of the event that this one follows.
    """
    event_id = UUID(str(id)) if id is not None else uuid.uuid4()
    labels = (
        {"prefect.resource.id": resource}
        if isinstance(resource, str)
        else as_dict(resource, "resource")
    )
    fields = without_none(
        id=str(event_id),
        event=event,
        occurred=moment("now" if occurred is None else occurred),
        resource=labels,
        related=[] if related is None else as_list(related, "related"),
        payload=as_dict(payload, "payload") or {},
        follows=None if follows is None else str(follows),
    )

    def read(response: PrefectResponse) -> UUID:
        nothing(response)
        return event_id

    # An event is identified by its id.
    return Call("POST", path("/events"), read, repeatable=True, json=[fields])


@operation
def read_events(
    filter: Filter | None = None, limit: int = 100, **query: Unpack[EventQuery]
) -> Call[EventPage]:
    """Read a page of events, the latest first; `read_events_page` reads the next one.

    Args:
        filter: the API's filter object, such as ``{"event": {"prefix": ["prefect.flow-run."]}}``.
        limit: events per page. Prefect's own server rejects limits above 50, so a larger limit is
            sent as 50.
        event: an event name, or a prefix followed by ``*``, such as ``"prefect.flow-run.*"``; or a
            list of either.
        resource_id: a resource that was involved, such as ``prefect.flow-run.<id>``; or several.
        since, until: when it happened. Without them the server looks at the last days only.

    Raises:
        ValueError: a keyword has an invalid value, or repeats a condition of the filter object.
    """
    return search(
        path("/events/filter"),
        _page,
        filter=with_words(filter, "filter", event_words(query)),
        limit=min(limit, _LARGEST_PAGE),
    )


@operation
def read_events_page(next_page_url: str) -> Call[EventPage]:
    """Read the next page of events, given the ``next_page`` URL of a page.

    Only the token in the URL is used; the request goes to the client's own API URL, whatever the
    server believes its own to be.

    Raises:
        ValueError: the URL does not belong to a page of events.
    """
    try:
        token = httpx.URL(str(next_page_url)).params.get("page-token", "")
    except httpx.InvalidURL:
        token = ""
    if not token:
        raise ValueError("next_page_url should be the next_page of a page of events")
    return get(path("/events/filter/next?page-token={}", token), _page)


@operation
def count_events(
    filter: Filter | None = None,
    countable: str = "day",
    *,
    time_unit: str = "day",
    time_interval: float = 1.0,
    **query: Unpack[EventQuery],
) -> Call[ModelList[EventCount]]:
    """Count events, grouped by day, time, event or resource; keywords as in `read_events`.

    Args:
        filter: the API's filter object.
        countable: ``day``, ``time``, ``event`` or ``resource``.
        time_unit: the unit of the intervals, for ``time``: ``week``, ``day``, ``hour``, ``minute`` or
            ``second``.
        time_interval: how many units make one interval.

    Raises:
        ValueError: a keyword has an invalid value, or repeats a condition of the filter object.
    """
    return search(
        path("/events/count-by/{}", countable),
        list_of(lambda: models.EventCount),
        filter=with_words(filter, "filter", event_words(query)) or {},
        time_unit=time_unit,
        time_interval=time_interval,
    )


class EventOperations:
    """Events: what happened to resources."""

    emit_event = emit_event
    read_events = read_events
    read_events_page = read_events_page
    count_events = count_events
