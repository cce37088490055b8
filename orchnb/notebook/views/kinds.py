"""What is shown of each kind of object: the columns of a list, and the rows of a card.

They answer the questions that people ask about an object of that kind. An object of a kind that is not
here shows all of its fields that have a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchnb.api import models
from orchnb.api.models import Deployment, FlowRun, Model, TaskRun
from orchnb.notebook.views.automations import actions_in_words, trigger_in_words
from orchnb.notebook.views.kinds_of_work import (
    DEPLOYMENT_LOOK,
    FLOW_RUN_LOOK,
    TASK_RUN_LOOK,
    WORK_POOL_LOOK,
    WORK_QUEUE_LOOK,
    WORKER_LOOK,
)
from orchnb.notebook.views.looks import (
    Look,
    Shown,
    field_cell,
    ident_cell,
    linked_name,
    status_cell,
    status_tone,
    whole_field,
)
from orchnb.notebook.views.model import clean
from orchnb.notebook.views.run_cells import (
    state_cell,
    whole_time,
)
from orchnb.notebook.views.schedules import schedule_in_words
from orchnb.notebook.views.words import (
    assignments,
    exact,
    in_words,
    length,
    shortened,
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
        "id": ident_cell,
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
        "Id": whole_field("id"),
    },
    title=lambda one: clean(one.event, 120),
)

_SCHEDULE = Look(
    columns={
        "when": lambda one, _: shortened(schedule_in_words(one.schedule), 80),
        "status": lambda one, _: status_cell("ACTIVE" if one.active else "INACTIVE"),
        "parameters": lambda one, _: shortened(assignments(one.parameters, 500), 48),
        "slug": field_cell("slug"),
        "id": ident_cell,
    },
    rows={
        "Status": lambda one, _: status_cell("ACTIVE" if one.active else "INACTIVE"),
        "Parameters": lambda one, _: assignments(one.parameters, 400),
        "Slug": whole_field("slug"),
        "Id": whole_field("id"),
    },
    title=lambda one: schedule_in_words(one.schedule),
    tone=lambda one: status_tone("ACTIVE" if one.active else "INACTIVE"),
)

_AUTOMATION = Look(
    columns={
        "name": field_cell("name", 40),
        "status": lambda one, _: status_cell("ENABLED" if one.enabled else "DISABLED"),
        "when": lambda one, _: shortened(trigger_in_words(one.trigger), 60),
        "then": lambda one, _: shortened(actions_in_words(one.actions), 48),
        "id": ident_cell,
    },
    rows={
        "Status": lambda one, _: status_cell("ENABLED" if one.enabled else "DISABLED"),
        "When": lambda one, _: clean(trigger_in_words(one.trigger)),
        "Then": lambda one, _: clean(actions_in_words(one.actions)),
        "On trigger": lambda one, _: clean(actions_in_words(one.actions_on_trigger)),
        "On resolve": lambda one, _: clean(actions_in_words(one.actions_on_resolve)),
        "Description": whole_field("description"),
        "Id": whole_field("id"),
    },
    tone=lambda one: status_tone("ENABLED" if one.enabled else "DISABLED"),
)


def _block_type(one: Any) -> str:
    return in_words(one.block_type_name or getattr(one.block_type, "name", None), 60)


_BLOCK_DOCUMENT = Look(
    columns={
        "name": field_cell("name"),
        "type": lambda one, _: _block_type(one),
        "fields": lambda one, _: shortened(", ".join(map(str, one.data)), 60),
        "updated": field_cell("updated"),
        "id": ident_cell,
    },
    rows={
        "Type": lambda one, _: _block_type(one),
        "Values": lambda one, _: assignments(one.data, 400),
        "Created": whole_field("created"),
        "Updated": whole_field("updated"),
        "Id": whole_field("id"),
    },
)

_BLOCK_TYPE = Look(
    columns={
        "name": field_cell("name"),
        "slug": field_cell("slug"),
        "description": field_cell("description", 80),
        "id": ident_cell,
    },
    rows={
        "Slug": whole_field("slug"),
        "Description": whole_field("description"),
        "Id": whole_field("id"),
    },
)

_VARIABLE = Look(
    columns={
        "name": field_cell("name"),
        "value": lambda one, _: shortened(in_words(one.value, 500), 60),
        "tags": field_cell("tags", 24),
        "updated": field_cell("updated"),
        "id": ident_cell,
    },
    rows={
        "Value": whole_field("value"),
        "Tags": whole_field("tags"),
        "Created": whole_field("created"),
        "Updated": whole_field("updated"),
        "Id": whole_field("id"),
    },
)

_FLOW = Look(
    columns={
        "name": linked_name("flows/flow", 60),
        "created": field_cell("created"),
        "tags": field_cell("tags", 48),
        "id": ident_cell,
    },
    rows={"Created": whole_field("created"), "Tags": whole_field("tags"), "Id": whole_field("id")},
)

_TAG_LIMIT = Look(
    columns={
        "tag": field_cell("tag"),
        "running": lambda one, _: f"{len(one.active_slots):,} of {one.concurrency_limit:,}",
        "id": ident_cell,
    },
    rows={
        "Running": lambda one, _: f"{len(one.active_slots):,} of {one.concurrency_limit:,}",
        "Id": whole_field("id"),
    },
    title=lambda one: clean(one.tag, 80),
)

_LIMIT = Look(
    columns={
        "name": field_cell("name"),
        "status": lambda one, _: status_cell("ACTIVE" if one.active else "INACTIVE"),
        "taken": lambda one, _: f"{one.active_slots:,} of {one.limit:,}",
        "id": ident_cell,
    },
    rows={
        "Status": lambda one, _: status_cell("ACTIVE" if one.active else "INACTIVE"),
        "Taken": lambda one, _: f"{one.active_slots:,} of {one.limit:,}",
        "Released": lambda one, _: (
            f"{one.slot_decay_per_second:g} per second" if one.slot_decay_per_second else ""
        ),
        "Id": whole_field("id"),
    },
    tone=lambda one: status_tone("ACTIVE" if one.active else "INACTIVE"),
)


def _state(one: Any, longest: int) -> Shown:
    return state_cell(str(one.type), one.name, str(one.message or ""), longest)


_STATE = Look(
    columns={
        "state": lambda one, _: _state(one, 100),
        "since": field_cell("timestamp"),
        "id": ident_cell,
    },
    rows={
        "State": lambda one, _: _state(one, 400),
        "Since": lambda one, _: whole_time(one.timestamp),
        "Due": lambda one, _: in_words(getattr(one.state_details, "scheduled_time", None)),
        "Id": whole_field("id"),
    },
)


_RESULT = Look(
    columns={
        "status": lambda one, _: status_cell(one.status),
        "state": lambda one, _: _state(one.state, 60) if one.state is not None else "",
        "reason": lambda one, _: in_words(getattr(one.details, "reason", None)),
    },
    rows={
        "Status": lambda one, _: status_cell(one.status),
        "State": lambda one, _: _state(one.state, 400) if one.state is not None else "",
        "Reason": lambda one, _: in_words(getattr(one.details, "reason", None), 400),
        "Ask again": lambda one, _: (
            f"in {delay:,} s" if (delay := getattr(one.details, "delay_seconds", None)) else ""
        ),
    },
    tone=lambda one: status_tone(one.status),
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
        "id": ident_cell,
    },
    rows={
        "State": lambda one, _: state_cell(str(one.state_type or ""), one.state_name),
        "Started": whole_field("start_time"),
        "Id": whole_field("id"),
    },
)

LOOKS: dict[type[Model], Look] = {
    FlowRun: FLOW_RUN_LOOK,
    TaskRun: TASK_RUN_LOOK,
    Deployment: DEPLOYMENT_LOOK,
    models.Flow: _FLOW,
    models.DeploymentSchedule: _SCHEDULE,
    models.WorkPool: WORK_POOL_LOOK,
    models.WorkQueue: WORK_QUEUE_LOOK,
    models.Worker: WORKER_LOOK,
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
