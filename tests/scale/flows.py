"""What the workers run: Prefect's own flow, loaded from this file in a process for each run."""

from __future__ import annotations

import os

from prefect import flow, get_run_logger, task
from prefect.runtime import flow_run


@flow
def add_a_line(number: int) -> None:
    """Leave a line in the file that the environment names: this run, its number, and whose process."""
    _leave(f"{flow_run.id} {number} {os.environ['WORKER']}\n")


def _leave(line: str) -> None:
    file = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND)
    try:
        os.write(file, line.encode())  # in one piece, whoever else writes
    finally:
        os.close(file)


@task
def step(number: int, part: int) -> None:
    """Log, as a task does that makes progress."""
    get_run_logger().info("part %s of run %s", part, number)


@flow(retries=1)
def fails_at_random(number: int, failing: int) -> None:
    """Leave a line in a file, log, and fail in the first ``failing`` tries."""
    _leave(f"{flow_run.id} {number} {flow_run.run_count}\n")
    get_run_logger().info("try %s of run %s", flow_run.run_count, number)
    for part in range(2):
        step(number, part)
    if flow_run.run_count <= failing:
        raise ValueError(f"loss is nan in run {number}")
