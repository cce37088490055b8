"""What the port wants to see of programs, over real connections, and what nobody gets to see."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.security.opened import SERVERS_AUTH, Opened

NOBODYS = [None, ("orchnb", "guess"), ("", "")]


@pytest.mark.parametrize("auth", NOBODYS)
@pytest.mark.parametrize("path", ["/api/hello", "/api/health", "/", "/api/flows/filter"])
def test_without_the_auth_string_nothing_is_answered(opened: Opened, path: str, auth: Any) -> None:
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        answer = opened.request(method, path, auth=auth)
        assert answer.status_code == 401
        assert "%orch_serve" in answer.json()["detail"]


def test_the_ports_auth_string_and_the_servers_own_are_accepted(opened: Opened) -> None:
    for auth in (opened.auth, SERVERS_AUTH):
        assert opened.request("GET", "/api/hello", auth=auth).status_code == 200
    assert opened.works() < 20, "its own client wants neither"


def test_who_is_refused_is_told_so_and_not_cut_off(opened: Opened) -> None:
    """httpx sends the head and the body one after the other."""
    for _ in range(20):
        answer = opened.request("POST", "/api/flows/", content=b" " * 200_000)
        assert answer.status_code == 401


def test_other_origins_get_no_permission(opened: Opened) -> None:
    for origin in ({}, {"Origin": opened.address}):
        answer = opened.request("GET", "/api/hello", auth=opened.auth, headers=origin)
        assert answer.status_code == 200
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.headers["content-security-policy"] == "frame-ancestors 'self'"


def test_a_refusal_that_a_browser_shows_is_a_page_without_anything_of_the_request(
    opened: Opened,
) -> None:
    path = opened.page.removeprefix(opened.address) + "orchnb-sign-in"
    script = "<script>alert(1)</script>"
    answer = opened.request("GET", path, params={"code": script}, headers={"Accept": "text/html"})
    assert answer.status_code == 403
    assert answer.headers["content-type"].startswith("text/html")
    assert "Run %orch_serve in the notebook" in answer.text
    assert "script" not in answer.text


def test_a_page_that_leads_on_escapes_the_path(opened: Opened) -> None:
    link = {
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "document",
    }
    evil = "/x'\"><script>alert(1)</script>"
    path = opened.page.removeprefix(opened.address).rstrip("/")
    head = "".join(f"{name}: {value}\r\n" for name, value in link.items())
    words = f"GET {path}{evil}?'\"><script> HTTP/1.1\r\nHost: {{host}}\r\n{head}\r\n"
    with closing(opened.connect(words)) as connection:
        answer = connection.recv(65536)
    assert b"<script" not in answer


def socket(opened: Opened, path: str = "/api/events/out", **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{opened.port}{path}", proxy=None, **options)


PREFECT = {"subprotocols": [Subprotocol("prefect")]}


@pytest.mark.parametrize("path", ["/api/events/out", "/api/events/in", "/api/logs/out"])
def test_web_sockets_authenticate_as_prefects_clients_do(opened: Opened, path: str) -> None:
    for auth in (opened.auth, SERVERS_AUTH):
        with socket(opened, path, **PREFECT) as client:
            client.send(json.dumps({"type": "auth", "token": ":".join(auth)}))
            assert json.loads(client.recv(timeout=20)) == {"type": "auth_success"}


@pytest.mark.parametrize(
    "message",
    [
        '{"type": "auth", "token": null}',
        '{"type": "auth", "token": ""}',
        '{"type": "auth", "token": "orchnb:guess"}',
        '{"type": "auth", "token": ["orchnb"]}',
        '{"type": "filter"}',
        "[]",
        "no JSON",
        "[" * 100_000,
        b"\xff",
        '{"event": "evil"}',
    ],
)
def test_web_sockets_that_do_not_are_closed(opened: Opened, message: str | bytes) -> None:
    with socket(opened, "/api/events/in", **PREFECT) as client:
        client.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert "PREFECT_API_AUTH_STRING" in closed.value.rcvd.reason


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subprotocols": [Subprotocol("other")]},
        {**PREFECT, "origin": "http://evil.test"},
        {**PREFECT, "additional_headers": {"Host": "evil.test"}},
    ],
)
def test_other_web_sockets_are_not_opened(opened: Opened, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidStatus) as refused, socket(opened, **options):
        pass
    assert refused.value.response.status_code in (400, 401, 403)


def test_nothing_shows_a_credential(opened: Opened) -> None:
    shown = opened.shows()
    assert "orchnb" in shown
    for secret in (opened.auth[1], SERVERS_AUTH[1]):
        assert secret not in shown
        assert secret[-12:] not in shown
