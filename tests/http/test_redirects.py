"""Redirects within a server are followed; others are explained, and get no credentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import fastapi
import httpx
import pytest

import orchnb
from tests.api.fakes import Scripted
from tests.http.wire import http, wire

both = pytest.mark.parametrize("kind", ["async", "sync"])
HEADERS = {"Authorization": "Bearer canary", "X-Team": "canary"}


def ask(kind: str, method: str, url: str, content: Any = None, **options: Any) -> Any:
    """The answer to a request with either client, or its error; it is not retried."""
    options = {"headers": HEADERS, "trust_env": False, **options}

    async def main() -> Any:
        async with orchnb.PrefectHttpxAsyncClient(**options) as client:
            return await client.request(method, url, content=content)

    try:
        if kind == "async":
            return anyio.run(main)
        with orchnb.PrefectHttpxSyncClient(**options) as client:
            return client.request(method, url, content=content)
    except (httpx.HTTPError, orchnb.OrchnbError) as exc:
        return exc


def moved(status: int, location: str) -> Callable[[httpx.Request], httpx.Response]:
    """A server that has its things at a path with a slash at the end."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/"):
            return httpx.Response(200, json=request.content.decode())
        return httpx.Response(status, headers={"Location": location})

    return answer


@both
def test_a_slash_that_fastapi_wants_is_added(kind: str) -> None:
    """The app runs in this process, so its redirect is to no real address."""
    app = fastapi.FastAPI()

    @app.post("/api/things/")
    def make(body: dict[str, str]) -> dict[str, str]:
        return body

    async def main() -> httpx.Response:
        async with orchnb.PrefectClient(app) as client:
            return await client.request("POST", "/things", json={"a": "b"})

    if kind == "async":
        answer = anyio.run(main)
    else:
        with orchnb.SyncPrefectClient(app) as client:
            answer = client.request("POST", "/things", json={"a": "b"})
    assert answer.json() == {"a": "b"}
    assert [each.status_code for each in answer.history] == [307]


@both
@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("location", ["/api/x/", "http://server:80/api/x/", "x/"])
def test_the_same_server_gets_the_same_request_again(kind: str, status: int, location: str) -> None:
    transport = Scripted(moved(status, location))
    answer = ask(kind, "POST", "http://server/api/x", b"body", transport=transport)
    assert answer.json() == "body"
    first, second = transport.requests
    assert (second.method, second.url.path) == ("POST", "/api/x/")
    for name in HEADERS:
        assert first.headers[name] == second.headers[name]


@both
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["http://other/api/x/", "https://server/api/x/", "http://server:81/api/x/"]
)
def test_another_server_gets_nothing(kind: str, status: int, location: str) -> None:
    transport = Scripted(moved(status, location))
    error = ask(kind, "POST", "http://server/api/x", b"body", transport=transport)
    assert [request.url.host for request in transport.requests] == ["server"]
    assert isinstance(error, orchnb.PrefectHTTPStatusError)
    begin = location.removesuffix("api/x/")
    assert f"PREFECT_API_URL should begin with {begin}. " in str(error)
    assert "canary" not in str(error)


REFUSED: dict[str, tuple[int, str, str, str]] = {
    "the slash, by another status": (301, "http://s/api/x", "/api/x/", "use that path"),
    "a login page of its own": (302, "http://s/api/x", "/login?next=canary", "log in first"),
    "a login page elsewhere": (302, "http://s/api/x", "https://sso/login", "if it is a login page"),
    "a proxy that ends https": (
        307,
        "https://s/api/x",
        "http://s/api/x/",
        "does not know that a proxy in front of it uses https",
    ),
    "no address": (307, "http://s/api/x", "", "redirects to another address"),
}


@both
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_followed_is_explained(kind: str, case: str) -> None:
    status, url, location, words = REFUSED[case]
    headers = {"Location": location} if location else {}
    answer = httpx.Response(status, headers=headers)
    error = ask(kind, "GET", url, transport=Scripted(lambda _: answer))
    assert words in error.hint
    assert "canary" not in str(error)


@both
def test_a_redirect_to_itself_ends(kind: str) -> None:
    with wire(http(307, b"", "Location: /api")) as server:
        error = ask(kind, "GET", server.url)
    assert isinstance(error, orchnb.PrefectHTTPStatusError)
    assert error.status_code == 307
    assert len(server.requests) == 6


@both
def test_a_body_that_cannot_be_sent_again_is_not(kind: str) -> None:
    async def parts_async() -> Any:
        yield b"part"

    body = parts_async() if kind == "async" else iter([b"part"])
    with wire(http(307, b"", "Location: /api/")) as server:
        error = ask(kind, "POST", server.url, body)
    assert isinstance(error, orchnb.PrefectHTTPStatusError)
    assert error.status_code == 307


@both
def test_httpx_follows_all_redirects_where_it_is_told_to(kind: str) -> None:
    transport = Scripted(moved(302, "http://other/"))
    answer = ask(kind, "GET", "http://server/api/x", transport=transport, follow_redirects=True)
    assert answer.status_code == 200
