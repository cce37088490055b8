"""A PostgreSQL of its own for a test, from the system's binaries."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.scale.processes import process, wait_until

_DEBIAN = Path("/usr/lib/postgresql")  # where Debian puts them: not on the PATH

_SUPERUSER = "postgres"


def binaries() -> Path | None:
    """The folder of PostgreSQL's server, the newest one; None if there is none."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: _numbers(path.parts[-3]))
    return found[-1].parent if found else None


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


@contextmanager
def postgres(programs: Path, folder: Path) -> Iterator[str]:
    """A new cluster in the folder, reached by a socket in it only; its URL as Prefect takes it.

    PostgreSQL refuses to run as root: then it runs as Debian's user for it, who is given the folder.
    """
    options: dict[str, Any] = {
        "cwd": folder,
        "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"},  # no PGPORT, PGDATA, ...
    }
    if os.geteuid() == 0:
        shutil.chown(folder, _SUPERUSER)
        options |= {"user": _SUPERUSER, "group": _SUPERUSER, "extra_groups": []}
    data = folder / "postgres"
    subprocess.run(
        [
            *(programs / "initdb", "--pgdata", data, "--username", _SUPERUSER),
            # Nobody else can enter the folder that the socket is in.
            *("--auth", "trust", "--encoding", "UTF8", "--no-sync"),
        ],
        check=True,
        **options,
    )
    with process(
        [
            *(programs / "postgres", "-D", data, "-k", folder, "-p", "5432"),
            *("-c", "listen_addresses=", "-c", "fsync=off"),  # it need not outlive the machine
        ],
        folder / "postgres.log",
        end_with=signal.SIGINT,  # as "fast": it does not wait for its clients
        **options,
    ) as started:
        is_ready = [programs / "pg_isready", "-q", "-h", folder, "-p", "5432"]
        wait_until(lambda: subprocess.run(is_ready, check=False).returncode == 0, started)
        yield f"postgresql+asyncpg://{_SUPERUSER}@/postgres?host={folder}&port=5432"
