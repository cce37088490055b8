"""Cookies go to the host that set them, and are no more and no larger than a browser keeps."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest

import orchnb
from orchnb.http.cookies import LARGEST_COOKIE, MOST_PER_HOST
from tests.http.test_clients_edges import quiet


class Hosts(httpx.AsyncBaseTransport, httpx.BaseTransport):
    """Sets cookies as told by the first request, and keeps what each host is sent."""

    def __init__(self, *cookies: str, redirect: str = "") -> None:
        self.cookies = cookies
        self.redirect = redirect
        self.got: list[tuple[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.got.append((str(request.url), request.headers.get("cookie", "")))
        headers = [("Set-Cookie", cookie) for cookie in self.cookies]
        self.cookies = ()
        status = 200
        if self.redirect and len(self.got) > 1:
            headers.append(("Location", self.redirect))
            status, self.redirect = 307, ""
        return httpx.Response(status, headers=headers, json={})

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)


def ask(kind: str, transport: Hosts, *urls: str, **options: Any) -> list[str]:
    """The Cookie headers of GETs of these addresses, the first of which sets cookies."""
    options = {"transport": transport, "retry_policy": quiet(), **options}
    if kind == "sync":
        with orchnb.PrefectHttpxSyncClient(**options) as client:
            for url in urls:
                client.get(url)
        return [cookie for _, cookie in transport.got]

    async def main() -> None:
        async with orchnb.PrefectHttpxAsyncClient(**options) as client:
            for url in urls:
                await client.get(url)

    anyio.run(main)
    return [cookie for _, cookie in transport.got]


kinds = pytest.mark.parametrize("kind", ["async", "sync"])

ELSEWHERE = [
    # what sets it, the cookie, who must not get it
    ("http://example.com/", "a=1", "http://sub.example.com/"),
    ("http://api.example.com/", "a=1; Domain=example.com", "http://other.example.com/"),
    ("http://api.example.com/", "a=1; Domain=.example.com", "http://example.com/"),
    ("http://api.example.com/", "a=1; Domain=com", "http://other.com/"),
    ("http://shop.co.uk/", "a=1; Domain=co.uk", "http://other.co.uk/"),
    ("http://me.github.io/", "a=1; Domain=github.io", "http://you.github.io/"),
    ("http://127.0.0.1/", "a=1", "http://127.0.0.2/"),
    ("http://127.0.0.1/", "a=1; Domain=0.0.1", "http://1.0.0.1/"),
    ("http://127.0.0.1/", "a=1; Domain=127.0.0.1", "http://1.127.0.0.1/"),
    ("http://localhost/", "a=1", "http://local/"),
    ("http://localhost/", "a=1; Domain=local", "http://other/"),
    ("http://localhost/", "a=1; Domain=.local", "http://other.local/"),
    ("http://[::1]/", "a=1", "http://[::2]/"),
    ("http://example.com/", "a=1; Domain=other.com", "http://other.com/"),
    ("https://example.com/", "a=1; Secure", "http://example.com/"),
    ("http://example.com/", "a=1; Path=/x", "http://example.com/y"),
]


@kinds
@pytest.mark.parametrize(("setter", "cookie", "other"), ELSEWHERE)
def test_no_other_host_gets_a_cookie(kind: str, setter: str, cookie: str, other: str) -> None:
    assert ask(kind, Hosts(cookie), setter, other)[1] == ""


@kinds
@pytest.mark.parametrize(("setter", "cookie", "other"), ELSEWHERE)
def test_nor_when_a_redirect_leads_there(kind: str, setter: str, cookie: str, other: str) -> None:
    transport = Hosts(cookie, redirect=other)
    sent = ask(kind, transport, setter, setter, follow_redirects=True)
    assert [url for url, _ in transport.got][2] == other
    assert sent[2] == ""


BACK = [
    ("http://example.com/", "a=1", "http://example.com/x"),
    ("http://api.example.com/", "a=1; Domain=example.com", "http://api.example.com/x"),
    ("http://127.0.0.1:4200/", "a=1", "http://127.0.0.1:4200/"),
    ("http://127.0.0.1:4200/", "a=1; Domain=127.0.0.1", "http://127.0.0.1:4200/"),
    ("http://localhost:4200/", "a=1", "http://localhost:4200/"),
    ("http://[::1]:4200/", "a=1", "http://[::1]:4200/"),
    ("http://s/", "a=1", "http://s/"),
]


@kinds
@pytest.mark.parametrize(("setter", "cookie", "again"), BACK)
def test_its_own_host_gets_it_back(kind: str, setter: str, cookie: str, again: str) -> None:
    assert ask(kind, Hosts(cookie), setter, again)[1] == "a=1"


@kinds
def test_cookies_of_the_program_go_to_its_server_alone(kind: str) -> None:
    options = {"base_url": "http://s.example.com/api", "cookies": {"mine": "1"}}
    sent = ask(kind, Hosts(), "/x", "http://t.s.example.com/", "http://s.example.com/", **options)
    assert sent == ["mine=1", "", "mine=1"]
    cookies = httpx.Cookies()
    cookies.set("wide", "1", domain=".example.com")
    sent = ask(
        kind,
        Hosts(),
        "/x",
        "http://t.example.com/",
        base_url="http://s.example.com",
        cookies=cookies,
    )
    assert sent == ["wide=1", "wide=1"]


def test_of_too_many_the_latest_stay() -> None:
    cookies = [f"c{number}={number}" for number in range(MOST_PER_HOST + 20)]
    sent = ask("sync", Hosts(*cookies), "http://s.com/", "http://s.com/")[1].split("; ")
    assert sorted(sent) == sorted(cookies[20:])


@pytest.mark.parametrize(
    ("cookie", "kept"),
    [
        (f"a={'x' * (LARGEST_COOKIE - 1)}", True),
        (f"a={'x' * LARGEST_COOKIE}", False),
        (f"{'n' * LARGEST_COOKIE}=x", False),
        (f"a=1; Path=/{'p' * 2_000}", False),
        ("a=1; Max-Age=0", False),
        ("", False),
        ("=", False),
        (";" * 20_000, False),
    ],
    ids=["largest", "too large", "long name", "long path", "gone", "empty", "no name", "nothing"],
)
def test_what_is_too_large_is_not_kept(cookie: str, kept: bool) -> None:
    sent = ask("sync", Hosts(cookie), "http://s.com/", "http://s.com/")[1]
    assert bool(sent) == kept


def test_a_jar_that_the_program_brings_is_its_own() -> None:
    jar = httpx.Cookies().jar
    ask("sync", Hosts("a=1; Domain=example.com"), "http://s.example.com/", cookies=jar)
    assert [cookie.domain for cookie in jar] == [".example.com"]
