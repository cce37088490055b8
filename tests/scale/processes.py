"""Processes that a site is made of: each is asked to end, and does so by itself; none is left behind."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.servers import clean_environment

_LAST_WORDS = 6000  # characters


@contextmanager
def process(
    command: Sequence[str | Path],
    log: Path,
    *,
    end_with: signal.Signals = signal.SIGTERM,
    patience: float = 30,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for the time of the block, whose last words are logged if the block fails.

    Args:
        log: the file for what it writes.
        end_with: how it is asked to end.
        patience: seconds that it may take for that.
        options: as for ``subprocess.Popen``.

    Raises:
        TimeoutExpired: it did not end, and was killed.
    """
    with open(log, "wb") as written:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            **options,
        )
    try:
        yield started
    except BaseException:
        last_words = log.read_text(errors="replace")[-_LAST_WORDS:]
        logging.getLogger(__name__).error("%s ends with:\n%s", log.name, last_words)
        raise
    finally:
        started.send_signal(end_with)
        try:
            started.wait(patience)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
            raise


def wait_until(
    condition: Callable[[], bool], started: subprocess.Popen[bytes], *, timeout: float = 180
) -> None:
    """Wait for something that a process is to bring about. ``timeout`` is in seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert started.poll() is None, f"{started.args} ended with {started.returncode}"
        assert time.monotonic() < deadline, f"{started.args} was not ready in time"
        time.sleep(0.05)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_listened_on(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def environment_in(folder: Path, **more: str) -> dict[str, str]:
    """For processes whose home and temporary files are in the folder."""
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir(exist_ok=True)
    temporary.mkdir(exist_ok=True)
    return clean_environment(home, TMPDIR=str(temporary), **more)


@contextmanager
def server(folder: Path, port: int, database: str) -> Iterator[str]:
    """``prefect server start`` on a database; its API's URL."""
    api = f"http://127.0.0.1:{port}/api"
    with process(
        [*_PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        folder / "server.log",
        env=environment_in(
            folder,
            PREFECT_API_DATABASE_CONNECTION_URL=database,
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
        ),
        cwd=folder,
    ) as started:
        wait_until(lambda: _is_ready(api), started)
        yield api


@contextmanager
def worker(
    folder: Path, name: str, *, api: str, pool: str, limit: int, env: Mapping[str, str]
) -> Iterator[None]:
    """``prefect worker start`` of the type process: ``limit`` runs at a time, each a process of its own.

    ``env`` is for the worker, and so for its runs.
    """
    with process(
        [
            *(*_PREFECT, "worker", "start", "--type", "process"),
            *("--pool", pool, "--name", name, "--limit", str(limit)),
        ],
        folder / f"worker-{name}.log",
        env=environment_in(
            folder,
            PREFECT_API_URL=api,
            PREFECT_WORKER_QUERY_SECONDS="1",  # 10 by default, which would be most of the time
            **env,
        ),
        cwd=folder,
    ):
        yield


_PREFECT = (sys.executable, "-m", "prefect")


def _is_ready(api: str) -> bool:
    try:
        return httpx.get(f"{api}/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False


def processes_of(folder: Path, *, patience: float = 0) -> list[psutil.Process]:
    """The processes that work in the folder, or have it in their environment.

    Args:
        patience: seconds that they are given to end.
    """

    def is_of_it(found: psutil.Process) -> bool:
        known = found.info["cwd"], *(found.info["environ"] or {}).values()
        return any(str(folder) in text for text in known if text)

    found = [each for each in psutil.process_iter(["cwd", "environ"]) if is_of_it(each)]
    found = [each for each in found if each.pid != os.getpid()]
    _, left = psutil.wait_procs(found, timeout=patience)
    return left
