"""Print the places that take a time without a zone for anything but local time; none, if all is well.

It runs in a process of its own: the time zone of a running process can only be changed on some systems.
Local time there is three hours behind UTC.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import pandas
from pydantic import BaseModel

from orchnb.api import models
from orchnb.api.operations import deployments, events, flow_runs, logs, task_runs, work_pools

ID = "00000000-0000-0000-0000-000000000001"
NAIVE = datetime(2030, 1, 2, 3)
MEANT = datetime.fromisoformat("2030-01-02T06:00:00+00:00")
FORMS: dict[str, Any] = {
    "datetime": NAIVE,
    "text": "2030-01-02T03:00:00",
    "pandas": pandas.Timestamp(NAIVE),
}


class Line(BaseModel):
    """A line of a log, as Prefect's own model of one."""

    name: str = "n"
    level: int = 20
    timestamp: datetime


def sent(steps: Any, *place: str | int) -> Any:
    """Return what is sent at this place of the body of an operation's first request."""
    found = json.loads(next(iter(steps)).options()["content"])
    for step in place:
        found = found[step]
    return found


def scheduled(time: Any) -> dict[str, Any]:
    return {"type": "SCHEDULED", "state_details": {"scheduled_time": time}}


STATE = ("state", "state_details", "scheduled_time")
EXPECTED = "expected_start_time"
PLACES: dict[str, Callable[[Any], Any]] = {
    "since": lambda t: sent(flow_runs.read_flow_runs(since=t), "flow_runs", EXPECTED, "after_"),
    "until": lambda t: sent(task_runs.read_task_runs(until=t), "task_runs", EXPECTED, "before_"),
    "since of events": lambda t: sent(events.read_events(since=t), "filter", "occurred", "since"),
    "occurred": lambda t: sent(events.emit_event("e", "r", occurred=t), 0, "occurred"),
    "history": lambda t: sent(
        flow_runs.read_flow_run_history(history_start=t, history_interval=1), "history_start"
    ),
    "scheduled_time": lambda t: sent(
        deployments.bulk_create_flow_runs_from_deployment(ID, [{"scheduled_time": t}]), 0, *STATE
    ),
    "scheduled_before": lambda t: sent(
        deployments.get_scheduled_flow_runs_for_deployments([ID], scheduled_before=t),
        "scheduled_before",
    ),
    "scheduled_before of a pool": lambda t: sent(
        work_pools.get_scheduled_flow_runs_for_work_pool("p", scheduled_before=t),
        "scheduled_before",
    ),
    "a mapping of a state": lambda t: sent(flow_runs.set_flow_run_state(ID, scheduled(t)), *STATE),
    "a state": lambda t: sent(
        flow_runs.set_flow_run_state(ID, models.State(**scheduled(t))), *STATE
    ),
    "a state's details": lambda t: sent(
        flow_runs.set_flow_run_state(
            ID,
            models.State(type="SCHEDULED", state_details=models.StateDetails(scheduled_time=t)),
        ),
        *STATE,
    ),
    "anchor_date": lambda t: sent(
        deployments.create_deployment_schedules(ID, [{"interval": 60, "anchor_date": t}]),
        *(0, "schedule", "anchor_date"),
    ),
    "logs": lambda t: sent(
        logs.create_logs([{"name": "n", "level": 20, "timestamp": t}]), 0, "timestamp"
    ),
    "models of logs": lambda t: sent(logs.create_logs([Line(timestamp=t)]), 0, "timestamp"),
    "cache_expiration": lambda t: sent(
        task_runs.create_task_run("t", ID, "0", cache_expiration=t), "cache_expiration"
    ),
}


def wrong() -> dict[Any, str]:
    """Return what is not taken for local time, by place and form."""
    found = {
        (place, form): read(value)
        for place, read in PLACES.items()
        for form, value in FORMS.items()
    }
    return {
        where: text
        for where, text in found.items()
        if datetime.fromisoformat(text.replace("Z", "+00:00")) != MEANT
    }


def filtered(value: Any) -> Any:
    """Return what is sent for a time in one of the API's own filter objects."""
    query = flow_runs.read_flow_runs(flow_run_filter={"start_time": {"after_": value}})
    return sent(query, "flow_runs", "start_time", "after_")


if __name__ == "__main__":
    assert wrong() == {}
    assert filtered(NAIVE) == "2030-01-02T03:00:00-03:00"
    assert filtered(date(2030, 1, 2)) == "2030-01-02T00:00:00-03:00"
    # The user's own values get no zone.
    runs = deployments.bulk_create_flow_runs_from_deployment(ID, [{"parameters": {"a": NAIVE}}])
    assert sent(runs, 0, "parameters", "a") == "2030-01-02T03:00:00"
