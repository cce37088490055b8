"""How a kind of object looks in tables and on cards: what their columns and rows are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from orchnb.notebook.views.model import TableCell, Tone, clean
from orchnb.notebook.views.run_cells import (
    page_link,
)
from orchnb.notebook.views.words import (
    at,
    in_words,
    short_id,
    shortened,
)

Shown = str | TableCell


class Around(NamedTuple):
    """What a view knows in addition to the object."""

    now: datetime
    ui_url: str | None = None
    longest: float = 0.0
    """Seconds of the longest run in a list of runs; 0 if there is nothing to compare."""


class Look(NamedTuple):
    """How objects of one kind look."""

    columns: Mapping[str, Callable[[Any, Around], Shown]]
    rows: Mapping[str, Callable[[Any, Around], Shown]]
    title: Callable[[Any], str] = lambda one: in_words(getattr(one, "name", ""), 80)
    tone: Callable[[Any], Tone] = lambda _: "plain"
    notes: Callable[[Any], Sequence[str]] = lambda _: ()


def field_cell(name: str, longest: int = 48) -> Callable[[Any, Around], Shown]:
    def show(one: Any, around: Around) -> Shown:
        value = getattr(one, name, None)
        if isinstance(value, datetime):
            return at(value, around.now)
        if isinstance(value, str):
            return shortened(value, longest)
        short, whole = in_words(value, longest), in_words(value, 500)
        return short if short == whole else TableCell(short, title=whole)

    return show


def whole_field(name: str, longest: int = 400) -> Callable[[Any, Around], Shown]:
    return lambda one, _: in_words(getattr(one, name, None), longest)


def linked_name(page: str, longest: int = 32) -> Callable[[Any, Around], Shown]:
    return lambda one, around: page_link(
        shortened(str(getattr(one, "name", None) or ""), longest), around.ui_url, page, one.id
    )


def ident_cell(one: Any, _: Around) -> Shown:
    return short_id(getattr(one, "id", None))


_STATUSES: dict[str, tuple[str, str, Tone]] = {
    "READY": ("✓", "Ready", "good"),
    "ONLINE": ("✓", "Online", "good"),
    "NOT_READY": ("!", "Not ready", "warn"),
    "PAUSED": ("◐", "Paused", "warn"),
    "OFFLINE": ("✗", "Offline", "error"),
    "ENABLED": ("✓", "Enabled", "good"),
    "DISABLED": ("◐", "Disabled", "warn"),
    "ACTIVE": ("✓", "Active", "good"),
    "INACTIVE": ("◐", "Inactive", "warn"),
    "CREATED": ("✓", "Created", "good"),
    "FAILED": ("✗", "Failed", "error"),
    "ACCEPT": ("✓", "Accepted", "good"),
    "REJECT": ("✗", "Rejected", "error"),
    "ABORT": ("✗", "Aborted", "error"),
    "WAIT": ("○", "To be asked again later", "idle"),
}


def status_cell(status: object, *, paused: object = False) -> Shown:
    text = "PAUSED" if paused is True else str(status or "")
    if not text:
        return ""
    sign, words, tone = _STATUSES.get(text, ("○", clean(text, 40), "idle"))
    return TableCell(f"{sign} {words}", tone, on_one_line=text in _STATUSES)


def status_tone(status: object, *, paused: object = False) -> Tone:
    shown = status_cell(status, paused=paused)
    return shown.tone or "plain" if isinstance(shown, TableCell) else "plain"
