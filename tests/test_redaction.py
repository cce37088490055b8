"""What is secret is known from where it was found, and is masked however it is written."""

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

from orchnb.redaction import (
    MASK,
    SECRETS,
    Secrets,
    redact_headers,
    redact_url,
    secrets_of,
    shown_url,
)

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
        (f"http://s/a?token={CANARY}&n=5", "http://s/a?token=***&n=5"),
        (f"http://s/a?n=5&API_KEY={CANARY}", "http://s/a?n=5&API_KEY=***"),
        (f"http://s/a?%74oken={CANARY}", "http://s/a?%74oken=***"),
        (f"http://s/a?token={CANARY}={CANARY}", "http://s/a?token=***"),
        ("http://s/a?x=1&word&=y&&z=", "http://s/a?x=1&word&=y&&z="),
        ("http://s/a?page-token=x&client=y", "http://s/a?page-token=x&client=y"),
        (f"http://s/a#{CANARY}", "http://s/a"),
        (f"//me:{CANARY}@server/a", "//***@server/a"),
        ("/login?next=me@home", "/login?next=me@home"),
        ("/flows/name/me@home", "/flows/name/me@home"),
        (f"me:{CANARY}@server/api", "***"),
        (f"http:/me:{CANARY}@server/api", "***"),
        (f"http://me:{CANARY}@server:port/", "***"),
        (f"http://[{CANARY}", "***"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_credentials(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_an_httpx_url_is_shown_as_its_text_is() -> None:
    url = httpx.URL(f"http://me:{CANARY}@server/api", params={"token": CANARY})
    assert redact_url(url) == "http://***@server/api?token=***"


word = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=6, max_size=12)


@given(word, word, word, st.dictionaries(word, word, max_size=3))
def test_no_password_and_no_token_is_ever_shown_and_other_values_are(
    user: str, password: str, token: str, query: dict[str, str]
) -> None:
    given = {**query, "token": token}
    url = httpx.URL(f"https://{user}:{password}@server.example/API", params=given)
    shown = redact_url(url)
    expected = str(httpx.URL("https://server.example/API", params={**query, "token": "-"}))
    assert shown == expected.replace("//", f"//{MASK}@")[:-1] + MASK


def test_a_url_in_a_sentence_is_short_and_on_one_line() -> None:
    assert shown_url("http://s/a?x=\n" + "x" * 2000).isprintable()
    assert len(shown_url("http://s/a?x=" + "x" * 2000)) <= 500


# Headers


def test_headers_are_masked_unless_known_to_be_harmless() -> None:
    headers = {
        "Authorization": CANARY,
        "X-Anything": CANARY,
        "Content-Type": f"text/plain; echo={CANARY}",
        "Location": f"http://me:{CANARY}@x/{CANARY}?t={CANARY}",
        "Retry-After": "5",
    }
    assert redact_headers(headers, Secrets([CANARY])) == {
        "Authorization": MASK,
        "X-Anything": MASK,
        "Content-Type": "text/plain; echo=***",
        "Location": "http://***@x/***",
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
    "query": {"params": {"token": CANARY}},
    "body": {"json": {"a": CANARY}, "extensions": {SECRETS: (CANARY,)}},
}


def masked(text: str, *requests: httpx.Request) -> str:
    return secrets_of(*requests).mask(text)


@pytest.mark.parametrize("place", SECRET_PLACES.values(), ids=SECRET_PLACES)
def test_a_secret_is_found_where_it_stands(place: dict[str, Any]) -> None:
    assert masked(f"[{CANARY}]", httpx.Request("POST", "http://s/", **place)) == "[***]"


@pytest.mark.parametrize(
    "place",
    [
        {"params": {"name": "production"}},
        {"params": "production"},
        {"json": {"name": "production"}},
        {"data": {"name": "production"}},
        {"content": "production"},
        {"headers": {"Content-Type": "production"}},
    ],
)
def test_an_ordinary_value_is_no_secret(place: dict[str, Any]) -> None:
    text = "There is no production"
    assert masked(text, httpx.Request("POST", "http://s/", **place)) == text


def test_secrets_of_urls_are_found_decoded() -> None:
    request = httpx.Request("GET", "http://us%2Fer:pass%2Fword@s/?token=a+b%2Fcd")
    assert masked("us/er, pass/word, a b/cd", request) == "***, ***, ***"


def test_the_secrets_of_several_requests_count_together() -> None:
    first = httpx.Request("GET", "http://s/", headers={"X-A": "first-one"})
    second = httpx.Request("GET", "http://s/", headers={"X-A": "second-one"})
    assert masked("first-one, second-one", first, second) == "***, ***"


def test_a_very_short_secret_would_mask_chance_occurrences() -> None:
    request = httpx.Request("GET", "http://s/", headers={"X-A": "abc"})
    assert masked("abc", request) == "abc"


# Masking

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
    assert Secrets([secret]).mask(f"You sent [{write(secret)}]!") == "You sent [***]!"


@given(st.lists(st.text(min_size=1, max_size=8), max_size=6), st.text(max_size=60), st.data())
def test_nothing_of_a_secret_stays(secrets: list[str], text: str, data: st.DataObject) -> None:
    for secret in secrets:
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + secret + text[place:]
    found = [secret for secret in secrets if secret in text and "*" not in secret]
    left = Secrets(secrets).mask(text)
    for secret in found:
        assert all(secret not in part for part in left.split(MASK))


def test_where_secrets_overlap_nothing_of_either_stays() -> None:
    assert Secrets(["abcdef", "defghi"]).mask("<abcdefghi>") == "<***>"
    assert Secrets(["secret"]).mask("secretsecret secret") == "*** ***"
    assert Secrets(["secret", "secrets"]).mask("secrets") == "***"
    assert Secrets(["secret"]).mask("") == ""
    assert Secrets([]).mask("nothing to hide") == "nothing to hide"


def test_json_is_masked_in_values_keys_and_numbers_and_without_echoes() -> None:
    body = {
        "detail": [{"msg": f"got {CANARY}", "input": {"x": 1}, "ctx": {CANARY: [CANARY, 123456]}}],
        "request_body": {"a": 1},
        "ok": [True, None, 1.5],
    }
    assert Secrets([CANARY, "123456"]).mask_json(body) == {
        "detail": [{"msg": "got ***", "ctx": {"***": ["***", "***"]}}],
        "ok": [True, None, 1.5],
    }


@pytest.mark.parametrize(
    ("echo", "shown"),
    [
        ("'c4nar...ecret'", "***"),
        ("{'a': 'b', 'c': 'c4...secret-not'}", "***"),
        ("{'a': 'b', 'c': 'd...f'}", "{'a': 'b', 'c': 'd...f'}"),
        ("{'a': 'b', 'c': 'd...et'}", "***"),
        (f"'{CANARY}'", "'***'"),
        ("'production'", "'production'"),
        ("'product...duction'", "'product...duction'"),
    ],
)
def test_an_input_that_pydantic_has_shortened_within_a_secret_is_masked(
    echo: str, shown: str
) -> None:
    text = "1 error\nname\n  too long [type=x, input_value={}, input_type=str]\n"
    assert Secrets([CANARY]).mask_json(text.format(echo)) == text.format(shown)
    assert Secrets([CANARY]).mask_json(f"[input_value={echo}") == f"[input_value={shown}"


def test_json_that_is_nested_without_end_is_cut() -> None:
    deep: Any = CANARY
    for _ in range(5000):
        deep = [deep]
    assert CANARY not in json.dumps(Secrets().mask_json(deep))


def test_a_large_request_and_a_large_answer_take_no_time_to_speak_of() -> None:
    """A thousand rows sent and a thousand complaints about them; it once took minutes."""
    sent = tuple(f"flow-number-{i}" for i in range(2000))
    secrets = secrets_of(httpx.Request("POST", "http://s/", extensions={SECRETS: sent}))
    body = {"detail": [{"loc": ["body", i], "msg": f"bad flow-number-{i}"} for i in range(500)]}
    began = time.process_time()
    clean = secrets.mask_json(body)
    assert time.process_time() - began < 10
    assert "flow-number" not in json.dumps(clean)
