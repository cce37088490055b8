"""Values of objects as short words, and as cells that also have the whole value.

Values come from JSON and are written so: ``true``, ``null``, ``"text"``. Times are absolute, because a
saved notebook is read later.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from orchnb.api.models import Model
from orchnb.notebook.views.model import TableCell, clean, duration
from orchnb.text import LONGEST_LOOKED_AT, printable

_SHORT_ID = 8
_SHORT_ID_OF_TIME = 13
_DEEPEST = 12
_LONGEST_PART = 60
_LARGEST = 200_000
"""Characters of a preformatted text that are looked at."""


def in_words(value: Any, longest: int = 120) -> str:
    """Return any value as one line of limited length; an empty string for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return exact(value)
    if isinstance(value, timedelta):
        return length(value)
    if isinstance(value, (str, UUID)):
        return clean(str(value), longest)
    if isinstance(value, (list, tuple, set, frozenset)):
        if all(isinstance(item, str) for item in value):
            return clean(_limited((f"{item}, " for item in value), longest)[:-2], longest)
        if len(value) == 1 and not isinstance(next(iter(value)), Mapping):
            return in_words(next(iter(value)), longest)
    if isinstance(value, (Mapping, Model)):
        fields = dict(fields_with_values(value)) if isinstance(value, Model) else value
        return assignments(fields, longest)
    return clean(_limited(_json(value, 0), longest), longest)


def assignments(values: Mapping[str, Any], longest: int, part: int = _LONGEST_PART) -> str:
    """Return names and values: ``day="2026-11-21", dry_run=false``. ``part`` limits each value."""
    pieces = (
        f"{'' if not number else ', '}{name}={_part(value, part)}"
        for number, (name, value) in enumerate(values.items())
    )
    return clean(_limited(pieces, longest), longest)


def _part(value: Any, longest: int) -> str:
    """Return a value as JSON. A long text is without its middle: paths differ at their ends."""
    if type(value) is not str:
        return clean(_limited(_json(value, 0), longest), longest)
    if len(value) > 4 * longest:
        value = value[: 2 * longest] + value[-2 * longest :]
    whole = clean("".join(_json(value, 0)), 8 * longest)
    if len(whole) <= longest:
        return whole
    return f"{whole[: longest // 2]}…{whole[-((longest - 1) // 2) :]}"


def _limited(pieces: Iterable[str], longest: int) -> str:
    """Join pieces until they are clearly longer than ``longest``."""
    joined, size = [], 0
    for piece in pieces:
        joined.append(piece)
        size += len(piece)
        if size > 4 * longest:
            break
    return "".join(joined)


def _json(value: Any, depth: int) -> Iterator[str]:
    """Yield a value as JSON, piece by piece, so that no more of it is written than is shown."""
    if depth > _DEEPEST:
        yield "…"
    elif isinstance(value, Mapping):
        yield "{"
        for number, (name, item) in enumerate(value.items()):
            yield f"{'' if not number else ', '}{name}: "
            yield from _json(item, depth + 1)
        yield "}"
    elif isinstance(value, (list, tuple, set, frozenset)):
        yield "["
        for number, item in enumerate(value):
            if number:
                yield ", "
            yield from _json(item, depth + 1)
        yield "]"
    elif isinstance(value, Model):
        yield from _json(dict(fields_with_values(value)), depth)
    elif isinstance(value, (datetime, timedelta)):
        yield in_words(value)
    elif isinstance(value, str) and type(value) is str:
        yield json.dumps(value[:LONGEST_LOOKED_AT], ensure_ascii=False)
    elif value is None or isinstance(value, (bool, float)):
        yield json.dumps(value)
    else:  # a whole number, an id, a member of an enumeration, a wrapped secret
        yield str(value)


def fields_with_values(model: Model) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a model that are neither None nor empty."""
    for name, value in model:
        if value is not None and value not in ("", [], {}, ()):
            yield name, value


def shortened(text: str, longest: int) -> str | TableCell:
    """Return a text; if it is longer, a cell with its beginning, and all of it in the tooltip."""
    whole = clean(text)
    short = clean(text, longest)
    return short if short == whole else TableCell(short, title=whole)


def short_form(ident: UUID) -> str:
    """Return the beginning of an id. Ids of version 7 begin with the time, which has twelve digits."""
    return str(ident)[: _SHORT_ID_OF_TIME if ident.version == 7 else _SHORT_ID]


def short_id(ident: UUID | None) -> str | TableCell:
    """Return the beginning of an id, with the whole one in the tooltip."""
    return TableCell(short_form(ident), ident=str(ident)) if ident is not None else ""


def as_local(moment: datetime) -> datetime:
    """Convert to the local time zone, except on the first and last representable day."""
    try:
        return moment.astimezone()
    except OverflowError:
        return moment


def exact(moment: datetime) -> str:
    """Return a point in time with its date and time zone."""
    return f"{as_local(moment):%Y-%m-%d %H:%M:%S %Z}"


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def at(moment: datetime | None, now: datetime) -> str | TableCell:
    """Return a point in time for a table: without the year if it is this year's."""
    if moment is None:
        return ""
    here = as_local(moment)
    is_this_year = here.year == as_local(now).year
    day = f"{_MONTHS[here.month - 1]} {here.day}" if is_this_year else f"{here:%Y-%m-%d}"
    return TableCell(f"{day} {here:%H:%M:%S}", title=exact(moment), on_one_line=True)


def length(span: timedelta | None) -> str:
    """Return a length of time; an empty string for none and for zero."""
    seconds = span.total_seconds() if isinstance(span, timedelta) else 0.0
    return f"-{duration(-seconds)}" if seconds < 0 else duration(seconds) if seconds else ""


def preformatted(text: str, longest: int = 6000) -> str:
    """Return a text of several lines for display; of a long one the beginning and the end."""
    if len(text) > _LARGEST:
        text = f"{text[: _LARGEST // 2]}\n…\n{text[-_LARGEST // 2 :]}"
    text = printable(text.replace("\t", "    ")).rstrip()
    if len(text) > longest:
        text = f"{text[: longest // 4]}\n…\n{text[-(3 * longest // 4) :]}"
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
