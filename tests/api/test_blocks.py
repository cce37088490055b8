"""Blocks, on both clients and both servers; no secret is shown by accident."""

from __future__ import annotations

import json
import pickle
import uuid
from typing import Any

import pytest
from IPython.lib.pretty import pretty
from pydantic import SecretStr

from orchnb import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from orchnb.api.models import BlockDocument, BlockSchema, BlockType, ModelList
from orchnb.api.models.blocks import unwrapped
from tests.api import both

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left

SECRET = "s3cret-value"
FIELDS = {
    "title": "Store",
    "type": "object",
    "properties": {"user": {"type": "string"}, "login": {"type": "object"}},
    "secret_fields": ["password", "login.token", "extra.*"],
}
DATA = {
    "user": "ann",
    "password": SECRET,
    "login": {"host": "db", "token": SECRET},
    "extra": {"a": {"b": SECRET}},
}


@pytest.fixture
def block_type(client: Any, name: str) -> BlockType:
    created = client.create_block_type(name=name, slug=name)
    assert isinstance(created, BlockType)
    return created


@pytest.fixture
def schema(client: Any, block_type: BlockType) -> BlockSchema:
    created = client.create_block_schema(
        fields={**FIELDS, "title": block_type.name},
        block_type_id=block_type.id,
        capabilities=["store"],
        version="1",
    )
    assert isinstance(created, BlockSchema)
    return created


@pytest.fixture
def document(client: Any, schema: BlockSchema) -> BlockDocument:
    """As the server has it, and with its secrets."""
    created = client.create_block_document(
        name="db", data=DATA, block_type_id=schema.block_type_id, block_schema_id=schema.id
    )
    read = client.read_block_document(created.id)
    assert isinstance(read, BlockDocument)
    return read


# Types.


def test_a_type_is_read_changed_and_deleted(client: Any, block_type: BlockType) -> None:
    client.update_block_type(block_type.id, description="new", logo_url="https://x.invalid/a.png")
    found = client.read_block_type_by_slug(block_type.slug)
    assert (found.id, found.name, found.description) == (block_type.id, block_type.name, "new")
    assert found.logo_url == "https://x.invalid/a.png"
    client.update_block_type(str(block_type.id), {"description": "newer"})
    assert client.read_block_type_by_slug(block_type.slug).description == "newer"
    assert client.delete_block_type(block_type.id) is None
    with pytest.raises(ObjectNotFound, match=f"There is no block type '{block_type.slug}': 404"):
        client.read_block_type_by_slug(block_type.slug)


def test_types_are_filtered_and_paged(client: Any, block_type: BlockType) -> None:
    types = client.read_block_types()
    assert isinstance(types, ModelList)
    assert types.model is BlockType
    assert {"secret", block_type.slug} <= {each.slug for each in types}
    some = {"slug": {"any_": [block_type.slug]}}
    assert [each.id for each in client.read_block_types(block_type_filter=some)] == [block_type.id]
    assert len(client.read_block_types(limit=1, offset=1)) == 1


def test_a_slug_is_taken_once(client: Any, block_type: BlockType) -> None:
    with pytest.raises(
        ObjectAlreadyExists, match=f"block type '{block_type.slug}' already exists: 409"
    ):
        client.create_block_type({"name": block_type.name, "slug": block_type.slug})


def test_a_type_of_the_servers_own_stays(client: Any) -> None:
    secret = client.read_block_type_by_slug("secret")
    assert secret.is_protected
    with pytest.raises(PrefectHTTPStatusError, match="403"):
        client.delete_block_type(secret.id)


# Schemas.


def test_a_schema_is_made_once_and_found(client: Any, schema: BlockSchema) -> None:
    again = client.create_block_schema(
        {
            "fields": {**FIELDS, "title": schema.fields["title"]},
            "block_type_id": schema.block_type_id,
            "capabilities": ["store"],
            "version": "1",
        }
    )
    assert again.id == schema.id
    for found in (
        client.read_block_schema_by_checksum(schema.checksum),
        client.read_block_schema_by_checksum(schema.checksum, version="1"),
        client.get_most_recent_block_schema_for_block_type(schema.block_type_id),
    ):
        assert found.id == schema.id
        assert found.fields["secret_fields"] == FIELDS["secret_fields"]
        assert (found.capabilities, found.version) == (["store"], "1")
    with pytest.raises(ObjectNotFound, match="no block schema with the checksum 'sha256:0': 404"):
        client.read_block_schema_by_checksum("sha256:0")


def test_the_latest_schema_of_a_type_without_any_is_none(
    client: Any, block_type: BlockType
) -> None:
    assert client.get_most_recent_block_schema_for_block_type(block_type.id) is None


def test_schemas_are_filtered_and_paged(client: Any, schema: BlockSchema) -> None:
    schemas = client.read_block_schemas(limit=1)
    assert isinstance(schemas, ModelList)
    assert schemas.model is BlockSchema
    assert len(schemas) == 1
    mine = {"block_type_id": {"any_": [schema.block_type_id]}}
    assert [each.id for each in client.read_block_schemas(block_schema_filter=mine)] == [schema.id]
    assert client.read_block_schemas(block_schema_filter=mine, offset=1) == []


# Documents.


def test_a_document_comes_back_as_it_was_created(
    client: Any, block_type: BlockType, document: BlockDocument
) -> None:
    by_name = client.read_block_document_by_name("db", block_type.slug)
    assert by_name.id == document.id
    for found in (document, by_name):
        assert unwrapped(found.data) == DATA
        assert found.data["user"] == "ann"
        assert found.data["password"].get_secret_value() == SECRET
        assert found.data["login"]["token"].get_secret_value() == SECRET
        assert found.data["extra"]["a"]["b"].get_secret_value() == SECRET
    for found in (
        client.read_block_document(document.id, include_secrets=False),
        client.read_block_document_by_name("db", block_type.slug, include_secrets=False),
    ):
        assert found.data["user"] == "ann"
        assert set(found.data["password"].get_secret_value()) == {"*"}


def test_documents_are_filtered_paged_and_counted(
    client: Any, block_type: BlockType, schema: BlockSchema, document: BlockDocument
) -> None:
    second = client.create_block_document(
        name="other", data=DATA, block_type_id=block_type.id, block_schema_id=schema.id
    )
    mine = {"block_type_filter": {"slug": {"any_": [block_type.slug]}}}
    documents = client.read_block_documents(**mine, sort="NAME_ASC")
    assert isinstance(documents, ModelList)
    assert documents.model is BlockDocument
    assert [each.id for each in documents] == [document.id, second.id]
    assert unwrapped(documents[0].data) == DATA
    hidden = client.read_block_documents(**mine, include_secrets=False, limit=1, offset=1)
    assert unwrapped(hidden[0].data)["password"] != SECRET
    assert client.count_block_documents(**mine) == 2

    of_type = client.read_block_documents_by_type(block_type.slug)
    assert of_type.model is BlockDocument
    assert {each.id for each in of_type} == {document.id, second.id}
    assert len(client.read_block_documents_by_type(block_type.slug, offset=1, limit=5)) == 1
    assert len(client.read_block_documents_by_type(block_type.slug, limit=1)) == 1
    with pytest.raises(ObjectNotFound, match="There is no block type 'nobodys': 404"):
        client.read_block_documents_by_type("nobodys")


def test_a_document_is_changed_by_what_is_given(client: Any, document: BlockDocument) -> None:
    client.update_block_document(document.id, data={"password": SecretStr("new")})
    found = client.read_block_document(document.id)
    assert unwrapped(found.data) == {**DATA, "password": "new"}
    client.update_block_document(str(document.id), found)  # one that was read will do
    assert unwrapped(client.read_block_document(document.id).data) == {**DATA, "password": "new"}
    client.update_block_document(document.id, {"data": {"user": "b"}}, merge_existing_data=False)
    assert unwrapped(client.read_block_document(document.id).data) == {"user": "b"}
    with pytest.raises(ValueError, match="There is nothing to change"):
        client.update_block_document(document.id)


def test_one_that_was_read_makes_another(client: Any, document: BlockDocument) -> None:
    copy = client.create_block_document(document, name="copy")
    assert unwrapped(client.read_block_document(copy.id).data) == DATA
    assert copy.id != document.id
    with pytest.raises(
        ObjectAlreadyExists, match="A block document 'copy' of that type already exists"
    ):
        client.create_block_document(document, name="copy")


def test_an_anonymous_document_needs_no_name(client: Any, schema: BlockSchema) -> None:
    created = client.create_block_document(
        data={}, block_type_id=schema.block_type_id, block_schema_id=schema.id, is_anonymous=True
    )
    assert client.read_block_document(created.id).is_anonymous
    assert client.read_block_documents(
        block_document_filter={"is_anonymous": {"eq_": True}, "id": {"any_": [created.id]}}
    )


def test_prefects_own_objects_will_do(client: Any, schema: BlockSchema) -> None:
    from prefect.client.schemas import actions, objects

    for kind in (actions.BlockDocumentCreate, objects.BlockDocument):
        theirs = kind(
            name=kind.__name__.lower(),
            data={"user": "ann", "password": SecretStr(SECRET)},
            block_type_id=schema.block_type_id,
            block_schema_id=schema.id,
        )
        created = client.create_block_document(theirs)
        found = client.read_block_document(created.id)
        assert unwrapped(found.data) == {"user": "ann", "password": SECRET}
    change = actions.BlockDocumentUpdate(data={"password": SecretStr("new")})
    client.update_block_document(created.id, change)
    found = client.read_block_document(created.id)
    assert unwrapped(found.data) == {"user": "ann", "password": "new"}


def test_secrets_are_kept_back_if_that_is_asked_for(client: Any, schema: BlockSchema) -> None:
    created = client.create_block_document(
        include_secrets=False,
        name="db",
        data={"password": SecretStr(SECRET)},
        block_type_id=schema.block_type_id,
        block_schema_id=schema.id,
    )
    kept = client.read_block_document(created.id).data["password"].get_secret_value()
    assert set(kept) == {"*"}


def test_a_deleted_document_is_gone(client: Any, document: BlockDocument) -> None:
    assert client.delete_block_document(document.id) is None
    for operation, arguments in (
        ("read_block_document", ()),
        ("update_block_document", ({"data": {}},)),
        ("delete_block_document", ()),
    ):
        with pytest.raises(ObjectNotFound, match=f"document with the id '{document.id}': 404"):
            getattr(client, operation)(document.id, *arguments)
    with pytest.raises(ObjectNotFound, match="no block document 'db' of the type 'secret': 404"):
        client.read_block_document_by_name("db", "secret")


def test_what_is_missing_is_told_before_anything_is_sent(client: Any) -> None:
    with pytest.raises(TypeError, match="Missing block_type_id and block_schema_id"):
        client.create_block_document(name="db", data=DATA)
    with pytest.raises(TypeError, match="Missing slug"):
        client.create_block_type(name="x")
    with pytest.raises(TypeError, match="Missing block_type_id"):
        client.create_block_schema(fields={})


# What is shown.


def _views(thing: Any) -> list[str]:
    return [repr(thing), str(thing), pretty(thing), f"{thing}"]


def test_no_view_of_a_document_shows_a_secret(document: BlockDocument) -> None:
    shown = _views(document) + _views(document.data) + _views(document.data["login"])
    shown += _views(ModelList([document], model=BlockDocument))
    shown += [document.model_dump_json(), str(document.model_dump())]
    for text in shown:
        assert SECRET not in text
    assert "'ann'" in repr(document)
    with pytest.raises(TypeError, match="SecretStr is not JSON serializable"):
        json.dumps(document.data)


def _document(**fields: Any) -> BlockDocument:
    return BlockDocument.model_validate({"id": str(uuid.uuid4()), **fields})


def test_without_a_schema_everything_is_secret() -> None:
    data = {"a": SECRET, "b": [SECRET, {"c": 12345}], "d": None}
    document = _document(data=data)
    for text in _views(document) + _views(document.data):
        assert SECRET not in text
        assert "12345" not in text
    assert unwrapped(document.data) == data


@pytest.mark.parametrize(
    ("secret_fields", "shown"),
    [
        (None, {"a", "b"}),
        ([], {"a", "b"}),
        (["a"], {"b"}),
        (["*"], set()),
        (["a.b.c"], {"a", "b"}),
        (["nobody"], {"a", "b"}),
    ],
)
def test_the_schema_says_what_is_secret(secret_fields: Any, shown: set[str]) -> None:
    fields = {"secret_fields": secret_fields}
    schema = {"id": str(uuid.uuid4()), "checksum": "x", "fields": fields}
    document = _document(data={"a": "text", "b": "text"}, block_schema=schema)
    assert {key for key, value in document.data.items() if value == "text"} == shown


def test_a_block_within_a_block_is_secret_as_a_whole() -> None:
    fields = {"secret_fields": [], "block_schema_references": {"login": {}}}
    schema = {"id": str(uuid.uuid4()), "checksum": "x", "fields": fields}
    document = _document(data={"a": "b", "login": {"token": SECRET}}, block_schema=schema)
    assert SECRET not in repr(document)
    assert document.data["a"] == "b"


def test_a_document_survives_being_dumped_copied_and_pickled() -> None:
    document = _document(data={"a": SECRET})
    for copy in (
        BlockDocument.model_validate(document.model_dump()),
        document.model_copy(deep=True),
        pickle.loads(pickle.dumps(document)),
    ):
        assert copy == document
        assert unwrapped(copy.data) == {"a": SECRET}
        assert SECRET not in repr(copy)
