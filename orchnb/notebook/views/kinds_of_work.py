"""What is shown of flow runs and task runs, deployments, work pools, their queues and workers."""

from __future__ import annotations

from typing import Any

from orchnb.api.models import Deployment, FlowRun, TaskRun
from orchnb.api.related import related_objects
from orchnb.notebook.views.looks import (
    Around,
    Look,
    Shown,
    field_cell,
    ident_cell,
    linked_name,
    status_cell,
    status_tone,
    whole_field,
)
from orchnb.notebook.views.model import TableCell, clean
from orchnb.notebook.views.run_cells import (
    flow_name,
    page_link,
    run_parameters,
    run_seconds,
    run_start,
    run_state,
    run_time,
    run_tone,
    whole_time,
)
from orchnb.notebook.views.schedules import schedule_in_words
from orchnb.notebook.views.words import (
    assignments,
    in_words,
    short_id,
    shortened,
)


def _duration(run: FlowRun | TaskRun, around: Around) -> Shown:
    share = max(run_seconds(run), 0.0) / around.longest if around.longest else None
    return TableCell(run_time(run, around.now), on_one_line=True, share=share)


FLOW_RUN_LOOK: Look = Look(
    columns={
        "name": linked_name("runs/flow-run", 28),
        "flow": lambda run, _: flow_name(run.flow_id, 20),
        "state": lambda run, _: run_state(run),
        "start": lambda run, around: run_start(run, around.now),
        "duration": _duration,
        "parameters": lambda run, _: run_parameters(run),
        "tags": field_cell("tags", 24),
        "id": ident_cell,
    },
    rows={
        "State": lambda run, _: run_state(run, 400),
        "Flow": lambda run, _: flow_name(run.flow_id),
        "Started": lambda run, _: whole_time(run.start_time),
        "Due": lambda run, _: (
            ""
            if run.start_time
            else whole_time(run.next_scheduled_start_time or run.expected_start_time)
        ),
        "Ended": lambda run, _: whole_time(run.end_time),
        "Duration": lambda run, around: run_time(run, around.now),
        "Tries": lambda run, _: str(run.run_count) if run.run_count > 1 else "",
        "Parameters": lambda run, _: assignments(run.parameters, 400),
        "Tags": whole_field("tags"),
        "Work pool": lambda run, _: _pool_and_queue(run),
        "Flow version": whole_field("flow_version"),
        "Deployment": lambda run, _: short_id(run.deployment_id),
        "Parent task": lambda run, _: short_id(run.parent_task_run_id),
        "Id": whole_field("id"),
    },
    tone=run_tone,
    notes=lambda run: (
        ("client.read_failed_run(run) shows the failing task and its traceback.",)
        if run_tone(run) == "error"
        else ()
    ),
)

TASK_RUN_LOOK: Look = Look(
    columns={
        "name": linked_name("runs/task-run"),
        "state": lambda run, _: run_state(run),
        "start": lambda run, around: run_start(run, around.now),
        "duration": _duration,
        "tries": lambda run, _: str(run.run_count) if run.run_count > 1 else "",
        "tags": field_cell("tags", 24),
        "flow run": lambda run, _: short_id(run.flow_run_id),
        "id": ident_cell,
    },
    rows={
        "State": lambda run, _: run_state(run, 400),
        "Task": lambda run, _: clean(run.task_key, 120),
        "Started": lambda run, _: whole_time(run.start_time),
        "Due": lambda run, _: "" if run.start_time else whole_time(run.expected_start_time),
        "Ended": lambda run, _: whole_time(run.end_time),
        "Duration": lambda run, around: run_time(run, around.now),
        "Tries": lambda run, _: str(run.run_count) if run.run_count > 1 else "",
        "Inputs": lambda run, _: ", ".join(clean(name, 40) for name in list(run.task_inputs)[:20]),
        "Tags": whole_field("tags"),
        "Flow run": lambda run, _: short_id(run.flow_run_id),
        "Id": whole_field("id"),
    },
    tone=run_tone,
)


def _pool_and_queue(one: Any) -> str:
    names = (one.work_pool_name, one.work_queue_name)
    return clean(", queue ".join(name for name in names if name and name != "default"), 80)


def _deployment_name(one: Deployment, longest: int = 48) -> str:
    flow = flow_name(one.flow_id)
    return clean(f"{flow}/{one.name}" if flow else one.name, longest)


def _schedules(one: Deployment, longest: int) -> Shown:
    each = [
        schedule_in_words(one.schedule) + ("" if one.active else " (inactive)")
        for one in one.schedules[:20]
    ]
    return shortened("; ".join(filter(None, each)), longest)


def _last_run(one: Deployment, around: Around, longest: int = 0) -> Shown:
    run = related_objects.last_runs.get(one.id)
    if run is None:
        return ""
    state, start = run_state(run, longest), run_start(run, around.now)
    if not isinstance(state, TableCell):
        return start
    words = f"{state.words}, {start}" if str(start) else state.words
    return TableCell(words, state.tone, title=state.title, why=state.why if longest else "")


DEPLOYMENT_LOOK: Look = Look(
    columns={
        "name": lambda one, around: page_link(
            shortened(_deployment_name(one, 500), 40),
            around.ui_url,
            "deployments/deployment",
            one.id,
        ),
        "status": lambda one, _: status_cell(one.status, paused=one.paused),
        "schedule": lambda one, _: _schedules(one, 60),
        "work pool": lambda one, _: _pool_and_queue(one),
        "last run": _last_run,
        "tags": field_cell("tags", 24),
        "id": ident_cell,
    },
    rows={
        "Status": lambda one, _: status_cell(one.status, paused=one.paused),
        "Schedule": lambda one, _: _schedules(one, 400),
        "Work pool": lambda one, _: _pool_and_queue(one),
        "Last run": lambda one, around: _last_run(one, around, 200),
        "Parameters": lambda one, _: assignments(one.parameters, 400),
        "Runs at once": lambda one, _: in_words(
            getattr(one.global_concurrency_limit, "limit", None) or one.concurrency_limit
        ),
        "Description": whole_field("description"),
        "Entrypoint": whole_field("entrypoint"),
        "Version": whole_field("version"),
        "Tags": whole_field("tags"),
        "Id": whole_field("id"),
    },
    title=lambda one: _deployment_name(one, 120),
    tone=lambda one: status_tone(one.status, paused=one.paused),
)


def _slots(one: Any) -> str:
    limit = one.concurrency_limit
    taken = one.active_slots
    if limit is None:
        return in_words(taken)
    return f"{taken:,} of {limit:,}" if isinstance(taken, int) else f"at most {limit:,}"


WORK_POOL_LOOK: Look = Look(
    columns={
        "name": linked_name("work-pools/work-pool", 40),
        "type": field_cell("type"),
        "status": lambda one, _: status_cell(one.status, paused=one.is_paused),
        "running": lambda one, _: _slots(one),
        "description": field_cell("description"),
        "id": ident_cell,
    },
    rows={
        "Type": whole_field("type"),
        "Status": lambda one, _: status_cell(one.status, paused=one.is_paused),
        "Running": lambda one, _: _slots(one),
        "Description": whole_field("description"),
        "Created": whole_field("created"),
        "Id": whole_field("id"),
    },
    tone=lambda one: status_tone(one.status, paused=one.is_paused),
)

WORK_QUEUE_LOOK: Look = Look(
    columns={
        "name": field_cell("name"),
        "work pool": field_cell("work_pool_name"),
        "status": lambda one, _: status_cell(one.status, paused=one.is_paused),
        "priority": field_cell("priority"),
        "running": lambda one, _: _slots(one),
        "last polled": field_cell("last_polled"),
        "id": ident_cell,
    },
    rows={
        "Work pool": whole_field("work_pool_name"),
        "Status": lambda one, _: status_cell(one.status, paused=one.is_paused),
        "Priority": whole_field("priority"),
        "Running": lambda one, _: _slots(one),
        "Last polled": whole_field("last_polled"),
        "Description": whole_field("description"),
        "Id": whole_field("id"),
    },
    tone=lambda one: status_tone(one.status, paused=one.is_paused),
)

WORKER_LOOK: Look = Look(
    columns={
        "name": field_cell("name"),
        "status": lambda one, _: status_cell(one.status),
        "last heartbeat": field_cell("last_heartbeat_time"),
        "id": ident_cell,
    },
    rows={
        "Status": lambda one, _: status_cell(one.status),
        "Last heartbeat": whole_field("last_heartbeat_time"),
        "Id": whole_field("id"),
    },
    tone=lambda one: status_tone(one.status),
)
