"""What is shown of each kind of object: the columns of a list, and the rows of a card.

They answer the questions that people ask about an object of that kind. An object of a kind that is not
here shows all of its fields that have a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from orchnb.api import models
from orchnb.api.models import Deployment, FlowRun, Model, TaskRun
from orchnb.api.related import related_objects
from orchnb.notebook.views.automations import actions_in_words, trigger_in_words
from orchnb.notebook.views.model import TableCell, Tone, clean
from orchnb.notebook.views.run_cells import (
    flow_name,
    page_link,
    run_parameters,
    run_seconds,
    run_start,
    run_state,
    run_time,
    run_tone,
    state_cell,
    whole_time,
)
from orchnb.notebook.views.schedules import schedule_in_words
from orchnb.notebook.views.words import (
    assignments,
    at,
    exact,
    in_words,
    length,
    short_id,
    shortened,
)

Shown = str | TableCell


class Around(NamedTuple):
    """What a view knows besides the object."""

    now: datetime
    ui_url: str | None = None
    longest: float = 0.0
    """Seconds of the longest run in a list of runs; 0 if there is nothing to compare."""


class Look(NamedTuple):
    """How objects of one kind look."""

    columns: Mapping[str, Callable[[Any, Around], Shown]]
    rows: Mapping[str, Callable[[Any, Around], Shown]]
    title: Callable[[Any], str] = lambda one: in_words(getattr(one, "name", ""), 80)
    tone: Callable[[Any], Tone] = lambda _: "plain"
    notes: Callable[[Any], Sequence[str]] = lambda _: ()


def field_cell(name: str, longest: int = 48) -> Callable[[Any, Around], Shown]:
    def show(one: Any, around: Around) -> Shown:
        value = getattr(one, name, None)
        if isinstance(value, datetime):
            return at(value, around.now)
        if isinstance(value, str):
            return shortened(value, longest)
        short, whole = in_words(value, longest), in_words(value, 500)
        return short if short == whole else TableCell(short, title=whole)

    return show


def _whole(name: str, longest: int = 400) -> Callable[[Any, Around], Shown]:
    return lambda one, _: in_words(getattr(one, name, None), longest)


def _linked(page: str, longest: int = 32) -> Callable[[Any, Around], Shown]:
    return lambda one, around: page_link(
        shortened(str(getattr(one, "name", None) or ""), longest), around.ui_url, page, one.id
    )


def _ident(one: Any, _: Around) -> Shown:
    return short_id(getattr(one, "id", None))


def _duration(run: FlowRun | TaskRun, around: Around) -> Shown:
    share = max(run_seconds(run), 0.0) / around.longest if around.longest else None
    return TableCell(run_time(run, around.now), on_one_line=True, share=share)


_FLOW_RUN = Look(
    columns={
        "name": _linked("runs/flow-run", 28),
        "flow": lambda run, _: flow_name(run.flow_id, 20),
        "state": lambda run, _: run_state(run),
        "start": lambda run, around: run_start(run, around.now),
        "duration": _duration,
        "parameters": lambda run, _: run_parameters(run),
        "tags": field_cell("tags", 24),
        "id": _ident,
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
        "Tags": _whole("tags"),
        "Work pool": lambda run, _: _pool_and_queue(run),
        "Flow version": _whole("flow_version"),
        "Deployment": lambda run, _: short_id(run.deployment_id),
        "Parent task": lambda run, _: short_id(run.parent_task_run_id),
        "Id": _whole("id"),
    },
    tone=run_tone,
    notes=lambda run: (
        ("client.read_failed_run(run) shows the failing task and its traceback.",)
        if run_tone(run) == "error"
        else ()
    ),
)

_TASK_RUN = Look(
    columns={
        "name": _linked("runs/task-run"),
        "state": lambda run, _: run_state(run),
        "start": lambda run, around: run_start(run, around.now),
        "duration": _duration,
        "tries": lambda run, _: str(run.run_count) if run.run_count > 1 else "",
        "tags": field_cell("tags", 24),
        "flow run": lambda run, _: short_id(run.flow_run_id),
        "id": _ident,
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
        "Tags": _whole("tags"),
        "Flow run": lambda run, _: short_id(run.flow_run_id),
        "Id": _whole("id"),
    },
    tone=run_tone,
)


def _pool_and_queue(one: Any) -> str:
    names = (one.work_pool_name, one.work_queue_name)
    return clean(", queue ".join(name for name in names if name and name != "default"), 80)


_STATUSES: dict[str, tuple[str, str, Tone]] = {
    "READY": ("✓", "Ready", "good"),
    "ONLINE": ("✓", "Online", "good"),
    "NOT_READY": ("!", "Not ready", "warn"),
    "PAUSED": ("◐", "Paused", "warn"),
    "OFFLINE": ("✗", "Offline", "error"),
    "ENABLED": ("✓", "Enabled", "good"),
    "DISABLED": ("◐", "Disabled", "warn"),
    "ACTIVE": ("✓", "Active", "good"),
    "INACTIVE": ("◐", "Inactive", "warn"),
    "CREATED": ("✓", "Created", "good"),
    "FAILED": ("✗", "Failed", "error"),
    "ACCEPT": ("✓", "Accepted", "good"),
    "REJECT": ("✗", "Rejected", "error"),
    "ABORT": ("✗", "Aborted", "error"),
    "WAIT": ("○", "To be asked again later", "idle"),
}


def _status(status: object, *, paused: object = False) -> Shown:
    text = "PAUSED" if paused is True else str(status or "")
    if not text:
        return ""
    sign, words, tone = _STATUSES.get(text, ("○", clean(text, 40), "idle"))
    return TableCell(f"{sign} {words}", tone)


def _status_tone(status: object, *, paused: object = False) -> Tone:
    shown = _status(status, paused=paused)
    return shown.tone or "plain" if isinstance(shown, TableCell) else "plain"


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


_DEPLOYMENT = Look(
    columns={
        "name": lambda one, around: page_link(
            shortened(_deployment_name(one, 500), 40),
            around.ui_url,
            "deployments/deployment",
            one.id,
        ),
        "status": lambda one, _: _status(one.status, paused=one.paused),
        "schedule": lambda one, _: _schedules(one, 60),
        "work pool": lambda one, _: _pool_and_queue(one),
        "last run": _last_run,
        "tags": field_cell("tags", 24),
        "id": _ident,
    },
    rows={
        "Status": lambda one, _: _status(one.status, paused=one.paused),
        "Schedule": lambda one, _: _schedules(one, 400),
        "Work pool": lambda one, _: _pool_and_queue(one),
        "Last run": lambda one, around: _last_run(one, around, 200),
        "Parameters": lambda one, _: assignments(one.parameters, 400),
        "Runs at once": lambda one, _: in_words(
            getattr(one.global_concurrency_limit, "limit", None) or one.concurrency_limit
        ),
        "Description": _whole("description"),
        "Entrypoint": _whole("entrypoint"),
        "Version": _whole("version"),
        "Tags": _whole("tags"),
        "Id": _whole("id"),
    },
    title=lambda one: _deployment_name(one, 120),
    tone=lambda one: _status_tone(one.status, paused=one.paused),
)


def _slots(one: Any) -> str:
    limit = one.concurrency_limit
    taken = one.active_slots
    if limit is None:
        return in_words(taken)
    return f"{taken:,} of {limit:,}" if isinstance(taken, int) else f"at most {limit:,}"


_WORK_POOL = Look(
    columns={
        "name": _linked("work-pools/work-pool", 40),
        "type": field_cell("type"),
        "status": lambda one, _: _status(one.status, paused=one.is_paused),
        "running": lambda one, _: _slots(one),
        "description": field_cell("description"),
        "id": _ident,
    },
    rows={
        "Type": _whole("type"),
        "Status": lambda one, _: _status(one.status, paused=one.is_paused),
        "Running": lambda one, _: _slots(one),
        "Description": _whole("description"),
        "Created": _whole("created"),
        "Id": _whole("id"),
    },
    tone=lambda one: _status_tone(one.status, paused=one.is_paused),
)

_WORK_QUEUE = Look(
    columns={
        "name": field_cell("name"),
        "work pool": field_cell("work_pool_name"),
        "status": lambda one, _: _status(one.status, paused=one.is_paused),
        "priority": field_cell("priority"),
        "running": lambda one, _: _slots(one),
        "last polled": field_cell("last_polled"),
        "id": _ident,
    },
    rows={
        "Work pool": _whole("work_pool_name"),
        "Status": lambda one, _: _status(one.status, paused=one.is_paused),
        "Priority": _whole("priority"),
        "Running": lambda one, _: _slots(one),
        "Last polled": _whole("last_polled"),
        "Description": _whole("description"),
        "Id": _whole("id"),
    },
    tone=lambda one: _status_tone(one.status, paused=one.is_paused),
)

_WORKER = Look(
    columns={
        "name": field_cell("name"),
        "status": lambda one, _: _status(one.status),
        "last heartbeat": field_cell("last_heartbeat_time"),
        "id": _ident,
    },
    rows={
        "Status": lambda one, _: _status(one.status),
        "Last heartbeat": _whole("last_heartbeat_time"),
        "Id": _whole("id"),
    },
    tone=lambda one: _status_tone(one.status),
)


def _resource(one: Any) -> str:
    resource = one.resource if isinstance(one.resource, Mapping) else {}
    name, ident = resource.get("prefect.resource.name"), resource.get("prefect.resource.id")
    return clean(str(name or ident or ""), 80)


def _related(one: Any) -> str:
    if not isinstance(one.related, list):
        return in_words(one.related)
    each = (
        f"{resource.get('prefect.resource.role', '')} "
        f"{resource.get('prefect.resource.name') or resource.get('prefect.resource.id', '')}".strip()
        for resource in one.related[:20]
        if isinstance(resource, Mapping)
    )
    return clean(", ".join(each), 300)


_EVENT = Look(
    columns={
        "occurred": field_cell("occurred"),
        "event": field_cell("event", 60),
        "resource": lambda one, _: shortened(_resource(one), 40),
        "id": _ident,
    },
    rows={
        "Occurred": lambda one, _: exact(one.occurred),
        "Resource": lambda one, _: _resource(one),
        "Resource id": lambda one, _: (
            clean(str(one.resource.get("prefect.resource.id", "")), 120)
            if isinstance(one.resource, Mapping)
            else ""
        ),
        "Related": lambda one, _: _related(one),
        "Payload": lambda one, _: assignments(one.payload, 400),
        "Id": _whole("id"),
    },
    title=lambda one: clean(one.event, 120),
)

_SCHEDULE = Look(
    columns={
        "when": lambda one, _: shortened(schedule_in_words(one.schedule), 80),
        "status": lambda one, _: _status("ACTIVE" if one.active else "INACTIVE"),
        "parameters": lambda one, _: shortened(assignments(one.parameters, 500), 48),
        "slug": field_cell("slug"),
        "id": _ident,
    },
    rows={
        "Status": lambda one, _: _status("ACTIVE" if one.active else "INACTIVE"),
        "Parameters": lambda one, _: assignments(one.parameters, 400),
        "Slug": _whole("slug"),
        "Id": _whole("id"),
    },
    title=lambda one: schedule_in_words(one.schedule),
    tone=lambda one: _status_tone("ACTIVE" if one.active else "INACTIVE"),
)

_AUTOMATION = Look(
    columns={
        "name": field_cell("name", 40),
        "status": lambda one, _: _status("ENABLED" if one.enabled else "DISABLED"),
        "when": lambda one, _: shortened(trigger_in_words(one.trigger), 60),
        "then": lambda one, _: shortened(actions_in_words(one.actions), 48),
        "id": _ident,
    },
    rows={
        "Status": lambda one, _: _status("ENABLED" if one.enabled else "DISABLED"),
        "When": lambda one, _: clean(trigger_in_words(one.trigger)),
        "Then": lambda one, _: clean(actions_in_words(one.actions)),
        "On trigger": lambda one, _: clean(actions_in_words(one.actions_on_trigger)),
        "On resolve": lambda one, _: clean(actions_in_words(one.actions_on_resolve)),
        "Description": _whole("description"),
        "Id": _whole("id"),
    },
    tone=lambda one: _status_tone("ENABLED" if one.enabled else "DISABLED"),
)


def _block_type(one: Any) -> str:
    return in_words(one.block_type_name or getattr(one.block_type, "name", None), 60)


_BLOCK_DOCUMENT = Look(
    columns={
        "name": field_cell("name"),
        "type": lambda one, _: _block_type(one),
        "fields": lambda one, _: shortened(", ".join(map(str, one.data)), 60),
        "updated": field_cell("updated"),
        "id": _ident,
    },
    rows={
        "Type": lambda one, _: _block_type(one),
        "Values": lambda one, _: assignments(one.data, 400),
        "Created": _whole("created"),
        "Updated": _whole("updated"),
        "Id": _whole("id"),
    },
)

_BLOCK_TYPE = Look(
    columns={
        "name": field_cell("name"),
        "slug": field_cell("slug"),
        "description": field_cell("description", 80),
        "id": _ident,
    },
    rows={"Slug": _whole("slug"), "Description": _whole("description"), "Id": _whole("id")},
)

_VARIABLE = Look(
    columns={
        "name": field_cell("name"),
        "value": lambda one, _: shortened(in_words(one.value, 500), 60),
        "tags": field_cell("tags", 24),
        "updated": field_cell("updated"),
        "id": _ident,
    },
    rows={
        "Value": _whole("value"),
        "Tags": _whole("tags"),
        "Created": _whole("created"),
        "Updated": _whole("updated"),
        "Id": _whole("id"),
    },
)

_FLOW = Look(
    columns={
        "name": _linked("flows/flow", 60),
        "created": field_cell("created"),
        "tags": field_cell("tags", 48),
        "id": _ident,
    },
    rows={"Created": _whole("created"), "Tags": _whole("tags"), "Id": _whole("id")},
)

_TAG_LIMIT = Look(
    columns={
        "tag": field_cell("tag"),
        "running": lambda one, _: f"{len(one.active_slots):,} of {one.concurrency_limit:,}",
        "id": _ident,
    },
    rows={
        "Running": lambda one, _: f"{len(one.active_slots):,} of {one.concurrency_limit:,}",
        "Id": _whole("id"),
    },
    title=lambda one: clean(one.tag, 80),
)

_LIMIT = Look(
    columns={
        "name": field_cell("name"),
        "status": lambda one, _: _status("ACTIVE" if one.active else "INACTIVE"),
        "taken": lambda one, _: f"{one.active_slots:,} of {one.limit:,}",
        "id": _ident,
    },
    rows={
        "Status": lambda one, _: _status("ACTIVE" if one.active else "INACTIVE"),
        "Taken": lambda one, _: f"{one.active_slots:,} of {one.limit:,}",
        "Released": lambda one, _: (
            f"{one.slot_decay_per_second:g} per second" if one.slot_decay_per_second else ""
        ),
        "Id": _whole("id"),
    },
    tone=lambda one: _status_tone("ACTIVE" if one.active else "INACTIVE"),
)


def _state(one: Any, longest: int) -> Shown:
    return state_cell(str(one.type), one.name, str(one.message or ""), longest)


_STATE = Look(
    columns={
        "state": lambda one, _: _state(one, 100),
        "since": field_cell("timestamp"),
        "id": _ident,
    },
    rows={
        "State": lambda one, _: _state(one, 400),
        "Since": lambda one, _: whole_time(one.timestamp),
        "Due": lambda one, _: in_words(getattr(one.state_details, "scheduled_time", None)),
        "Id": _whole("id"),
    },
)


_RESULT = Look(
    columns={
        "status": lambda one, _: _status(one.status),
        "state": lambda one, _: _state(one.state, 60) if one.state is not None else "",
        "reason": lambda one, _: in_words(getattr(one.details, "reason", None)),
    },
    rows={
        "Status": lambda one, _: _status(one.status),
        "State": lambda one, _: _state(one.state, 400) if one.state is not None else "",
        "Reason": lambda one, _: in_words(getattr(one.details, "reason", None), 400),
        "Ask again": lambda one, _: (
            f"in {delay:,} s" if (delay := getattr(one.details, "delay_seconds", None)) else ""
        ),
    },
    tone=lambda one: _status_tone(one.status),
)

_GRAPH = Look(
    columns={"start": field_cell("start_time"), "runs": lambda one, _: f"{len(one.nodes):,}"},
    rows={
        "Started": lambda one, _: whole_time(one.start_time),
        "Ended": lambda one, _: whole_time(one.end_time),
        "Runs": lambda one, _: f"{len(one.nodes):,}",
        "Without a predecessor": lambda one, _: f"{len(one.root_node_ids):,}",
        "Artifacts": lambda one, _: in_words(len(one.artifacts) or None),
    },
    title=lambda _: "",
)

_SLOT = Look(
    columns={
        "name": field_cell("name"),
        "state": lambda one, _: state_cell(str(one.state_type or ""), one.state_name),
        "start": field_cell("start_time"),
        "for": lambda one, _: length(one.time_in_current_state),
        "id": _ident,
    },
    rows={
        "State": lambda one, _: state_cell(str(one.state_type or ""), one.state_name),
        "Started": _whole("start_time"),
        "Id": _whole("id"),
    },
)

LOOKS: dict[type[Model], Look] = {
    FlowRun: _FLOW_RUN,
    TaskRun: _TASK_RUN,
    Deployment: _DEPLOYMENT,
    models.Flow: _FLOW,
    models.DeploymentSchedule: _SCHEDULE,
    models.WorkPool: _WORK_POOL,
    models.WorkQueue: _WORK_QUEUE,
    models.Worker: _WORKER,
    models.Event: _EVENT,
    models.Automation: _AUTOMATION,
    models.BlockDocument: _BLOCK_DOCUMENT,
    models.BlockType: _BLOCK_TYPE,
    models.Variable: _VARIABLE,
    models.ConcurrencyLimit: _TAG_LIMIT,
    models.GlobalConcurrencyLimit: _LIMIT,
    models.State: _STATE,
    models.OrchestrationResult: _RESULT,
    models.FlowRunGraph: _GRAPH,
    models.FlowRunSlot: _SLOT,
}


def look_of(kind: type[Model]) -> Look | None:
    """Return how objects of a kind look; None if there is nothing special about them."""
    return next((LOOKS[each] for each in kind.__mro__ if each in LOOKS), None)
