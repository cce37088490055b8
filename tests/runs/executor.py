"""Execute scheduled runs of Prefect flows in threads of one process: ``python executor.py WORKERS``.

A worker starts a process for each run, which takes seconds of a CPU. This uses Prefect's own engine and
client, so states, logs and results are real.
"""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prefect import flow, get_client, get_run_logger, task
from prefect.client.schemas.filters import FlowRunFilter
from prefect.filesystems import LocalFileSystem
from prefect.flow_engine import run_flow
from prefect.states import Pending


@task
def step(number: int) -> int:
    get_run_logger().info("step %s", number)
    return number * 2


@task
def breaks(x: float) -> None:
    raise ValueError(f"loss is nan at lr={x}")


@flow(persist_result=True)
def train(x: float = 1, steps: int = 2, seconds: float = 0, fail: bool = False) -> dict[str, Any]:
    """Log, wait, and fail if asked to."""
    logger = get_run_logger()
    logger.info("training with x=%s", x)
    total = sum(step(number) for number in range(steps))
    time.sleep(seconds)
    if fail:
        logger.warning("about to fail")
        breaks(x)
    logger.info("done")
    return {"x": x, "total": total}


@flow(persist_result=True, result_serializer="json")
def plain(x: float = 1) -> dict[str, Any]:
    """Return plain data, stored as JSON."""
    return {"x": [x, None, "text"]}


@flow(persist_result=True, result_serializer="json")
def typed(x: float = 1) -> Any:
    """Return an object that JSON does not have."""
    return Path(str(x))


@flow(persist_result=True)
def apart(x: float = 1) -> float:
    """Return a result that is stored in a block."""
    return x * 2


@flow
def forgets(x: float = 1) -> float:
    """Return a result that is not stored."""
    return x


_failures_left = {"wobbles": 2}


@task(retries=2, retry_delay_seconds=0.2)
def wobbles() -> None:
    if _failures_left["wobbles"]:
        _failures_left["wobbles"] -= 1
        raise ValueError("not yet")


@flow
def inner() -> int:
    return step(1) + step(2)


@flow
def nested() -> int:
    """Call a task that succeeds at the third try, and a subflow with two tasks."""
    wobbles()
    return inner() + step(3)


FLOWS = {each.name: each for each in (train, plain, typed, apart, forgets, nested)}


def main(workers: int) -> None:
    client = get_client(sync_client=True)
    storage = LocalFileSystem(basepath=str(Path.home() / "apart"))
    storage.save("apart")
    FLOWS["apart"] = apart.with_options(result_storage=storage)
    for name, each in FLOWS.items():
        flow_id = client.create_flow(each)
        parameters: dict[str, Any] = {"type": "object", "properties": {}}
        for parameter in ("x", "steps", "seconds", "fail") if name == "train" else ("x",):
            parameters["properties"][parameter] = {"title": parameter}
        client.create_deployment(flow_id, "here", parameter_openapi_schema=parameters)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    pool = ThreadPoolExecutor(workers)
    free = threading.Semaphore(workers)
    taken: set[tuple[object, object]] = set()
    ours = {client.read_flow_by_name(name).id for name in FLOWS}
    while True:
        free.acquire()
        free.release()
        try:
            found = client.read_flow_runs(
                flow_run_filter=FlowRunFilter.model_validate(
                    {"state": {"type": {"any_": ["SCHEDULED"]}}}
                ),
                limit=200,
            )
        except Exception as exc:
            sys.stderr.write(f"{exc!r}\n")
            found = []
        for run in sorted(found, key=lambda run: str(run.created)):
            due = run.next_scheduled_start_time or run.expected_start_time
            if (
                run.flow_id not in ours
                or (run.id, run.state_id) in taken
                or (due and due.timestamp() > time.time() + 0.5)
            ):
                continue
            taken.add((run.id, run.state_id))
            free.acquire()
            pool.submit(execute, client, run, free)
        time.sleep(0.05)


def execute(client: Any, run: Any, free: threading.Semaphore) -> None:
    try:
        name = client.read_flow(run.flow_id).name
        result = client.set_flow_run_state(run.id, Pending())
        if result.status.value != "ACCEPT":
            return
        run = client.read_flow_run(run.id)
        run_flow(FLOWS[name], flow_run=run, parameters=run.parameters, return_type="state")
    except Exception as exc:
        sys.stderr.write(f"{run.name}: {exc!r}\n")
    finally:
        free.release()


if __name__ == "__main__":
    main(int(sys.argv[1]))
