"""The table of failed runs by cause."""

from __future__ import annotations

from datetime import datetime, timezone

from orchnb.notebook.views.model import Card, Line, Table, TableCell, clean
from orchnb.notebook.views.run_cells import page_link
from orchnb.notebook.views.words import at
from orchnb.runs.failure_groups import FailureGroup, FailureGroups

_MOST_GROUPS = 30
_MOST_PARAMETERS = 3


def failure_groups_view(found: FailureGroups, now: datetime | None = None) -> Card | Line:
    """Return the view of failed runs. ``now`` defaults to the current time."""
    present = now if now is not None else datetime.now(timezone.utc)
    since = f"since {found.since.astimezone():%Y-%m-%d %H:%M}"
    if not found.groups:
        return Line(f"No flow run has failed {since}.", "good")
    count = sum(group.count for group in found)
    causes = f"{len(found):,} cause{'s' * (len(found) != 1)}"
    rows = [_row(group, found, present) for group in found.groups[:_MOST_GROUPS]]
    return Card(
        f"{count:,} failed run{'s' * (count != 1)} {since}, {causes}",
        "error",
        table=Table(("runs", "cause", "flows", "parameters", "last", "such as"), rows),
        notes=_notes(found),
    )


def _row(group: FailureGroup, found: FailureGroups, now: datetime) -> tuple[str | TableCell, ...]:
    newest = group.runs[0]
    shown = ", ".join(map(str, group.parameters[:_MOST_PARAMETERS]))
    everything = clean(", ".join(map(str, group.parameters)), 500)
    more = ", …" if len(group.parameters) > _MOST_PARAMETERS else ""
    parameters = clean(shown + more, 120)
    return (
        f"{group.count:,}",
        TableCell(clean(group.cause, 160), "error", title=clean(group.cause)),
        clean(", ".join(group.flows), 80),
        TableCell(parameters, title=everything),
        at(group.last, now),
        page_link(
            clean(newest.name or str(newest.id), 60), found.ui_url, "runs/flow-run", newest.id
        ),
    )


def _notes(found: FailureGroups) -> list[str]:
    notes = []
    if any(group.retriable for group in found):
        notes.append("Retry a group: client.retry_flow_runs(failures[0].retriable).")
    notes.append("Look at one run: client.read_failed_run(failures[0].runs[0]).")
    if len(found) > _MOST_GROUPS:
        notes.append(f"{len(found) - _MOST_GROUPS:,} more causes are in the result.")
    if found.is_cut:
        notes.append("There are more failed runs than were read: max_runs reads more.")
    return notes
