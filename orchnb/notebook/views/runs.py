"""The view of flow runs that a cell waits for: what they are doing, or how they ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from orchnb.notebook.views.model import Card, Table, TableCell, Tone, clean, duration
from orchnb.notebook.views.run_cells import page_link, run_parameters, run_state
from orchnb.notebook.views.words import shortened
from orchnb.runs.states import has_ended, has_failed, state_type

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun
    from orchnb.runs.following import Following

MOST_RUNS_SHOWN = 12
_COUNTED = {
    "RUNNING": "running",
    "PENDING": "pending",
    "SCHEDULED": "scheduled",
    "PAUSED": "paused",
    "CANCELLING": "cancelling",
    "COMPLETED": "completed",
    "FAILED": "failed",
    "CRASHED": "crashed",
    "CANCELLED": "cancelled",
}
"""What is counted, in this order."""

_INTEREST = ("FAILED", "CRASHED", "RUNNING", "CANCELLING", "PAUSED", "PENDING", "SCHEDULED")
"""The states of the runs that are shown first if not all are."""


def runs_card(following: Following, now: datetime) -> Card:
    """Return the view of the runs that are followed, as last seen. ``now`` is the present."""
    runs = following.all_runs()
    over = following.ended is not None
    total = max(len(runs), following.expected or 0)
    return Card(
        title=_title(runs, total, over),
        tone=_tone(runs, over),
        table=_table(runs, now, following.ui_url),
        notes=list(_notes(following, runs, total)),
    )


def _title(runs: Sequence[FlowRun], total: int, over: bool) -> str:
    if total == 1 and runs:
        return f"Flow run {clean(runs[0].name or str(runs[0].id), 80)}: {_state(runs[0])}"
    counts = Counter(state_type(run) for run in runs)
    words = [f"{counts[kind]:,} {word}" for kind, word in _COUNTED.items() if counts[kind]]
    if total > len(runs) and not over:
        words.append(f"{total - len(runs):,} not started")
    return f"{total:,} flow runs: {' · '.join(words)}" if words else f"{total:,} flow runs"


def _state(run: FlowRun) -> str:
    return clean(run.state_name or state_type(run).title() or "no state", 40)


def _tone(runs: Iterable[FlowRun], over: bool) -> Tone:
    if any(has_failed(run) for run in runs):
        return "error"
    if any(state_type(run) == "CANCELLED" for run in runs):
        return "warn"
    if not over:
        return "plain"
    return "good" if all(has_ended(run) for run in runs) else "warn"


def _table(runs: Sequence[FlowRun], now: datetime, ui_url: str | None) -> Table:
    order = {kind: place for place, kind in enumerate(_INTEREST)}
    shown = list(runs)
    if len(runs) > MOST_RUNS_SHOWN:
        shown.sort(key=lambda run: order.get(state_type(run), len(order)))
        shown = shown[:MOST_RUNS_SHOWN]
    rows = [_row(run, now, ui_url) for run in shown]
    columns = ["state", "name", "parameters", "time"]
    kept = [place for place in range(len(columns)) if any(str(row[place]) for row in rows)]
    caption = f"{len(shown)} of {len(runs):,} runs" if len(runs) > len(shown) else ""
    return Table(
        [columns[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
        caption,
    )


def _row(run: FlowRun, now: datetime, ui_url: str | None) -> list[str | TableCell]:
    return [
        run_state(run, 120),
        page_link(shortened(run.name or str(run.id), 40), ui_url, "runs/flow-run", run.id),
        run_parameters(run),
        _time(run, now),
    ]


def _time(run: FlowRun, now: datetime) -> str:
    """Return how long a run has been running, or ran."""
    if run.start_time is None:
        return ""
    return duration(((run.end_time or now) - run.start_time).total_seconds())


def _notes(following: Following, runs: Sequence[FlowRun], total: int) -> Iterable[str]:
    if following.trouble is not None:
        yield f"The server does not respond; trying again: {clean(str(following.trouble), 200)}"
    if following.deleted:
        yield f"{len(following.deleted)} of them were deleted."
    waiting = sum(not has_ended(run) for run in runs)
    if following.ended is not None and waiting:
        these = "It was" if total == 1 else f"{waiting:,} were"
        goes = "It goes" if waiting == 1 else "They go"
        yield f"{these} not finished when the wait ended. {goes} on."
        if total > len(runs):
            yield f"{total - len(runs):,} were not started."
