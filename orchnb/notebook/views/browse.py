"""The view of flow runs that were found, page by page."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from orchnb.notebook.views.model import Line, Table
from orchnb.notebook.views.objects import MOST_ROWS, model_table

if TYPE_CHECKING:
    from orchnb.runs.browsing import FoundRuns


def found_table(found: FoundRuns, first: int = 0, now: datetime | None = None) -> Table | Line:
    """Return a table of the runs of one page, and how many there are in all.

    Args:
        first: the place of the first run that is shown.
        now: the present, by default.
    """
    if not found:
        among = f" among {found.total:,}" if found.total else ""
        return Line(" ".join(filter(None, (f"No flow run was found{among}.", found.note))), "warn")
    present = now if now is not None else datetime.now(timezone.utc)
    last = min(first + MOST_ROWS, len(found))
    table = model_table(found[first:last], present)
    assert isinstance(table, Table), "only log lines are shown otherwise"
    shown = f"{first + 1:,} to {last:,} of the " if last - first < len(found) else ""
    many = f"{len(found):,} flow run{'' if len(found) == 1 else 's'} found"
    if found.looked_at > len(found):
        many += f" among the newest {found.looked_at:,}"
    _, _, moment = table.caption.rpartition(", as of ")
    caption = f"{shown}{many}, newest first; {found.total:,} in all, as of {moment}"
    return dataclasses.replace(table, caption=" ".join(filter(None, (caption, found.note))))
