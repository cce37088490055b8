"""Artifacts: results that runs create for people to look at."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

import httpx
from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, as_id
from orchnb.api.operations.events import emit_event
from orchnb.api.operations.filters import any_of, identified
from orchnb.api.operations.flows import check_flow_name
from orchnb.api.operations.payloads import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    with_id,
    without_none,
)
from orchnb.api.operations.queries import filters_of
from orchnb.api.operations.references import FlowRunRef, of_flow_run
from orchnb.api.operations.verbs import change, count, delete, get, search
from orchnb.errors import OrchnbError
from orchnb.http.calls import Call, path

if TYPE_CHECKING:
    from orchnb.api.models import Artifact, ArtifactCollection


_logger = logging.getLogger(__name__)

_PATIENCE = 5.0
"""How many seconds the server may take for an event."""

_artifact = a(lambda: models.Artifact)
_artifacts = list_of(lambda: models.Artifact)
_collections = list_of(lambda: models.ArtifactCollection)


@operation
def create_artifact(
    artifact: Data | None = None,
    *,
    key: str | None = None,
    type: str | None = None,
    description: str | None = None,
    data: Any = None,
    metadata_: Mapping[str, str] | None = None,
    flow_run_id: UUID | str | None = None,
    task_run_id: UUID | str | None = None,
) -> Generator[Call[Any], Any, Artifact]:
    """Create an artifact: ``create_artifact(key="report", type="markdown", data="# Done")``. Then emit
    the event ``prefect.artifact.created``, for automations.

    Args:
        artifact: the fields that are not given by keyword.
        key: artifacts with the same key are versions of one artifact. Lowercase letters, digits and
            dashes.
        type: ``markdown``, ``table``, ``link``, ``progress``, ``image``, or any other.
        data: the content: a text or, for a table, rows as JSON.
    """
    created: Artifact = yield from Call(
        "POST",
        path("/artifacts/"),
        _artifact,
        json=fields_of(
            artifact,
            key=key,
            type=type,
            description=description,
            data=data,
            metadata_=metadata_,
            flow_run_id=flow_run_id,
            task_run_id=task_run_id,
        ),
        look="read_artifacts",
    )
    payload = without_none(key=created.key, type=created.type, description=created.description)
    yield from _tell("created", created.id, created.key, payload)
    return created


def _tell(
    what: str, artifact_id: UUID | str, key: str | None, payload: Mapping[str, Any]
) -> Generator[Call[Any], Any, None]:
    """Emit an event about an artifact; the server leaves this to its clients. The artifact itself was
    written, so a failure here is only logged."""
    resource = {"prefect.resource.id": f"prefect.artifact.{artifact_id}"}
    if key:
        resource["prefect.resource.name"] = key
    event = emit_event(f"prefect.artifact.{what}", resource, payload=payload)
    assert isinstance(event, Call), "an event is one call"
    try:
        yield from dataclasses.replace(event, timeout=_PATIENCE)
    except (OrchnbError, httpx.HTTPError) as exc:
        _logger.debug("no event prefect.artifact.%s was emitted: %s", what, type(exc).__name__)


@operation
def read_artifact(artifact_id: UUID | str) -> Call[Artifact]:
    """Read an artifact by its id.

    Raises:
        ObjectNotFound: there is no artifact with that id.
    """
    return get(
        path("/artifacts/{}", as_id(artifact_id, "artifact_id")),
        _artifact,
        with_id("artifact", artifact_id),
    )


class ArtifactQuery(TypedDict, total=False):
    """Keywords of a query for artifacts."""

    artifact_filter: Filter | None
    flow_run_filter: Filter | None
    task_run_filter: Filter | None
    flow_filter: Filter | None
    deployment_filter: Filter | None
    key: str | None
    key_like: str | None
    type: str | Iterable[str] | None
    flow_run_id: FlowRunRef | None
    flow_name: str | None


def _artifact_filters(query: ArtifactQuery) -> dict[str, Any]:
    key = query.get("key")
    keys = without_none(any_=None if key is None else [key], like_=query.get("key_like"))
    return filters_of(
        query,
        artifact_filter={
            "key": keys or None,
            "type": any_of(query.get("type")),
            "flow_run_id": identified(query.get("flow_run_id"), "flow_run_id"),
        },
        flow_filter={"name": any_of(query.get("flow_name"))},
    )


@operation
@of_flow_run
def read_artifacts(
    *,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    **query: Unpack[ArtifactQuery],
) -> Call[ModelList[Artifact]]:
    """Read artifacts: ``read_artifacts(key="report", sort="CREATED_DESC")``.

    Filters are the API's filter objects; ``sort`` is one of its sort orders (``KEY_ASC``,
    ``CREATED_DESC``, ...). With ``limit=None`` the server decides; it returns at most 200.

    Keywords: ``key`` is the whole key, ``key_like`` part of it; ``type`` is one type or several;
    ``flow_run_id`` is the flow run that created the artifact, ``flow_name`` the name of that run's flow.

    Raises:
        ValueError: a keyword repeats a condition of a filter object.
    """
    return search(
        path("/artifacts/filter"),
        _artifacts,
        **_artifact_filters(query),
        after=check_flow_name(query.get("flow_name"), offset),
        sort=sort,
        limit=limit,
        offset=offset,
    )


@operation
def read_latest_artifacts(
    *,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    **query: Unpack[ArtifactQuery],
) -> Call[ModelList[ArtifactCollection]]:
    """Read the latest artifact of each key; arguments as for `read_artifacts`.

    ``read_artifact(collection.latest_id)`` reads the artifact itself.
    """
    return search(
        path("/artifacts/latest/filter"),
        _collections,
        **_artifact_filters(query),
        after=check_flow_name(query.get("flow_name"), offset),
        sort=sort,
        limit=limit,
        offset=offset,
    )


@operation
def count_artifacts(**query: Unpack[ArtifactQuery]) -> Call[int]:
    """Return the number of artifacts; filters and keywords as in `read_artifacts`."""
    return count(
        path("/artifacts/count"),
        after=check_flow_name(query.get("flow_name")),
        **_artifact_filters(query),
    )


@operation
def count_latest_artifacts(**query: Unpack[ArtifactQuery]) -> Call[int]:
    """Return the number of artifact keys; filters and keywords as in `read_artifacts`."""
    return count(
        path("/artifacts/latest/count"),
        after=check_flow_name(query.get("flow_name")),
        **_artifact_filters(query),
    )


@operation
def update_artifact(
    artifact_id: UUID | str,
    artifact: Data | None = None,
    *,
    data: Any = UNCHANGED,
    description: str | Unchanged | None = UNCHANGED,
    metadata_: Mapping[str, str] | Unchanged | None = UNCHANGED,
) -> Generator[Call[Any], Any, None]:
    """Update an artifact. Then emit the event ``prefect.artifact.updated``, for automations.

    Raises:
        ObjectNotFound: there is no artifact with that id.
        ValueError: no changes are given.
    """
    changes = changes_of(artifact, data=data, description=description, metadata_=metadata_)
    yield from change(
        path("/artifacts/{}", as_id(artifact_id, "artifact_id")),
        changes,
        with_id("artifact", artifact_id),
    )
    yield from _tell("updated", artifact_id, None, changes)


@operation
def delete_artifact(artifact_id: UUID | str) -> Call[None]:
    """Delete an artifact.

    Raises:
        ObjectNotFound: there is no artifact with that id.
    """
    return delete(
        path("/artifacts/{}", as_id(artifact_id, "artifact_id")), with_id("artifact", artifact_id)
    )


class ArtifactOperations:
    """Artifacts: results that runs create for people to look at."""

    create_artifact = create_artifact
    read_artifact = read_artifact
    read_artifacts = read_artifacts
    read_latest_artifacts = read_latest_artifacts
    count_artifacts = count_artifacts
    count_latest_artifacts = count_latest_artifacts
    update_artifact = update_artifact
    delete_artifact = delete_artifact
