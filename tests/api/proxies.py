"""TCP proxies before a server that fail as networks do."""

from __future__ import annotations

import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A free port whose connections are handed to ``serve``, each in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(near,), daemon=True).start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(10)


@contextmanager
def breaking_proxy(upstream: str, seed: int) -> Iterator[tuple[str, list[int]]]:
    """A TCP proxy before a server that breaks one connection in five, wherever that is just then: its
    URL, and the numbers of bytes after which it broke one."""
    target = httpx.URL(upstream)
    chance = random.Random(seed)
    lock = threading.Lock()
    broken: list[int] = []

    def pump(source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        passed = 0
        try:
            while data := source.recv(4096):
                if limit is not None and passed + len(data) > limit:
                    sink.sendall(data[: limit - passed])
                    broken.append(limit)
                    break
                sink.sendall(data)
                passed += len(data)
        except OSError:
            pass  # the other side has gone
        finally:
            for each in (source, sink):
                with suppress(OSError):  # it may have gone already
                    each.shutdown(socket.SHUT_RDWR)

    def serve(near: socket.socket) -> None:
        far = socket.create_connection((target.host, target.port or 80))
        with lock:
            there = chance.randrange(1, 900) if chance.random() < 0.2 else None
            back = chance.randrange(1, 900) if chance.random() < 0.2 else None
        threading.Thread(target=pump, args=(near, far, there), daemon=True).start()
        pump(far, near, back)

    with listening(serve) as port:
        yield f"http://127.0.0.1:{port}{target.path}", broken


class FaultyProxy:
    """Hands requests on over TCP, connections being kept, and lets one in four meet a fault.

    A reset is one of TCP's (a close that lingers for no time), which is not the orderly end that
    `breaking_proxy` makes; a stall lasts until the client gives up. What comes ``after`` the request was
    handed on comes when the server has acted on it; if it has not, because it is busy, say, the fault
    waits for the next one.
    """

    FAULTS = (
        "reset before",
        "reset after",
        "reset within the answer",
        "reset when idle",
        "stall before",
        "stall after",
    )

    def __init__(self, upstream: str, seed: int, share: float = 0.25) -> None:
        self._target = httpx.URL(upstream)
        self._chance = random.Random(seed)
        self._share = share
        self._lock = threading.Lock()
        self._waiting: list[str] = []
        self.faults: Counter[str] = Counter()

    @contextmanager
    def running(self) -> Iterator[str]:
        """Its URL, while it runs."""
        with listening(self._serve) as port:
            yield f"http://127.0.0.1:{port}{self._target.path}"

    def _serve(self, near: socket.socket) -> None:
        with near, suppress(OSError):  # either side may go
            while request := _message(near):
                fault = self._next_fault()
                if self._meets(fault, near, request):
                    return

    def _next_fault(self) -> str:
        with self._lock:
            if self._waiting:
                return self._waiting.pop()
            return self._chance.choice(self.FAULTS) if self._chance.random() < self._share else ""

    def _meets(self, fault: str, near: socket.socket, request: bytes) -> bool:
        """Hand a request on as far as the fault allows; whether it was the connection's last."""
        if fault.endswith("before"):
            return self._end(fault, near)
        with socket.create_connection((self._target.host, self._target.port or 80)) as far:
            far.sendall(request)
            answer = _message(far)
        if fault.endswith(("after", "answer")) and not re.match(rb"HTTP/1.1 2", answer):
            with self._lock:
                self._waiting.append(fault)
            fault = ""
        if fault.endswith("after"):
            return self._end(fault, near)
        if fault == "reset within the answer":
            head, gap, body = answer.partition(b"\r\n\r\n")
            near.sendall(head + gap + body[: len(body) // 2])
            return self._end(fault, near)
        near.sendall(answer)
        return self._end(fault, near) if fault else False

    def _end(self, fault: str, near: socket.socket) -> bool:
        with self._lock:
            self.faults[fault] += 1
        if fault.startswith("stall"):
            near.recv(1)  # the client says nothing more, so this is its end of the connection
        else:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            near.close()
        return True


def _message(connection: socket.socket) -> bytes:
    """The next request or answer on a connection; nothing if it ends before that is whole."""
    received = b""
    length: int | None = None
    while length is None or len(received) < length:
        data = connection.recv(65_536)
        if not data:
            return b""
        received += data
        head, gap, _ = received.partition(b"\r\n\r\n")
        if gap and length is None:
            named = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            length = len(head + gap) + (int(named[1]) if named else 0)
    return received
