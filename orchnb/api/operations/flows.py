"""Flows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import Model, ModelList
from orchnb.api.operations.coercion import Filter, HasName, as_dict, as_id, as_tags, as_uuid
from orchnb.api.operations.filters import named_words, with_words
from orchnb.api.operations.payloads import quoted, without_none
from orchnb.api.operations.suggestions import (
    Names,
    callers_level,
    did_you_mean,
    first_pages,
    near_names,
    or_near,
    or_none,
)
from orchnb.errors import OrchnbError
from orchnb.http.calls import Call, Steps, nothing, path
from orchnb.http.response import PrefectResponse

if TYPE_CHECKING:
    from orchnb.api.models import Flow


_flow = a(lambda: models.Flow)
_flows = list_of(lambda: models.Flow)
_count = a(lambda: int)


class _Deleted(Model):
    deleted: list[UUID]


_deleted = a(lambda: _Deleted)


def deleted_ids(response: PrefectResponse) -> list[UUID]:
    """Return the ids in the response to a bulk deletion."""
    return _deleted(response).deleted


def _missing(flow_id: object) -> str:
    return f"flow with the id {quoted(flow_id)}"


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
    return Call(
        "POST",
        path("/flows/"),
        lambda response: _flow(response).id,
        repeatable=True,  # identified by its name
        look="read_flow_by_name",
        json=without_none(
            name=name_of_flow(flow),
            tags=as_tags(tags),
            labels=as_dict(labels, "labels"),
        ),
    )


@operation
def create_flow_from_name(flow_name: str) -> Call[UUID]:
    """Create a flow with this name unless it exists; return its id."""
    return Call(
        "POST",
        path("/flows/"),
        lambda response: _flow(response).id,
        repeatable=True,  # identified by its name
        look="read_flow_by_name",
        json={"name": flow_name},
    )


@operation
def read_flow(flow_id: UUID | str) -> Call[Flow]:
    """Read a flow by its id.

    Raises:
        ObjectNotFound: there is no flow with that id.
    """
    return Call(
        "GET", path("/flows/{}", as_id(flow_id, "flow_id")), _flow, missing=_missing(flow_id)
    )


@operation
def read_flow_by_name(flow_name: str) -> Generator[Call[Any], Any, Flow]:
    """Read a flow by its name.

    Raises:
        ObjectNotFound: there is no flow with that name; the message suggests similar names.
    """
    call = Call(
        "GET", path("/flows/name/{}", flow_name), _flow, missing=f"flow {quoted(flow_name)}"
    )
    flow: Flow = yield from or_near(call, flow_name, _names)
    return flow


def check_flow_name(flow_name: str | None, offset: int = 0) -> Callable[[Any], Steps[None]] | None:
    """Return what looks into an empty result for a flow's name: it warns if no flow has that name, with
    similar names. ``offset`` is the offset of the read; only its first page is looked into."""
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
        near = did_you_mean(near_names(flow_name, (yield from or_none(_names()))))
        warnings.warn(
            f"There is no flow {quoted(flow_name)}, so flow_name matches nothing. {near}".strip(),
            stacklevel=callers_level(),
        )

    return check


def _names() -> Names:
    flows = yield from first_pages(lambda offset: read_flows(offset=offset))
    return [flow.name for flow in flows]


@operation
def read_flows(
    *,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    work_pool_filter: Filter | None = None,
    work_queue_filter: Filter | None = None,
    name_like: str | None = None,
    tags: Iterable[str] | None = None,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Call[ModelList[Flow]]:
    """Read flows.

    Filters are the API's filter objects; ``sort`` is one of its sort orders (``NAME_ASC``,
    ``CREATED_DESC``, ...). With ``limit=None`` the server decides; it returns at most 200.
    ``work_queue_filter`` is sent as Prefect's client sends it; Prefect's own server, as of 3.8, ignores
    it here.

    Keywords: ``name_like`` is part of the name; flows must have all of ``tags``.

    Raises:
        ValueError: a keyword repeats a condition of a filter object.
    """
    return Call(
        "POST",
        path("/flows/filter"),
        _flows,
        repeatable=True,
        json=without_none(
            flows=with_words(
                flow_filter, "flow_filter", named_words(name_like=name_like, tags=tags)
            ),
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=deployment_filter,
            work_pools=work_pool_filter,
            work_queues=work_queue_filter,
            sort=sort,
            limit=limit,
            offset=offset,
        ),
    )


@operation
def count_flows(
    *,
    flow_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    work_pool_filter: Filter | None = None,
    name_like: str | None = None,
    tags: Iterable[str] | None = None,
) -> Call[int]:
    """Return the number of flows; filters and keywords as in `read_flows`."""
    return Call(
        "POST",
        path("/flows/count"),
        _count,
        repeatable=True,
        json=without_none(
            flows=with_words(
                flow_filter, "flow_filter", named_words(name_like=name_like, tags=tags)
            ),
            flow_runs=flow_run_filter,
            task_runs=task_run_filter,
            deployments=deployment_filter,
            work_pools=work_pool_filter,
        ),
    )


@operation
def update_flow(flow_id: UUID | str, *, tags: Iterable[str]) -> Call[None]:
    """Update a flow's tags; everything else stays as it is.

    Raises:
        ObjectNotFound: there is no flow with that id.
    """
    return Call(
        "PATCH",
        path("/flows/{}", as_id(flow_id, "flow_id")),
        nothing,
        json={"tags": as_tags(tags)},
        missing=_missing(flow_id),
    )


@operation
def delete_flow(flow_id: UUID | str) -> Call[None]:
    """Delete a flow and its deployments.

    Raises:
        ObjectNotFound: there is no flow with that id.
    """
    return Call(
        "DELETE", path("/flows/{}", as_id(flow_id, "flow_id")), nothing, missing=_missing(flow_id)
    )


@operation
def bulk_delete_flows(flow_filter: Filter, *, limit: int | None = None) -> Call[list[UUID]]:
    """Delete the flows that match a filter, at most 50 per call; return their ids.

    An empty filter matches all flows. ``limit`` can be less than 50.
    """
    return Call(
        "POST",
        path("/flows/bulk_delete"),
        deleted_ids,
        json=without_none(flows=flow_filter, limit=limit),
        look="read_flows",
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
