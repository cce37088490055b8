"""What is secret is known from where it stood, and is masked however it is written."""

from __future__ import annotations

import html
import json
import re
import time
from base64 import b64encode
from typing import Any
from urllib.parse import quote, quote_plus

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchnb.redaction import MASK, redact_headers, redact_url, scrub, scrub_json, secrets_of

CANARY = "c4nary-Secret"

# URLs


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://server/api", "http://server/api"),
        ("http://server:4200/api/", "http://server:4200/api/"),
        ("http://[::1]:4200/api", "http://[::1]:4200/api"),
        (f"http://me:{CANARY}@server/api", "http://***@server/api"),
        (f"http://{CANARY}@server/api", "http://***@server/api"),
        (f"http://a@{CANARY}@server/api", "http://***@server/api"),
        (f"http://me:{quote(CANARY + '/@', safe='')}@server", "http://***@server"),
        (f"http://s/a?token={CANARY}&n=5", "http://s/a?token=***&n=***"),
        (f"http://s/a?{CANARY}", "http://s/a?***"),
        (f"http://s/a?x=1&{CANARY}&=y", "http://s/a?x=***&***&=***"),
        (f"http://s/a?x={CANARY}={CANARY}", "http://s/a?x=***"),
        (f"http://s/a?{CANARY}=", "http://s/a?***"),
        (f"http://s/a#{CANARY}", "http://s/a"),
        (f"//me:{CANARY}@server/a", "//***@server/a"),
        (f"/login?next={CANARY}", "/login?next=***"),
        (f"me:{CANARY}@server/api", "***"),
        (f"http:/me:{CANARY}@server/api", "***"),
        (f"http://me:{CANARY}@server:port/", "***"),
        (f"http://[{CANARY}", "***"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_credentials_and_values(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_an_httpx_url_is_shown_as_its_text_is() -> None:
    url = httpx.URL(f"http://me:{CANARY}@server/api", params={"token": CANARY})
    assert redact_url(url) == "http://***@server/api?token=***"


word = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=6, max_size=12)


@given(word, word, st.lists(st.tuples(word, word), max_size=3))
def test_no_password_and_no_query_value_is_ever_shown(
    user: str, password: str, query: list[tuple[str, str]]
) -> None:
    url = httpx.URL(f"https://{user}:{password}@server.example/API", params=query)
    names = {name for name, _ in query}
    shown = redact_url(url)
    for secret in {user, password, *(value for _, value in query)} - names:
        assert secret not in shown.replace("server.example", "")
    for name in names:
        assert f"{name}={MASK}" in shown


# Headers


def test_headers_are_masked_unless_known_to_be_harmless() -> None:
    headers = {
        "Authorization": CANARY,
        "X-Anything": CANARY,
        "Content-Type": f"text/plain; echo={CANARY}",
        "Location": f"http://me:{CANARY}@x/{CANARY}?t={CANARY}",
        "Retry-After": "5",
    }
    assert redact_headers(headers, [CANARY]) == {
        "Authorization": MASK,
        "X-Anything": MASK,
        "Content-Type": "text/plain; echo=***",
        "Location": "http://***@x/***?t=***",
        "Retry-After": "5",
    }


# Where secrets stand


def basic(credentials: str) -> str:
    return "Basic " + b64encode(credentials.encode()).decode()


SECRET_PLACES: dict[str, dict[str, Any]] = {
    "bearer": {"headers": {"Authorization": f"Bearer {CANARY}"}},
    "basic": {"headers": {"Authorization": basic(f"me:{CANARY}")}},
    "basic user": {"headers": {"Authorization": basic(f"{CANARY}:x")}},
    "digest": {"headers": {"Authorization": f'Digest username="{CANARY}", uri="/"'}},
    "custom": {"headers": {"X-Team": CANARY}},
    "second of two": {"headers": [("X-Team", "a"), ("X-Team", CANARY)]},
    "cookie": {"headers": {"Cookie": f"a=b; session={CANARY}"}},
    "query": {"params": {"t": CANARY}},
    "bare query": {"params": CANARY},
    "json": {"json": {"a": [{"b": CANARY}]}},
    "json text": {"json": CANARY},
    "form": {"data": {"password": CANARY}},
    "plain body": {"content": CANARY},
    "deep json": {"content": b"[" * 900 + json.dumps(CANARY).encode() + b"]" * 900},
}


@pytest.mark.parametrize("place", SECRET_PLACES.values(), ids=SECRET_PLACES)
def test_a_secret_is_found_where_it_stands(place: dict[str, Any]) -> None:
    assert CANARY in secrets_of(httpx.Request("POST", "http://s/", **place))


def test_secrets_of_urls_are_found_decoded() -> None:
    request = httpx.Request("GET", "http://us%2Fer:pass%2Fword@s/?t=a+b%2Fcd")
    assert {"us/er", "pass/word", "a b/cd"} <= secrets_of(request)


def test_the_secrets_of_several_requests_count_together() -> None:
    first = httpx.Request("GET", "http://s/", headers={"X-A": "first-one"})
    second = httpx.Request("GET", "http://s/", headers={"X-A": "second-one"})
    assert {"first-one", "second-one"} <= secrets_of(first, second)


@pytest.mark.parametrize("word_", ["COMPLETED", "etl", "true", "1"])
def test_words_that_everybody_knows_and_short_ones_are_none(word_: str) -> None:
    assert word_ not in secrets_of(httpx.Request("POST", "http://s/", json={"a": word_}))


def test_a_secret_in_capitals_is_one() -> None:
    assert "HUNTER_TWO" in secrets_of(httpx.Request("POST", "http://s/", json={"a": "HUNTER_TWO"}))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\x00", b"[" * 100_000, b'"\\ud800canary"', b"NaN", b"1" * 10_000, b"{"],
)
def test_a_body_of_any_kind_can_be_searched(content: bytes) -> None:
    found = secrets_of(httpx.Request("POST", "http://s/", content=content))
    assert isinstance(scrub("text", found), str)


# Scrubbing

WRITTEN = {
    "plainly": lambda text: text,
    "percent": lambda text: quote(text, safe=""),
    "percent, small": lambda text: re.sub("%..", lambda m: m[0].lower(), quote(text, safe="")),
    "form": quote_plus,
    "html": html.escape,
    "json": lambda text: json.dumps(text)[1:-1],
    "json, wide": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
}


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("secret", ['p/ss w<o>rd"&é', "päss", "plain-one"])
def test_a_secret_is_masked_however_it_is_written(write: Any, secret: str) -> None:
    assert scrub(f"You sent [{write(secret)}]!", [secret]) == "You sent [***]!"


@given(st.lists(st.text(min_size=1, max_size=8), max_size=6), st.text(max_size=60), st.data())
def test_nothing_of_a_secret_stays(secrets: list[str], text: str, data: st.DataObject) -> None:
    for secret in secrets:
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + secret + text[place:]
    found = [secret for secret in secrets if secret in text and "*" not in secret]
    left = scrub(text, secrets)
    for secret in found:
        assert all(secret not in part for part in left.split(MASK))


def test_where_secrets_overlap_nothing_of_either_stays() -> None:
    assert scrub("<abcdefghi>", ["abcdef", "defghi"]) == "<***>"
    assert scrub("secretsecret secret", ["secret"]) == "*** ***"
    assert scrub("secrets", ["secret", "secrets"]) == "***"
    assert scrub("", ["secret"]) == ""
    assert scrub("nothing to hide", []) == "nothing to hide"


def test_json_is_scrubbed_in_values_keys_and_numbers_and_without_echoes() -> None:
    body = {
        "detail": [{"msg": f"got {CANARY}", "input": {"x": 1}, "ctx": {CANARY: [CANARY, 123456]}}],
        "request_body": {"a": 1},
        "ok": [True, None, 1.5],
    }
    assert scrub_json(body, [CANARY, "123456"]) == {
        "detail": [{"msg": "got ***", "ctx": {"***": ["***", "***"]}}],
        "ok": [True, None, 1.5],
    }


def test_an_echo_that_pydantic_has_shortened_is_no_longer_what_was_sent_and_goes_as_well() -> None:
    text = "1 error\nname\n  too long [type=x, input_value='c4nar...ecret', input_type=str]\n"
    assert (
        scrub_json(text, [])
        == "1 error\nname\n  too long [type=x, input_value=***, input_type=str]\n"
    )
    assert "c4nar" not in scrub_json("[input_value='c4nar", [])


def test_json_that_is_nested_without_end_is_cut() -> None:
    deep: Any = CANARY
    for _ in range(5000):
        deep = [deep]
    assert CANARY not in json.dumps(scrub_json(deep, []))


def test_a_large_request_and_a_large_answer_take_no_time_to_speak_of() -> None:
    """A thousand rows sent and a thousand complaints about them; it once took minutes."""
    sent = [{"name": f"flow-number-{i}"} for i in range(2000)]
    secrets = secrets_of(httpx.Request("POST", "http://s/", json=sent))
    body = {"detail": [{"loc": ["body", i], "msg": f"bad flow-number-{i}"} for i in range(500)]}
    began = time.process_time()
    clean = scrub_json(body, secrets)
    assert time.process_time() - began < 10
    assert "flow-number" not in json.dumps(clean)
