"""A real ipykernel, driven as a front end drives it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Shown:
    """What one cell has shown."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    status: str = ""

    @property
    def streams(self) -> str:
        """What went to stdout and stderr."""
        return "".join(o["content"]["text"] for o in self.outputs if o["msg_type"] == "stream")

    @property
    def stderr(self) -> str:
        """What went to stderr."""
        return "".join(
            o["content"]["text"]
            for o in self.outputs
            if o["msg_type"] == "stream" and o["content"]["name"] == "stderr"
        )

    @property
    def bundles(self) -> list[dict[str, str]]:
        """The mime bundles of results and displays, but for those that hold a place and show nothing."""
        kinds = ("execute_result", "display_data")
        bundles = [o["content"]["data"] for o in self.outputs if o["msg_type"] in kinds]
        return [bundle for bundle in bundles if any(bundle.values())]

    @property
    def text(self) -> str:
        """The last result or display as text."""
        return self.bundles[-1]["text/plain"] if self.bundles else ""

    @property
    def result(self) -> str:
        """The text of the cell's result, whatever displays come before or after it."""
        results = [o["content"] for o in self.outputs if o["msg_type"] == "execute_result"]
        return str(results[-1]["data"]["text/plain"]) if results else ""

    @property
    def html(self) -> str:
        """The last result or display as html."""
        return self.bundles[-1]["text/html"] if self.bundles else ""

    @property
    def errors(self) -> list[dict[str, Any]]:
        """The error outputs."""
        return [o["content"] for o in self.outputs if o["msg_type"] == "error"]

    @property
    def traceback(self) -> str:
        """The traceback of the error, without colours."""
        return _COLOURS.sub("", "\n".join(self.errors[-1]["traceback"])) if self.errors else ""

    @property
    def everything(self) -> str:
        """All of it as one text, to look for what must not be there."""
        return _COLOURS.sub("", repr([o["content"] for o in self.outputs]))


class Kernel:
    """A running kernel, in a folder; call it with a cell's source."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient, folder: Path) -> None:
        self.manager = manager
        self.client = client
        self.folder = folder

    def __call__(self, source: str, *, timeout: float = 60) -> Shown:
        """Run a cell to its end; it may fail."""
        return self.finish(self.begin(source), timeout=timeout)

    def begin(self, source: str) -> str:
        """Send a cell and return its id, for `finish`."""
        return str(self.client.execute(source, stop_on_error=False))

    def finish(self, message_id: str, *, timeout: float = 60) -> Shown:
        """Everything that a cell shows until the kernel is idle again."""
        shown = Shown()
        deadline = time.monotonic() + timeout
        while True:
            message = self.client.get_iopub_msg(timeout=max(0.1, deadline - time.monotonic()))
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
            if message["msg_type"] not in ("status", "execute_input"):
                shown.outputs.append(message)
        while True:
            reply = self.client.get_shell_msg(timeout=max(0.1, deadline - time.monotonic()))
            if reply["parent_header"].get("msg_id") == message_id:
                shown.status = reply["content"]["status"]
                return shown

    def value(self, source: str) -> str:
        """The text of a cell's result; the cell must not fail."""
        shown = self(source)
        assert not shown.errors, shown.traceback
        return shown.text


@contextmanager
def kernel(
    folder: Path, *arguments: str, log: IO[Any] | None = None, **environment: str
) -> Iterator[Kernel]:
    """A kernel in an empty folder and home, without any settings but those given.

    ``arguments`` are ipykernel's, such as ``--IPKernelApp.extensions=[...]``. ``log`` is a file for what
    the kernel writes to its own stderr, warnings of its log included.
    """
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "ORCHNB_"))
    }
    home = folder / "home"
    home.mkdir(exist_ok=True)
    clean.update(HOME=str(home), USERPROFILE=str(home), IPYTHONDIR=str(folder / "ipython"))
    clean.update(environment)
    manager, client = start_new_kernel(
        startup_timeout=60,
        env=clean,
        cwd=str(folder),
        extra_arguments=[f"--log-level={'ERROR' if log is None else 'WARN'}", *arguments],
        stderr=log,
    )
    try:
        yield Kernel(manager, client, folder)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
