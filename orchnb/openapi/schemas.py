"""Convert JSON Schema to Python types. Types are built from objects; no text is ever executed.

A document can contain anything, so the conversion is bounded: in depth, and in the size of the resulting
type, because references can double it with every step. Anything not understood becomes ``Any``.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from types import GenericAlias
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote
from uuid import UUID

_DEEPEST = 64
_LARGEST_TYPE = 24
_MOST_VALUES = 24
_LONGEST_VALUE = 60
_MOST_FIELDS = 200
_LARGEST_NUMBER = 10**18

_BODY_MADE_BY_FASTAPI = "Body_"


class UnsentType:
    """The default of arguments that are sent only if given; otherwise the server decides."""

    def __repr__(self) -> str:
        return "..."


UNSENT = UnsentType()


class _Type(NamedTuple):
    annotation: Any
    size: int = 1


_ANY = _Type(Any)

_PLAIN = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}

_SENT_FORMATS: dict[object, Any] = {
    "uuid": UUID | str,
    "date-time": datetime | str,
    "date": date | str,
    "binary": bytes | str,
}
"""The types accepted for a string with a format; received values are plain JSON."""


class Fields(NamedTuple):
    """The fields of an object: the schema of each, and which are required."""

    schemas: Mapping[str, Any]
    required: frozenset[str]


class Schemas:
    """The schemas of one document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._known: dict[tuple[str, bool], _Type] = {}
        self._known_fields: dict[str, Fields | None] = {}

    def target(self, node: Any) -> Any:
        """Return the node, or the one it refers to within the document; None if that does not exist."""
        for _ in range(_DEEPEST):
            if not isinstance(node, dict) or "$ref" not in node:
                return node
            node = self._at(node["$ref"])
        return None

    def sent(self, schema: Any) -> Any:
        """Return the type of values accepted for this schema in a request."""
        return self._type(schema, True, 0).annotation

    def received(self, schema: Any) -> Any:
        """Return the type of a response with this schema, as parsed from JSON."""
        return self._type(schema, False, 0).annotation

    def default(self, schema: Any) -> Any:
        """Return the server's default for a value, if the document names one and it is short."""
        schema = self.target(schema)
        if not isinstance(schema, dict) or "default" not in schema:
            return UNSENT
        value = schema["default"]
        return value if value is None or _is_short(value) else UNSENT

    def fields(self, schema: Any, depth: int = 0) -> Fields | None:
        """Return the fields of an object that has only these; None for any other schema."""
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return None
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return self._fields(schema, depth)
        if reference not in self._known_fields:
            self._known_fields[reference] = None  # a reference to itself ends there
            self._known_fields[reference] = self.fields(self._at(reference), depth + 1)
        return self._known_fields[reference]

    def _fields(self, schema: Mapping[str, Any], depth: int) -> Fields | None:
        choices = self._choices(schema)
        if choices is not None:
            return self.fields(choices[0], depth + 1) if len(choices) == 1 else None
        if schema.get("additionalProperties") or "patternProperties" in schema:
            return None
        parts = schema["allOf"][:_LARGEST_TYPE] if _is_list(schema.get("allOf")) else []
        found = [self.fields(part, depth + 1) for part in parts]
        if not parts or isinstance(schema.get("properties"), dict):
            found.append(_own_fields(schema))
        schemas: dict[str, Any] = {}
        required: set[str] = set()
        for fields in found:
            if fields is None or len(schemas) > _MOST_FIELDS:
                return None
            schemas.update(fields.schemas)
            required |= fields.required
        if not 0 < len(schemas) <= _MOST_FIELDS:
            return None
        return Fields(schemas, frozenset(required))

    def is_binary(self, schema: Any, depth: int = 0) -> bool:
        """Return whether a form field is a file or a list of files."""
        schema = self.target(schema)
        if not isinstance(schema, dict) or depth > 3:
            return False
        if schema.get("format") == "binary" or "contentMediaType" in schema:
            return True
        inner = [schema.get("items"), *(self._choices(schema) or ())[:3]]
        return any(self.is_binary(each, depth + 1) for each in inner)

    def keys(self, schema: Any) -> tuple[str, ...]:
        """Return the possible keys of an object, or of the objects in a list."""
        if isinstance(schema, dict) and "items" in schema:
            schema = schema["items"]
        fields = self.fields(schema)
        return tuple(fields.schemas) if fields else ()

    def _at(self, reference: object) -> Any:
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return None
        node: Any = self._document
        for part in unquote(reference[2:]).split("/")[:_DEEPEST]:
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, dict) or key not in node:
                return None
            node = node[key]
        return node

    def _choices(self, schema: Mapping[str, Any]) -> list[Any] | None:
        """Return the alternative schemas of a value, without null."""
        for word in ("anyOf", "oneOf"):
            if _is_list(schema.get(word)):
                return [each for each in schema[word] if not _is_null(each)]
        return None

    def _type(self, schema: Any, sent: bool, depth: int) -> _Type:
        if not isinstance(schema, dict) or depth > _DEEPEST:
            return _ANY
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return self._made(schema, sent, depth)
        key = (reference, sent)
        if key not in self._known:
            self._known[key] = _ANY  # a reference to itself ends there
            self._known[key] = self._type(self._at(reference), sent, depth + 1)
        return self._known[key]

    def _made(self, schema: Mapping[str, Any], sent: bool, depth: int) -> _Type:
        found = self._by_values(schema) or self._by_parts(schema, sent, depth)
        if found is None:
            kinds = schema.get("type")
            names = kinds if isinstance(kinds, list) else [kinds]
            found = _union(
                self._by_kind(name, schema, sent, depth) for name in names[: len(_PLAIN) + 2]
            )
        return _union([found, _Type(None)]) if schema.get("nullable") is True else found

    def _by_values(self, schema: Mapping[str, Any]) -> _Type | None:
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if not isinstance(values, list) or not 0 < len(values) <= _MOST_VALUES:
            return None
        if not all(
            value is None or (_is_short(value) and not isinstance(value, float)) for value in values
        ):
            return None
        return _Type(Literal[tuple(values)])

    def _by_parts(self, schema: Mapping[str, Any], sent: bool, depth: int) -> _Type | None:
        for word in ("anyOf", "oneOf"):
            if _is_list(schema.get(word)):
                members = schema[word]
                if len(members) > _LARGEST_TYPE:
                    return _ANY
                return _union(self._type(each, sent, depth + 1) for each in members)
        if not _is_list(schema.get("allOf")):
            return None
        found = [self._type(part, sent, depth + 1) for part in schema["allOf"][:_LARGEST_TYPE]]
        known = [each for each in found if each.annotation is not Any]
        return known[0] if known else _ANY

    def _by_kind(self, kind: object, schema: Mapping[str, Any], sent: bool, depth: int) -> _Type:
        if kind == "array" or (kind is None and "items" in schema):
            item = self._type(schema.get("items"), sent, depth + 1)
            annotation = item.annotation if _fits(item) else Any
            return _Type(GenericAlias(list, (annotation,)), item.size + 1 if _fits(item) else 2)
        if kind == "object" or (kind is None and "properties" in schema):
            value = self._type(schema.get("additionalProperties"), sent, depth + 1)
            value = _ANY if "properties" in schema or not _fits(value) else value
            return _Type(GenericAlias(dict, (str, value.annotation)), value.size + 2)
        if kind == "string":
            form = schema.get("format")
            known = _SENT_FORMATS.get(form) if sent and isinstance(form, str) else None
            return _Type(known or str)
        if isinstance(kind, str) and kind in _PLAIN:
            return _Type(_PLAIN[kind])
        return _ANY


def model_name(schema: Any) -> str:
    """Return the document's name for a referenced schema, if it is meaningful."""
    if not isinstance(schema, dict):
        return ""
    choices: list[Any] = next(
        (schema[word] for word in ("anyOf", "oneOf") if _is_list(schema.get(word))), []
    )
    for each in [schema, *choices[:2]]:
        reference = each.get("$ref") if isinstance(each, dict) else None
        if isinstance(reference, str) and re.fullmatch(
            r"#/components/schemas/[\w.-]{1,80}", reference
        ):
            name = reference.rpartition("/")[2]
            return "" if name.startswith(_BODY_MADE_BY_FASTAPI) else name
    return ""


def _own_fields(schema: Mapping[str, Any]) -> Fields | None:
    properties = schema.get("properties")
    if not isinstance(properties, dict) or len(properties) > _MOST_FIELDS:
        return None
    writable = {
        name: each
        for name, each in properties.items()
        if not (isinstance(each, dict) and each.get("readOnly") is True)
    }
    required = schema.get("required")
    names = {
        name for name in (required if isinstance(required, list) else []) if isinstance(name, str)
    }
    return Fields(writable, frozenset(names & writable.keys()))


def _union(members: Iterable[_Type]) -> _Type:
    found: list[Any] = []
    size = 0
    for annotation, each in members:
        size += each
        if annotation is Any or size > _LARGEST_TYPE:
            return _ANY
        if annotation not in found:
            found.append(annotation)
    nullable = None in found
    kinds = [annotation for annotation in found if annotation is not None]
    if not kinds:
        return _Type(None) if nullable else _ANY
    union = functools.reduce(operator.or_, kinds)
    return _Type(union | None if nullable else union, size)


def _fits(found: _Type) -> bool:
    return found.size < _LARGEST_TYPE


def _is_list(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _is_null(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "null"


def _is_short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_VALUE
    return isinstance(value, (bool, int, float)) and abs(value) < _LARGEST_NUMBER
