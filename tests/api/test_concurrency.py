"""Limits to concurrency, on both clients and both servers."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from orchnb import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError
from orchnb.api.models import (
    ConcurrencyLease,
    ConcurrencyLimit,
    GlobalConcurrencyLimit,
    ModelList,
    TakenSlots,
)
from tests.api import both

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left


# By tag.


def test_a_tag_has_one_limit(client: Any, name: str) -> None:
    created = client.create_concurrency_limit(name, 2)
    assert isinstance(created, uuid.UUID)
    assert client.create_concurrency_limit(name, concurrency_limit=3) == created
    found = client.read_concurrency_limit_by_tag(name)
    assert isinstance(found, ConcurrencyLimit)
    assert (found.id, found.tag, found.concurrency_limit) == (created, name, 3)
    assert found.active_slots == []


def test_limits_of_tags_are_listed_and_paged(client: Any, name: str) -> None:
    created = client.create_concurrency_limit(name, 2)
    limits = client.read_concurrency_limits()
    assert isinstance(limits, ModelList)
    assert limits.model is ConcurrencyLimit
    assert created in [limit.id for limit in limits]
    # The server counts global limits too, and leaves them out afterwards.
    assert len(client.read_concurrency_limits(limit=1, offset=0)) <= 1
    assert client.read_concurrency_limits(5, 10_000) == []


def test_the_slots_of_a_tag_are_reset(client: Any, name: str) -> None:
    client.create_concurrency_limit(name, 2)
    running = uuid.uuid4()
    assert client.reset_concurrency_limit_by_tag(name, [running]) is None
    assert client.read_concurrency_limit_by_tag(name).active_slots == [running]
    client.reset_concurrency_limit_by_tag(name)
    assert client.read_concurrency_limit_by_tag(name).active_slots == []


def test_a_tag_without_a_limit_is_told(client: Any, name: str) -> None:
    client.create_concurrency_limit(name, 2)
    assert client.delete_concurrency_limit_by_tag(name) is None
    for operation in ("read", "reset", "delete"):
        with pytest.raises(ObjectNotFound, match=f"limit for the tag '{name}': 404"):
            getattr(client, f"{operation}_concurrency_limit_by_tag")(name)


def test_a_task_run_takes_a_slot_of_each_tag_until_there_are_none(client: Any, name: str) -> None:
    tags = [f"{name}-{letter}" for letter in "ab"]
    for tag in tags:
        client.create_concurrency_limit(tag, 1)
    first, second = uuid.uuid4(), uuid.uuid4()

    def active() -> list[list[uuid.UUID]]:
        return [client.read_concurrency_limit_by_tag(tag).active_slots for tag in tags]

    taken = client.increment_v1_concurrency_slots([*tags, f"{name}-unlimited"], first)
    assert isinstance(taken, ModelList)
    assert taken.model is TakenSlots
    assert sorted((limit.name, limit.limit) for limit in taken) == [(tag, 1) for tag in tags]
    assert active() == [[first], [first]]
    with pytest.raises(PrefectHTTPStatusError, match="423") as caught:
        client.increment_v1_concurrency_slots(tags[:1], str(second))
    assert caught.value.status_code == 423
    assert len(client.decrement_v1_concurrency_slots(tags, second, 1.5)) == 2  # it has none
    assert active() == [[first], [first]]
    for _ in range(2):  # the second time there is nothing left to give back
        given = client.decrement_v1_concurrency_slots(tags, str(first), occupancy_seconds=1.5)
        assert sorted(limit.name.removeprefix("tag:") for limit in given) == tags
        assert active() == [[], []]
    client.increment_v1_concurrency_slots(tags, second)
    assert active() == [[second], [second]]


# Global.


def test_a_global_limit_comes_back_as_it_was_created(client: Any, name: str) -> None:
    created = client.create_global_concurrency_limit(name, limit=2, slot_decay_per_second=0.5)
    assert isinstance(created, uuid.UUID)
    found = client.read_global_concurrency_limit_by_name(name)
    assert isinstance(found, GlobalConcurrencyLimit)
    assert (found.id, found.name, found.limit) == (created, name, 2)
    assert (found.active, found.active_slots, found.slot_decay_per_second) == (True, 0, 0.5)
    with pytest.raises(
        ObjectAlreadyExists, match=f"concurrency limit '{name}' already exists: 409"
    ):
        client.create_global_concurrency_limit({"name": name, "limit": 3})


def test_prefects_own_objects_will_do(client: Any, name: str) -> None:
    from prefect.client.schemas.actions import (
        GlobalConcurrencyLimitCreate,
        GlobalConcurrencyLimitUpdate,
    )

    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=2))
    client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=4))
    assert client.read_global_concurrency_limit_by_name(name).limit == 4


def test_global_limits_are_listed_and_paged(client: Any, name: str) -> None:
    created = client.create_global_concurrency_limit(name, limit=2)
    limits = client.read_global_concurrency_limits(limit=200)
    assert limits.model is GlobalConcurrencyLimit
    assert created in [limit.id for limit in limits]
    assert len(client.read_global_concurrency_limits(1)) == 1
    assert client.read_global_concurrency_limits(offset=10_000) == []


def test_a_global_limit_is_changed_by_what_is_given(client: Any, name: str) -> None:
    client.create_global_concurrency_limit(name, limit=2)
    client.update_global_concurrency_limit(name, limit=3)
    client.update_global_concurrency_limit(name, {"active": False})
    found = client.read_global_concurrency_limit_by_name(name)
    assert (found.limit, found.active) == (3, False)
    client.update_global_concurrency_limit(name, active_slots=1, slot_decay_per_second=0.25)
    found = client.read_global_concurrency_limit_by_name(name)
    assert (found.active_slots, found.slot_decay_per_second) == (1, 0.25)


def test_an_upsert_creates_or_changes(client: Any, name: str) -> None:
    assert client.upsert_global_concurrency_limit_by_name(name, 2) is None
    created = client.read_global_concurrency_limit_by_name(name)
    assert (created.limit, created.slot_decay_per_second) == (2, 0)
    client.upsert_global_concurrency_limit_by_name(name, 3, slot_decay_per_second=1.5)
    changed = client.read_global_concurrency_limit_by_name(name)
    assert (changed.id, changed.limit) == (created.id, 3)
    assert changed.slot_decay_per_second == 1.5


def test_a_global_limit_that_is_not_there_is_told(client: Any, name: str) -> None:
    client.create_global_concurrency_limit(name, limit=2)
    assert client.delete_global_concurrency_limit_by_name(name) is None
    for operation, arguments in (
        ("read_global_concurrency_limit_by_name", (name,)),
        ("update_global_concurrency_limit", (name, {"limit": 3})),
        ("delete_global_concurrency_limit_by_name", (name,)),
    ):
        with pytest.raises(ObjectNotFound, match=f"concurrency limit '{name}': 404"):
            getattr(client, operation)(*arguments)


# Slots.


def test_slots_are_taken_until_there_are_none(client: Any, name: str) -> None:
    client.create_global_concurrency_limit(name, limit=2)

    def active() -> int:
        return int(client.read_global_concurrency_limit_by_name(name).active_slots)

    taken = client.increment_concurrency_slots([name], 2, "concurrency")
    assert isinstance(taken, ModelList)
    assert taken.model is TakenSlots
    assert [(limit.name, limit.limit) for limit in taken] == [(name, 2)]
    assert active() == 2
    with pytest.raises(PrefectHTTPStatusError, match="423") as caught:
        client.increment_concurrency_slots([name], slots=1, mode="concurrency")
    assert caught.value.status_code == 423
    released = client.release_concurrency_slots([name], 2, occupancy_seconds=1.5)
    assert [limit.name for limit in released] == [name]
    assert active() == 0


def test_names_without_a_limit_are_not_limited(client: Any, name: str) -> None:
    assert client.increment_concurrency_slots([name], 1, "concurrency") == []


def test_slots_are_leased_kept_and_given_back(client: Any, name: str) -> None:
    client.create_global_concurrency_limit(name, limit=2)
    holder = {"type": "flow_run", "id": str(uuid.uuid4())}
    lease = client.increment_concurrency_slots_with_lease([name], 1, "concurrency", 60, holder)
    assert isinstance(lease, ConcurrencyLease)
    assert [limit.name for limit in lease.limits] == [name]
    assert client.read_global_concurrency_limit_by_name(name).active_slots == 1
    assert client.renew_concurrency_lease(lease.lease_id, 120) is None
    for _ in range(2):  # the second time there is nothing left to give back
        assert client.release_concurrency_slots_with_lease(lease.lease_id) is None
        assert client.read_global_concurrency_limit_by_name(name).active_slots == 0
    with pytest.raises(PrefectHTTPStatusError, match="410"):
        client.renew_concurrency_lease(str(lease.lease_id), 60)


def test_what_is_wrong_is_told_before_anything_is_sent(client: Any, name: str) -> None:
    with pytest.raises(TypeError, match="Missing limit"):
        client.create_global_concurrency_limit(name)
    with pytest.raises(ValueError, match="There is nothing to change"):
        client.update_global_concurrency_limit(name)
    with pytest.raises(TypeError, match="names should be a list of strings"):
        client.increment_concurrency_slots(name, 1, "concurrency")
    with pytest.raises(TypeError, match="names should be a list of strings"):
        client.increment_v1_concurrency_slots(name, uuid.uuid4())
    with pytest.raises(TypeError, match="names should be a list of strings"):
        client.decrement_v1_concurrency_slots(name, uuid.uuid4(), 1)
