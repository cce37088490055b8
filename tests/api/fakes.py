"""Small servers that do what the real one does not: lose answers, refuse, or be something else."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx

FLOW_ID = "11111111-1111-4111-8111-111111111111"
RUN_ID = "22222222-2222-4222-8222-222222222222"


class Scripted(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport that answers as a function says, and remembers what it was asked."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        return self._answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        return self._answer(request)


class LosingAnswers(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Hands requests on over HTTP, and loses the first answer to each of the given paths."""

    def __init__(self, *paths: str) -> None:
        self._to_lose = list(paths)
        self._sync = httpx.HTTPTransport()
        self._async = httpx.AsyncHTTPTransport()
        self.lost = 0

    def _loses(self, request: httpx.Request) -> bool:
        if request.method == "POST" and request.url.path in self._to_lose:
            self._to_lose.remove(request.url.path)
            self.lost += 1
            return True
        return False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._sync.handle_request(request)
        if self._loses(request):
            response.read()
            raise httpx.ReadError("the answer was lost", request=request)
        return response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._async.handle_async_request(request)
        if self._loses(request):
            await response.aread()
            raise httpx.ReadError("the answer was lost", request=request)
        return response

    def close(self) -> None:
        self._sync.close()

    async def aclose(self) -> None:
        await self._async.aclose()


async def tiny_api(
    scope: MutableMapping[str, Any], receive: Callable[[], Any], send: Callable[..., Any]
) -> None:
    """An ASGI app without lifespan that knows a version and one flow run."""
    assert scope["type"] == "http"
    answers: dict[str, Any] = {
        "/api/admin/version": "1.2.3",
        "/api/health": True,
        "/api/flows/filter": [{"id": FLOW_ID, "name": "etl"}],
        f"/api/flow_runs/{RUN_ID}": {"id": RUN_ID, "flow_id": str(uuid.UUID(int=1))},
    }
    found = scope["path"] in answers
    body = json.dumps(answers.get(scope["path"], {"detail": "Nothing here"})).encode()
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def http_server(
    answer: Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]],
) -> Iterator[str]:
    """A real HTTP server on a free port that answers as a function says; its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version: ClassVar[str] = "HTTP/1.1"

        def _handle(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, body = answer(self)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _handle

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            """A client that is gone is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
