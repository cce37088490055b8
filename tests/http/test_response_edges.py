"""Bodies that hide something, or are made to do harm."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest

from orchnb.errors import PrefectHTTPStatusError
from orchnb.http.errors import status_error
from orchnb.http.response import PrefectResponse

CANARY = "c4nary<Secret>&more"


def error_of(
    content: bytes, status: int = 500, *, to: httpx.Request | None = None, **headers: str
) -> PrefectHTTPStatusError:
    request = to or httpx.Request("POST", "http://s/api", headers={"X-Team": CANARY})
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    response = httpx.Response(status, content=content, headers=headers, request=request)
    return status_error(PrefectResponse.from_httpx_response(response))


# Charsets

CHARSETS = ["hex", "rot13", "base64", "zip", "idna", "undefined", "punycode", "utf-7", "no-such"]


@pytest.mark.parametrize("charset", CHARSETS)
def test_a_charset_that_is_none_does_no_harm(charset: str) -> None:
    """Python knows codecs of these names, and they make bytes of bytes, or raise."""
    error = error_of(b'{"detail": "no"}', content_type=f"application/json; charset={charset}")
    assert error.status_code == 500
    assert isinstance(error.response.text, str)


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "utf-8-sig", "shift-jis"])
def test_the_servers_charset_is_heeded_and_the_copy_is_readable(charset: str) -> None:
    body = json.dumps({"detail": "wörter"}, ensure_ascii=False).replace("ö", "o")
    error = error_of(body.encode(charset), content_type=f"application/json; charset={charset}")
    assert error.detail == "worter"
    assert error.response.json() == {"detail": "worter"}


def test_a_byte_order_mark_does_not_hide_the_json() -> None:
    assert error_of(b'\xef\xbb\xbf{"detail": "no"}').detail == "no"
    assert "web page" in error_of(b"\xef\xbb\xbf<html>", 404).hint


# What hides a secret


@pytest.mark.parametrize(
    "body",
    [
        "<title>c4nary&lt;Secret&gt;&amp;more</title>",
        "<title>c4nary&#60;Secret&#x3e;&#38;more</title>",
        "<title>&#99;4nary&lt;Secret>&more</title>",
        "c4nary%3CSecret%3E%26more",
        "c4nary%3cSecret%3e%26more",
        '{"detail": "c4nary\\u003cSecret\\u003e\\u0026more"}',
        '{"detail": "c4nary\\\\u003cSecret"',
    ],
    ids=["entities", "numbered", "first letter", "percent", "small percent", "json", "half json"],
)
def test_a_secret_that_markup_hides_is_masked_where_it_shows(body: str) -> None:
    error = error_of(body.encode())
    assert CANARY not in error.detail
    assert CANARY not in str(error)


def test_secrets_in_harmless_headers_are_masked() -> None:
    error = error_of(
        b"", 302, server=CANARY, location=f"/login/{CANARY}?next={CANARY}", vary=CANARY
    )
    shown = repr(list(error.response.headers.items())) + error.hint
    assert CANARY not in shown
    assert "c4nary" not in shown
    assert "/login/***" in error.hint


def test_an_echo_in_an_errors_text_is_left_out_also_where_it_was_shortened() -> None:
    words = "1 validation error [type=string_too_long, input_value='c4nar...&more', input_type=str]"
    error = error_of(json.dumps({"detail": words}).encode())
    assert "c4nar" not in str(error) + error.response.text
    assert "string_too_long" in error.detail


def test_detail_may_be_an_object() -> None:
    detail = {"message": "quota used up", "detail": [{"loc": ["body"], "msg": "m", "type": "t"}]}
    error = error_of(json.dumps({"detail": detail}).encode(), 403)
    assert error.detail == "quota used up"
    assert [row.location for row in error.fields] == ["body"]


# Sizes


def test_many_rows_make_a_short_message_and_are_all_there() -> None:
    rows = [{"loc": ["body", i], "msg": "bad " + "x" * 50, "type": "t"} for i in range(5000)]
    error = error_of(json.dumps({"detail": rows}).encode(), 422)
    assert len(error.fields) == 5000
    assert len(str(error)) < 7000
    assert error.message.endswith("; and 4990 more")


MALICE: dict[str, bytes] = {
    "titles that never end": b"<title" * 200_000,
    "titles that never close": b"<title>" * 200_000,
    "spaces": b'{"detail": "' + b" " * 1_000_000 + b'"}',
    "deep list": b"[" * 500 + b"]" * 500,
    "deep object": b'{"detail":' * 500 + b"1" + b"}" * 500,
    "deepest list": b"[" * 900_000,
    "long number": b'{"detail": ' + b"9" * 100_000 + b"}",
    "input_value": b'"' + b"input_value=" * 80_000 + b'"',
}


@pytest.mark.parametrize("content", MALICE.values(), ids=MALICE)
@pytest.mark.parametrize("status", [404, 500])
def test_a_body_made_to_do_harm_is_told_about_soon(content: bytes, status: int) -> None:
    began = time.process_time()
    error = error_of(content, status)
    assert time.process_time() - began < 5
    assert len(str(error)) < 1000


# What a copy keeps


def test_the_copies_in_the_error_can_be_used_like_the_originals() -> None:
    error = error_of(b'{"detail": "no", "code": 7}', 422, content_type="application/json")
    assert error.response.json() == {"detail": "no", "code": 7}
    assert error.response.request is error.request
    assert error.response.is_closed
    assert error.request.method == "POST"
    assert error.response.headers["content-type"] == "application/json"
    with pytest.raises(PrefectHTTPStatusError):
        error.response.raise_for_status()


@pytest.mark.parametrize("method", ["GET\nX: y", "G\x1bT", "ÄÖ"])
def test_a_method_of_any_kind_keeps_the_message_on_one_line(method: str) -> None:
    error = error_of(b"", to=httpx.Request(method, "http://s/"))
    assert str(error).isprintable()


def test_a_success_and_a_stream_keep_history_elapsed_and_extensions() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/":
            return httpx.Response(302, headers={"Location": "/there"})
        return httpx.Response(200, stream=httpx.ByteStream(b"body"), extensions={"mine": 1})

    import orchnb

    with orchnb.PrefectHttpxSyncClient(
        transport=httpx.MockTransport(serve), base_url="http://s", follow_redirects=True
    ) as client:
        with client.stream("GET", "/") as answer:
            kept: Any = answer
            assert isinstance(answer, PrefectResponse)
            assert [earlier.status_code for earlier in answer.history] == [302]
            assert answer.extensions["mine"] == 1
            assert answer.read() == b"body"
        assert kept.elapsed.total_seconds() >= 0
        assert kept.is_closed
