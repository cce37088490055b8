"""What the workers run: Prefect's own flow, loaded from this file in a process for each run."""

from __future__ import annotations

import os

from prefect import flow
from prefect.runtime import flow_run


@flow
def add_a_line(number: int) -> None:
    """Leave a line in the file that the environment names: this run, its number, and whose process."""
    line = f"{flow_run.id} {number} {os.environ['WORKER']}\n"
    file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line.encode())  # in one piece, whoever else writes
    finally:
        os.close(file)
