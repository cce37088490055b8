"""The connections of a sync client, so that another thread can end what waits on them."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

import httpx


class Connections:
    """Knows the connections that requests open. Add `watch` to the client's request hooks.

    Closing a client does not end a request that waits in another thread, but shutting its socket down
    does. A custom transport that does not support httpcore's trace extension opens connections that
    are not known here.
    """

    def __init__(self) -> None:
        self.made = False
        """Whether a connection was made."""
        self.request: httpx.Request | None = None
        """The last request that was sent."""
        self._sockets: list[socket.socket] = []
        self._is_cut = False
        self._lock = threading.Lock()

    def watch(self, request: httpx.Request) -> None:
        """Have httpcore tell of the connection that this request opens."""
        self.request = request
        request.extensions["trace"] = self._trace

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        # TLS wraps the socket in a new one.
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.made = True
            opened = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._sockets.append(opened)
                is_cut = self._is_cut
            if is_cut:
                _shut_down(opened)

    def cut(self) -> None:
        """Shut all of them down, and those that are opened later as well; from any thread."""
        with self._lock:
            self._is_cut = True
            sockets = list(self._sockets)
        for opened in sockets:
            _shut_down(opened)


def _shut_down(opened: Any) -> None:
    with suppress(OSError):  # it is closed, or a wrapped socket that has no descriptor any more
        # Not the method of an SSLSocket, which takes the TLS state away under the thread that reads.
        socket.socket.shutdown(opened, socket.SHUT_RDWR)
