"""Who may use the port: a table of requests, by their heads."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import SecretStr

from orchnb.hosting.port_guard import (
    CODE_LIFETIME,
    SIGN_IN,
    AwaitAuthMessage,
    GoTo,
    Pass,
    PortKeys,
    Refuse,
    decide,
)

PORT = 4567
HERE = f"127.0.0.1:{PORT}"
BASE = "/0123abcd"
JSON = {"content-type": "application/json", "content-length": "2"}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(clock: Clock) -> PortKeys:
    return PortKeys(PORT, BASE, also=[SecretStr("me:mine"), SecretStr("")], clock=clock)


def cookie(keys: PortKeys) -> str:
    """What a browser sends that has signed in."""
    made = keys.use_code(keys.new_code(), HERE)
    assert made is not None
    return made.partition(";")[0]


def ask(
    keys: PortKeys,
    path: str = "/api/hello",
    headers: Mapping[str, str] = {},
    *,
    method: str = "GET",
    query: str = "",
    kind: str = "http",
    protocols: tuple[str, ...] = (),
    more: tuple[tuple[bytes, bytes], ...] = (),
) -> Any:
    """The verdict on a request. In headers, ``{token}`` and ``{cookie}`` stand for the right ones."""
    token = basic(keys.auth_string.get_secret_value())
    values = {"host": HERE, **headers}
    sent = [
        (name.encode(), value.format(token=token, cookie=cookie(keys)).encode())
        for name, value in values.items()
        if value
    ]
    scope = {
        "type": kind,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [*sent, *more],
    }
    if kind == "http":
        scope["method"] = method
    else:
        scope["subprotocols"] = protocols
    return decide(scope, keys)


TOKEN, COOKIE = {"authorization": "{token}"}, {"cookie": "{cookie}"}
SAME = {"sec-fetch-site": "same-origin"}
ORIGIN = {"origin": f"http://{HERE}"}
LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
FRAME = {**LINK, "sec-fetch-dest": "iframe"}

ALLOWED = {
    "Prefect's client": ("GET", "/api/hello", TOKEN),
    "Prefect's client, before 3.6.19": ("POST", "/api/flows/", {**TOKEN, "content-length": "9"}),
    "curl -X DELETE": ("DELETE", "/api/flows/1", TOKEN),
    "localhost": ("GET", "/api/hello", {**TOKEN, "host": f"LocalHost:{PORT}"}),
    "an auth string of the person's own": (
        "GET",
        "/api/hello",
        {"authorization": basic("me:mine")},
    ),
    "a page": ("GET", f"{BASE}/runs", {**COOKIE, **SAME}),
    "a page, typed into the browser": ("GET", f"{BASE}/", {**COOKIE, "sec-fetch-site": "none"}),
    "a page in an old browser": ("GET", f"{BASE}/", COOKIE),
    "a page from JupyterLab on 127.0.0.1": (
        "GET",
        f"{BASE}/",
        {**COOKIE, **LINK, "sec-fetch-site": "same-site"},
    ),
    "the pages' API": ("GET", f"{BASE}/api/hello", {**COOKIE, **SAME}),
    "the pages' API, changing something": (
        "POST",
        f"{BASE}/api/flows/",
        {**COOKIE, **SAME, **ORIGIN, **JSON},
    ),
    "JSON with its charset": (
        "POST",
        f"{BASE}/api/flows/",
        {**COOKIE, **ORIGIN, **JSON, "content-type": "application/JSON; charset=utf-8"},
    ),
    "a body that is empty": ("POST", f"{BASE}/api/x", {**COOKIE, **ORIGIN, "content-length": "0"}),
    "a password that the pages keep from another server": (
        "GET",
        f"{BASE}/api/hello",
        {**COOKIE, **SAME, "authorization": basic("old")},
    ),
    "other cookies as well": ("GET", f"{BASE}/", {"cookie": "a=b; {cookie}; c"}),
}

REFUSED = {
    "nothing": (401, "GET", "/api/hello", {}),
    "health, which Prefect lets pass": (401, "GET", "/api/health", {}),
    "a wrong token": (401, "GET", "/api/hello", {"authorization": basic("orchnb:guess")}),
    "no token": (401, "GET", "/api/hello", {"authorization": "Basic"}),
    "no base64": (401, "GET", "/api/hello", {"authorization": "Basic \u00e9"}),
    "an empty token": (401, "GET", "/api/hello", {"authorization": basic("")}),
    "a bearer": (401, "GET", "/api/hello", {"authorization": "Bearer x"}),
    "a wrong cookie": (401, "GET", f"{BASE}/", {"cookie": f"orchnb-{PORT}=guess"}),
    "an empty cookie": (401, "GET", f"{BASE}/", {"cookie": f"orchnb-{PORT}="}),
    "two cookies": (401, "GET", f"{BASE}/", {"cookie": f"{{cookie}}; orchnb-{PORT}=x"}),
    "a cookie outside its path": (401, "GET", "/api/hello", COOKIE),
    "a cookie beside its path": (401, "GET", f"{BASE}x/api/hello", COOKIE),
    "DNS rebinding": (403, "GET", "/api/hello", {"host": f"evil.test:{PORT}"}),
    "DNS rebinding, with credentials": (
        403,
        "GET",
        "/api/hello",
        {**TOKEN, "host": f"evil.test:{PORT}"},
    ),
    "another port": (403, "GET", "/api/hello", {**TOKEN, "host": "127.0.0.1:1"}),
    "no port": (403, "GET", "/api/hello", {**TOKEN, "host": "127.0.0.1"}),
    "no host": (400, "GET", "/api/hello", {**TOKEN, "host": ""}),
    "another server's address": (400, "GET", "http://evil.test/", TOKEN),
    "a page of another origin": (
        403,
        "GET",
        f"{BASE}/api/hello",
        {**COOKIE, "origin": "http://127.0.0.1:1"},
    ),
    "its preflight": (403, "OPTIONS", f"{BASE}/api/hello", {"origin": "http://evil.test"}),
    "a page without an origin": (403, "GET", f"{BASE}/api/hello", {**COOKIE, "origin": "null"}),
    "a page on https": (403, "GET", "/", {**TOKEN, "origin": f"ftp://{HERE}"}),
    "a picture on a page of another site": (
        403,
        "GET",
        f"{BASE}/api/hello",
        {**COOKIE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ),
    "a page of another port": (
        403,
        "GET",
        f"{BASE}/",
        {**COOKIE, "sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
    ),
    "a frame": (403, "GET", f"{BASE}/", {**COOKIE, **FRAME}),
    "a link to the API": (403, "GET", f"{BASE}/api/hello", {**COOKIE, **LINK}),
    "a link to what is no page": (403, "GET", "/api/hello", LINK),
    "a form": (403, "POST", f"{BASE}/", {**COOKIE, **LINK}),
    "a form, typed": (403, "POST", f"{BASE}/api/x", {**COOKIE, "sec-fetch-site": "none"}),
    "a change without origin": (403, "POST", f"{BASE}/api/x", {**COOKIE, **JSON}),
    "a body of text": (
        415,
        "POST",
        f"{BASE}/api/flows/",
        {**COOKIE, **SAME, "content-type": "text/plain", "content-length": "2"},
    ),
    "a body of no type": (
        415,
        "PATCH",
        f"{BASE}/api/flows/",
        {**COOKIE, **SAME, "transfer-encoding": "chunked"},
    ),
    "a code that never was": (403, "GET", f"{BASE}{SIGN_IN}", {}),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_the_owners_requests_pass(keys: PortKeys, case: str) -> None:
    method, path, headers = ALLOWED[case]
    verdict = ask(keys, path, headers, method=method)
    assert verdict == Pass("cookie" if "cookie" in headers else "auth string")


@pytest.mark.parametrize("case", REFUSED)
def test_other_requests_are_refused(keys: PortKeys, case: str) -> None:
    status, method, path, headers = REFUSED[case]
    verdict = ask(keys, path, headers, method=method)
    assert isinstance(verdict, Refuse), verdict
    assert verdict.status == status
    assert keys.auth_string.get_secret_value() not in verdict.words


@pytest.mark.parametrize(
    ("headers", "protocols", "verdict"),
    [
        (TOKEN, ("prefect",), Pass("auth string")),
        (TOKEN, (), Pass("auth string")),
        ({}, ("prefect",), AwaitAuthMessage()),
        ({**COOKIE, **ORIGIN}, ("prefect",), Pass("cookie")),
        ({}, (), 401),
        ({}, ("other",), 401),
        (ORIGIN, ("prefect",), 401),  # a browser without the cookie
        ({**COOKIE, "origin": "http://evil.test"}, ("prefect",), 403),
        ({"origin": "http://evil.test"}, ("prefect",), 403),
        ({"host": f"evil.test:{PORT}"}, ("prefect",), 403),
        ({**COOKIE, "sec-fetch-site": "same-site", "sec-fetch-mode": "websocket"}, (), 403),
    ],
)
def test_web_sockets(keys: PortKeys, headers: Any, protocols: Any, verdict: Any) -> None:
    path = f"{BASE}/api/events/out"
    given = ask(keys, path, headers, kind="websocket", protocols=protocols, query="orchnb-again=1")
    assert (given.status if isinstance(given, Refuse) else given) == verdict


def test_apps_of_the_persons_own_take_forms_and_know_no_auth_message() -> None:
    keys = PortKeys(PORT, BASE, is_prefect=False)
    form = {**COOKIE, **ORIGIN, "content-type": "text/plain", "content-length": "2"}
    assert ask(keys, f"{BASE}/api/x", form, method="POST") == Pass("cookie")
    verdict = ask(keys, "/socket", kind="websocket", protocols=("prefect",))
    assert isinstance(verdict, Refuse)


def sign_in(keys: PortKeys, code: str, headers: Mapping[str, str] = {}) -> Any:
    return ask(keys, f"{BASE}{SIGN_IN}", {**LINK, **headers}, query=f"code={code}")


def test_a_code_works_once_and_not_for_long(keys: PortKeys, clock: Clock) -> None:
    code, other = keys.new_code(), keys.new_code()
    assert sign_in(keys, code) == GoTo(f"{BASE}/", code)
    assert sign_in(keys, code) == GoTo(f"{BASE}/", code), "looking at it does not use it up"
    made = keys.use_code(code, HERE)
    assert made is not None
    assert made.split("; ")[1:] == [f"Path={BASE}", "HttpOnly", "SameSite=Strict"]
    assert keys.use_code(code, HERE) is None
    again = sign_in(keys, code, {"sec-fetch-site": "same-origin"})
    assert isinstance(again, Refuse)
    assert sign_in(keys, code, COOKIE) == GoTo(f"{BASE}/"), "one who is signed in sees the pages"
    clock.now += CODE_LIFETIME
    assert keys.use_code(other, HERE) is None


def test_not_any_number_of_codes_is_kept(keys: PortKeys) -> None:
    codes = [keys.new_code() for _ in range(1000)]
    assert keys.is_code(codes[-1])
    assert not keys.is_code(codes[0])


def test_a_link_on_another_site_is_followed_by_a_page_of_our_own(keys: PortKeys) -> None:
    path = f"{BASE}/runs/x"
    again = GoTo(f"{path}?a=b&orchnb-again=1")
    assert ask(keys, path, LINK, query="a=b") == again
    verdict = ask(keys, path, LINK, query="a=b&orchnb-again=1")
    assert isinstance(verdict, Refuse), "not again and again"
    assert verdict.status == 401
    verdict = ask(keys, path, {**COOKIE, **SAME}, query="a=b&orchnb-again=1")
    assert verdict == GoTo(f"{path}?a=b")


@pytest.mark.parametrize("path", ["//evil.test/", f"//evil.test{BASE}/", "/x/../"])
def test_it_leads_to_no_other_host(keys: PortKeys, path: str) -> None:
    assert isinstance(ask(keys, path, LINK), Refuse)


def test_the_name_under_which_a_hub_shows_it_is_learned_from_a_code() -> None:
    keys = PortKeys(PORT, BASE, proxied=True)
    hub = {"host": "hub.example.org", "origin": "https://hub.example.org"}
    before = ask(keys, f"{BASE}/", {**COOKIE, **hub})
    assert isinstance(before, Refuse)
    code = keys.new_code()
    verdict = ask(keys, f"{BASE}{SIGN_IN}", {"host": hub["host"]}, query=f"code={code}")
    assert verdict == GoTo(f"{BASE}/", code)
    assert keys.use_code(code, hub["host"])
    assert ask(keys, f"{BASE}/", {**COOKIE, **hub}) == Pass("cookie")
    elsewhere = ask(keys, f"{BASE}/", {**COOKIE, **hub, "origin": "https://evil.example.org"})
    assert isinstance(elsewhere, Refuse)


def test_no_name_is_learned_where_there_is_no_hub(keys: PortKeys) -> None:
    keys.use_code(keys.new_code(), f"evil.test:{PORT}")
    assert not keys.is_host(f"evil.test:{PORT}")
    code = keys.new_code()
    verdict = ask(keys, f"{BASE}{SIGN_IN}", {"host": f"evil.test:{PORT}"}, query=f"code={code}")
    assert isinstance(verdict, Refuse)


@pytest.mark.parametrize("name", ["host", "origin", "authorization"])
def test_what_is_sent_twice_is_not_chosen_from(keys: PortKeys, name: str) -> None:
    headers = {**TOKEN, **ORIGIN}
    value = {"host": HERE, **headers}[name]
    token = basic(keys.auth_string.get_secret_value())
    twice = ((name.encode(), value.format(token=token).encode()),)
    assert isinstance(ask(keys, headers=headers), Pass)
    assert isinstance(ask(keys, headers=headers, more=twice), Refuse)


def test_no_repr_shows_a_credential(keys: PortKeys) -> None:
    cookie_value = cookie(keys).partition("=")[2]
    code = keys.new_code()
    shown = f"{keys!r} {vars(keys)!r} {keys.auth_string!r}"
    for secret in (keys.auth_string.get_secret_value(), cookie_value, code):
        assert secret not in shown
        assert secret[-12:] not in shown
