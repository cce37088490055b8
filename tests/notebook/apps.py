"""Small ASGI apps that kernels in tests run instead of Prefect's server, by ORCHNB_EPHEMERAL_APP."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


async def answer(send: Any, status: int, body: Any, kind: bytes = b"application/json") -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    await send(
        {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]}
    )
    await send({"type": "http.response.body", "body": content})


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
    elif path == "/api/hang":
        await receive()
        Path(os.environ["HANG_FILE"]).touch()  # tells the test that the request is under way
        await receive()  # until the client has gone
    elif path == "/api/csrf-token":
        await answer(send, 404, {"detail": "Not Found"})
    else:
        await answer(send, 422, {"detail": [{"loc": ["path", "id"], "msg": "no", "type": "uuid"}]})
