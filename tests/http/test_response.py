"""Errors that explain themselves, and hold no secret."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from base64 import b64encode
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import orchnb
from orchnb import errors
from orchnb.errors import FieldProblem, ObjectNotFound, PrefectHTTPStatusError
from orchnb.http.errors import status_error
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import RetryPolicy
from orchnb.redaction import SECRETS
from orchnb.text import one_line

URL = "http://server/api/flows/1"


def answer(status: int, *, to: httpx.Request | None = None, **kwargs: Any) -> PrefectResponse:
    made = httpx.Response(status, request=to or httpx.Request("GET", URL), **kwargs)
    return PrefectResponse.from_httpx_response(made)


def raised(response: PrefectResponse) -> PrefectHTTPStatusError:
    with pytest.raises(PrefectHTTPStatusError) as caught:
        response.raise_for_status()
    return caught.value


# The class of a response


def test_a_response_changes_its_class_and_nothing_else() -> None:
    stream = httpx.ByteStream(b"body")
    plain = httpx.Response(200, stream=stream, request=httpx.Request("GET", URL), history=[])
    plain.extensions["mine"] = 1
    swapped = PrefectResponse.from_httpx_response(plain)
    assert swapped is plain
    assert swapped.stream is stream
    assert not swapped.is_closed
    assert swapped.extensions == {"mine": 1}
    assert swapped.read() == b"body"


@pytest.mark.parametrize("status", [200, 201, 204, 206, 299])
def test_a_success_returns_itself(status: int) -> None:
    good = answer(status)
    assert good.raise_for_status() is good


@pytest.mark.parametrize("status", [100, 301, 302, 307, 400, 404, 418, 499, 500, 599, 600, 999])
def test_anything_else_raises(status: int) -> None:
    error = raised(answer(status))
    assert error.status_code == status
    assert isinstance(error, httpx.HTTPStatusError)
    assert isinstance(error, errors.OrchnbError)
    assert str(error).startswith(f"{status} ")
    assert "GET http://server/api/flows/1" in str(error)


def test_a_response_to_no_request_says_so_as_httpx_does() -> None:
    with pytest.raises(RuntimeError):
        PrefectResponse.from_httpx_response(httpx.Response(500)).raise_for_status()


def test_a_body_that_was_not_read_is_left_out() -> None:
    error = raised(answer(500, stream=httpx.ByteStream(b"not read")))
    assert error.detail == ""


# What the server said


ROW = {"loc": ["body", "name"], "msg": "Field required", "type": "missing", "input": "canary"}

BODIES: dict[str, tuple[Any, str, list[FieldProblem]]] = {
    "detail": ({"detail": "Flow not found"}, "Flow not found", []),
    "fastapi 422": (
        {"detail": [ROW]},
        "",
        [FieldProblem("body.name", "Field required", "missing")],
    ),
    "prefect 422": (
        {
            "exception_message": "Invalid request received.",
            "exception_detail": [ROW],
            "request_body": {"name": "canary"},
        },
        "Invalid request received.",
        [FieldProblem("body.name", "Field required", "missing")],
    ),
    "problem+json": ({"title": "Out of credit", "detail": "30"}, "Out of credit: 30", []),
    "message": ({"message": "no"}, "no", []),
    "html": ("<html><title>502 Bad &amp; Gateway</title>", "502 Bad & Gateway", []),
    "html without a title": ("<html><body>x", "", []),
    "text": ("Internal Server Error", "Internal Server Error", []),
    "empty": ("", "", []),
    "list": ([1, 2], "", []),
    "number": (5, "", []),
    "null": (None, "", []),
    "odd rows": (
        {"detail": [{"loc": "here", "msg": None}, "words", 5]},
        "",
        [FieldProblem("here", "", ""), FieldProblem("", "words", "")],
    ),
}


@pytest.mark.parametrize(("body", "detail", "fields"), BODIES.values(), ids=BODIES)
def test_what_the_server_said(body: Any, detail: str, fields: list[FieldProblem]) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    error = raised(answer(422, content=content.encode()))
    assert error.detail == detail
    assert list(error.fields) == fields
    assert detail in str(error)
    for field in fields:
        assert field.message in str(error)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b"{broken",
        b"[" * 100_000,
        b'{"detail": "' + b"x" * 1_000_000 + b'"}',
        b'{"detail": "\\ud800"}',
        "{'déjà': 1}".encode("latin-1"),
    ],
    ids=["bytes", "half json", "deep", "huge", "lone surrogate", "latin-1"],
)
def test_a_body_of_any_kind_gives_a_short_printable_line(content: bytes) -> None:
    error = raised(answer(500, content=content, headers={"content-type": "text/html; charset=no"}))
    assert len(str(error)) < 1000
    str(error).encode()


@given(st.text(max_size=300), st.sampled_from([404, 422, 500]))
def test_the_message_is_one_line_without_control_characters(detail: str, status: int) -> None:
    error = status_error(answer(status, json={"detail": detail}))
    message = str(error)
    assert message.splitlines() == [message]
    assert message.isprintable()


@given(st.text(), st.integers(1, 50))
def test_one_line_is_short_and_printable(text: str, longest: int) -> None:
    line = one_line(text, longest)
    assert len(line) <= longest
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "PREFECT_API_KEY"),
        (404, "id or name"),
        (429, "limiting the rate of requests"),
        (500, "log"),
        (502, "proxy"),
    ],
)
def test_a_hint_says_what_to_do(status: int, words: str) -> None:
    assert words in raised(answer(status, json={"detail": "x"})).hint


def test_a_path_that_is_not_there_may_be_because_of_the_address() -> None:
    assert "PREFECT_API_URL ends in /api" in raised(answer(404, json={"detail": "Not Found"})).hint
    assert "PREFECT_API_URL" not in raised(answer(404, json={"detail": "Flow not found"})).hint


def test_what_was_made_by_hand_can_be_read_in_parts() -> None:
    made = PrefectResponse.from_httpx_response(httpx.Response(200, content=b"a\nb"))
    assert list(made.iter_lines()) == ["a", "b"]
    assert b"".join(made.iter_bytes(1)) == b"a\nb"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"errors": ["out of order"]}, ["out of order"]),
        ({"errors": [{"message": "out of order", "path": ["a"]}]}, ["out of order"]),
        ({"errors": [{"code": "E7", "title": "out of order"}]}, ["E7", "out of order"]),
        ({"errors": {"name": ["out of order"]}}, ["out of order"]),
        ({"msg": "out of order"}, ["out of order"]),
        ({"reason": "out of order"}, ["out of order"]),
        ({"error": "denied", "error_description": "out of order"}, ["denied", "out of order"]),
        ({"status": 400, "fault": {"faultstring": "out of order"}}, ["out of order"]),
        ({"detail": {"why": "out of order"}}, ["out of order"]),
        ({"detail": [{"why": "out of order"}]}, ["out of order"]),
        (["out of order", "and late"], ["out of order", "and late"]),
        ([{"msg": "out of order"}], ["out of order"]),
        ([{"why": "out of order"}], ["out of order"]),
        ("out of order", ["out of order"]),
        ({"many": [f"word {n}" for n in range(1000)]}, ["word 0"]),
    ],
)
def test_an_explanation_of_any_form_leaves_its_words_in_the_message(
    body: Any, words: list[str]
) -> None:
    error = raised(answer(400, json=body))
    assert all(word in error.message for word in words)
    assert len(error.message) < 1000


@pytest.mark.parametrize("body", [{}, [], None, 7, {"a": None}, [[]], {"a": {"b": [1, 2]}}])
def test_an_explanation_without_words_is_none(body: Any) -> None:
    error = raised(answer(400, json=body))
    assert (error.detail, error.fields) == ("", ())


def test_a_redirect_names_its_target_and_the_login_page() -> None:
    target = "https://sso.example/login?token=canary"
    error = raised(answer(302, headers={"location": target}))
    assert "https://sso.example/login" in error.hint
    assert "canary" not in error.hint


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_web_page_as_answer_is_pointed_out(status: int) -> None:
    assert "web page" in raised(answer(status, content=b"<!doctype html>")).hint


# They travel


ALL_ERRORS: list[Exception] = [
    errors.OrchnbError("a"),
    errors.InvalidSetting("b"),
    errors.ServerNotConfigured("c"),
    errors.ClientClosed("d"),
    errors.ClientNotPicklable("e"),
    errors.LifespanStartupFailed("f"),
    errors.ServerStartFailed("g", phase="start", hint="h", log_lines=["1", "2"]),
    errors.UnexpectedAnswer("i", hint="j"),
    status_error(answer(422, json={"detail": [ROW]})),
    ObjectNotFound.from_status_error(status_error(answer(404)), "no such thing"),
    errors.ObjectAlreadyExists.from_status_error(status_error(answer(409)), "there already"),
]


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "travel", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy]
)
def test_every_error_travels_whole(error: Exception, travel: Any) -> None:
    there = travel(error)
    assert type(there) is type(error)
    assert str(there) == str(error)
    for name in ("detail", "fields", "hint", "phase", "log_lines", "status_code"):
        assert getattr(there, name, None) == getattr(error, name, None)
    if isinstance(error, PrefectHTTPStatusError):
        assert there.response.status_code == error.response.status_code
        assert there.response.text == error.response.text
        assert there.request.url == error.request.url


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.OrchnbError)
    }
    drawn = errors.__doc__ or ""
    for name, kind in kinds.items():
        assert name in drawn
        for builtin in (ValueError, RuntimeError):
            if issubclass(kind, builtin):
                (line,) = (line for line in drawn.splitlines() if f"── {name} " in line)
                assert builtin.__name__ in line


# No secret

CANARY = "c4nary-Secret"


def leaks(error: BaseException) -> list[str]:
    """Where, of all places that a person or a program looks at, the canary is found."""
    places = {
        "str": str(error),
        "repr": repr(error),
        "args": repr(error.args),
        "vars": repr(vars(error)),
        "traceback": "".join(traceback.format_exception(error)),
        "pickle": pickle.dumps(error).decode("latin-1"),
        "hint": getattr(error, "hint", ""),
    }
    if isinstance(error, PrefectHTTPStatusError):
        places["request"] = repr((error.request.url, list(error.request.headers.items())))
        places["response"] = repr((error.response.text, list(error.response.headers.items())))
        places["response's request"] = repr(error.response.request.headers)
    encoded = [CANARY, quote(CANARY), b64encode(CANARY.encode()).decode().rstrip("=")]
    return [name for name, text in places.items() if any(form in text for form in encoded)]


def basic(credentials: str) -> str:
    return "Basic " + b64encode(credentials.encode()).decode()


REQUESTS: dict[str, httpx.Request] = {
    "key": httpx.Request("GET", URL, headers={"Authorization": f"Bearer {CANARY}"}),
    "auth string": httpx.Request("GET", URL, headers={"Authorization": basic(f"me:{CANARY}")}),
    "custom header": httpx.Request("GET", URL, headers={"X-Team": CANARY}),
    "cookie": httpx.Request("GET", URL, headers={"Cookie": f"session={CANARY}"}),
    "url password": httpx.Request("GET", f"http://me:{CANARY}@server/api"),
    "url user": httpx.Request("GET", f"http://{CANARY}@server/api"),
    "query": httpx.Request("GET", f"{URL}?token={CANARY}&limit=5"),
    "body": httpx.Request(
        "POST", URL, json={"deep": [{"password": CANARY}]}, extensions={SECRETS: (CANARY,)}
    ),
    "number": httpx.Request(
        "POST", URL, json={"pin": 98765432101}, extensions={SECRETS: ("98765432101",)}
    ),
}

ECHOES: dict[str, Any] = {
    "nothing": lambda value: b"",
    "detail": lambda value: json.dumps({"detail": f"You sent {value}."}).encode(),
    "input": lambda value: json.dumps({"detail": [{**ROW, "input": value, "msg": value}]}).encode(),
    "ctx": lambda value: json.dumps({"detail": [{"loc": [value], "ctx": {"x": value}}]}).encode(),
    "body": lambda value: json.dumps(
        {"request_body": {"x": value}, "exception_message": value}
    ).encode(),
    "html": lambda value: f"<html><title>{value}</title>{value}".encode(),
    "text": lambda value: f"bad header {value}\n{quote(value)}".encode(),
    "key": lambda value: json.dumps({value: value}).encode(),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("status", [302, 401, 422, 500])
def test_no_secret_of_the_request_is_in_the_error(
    request_: httpx.Request, echo: Any, status: int
) -> None:
    value = "98765432101" if b"98765432101" in request_.read() else CANARY
    headers = {"Location": f"http://x/?t={value}", "Set-Cookie": value, "X-Echo": value}
    error = status_error(answer(status, to=request_, content=echo(value), headers=headers))
    assert leaks(error) == []
    assert "98765432101" not in str(error)


@pytest.mark.parametrize(
    "sent",
    [
        *REQUESTS.values(),
        httpx.Request("POST", URL, json={"pool": "production-pool", "pin": 98765432100}),
        httpx.Request("POST", URL, data={"pool": "production-pool"}),
        httpx.Request("POST", f"{URL}?pool=production-pool"),
        httpx.Request("POST", f"{URL}?production-pool"),
    ],
)
def test_ordinary_values_of_the_request_are_in_the_error(sent: httpx.Request) -> None:
    words = "There is no production-pool, 98765432100 is COMPLETED"
    error = status_error(answer(422, to=sent, json={"detail": words, "more": [98765432100]}))
    assert error.detail == words
    assert error.response.json() == {"detail": words, "more": [98765432100]}
    if not (sent.url.username or b"token" in sent.url.query):
        assert error.request.url == sent.url


def test_a_whole_exchange_logs_no_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", json.dumps({"X-Team": CANARY}))
    transport = httpx.MockTransport(
        lambda request: httpx.Response(503, json={"detail": str(request.headers)})
    )
    events: list[Any] = []
    caplog.set_level(logging.DEBUG, logger="orchnb")
    with (
        orchnb.observe_retries(events.append),
        orchnb.PrefectHttpxSyncClient(
            transport=transport,
            base_url=f"http://me:{CANARY}@server",
            headers={"Authorization": f"Bearer {CANARY}"},
            sleep=lambda seconds: None,
            retry_policy=RetryPolicy(max_retries=2),
        ) as client,
        pytest.raises(PrefectHTTPStatusError) as caught,
    ):
        client.post("/x", params={"token": CANARY}, extensions={SECRETS: (CANARY,)})
    assert leaks(caught.value) == []
    assert "next try" in caplog.text
    assert CANARY not in caplog.text
    assert CANARY not in repr(events)
    assert len(events) == 3
