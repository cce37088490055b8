"""Connections that send nothing, or not enough: the notebook does not notice them.

The process with the port may open 256 files.
"""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, closing

import pytest

from tests.security.opened import PATIENCE, Opened

HALF_A_HEAD = "GET /api/hello HTTP/1.1\r\nHost: {host}\r\n"
HALF_A_BODY = (
    "POST /api/flow_runs/filter HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n"
    "Content-Type: application/json\r\n"
)
SOCKET = (
    "GET /api/events/in HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
OWNERS = "Authorization: {token}\r\n"
PROTOCOL = "Sec-WebSocket-Protocol: prefect\r\n"

SILENT = {
    "nothing": "",
    "half a head": HALF_A_HEAD,
    "half a body": HALF_A_BODY + "\r\n{{",
    "half a body of the owner's": HALF_A_BODY + OWNERS + "\r\n{{",
    "a web socket that does not authenticate": SOCKET + PROTOCOL + "\r\n",
    "a web socket of the owner's": SOCKET + OWNERS + PROTOCOL + "\r\n",
}

STAYS = "a web socket of the owner's"


def is_closed_by_the_server(connection: socket.socket, within: float) -> bool:
    """Whether its end comes, after whatever is sent before."""
    deadline = time.monotonic() + within
    try:
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(65536):
                return True
    except TimeoutError:
        pass
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("silence", SILENT)
def test_a_silent_connection_is_closed(opened: Opened, silence: str) -> None:
    with closing(opened.connect(SILENT[silence])) as connection:
        if silence == STAYS:
            assert not is_closed_by_the_server(connection, PATIENCE * 1.5)
        else:
            assert is_closed_by_the_server(connection, PATIENCE * 2 + 2)


def test_a_slow_body_that_comes_is_waited_for(opened: Opened) -> None:
    with closing(opened.connect(SILENT["half a body of the owner's"])) as connection:
        for _ in range(4):
            time.sleep(PATIENCE * 0.6)  # a slow sender, which is what this is about
            connection.sendall(b" ")
        connection.sendall(b'"limit": 1' + b" " * (99 - 16) + b"}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("silence", SILENT)
def test_many_of_them_do_not_hold_up_the_kernels_own_client(opened: Opened, silence: str) -> None:
    alone = opened.works()
    with ExitStack() as made:
        for _ in range(300):
            made.enter_context(closing(opened.connect(SILENT[silence])))
        # Whoever waits behind them waits each time. The slowest may have waited for another test.
        took = sorted(opened.works() for _ in range(3))[1]
        assert took < max(1.0, alone * 10)
        # The owner's other programs get through as well.
        assert opened.request("GET", "/api/hello", auth=opened.auth).status_code == 200
    opened.works()
