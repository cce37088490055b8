"""Triggers and actions of automations in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchnb.api.models import (
    Action,
    CompositeTrigger,
    CompoundTrigger,
    EventTrigger,
    MetricTrigger,
)
from orchnb.notebook.views.model import clean, duration
from orchnb.notebook.views.words import in_words

_MOST = 20
_RESOURCE_ID = "prefect.resource.id"


def trigger_in_words(trigger: Any) -> str:
    """Return when a trigger fires."""
    if isinstance(trigger, EventTrigger):
        return _event(trigger)
    if isinstance(trigger, MetricTrigger):
        query = trigger.metric
        return clean(
            f"{query.name} {query.operator} {query.threshold:g} for "
            f"{duration(query.firing_for.total_seconds())}"
            if query.name is not None and isinstance(query.threshold, (int, float))
            else in_words(query)
        )
    if isinstance(trigger, CompositeTrigger):
        parts = [trigger_in_words(part) for part in trigger.triggers[:_MOST]]
        if isinstance(trigger, CompoundTrigger):
            join = {"all": " and ", "any": " or "}.get(str(trigger.require))
            if join is None:
                return clean(f"{trigger.require} of: {', '.join(parts)}")
            return clean(join.join(parts))
        return clean(", then ".join(parts))
    return in_words(trigger)


def _event(trigger: EventTrigger) -> str:
    events = _listed(trigger.expect) or "any event"
    words = f"no {events}" if trigger.posture == "Proactive" else events
    if trigger.threshold != 1:
        words += f", {trigger.threshold} times"
    seconds = trigger.within.total_seconds() if trigger.within else 0
    if seconds:
        words += f" within {duration(seconds)}"
    if trigger.after:
        words += f" after {_listed(trigger.after)}"
    match = trigger.match if isinstance(trigger.match, Mapping) else {}
    of = match.get(_RESOURCE_ID)
    return clean(f"{words} of {in_words(of)}" if of else words)


def _listed(events: Iterable[str]) -> str:
    return " or ".join(sorted(map(str, events))[:_MOST])


def actions_in_words(actions: Iterable[Any]) -> str:
    """Return what an automation does."""
    return clean(", ".join(map(_action, list(actions)[:_MOST])))


def _action(action: Any) -> str:
    if not isinstance(action, Action):
        return in_words(action)
    words = action.type.replace("-", " ")
    what = action.name or action.state or action.subject
    if action.deployment_id is not None:
        what = f"{str(action.deployment_id)[:8]}"
    return f"{words} ({what})" if what else words
