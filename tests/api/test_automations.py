"""Automations, on both clients and both servers."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from orchnb import ObjectNotFound, PrefectHTTPStatusError
from orchnb.api.models import Action, Automation, ModelList
from tests.api import both

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left

TRIGGER = {
    "type": "event",
    "posture": "Reactive",
    "expect": ["nothing.that-happens"],
    "threshold": 1,
    "within": 0,
}
ACTIONS = [{"type": "do-nothing"}]


@pytest.fixture
def automation(client: Any, name: str) -> Automation:
    created = client.read_automation(
        client.create_automation(name, trigger=TRIGGER, actions=ACTIONS, tags=["x"])
    )
    assert isinstance(created, Automation)
    return created


def test_an_automation_comes_back_as_it_was_created(client: Any, name: str) -> None:
    created = client.create_automation(
        name=name,
        description="for the night",
        enabled=False,
        tags=["a"],
        trigger=TRIGGER,
        actions=ACTIONS,
        actions_on_trigger=ACTIONS,
        actions_on_resolve=ACTIONS,
    )
    assert isinstance(created, uuid.UUID)
    found = client.read_automation(str(created))
    assert (found.id, found.name, found.description) == (created, name, "for the night")
    assert (found.enabled, found.tags) == (False, ["a"])
    assert found.trigger.expect == {"nothing.that-happens"}
    assert (
        found.actions
        == found.actions_on_trigger
        == found.actions_on_resolve
        == [Action(**ACTIONS[0])]
    )
    assert found.created.tzinfo is not None


def test_its_fields_may_be_data_or_prefects_objects(client: Any, name: str) -> None:
    from prefect.events.actions import CancelFlowRun
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    trigger = EventTrigger(expect={"some.thing"}, posture=Posture.Reactive, threshold=2)
    theirs = AutomationCore(name=name, trigger=trigger, actions=[CancelFlowRun()])
    actions = [{"type": "cancel-flow-run"}]
    for created in (
        client.create_automation(theirs),
        client.create_automation({"name": name, "trigger": TRIGGER, "actions": actions}),
        client.create_automation(name, trigger=trigger, actions=[CancelFlowRun()]),
    ):
        assert client.read_automation(created).actions == [Action(**actions[0])]
        client.update_automation(created, theirs)
        found = client.read_automation(created)
        assert (found.trigger.threshold, found.actions) == (2, [Action(**actions[0])])


def test_automations_are_filtered_sorted_paged_and_counted(client: Any, name: str) -> None:
    names = [f"{name}-{letter}" for letter in "cab"]
    for each in names:
        client.create_automation(each, trigger=TRIGGER, actions=ACTIONS)
    mine = {"name": {"any_": names}}

    def read(**arguments: Any) -> list[str]:
        automations = client.read_automations(automations=mine, sort="NAME_DESC", **arguments)
        assert isinstance(automations, ModelList)
        assert automations.model is Automation
        return [automation.name[-1] for automation in automations]

    assert read() == ["c", "b", "a"]
    assert read(limit=1, offset=1) == ["b"]
    assert client.count_automations() >= 3
    assert client.count_automations(automations=mine) == 3
    assert client.count_automations(automations={"name": {"any_": [f"{name}-x"]}}) == 0


def test_automations_are_found_by_name_and_id(client: Any, automation: Automation) -> None:
    named = client.read_automations_by_name(automation.name)
    assert named.model is Automation
    assert [each.id for each in named] == [automation.id]
    for what in (automation.id, str(automation.id), automation.name):
        assert client.find_automation(what).id == automation.id
    assert client.find_automation("nobody's") is None
    assert client.find_automation(uuid.UUID(int=7)) is None


def test_a_name_may_look_like_an_id(client: Any) -> None:
    name = str(uuid.uuid4())
    created = client.create_automation(name, trigger=TRIGGER, actions=ACTIONS)
    assert client.find_automation(name).id == created


def test_an_automation_is_paused_and_resumed(client: Any, automation: Automation) -> None:
    assert client.pause_automation(automation.id) is None
    assert client.read_automation(automation.id).enabled is False
    assert client.resume_automation(str(automation.id)) is None
    assert client.read_automation(automation.id).enabled is True


def test_one_that_was_read_is_changed_by_keyword(client: Any, automation: Automation) -> None:
    client.update_automation(automation.id, automation, description="new")
    found = client.read_automation(automation.id)
    assert (found.name, found.description, found.tags) == (automation.name, "new", ["x"])
    assert found.trigger.expect == automation.trigger.expect

    client.update_automation(automation.id, name="n", trigger=TRIGGER, actions=[])
    found = client.read_automation(automation.id)
    assert (found.name, found.actions) == ("n", [])
    assert (found.description, found.tags) == ("new", ["x"])


def test_a_deleted_automation_is_gone(client: Any, automation: Automation) -> None:
    assert client.delete_automation(automation.id) is None
    for operation, arguments in (
        ("read_automation", ()),
        ("pause_automation", ()),
        ("resume_automation", ()),
        ("update_automation", (automation,)),
        ("delete_automation", ()),
    ):
        with pytest.raises(ObjectNotFound, match=f"with the id '{automation.id}': 404"):
            getattr(client, operation)(automation.id, *arguments)


def test_the_automations_of_a_resource_are_read_and_deleted(client: Any, name: str) -> None:
    owner = f"prefect.deployment.{uuid.uuid4()}"
    data = {"name": name, "trigger": TRIGGER, "actions": ACTIONS, "owner_resource": owner}
    created = client.create_automation(data)
    related = client.read_resource_related_automations(owner)
    assert related.model is Automation
    assert [each.id for each in related] == [created]
    assert client.delete_resource_owned_automations(owner) is None
    assert client.read_resource_related_automations(owner) == []
    assert client.read_automations_by_name(name) == []


def test_what_is_missing_is_told_before_anything_is_sent(client: Any, name: str) -> None:
    with pytest.raises(TypeError, match="Missing trigger and actions"):
        client.create_automation(name)
    with pytest.raises(TypeError, match="Missing name and trigger and actions"):
        client.update_automation(uuid.uuid4())


def test_what_the_server_refuses_is_told(client: Any, name: str) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="422"):
        client.create_automation(name, trigger={"type": "luck"}, actions=ACTIONS)
