"""Parse points in time as people write them."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import Any, TypeAlias

from orchnb.http.json_values import plain_datetime

When: TypeAlias = datetime | date | timedelta | str
"""A point in time: a datetime, a date (its beginning), a timedelta (how long ago), or words such as
``"1h"``, ``"2d12h"``, ``"3 min ago"``, ``"today"``, ``"2026-11-01"``. Without a time zone, the local one
is meant."""

ToCome: TypeAlias = When
"""A point in the future: like `When`, but a length (``"1h"``, ``"in 2d12h"``, a timedelta) counts from
now."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_UNIT = r"(s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?|w(?:eeks?)?)(?![a-z])"
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*{_UNIT}\s*", re.IGNORECASE)
_LENGTH = re.compile(rf"(?:{_PART.pattern})+", re.IGNORECASE)


def moment(when: When, *, now: datetime | None = None) -> datetime:
    """Return the point in time as a datetime with a time zone. ``now`` is the present by default.

    Raises:
        ValueError: the text is not a point in time; the message says what would be.
        TypeError: ``when`` has another type.
    """
    present = now if now is not None else datetime.now(timezone.utc)
    if isinstance(when, datetime):
        return _local(when)
    if isinstance(when, date):
        return _local(datetime(when.year, when.month, when.day))
    if isinstance(when, timedelta):
        return _before(present, when, repr(when))
    if not isinstance(when, str):
        raise TypeError(
            "a point in time should be a datetime, a date, a timedelta or a string, "
            f"not {type(when).__name__}"
        )
    words = when.strip().lower().removesuffix(" ago").strip()
    if _LENGTH.fullmatch(words):
        try:
            return _before(present, _length(words), repr(when))
        except OverflowError:
            raise _too_far(repr(when)) from None
    if words == "now":
        return present
    if words in ("today", "yesterday"):
        midnight = present.astimezone().replace(
            hour=0, minute=0, second=0, microsecond=0, tzinfo=None
        )
        days = 1 if words == "yesterday" else 0
        return (
            midnight - timedelta(days=days)
        ).astimezone()  # that day's offset, in case the clocks were changed
    try:
        # Python 3.10 does not accept Z.
        found = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", when.strip()))
    except ValueError:
        raise ValueError(
            f"{when!r} is not a point in time; write how long ago ('90s', '30m', '1h', '2d12h', '1w'), "
            "'today', 'yesterday', or a date such as '2026-11-01' or '2026-11-01T09:30+01:00'"
        ) from None
    return _local(found)


def as_moment(value: Any) -> Any:
    """Return a time for a field of the API: a point in time as `moment` returns it; anything else, such
    as a number, unchanged.

    Raises:
        ValueError: the text is not a point in time.
    """
    return moment(value) if isinstance(value, (str, date, timedelta)) else value


def to_come(when: ToCome, *, now: datetime | None = None) -> datetime:
    """Return a point in the future: a length, such as ``"1h"``, ``"in 1h"`` or a timedelta, counts from
    now. Everything else is as in `moment`.

    Raises:
        ValueError: the text is not a point in time, or it is beyond the year 9999.
        TypeError: ``when`` has another type.
    """
    present = now if now is not None else datetime.now(timezone.utc)
    words = when.strip().lower().removeprefix("in ").strip() if isinstance(when, str) else ""
    try:
        if isinstance(when, timedelta):
            return present + when
        if _LENGTH.fullmatch(words):
            return present + _length(words)
    except OverflowError:
        raise ValueError(f"{when!r} from now is beyond the year 9999") from None
    return moment(when, now=present)


def ago(then: datetime, now: datetime) -> str:
    """Return the distance between two points in time in words: ``3 min ago``, ``in 2 h``."""
    seconds = (now - then).total_seconds()
    amount = abs(seconds)
    if amount < 1:
        return "just now"
    for length, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s")):
        if amount >= length:
            words = f"{int(amount // length)} {unit}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    raise AssertionError("one of the units always fits")


def _local(when: datetime) -> datetime:
    """Return the datetime in the local time zone, which is also assumed if it has none."""
    try:
        return plain_datetime(when).astimezone()
    except (ValueError, OverflowError, OSError):  # which one depends on the system
        raise ValueError(
            f"{when} is too close to the limits of the years 1 to 9999 to change its time zone"
        ) from None


def _length(words: str) -> timedelta:
    parts = {"seconds": 0.0}
    for amount, unit in _PART.findall(words):
        name = _UNITS[unit[0].lower()]
        parts[name] = parts.get(name, 0.0) + float(amount)
    return timedelta(**parts)


def _before(present: datetime, length: timedelta, words: str) -> datetime:
    try:
        return present - length
    except OverflowError:
        raise _too_far(words) from None


def _too_far(words: str) -> ValueError:
    return ValueError(f"{words} ago is not within the years 1 to 9999")
