"""When a deployment creates runs automatically."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, TypeAlias

from pydantic import Discriminator, Tag

from orchnb.api.models.base import LENIENT, NullIsDefault, Part, Time


class Schedule(Part):
    """A schedule of a kind that orchnb does not know."""


class IntervalSchedule(Schedule):
    """A run after each interval, counted from ``anchor_date``."""

    interval: Annotated[timedelta, NullIsDefault] = timedelta(0)
    anchor_date: Time | None = None
    timezone: str | None = None


class CronSchedule(Schedule):
    """Runs at the times that a cron expression describes."""

    cron: Annotated[str, NullIsDefault] = ""
    timezone: str | None = None
    day_or: Annotated[bool, NullIsDefault] = True
    """Whether a day that matches the day of the month or the day of the week is enough."""


class RRuleSchedule(Schedule):
    """Runs at the times that a recurrence rule describes (RFC 5545)."""

    rrule: Annotated[str, NullIsDefault] = ""
    timezone: str | None = None


def _kind_of(schedule: Any) -> str:
    for kind in ("interval", "cron", "rrule"):
        if kind in schedule if isinstance(schedule, Mapping) else hasattr(schedule, kind):
            return kind
    return ""


AnySchedule: TypeAlias = Annotated[
    Annotated[IntervalSchedule, Tag("interval")]
    | Annotated[CronSchedule, Tag("cron")]
    | Annotated[RRuleSchedule, Tag("rrule")]
    | Annotated[Schedule, Tag("")],
    Discriminator(_kind_of),
    LENIENT,
]
"""A schedule, recognized by the field that only its kind has."""
