"""Servers and scripts in processes of their own, for tests; all are ended by process id."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parent.parent

_SERVE = """
import socket, sys
import uvicorn
from prefect.server.api.server import create_app

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("port", sockets[0].getsockname()[1], flush=True)

listener = socket.create_server(("127.0.0.1", 0))
Server(uvicorn.Config(create_app(), log_level="warning")).run(sockets=[listener])
"""

_OPEN_UP = """
import threading
from pathlib import Path
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.port import Served

served = Served(EphemeralApp("prefect", home=Path.home() / ".prefect", timeout=60))
print("port", served.port, served.auth_string.get_secret_value(), flush=True)
threading.Event().wait()
"""


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """This process's environment, without any server's settings but the given ones."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "ORCHNB_"))
    }
    kept.update(
        HOME=str(home),
        USERPROFILE=str(home),
        PREFECT_HOME=str(home / ".prefect"),
        PYTHONPATH=os.pathsep.join([str(ROOT), kept.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    )
    kept.update(more)
    return kept


@contextmanager
def prefect_server(home: Path, *, opened: bool = False, **environment: str) -> Iterator[str]:
    """A real Prefect server over HTTP on a free port; its API's URL, with credentials if it wants any.
    ``opened`` is the way that orchnb opens the one in its process."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OPEN_UP if opened else _SERVE],
        env=clean_environment(home, PREFECT_SERVER_ANALYTICS_ENABLED="false", **environment),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert words[:1] == ["port"], "the server did not start"
        credentials = "".join(f"{auth_string}@" for auth_string in words[2:])
        yield f"http://{credentials}127.0.0.1:{words[1]}/api"
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


SHARED_FOLDER = "TESTS_SHARED_FOLDER"
"""The variable that says where the processes of a test run keep what is made once for all of them."""


def _made_database() -> Path:
    """A database of Prefect's, made once: that takes seconds, copying it does not."""
    folder = Path(os.environ[SHARED_FOLDER])
    home = folder / "server"
    with FileLock(folder / "server.lock"):
        if not home.exists():
            home.mkdir()
            with prefect_server(home):
                pass
    return home / ".prefect" / "prefect.db"


def prefect_home(home: Path) -> Path:
    """Make a PREFECT_HOME with a database in it, and return it."""
    home.mkdir(parents=True, exist_ok=True)
    with (
        closing(sqlite3.connect(_made_database())) as made,
        closing(sqlite3.connect(home / "prefect.db")) as copy,
    ):
        made.backup(copy)
    return home


def run_script(
    code: str, home: Path, *, timeout: float = 60, arguments: tuple[str, ...] = (), **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh interpreter, with nothing of this machine's settings."""
    settings: Mapping[str, str] = env
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env=clean_environment(home, **settings),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
