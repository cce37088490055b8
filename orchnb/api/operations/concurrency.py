"""Concurrency limits, by tag and global."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from orchnb.api import models
from orchnb.api.answers import a, created_once, list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import as_list
from orchnb.api.operations.payloads import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    named,
    quoted,
    required,
    without_none,
)
from orchnb.api.operations.verbs import change, delete, get, search
from orchnb.errors import ObjectAlreadyExists, ObjectNotFound
from orchnb.http.calls import Call, Path, nothing, path

if TYPE_CHECKING:
    from orchnb.api.models import (
        ConcurrencyLease,
        ConcurrencyLimit,
        GlobalConcurrencyLimit,
        TakenSlots,
    )


_limit = a(lambda: models.ConcurrencyLimit)
_global_limit = a(lambda: models.GlobalConcurrencyLimit)
_taken = list_of(lambda: models.TakenSlots)

_LOOK = "read_global_concurrency_limit_by_name"


def _taken_slots(
    place: Path, names: Iterable[str], look: str, **body: Any
) -> Call[ModelList[TakenSlots]]:
    json = {"names": as_list(names, "names"), **body}
    return Call("POST", place, _taken, json=json, look=look)


@operation
def create_concurrency_limit(tag: str, concurrency_limit: int) -> Call[UUID]:
    """Create or update the limit on concurrent task runs with a tag; return its id."""
    return Call(
        "POST",
        path("/concurrency_limits/"),
        lambda response: _limit(response).id,
        repeatable=True,  # identified by its tag
        json={"tag": tag, "concurrency_limit": concurrency_limit},
    )


@operation
def read_concurrency_limit_by_tag(tag: str) -> Call[ConcurrencyLimit]:
    """Read the limit for a tag.

    Raises:
        ObjectNotFound: there is no limit for that tag.
    """
    return get(
        path("/concurrency_limits/tag/{}", tag), _limit, named("concurrency limit for the tag", tag)
    )


@operation
def read_concurrency_limits(
    limit: int | None = None, offset: int = 0
) -> Call[ModelList[ConcurrencyLimit]]:
    """Read the limits for tags. With ``limit=None`` the server decides how many.

    Prefect's server, as of 3.8, counts global limits too and then leaves them out: a page can have
    fewer than ``limit`` although the next one has more.
    """
    return search(
        path("/concurrency_limits/filter"),
        list_of(lambda: models.ConcurrencyLimit),
        limit=limit,
        offset=offset,
    )


@operation
def reset_concurrency_limit_by_tag(
    tag: str, slot_override: Iterable[UUID | str] | None = None
) -> Call[None]:
    """Free the slots of the limit for a tag.

    Args:
        slot_override: ids of task runs that hold slots from now on. A task run that is not running
            never releases its slot.

    Raises:
        ObjectNotFound: there is no limit for that tag.
    """
    return Call(
        "POST",
        path("/concurrency_limits/tag/{}/reset", tag),
        nothing,
        repeatable=True,  # it sets the slots
        json=without_none(
            slot_override=None if slot_override is None else [str(slot) for slot in slot_override]
        ),
        missing=named("concurrency limit for the tag", tag),
    )


@operation
def delete_concurrency_limit_by_tag(tag: str) -> Call[None]:
    """Delete the limit for a tag.

    Raises:
        ObjectNotFound: there is no limit for that tag.
    """
    return delete(
        path("/concurrency_limits/tag/{}", tag), named("concurrency limit for the tag", tag)
    )


@operation
def increment_v1_concurrency_slots(
    names: Iterable[str], task_run_id: UUID | str
) -> Call[ModelList[TakenSlots]]:
    """Take a slot of each tag's limit, on behalf of a task run.

    Release them with `decrement_v1_concurrency_slots`: they stay taken when the run ends. The result
    leaves out tags without a limit.

    Args:
        names: the tags.

    Raises:
        PrefectHTTPStatusError: 423, a tag has no free slot; none was taken.
    """
    look = "read_concurrency_limit_by_tag"
    place = path("/concurrency_limits/increment")
    return _taken_slots(place, names, look, task_run_id=str(task_run_id))


@operation
def decrement_v1_concurrency_slots(
    names: Iterable[str], task_run_id: UUID | str, occupancy_seconds: float
) -> Call[ModelList[TakenSlots]]:
    """Release all slots that a task run holds of the limits for some tags.

    Slots that were taken in one call are released together, including those of tags not named here.
    In the result a tag can be called ``tag:x``, the name of its limit among the global ones.

    Args:
        names: the tags.
        occupancy_seconds: how long the slots were held.
    """
    return Call(
        "POST",
        path("/concurrency_limits/decrement"),
        _taken,
        repeatable=True,  # the second time there is nothing left to release
        json={
            "names": as_list(names, "names"),
            "task_run_id": str(task_run_id),
            "occupancy_seconds": occupancy_seconds,
        },
    )


@operation
def create_global_concurrency_limit(
    concurrency_limit: Data | str | None = None,
    *,
    name: str | None = None,
    limit: int | None = None,
    active: bool | None = None,
    active_slots: int | None = None,
    slot_decay_per_second: float | None = None,
) -> Generator[Call[Any], Any, UUID]:
    """Create a global concurrency limit and return its id.

    Args:
        concurrency_limit: the limit's name, or its fields.
        limit: the number of slots.
        slot_decay_per_second: how fast taken slots become free by themselves, for rate limits.

    Raises:
        ObjectAlreadyExists: a global concurrency limit with that name already exists.
        TypeError: name or limit is missing.
    """
    fields = fields_of(
        concurrency_limit,
        name=name,
        limit=limit,
        active=active,
        active_slots=active_slots,
        slot_decay_per_second=slot_decay_per_second,
    )
    required(fields, "name", "limit")
    create = Call(
        "POST",
        path("/v2/concurrency_limits/"),
        _global_limit,
        repeatable=True,  # identified by its name
        json=fields,
        conflict=f"A global concurrency limit {quoted(fields['name'])} already exists",
    )
    again = read_global_concurrency_limit_by_name(fields["name"])
    return (yield from created_once(create, again)).id


@operation
def read_global_concurrency_limit_by_name(name: str) -> Call[GlobalConcurrencyLimit]:
    """Read a global concurrency limit by its name.

    Raises:
        ObjectNotFound: there is no global concurrency limit with that name.
    """
    return get(
        path("/v2/concurrency_limits/{}", name),
        _global_limit,
        named("global concurrency limit", name),
    )


@operation
def read_global_concurrency_limits(
    limit: int = 10, offset: int = 0
) -> Call[ModelList[GlobalConcurrencyLimit]]:
    """Read global concurrency limits."""
    return search(
        path("/v2/concurrency_limits/filter"),
        list_of(lambda: models.GlobalConcurrencyLimit),
        limit=limit,
        offset=offset,
    )


@operation
def update_global_concurrency_limit(
    name: str,
    concurrency_limit: Data | None = None,
    *,
    limit: int | Unchanged = UNCHANGED,
    active: bool | Unchanged = UNCHANGED,
    active_slots: int | Unchanged = UNCHANGED,
    slot_decay_per_second: float | Unchanged = UNCHANGED,
) -> Call[None]:
    """Update a global concurrency limit: ``update_global_concurrency_limit("database", limit=3)``.

    Raises:
        ObjectNotFound: there is no global concurrency limit with that name.
        ValueError: no changes are given.
    """
    return change(
        path("/v2/concurrency_limits/{}", name),
        changes_of(
            concurrency_limit,
            limit=limit,
            active=active,
            active_slots=active_slots,
            slot_decay_per_second=slot_decay_per_second,
        ),
        named("global concurrency limit", name),
    )


@operation
def upsert_global_concurrency_limit_by_name(
    name: str, limit: int, slot_decay_per_second: float | None = None
) -> Generator[Call[Any], Any, None]:
    """Create a global concurrency limit, or update the one with that name."""
    changes = without_none(limit=limit, slot_decay_per_second=slot_decay_per_second)
    try:
        yield from update_global_concurrency_limit(name, changes)
    except ObjectNotFound:
        try:
            yield from create_global_concurrency_limit(name, **changes)
        except ObjectAlreadyExists:  # created by someone else in the meantime
            yield from update_global_concurrency_limit(name, changes)


@operation
def delete_global_concurrency_limit_by_name(name: str) -> Call[None]:
    """Delete a global concurrency limit.

    Raises:
        ObjectNotFound: there is no global concurrency limit with that name.
    """
    return delete(path("/v2/concurrency_limits/{}", name), named("global concurrency limit", name))


@operation
def increment_concurrency_slots(
    names: Iterable[str], slots: int, mode: Literal["concurrency", "rate_limit"]
) -> Call[ModelList[TakenSlots]]:
    """Take slots of global concurrency limits; release them with `release_concurrency_slots`.

    The result leaves out names without a limit.

    Raises:
        PrefectHTTPStatusError: 423, there are not enough free slots; none were taken.
    """
    place = path("/v2/concurrency_limits/increment")
    return _taken_slots(place, names, _LOOK, slots=slots, mode=mode)


@operation
def release_concurrency_slots(
    names: Iterable[str], slots: int, occupancy_seconds: float
) -> Call[ModelList[TakenSlots]]:
    """Release slots of global concurrency limits.

    Args:
        occupancy_seconds: how long the slots were held.
    """
    place = path("/v2/concurrency_limits/decrement")
    return _taken_slots(place, names, _LOOK, slots=slots, occupancy_seconds=occupancy_seconds)


@operation
def increment_concurrency_slots_with_lease(
    names: Iterable[str],
    slots: int,
    mode: Literal["concurrency", "rate_limit"],
    lease_duration: float,
    holder: Data | None = None,
) -> Call[ConcurrencyLease]:
    """Take slots of global concurrency limits for some time; then the server releases them.

    Args:
        lease_duration: seconds; `renew_concurrency_lease` extends it.
        holder: who holds the slots: ``type`` (``flow_run``, ``task_run``, ``deployment``) and ``id``.

    Raises:
        PrefectHTTPStatusError: 423, there are not enough free slots; none were taken.
    """
    return Call(
        "POST",
        path("/v2/concurrency_limits/increment-with-lease"),
        a(lambda: models.ConcurrencyLease),
        json=without_none(
            names=as_list(names, "names"),
            slots=slots,
            mode=mode,
            lease_duration=lease_duration,
            holder=holder,
        ),
        look=_LOOK,
    )


@operation
def renew_concurrency_lease(lease_id: UUID | str, lease_duration: float) -> Call[None]:
    """Keep a lease's slots for this many seconds from now.

    Raises:
        PrefectHTTPStatusError: 410, the lease has ended.
    """
    return Call(
        "POST",
        path("/v2/concurrency_limits/leases/{}/renew", lease_id),
        nothing,
        repeatable=True,  # it sets the end time
        json={"lease_duration": lease_duration},
    )


@operation
def release_concurrency_slots_with_lease(lease_id: UUID | str) -> Call[None]:
    """Release a lease's slots; does nothing if the lease has ended."""
    return Call(
        "POST",
        path("/v2/concurrency_limits/decrement-with-lease"),
        nothing,
        repeatable=True,  # a lease ends once
        json={"lease_id": str(lease_id)},
    )


class ConcurrencyOperations:
    """Concurrency limits, by tag and global."""

    create_concurrency_limit = create_concurrency_limit
    read_concurrency_limit_by_tag = read_concurrency_limit_by_tag
    read_concurrency_limits = read_concurrency_limits
    reset_concurrency_limit_by_tag = reset_concurrency_limit_by_tag
    delete_concurrency_limit_by_tag = delete_concurrency_limit_by_tag
    increment_v1_concurrency_slots = increment_v1_concurrency_slots
    decrement_v1_concurrency_slots = decrement_v1_concurrency_slots
    create_global_concurrency_limit = create_global_concurrency_limit
    read_global_concurrency_limit_by_name = read_global_concurrency_limit_by_name
    read_global_concurrency_limits = read_global_concurrency_limits
    update_global_concurrency_limit = update_global_concurrency_limit
    upsert_global_concurrency_limit_by_name = upsert_global_concurrency_limit_by_name
    delete_global_concurrency_limit_by_name = delete_global_concurrency_limit_by_name
    increment_concurrency_slots = increment_concurrency_slots
    release_concurrency_slots = release_concurrency_slots
    increment_concurrency_slots_with_lease = increment_concurrency_slots_with_lease
    renew_concurrency_lease = renew_concurrency_lease
    release_concurrency_slots_with_lease = release_concurrency_slots_with_lease
