"""Blocks: settings and credentials stored on the server, their types and schemas.

The secret values of a block document are wrapped in pydantic's `Secret`, whether the server sent the
values or asterisks: they show as asterisks wherever the document is shown, and ``get_secret_value()``
returns them. The document's schema says which values are secret; without a schema, all of them are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, Secret, SecretBytes, SecretStr, model_validator
from typing_extensions import Self

from orchnb.api.models.base import Model, NullIsDefault, Time

FieldPath = tuple[str, ...]
"""The path of keys to a value; empty for the whole value."""


class BlockType(Model):
    """A kind of block, such as ``secret`` or ``s3-bucket``."""

    id: UUID
    name: str
    slug: str
    created: Time | None = None
    updated: Time | None = None
    logo_url: str | None = None
    documentation_url: str | None = None
    description: str | None = None
    code_example: str | None = None
    is_protected: Annotated[bool, NullIsDefault] = False


class BlockSchema(Model):
    """The fields of a block type's blocks, in one version of the type."""

    id: UUID
    checksum: str
    fields: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    created: Time | None = None
    updated: Time | None = None
    block_type_id: UUID | None = None
    block_type: BlockType | None = None
    capabilities: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    version: str | None = None


class ServerDefaultResultStorage(Model):
    """The block that stores the results of runs by default; None if there is no such block."""

    default_result_storage_block_id: UUID | None = None


class BlockDocument(Model):
    """A block's contents: the values of its fields, the secret ones wrapped."""

    id: UUID
    name: str | None = None
    data: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    created: Time | None = None
    updated: Time | None = None
    block_schema_id: UUID | None = None
    block_schema: BlockSchema | None = None
    block_type_id: UUID | None = None
    block_type_name: str | None = None
    block_type: BlockType | None = None
    block_document_references: Annotated[dict[str, Any], NullIsDefault] = Field(
        default_factory=dict
    )
    is_anonymous: Annotated[bool, NullIsDefault] = False

    @model_validator(mode="after")
    def _wrap_secrets(self) -> Self:
        self.data = wrapped(self.data, secret_places(self.block_schema))
        return self


def secret_places(schema: BlockSchema | None) -> list[FieldPath]:
    """Return where a schema's documents contain secrets, according to the schema."""
    if schema is None:
        return [()]
    named = schema.fields.get("secret_fields") or []
    if not isinstance(named, list):
        return [()]  # it is unclear which values are secret, so all of them are
    # Everything below a wildcard is secret; the server treats it the same way.
    places = [tuple(takewhile("*".__ne__, str(place).split("."))) for place in named]
    # For a block within a block, only the inner block's schema would say reliably what is secret.
    nested = schema.fields.get("block_schema_references")
    return places + [(str(field),) for field in (nested if isinstance(nested, Mapping) else ())]


def wrapped(value: Any, places: Sequence[FieldPath]) -> Any:
    """Return a copy of a value in which everything at or below these places is wrapped."""
    if () in places:
        return _wrapped_all(value)
    if isinstance(value, Mapping):
        return {
            key: wrapped(item, [place[1:] for place in places if place[0] == str(key)])
            for key, item in value.items()
        }
    return value


def _wrapped_all(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _wrapped_all(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_wrapped_all(item) for item in value]
    if value is None or isinstance(value, (Secret, SecretStr, SecretBytes)):
        return value
    return SecretStr(value) if isinstance(value, str) else Secret(value)


def unwrapped(value: Any) -> Any:
    """Return a copy of a value in which wrapped secrets are replaced by their values."""
    if isinstance(value, (Secret, SecretStr, SecretBytes)):
        return unwrapped(value.get_secret_value())
    if isinstance(value, Mapping):
        return {key: unwrapped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [unwrapped(item) for item in value]
    return value
