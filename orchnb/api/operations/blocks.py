"""Blocks: their types, schemas, and documents.

Secret values in a document are wrapped, see `orchnb.api.models.blocks`; they are unwrapped to be sent.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import a, created_once, has_all_of, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import Model, ModelList
from orchnb.api.operations.coercion import Filter, as_id, as_list
from orchnb.api.operations.filters import any_of, named_words
from orchnb.api.operations.payloads import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    named,
    quoted,
    required,
    with_id,
    without_none,
)
from orchnb.api.operations.queries import filters_of, warn_ignored
from orchnb.api.operations.verbs import change, count, delete, get, search
from orchnb.errors import ObjectAlreadyExists
from orchnb.http.calls import Call, nothing, path, was_resent
from orchnb.http.response import PrefectResponse

if TYPE_CHECKING:
    from orchnb.api.models import BlockDocument, BlockSchema, BlockType


_type = a(lambda: models.BlockType)
_types = list_of(lambda: models.BlockType)
_schema = a(lambda: models.BlockSchema)
_schemas = list_of(lambda: models.BlockSchema)
_document = a(lambda: models.BlockDocument)
_documents = list_of(lambda: models.BlockDocument)

_CREATED_WITH = {"name", "data", "block_type_id", "block_schema_id", "is_anonymous"}
_CHANGED_WITH = {"data", "block_schema_id", "merge_existing_data"}


def _word(flag: bool) -> str:
    return "true" if flag else "false"


@operation
def create_block_type(
    block_type: Data | None = None,
    *,
    name: str | None = None,
    slug: str | None = None,
    logo_url: str | None = None,
    documentation_url: str | None = None,
    description: str | None = None,
    code_example: str | None = None,
) -> Generator[Call[Any], Any, BlockType]:
    """Create a block type.

    Raises:
        ObjectAlreadyExists: a block type with that slug already exists.
        TypeError: name or slug is missing.
    """
    fields = fields_of(
        block_type,
        name=name,
        slug=slug,
        logo_url=logo_url,
        documentation_url=documentation_url,
        description=description,
        code_example=code_example,
    )
    required(fields, "name", "slug")
    create = Call(
        "POST",
        path("/block_types/"),
        _type,
        repeatable=True,  # identified by its slug
        json=fields,
        conflict=f"A block type {quoted(fields['slug'])} already exists",
    )
    return (yield from created_once(create, read_block_type_by_slug(fields["slug"])))


@operation
def read_block_types(
    *,
    block_type_filter: Filter | None = None,
    block_schema_filter: Filter | None = None,
    limit: int | None = None,
    offset: int = 0,
) -> Call[ModelList[BlockType]]:
    """Read block types. With ``limit=None`` the server decides; it returns at most 200."""
    return search(
        path("/block_types/filter"),
        _types,
        block_types=block_type_filter,
        block_schemas=block_schema_filter,
        limit=limit,
        offset=offset,
    )


@operation
def read_block_type_by_slug(slug: str) -> Call[BlockType]:
    """Read a block type by its slug, such as ``secret``.

    Raises:
        ObjectNotFound: there is no block type with that slug.
    """
    return get(path("/block_types/slug/{}", slug), _type, named("block type", slug))


@operation
def update_block_type(
    block_type_id: UUID | str,
    block_type: Data | None = None,
    *,
    logo_url: str | Unchanged | None = UNCHANGED,
    documentation_url: str | Unchanged | None = UNCHANGED,
    description: str | Unchanged | None = UNCHANGED,
    code_example: str | Unchanged | None = UNCHANGED,
) -> Call[None]:
    """Update a block type's descriptive fields.

    Raises:
        ObjectNotFound: there is no block type with that id.
        ValueError: no changes are given.
    """
    return change(
        path("/block_types/{}", as_id(block_type_id, "block_type_id")),
        changes_of(
            block_type,
            logo_url=logo_url,
            documentation_url=documentation_url,
            description=description,
            code_example=code_example,
        ),
        with_id("block type", block_type_id),
    )


@operation
def delete_block_type(block_type_id: UUID | str) -> Call[None]:
    """Delete a block type, its schemas and its documents.

    Raises:
        ObjectNotFound: there is no block type with that id.
        PrefectHTTPStatusError: 403, the block type is protected: the server itself needs it.
    """
    return delete(
        path("/block_types/{}", as_id(block_type_id, "block_type_id")),
        with_id("block type", block_type_id),
    )


@operation
def create_block_schema(
    block_schema: Data | None = None,
    *,
    fields: Mapping[str, Any] | None = None,
    block_type_id: UUID | str | None = None,
    capabilities: Iterable[str] | None = None,
    version: str | None = None,
) -> Call[BlockSchema]:
    """Create a block schema, or return the existing one; its fields identify it.

    Args:
        block_schema: the schema's fields that are not given by keyword.
        fields: a JSON schema of the documents; its ``secret_fields`` names the secret ones.

    Raises:
        TypeError: the block type's id is missing.
    """
    given = fields_of(
        block_schema,
        fields=fields,
        block_type_id=block_type_id,
        capabilities=None if capabilities is None else as_list(capabilities, "capabilities"),
        version=version,
    )
    required(given, "block_type_id")
    return Call(
        "POST",
        path("/block_schemas/"),
        _schema,
        repeatable=True,  # identified by its checksum
        json=given,
        refusal="The server could not create the schema",
    )


@operation
def read_block_schemas(
    *, block_schema_filter: Filter | None = None, limit: int | None = None, offset: int = 0
) -> Call[ModelList[BlockSchema]]:
    """Read block schemas, the latest first.

    With ``limit=None`` the server decides; it returns at most 200.
    """
    place = path("/block_schemas/filter")
    return search(place, _schemas, block_schemas=block_schema_filter, limit=limit, offset=offset)


@operation
def read_block_schema_by_checksum(checksum: str, version: str | None = None) -> Call[BlockSchema]:
    """Read a block schema by its checksum, in the latest version or the given one.

    Raises:
        ObjectNotFound: there is no such block schema.
    """
    return get(
        path("/block_schemas/checksum/{}", checksum)
        if not version
        else path("/block_schemas/checksum/{}?version={}", checksum, version),
        _schema,
        f"block schema with the checksum {quoted(checksum)}",
    )


@operation
def get_most_recent_block_schema_for_block_type(
    block_type_id: UUID | str,
) -> Call[BlockSchema | None]:
    """Read the latest schema of a block type; None if it has no schema."""
    return search(
        path("/block_schemas/filter"),
        lambda response: next(iter(_schemas(response)), None),
        block_schemas={"block_type_id": {"any_": [as_id(block_type_id, "block_type_id")]}},
        limit=1,
    )


@operation
def create_block_document(
    block_document: Data | None = None,
    include_secrets: bool = True,
    *,
    name: str | None = None,
    data: Mapping[str, Any] | None = None,
    block_type_id: UUID | str | None = None,
    block_schema_id: UUID | str | None = None,
    is_anonymous: bool | None = None,
) -> Generator[Call[Any], Any, BlockDocument]:
    """Save a block: ``create_block_document(name="db", data={...}, block_type_id=type.id, ...)``.

    Args:
        block_document: the fields that are not given by keyword.
        include_secrets: send the values of wrapped secrets instead of asterisks.
        data: the values of the block's fields; secret ones can be wrapped, as in pydantic's
            ``SecretStr``.
        is_anonymous: the document has no name, and cannot be found by one.

    Returns:
        The document as the server stores it, with asterisks for its secrets.

    Raises:
        ObjectAlreadyExists: a block document with that name and type already exists.
        TypeError: the id of the block type or the schema is missing.
    """
    block_document = _plain_document(block_document, _CREATED_WITH, include_secrets)
    data = _concealed(data, include_secrets)
    fields = fields_of(
        block_document,
        name=name,
        data=data,
        block_type_id=block_type_id,
        block_schema_id=block_schema_id,
        is_anonymous=is_anonymous,
    )
    required(fields, "block_type_id", "block_schema_id")
    create = Call(
        "POST",
        path("/block_documents/"),
        _document,
        repeatable=not fields.get("is_anonymous"),  # identified by its name
        json=fields,
        reveals=True,
        look="read_block_documents",
        conflict=f"A block document {quoted(fields.get('name'))} of that type already exists",
    )
    try:
        return (yield from create)
    except ObjectAlreadyExists as exc:
        if not was_resent(exc):
            raise
        of_that_name = {
            "name": {"any_": [fields["name"]]},
            "block_type_id": {"any_": [str(fields["block_type_id"])]},
        }
        for found in (yield from read_block_documents(block_document_filter=of_that_name)):
            if _is_what_was_sent(found, create):
                return (yield from read_block_document(found.id, include_secrets=False))
        raise


def _is_what_was_sent(found: BlockDocument, create: Call[Any]) -> bool:
    # The request included the secrets.
    kept = {**found.model_dump(mode="json"), "data": models.unwrapped(found.data)}
    return has_all_of(kept, create)


def _plain_document(
    document: Data | None, wanted: set[str], include_secrets: bool = True
) -> Data | None:
    """Return the wanted fields of a document as plain data: a model would mask its secrets."""
    if isinstance(document, Model):
        fields = {name: getattr(document, name) for name in document.model_fields_set & wanted}
    elif isinstance(document, BaseModel):
        fields = document.model_dump(
            exclude_unset=True,
            include=wanted,
            context={"include_secrets": include_secrets},  # for Prefect's models
        )
    elif isinstance(document, Mapping):
        fields = dict(document)
    else:
        return document
    if "data" in fields:
        schema = getattr(document, "block_schema", None)
        fields["data"] = _concealed(fields["data"], include_secrets, schema)
    return fields


def _concealed(data: Any, include_secrets: bool = True, schema: BlockSchema | None = None) -> Any:
    """Return the values of a block, the secret ones wrapped; without a schema, all of them. Those that
    were wrapped before are sent as asterisks unless secrets are included."""
    return models.wrapped(
        data if include_secrets else to_jsonable_python(data), models.secret_places(schema)
    )


@operation
def read_block_document(
    block_document_id: UUID | str, include_secrets: bool = True
) -> Call[BlockDocument]:
    """Read a block document by its id.

    Args:
        include_secrets: ask the server for secret values instead of asterisks. They are wrapped:
            ``document.data["password"].get_secret_value()``.

    Raises:
        ObjectNotFound: there is no block document with that id.
    """
    return get(
        path(
            "/block_documents/{}?include_secrets={}",
            as_id(block_document_id, "block_document_id"),
            _word(include_secrets),
        ),
        _document,
        with_id("block document", block_document_id),
    )


@operation
def read_block_document_by_name(
    name: str, block_type_slug: str, include_secrets: bool = True
) -> Call[BlockDocument]:
    """Read a block document by its name and its type's slug; see `read_block_document`.

    Raises:
        ObjectNotFound: there is no such block document.
    """
    return get(
        path(
            "/block_types/slug/{}/block_documents/name/{}?include_secrets={}",
            block_type_slug,
            name,
            _word(include_secrets),
        ),
        _document,
        f"block document {quoted(name)} of the type {quoted(block_type_slug)}",
    )


class BlockDocumentQuery(TypedDict, total=False):
    """Keywords of a query for block documents."""

    block_document_filter: Filter | None
    block_type_filter: Filter | None
    block_schema_filter: Filter | None
    name_like: str | None
    block_type_slug: str | Iterable[str] | None


def _document_filters(query: BlockDocumentQuery) -> dict[str, Any]:
    return filters_of(
        query,
        block_document_filter=named_words({"name_like": query.get("name_like")}),
        block_type_filter={"slug": any_of(query.get("block_type_slug"))},
    )


@operation
def read_block_documents(
    block_schema_type: str | None = None,
    offset: int | None = None,
    limit: int | None = None,
    include_secrets: bool = True,
    *,
    sort: str | None = None,
    **query: Unpack[BlockDocumentQuery],
) -> Call[ModelList[BlockDocument]]:
    """Read block documents: ``read_block_documents(name_like="db", block_type_slug="secret")``, or by the
    API's filter objects. Anonymous documents are left out unless a filter asks for them.

    With ``limit=None`` the server decides; it returns at most 200. ``block_schema_type`` is sent as
    Prefect's client sends it; Prefect's own server, as of 3.8, ignores it, and a warning says so.

    Raises:
        ValueError: a keyword repeats a condition of a filter object.
    """
    if block_schema_type is not None:
        warn_ignored("block_schema_type", "block documents", "block_type_slug")
    return search(
        path("/block_documents/filter"),
        _documents,
        **_document_filters(query),
        block_schema_type=block_schema_type,
        include_secrets=include_secrets,
        sort=sort,
        limit=limit,
        offset=offset,
    )


@operation
def read_block_documents_by_type(
    block_type_slug: str,
    offset: int | None = None,
    limit: int | None = None,
    include_secrets: bool = True,
) -> Call[ModelList[BlockDocument]]:
    """Read the block documents of a type.

    Raises:
        ObjectNotFound: there is no block type with that slug.
    """

    def read(response: PrefectResponse) -> ModelList[BlockDocument]:
        documents = _documents(response)[offset or 0 :]  # the server returns them all
        return ModelList(documents[:limit], model=models.BlockDocument)

    return get(
        path(
            "/block_types/slug/{}/block_documents?include_secrets={}",
            block_type_slug,
            _word(include_secrets),
        ),
        read,
        named("block type", block_type_slug),
    )


@operation
def count_block_documents(**query: Unpack[BlockDocumentQuery]) -> Call[int]:
    """Return the number of block documents; filters and keywords as in `read_block_documents`."""
    return count(path("/block_documents/count"), **_document_filters(query))


@operation
def update_block_document(
    block_document_id: UUID | str,
    block_document: Data | None = None,
    *,
    data: Mapping[str, Any] | Unchanged = UNCHANGED,
    block_schema_id: UUID | str | Unchanged = UNCHANGED,
    merge_existing_data: bool | None = None,
) -> Call[None]:
    """Update a block document.

    Args:
        data: the values to change; wrapped secrets are unwrapped.
        merge_existing_data: keep the values that are not given (the default).

    Raises:
        ObjectNotFound: there is no block document with that id.
        ValueError: no changes are given.
    """
    block_document = _plain_document(block_document, _CHANGED_WITH)
    data = data if data is UNCHANGED else _concealed(data)
    changes = changes_of(block_document, data=data, block_schema_id=block_schema_id)
    return Call(
        "PATCH",
        path("/block_documents/{}", as_id(block_document_id, "block_document_id")),
        nothing,
        json={**changes, **without_none(merge_existing_data=merge_existing_data)},
        reveals=True,
        missing=with_id("block document", block_document_id),
    )


@operation
def delete_block_document(block_document_id: UUID | str) -> Call[None]:
    """Delete a block document.

    Raises:
        ObjectNotFound: there is no block document with that id.
    """
    return delete(
        path("/block_documents/{}", as_id(block_document_id, "block_document_id")),
        with_id("block document", block_document_id),
    )


class BlockOperations:
    """Blocks: their types, schemas, and documents."""

    create_block_type = create_block_type
    read_block_types = read_block_types
    read_block_type_by_slug = read_block_type_by_slug
    update_block_type = update_block_type
    delete_block_type = delete_block_type
    create_block_schema = create_block_schema
    read_block_schemas = read_block_schemas
    read_block_schema_by_checksum = read_block_schema_by_checksum
    get_most_recent_block_schema_for_block_type = get_most_recent_block_schema_for_block_type
    create_block_document = create_block_document
    read_block_document = read_block_document
    read_block_document_by_name = read_block_document_by_name
    read_block_documents = read_block_documents
    read_block_documents_by_type = read_block_documents_by_type
    count_block_documents = count_block_documents
    update_block_document = update_block_document
    delete_block_document = delete_block_document
