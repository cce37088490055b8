"""The card that says what to write where an ``await`` is missing, or is one too many."""

from __future__ import annotations

from collections.abc import Sequence

from orchnb.notebook.views.model import Card, clean

_MOST_LINES = 5
_LONGEST = 300


def await_card(lines: Sequence[str], *, is_missing: bool, failed: bool = False) -> Card:
    """Return the card with the lines to write.

    Args:
        is_missing: an ``await`` is missing; otherwise there is one too many.
        failed: it belongs to an error, whose traceback follows.
    """
    rows = [("Write", clean(line, _LONGEST)) for line in lines[:_MOST_LINES]]
    if len(lines) > _MOST_LINES:
        rows.append(("", f"and {len(lines) - _MOST_LINES} more"))
    if not is_missing:
        title, note = "This client needs no await", "The client of get_client() is awaited."
    else:
        title = "An await is missing, so nothing was sent"
        note = "Without await: orchnb.get_client(sync_client=True)."
    return Card(title, "error" if failed else "warn", rows, notes=(note,))
