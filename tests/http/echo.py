"""A server that answers each request with its own path, over HTTP/1.1 and HTTP/2, also as a proxy.

An answer takes a moment, so that processes that share a connection would meet each other's answers.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events

_MOMENT = threading.Event()  # never set: to wait for it takes just the time-out
_DELAY = 0.002


@contextmanager
def echo_server() -> Iterator[str]:
    """Its URL; it is a proxy as well, as a request to one names the whole URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):  # closed: the end
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=_serve, args=(connection,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _serve(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        start = connection.recv(3, socket.MSG_PEEK)
        (_serve_http2 if start == b"PRI" else _serve_http1)(connection)


def _serve_http1(connection: socket.socket) -> None:
    stream = connection.makefile("rb")
    while line := stream.readline():
        while stream.readline().strip():
            pass
        path = urlsplit(line.split()[1].decode()).path.encode()
        _MOMENT.wait(_DELAY)
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(path), path))


def _serve_http2(connection: socket.socket) -> None:
    config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
    talk = h2.connection.H2Connection(config)
    talk.initiate_connection()
    connection.sendall(talk.data_to_send())
    while data := connection.recv(65536):
        for event in talk.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                path = dict(event.headers)[":path"]
                _MOMENT.wait(_DELAY)
                talk.send_headers(event.stream_id, [(":status", "200")])
                talk.send_data(event.stream_id, path.encode(), end_stream=True)
        connection.sendall(talk.data_to_send())
