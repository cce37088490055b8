"""What has a name of its own, and whose creation was not heard of, is read back and is the result."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pydantic import SecretStr

from orchnb import ObjectAlreadyExists, SyncPrefectClient
from orchnb.api import models
from tests.api.test_sent_once import LosesTheFirstAnswer, options


@pytest.fixture
def name() -> str:
    return f"lost-{uuid.uuid4().hex}"


def losing(server_url: str, ending: str) -> SyncPrefectClient:
    """A client that does not hear of the first thing that it creates at this path."""
    return SyncPrefectClient(server_url, **options("sync", LosesTheFirstAnswer(ending)))


def test_a_global_concurrency_limit(server_url: str, name: str) -> None:
    with losing(server_url, "/concurrency_limits/") as client:
        made = client.create_global_concurrency_limit(name, limit=3, slot_decay_per_second=0.5)
        assert client.read_global_concurrency_limit_by_name(name).id == made
        with pytest.raises(ObjectAlreadyExists):
            client.create_global_concurrency_limit(name, limit=3, slot_decay_per_second=0.5)


def test_a_block_type(server_url: str, name: str) -> None:
    with losing(server_url, "/block_types/") as client:
        assert client.create_block_type(name=name, slug=name).slug == name
        with pytest.raises(ObjectAlreadyExists):
            client.create_block_type(name=name, slug=name)


@pytest.fixture
def block(server_url: str, name: str) -> dict[str, Any]:
    """What is said of a block document: its name, type and schema."""
    with SyncPrefectClient(server_url) as client:
        kind = client.create_block_type(name=name, slug=name)
        fields = {
            "title": name,
            "type": "object",
            "properties": {"password": {"type": "string"}, "host": {"type": "string"}},
            "secret_fields": ["password"],
            "block_type_slug": name,
        }
        schema = client.create_block_schema(
            block_type_id=kind.id, fields=fields, capabilities=[], version="1"
        )
    return {"name": name, "block_type_id": kind.id, "block_schema_id": schema.id}


def test_a_block_document_with_its_secrets(server_url: str, block: dict[str, Any]) -> None:
    data = {"password": SecretStr("s3cret"), "host": "h"}
    with losing(server_url, "/block_documents/") as client:
        made = client.create_block_document(**block, data=data)
        assert made.name == block["name"]
        assert made.data is not None
        assert made.data["host"] == "h"
        assert "s3cret" not in str(made.data), "as after any creation"
        kept = client.read_block_document(made.id, include_secrets=True)
        assert models.unwrapped(kept.data) == {"password": "s3cret", "host": "h"}
        with pytest.raises(ObjectAlreadyExists):
            client.create_block_document(**block, data=data)


def test_a_block_document_of_somebody_else_is_no_result(
    server_url: str, block: dict[str, Any]
) -> None:
    with SyncPrefectClient(server_url) as other:
        other.create_block_document(**block, data={"password": "theirs", "host": "h"})
    with (
        losing(server_url, "/block_documents/") as client,
        pytest.raises(ObjectAlreadyExists, match="may have created it"),
    ):
        client.create_block_document(**block, data={"password": "mine", "host": "h"})


def test_an_input_of_a_flow_run(server_url: str) -> None:
    with losing(server_url, "/input") as client:
        run = client.create_flow_run("with-input")
        client.create_flow_run_input(run.id, "answer", '{"value": 42}')
        assert client.read_flow_run_input(run.id, "answer") == '{"value": 42}'
        with pytest.raises(ObjectAlreadyExists):
            client.create_flow_run_input(run.id, "answer", '{"value": 42}')


def test_an_input_of_somebody_else_is_no_result(server_url: str) -> None:
    with losing(server_url, "/input") as client, SyncPrefectClient(server_url) as other:
        run = client.create_flow_run("with-input")
        other.create_flow_run_input(run.id, "answer", "41")
        with pytest.raises(ObjectAlreadyExists, match="may have created it"):
            client.create_flow_run_input(run.id, "answer", "42")
