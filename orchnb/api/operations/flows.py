"""Flows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation, warn_caller
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, HasName, as_dict, as_id, as_tags, as_uuid
from orchnb.api.operations.filters import NamedWords, named_words
from orchnb.api.operations.payloads import quoted, with_id, without_none
from orchnb.api.operations.queries import RelatedFilters, filters_of, warn_ignored
from orchnb.api.operations.suggestions import Names, first_pages, or_near, or_none
from orchnb.api.operations.verbs import change, count, delete, delete_matching, get, search
from orchnb.errors import OrchnbError
from orchnb.http.calls import Call, Steps, path
from orchnb.text import did_you_mean, near_names

if TYPE_CHECKING:
    from orchnb.api.models import Flow


_flow = a(lambda: models.Flow)
_flows = list_of(lambda: models.Flow)


def name_of_flow(flow: object) -> str:
    """Return a flow's name: the string itself, or the name of an object that has one.

    Raises:
        TypeError: it has no name.
    """
    name = flow if isinstance(flow, str) else getattr(flow, "name", None)
    if not isinstance(name, str) or not name:
        raise TypeError(
            f"flow should be an id, a name, or an object with a name, not {type(flow).__name__}"
        )
    return name


def id_of_flow(flow: UUID | str | HasName) -> Generator[Call[Any], Any, UUID]:
    """Return a flow's id; if no flow has the name, one is created.

    Raises:
        TypeError: ``flow`` is neither an id nor a name, and has no name.
    """
    flow_id = as_uuid(getattr(flow, "id", None)) or as_uuid(flow)
    if flow_id is None:
        flow_id = yield from create_flow_from_name(name_of_flow(flow))
    return flow_id


@operation
def create_flow(
    flow: str | HasName,
    *,
    tags: Iterable[str] | None = None,
    labels: Mapping[str, Any] | None = None,
) -> Call[UUID]:
    """Create a flow with this name unless it exists; return its id.

    Args:
        flow: the flow's name, or anything with a ``name``.
        tags: for a new flow, as are ``labels``; an existing flow keeps the ones it has.
    """
    return _create(name=name_of_flow(flow), tags=as_tags(tags), labels=as_dict(labels, "labels"))


@operation
def create_flow_from_name(flow_name: str) -> Call[UUID]:
    """Create a flow with this name unless it exists; return its id."""
    return _create(name=flow_name)


def _create(**fields: Any) -> Call[UUID]:
    return Call(
        "POST",
        path("/flows/"),
        lambda response: _flow(response).id,
        repeatable=True,  # identified by its name
        look="read_flow_by_name",
        json=without_none(**fields),
    )


@operation
def read_flow(flow_id: UUID | str) -> Call[Flow]:
    """Read a flow by its id.

    Raises:
        ObjectNotFound: there is no flow with that id.
    """
    return get(path("/flows/{}", as_id(flow_id, "flow_id")), _flow, with_id("flow", flow_id))


@operation
def read_flow_by_name(flow_name: str) -> Generator[Call[Any], Any, Flow]:
    """Read a flow by its name.

    Raises:
        ObjectNotFound: there is no flow with that name; the message suggests similar names.
    """
    call = get(path("/flows/name/{}", flow_name), _flow, f"flow {quoted(flow_name)}")
    flow: Flow = yield from or_near(call, flow_name, _flow_names)
    return flow


def check_flow_name(flow_name: str | None, offset: int = 0) -> Callable[[Any], Steps[None]] | None:
    """Return what checks an empty result of a query with a flow's name: it warns if no flow has that
    name, with similar names. ``offset`` is the offset of the read; only its first page is checked."""
    if not isinstance(flow_name, str) or offset:
        return None

    def check(result: Sized | int) -> Generator[Call[Any], Any, None]:
        if result if isinstance(result, int) else len(result):
            return
        try:
            flows = yield from read_flows(flow_filter={"name": {"any_": [flow_name]}}, limit=1)
        except (OrchnbError, httpx.HTTPError):
            return
        if flows:
            return
        near = did_you_mean(near_names(flow_name, (yield from or_none(_flow_names()))))
        warn_caller(
            f"There is no flow {quoted(flow_name)}, so flow_name matches nothing. {near}".strip()
        )

    return check


def _flow_names() -> Names:
    flows = yield from first_pages(lambda offset: read_flows(offset=offset))
    return [flow.name for flow in flows]


class FlowQuery(RelatedFilters, NamedWords, total=False):
    """Keywords of a query for flows."""

    work_pool_filter: Filter | None
    work_queue_filter: Filter | None


def _flow_filters(query: FlowQuery) -> dict[str, Any]:
    filters = filters_of(query, flow_filter=named_words(query))
    if filters["work_pool_queues"] is not None:
        instead = "deployment_filter={'work_queue_name': {'any_': [...]}}"
        warn_ignored("work_queue_filter", "flows", instead)
    return {**filters, "work_queues": filters.pop("work_pool_queues")}


@operation
def read_flows(
    *,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    **query: Unpack[FlowQuery],
) -> Call[ModelList[Flow]]:
    """Read flows.

    Filters are the API's filter objects; ``sort`` is one of its sort orders (``NAME_ASC``,
    ``CREATED_DESC``, ...). With ``limit=None`` the server decides; it returns at most 200.
    ``work_queue_filter`` is sent as Prefect's client sends it; Prefect's own server, as of 3.8, ignores
    it for flows, and a warning says so.

    Keywords: ``name_like`` is part of the name; flows must have all of ``tags``.

    Raises:
        ValueError: a keyword repeats a condition of a filter object.
    """
    return search(
        path("/flows/filter"), _flows, **_flow_filters(query), sort=sort, limit=limit, offset=offset
    )


@operation
def count_flows(**query: Unpack[FlowQuery]) -> Call[int]:
    """Return the number of flows; filters and keywords as in `read_flows`."""
    return count(path("/flows/count"), **_flow_filters(query))


@operation
def update_flow(flow_id: UUID | str, *, tags: Iterable[str]) -> Call[None]:
    """Update a flow's tags; everything else stays as it is.

    Raises:
        ObjectNotFound: there is no flow with that id.
    """
    return change(
        path("/flows/{}", as_id(flow_id, "flow_id")),
        {"tags": as_tags(tags)},
        with_id("flow", flow_id),
    )


@operation
def delete_flow(flow_id: UUID | str) -> Call[None]:
    """Delete a flow and its deployments.

    Raises:
        ObjectNotFound: there is no flow with that id.
    """
    return delete(path("/flows/{}", as_id(flow_id, "flow_id")), with_id("flow", flow_id))


@operation
def bulk_delete_flows(flow_filter: Filter, *, limit: int | None = None) -> Call[list[UUID]]:
    """Delete the flows that match a filter, at most 50 per call; return their ids.

    An empty filter matches all flows. ``limit`` can be less than 50.
    """
    return delete_matching(
        path("/flows/bulk_delete"), flows=flow_filter, limit=limit, look="read_flows"
    )


class FlowOperations:
    """Flows."""

    create_flow = create_flow
    create_flow_from_name = create_flow_from_name
    read_flow = read_flow
    read_flow_by_name = read_flow_by_name
    read_flows = read_flows
    count_flows = count_flows
    update_flow = update_flow
    delete_flow = delete_flow
    bulk_delete_flows = bulk_delete_flows
