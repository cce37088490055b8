"""Types, signatures and help from the schemas of a document."""

from __future__ import annotations

from typing import Any

import pytest

from tests.openapi.documents import body, get, only


@pytest.mark.parametrize(
    ("schema", "annotation"),
    [
        ({"type": "string"}, "str"),
        ({"type": ["integer", "null"]}, "int | None"),
        ({"type": "number", "nullable": True}, "float | None"),
        ({"type": "string", "format": "uuid"}, "uuid.UUID | str"),
        ({"type": "string", "format": "date-time"}, "datetime.datetime | str"),
        ({"type": "array", "items": {"type": "string"}}, "list[str]"),
        ({"type": "array"}, "list[typing.Any]"),
        ({"type": "object"}, "dict[str, typing.Any]"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "dict[str, int]"),
        ({"properties": {"a": {}}}, "dict[str, typing.Any]"),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, "bool | None"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "str | int"),
        ({"allOf": [{"$ref": "#/components/schemas/Text"}]}, "str"),
        ({"enum": ["a", "b"]}, "Literal['a', 'b']"),
        ({"const": 3}, "Literal[3]"),
        ({"$ref": "#/components/schemas/Loop"}, "list[typing.Any]"),
        ({"$ref": "#/components/schemas/Nowhere"}, "Any"),
        ({"$ref": "https://evil.example/schema.json"}, "Any"),
        ({"type": "unheard-of"}, "Any"),
        ({"type": ["string", {"a": 1}]}, "Any"),
        ({"enum": ["x" * 1000]}, "Any"),
        ({"enum": list(range(100_000)), "type": "integer"}, "int"),
        (True, "Any"),
        (None, "Any"),
        (3, "Any"),
    ],
)
def test_types_come_from_schemas(schema: Any, annotation: str) -> None:
    schemas = {
        "Text": {"type": "string"},
        "Loop": {"type": "array", "items": {"$ref": "#/components/schemas/Loop"}},
    }
    parameter = {"name": "a", "in": "query", "schema": schema}
    operation = only(get(parameters=[parameter]), components={"schemas": schemas})
    assert str(operation.signature) == f"(*, a: {annotation} = ...) -> Any".replace(
        "-> Any", ""
    ) + ("-> Any")


def test_a_signature_has_paths_first_and_what_must_be_given_before_what_may() -> None:
    operation = only(
        {
            "/a/{b}/{a}": {
                "parameters": [{"name": "a", "in": "path", "schema": {"type": "integer"}}],
                "post": {
                    "parameters": [
                        {"name": "q", "in": "query", "schema": {"type": "integer", "default": 3}},
                        {"name": "r", "in": "query", "required": True},
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["need"],
                                    "properties": {
                                        "may": {"type": "string", "default": "it's"},
                                        "need": {"type": "string"},
                                        "made": {"type": "string", "readOnly": True},
                                    },
                                }
                            }
                        },
                    },
                    "responses": {
                        "200": {"content": {"application/json": {"schema": {"type": "string"}}}}
                    },
                },
            }
        }
    )
    assert str(operation.signature) == (
        '(b: Any, a: int, *, r: Any, need: str, q: int = 3, may: str = "it\'s") -> str'
    )


def test_a_body_that_is_no_plain_object_is_given_whole() -> None:
    for schema in (
        {"type": "array", "items": {"type": "string"}},
        {"type": "object", "additionalProperties": True, "properties": {"a": {}}},
        {"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"type": "object", "properties": {f"f{n}": {} for n in range(1000)}},
    ):
        assert [argument.name for argument in only(body(schema)).arguments] == ["body"]


def test_a_patch_shows_no_defaults_as_what_is_not_given_stays_as_it_is() -> None:
    paths = body({"properties": {"paused": {"type": "boolean", "default": False}}})
    assert "False" in str(only(paths).signature)
    paths["/things"]["patch"] = paths["/things"].pop("post")
    assert "False" not in str(only(paths).signature)


def test_parts_of_an_object_are_put_together() -> None:
    operation = only(
        body(
            {
                "allOf": [
                    {"$ref": "#/components/schemas/A"},
                    {"properties": {"b": {"type": "integer"}}},
                ]
            }
        ),
        components={"schemas": {"A": {"properties": {"a": {"type": "string"}}, "required": ["a"]}}},
    )
    assert str(operation.signature) == "(*, a: str, b: int = ...) -> Any"
