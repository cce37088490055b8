"""Artifacts, on both clients and both servers."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from orchnb import ObjectNotFound, PrefectHTTPStatusError
from orchnb.api.models import Artifact, ArtifactCollection, ModelList
from tests.api import both

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left


def test_an_artifact_comes_back_as_it_was_created(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    created = client.create_artifact(
        key=name,
        type="table",
        description="three rows",
        data='[{"a": 1}]',
        metadata_={"unit": "mm"},
        flow_run_id=run.id,
    )
    assert isinstance(created, Artifact)
    found = client.read_artifact(created.id)
    assert found == created
    assert (found.key, found.type, found.description) == (name, "table", "three rows")
    assert (found.data, found.metadata_, found.flow_run_id) == (
        '[{"a": 1}]',
        {"unit": "mm"},
        run.id,
    )
    assert found.created.tzinfo is not None


def test_its_fields_may_be_data_or_prefects_object(client: Any, name: str) -> None:
    from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate

    first = client.create_artifact({"key": name, "data": {"a": 1}})
    assert client.read_artifact(first.id).data == {"a": 1}
    second = client.create_artifact(ArtifactCreate(key=name, data="x"), type="markdown")
    assert (second.data, second.type) == ("x", "markdown")
    client.update_artifact(second.id, ArtifactUpdate(description="new"))
    assert client.read_artifact(second.id).description == "new"


def test_the_latest_of_a_key_is_found(client: Any, name: str) -> None:
    for number in (1, 2):
        latest = client.create_artifact(key=name, data=f"version {number}")
    client.create_artifact(key=f"{name}-b", data="other")
    mine = {"key": {"like_": name}}
    collections = client.read_latest_artifacts(artifact_filter=mine, sort="KEY_ASC")
    assert isinstance(collections, ModelList)
    assert collections.model is ArtifactCollection
    assert [each.key for each in collections] == [name, f"{name}-b"]
    assert (collections[0].latest_id, collections[0].data) == (latest.id, "version 2")
    assert client.read_artifact(collections[0].latest_id) == latest
    assert client.read_latest_artifacts(artifact_filter=mine, limit=1, offset=2) == []
    assert client.count_latest_artifacts(artifact_filter=mine) == 2


def test_artifacts_are_filtered_sorted_paged_and_counted(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    for letter in "cab":
        client.create_artifact(key=f"{name}-{letter}", flow_run_id=run.id)
    mine = {"flow_run_filter": {"id": {"any_": [run.id]}}}

    def read(**arguments: Any) -> list[str]:
        artifacts = client.read_artifacts(**mine, sort="KEY_ASC", **arguments)
        assert artifacts.model is Artifact
        return [artifact.key[-1] for artifact in artifacts]

    assert read() == ["a", "b", "c"]
    assert read(limit=1, offset=1) == ["b"]
    assert read(artifact_filter={"key": {"any_": [f"{name}-c"]}}) == ["c"]
    assert read(flow_filter={"name": {"any_": ["nobody's"]}}) == []
    assert client.count_artifacts(**mine) == 3
    assert client.count_artifacts(artifact_filter={"key": {"any_": [f"{name}-c"]}}) == 1


def test_an_artifact_is_changed_by_what_is_given(client: Any, name: str) -> None:
    artifact = client.create_artifact(key=name, data="a", description="old")
    client.update_artifact(artifact.id, data="b")
    client.update_artifact(str(artifact.id), {"metadata_": {"k": "v"}})
    found = client.read_artifact(artifact.id)
    assert (found.data, found.description, found.metadata_) == ("b", "old", {"k": "v"})
    client.update_artifact(artifact.id, description=None)
    assert client.read_artifact(artifact.id).description is None
    with pytest.raises(ValueError, match="give one of data, description, metadata_"):
        client.update_artifact(artifact.id)


def test_a_deleted_artifact_is_gone(client: Any, name: str) -> None:
    artifact = client.create_artifact(key=name)
    assert client.delete_artifact(artifact.id) is None
    for operation, arguments in (
        ("read_artifact", (artifact.id,)),
        ("delete_artifact", (artifact.id,)),
        ("update_artifact", (artifact.id, {"data": "x"})),
    ):
        with pytest.raises(ObjectNotFound, match=f"no artifact with the id '{artifact.id}': 404"):
            getattr(client, operation)(*arguments)


def test_what_the_server_refuses_is_told(client: Any) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="lowercase letters, numbers, and dashes"):
        client.create_artifact(key=f"K {uuid.uuid4()}")
