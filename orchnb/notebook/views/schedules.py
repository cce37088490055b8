"""Schedules in words: ``every day at 6:00 Europe/Vienna``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from orchnb.api.models import CronSchedule, IntervalSchedule, RRuleSchedule
from orchnb.notebook.views.model import clean
from orchnb.notebook.views.words import in_words

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def schedule_in_words(schedule: Any) -> str:
    """Return when a schedule creates runs. A rule that is too complex for a short sentence is shown as it
    is."""
    zone = clean(getattr(schedule, "timezone", None) or "", 40)
    if isinstance(schedule, CronSchedule):
        words = _cron(schedule.cron)
        return f"{words} {zone or 'UTC'}" if words else clean(f"cron {schedule.cron} {zone}", 80)
    if isinstance(schedule, IntervalSchedule):
        return _every(schedule.interval) if isinstance(schedule.interval, timedelta) else ""
    if isinstance(schedule, RRuleSchedule):
        words = _rrule(schedule.rrule)
        return f"{words} {zone}".strip() if words else clean(f"rule {schedule.rrule} {zone}", 80)
    return in_words(schedule)


def _every(interval: timedelta) -> str:
    seconds = interval.total_seconds()
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0:
            return _each(int(seconds // size), unit)
    return f"every {seconds:g} seconds"


def _each(count: int, unit: str) -> str:
    return f"every {unit}" if count == 1 else f"every {count:,} {unit}s"


def _cron(cron: str) -> str:
    """Return a cron expression in words; an empty string if it is not a common one."""
    fields = _NICKNAMES.get(cron.strip().lower(), cron).split()
    if len(fields) != 5 or len(cron) > 100:
        return ""
    minute, hour, day, month, weekday = fields
    days = _days(day, month, weekday)
    if not days:
        return ""
    if _numbers(minute) and _numbers(hour):
        times = [f"{h}:{m:02}" for h in _numbers(hour) for m in _numbers(minute)]
        return f"{days} at {_listed(times)}" if len(times) <= 6 else ""
    often = _often(minute, hour)
    if not often:
        return ""
    return often if days == "every day" else f"{days} {often}"


def _often(minute: str, hour: str) -> str:
    """Return how often on a day, for times that are given as steps."""
    if hour == "*":
        if minute == "*":
            return "every minute"
        if step := _step(minute):
            return _each(step, "minute")
        at = _numbers(minute)
        if at == [0]:
            return "every hour"
        return f"every hour at minute {_listed(list(map(str, at)))}" if at else ""
    if (step := _step(hour)) and _numbers(minute):
        often = _each(step, "hour")
        minutes = _numbers(minute)
        return often if minutes == [0] else f"{often} at minute {_listed(list(map(str, minutes)))}"
    return ""


def _days(day: str, month: str, weekday: str) -> str:
    if month != "*":
        months = _numbers(month)
        date = _numbers(day)
        if weekday != "*" or len(date) != 1 or not months or not all(1 <= m <= 12 for m in months):
            return ""
        return f"every {_listed([f'{_MONTHS[m - 1]} {date[0]}' for m in months])}"
    if day == "*":
        return "every day" if weekday == "*" else _weekdays(weekday)
    dates = _numbers(day)
    if not dates or weekday != "*":
        return ""
    return f"on day {_listed(list(map(str, dates)))} of every month"


def _weekdays(field: str) -> str:
    names = re.sub(
        "[a-z]{3}",
        lambda found: str(
            next((n for n, day in enumerate(_DAYS) if day[:3].lower() == found[0]), "?")
        ),
        field.lower(),
    )
    if span := re.fullmatch(r"([0-7])-([0-7])", names):
        return f"{_DAYS[int(span[1])]} to {_DAYS[int(span[2])]}"
    days = _numbers(names)
    if not days or max(days) > 7:
        return ""
    return f"every {_listed([_DAYS[day] for day in days])}"


def _numbers(field: str) -> list[int]:
    """Return the numbers of a field such as ``6`` or ``6,18``; none for any other field."""
    return (
        [int(part) for part in field.split(",")] if re.fullmatch(r"\d\d?(,\d\d?)*", field) else []
    )


def _step(field: str) -> int:
    found = re.fullmatch(r"\*/(\d\d?)", field)
    return int(found[1]) if found else 0


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


_FREQUENCIES = {
    "MINUTELY": "minute",
    "HOURLY": "hour",
    "DAILY": "day",
    "WEEKLY": "week",
    "MONTHLY": "month",
    "YEARLY": "year",
}


def _rrule(rule: str) -> str:
    """Return a recurrence rule in words if it has only a frequency and an interval."""
    lines = [line for line in rule[:500].splitlines() if not line.upper().startswith("DTSTART")]
    text = lines[0].upper().removeprefix("RRULE:") if len(lines) == 1 else ""
    parts: dict[str, str] = {}
    for part in text.split(";"):
        name, _, value = part.partition("=")
        parts[name] = value
    unit = _FREQUENCIES.get(parts.pop("FREQ", ""))
    interval = parts.pop("INTERVAL", "1")
    if unit is None or parts or not re.fullmatch(r"[1-9]\d{0,3}", interval):
        return ""
    return _each(int(interval), unit)
