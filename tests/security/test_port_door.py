"""What the app behind the port gets to see, what it may send, and how much reaches it at a time."""

from __future__ import annotations

import base64
from typing import Any

import anyio
import pytest

from orchnb.hosting.port_connections import Connections
from orchnb.hosting.port_guard import PortKeys
from orchnb.hosting.port_middleware import Door

PORT = 4567
HERE = b"127.0.0.1:4567"

# The connections and the door are the host's, which runs asyncio.
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class App:
    """Answers with these headers, when it is let go on."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.headers = headers
        self.scopes: list[Any] = []
        self.go_on = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await self.go_on.wait()
        if scope["type"] == "http":
            head = {"type": "http.response.start", "status": 200, "headers": self.headers}
            await send(head)
            await send({"type": "http.response.body", "body": b""})


def door(app: App, keys: PortKeys) -> Door:
    connections = Connections(9, patience=5)
    return Door(app, keys, connections, patience=5, most_requests=2, most_sockets=2)


@pytest.fixture
def keys() -> PortKeys:
    return PortKeys(PORT, "/base")


async def ask(
    door: Door, keys: PortKeys, *headers: tuple[bytes, bytes], kind: str = "http"
) -> list[Any]:
    """What is sent to the owner."""
    token = base64.b64encode(keys.auth_string.get_secret_value().encode())
    scope = {
        "type": kind,
        "method": "GET",
        "path": "/x",
        "headers": [(b"host", HERE), (b"authorization", b"Basic " + token), *headers],
        "client": ("127.0.0.1", 1),
        "extensions": {"websocket.http.response": {}},
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request" if kind == "http" else "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await door(scope, receive, send)
    return sent


async def test_the_app_sees_no_credential_of_the_port(keys: PortKeys) -> None:
    app = App()
    app.go_on.set()
    await ask(door(app, keys), keys, (b"cookie", b"a=b; orchnb-4567=x; c=d"), (b"x", b"y"))
    [scope] = app.scopes
    assert scope["headers"] == [(b"host", HERE), (b"cookie", b"a=b; c=d"), (b"x", b"y")]


@pytest.mark.parametrize(
    ("own", "is_sent"),
    [
        ((b"X-Frame-Options", b"DENY"), True),
        ((b"referrer-policy", b"no-referrer"), True),
        ((b"content-security-policy", b"default-src 'self'"), True),
        ((b"access-control-allow-origin", b"*"), False),
        ((b"Access-Control-Allow-Credentials", b"true"), False),
        ((b"cross-origin-resource-policy", b"cross-origin"), False),
    ],
)
async def test_what_the_app_may_send(
    keys: PortKeys, own: tuple[bytes, bytes], is_sent: bool
) -> None:
    app = App(own)
    app.go_on.set()
    headers = (await ask(door(app, keys), keys))[0]["headers"]
    assert (own in headers) == is_sent
    names = [name.lower() for name, _ in headers]
    assert names.count(b"x-frame-options") == names.count(b"referrer-policy") == 1
    assert (b"content-security-policy", b"frame-ancestors 'self'") in headers
    assert (b"cross-origin-resource-policy", b"same-origin") in headers


async def test_only_so_many_requests_reach_it_at_a_time(keys: PortKeys) -> None:
    app = App()
    behind = door(app, keys)
    async with anyio.create_task_group() as asking:
        for _ in range(5):
            asking.start_soon(ask, behind, keys)
        await anyio.wait_all_tasks_blocked()
        assert len(app.scopes) == 2
        app.go_on.set()
    assert len(app.scopes) == 5


async def test_only_so_many_web_sockets_are_open_at_a_time(keys: PortKeys) -> None:
    app = App()
    behind = door(app, keys)

    async def open_socket() -> list[Any]:
        return await ask(behind, keys, kind="websocket")

    async with anyio.create_task_group() as opening:
        for _ in range(2):
            opening.start_soon(open_socket)
        await anyio.wait_all_tasks_blocked()
        refused = await open_socket()
        assert refused[0]["status"] == 503
        assert len(app.scopes) == 2
        app.go_on.set()
    await open_socket()
    assert len(app.scopes) == 3, "one that was closed has made room"
