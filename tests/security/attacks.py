"""Answers that are meant to do harm, as they are on the wire, and a script that tries them on every call.

``python -m tests.security.attacks`` writes a line of JSON for each call: the attack, the call, what it
ended in, how long it took, and by how much the process has grown.
"""

from __future__ import annotations

import gzip
import json
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

MB = 1_000_000
Answer = Callable[[], Iterator[bytes]]
UUID = "00000000-0000-4000-8000-000000000000"


def whole(body: bytes | str, *headers: str, status: str = "200 OK") -> Answer:
    """A whole answer."""
    content = body if isinstance(body, bytes) else body.encode()
    kind = () if any(line.lower().startswith("content-type") for line in headers) else (JSON,)
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *kind, *headers, "", ""]
    return lambda: iter([("\r\n".join(lines)).encode("latin-1") + content])


def raw(data: bytes) -> Answer:
    """These bytes, and no more."""
    return lambda: iter([data])


def endless(part: bytes, first: bytes = b"", *headers: str, status: str = "200 OK") -> Answer:
    """A body that goes on until the client has gone."""
    lines = [f"HTTP/1.1 {status}", "Transfer-Encoding: chunked", JSON, *headers, "", ""]

    def parts() -> Iterator[bytes]:
        yield "\r\n".join(lines).encode()
        yield b"%x\r\n%b\r\n" % (len(first), first) if first else b""
        chunk = b"%x\r\n%b\r\n" % (len(part), part)
        while True:
            yield chunk

    return parts


def bomb(*layers: str, size: int = 300 * MB, status: str = "200 OK") -> Answer:
    """Zeros, packed again and again; the end is missing, as nobody is to get that far."""
    packer = zlib.compressobj(9, wbits=31)
    data = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    data += block * (size // MB)
    for _ in layers[1:]:
        data = gzip.compress(data)
    return whole(data, f"Content-Encoding: {', '.join(layers)}", status=status)


JSON = "Content-Type: application/json"
_EMPTY_BLOCK = zlib.compressobj(wbits=31)
_HEAD = _EMPTY_BLOCK.compress(b"[") + _EMPTY_BLOCK.flush(zlib.Z_SYNC_FLUSH)
_ROWS = [{"loc": ["body", number], "msg": "no", "type": "t"} for number in range(5_000)]
_FAULT = "422 Unprocessable Entity"


def _deep(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = {"detail": value}
    return value


SMALL: dict[str, Answer] = {
    "nothing": whole(""),
    "a page": whole("<html><title>Log in</title>", "Content-Type: text/html"),
    "null": whole("null"),
    "a list of null": whole("[null]"),
    "a number": whole("17"),
    "a text": whole('"text"'),
    "not a number": whole("NaN"),
    "an infinite number": whole("1e999"),
    "a long number": whole("1" * 5_000),
    "nested lists": whole("[" * 100_000 + "]" * 100_000),
    "nested lists without end": whole("[" * 900_000),
    "nested objects": whole('{"a":' * 100_000 + "1" + "}" * 100_000),
    "nested just so": whole("[" * 900 + "]" * 900),
    "half of a list": whole("[1, 2"),
    "two values": whole("{} {}"),
    "a key twice": whole(f'{{"id": "{UUID}", "id": 1}}'),
    "no utf-8": whole(b'{"name": "\xff\xfe"}'),
    "half of utf-16": whole(b"\xff\xfe{"),
    "a lone surrogate": whole('{"id": "\\ud800", "name": "\\udfff"}'),
    "zeros": whole(bytes(1_000)),
    "a name of escapes": whole(json.dumps({"id": UUID, "name": "\x9d" * 100_000})),
    "wrong objects": whole(json.dumps([{}] * 20_000)),
    "a wrong page of events": whole(json.dumps({"events": [{}] * 20_000, "total": 1})),
    "charset zip": whole(zlib.compress(bytes(20 * MB)), "Content-Type: text/plain; charset=zip"),
    "charset punycode": whole(
        "\x41-" * 200_000, "Content-Type: application/json; charset=punycode", status="500 No"
    ),
    "an error of escapes": whole("\x9d" * 400_000, status="500 Internal Server Error"),
    "an error of titles": whole(
        "<title" * 150_000, "Content-Type: text/html", status="404 Not Found"
    ),
    "an error of echoes": whole(json.dumps({"detail": "input_value=" * 70_000}), status=_FAULT),
    "many rows": whole(json.dumps({"detail": _ROWS}), status=_FAULT),
    "a deep detail": whole(json.dumps(_deep(200)), status=_FAULT),
    "an error in words of control": whole("{}", status="500 \x1b]0;x\x07\x9d"),
    "an error that is a bomb": bomb("gzip", "gzip", size=100 * MB, status="400 Bad Request"),
    "an error without end": endless(b"e" * 50_000, status="503 Service Unavailable"),
    "six layers": bomb(*["gzip"] * 6, size=MB),
    "br": whole(b"\x8b\x02\x80text\x03", "Content-Encoding: br"),
    "zstd": whole(b"(\xb5/\xfd", "Content-Encoding: zstd"),
    "no gzip": whole("{}", "Content-Encoding: gzip"),
    "half of a gzip": whole(gzip.compress(b'{"name": "x"}' * 9)[:20], "Content-Encoding: gzip"),
    "more after a gzip": whole(gzip.compress(b"{") + b"x" * 9, "Content-Encoding: gzip"),
    "too little": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    "a gigabyte announced": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{"),
    "a length without sense": raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 99 + b"\r\n\r\n{"
    ),
    "a negative length": raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
    "two lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "a chunk of all memory": raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFF\r\n{}"
    ),
    "no chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"),
    "a long header": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * MB + b"\r\n\r\n"),
    "many headers": raw(
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 9_000 + b"Content-Length: 0\r\n\r\n"
    ),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.9\r\n"),
    "a status without sense": raw(b"HTTP/1.1 999 Strange\r\nContent-Length: 2\r\n\r\n{}"),
    "a hundred continues": raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "another protocol": raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
    "no content": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not modified": raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "a redirect to itself": whole("", "Location: /api/flow_runs/filter", status="307 Away"),
    "a redirect to nowhere": whole("", f"Location: http://[{'x' * 50_000}", status="302 Away"),
    "many cookies": whole("17", *[f"Set-Cookie: c{number}={'x' * 900}" for number in range(80)]),
    "wait for a day": whole("{}", "Retry-After: 86400", status="429 Too Many Requests"),
    "a token is wrong": whole('{"detail": "Invalid CSRF token"}', status="403 Forbidden"),
    "nothing at all": raw(b""),
}
"""Tried on every call, with both clients."""

LARGE: dict[str, Answer] = {
    "endless": endless(b"1," * 30_000, b"["),
    "endless and empty": endless(b"\x00\x00\x00\xff\xff" * 9_000, _HEAD, "Content-Encoding: gzip"),
    "a bomb": bomb("gzip"),
    "a bomb in a bomb": bomb("gzip", "gzip"),
}
"""As large as a result may be, and so tried on few calls."""

# The calls

CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "read": ("read_flow_run", (UUID,)),
    "list": ("read_flow_runs", ()),
    "count": ("count_flow_runs", ()),
    "create": ("create_flow_from_name", ("name",)),
    "events": ("read_events", ()),
    "hello": ("hello", ()),
    "version": ("api_version", ()),
    "request": ("request", ("POST", "/flow_runs/filter")),
}


@contextmanager
def serving(answers: dict[str, Answer]) -> Iterator[tuple[str, list[str]]]:
    """A server that gives the answer whose name is in the list; its API's URL, and that list."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    now: list[str] = []

    def serve(near: socket.socket) -> None:
        with near, suppress(OSError):
            near.settimeout(10)
            data = near.recv(65_536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            while len(body) < length:
                body += near.recv(65_536)
            for part in answers[now[-1]]():
                near.sendall(part)
            near.shutdown(socket.SHUT_WR)
            while near.recv(65_536):  # or closing would break what is still on its way
                pass

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=serve, args=(near,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api", now
    finally:
        listener.close()


def memory() -> float:
    """The most memory, in MB, that this process has had."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset / MB)
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size * (1 if sys.platform == "darwin" else 1024) / MB


def main() -> None:
    import anyio
    import httpx

    import orchnb
    from orchnb.api import models
    from orchnb.api.client import PrefectClient, SyncPrefectClient
    from orchnb.api.status import server_status
    from orchnb.http.retry import RetryPolicy

    models.FlowRun  # noqa: B018 - imported now, so as not to count as growth
    options = {"retry_policy": RetryPolicy(max_retries=1, max_wait=1)}

    settings: dict[str, Any] = {**options, "timeout": 10, "enable_csrf_support": False}
    with_token = {**settings, "enable_csrf_support": True}

    @contextmanager
    def reported(attack: str, call: str) -> Iterator[list[str]]:
        now.append(attack)
        outcome = ["result"]
        before, began = memory(), time.perf_counter()
        try:
            yield outcome
        except (orchnb.OrchnbError, httpx.HTTPError) as exc:
            outcome[0] = type(exc).__name__
            str(exc), repr(exc)
        except ValueError as exc:
            # What a response's json() raises, by httpx's documentation.
            outcome[0] = "ValueError" if call.startswith("request") else f"! {exc!r:.200}"
        except Exception as exc:  # it is reported, and fails the test
            outcome[0] = f"! {exc!r:.200}"
        seconds, growth = time.perf_counter() - began, memory() - before
        line = json.dumps([attack, call, *outcome, round(seconds, 2), round(growth)])
        sys.stdout.write(f"{line}\n")

    def sync_calls(url: str) -> None:
        with SyncPrefectClient(url, httpx_settings=settings) as client:
            for number, attack in enumerate(SMALL):
                for call in [*CALLS][number % 2 :: 2]:  # the others are made by the async client
                    with reported(attack, call):
                        answer = getattr(client, CALLS[call][0])(*CALLS[call][1])
                        if call == "request":
                            answer.json()
                with (
                    reported(attack, "token"),
                    SyncPrefectClient(url, httpx_settings=with_token) as other,
                ):
                    other.create_flow_from_name("name")
                with reported(attack, "operations"):
                    client.operations.load(refresh=True)
                with reported(attack, "status") as outcome:
                    if not server_status(orchnb.Settings(api_url=url)).is_up:
                        outcome[0] = "down"
            for attack in [*LARGE][::2]:
                with reported(attack, "list"):
                    client.read_flow_runs()

    async def async_calls(url: str) -> None:
        async with PrefectClient(url, httpx_settings=settings) as client:
            for number, attack in enumerate(SMALL):
                for call in [*CALLS][(number + 1) % 2 :: 2]:
                    with reported(attack, f"{call}, async"):
                        answer = await getattr(client, CALLS[call][0])(*CALLS[call][1])
                        if call == "request":
                            answer.json()
                with reported(attack, "token, async"):
                    async with PrefectClient(url, httpx_settings=with_token) as other:
                        await other.create_flow_from_name("name")
            for attack in [*LARGE][1::2]:
                with reported(attack, "request, async"):
                    (await client.request("GET", "/any")).json()

    with serving({**SMALL, **LARGE}) as (url, now):
        sync_calls(url)
        anyio.run(async_calls, url)


if __name__ == "__main__":
    main()
