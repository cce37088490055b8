"""Automations: actions that run when something happens."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, TypeAlias
from uuid import UUID

from pydantic import Discriminator, Field, Tag

from orchnb.api.models.base import LENIENT, EnumText, Model, NullIsDefault, Part, Time


class Trigger(Part):
    """The condition of an automation, of a type that orchnb does not know."""

    type: Annotated[str, NullIsDefault] = ""


class ResourceTrigger(Trigger):
    """The base of triggers for resources with certain labels."""

    match: Annotated[dict[str, Any], NullIsDefault] = Field(default_factory=dict)
    """The labels of the resource: each with a value, or a list of them."""
    match_related: Annotated[dict[str, Any] | list[dict[str, Any]], NullIsDefault] = Field(
        default_factory=dict
    )
    """The labels of a related resource."""


class EventTrigger(ResourceTrigger):
    """Fires when events are present, or absent, within a period of time."""

    type: Literal["event"] = "event"
    after: Annotated[set[str], NullIsDefault] = Field(default_factory=set)
    """The events that must have come before."""
    expect: Annotated[set[str], NullIsDefault] = Field(default_factory=set)
    """The events to watch for; none means any."""
    for_each: Annotated[set[str], NullIsDefault] = Field(default_factory=set)
    """Labels: for each of their values the trigger is evaluated separately."""
    posture: Annotated[EnumText, NullIsDefault] = EnumText("Reactive")
    """``Reactive``: it fires when the events come; ``Proactive``: when they do not come."""
    threshold: Annotated[int, NullIsDefault] = 1
    """The number of events."""
    within: Annotated[timedelta, NullIsDefault] = timedelta(0)


class MetricTriggerQuery(Part):
    """A metric, and the value that it must pass."""

    name: EnumText | None = None
    """``lateness``, ``duration`` or ``successes``."""
    threshold: float | None = None
    operator: EnumText | None = None
    """``<``, ``<=``, ``>`` or ``>=``."""
    range: Annotated[timedelta, NullIsDefault] = timedelta(seconds=300)
    """The period over which the metric is computed."""
    firing_for: Annotated[timedelta, NullIsDefault] = timedelta(seconds=300)
    """How long it must have passed the threshold."""


class MetricTrigger(ResourceTrigger):
    """Fires when a metric passes a threshold."""

    type: Literal["metric"] = "metric"
    posture: Annotated[EnumText, NullIsDefault] = EnumText("Metric")
    metric: Annotated[MetricTriggerQuery, NullIsDefault] = Field(default_factory=MetricTriggerQuery)


class CompositeTrigger(Trigger):
    """The base of triggers that combine others."""

    triggers: Annotated[list[AnyTrigger], NullIsDefault] = Field(default_factory=list)
    within: timedelta | None = None


class CompoundTrigger(CompositeTrigger):
    """Fires when some of its triggers have fired within a period of time."""

    type: Literal["compound"] = "compound"
    require: Annotated[int | str, NullIsDefault] = "all"
    """How many of them: a number, ``any`` or ``all``."""


class SequenceTrigger(CompositeTrigger):
    """Fires when its triggers have fired one after the other, within a period of time."""

    type: Literal["sequence"] = "sequence"


def _kind_of(trigger: Any) -> str:
    if not isinstance(trigger, Mapping):
        kind = getattr(trigger, "type", None)
    elif "type" in trigger:
        kind = trigger["type"]
    elif "triggers" in trigger:
        kind = "compound" if "require" in trigger else "sequence"
    else:
        kind = "metric" if "metric" in trigger else "event"
    return kind if kind in ("event", "metric", "compound", "sequence") else ""


AnyTrigger: TypeAlias = Annotated[
    Annotated[EventTrigger, Tag("event")]
    | Annotated[MetricTrigger, Tag("metric")]
    | Annotated[CompoundTrigger, Tag("compound")]
    | Annotated[SequenceTrigger, Tag("sequence")]
    | Annotated[Trigger, Tag("")],
    Discriminator(_kind_of),
    LENIENT,
]
"""A trigger, recognized by its type."""

CompositeTrigger.model_rebuild()
CompoundTrigger.model_rebuild()
SequenceTrigger.model_rebuild()


class Action(Part):
    """What an automation does: its type, such as ``run-deployment``, and the fields that this type has.
    Those of other types are None."""

    type: Annotated[str, NullIsDefault] = ""

    source: str | None = None
    """``selected``: the object with the given id; ``inferred``: the one that the event is about."""
    deployment_id: UUID | None = None
    work_pool_id: UUID | None = None
    work_queue_id: UUID | None = None
    automation_id: UUID | None = None
    block_document_id: UUID | None = None
    """The block that sends a notification or calls a webhook."""
    parameters: dict[str, Any] | None = None
    job_variables: dict[str, Any] | None = None
    schedule_after: timedelta | None = None
    """How long to wait before the deployment is run."""
    subject: str | None = None
    body: str | None = None
    payload: Any = None
    name: str | None = None
    """Of the state to set."""
    state: EnumText | None = None
    """The type of the state to set."""
    message: str | None = None
    force: bool | None = None


Actions: TypeAlias = Annotated[list[Annotated[Action, LENIENT]], NullIsDefault]


class Automation(Model):
    """A trigger, and the actions that run when it fires."""

    named_by: ClassVar[tuple[str, ...]] = ("name", "enabled", "id")

    id: UUID
    name: str
    description: Annotated[str, NullIsDefault] = ""
    enabled: Annotated[bool, NullIsDefault] = True
    created: Time | None = None
    updated: Time | None = None
    tags: Annotated[list[str], NullIsDefault] = Field(default_factory=list)
    trigger: Annotated[AnyTrigger, NullIsDefault] = Field(default_factory=Trigger)
    actions: Actions = Field(default_factory=list)
    actions_on_trigger: Actions = Field(default_factory=list)
    actions_on_resolve: Actions = Field(default_factory=list)
