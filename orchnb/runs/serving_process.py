"""Run a file that serves a flow, until the process that started it ends.

``python -m orchnb.runs.serving_process FILE`` reads its standard input, a pipe that nobody writes to: it
ends when the other process ends, however that happens. With ``--detach`` it goes on until it is stopped.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

_PATIENCE = 20.0
"""Seconds for Prefect's runner to stop its runs and pause the schedules."""


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin, whose lock Python needs when it exits
    end_this_process()
    threading.Event().wait(_PATIENCE)
    os._exit(1)


def end_this_process() -> None:
    """Ask this process to end, as ``kill`` and Ctrl-C do."""
    if sys.platform == "win32":
        signal.raise_signal(signal.SIGINT)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def serve_file(arguments: list[str]) -> None:
    """Run the file."""
    *options, file = arguments
    if "--detach" not in options:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = [file]
    # As when the file itself is run, except that modules of the notebook's folder can be imported.
    sys.path.insert(0, os.getcwd())
    runpy.run_path(file, run_name="__main__")


if __name__ == "__main__":
    serve_file(sys.argv[1:])
