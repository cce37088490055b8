"""Limits to how much may run at once: by tag, and global ones."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from orchnb.api import models
from orchnb.api.calls import Call, a, created_once, list_of, nothing, path, quoted, without_none
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.fields import (
    UNCHANGED,
    Data,
    Unchanged,
    changes_of,
    fields_of,
    required,
)
from orchnb.errors import ObjectAlreadyExists, ObjectNotFound

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


def _missing_tag(tag: object) -> str:
    return f"concurrency limit for the tag {quoted(tag)}"


def _missing_limit(name: object) -> str:
    return f"global concurrency limit {quoted(name)}"


def _names(names: Iterable[str]) -> list[str]:
    if isinstance(names, str):
        raise TypeError(f"names should be a list of texts: [{names!r}]")
    return list(names)


@operation
def create_concurrency_limit(tag: str, concurrency_limit: int) -> Call[UUID]:
    """Limit how many task runs with a tag may run at once, or change that limit; its id."""
    return Call(
        "POST",
        path("/concurrency_limits/"),
        lambda response: _limit(response).id,
        repeatable=True,  # by its tag
        json={"tag": tag, "concurrency_limit": concurrency_limit},
    )


@operation
def read_concurrency_limit_by_tag(tag: str) -> Call[ConcurrencyLimit]:
    """Read the limit for a tag.

    Raises:
        ObjectNotFound: there is none.
    """
    return Call("GET", path("/concurrency_limits/tag/{}", tag), _limit, missing=_missing_tag(tag))


@operation
def read_concurrency_limits(
    limit: int | None = None, offset: int = 0
) -> Call[ModelList[ConcurrencyLimit]]:
    """Read the limits for tags. ``limit`` None leaves the number to the server.

    Prefect's server, 3.8 at least, counts global limits too and leaves them out afterwards: there
    may be fewer than ``limit`` on a page, and more on the next one.
    """
    return Call(
        "POST",
        path("/concurrency_limits/filter"),
        list_of(lambda: models.ConcurrencyLimit),
        repeatable=True,
        json=without_none(limit=limit, offset=offset),
    )


@operation
def reset_concurrency_limit_by_tag(
    tag: str, slot_override: Iterable[UUID | str] | None = None
) -> Call[None]:
    """Free the slots of the limit for a tag.

    Args:
        slot_override: ids of task runs that take slots from now on. One that does not run never
            gives its slot back.

    Raises:
        ObjectNotFound: there is none for that tag.
    """
    return Call(
        "POST",
        path("/concurrency_limits/tag/{}/reset", tag),
        nothing,
        repeatable=True,  # it sets the slots
        json=without_none(
            slot_override=None if slot_override is None else [str(slot) for slot in slot_override]
        ),
        missing=_missing_tag(tag),
    )


@operation
def delete_concurrency_limit_by_tag(tag: str) -> Call[None]:
    """Delete the limit for a tag.

    Raises:
        ObjectNotFound: there is none.
    """
    return Call(
        "DELETE", path("/concurrency_limits/tag/{}", tag), nothing, missing=_missing_tag(tag)
    )


@operation
def increment_v1_concurrency_slots(
    names: Iterable[str], task_run_id: UUID | str
) -> Call[ModelList[TakenSlots]]:
    """Take a slot of the limit for each of some tags, in the name of a task run.

    Give them back with `decrement_v1_concurrency_slots`: they stay taken when the run ends. Tags
    without a limit are left out of the result: nothing limits them.

    Args:
        names: the tags.

    Raises:
        PrefectHTTPStatusError: 423, a tag has no free slot; none was taken.
    """
    return Call(
        "POST",
        path("/concurrency_limits/increment"),
        _taken,
        json={"names": _names(names), "task_run_id": str(task_run_id)},
        look="read_concurrency_limit_by_tag",
    )


@operation
def decrement_v1_concurrency_slots(
    names: Iterable[str], task_run_id: UUID | str, occupancy_seconds: float
) -> Call[ModelList[TakenSlots]]:
    """Give back all slots that a task run takes of the limits for some tags.

    Slots that it took in one call are given back together, also those of tags that are not named.
    In the result a tag may be called ``tag:x``, the name that its limit has among the global ones.

    Args:
        names: the tags.
        occupancy_seconds: how long they were taken.
    """
    return Call(
        "POST",
        path("/concurrency_limits/decrement"),
        _taken,
        repeatable=True,  # done twice, the run takes none
        json={
            "names": _names(names),
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
        concurrency_limit: its name, or its fields.
        limit: how many slots there are.
        slot_decay_per_second: how fast taken slots become free by themselves, for rate limits.

    Raises:
        ObjectAlreadyExists: there is one of that name.
        TypeError: name or limit are missing.
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
        repeatable=True,  # by its name
        json=fields,
        conflict=f"There is a global concurrency limit {quoted(fields['name'])} already",
    )
    again = read_global_concurrency_limit_by_name(fields["name"])
    return (yield from created_once(create, again)).id


@operation
def read_global_concurrency_limit_by_name(name: str) -> Call[GlobalConcurrencyLimit]:
    """Read a global concurrency limit by its name.

    Raises:
        ObjectNotFound: there is none of that name.
    """
    return Call(
        "GET",
        path("/v2/concurrency_limits/{}", name),
        _global_limit,
        missing=_missing_limit(name),
    )


@operation
def read_global_concurrency_limits(
    limit: int = 10, offset: int = 0
) -> Call[ModelList[GlobalConcurrencyLimit]]:
    """Read global concurrency limits."""
    return Call(
        "POST",
        path("/v2/concurrency_limits/filter"),
        list_of(lambda: models.GlobalConcurrencyLimit),
        repeatable=True,
        json={"limit": limit, "offset": offset},
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
    """Change a global concurrency limit: ``update_global_concurrency_limit("database", limit=3)``.

    Raises:
        ObjectNotFound: there is none of that name.
        ValueError: there is nothing to change.
    """
    return Call(
        "PATCH",
        path("/v2/concurrency_limits/{}", name),
        nothing,
        json=changes_of(
            concurrency_limit,
            limit=limit,
            active=active,
            active_slots=active_slots,
            slot_decay_per_second=slot_decay_per_second,
        ),
        missing=_missing_limit(name),
    )


@operation
def upsert_global_concurrency_limit_by_name(
    name: str, limit: int, slot_decay_per_second: float | None = None
) -> Generator[Call[Any], Any, None]:
    """Make sure that there is a global concurrency limit like this, created or changed."""
    changes = without_none(limit=limit, slot_decay_per_second=slot_decay_per_second)
    try:
        yield from update_global_concurrency_limit(name, changes)
    except ObjectNotFound:
        try:
            yield from create_global_concurrency_limit(name, **changes)
        except ObjectAlreadyExists:  # somebody else was faster
            yield from update_global_concurrency_limit(name, changes)


@operation
def delete_global_concurrency_limit_by_name(name: str) -> Call[None]:
    """Delete a global concurrency limit.

    Raises:
        ObjectNotFound: there is none of that name.
    """
    return Call(
        "DELETE",
        path("/v2/concurrency_limits/{}", name),
        nothing,
        missing=_missing_limit(name),
    )


@operation
def increment_concurrency_slots(
    names: Iterable[str], slots: int, mode: Literal["concurrency", "rate_limit"]
) -> Call[ModelList[TakenSlots]]:
    """Take slots of global concurrency limits; give them back with `release_concurrency_slots`.

    Names without a limit are left out of the result: nothing limits them.

    Raises:
        PrefectHTTPStatusError: 423, there are not enough free slots; none was taken.
    """
    return Call(
        "POST",
        path("/v2/concurrency_limits/increment"),
        _taken,
        json={"names": _names(names), "slots": slots, "mode": mode},
        look="read_global_concurrency_limit_by_name",
    )


@operation
def release_concurrency_slots(
    names: Iterable[str], slots: int, occupancy_seconds: float
) -> Call[ModelList[TakenSlots]]:
    """Give slots of global concurrency limits back.

    Args:
        occupancy_seconds: how long they were taken.
    """
    return Call(
        "POST",
        path("/v2/concurrency_limits/decrement"),
        _taken,
        json={"names": _names(names), "slots": slots, "occupancy_seconds": occupancy_seconds},
        look="read_global_concurrency_limit_by_name",
    )


@operation
def increment_concurrency_slots_with_lease(
    names: Iterable[str],
    slots: int,
    mode: Literal["concurrency", "rate_limit"],
    lease_duration: float,
    holder: Data | None = None,
) -> Call[ConcurrencyLease]:
    """Take slots of global concurrency limits for a time; the server takes them back after it.

    Args:
        lease_duration: seconds; `renew_concurrency_lease` gives more.
        holder: who takes them: ``type`` (``flow_run``, ``task_run``, ``deployment``) and ``id``.

    Raises:
        PrefectHTTPStatusError: 423, there are not enough free slots; none was taken.
    """
    return Call(
        "POST",
        path("/v2/concurrency_limits/increment-with-lease"),
        a(lambda: models.ConcurrencyLease),
        json=without_none(
            names=_names(names),
            slots=slots,
            mode=mode,
            lease_duration=lease_duration,
            holder=holder,
        ),
        look="read_global_concurrency_limit_by_name",
    )


@operation
def renew_concurrency_lease(lease_id: UUID | str, lease_duration: float) -> Call[None]:
    """Keep the slots of a lease for this many seconds from now.

    Raises:
        PrefectHTTPStatusError: 410, the lease has ended.
    """
    return Call(
        "POST",
        path("/v2/concurrency_limits/leases/{}/renew", lease_id),
        nothing,
        repeatable=True,  # it sets the end
        json={"lease_duration": lease_duration},
    )


@operation
def release_concurrency_slots_with_lease(lease_id: UUID | str) -> Call[None]:
    """Give the slots of a lease back; of a lease that has ended there is nothing to give."""
    return Call(
        "POST",
        path("/v2/concurrency_limits/decrement-with-lease"),
        nothing,
        repeatable=True,  # a lease ends once
        json={"lease_id": str(lease_id)},
    )


class ConcurrencyOperations:
    """Limits to how much may run at once: by tag, and global ones."""

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
