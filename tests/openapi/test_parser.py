"""Documents that are broken, hostile or random."""

from __future__ import annotations

import json
import keyword
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchnb import UnexpectedAnswer
from orchnb.openapi.parser import Description, read_description
from orchnb.openapi.requests import call_of
from tests.openapi.documents import HTTP, body, document, get, only


@pytest.mark.parametrize(
    "path",
    [
        "things",
        "//evil.example/x",
        "/a//b",
        "/../x",
        "/a/%2e%2E/b",
        "/./a",
        "http://evil/x",
        "/" * 9,
    ],
)
def test_a_document_with_a_path_that_leads_elsewhere_is_broken(path: str) -> None:
    with pytest.raises(UnexpectedAnswer, match="is not a valid path"):
        read_description(document({path: {"get": {}}}))


def test_variables_of_servers_are_filled_in() -> None:
    servers = [{"url": "/{base}", "variables": {"base": {"default": "v1"}}}, {"url": 3}, "x"]
    assert read_description(document(servers=servers)).servers == ("/v1",)


BILLION = {
    f"S{n}": {
        "anyOf": [{"type": "array", "items": ref}, {"type": "object", "additionalProperties": ref}]
    }
    for n in range(60)
    for ref in [{"$ref": f"#/components/schemas/S{n + 1}"}]
}
BILLION_PARTS = {
    f"P{n}": {
        "allOf": [{"$ref": f"#/components/schemas/P{n + 1}"}] * 2,
        "properties": {f"p{n}": {}},
    }
    for n in range(60)
}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 10_000, "nested too deeply|not JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply|not JSON"),
        (b"[]", "it is not an object"),
        (b"{}", "version should be 3.0 or 3.1"),
        (b'{"swagger": "2.0"}', "'2.0'"),
        (b'{"openapi": 3}', "'3'"),
        (document([1]), "'paths' is not an object"),
        (document({"/a": []}), "the path '/a' is not an object"),
        (document({"/a": {"$ref": "#/nowhere"}}), "the path '/a' is not an object"),
        (document({"/a": {"get": "x"}}), "GET of the path '/a' is not an object"),
        (document({"/a": {"get": {"parameters": {}}}}), "the parameters of GET"),
        (document({"/a": {"get": {"parameters": [3]}}}), "a parameter of GET"),
        (document({"/a": {"get": {"parameters": [{"in": "query"}]}}}), "no name"),
        (document({"/a": {"post": {"requestBody": []}}}), "the body of POST"),
        (document({"/a": {"post": {"requestBody": {"content": {"a\r\nb": {}}}}}}), "no media type"),
        (document({"/a": {"get": {"responses": 3}}}), "the responses of GET"),
        (document({f"/{n}": {"get": {}} for n in range(5001)}), "more than 5000 operations"),
        (document({"/a": {"get": {"parameters": [{"name": "a", "in": "query"}] * 301}}}), "too many"),
        (document(dict.fromkeys((f"/{n}" for n in range(1000)),
            body({"properties": {f"f{n}": {} for n in range(150)}})["/things"])), "too many arguments"),
        (b" " * 20_000_001, "larger than 20 MB"),
    ],
)  # fmt: skip
def test_a_broken_document_is_an_error_that_says_what_is_wrong(content: bytes, words: str) -> None:
    with pytest.raises(UnexpectedAnswer, match=words) as caught:
        read_description(content)
    assert len(str(caught.value)) < 400
    assert caught.value.hint


@pytest.mark.parametrize(
    "paths",
    [
        body({"$ref": "#/components/schemas/S0"}),
        body({"$ref": "#/components/schemas/P0"}),
        body({"$ref": "#/components/schemas/Self"}),
        body({"$ref": "#/components/schemas/Twins"}),
        body({"$ref": "#/components/schemas/Wide"}),
        body({"$ref": "#/" + "paths/" * 100_000}),
        get(
            parameters=[{"name": "a", "in": "query", "schema": {"$ref": "#/components/schemas/S0"}}]
            * 200
        ),
        get(operationId="x" * 1_000_000, tags=["y" * 10_000] * 1000, summary="z" * 1_000_000),
        get(
            operationId="a+" * 500_000,
            responses={"200": {"content": {"application/" + "+" * 100_000: {}}}},
        ),
        {f"/{n}": {"get": {"operationId": "same", "tags": ["same"]}} for n in range(5000)},
    ],
)
def test_a_document_that_is_made_to_grow_is_read_all_the_same(paths: Any) -> None:
    schemas = {
        **BILLION,
        **BILLION_PARTS,
        "Self": {"$ref": "#/components/schemas/Self"},
        "Twins": {"allOf": [{"$ref": "#/components/schemas/Twins"}] * 2},
        "Wide": {"anyOf": [{"$ref": "#/components/schemas/Wide"}] * 10_000},
    }
    began = time.process_time()
    description = read_description(document(paths, components={"schemas": schemas}))
    for operation in description.operations[:10]:
        assert len(str(operation.signature)) < 100_000
        assert len(operation.help) < 10_000
        hash(operation.result)
    assert time.process_time() - began < 5


def test_text_of_a_server_is_data() -> None:
    evil = "\x1b]0;owned\x07\x1b[31m'''\"\"\"\n__import__('os').system('id')\x00\u202e\ud800"
    operation = only(
        {
            "/a": {
                "get": {
                    "operationId": evil,
                    "tags": [evil],
                    "summary": evil,
                    "description": evil,
                    "parameters": [
                        {
                            "name": evil,
                            "in": "query",
                            "description": evil,
                            "schema": {"enum": [evil], "default": evil},
                        }
                    ],
                }
            }
        },
        info={"title": evil},
    )
    assert "import_os" in operation.name
    for text in (operation.help, str(operation.signature)):
        text.encode()  # without half of a character
        assert not [char for char in text if ord(char) < 32 and char != "\n"]
        assert "\u202e" not in text
        assert "owned" not in text or text is not operation.help
    (argument,) = operation.arguments
    assert call_of(operation, "/a", (), {argument.name: 1}).query == ((evil, "1"),)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
_WORDS = st.sampled_from(
    [
        *(
            "type",
            "items",
            "properties",
            "required",
            "anyOf",
            "oneOf",
            "allOf",
            "enum",
            "const",
            "$ref",
        ),
        *(
            "format",
            "default",
            "description",
            "additionalProperties",
            "nullable",
            "readOnly",
            "title",
        ),
    ]
)
_REFERENCES = st.sampled_from(
    ["#/components/schemas/A", "#/components/schemas/B", "#/", "#", "x", "#/paths"]
)
_SCHEMAS = st.recursive(
    _JSON | _REFERENCES | st.sampled_from(["string", "array", "object", "null", "integer", "uuid"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=15,
)
_PARAMETERS = st.fixed_dictionaries(
    {"name": st.text(max_size=8), "in": st.sampled_from(["query", "path", "header", "cookie"])},
    optional={
        "schema": _SCHEMAS,
        "required": _JSON,
        "style": _JSON,
        "explode": _JSON,
        "content": _SCHEMAS,
    },
)
_MEDIA = st.fixed_dictionaries({"schema": _SCHEMAS})
_KINDS = st.sampled_from(["application/json", "multipart/form-data", "text/plain"])
_OPERATIONS = st.fixed_dictionaries(
    {},
    optional={
        "operationId": st.text(max_size=12),
        "tags": st.lists(st.text(max_size=8), max_size=3) | _JSON,
        "parameters": st.lists(_PARAMETERS, max_size=4),
        "requestBody": st.fixed_dictionaries(
            {"content": st.dictionaries(_KINDS, _MEDIA, max_size=2)}
        ),
        "responses": st.dictionaries(st.sampled_from(["200", "2XX", "default"]), _JSON, max_size=2),
        "summary": _JSON,
        "description": _JSON,
    },
)


@settings(max_examples=150, deadline=None)
@given(_JSON)
def test_any_json_is_an_error_or_a_description(value: Any) -> None:
    for content in (
        value,
        {"openapi": "3.1.0", "paths": value},
        {"openapi": "3.0.0", "paths": {"/a": value}},
    ):
        with suppress(UnexpectedAnswer):
            assert isinstance(read_description(json.dumps(content).encode()), Description)


@settings(max_examples=150, deadline=None)
@given(st.lists(_OPERATIONS, max_size=4), _SCHEMAS, _SCHEMAS)
def test_any_operation_has_a_name_a_signature_and_a_call(operations: Any, a: Any, b: Any) -> None:
    paths = {f"/x{n}/{{id}}": {"post": operation} for n, operation in enumerate(operations)}
    described = read_description(
        document(paths, components={"schemas": {"A": a, "B": b}})
    ).operations
    assert len(described) == len(operations)
    for operation in described:
        for name in (operation.name, *operation.groups, *operation.signature.parameters):
            assert name.isidentifier()
            assert not keyword.iskeyword(name)
        assert not operation.name.startswith("_")
        (operation.help + str(operation.signature)).encode()
        given_values = dict.fromkeys(operation.signature.parameters, "value")
        if operation.encoding == "multipart" and "body" in given_values:
            given_values["body"] = {"a": 1}  # type: ignore[assignment]
        made = call_of(operation, operation.path, (), given_values)
        request = HTTP.build_request(made.method, made.path, **made.options())
        assert str(request.url).startswith("http://server/api/")
