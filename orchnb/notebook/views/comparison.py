"""The table of what differs between two flow runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orchnb.notebook.views.model import Card, Table, TableCell, clean
from orchnb.notebook.views.words import in_words, length
from orchnb.runs.comparison import Difference, RunComparison

_MOST_ROWS = 40
_MOST_SAME = 12


def run_comparison_card(found: RunComparison) -> Card:
    """Return the card of a comparison."""
    names = [clean(run.name or str(run.id), 40) for run in (found.first, found.second)]
    if names[0] == names[1]:
        names = [f"{names[0]} ({str(run.id)[:8]})" for run in (found.first, found.second)]
    shown = found.differences[:_MOST_ROWS]
    rows = [_row(each) for each in shown]
    notes = []
    if len(found.differences) > len(shown):
        notes.append(f"{len(found.differences) - len(shown):,} more differences are in the result.")
    if found.same:
        same = clean(", ".join(found.same[:_MOST_SAME]), 300)
        more = len(found.same) - _MOST_SAME
        notes.append(f"The same: {same}" + (f" and {more:,} more." if more > 0 else "."))
    if found.is_cut:
        notes.append("Not all task runs were read: max_tasks reads more.")
    return Card(
        f"{names[0]} and {names[1]}: {_count(len(found.differences))}",
        table=Table(("", "", *names, ""), rows) if rows else None,
        notes=notes,
    )


def _count(number: int) -> str:
    return f"{number:,} difference{'s' * (number != 1)}" if number else "no differences"


def _row(each: Difference) -> tuple[str | TableCell, ...]:
    return (
        each.kind,
        clean(each.name, 80),
        _value(each.first),
        _value(each.second),
        _change(each),
    )


def _value(value: Any) -> str | TableCell:
    if value is None:
        return "–"
    if isinstance(value, timedelta):
        return length(value)
    short, whole = in_words(value, 60), in_words(value, 500)
    return short if short == whole else TableCell(short, title=whole)


def _change(each: Difference) -> str:
    seconds = each.seconds
    if seconds is None:
        return ""
    sign = "+" if seconds > 0 else "−"
    words = f"{sign}{length(timedelta(seconds=abs(seconds)))}"
    first = each.first.total_seconds()
    if first > 0 and seconds > 0 and seconds / first >= 1:
        return f"{words} ({(first + seconds) / first:,.1f} times as long)"
    return words
