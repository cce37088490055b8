"""Schedules of deployments, as plain data or as Prefect's objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Protocol, TypeAlias

from pydantic import BaseModel

from orchnb.api.models.base import Model
from orchnb.api.times import as_moment


class Dataclass(Protocol):
    """A dataclass instance, such as Prefect's ``Cron(...)``."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


ScheduleLike: TypeAlias = Mapping[str, Any] | BaseModel | Dataclass | tuple[Any, bool]
"""``{"interval": timedelta(hours=1)}`` (or seconds), ``{"cron": "0 6 * * *", "timezone": "Asia/Tokyo"}``
or ``{"rrule": "FREQ=DAILY"}``, each optionally with ``active``, ``parameters``, ``max_scheduled_runs``
and ``slug``; a schedule that was read; one of Prefect's objects, such as ``Cron(...)``; or a pair of
one of these and whether it is active. An ``anchor_date`` without a time zone is in local time."""

_ABOUT = {
    "interval": ("interval", "anchor_date", "timezone"),
    "cron": ("cron", "timezone", "day_or"),
    "rrule": ("rrule", "timezone"),
}
_OPTIONS = ("active", "max_scheduled_runs", "parameters", "slug", "replaces")


def as_seconds(length: timedelta | float) -> float:
    """Return a length of time in seconds; a number is in seconds already."""
    return length.total_seconds() if isinstance(length, timedelta) else length


def as_schedules(schedules: Iterable[ScheduleLike]) -> list[dict[str, Any]]:
    """Return the schedules of a deployment in the API's form.

    Raises:
        TypeError, ValueError: a schedule is invalid.
    """
    if isinstance(schedules, (str, Mapping, BaseModel)):
        raise TypeError('schedules should be a list: [{"cron": "0 6 * * *"}]')
    return [as_deployment_schedule(schedule) for schedule in schedules]


def as_deployment_schedule(schedule: ScheduleLike) -> dict[str, Any]:
    """Return a schedule with a deployment's fields for it (``active``, ``slug``, ...)."""
    if isinstance(schedule, tuple):
        inner, active = schedule
        return {**as_deployment_schedule(inner), "active": active}
    data = _data_of(schedule)
    options = {name: data.pop(name) for name in _OPTIONS if name in data}
    when = data if data.get("schedule") is None else _data_of(data["schedule"])
    return {
        **{name: value for name, value in options.items() if value is not None},
        "schedule": _when(when, of_an_object=not isinstance(schedule, Mapping)),
    }


def as_schedule(schedule: ScheduleLike) -> dict[str, Any]:
    """Return only the schedule, in the API's form.

    Raises:
        TypeError: it is neither a mapping nor a model.
        ValueError: it does not have exactly one of interval, cron and rrule, or has an unknown key.
    """
    return _when(_data_of(schedule), of_an_object=not isinstance(schedule, Mapping))


def _when(data: dict[str, Any], *, of_an_object: bool) -> dict[str, Any]:
    data = {name: value for name, value in data.items() if value is not None}
    kinds = [kind for kind in _ABOUT if kind in data]
    if len(kinds) != 1:
        raise ValueError(
            "A schedule should have one of interval, cron and rrule; "
            f"it has {' and '.join(kinds) or 'none'}"
        )
    (kind,) = kinds
    known = _ABOUT[kind]
    if of_an_object:  # it can have the fields of all kinds, and others
        data = {name: value for name, value in data.items() if name in known}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise ValueError(
            f"A schedule with {kind} also takes {' and '.join(known[1:])}; "
            f"it has {' and '.join(unknown)}"
        )
    if isinstance(data.get("interval"), timedelta):
        data["interval"] = data["interval"].total_seconds()
    if "anchor_date" in data:
        data["anchor_date"] = as_moment(data["anchor_date"])
    return data


def _data_of(schedule: ScheduleLike) -> dict[str, Any]:
    if isinstance(schedule, Mapping):
        return dict(schedule)
    if isinstance(schedule, Model):
        return schedule.model_dump(exclude_unset=True)
    if isinstance(schedule, BaseModel):
        inner = getattr(schedule, "schedule", None)
        if inner is None:
            # Including defaults: an interval schedule of Prefect's counts from when it was made.
            return schedule.model_dump()
        return {**schedule.model_dump(exclude_unset=True), "schedule": inner}
    if dataclasses.is_dataclass(schedule) and not isinstance(schedule, type):
        return dataclasses.asdict(schedule)
    raise TypeError(
        "A schedule should be a mapping with interval, cron or rrule, or a Prefect schedule object, "
        f"not {type(schedule).__name__}"
    )
