"""The connections of a port: how many there are, and how long one may be silent.

uvicorn closes only connections that are idle after a request. One that never sends anything stays open,
and uses one of the file descriptors that the notebook needs as well. So connections are accepted here,
one after the other, up to a limit. At the limit, the next one replaces an unauthenticated one: the one
that has been silent the longest.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio

MOST_CONNECTIONS = 128

_SHARE = 4
"""The port uses at most one in this many of the file descriptors that the process may have."""

_LONGEST_LOOK = 1.0
"""The maximum number of seconds between two checks for silent connections."""

_AFTER_AN_ERROR = 0.1
"""Seconds to wait after a connection could not be accepted."""


def most_connections() -> int:
    """Return how many connections a port may have in this process."""
    try:
        import resource
    except ImportError:  # Windows, where sockets are not file descriptors
        return MOST_CONNECTIONS
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, limit // _SHARE))


class Use:
    """One connection and its state. ``is_known``: a request on it was authenticated."""

    def __init__(self, sock: socket.socket | None, now: float) -> None:
        self.is_known = False
        self.requests = 0
        self.since: float = now
        self.transport: asyncio.Transport | None = None
        self.is_aborted: bool = False
        self._sock = sock
        self._unsent = 0

    @property
    def is_open(self) -> bool:
        """Whether it uses a file descriptor."""
        return self._sock is not None and self._sock.fileno() >= 0

    def look(self, now: float) -> None:
        """Check for progress: whether data was sent since the last check."""
        if self.transport is not None and self.is_open:
            unsent = self.transport.get_write_buffer_size()
            if unsent < self._unsent:
                self.since = now
            self._unsent = unsent

    def abort(self) -> None:
        """Close the connection immediately."""
        if self.transport is not None:
            self.is_aborted = True
            self.transport.abort()


class Connections:
    """The open connections of a port.

    Args:
        most: how many there may be.
        patience: seconds for which one may be silent: before the head of a request is complete, and after
            a response.
    """

    def __init__(
        self, most: int, *, patience: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._patience = patience
        self._clock = clock
        self._uses: dict[Any, Use] = {}  # by the address of the other end
        self._changed = asyncio.Event()

    @contextmanager
    def using(self, client: Any) -> Iterator[Use]:
        """Record that a request on the connection with that client is being handled."""
        use = self._uses.get(_key(client)) or Use(None, self._clock())
        use.requests += 1
        try:
            yield use
        finally:
            use.requests -= 1
            use.since = self._clock()
            self._changed.set()

    async def accept(
        self, listener: socket.socket, make_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        """Accept connections on a socket until cancelled."""
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        looking = loop.create_task(self._close_the_silent())
        try:
            while True:
                try:
                    sock, address = await loop.sock_accept(listener)
                except OSError:  # it was aborted, or no file descriptor is left
                    await asyncio.sleep(_AFTER_AN_ERROR)
                    continue
                try:
                    # asyncio sets this only for a socket with an explicit protocol, which the listener
                    # does not have: each response would wait 40 ms for an acknowledgement.
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    await self._make_room()
                    use = self._uses[_key(address)] = Use(sock, self._clock())
                    use.transport, _ = await loop.connect_accepted_socket(make_protocol, sock)
                except OSError:  # the other end has already disconnected
                    sock.close()
                except BaseException:
                    sock.close()
                    raise
        finally:
            looking.cancel()

    async def _make_room(self) -> None:
        while self._count_open() >= self._most:
            if any(use.is_aborted for use in self._uses.values()):
                await asyncio.sleep(0)  # it is closed in the next iterations of the loop
            elif (silent := self._longest_silent()) is not None:
                silent.abort()
            else:
                self._changed.clear()
                with anyio.move_on_after(_LONGEST_LOOK):
                    await self._changed.wait()

    def _longest_silent(self) -> Use | None:
        found = [use for use in self._uses.values() if not (use.is_known and use.requests)]
        return min(found, key=lambda use: (use.is_known, use.since), default=None)

    def _count_open(self) -> int:
        self._uses = {key: use for key, use in self._uses.items() if use.is_open}
        return len(self._uses)

    async def _close_the_silent(self) -> None:
        while True:
            await asyncio.sleep(min(_LONGEST_LOOK, self._patience / 4))
            self._count_open()
            now = self._clock()
            for use in list(self._uses.values()):
                use.look(now)
                if not use.requests and now - use.since > self._patience:
                    use.abort()


def _key(address: Any) -> Any:
    """Return the host and the port, with which addresses from uvicorn and from the socket both begin."""
    return tuple(address[:2]) if address else None
