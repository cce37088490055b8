"""Which connections the port accepts, and which one makes room for another."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing

import anyio
import pytest

from orchnb.hosting.port_connections import Connections

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # which is what the host runs


class Kept(asyncio.Protocol):
    """The transports of the connections that were accepted, in their order."""

    transports: list[asyncio.Transport]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transports.append(transport)


@asynccontextmanager
async def accepting(connections: Connections) -> AsyncIterator[tuple[type[Kept], int]]:
    class Here(Kept):
        transports = []  # noqa: RUF012 - of this class alone

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        task = asyncio.ensure_future(connections.accept(listener, Here))
        try:
            yield Here, listener.getsockname()[1]
        finally:
            task.cancel()
            for transport in Here.transports:
                transport.abort()


async def connect(port: int, kept: type[Kept], made: ExitStack) -> tuple[str, int]:
    """Connect; the address that the server knows it by, once it has accepted it."""
    before = len(kept.transports)
    client = made.enter_context(closing(socket.create_connection(("127.0.0.1", port))))
    with anyio.fail_after(20):
        while len(kept.transports) == before:
            await anyio.sleep(0.001)  # until the server's task has done its part
    host, number = client.getsockname()
    return host, number


async def test_answers_are_sent_at_once() -> None:
    with ExitStack() as made:
        async with accepting(Connections(2, patience=60)) as (kept, port):
            await connect(port, kept, made)
            accepted = kept.transports[0].get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_who_has_not_authenticated_makes_room_first_and_who_is_served_never() -> None:
    connections = Connections(3, patience=60)
    with ExitStack() as made:
        async with accepting(connections) as (kept, port):
            served, idle, _ = [await connect(port, kept, made) for _ in range(3)]
            with connections.using(idle) as use:
                use.is_known = True
            use = made.enter_context(connections.using(served))
            use.is_known = True

            def closed() -> list[bool]:
                return [transport.is_closing() for transport in kept.transports]

            await connect(port, kept, made)
            assert closed() == [False, False, True, False], "the silent one"
            await connect(port, kept, made)
            assert closed() == [False, False, True, True, False], "the next silent one"
