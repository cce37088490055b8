"""The app as served on the port: behind the port's guard, and within separate limits.

`orchnb.hosting.port_guard` decides who may come in. Prefect's server handles at most 100 calls at a
time, those of the kernel's own client among them, so the port passes on fewer, and an open web socket
that nobody has authenticated is not passed on at all.
"""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import MutableMapping
from typing import Any

import anyio

from orchnb.asgi import ASGIApp, Message, Receive, Send
from orchnb.hosting.port_connections import Connections, Use
from orchnb.hosting.port_guard import (
    AwaitAuthMessage,
    GoTo,
    Pass,
    PortKeys,
    Refuse,
    basic_credentials,
    decide,
)

Headers = list[tuple[bytes, bytes]]

MOST_REQUESTS = 24
"""HTTP requests that the app handles at a time for the port; others wait for their turn."""

MOST_SOCKETS = 48
"""Web sockets that are open at a time; others are refused. With the requests, these are fewer than the
100 calls that Prefect's server handles at a time, so that the kernel's own client never waits for the
port."""

_MOST_DRAINED = 1024 * 1024
"""Bytes of a refused request's body that are read, so that its client sees the answer."""

_LAST_TIME = 1.0
"""Seconds that the last messages to a refused client may take."""

_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013  # RFC 6455 and its registry of close codes

# No page of another origin may embed these pages, nor is it told where a link on them leads from.
_HARDENED: Headers = [
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"content-security-policy", b"frame-ancestors 'self'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"same-origin"),
]
# Where the app has set its own, these stay: its own may be stricter.
_KEPT = (b"x-frame-options", b"referrer-policy")

# Headers that would let other origins in.
_DROPPED = (b"access-control-", b"cross-origin-resource-policy")


class Door:
    """The ASGI app that the port serves.

    Args:
        app: the app to protect.
        keys: the credentials of the port.
        connections: the port's connections, which record who has authenticated.
        patience: seconds that the next part of a body, or the first message of a web socket, may take.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: PortKeys,
        connections: Connections,
        *,
        patience: float,
        most_requests: int = MOST_REQUESTS,
        most_sockets: int = MOST_SOCKETS,
    ) -> None:
        self._app = app
        self._keys = keys
        self._connections = connections
        self._patience = patience
        self._turns = asyncio.Semaphore(most_requests)
        self._most_sockets = most_sockets
        self._sockets = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        with self._connections.using(scope.get("client")) as use:
            verdict = decide(scope, self._keys)
            if isinstance(verdict, GoTo) and verdict.code:
                host = next(value for name, value in scope["headers"] if name == b"host")
                cookie = self._keys.use_code(verdict.code, host.decode("latin-1"))
                await answer(scope, receive, send, *_page_that_goes_to(verdict.path, cookie))
            elif isinstance(verdict, GoTo):
                await answer(scope, receive, send, *_page_that_goes_to(verdict.path, None))
            elif isinstance(verdict, Refuse):
                await refuse(verdict, scope, receive, send)
            elif scope["type"] == "websocket":
                await self._pass_socket(verdict, use, scope, receive, send)
            else:
                await self._pass_request(use, scope, receive, send)

    async def _pass_request(
        self, use: Use, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        use.is_known = True
        scope["headers"] = _without_credentials(scope["headers"], self._keys)
        body_is_read = False

        async def receive_in_time() -> Message:
            nonlocal body_is_read
            if body_is_read:
                return await receive()
            with anyio.move_on_after(self._patience):
                message = await receive()
                body_is_read = message["type"] != "http.request" or not message.get("more_body")
                return message
            use.abort()
            body_is_read = True
            return {"type": "http.disconnect"}

        async with self._turns:
            await self._app(scope, receive_in_time, _hardened(send))

    async def _pass_socket(
        self,
        verdict: Pass | AwaitAuthMessage,
        use: Use,
        scope: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        if isinstance(verdict, AwaitAuthMessage):
            authenticated = await self._authenticated(receive, send)
            if authenticated is None:
                return
            receive, send = authenticated
        use.is_known = True
        if self._sockets >= self._most_sockets:
            words = "Too many web sockets are open on this port. Close some of the programs that use it."
            if isinstance(verdict, AwaitAuthMessage):
                await _close(send, _TRY_AGAIN_LATER, words)
            else:
                await refuse(Refuse(503, words), scope, receive, send)
            return
        self._sockets += 1
        try:
            scope["headers"] = _without_credentials(scope["headers"], self._keys)
            await self._app(scope, receive, send)
        finally:
            self._sockets -= 1

    async def _authenticated(self, receive: Receive, send: Send) -> tuple[Receive, Send] | None:
        """Open a web socket and wait for the auth string, before the app knows of it.

        Return the app's functions to receive and send from then on, which repeat the first messages,
        because the app does the same; None if the socket has been closed.
        """
        messages = [await receive()]
        await send({"type": "websocket.accept", "subprotocol": "prefect"})
        with anyio.move_on_after(self._patience):
            messages.append(await receive())
        if len(messages) == 1:
            await _close(send, _POLICY_VIOLATION, "The auth message took too long")
            return None
        if messages[-1]["type"] != "websocket.receive":
            return None  # it has disconnected
        if not self._keys.is_auth_string(_token_of(messages[-1])):
            words = "Invalid token: %orch_serve names a file that sets PREFECT_API_AUTH_STRING"
            await _close(send, _POLICY_VIOLATION, words)
            return None

        async def receive_again() -> Message:
            return messages.pop(0) if messages else await receive()

        is_accepted = False

        async def send_after_accept(message: Message) -> None:
            nonlocal is_accepted
            if is_accepted or message["type"] != "websocket.accept":
                await send(message)
            is_accepted = True

        return receive_again, send_after_accept


def _token_of(message: Message) -> str:
    """Return the token of Prefect's auth message; empty if it is another message."""
    try:
        auth = json.loads(message.get("text") or message.get("bytes") or "")
    except (ValueError, RecursionError):
        return ""
    if not isinstance(auth, dict) or auth.get("type") != "auth":
        return ""
    token = auth.get("token")
    return token if isinstance(token, str) else ""


def _without_credentials(headers: Headers, keys: PortKeys) -> Headers:
    """Return the headers for the app: the port's own credentials are removed."""
    return [
        (name, value)
        for name, kept in headers
        if (value := _without_credential(name.lower(), kept, keys)) is not None
    ]


def _without_credential(name: bytes, value: bytes, keys: PortKeys) -> bytes | None:
    if name == b"authorization":
        is_ours = keys.is_auth_string(basic_credentials(value.decode("latin-1")))
        return None if is_ours else value
    if name == b"cookie":
        ours = keys.cookie_name.encode()
        pairs = [pair.strip() for pair in value.split(b";")]
        return b"; ".join(pair for pair in pairs if pair.partition(b"=")[0] != ours) or None
    return value


def _hardened(send: Send) -> Send:
    async def send_hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers: Headers = [
                (name, value)
                for name, value in message.get("headers", ())
                if not name.lower().startswith(_DROPPED)
            ]
            kept = {name.lower() for name, _ in headers}.intersection(_KEPT)
            headers += [(name, value) for name, value in _HARDENED if name not in kept]
            message = {**message, "headers": headers}
        await send(message)

    return send_hardened


async def _close(send: Send, code: int, reason: str) -> None:
    with anyio.move_on_after(
        _LAST_TIME
    ):  # some versions of uvicorn wait for the other end's answer
        await send({"type": "websocket.close", "code": code, "reason": reason})


async def refuse(
    refused: Refuse, scope: MutableMapping[str, Any], receive: Receive, send: Send
) -> None:
    """Answer a request, or a web socket that wants to connect, with a status and the reason."""
    accepts = [value for name, value in scope["headers"] if name.lower() == b"accept"]
    if scope["type"] == "http" and b"text/html" in b",".join(accepts).lower():
        words = html.escape(refused.words)
        body, kind = _PAGE.format(head="", words=words).encode(), b"text/html; charset=utf-8"
    else:
        body, kind = json.dumps({"detail": refused.words}).encode(), b"application/json"
    await answer(scope, receive, send, refused.status, [(b"content-type", kind)], body)


def _page_that_goes_to(path: str, cookie: str | None) -> tuple[int, Headers, bytes]:
    """Return a page that leads to another one immediately, so the next request comes from the port."""
    quoted = html.escape(path.replace("'", "%27"))
    head = f"""<meta http-equiv="refresh" content="0; url='{quoted}'">"""
    words = f'<a href="{quoted}">Continue</a>'
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store")]
    if cookie is not None:
        headers.append((b"set-cookie", cookie.encode()))
    return 200, headers, _PAGE.format(head=head, words=words).encode()


_PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>orchnb</title>{head}</head>'
    "<body><p>{words}</p></body></html>\n"
)


async def answer(
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
    status: int,
    headers: Headers,
    body: bytes,
) -> None:
    """Respond instead of the app, and close the connection of a refused client."""
    kind = "http.response"
    if scope["type"] == "websocket":
        await receive()  # that it wants to connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close"})  # a 403, says the ASGI specification
            return
        kind = "websocket.http.response"
    else:
        await _drain(receive)
    more = [(b"content-length", str(len(body)).encode()), (b"x-content-type-options", b"nosniff")]
    if status >= 400 and kind == "http.response":
        more.append((b"connection", b"close"))
    await send(
        {"type": f"{kind}.start", "status": status, "headers": [*headers, *more, *_HARDENED]}
    )
    await send({"type": f"{kind}.body", "body": body})


async def _drain(receive: Receive) -> None:
    """Read and discard a body: closing a connection with unread data would lose the response."""
    drained = 0
    with anyio.move_on_after(_LAST_TIME):
        while drained < _MOST_DRAINED:
            message = await receive()
            drained += len(message.get("body", b""))
            if message["type"] != "http.request" or not message.get("more_body"):
                return
