"""Connections that send nothing, or not enough: the notebook does not notice them.

One process for all: a Prefect server that is open on a port, and may open 256 files. For each line on its
standard input it does what a cell does, and says how long that took.
"""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import httpx
import pytest

from tests import servers

PATIENCE = 2.0

_OPENED = """
import asyncio, json, os, sys, time
if len(sys.argv) > 1:
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[1])))
import orchnb
from orchnb.runtime.ephemeral import ephemeral_app
from orchnb.runtime.serving import Served
from orchnb.settings import EPHEMERAL, choose_for_session, get_settings

choose_for_session(EPHEMERAL, "a test")
served = Served(ephemeral_app(get_settings()), patience=2.0)
with orchnb.get_client(sync_client=True) as client:
    client.request("GET", "/hello")
    print(json.dumps([served.port, served.auth_string.get_secret_value()]), flush=True)
    for line in sys.stdin:
        began = time.monotonic()
        client.create_flow_run("etl")
        client.read_flow_runs(limit=1)
        took = time.monotonic() - began
        with open(__file__ if "__file__" in globals() else os.devnull):
            pass
        print(json.dumps(took), flush=True)
served.close()
"""


@dataclass(frozen=True)
class Opened:
    """The process with the port."""

    port: int
    auth_string: str
    process: subprocess.Popen[str]

    @property
    def token(self) -> str:
        return "Basic " + base64.b64encode(self.auth_string.encode()).decode()

    def works(self) -> float:
        """Use its own client, and open a file there; the seconds that the client took."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))

    def connect(self, words: str = "") -> socket.socket:
        """A connection that sends these words and no more."""
        made = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        made.sendall(words.format(host=f"127.0.0.1:{self.port}", token=self.token).encode())
        return made


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    home = tmp_path_factory.mktemp("silent")
    servers.prefect_home(home / ".prefect")
    limit = [] if sys.platform == "win32" else ["256"]
    process = subprocess.Popen(
        [sys.executable, "-c", _OPENED, *limit],
        env=servers.clean_environment(home),
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin:
        port, auth_string = json.loads(process.stdout.readline())
        yield Opened(port, auth_string, process)


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
            assert not is_closed_by_the_server(connection, PATIENCE * 2)
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
        took = max(opened.works() for _ in range(3))
        assert took < max(1.0, alone * 10)
        # The owner's other programs get through as well.
        answer = httpx.get(
            f"http://127.0.0.1:{opened.port}/api/hello",
            headers={"Authorization": opened.token},
            trust_env=False,
            timeout=20,
        )
        assert answer.status_code == 200
    opened.works()
