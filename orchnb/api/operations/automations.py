"""Automations: actions that run when something happens."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import a, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, as_id, as_list, as_tags, as_uuid
from orchnb.api.operations.filters import named_words
from orchnb.api.operations.payloads import Data, fields_of, required, with_defaults, with_id
from orchnb.api.operations.queries import filters_of
from orchnb.api.operations.verbs import change, count, delete, get, search
from orchnb.api.pagination import Paging, every, pages_of
from orchnb.errors import ObjectNotFound
from orchnb.http.calls import Call, nothing, path

if TYPE_CHECKING:
    from orchnb.api.models import Automation


_automation = a(lambda: models.Automation)
_automations = list_of(lambda: models.Automation)


class AutomationFields(TypedDict, total=False):
    """The fields of an automation, given by keyword."""

    name: str | None
    description: str | None
    enabled: bool | None
    tags: Iterable[str] | None
    trigger: Data | None
    actions: Iterable[Data] | None
    actions_on_trigger: Iterable[Data] | None
    actions_on_resolve: Iterable[Data] | None


def _fields(automation: Data | str | None, keywords: AutomationFields) -> dict[str, Any]:
    given: dict[str, Any] = dict.fromkeys(AutomationFields.__annotations__)
    given |= keywords
    given["tags"] = as_tags(given["tags"])
    for name in ("actions", "actions_on_trigger", "actions_on_resolve"):
        given[name] = None if given[name] is None else as_list(given[name], name)
    fields = fields_of(with_defaults(automation), **given)
    required(fields, "name", "trigger", "actions")
    return fields


@operation
def create_automation(
    automation: Data | str | None = None, **fields: Unpack[AutomationFields]
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
        json=_fields(automation, fields),
        look="read_automations_by_name",
    )


@operation
def read_automation(automation_id: UUID | str) -> Call[Automation]:
    """Read an automation by its id.

    Raises:
        ObjectNotFound: there is no automation with that id.
    """
    return get(
        path("/automations/{}", as_id(automation_id, "automation_id")),
        _automation,
        with_id("automation", automation_id),
    )


class AutomationQuery(TypedDict, total=False):
    """Keywords of a query for automations."""

    automations: Filter | None
    tags: Iterable[str] | None


def _automation_filters(query: AutomationQuery) -> dict[str, Any]:
    return filters_of(query, automations=named_words({"tags": query.get("tags")}))


@operation
def read_automations(
    *,
    sort: str | None = None,
    limit: int | None = None,
    offset: int = 0,
    **query: Unpack[AutomationQuery],
) -> Call[ModelList[Automation]]:
    """Read automations, or only those that have all of the ``tags``.

    ``automations`` is the API's filter object, ``sort`` one of its sort orders (``NAME_ASC``,
    ``UPDATED_DESC``, ...). With ``limit=None`` the server decides; it returns at most 200.

    Raises:
        ValueError: tags are given both by keyword and in the filter object.
    """
    return search(
        path("/automations/filter"),
        _automations,
        **_automation_filters(query),
        sort=sort,
        limit=limit,
        offset=offset,
    )


@operation
def read_automations_by_name(name: str) -> Call[ModelList[Automation]]:
    """Read the automations with a name, the last updated first; names need not be unique."""
    return search(
        path("/automations/filter"),
        _automations,
        automations={"name": {"any_": [name]}},
        sort="UPDATED_DESC",
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
def count_automations(**query: Unpack[AutomationQuery]) -> Generator[Call[Any], Any, int]:
    """Return the number of automations, or of those that have all of the tags or match the API's filter
    object. To count with a filter, the matching automations are read."""
    wanted = _automation_filters(query)["automations"]
    if wanted is None:
        return (yield from count(path("/automations/count")))
    # Up to 3.8.0, Prefect's server ignored the filter when counting.
    found = read_automations(automations=wanted, sort="NAME_ASC")
    return len((yield from every(Paging[models.Automation](pages_of(found)))))


@operation
def update_automation(
    automation_id: UUID | str, automation: Data | None = None, **fields: Unpack[AutomationFields]
) -> Call[None]:
    """Update an automation. The API needs its name, trigger and actions each time; the rest stays.

    So pass the automation that was read, and the changes by keyword:
    ``update_automation(old.id, old, description="for the night")``.

    Raises:
        ObjectNotFound: there is no automation with that id.
        TypeError: the name, the trigger or the actions are missing.
    """
    changed = _fields(automation, fields)
    changed.pop("owner_resource", None)  # in Prefect's models; the API accepts it at creation only
    return Call(
        "PUT",
        path("/automations/{}", as_id(automation_id, "automation_id")),
        nothing,
        json=changed,
        missing=with_id("automation", automation_id),
    )


def _switch(automation_id: UUID | str, enabled: bool) -> Call[None]:
    return change(
        path("/automations/{}", as_id(automation_id, "automation_id")),
        {"enabled": enabled},
        with_id("automation", automation_id),
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
    return delete(
        path("/automations/{}", as_id(automation_id, "automation_id")),
        with_id("automation", automation_id),
    )


@operation
def read_resource_related_automations(resource_id: str) -> Call[ModelList[Automation]]:
    """Read the automations related to a resource, such as ``prefect.deployment.<id>``."""
    return get(path("/automations/related-to/{}", resource_id), _automations)


@operation
def delete_resource_owned_automations(resource_id: str) -> Call[None]:
    """Delete the automations that a resource owns, such as those created with a deployment."""
    return delete(path("/automations/owned-by/{}", resource_id))


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
