"""Artifacts: results that runs create for people to look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, as_id
from orchnb.api.operations.filters import any_of, called, identified, with_words
from orchnb.api.operations.flows import check_flow_name
from orchnb.api.operations.payloads import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    quoted,
    without_none,
)
from orchnb.http.calls import Call, nothing, path

if TYPE_CHECKING:
    from orchnb.api.models import Artifact, ArtifactCollection


_artifact = a(lambda: models.Artifact)
_artifacts = list_of(lambda: models.Artifact)
_collections = list_of(lambda: models.ArtifactCollection)
_count = a(lambda: int)


def _missing(artifact_id: object) -> str:
    return f"artifact with the id {quoted(artifact_id)}"


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
) -> Call[Artifact]:
    """Create an artifact: ``create_artifact(key="report", type="markdown", data="# Done")``.

    Args:
        artifact: the fields that are not given by keyword.
        key: artifacts with the same key are versions of one artifact. Lowercase letters, digits and
            dashes.
        type: ``markdown``, ``table``, ``link``, ``progress``, ``image``, or any other.
        data: the content: a text or, for a table, rows as JSON.
    """
    return Call(
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


@operation
def read_artifact(artifact_id: UUID | str) -> Call[Artifact]:
    """Read an artifact by its id.

    Raises:
        ObjectNotFound: there is no artifact with that id.
    """
    return Call(
        "GET",
        path("/artifacts/{}", as_id(artifact_id, "artifact_id")),
        _artifact,
        missing=_missing(artifact_id),
    )


def _filters(
    artifact_filter: Filter | None,
    flow_run_filter: Filter | None,
    task_run_filter: Filter | None,
    flow_filter: Filter | None,
    deployment_filter: Filter | None,
    *,
    key: str | None,
    key_like: str | None,
    type: str | Iterable[str] | None,
    flow_run_id: UUID | str | None,
    flow_name: str | None,
) -> dict[str, Any]:
    keys = without_none(any_=None if key is None else [key], like_=key_like)
    words = {
        "key": keys or None,
        "type": any_of(type),
        "flow_run_id": identified(flow_run_id, "flow_run_id")["id"],
    }
    return without_none(
        artifacts=with_words(artifact_filter, "artifact_filter", words),
        flow_runs=flow_run_filter,
        task_runs=task_run_filter,
        flows=with_words(flow_filter, "flow_filter", called(flow_name)),
        deployments=deployment_filter,
    )


@operation
def read_artifacts(
    *,
    artifact_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    flow_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    key: str | None = None,
    key_like: str | None = None,
    type: str | Iterable[str] | None = None,
    flow_run_id: UUID | str | None = None,
    flow_name: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Call[ModelList[Artifact]]:
    """Read artifacts: ``read_artifacts(key="report", sort="CREATED_DESC")``.

    Filters are the API's filter objects; ``sort`` is one of its sort orders (``KEY_ASC``,
    ``CREATED_DESC``, ...). With ``limit=None`` the server decides; it returns at most 200.

    Keywords: ``key`` is the whole key, ``key_like`` part of it; ``type`` is one type or several;
    ``flow_run_id`` is the flow run that created the artifact, ``flow_name`` the name of that run's flow.

    Raises:
        ValueError: a keyword repeats a condition of a filter object.
    """
    filters = _filters(
        artifact_filter,
        flow_run_filter,
        task_run_filter,
        flow_filter,
        deployment_filter,
        key=key,
        key_like=key_like,
        type=type,
        flow_run_id=flow_run_id,
        flow_name=flow_name,
    )
    return Call(
        "POST",
        path("/artifacts/filter"),
        _artifacts,
        repeatable=True,
        after=check_flow_name(flow_name, offset),
        json=filters | without_none(sort=sort, limit=limit, offset=offset),
    )


@operation
def read_latest_artifacts(
    *,
    artifact_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    flow_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    key: str | None = None,
    key_like: str | None = None,
    type: str | Iterable[str] | None = None,
    flow_run_id: UUID | str | None = None,
    flow_name: str | None = None,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Call[ModelList[ArtifactCollection]]:
    """Read the latest artifact of each key; arguments as for `read_artifacts`.

    ``read_artifact(collection.latest_id)`` reads the artifact itself.
    """
    filters = _filters(
        artifact_filter,
        flow_run_filter,
        task_run_filter,
        flow_filter,
        deployment_filter,
        key=key,
        key_like=key_like,
        type=type,
        flow_run_id=flow_run_id,
        flow_name=flow_name,
    )
    return Call(
        "POST",
        path("/artifacts/latest/filter"),
        _collections,
        repeatable=True,
        after=check_flow_name(flow_name, offset),
        json=filters | without_none(sort=sort, limit=limit, offset=offset),
    )


@operation
def count_artifacts(
    *,
    artifact_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    flow_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    key: str | None = None,
    key_like: str | None = None,
    type: str | Iterable[str] | None = None,
    flow_run_id: UUID | str | None = None,
    flow_name: str | None = None,
) -> Call[int]:
    """Return the number of artifacts; filters and keywords as in `read_artifacts`."""
    filters = _filters(
        artifact_filter,
        flow_run_filter,
        task_run_filter,
        flow_filter,
        deployment_filter,
        key=key,
        key_like=key_like,
        type=type,
        flow_run_id=flow_run_id,
        flow_name=flow_name,
    )
    return Call(
        "POST",
        path("/artifacts/count"),
        _count,
        repeatable=True,
        after=check_flow_name(flow_name),
        json=filters,
    )


@operation
def count_latest_artifacts(
    *,
    artifact_filter: Filter | None = None,
    flow_run_filter: Filter | None = None,
    task_run_filter: Filter | None = None,
    flow_filter: Filter | None = None,
    deployment_filter: Filter | None = None,
    key: str | None = None,
    key_like: str | None = None,
    type: str | Iterable[str] | None = None,
    flow_run_id: UUID | str | None = None,
    flow_name: str | None = None,
) -> Call[int]:
    """Return the number of artifact keys; filters and keywords as in `read_artifacts`."""
    filters = _filters(
        artifact_filter,
        flow_run_filter,
        task_run_filter,
        flow_filter,
        deployment_filter,
        key=key,
        key_like=key_like,
        type=type,
        flow_run_id=flow_run_id,
        flow_name=flow_name,
    )
    return Call(
        "POST",
        path("/artifacts/latest/count"),
        _count,
        repeatable=True,
        after=check_flow_name(flow_name),
        json=filters,
    )


@operation
def update_artifact(
    artifact_id: UUID | str,
    artifact: Data | None = None,
    *,
    data: Any = UNCHANGED,
    description: str | Unchanged | None = UNCHANGED,
    metadata_: Mapping[str, str] | Unchanged | None = UNCHANGED,
) -> Call[None]:
    """Update an artifact.

    Raises:
        ObjectNotFound: there is no artifact with that id.
        ValueError: no changes are given.
    """
    return Call(
        "PATCH",
        path("/artifacts/{}", as_id(artifact_id, "artifact_id")),
        nothing,
        json=changes_of(artifact, data=data, description=description, metadata_=metadata_),
        missing=_missing(artifact_id),
    )


@operation
def delete_artifact(artifact_id: UUID | str) -> Call[None]:
    """Delete an artifact.

    Raises:
        ObjectNotFound: there is no artifact with that id.
    """
    return Call(
        "DELETE",
        path("/artifacts/{}", as_id(artifact_id, "artifact_id")),
        nothing,
        missing=_missing(artifact_id),
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
