"""Automations: actions that run when something happens."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, as_id, as_list, as_tags, as_uuid
from orchnb.api.operations.filters import named_words, with_words
from orchnb.api.operations.payloads import (
    Data,
    fields_of,
    quoted,
    required,
    with_defaults,
    without_none,
)
from orchnb.api.pagination import Paging, every, pages_of
from orchnb.errors import ObjectNotFound
from orchnb.http.calls import Call, nothing, path

if TYPE_CHECKING:
    from orchnb.api.models import Automation


_automation = a(lambda: models.Automation)
_automations = list_of(lambda: models.Automation)


def _filter(automations: Filter | None, tags: Iterable[str] | None) -> Filter | None:
    return with_words(automations, "automations", named_words(tags=tags))


def _missing(automation_id: object) -> str:
    return f"automation with the id {quoted(automation_id)}"


def _fields(
    automation: Data | str | None,
    name: str | None,
    description: str | None,
    enabled: bool | None,
    tags: Iterable[str] | None,
    trigger: Data | None,
    actions: Iterable[Data] | None,
    actions_on_trigger: Iterable[Data] | None,
    actions_on_resolve: Iterable[Data] | None,
) -> dict[str, Any]:
    fields = fields_of(
        with_defaults(automation),
        name=name,
        description=description,
        enabled=enabled,
        tags=as_tags(tags),
        trigger=trigger,
        actions=None if actions is None else as_list(actions, "actions"),
        actions_on_trigger=None
        if actions_on_trigger is None
        else as_list(actions_on_trigger, "actions_on_trigger"),
        actions_on_resolve=None
        if actions_on_resolve is None
        else as_list(actions_on_resolve, "actions_on_resolve"),
    )
    required(fields, "name", "trigger", "actions")
    return fields


@operation
def create_automation(
    automation: Data | str | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    enabled: bool | None = None,
    tags: Iterable[str] | None = None,
    trigger: Data | None = None,
    actions: Iterable[Data] | None = None,
    actions_on_trigger: Iterable[Data] | None = None,
    actions_on_resolve: Iterable[Data] | None = None,
) -> Call[UUID]:
    """Create an automation and return its id.

    Args:
        automation: the automation's name, or its fields.
        trigger: the condition, in the API's form: ``{"type": "event", "posture": "Reactive",
            "expect": ["prefect.flow-run.Failed"], "threshold": 1, "within": 0}``.
        actions: the actions to run: ``[{"type": "cancel-flow-run"}]``.

    Raises:
        TypeError: the name, the trigger or the actions are missing.
    """
    return Call(
        "POST",
        path("/automations/"),
        lambda response: _automation(response).id,
        json=_fields(
            automation,
            name,
            description,
            enabled,
            tags,
            trigger,
            actions,
            actions_on_trigger,
            actions_on_resolve,
        ),
        look="read_automations_by_name",
    )


@operation
def read_automation(automation_id: UUID | str) -> Call[Automation]:
    """Read an automation by its id.

    Raises:
        ObjectNotFound: there is no automation with that id.
    """
    return Call(
        "GET",
        path("/automations/{}", as_id(automation_id, "automation_id")),
        _automation,
        missing=_missing(automation_id),
    )


@operation
def read_automations(
    *,
    automations: Filter | None = None,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    tags: Iterable[str] | None = None,
) -> Call[ModelList[Automation]]:
    """Read automations, or only those that have all of the ``tags``.

    ``automations`` is the API's filter object, ``sort`` one of its sort orders (``NAME_ASC``,
    ``UPDATED_DESC``, ...). With ``limit=None`` the server decides; it returns at most 200.

    Raises:
        ValueError: tags are given both by keyword and in the filter object.
    """
    return Call(
        "POST",
        path("/automations/filter"),
        _automations,
        repeatable=True,
        json=without_none(
            automations=_filter(automations, tags), sort=sort, limit=limit, offset=offset
        ),
    )


@operation
def read_automations_by_name(name: str) -> Call[ModelList[Automation]]:
    """Read the automations with a name, the last updated first; names need not be unique."""
    return Call(
        "POST",
        path("/automations/filter"),
        _automations,
        repeatable=True,
        json={"automations": {"name": {"any_": [name]}}, "sort": "UPDATED_DESC"},
    )


@operation
def find_automation(id_or_name: UUID | str) -> Generator[Call[Any], Any, Automation | None]:
    """Read an automation by its id, or the last updated one with that name; None if not found."""
    if as_uuid(id_or_name) is not None:
        try:
            found: Automation = yield from read_automation(id_or_name)
        except ObjectNotFound:
            pass  # a name can look like an id
        else:
            return found
    named = yield from read_automations_by_name(str(id_or_name))
    return next(iter(named), None)


@operation
def count_automations(
    *, automations: Filter | None = None, tags: Iterable[str] | None = None
) -> Generator[Call[Any], Any, int]:
    """Return the number of automations, or of those that have all of the tags or match the API's filter
    object. To count with a filter, the matching automations are read."""
    automations = _filter(automations, tags)
    if automations is None:
        total: int = yield from Call(
            "POST", path("/automations/count"), a(lambda: int), repeatable=True
        )
        return total
    # Up to 3.8.0, Prefect's server ignored the filter when counting.
    found = read_automations(automations=automations, sort="NAME_ASC")
    return len((yield from every(Paging[models.Automation](pages_of(found)))))


@operation
def update_automation(
    automation_id: UUID | str,
    automation: Data | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    enabled: bool | None = None,
    tags: Iterable[str] | None = None,
    trigger: Data | None = None,
    actions: Iterable[Data] | None = None,
    actions_on_trigger: Iterable[Data] | None = None,
    actions_on_resolve: Iterable[Data] | None = None,
) -> Call[None]:
    """Update an automation. The API needs its name, trigger and actions each time; the rest stays.

    So pass the automation that was read, and the changes by keyword:
    ``update_automation(old.id, old, description="for the night")``.

    Raises:
        ObjectNotFound: there is no automation with that id.
        TypeError: the name, the trigger or the actions are missing.
    """
    fields = _fields(
        automation,
        name,
        description,
        enabled,
        tags,
        trigger,
        actions,
        actions_on_trigger,
        actions_on_resolve,
    )
    fields.pop("owner_resource", None)  # in Prefect's models; the API accepts it at creation only
    return Call(
        "PUT",
        path("/automations/{}", as_id(automation_id, "automation_id")),
        nothing,
        json=fields,
        missing=_missing(automation_id),
    )


def _switch(automation_id: UUID | str, enabled: bool) -> Call[None]:
    return Call(
        "PATCH",
        path("/automations/{}", as_id(automation_id, "automation_id")),
        nothing,
        json={"enabled": enabled},
        missing=_missing(automation_id),
    )


@operation
def pause_automation(automation_id: UUID | str) -> Call[None]:
    """Disable an automation until it is resumed.

    Raises:
        ObjectNotFound: there is no automation with that id.
    """
    return _switch(automation_id, enabled=False)


@operation
def resume_automation(automation_id: UUID | str) -> Call[None]:
    """Enable a paused automation again.

    Raises:
        ObjectNotFound: there is no automation with that id.
    """
    return _switch(automation_id, enabled=True)


@operation
def delete_automation(automation_id: UUID | str) -> Call[None]:
    """Delete an automation.

    Raises:
        ObjectNotFound: there is no automation with that id.
    """
    return Call(
        "DELETE",
        path("/automations/{}", as_id(automation_id, "automation_id")),
        nothing,
        missing=_missing(automation_id),
    )


@operation
def read_resource_related_automations(resource_id: str) -> Call[ModelList[Automation]]:
    """Read the automations related to a resource, such as ``prefect.deployment.<id>``."""
    return Call("GET", path("/automations/related-to/{}", resource_id), _automations)


@operation
def delete_resource_owned_automations(resource_id: str) -> Call[None]:
    """Delete the automations that a resource owns, such as those created with a deployment."""
    return Call("DELETE", path("/automations/owned-by/{}", resource_id), nothing)


class AutomationOperations:
    """Automations: actions that run when something happens."""

    create_automation = create_automation
    read_automation = read_automation
    read_automations = read_automations
    read_automations_by_name = read_automations_by_name
    find_automation = find_automation
    count_automations = count_automations
    update_automation = update_automation
    pause_automation = pause_automation
    resume_automation = resume_automation
    delete_automation = delete_automation
    read_resource_related_automations = read_resource_related_automations
    delete_resource_owned_automations = delete_resource_owned_automations
