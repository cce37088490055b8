"""Serve a flow from a file: a process that executes its deployment's runs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.errors import ServingFailed
from orchnb.text import one_line

if TYPE_CHECKING:
    from orchnb.api.models import Deployment

_STOP_PATIENCE = 25.0
"""Seconds that a process has to end after it was asked to."""

_LOG_SHOWN = 15


class FlowProcess:
    """A process that serves a flow, and what it writes.

    Args:
        file: the file, which serves the flow when it is run.
        log: the file that gets what it writes.
        detach: whether it goes on when this process ends.
    """

    def __init__(self, file: Path, *, log: Path, detach: bool = False) -> None:
        self.file: Path = file
        self.log: Path = log
        command = [sys.executable, "-u", "-m", "orchnb.runs.serving_process"]
        environment = {
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",  # seconds; someone waits in the notebook
            **os.environ,
            "NO_COLOR": "1",
            "PREFECT_LOGGING_COLORS": "false",
        }
        for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):  # set in kernels; the log is a file
            environment.pop(name, None)
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the person's own flow
                [*command, *(["--detach"] if detach else []), str(file)],
                stdin=subprocess.DEVNULL if detach else subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # the stop button interrupts the cell, not this process
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while it is running."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """Ask it to end, without waiting. It cancels its runs and pauses its schedules."""
        process = self._process
        if process.stdin is not None:
            process.stdin.close()
        if process.poll() is None:
            process.terminate()

    def stop(self, patience: float = _STOP_PATIENCE) -> None:
        """End it, and wait until it has ended. It is killed after ``patience`` seconds."""
        self.ask_to_end()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_lines(self, most: int = _LOG_SHOWN) -> list[str]:
        """Return the last lines that it has written, without empty ones."""
        try:
            with self.log.open(encoding="utf-8", errors="replace") as lines:
                return list(deque((line.rstrip() for line in lines if line.strip()), most))
        except OSError:
            return []


class ServedFlow:
    """A deployment whose runs a process on this machine executes.

    It can be given wherever a deployment is taken.
    """

    def __init__(self, deployment: Deployment, process: FlowProcess, flow_name: str) -> None:
        self.deployment: Deployment = deployment
        self.process: FlowProcess = process
        self.flow_name: str = flow_name

    @property
    def id(self) -> UUID:
        """The deployment's id."""
        return self.deployment.id

    @property
    def name(self) -> str:
        """The deployment's name, ``flow/deployment``."""
        return f"{self.flow_name}/{self.deployment.name}"

    @property
    def file(self) -> Path:
        """The file with the flow's source."""
        return self.process.file

    @property
    def is_running(self) -> bool:
        """Whether the process that executes its runs is running."""
        return self.process.is_running

    def stop(self) -> None:
        """End the process. Runs in progress are cancelled and schedules paused; the deployment stays."""
        self.process.stop()

    def __repr__(self) -> str:
        state = "running" if self.is_running else f"ended with {self.process.exit_code}"
        return f"<ServedFlow {self.name!r}: process {self.process.pid} {state}, {self.file}>"


def serving_source(definition: str, flow: str, **options: Any) -> str:
    """Return the source of a module that defines a flow and, when it is run, serves it.

    Args:
        definition: the source that defines the flow.
        flow: the flow's variable.
        options: the arguments of Prefect's ``Flow.serve``; None leaves an argument out.

    Raises:
        TypeError: an argument is not a plain value, so it cannot be written to a file.
    """
    given = {name: _plain(name, value) for name, value in options.items() if value is not None}
    arguments = "".join(f"        {name}={value},\n" for name, value in given.items())
    return f'{definition}\n\nif __name__ == "__main__":\n    {flow}.serve(\n{arguments}    )\n'


def _plain(name: str, value: Any) -> str:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, (set, frozenset)):
        value = sorted(value)
    text = repr(value)
    try:
        if ast.literal_eval(text) == value:
            return text
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        pass
    raise TypeError(
        f"{name} should be made of numbers, texts, lists and mappings, so that it can be written to a "
        f"file, not {one_line(text, 80)}"
    )


def write_source(path: Path, source: str, *, replace: bool) -> None:
    """Write a module.

    Args:
        replace: whether to replace a file with other content.

    Raises:
        FileExistsError: there is a file with other content, and it should not be replaced.
    """
    if not replace and path.exists() and path.read_text(encoding="utf-8") != source:
        raise FileExistsError(
            f"{path} exists with other content: delete it, or choose another name for to_file"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")


def failed_to_serve(process: FlowProcess, name: str, reason: str) -> ServingFailed:
    """Return the error of a process that did not serve the flow, with what it has written."""
    lines = process.log_lines()
    return ServingFailed(
        f"{name} is not served: {reason}",
        log=lines,
        hint=f"The log of its process is in {process.log}.",
    )


_processes: list[FlowProcess] = []
_lock = threading.Lock()


def remember(process: FlowProcess) -> None:
    """Have `stop_all` end a process."""
    with _lock:
        _processes[:] = [each for each in _processes if each.is_running]
        _processes.append(process)


def stop_all() -> None:
    """End all processes that are not detached."""
    with _lock:
        running = list(_processes)
    for process in running:
        process.ask_to_end()
    for process in running:
        process.stop()
        with _lock, suppress(ValueError):  # one was stopped in the meantime, in another thread
            _processes.remove(process)
