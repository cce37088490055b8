"""A real TCP server on loopback that answers as it is told, or breaks the connection."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

TLS_HANDSHAKE = b"\x16"
"""The first byte of a connection by TLS (RFC 8446, 5.1)."""

Answer = Callable[[socket.socket], None]


def http(status: int, body: bytes = b"{}", *headers: str, length: int | None = None) -> Answer:
    """A whole answer; ``length`` promises another length than the body has."""
    lines = [
        f"HTTP/1.1 {status} Word",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    lines += [*headers, "Connection: close", "", ""]

    def send(connection: socket.socket) -> None:
        connection.sendall("\r\n".join(lines).encode() + body)

    return send


def cut(connection: socket.socket) -> None:
    """Close in the middle of the head."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-")


def cut_in_body(connection: socket.socket) -> None:
    """Promise a hundred bytes and send seven."""
    http(200, b"partial", length=100)(connection)


def reset(connection: socket.socket) -> None:
    """Break the connection with an RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close(connection: socket.socket) -> None:
    """Close without a word."""


@dataclass
class Wire:
    """The server; ``requests`` is what has come in, as bytes."""

    port: int
    answers: list[Answer]
    requests: list[bytes] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    """Set it to let `hang` end."""
    hanging: threading.Event = field(default_factory=threading.Event)
    """Set when a request hangs."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def hang(self, connection: socket.socket) -> None:
        """Answer nothing until released."""
        self.hanging.set()
        self.release.wait(30)


@contextmanager
def wire(*answers: Answer) -> Iterator[Wire]:
    """A server that gives one answer a connection, the last one again and again. It refuses TLS."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Wire(listener.getsockname()[1], list(answers))
    workers: list[threading.Thread] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            worker = threading.Thread(target=handle, args=(connection,))
            workers.append(worker)
            worker.start()

    def handle(connection: socket.socket) -> None:
        with connection:
            try:
                if connection.recv(1, socket.MSG_PEEK) == TLS_HANDSHAKE:
                    return
                answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                server.requests.append(read_request(connection))
                answer(connection)
            except OSError:
                pass  # the client has gone first

    acceptor = threading.Thread(target=serve)
    acceptor.start()
    try:
        yield server
    finally:
        server.release.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)
        for worker in workers:
            worker.join(10)


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return data
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    chunked = b"transfer-encoding: chunked" in head.lower()
    while len(body) < length or (chunked and not body.endswith(b"0\r\n\r\n")):
        # All of it: closing with something unread would reset the connection under the answer.
        part = connection.recv(65536)
        if not part:
            break
        body += part
    return head + b"\r\n\r\n" + body
