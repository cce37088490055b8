"""Small ASGI apps that kernels in tests run instead of Prefect's server, by ORCHNB_EPHEMERAL_APP."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl


async def answer(
    send: Any,
    status: int,
    body: Any,
    kind: bytes = b"application/json",
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    all_headers = [(b"content-type", kind), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": content})


_tries: Counter[str] = Counter()


async def flaky(scope: Any, send: Any) -> None:
    """``/api/flaky/N?key=K&after=S``: N times 503, per key, then 200. ``after`` is Retry-After,
    ``maintenance`` says that it is."""
    query = dict(parse_qsl(scope["query_string"].decode()))
    key = scope["path"] + query.get("key", "")
    _tries[key] += 1
    if _tries[key] > int(scope["path"].rsplit("/", 1)[1]):
        await answer(send, 200, "at last")
        return
    headers = [(b"retry-after", query["after"].encode())] if "after" in query else []
    if "maintenance" in query:
        headers.append((b"prefect-maintenance", b"true"))
    await answer(send, 503, {"detail": "busy"}, headers=headers)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers as the API does, and misbehaves by path."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if path == "/api/hello":
        await answer(send, 200, "hello")
    elif path == "/api/health":
        await answer(send, 200, True)
    elif path == "/api/admin/version":
        await answer(send, 200, "1.2.3")
    elif path.startswith("/api/flows/name/"):
        detail = "<script>alert(1)</script>\x1b[31m red\nsecond line"
        await answer(send, 409, {"detail": detail})
    elif path == "/api/flows/filter":
        await answer(send, 200, b"<html><title>Log in</title></html>", b"text/html")
    elif path.startswith("/api/flaky/"):
        await flaky(scope, send)
    elif path == "/api/hang":
        await receive()
        Path(os.environ["HANG_FILE"]).touch()  # tells the test that the request is under way
        await receive()  # until the client has gone
    elif path == "/api/knows-nobody":
        await answer(send, 401, {"detail": "Unauthorized"})
    elif path == "/api/wants-a-token":
        await answer(send, 403, {"detail": "Invalid CSRF token or client identifier."})
    elif path == "/api/csrf-token":
        await answer(send, 404, {"detail": "Not Found"})
    else:
        await answer(send, 422, {"detail": [{"loc": ["path", "id"], "msg": "no", "type": "uuid"}]})
