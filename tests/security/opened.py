"""A process with a Prefect server that is open on a port, and that can be told to do what a cell does."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests import servers

PATIENCE = 2.0
"""Seconds for which a connection may be silent there."""

SERVERS_AUTH = ("me", "my-password")
"""What the person has set for the server, as PREFECT_SERVER_API_AUTH_STRING."""

_CODE = """
import json, os, sys, time

patience, most_files = sys.argv[1:]
if most_files:
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(most_files), int(most_files)))

import orchnb
from orchnb.hosting.ephemeral import ephemeral_app
from orchnb.hosting.host import host_log
from orchnb.hosting.port import Served
from orchnb.settings import EPHEMERAL, choose_for_session, get_settings

choose_for_session(EPHEMERAL, "a test")
served = Served(ephemeral_app(get_settings()), patience=float(patience))
auth_string = served.auth_string.get_secret_value()
with orchnb.get_client(sync_client=True) as client:
    client.request("GET", "/hello")
    print(json.dumps([served.port, served.page, auth_string]), flush=True)
    for line in sys.stdin:
        if line == "work\\n":
            began = time.monotonic()
            client.create_flow_run("etl")
            client.read_flow_runs(limit=1)
            took = time.monotonic() - began
            with open(os.devnull):
                print(json.dumps(took), flush=True)
        else:
            shown = [served, vars(served), vars(served._keys), served.page, served.settings_line]
            text = "\\n".join([*map(repr, shown), *host_log.lines(1000)])
            print(json.dumps(text), flush=True)
served.close()
"""


@dataclass(frozen=True)
class Opened:
    """The process."""

    port: int
    page: str
    auth_string: str = field(repr=False)
    process: subprocess.Popen[str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def auth(self) -> tuple[str, str]:
        user, _, password = self.auth_string.partition(":")
        return user, password

    def _tell(self, what: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def works(self) -> float:
        """Use its own client, and open a file there; the seconds that the client took."""
        return float(self._tell("work"))

    def shows(self) -> str:
        """What its objects and its log show."""
        return str(self._tell("show"))

    def connect(self, words: str = "") -> socket.socket:
        """A connection that sends these words and no more; ``{token}`` is what the owner sends."""
        token = "Basic " + base64.b64encode(self.auth_string.encode()).decode()
        made = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        made.sendall(words.format(host=f"127.0.0.1:{self.port}", token=token).encode())
        return made

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """What anybody is told."""
        return httpx.request(
            method, f"{self.address}{path}", trust_env=False, timeout=20, **options
        )


@contextmanager
def opened_port(home: Path) -> Iterator[Opened]:
    """The process, with a database below ``home``; it may open 256 files."""
    servers.prefect_home(home / ".prefect")
    most_files = "" if sys.platform == "win32" else "256"
    process = subprocess.Popen(
        [sys.executable, "-c", _CODE, str(PATIENCE), most_files],
        env=servers.clean_environment(
            home, PREFECT_SERVER_API_AUTH_STRING=":".join(SERVERS_AUTH), DO_NOT_TRACK="1"
        ),
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin:  # it ends with its input
        yield Opened(*json.loads(process.stdout.readline()), process)
