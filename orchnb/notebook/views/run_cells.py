"""What is shown of flow runs and task runs: their states with signs and reasons, times, parameters."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from orchnb.api.models import FlowRun, TaskRun
from orchnb.api.related import related_objects
from orchnb.notebook.views.model import TableCell, Tone, clean, duration
from orchnb.notebook.views.words import assignments, at, exact, length
from orchnb.runs.states import reason_of, state_type

STATE_TONES: dict[str, tuple[str, Tone]] = {
    "SCHEDULED": ("○", "idle"),
    "PENDING": ("○", "idle"),
    "RUNNING": ("●", "plain"),
    "PAUSED": ("◐", "warn"),
    "CANCELLING": ("–", "warn"),
    "CANCELLED": ("–", "warn"),
    "COMPLETED": ("✓", "good"),
    "FAILED": ("✗", "error"),
    "CRASHED": ("✗", "error"),
}
"""The sign and the tone of each type of state. A sign is a shape: it is there without colours."""

_SHORT = 20
"""Characters of a state's name that are kept on one line."""

_ALONE = frozenset({"COMPLETED", "RUNNING"})
"""States whose message is not shown, because it says nothing more."""


def state_cell(kind: str, name: str | None, reason: str = "", longest: int = 44) -> TableCell | str:
    """Return a state's name with its sign and tone, and the reason for it."""
    if not kind and not name:
        return ""
    sign, tone = STATE_TONES.get(kind, ("○", "idle"))
    same = kind in STATE_TONES or name is None or name.upper() == kind
    words = clean(str(name or kind.capitalize()) if same else f"{name} ({kind})", 40)
    why = "" if kind in _ALONE else clean(reason, longest)
    return TableCell(
        f"{sign} {words}",
        tone,
        title=clean(reason) if why else "",
        why=why,
        on_one_line=len(words) <= _SHORT,
    )


def run_state(run: FlowRun | TaskRun, longest: int = 44) -> TableCell | str:
    """Return the state of a run, and the reason for it."""
    name = run.state_name or (run.state.name if run.state is not None else None)
    return state_cell(state_type(run), name, reason_of(run), longest)


def run_tone(run: FlowRun | TaskRun) -> Tone:
    """Return the tone of a run's state."""
    return STATE_TONES.get(state_type(run), ("", "idle"))[1]


def run_start(run: FlowRun | TaskRun, now: datetime) -> TableCell | str:
    """Return when a run started, or should start."""
    if run.start_time is not None:
        return at(run.start_time, now)
    due = at(run.next_scheduled_start_time or run.expected_start_time, now)
    if not isinstance(due, TableCell):
        return due
    return TableCell(f"due {due.words}", title=due.title, on_one_line=True)


def run_time(run: FlowRun | TaskRun, now: datetime) -> str:
    """Return how long a run ran, or has been running up to now."""
    if run.total_run_time:
        return length(run.total_run_time)
    if run.start_time is None:
        return ""
    if run.end_time is not None:
        return length(run.end_time - run.start_time)
    if state_type(run) != "RUNNING":
        return ""
    return duration((now - run.start_time).total_seconds())


def run_seconds(run: FlowRun | TaskRun) -> float:
    """Return how many seconds a run that has ended ran; 0 for others."""
    if run.total_run_time:
        return run.total_run_time.total_seconds()
    if run.start_time is None or run.end_time is None:
        return 0.0
    return (run.end_time - run.start_time).total_seconds()


def run_parameters(run: FlowRun, longest: int = 40) -> TableCell | str:
    """Return a run's parameters in short, and more of them in the tooltip."""
    short, whole = assignments(run.parameters, longest, 18), assignments(run.parameters, 500)
    return short if short == whole else TableCell(short, title=whole)


def flow_name(flow_id: UUID | None, longest: int = 80) -> str:
    """Return a flow's name; an empty string where it is not known."""
    return clean(related_objects.flow_names.get(flow_id) or "", longest)


def page_link(words: str | TableCell, ui_url: str | None, page: str, ident: Any) -> str | TableCell:
    """Return words that lead to an object's page on the server, if it has pages."""
    if not ui_url or not str(words):
        return words
    link = f"{ui_url}/{page}/{ident}"
    if isinstance(words, TableCell):
        return TableCell(words.words, title=words.title, link=link)
    return TableCell(words, link=link)


def whole_time(moment: datetime | None) -> str:
    """Return a point in time for a card; an empty string for None."""
    return exact(moment) if moment is not None else ""
