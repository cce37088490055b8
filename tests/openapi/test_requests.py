"""The request that is made of a described operation and its arguments."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

import pytest

import orchnb
from orchnb.api.server_document import PREFECT
from orchnb.http.retry import ONCE
from orchnb.openapi.parser import read_description
from orchnb.openapi.requests import call_of
from tests.openapi.documents import HTTP, body, call, document, get


def test_what_is_not_given_is_not_sent_and_none_is_null() -> None:
    paths = body({"properties": {"a": {}, "b": {}, "c": {"default": 3}}})
    assert (
        call(paths, a=None, b=datetime(2026, 11, 1, tzinfo=timezone.utc)).options()["content"]
        == b'{"a": null, "b": "2026-11-01T00:00:00Z"}'
    )
    assert call(paths).options()["content"] == b"{}"
    assert "content" not in call(body({"properties": {"a": {}}}, required=False)).options()


@pytest.mark.parametrize(
    ("parameter", "value", "pairs"),
    [
        ({}, True, [("q", "true")]),
        ({}, None, []),
        ({}, 1.5, [("q", "1.5")]),
        ({}, uuid.UUID(int=1), [("q", str(uuid.UUID(int=1)))]),
        ({}, datetime(2026, 1, 1, tzinfo=timezone.utc), [("q", "2026-01-01T00:00:00Z")]),
        ({}, orchnb.ServerType.CLOUD, [("q", "CLOUD")]),
        ({}, ["a", 1, False], [("q", "a"), ("q", "1"), ("q", "false")]),
        ({}, {"a", }, [("q", "a")]),
        ({"explode": False}, ["a", "b"], [("q", "a,b")]),
        ({"style": "pipeDelimited"}, ["a", "b"], [("q", "a|b")]),
        ({"style": "spaceDelimited"}, ["a", "b"], [("q", "a b")]),
        ({"style": "deepObject"}, {"a": 1, "b": True}, [("q[a]", "1"), ("q[b]", "true")]),
        ({}, {"a": 1}, [("a", "1")]),
        ({"explode": False}, {"a": 1}, [("q", "a,1")]),
        ({"content": {"application/json": {}}}, {"a": [1]}, [("q", '{"a": [1]}')]),
        ({"style": "unheard-of"}, "x", [("q", "x")]),
    ],
)  # fmt: skip
def test_queries_are_written_as_the_document_says(parameter: Any, value: Any, pairs: Any) -> None:
    made = call(get(parameters=[{"name": "q", "in": "query", **parameter}]), q=value)
    assert made.options().get("params", []) == pairs


@pytest.mark.parametrize("value", ["../admin", "a/b", "..", ".", "a?b#c", "%2e%2e", "{x}", "é\n"])
def test_a_value_stays_within_its_part_of_the_path(value: str) -> None:
    made = call({"/a/{x}/b": {"get": {}}}, value)
    url = HTTP.build_request("GET", made.path).url
    assert url.raw_path.startswith(b"/api/a/")
    assert url.raw_path.endswith(b"/b")
    assert url.raw_path.count(b"/") == 4
    assert not url.query
    assert not url.fragment


def test_a_path_that_would_lead_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="not a valid id or name"):
        call({"/a/{x}": {"delete": {}}}, "")
    with pytest.raises(ValueError, match=r"the path would be /a/\.\."):
        call({"/a/.{x}": {"get": {}}}, ".")


def test_a_path_is_quoted_once() -> None:
    for path in ("/a b/{x y}?q#f", "/a%20b/{x y}%3Fq%23f"):
        assert call({path: {"get": {}}}, "v").path == "/a%20b/v%3Fq%23f"


def test_wrong_arguments_are_told_as_python_does() -> None:
    paths = {
        "/a/{id}": {
            "get": {"operationId": "read", "parameters": [{"name": "limit", "in": "query"}]}
        }
    }
    with pytest.raises(TypeError, match=r"read\(\): missing a required argument: 'id'"):
        call(paths)
    with pytest.raises(TypeError, match=r"read\(\) has no argument 'limits': did you mean limit\?"):
        call(paths, 1, limits=3)
    with pytest.raises(TypeError, match=r"read\(\) has no argument 'zzz': it takes id, limit"):
        call(paths, 1, zzz=3)
    with pytest.raises(TypeError, match="too many positional"):
        call(paths, 1, 2)
    with pytest.raises(ValueError, match="a cannot be sent as JSON"):
        call(body({"properties": {"a": {}}}), a=object()).options()


def test_headers_are_sent_if_they_are_the_operations_own() -> None:
    names = ["X-Trace", "authorization", "Host", "Content-Length", "x-prefect-api-version"]
    paths = get(parameters=[{"name": name, "in": "header"} for name in names])
    (operation,) = read_description(document(paths), PREFECT).operations
    made = call_of(operation, operation.path, (), {"X_Trace": True})
    assert made.options()["headers"] == {"X-Trace": "true"}
    assert len(operation.arguments) == 1
    for value in ("a\r\nHost: evil", "é"):
        with pytest.raises(ValueError, match="plain ASCII on one line"):
            call(paths, X_Trace=value)


def test_only_what_is_known_to_change_nothing_may_be_sent_twice() -> None:
    paths = {
        "/a/filter": {"post": {}, "get": {}, "patch": {}, "put": {}, "delete": {}},
        "/a": {"post": {}, "patch": {}},
    }

    def once(title: str) -> set[tuple[str, str]]:
        content = document(paths, info={"title": title})
        operations = read_description(content, PREFECT).operations
        calls = [call_of(each, each.path, (), {}) for each in operations]
        return {(each.method, each.path) for each in calls if each.options()["extensions"][ONCE]}

    posts = {("POST", "/a/filter"), ("POST", "/a")}
    assert once("Some API") == posts | {("PATCH", "/a"), ("PATCH", "/a/filter")}
    assert once("Prefect REST API") == {("POST", "/a")}
