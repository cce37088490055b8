"""The views of cells that are recorded as flow runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from orchnb.notebook.views.model import Card, Line, TableCell, Tone, clean, duration
from orchnb.runs.states import state_type

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun

_TONES: dict[str, Tone] = {"COMPLETED": "good", "FAILED": "error", "CANCELLED": "warn"}


def recorded_card(
    run: FlowRun, flow: str, ui_url: str | None, seconds: float, problems: Iterable[str] = ()
) -> Card:
    """Return the view of the run that records a cell. ``seconds`` is how long it has been running, and
    ``problems`` say what could not be recorded."""
    state = state_type(run)
    name = clean(run.name or str(run.id), 80)
    rows: list[tuple[str, str | TableCell]] = [
        ("flow", clean(flow, 80)),
        ("time", duration(seconds)),
    ]
    if run.state is not None and run.state.message:
        rows.append(("message", clean(run.state.message, 300)))
    if ui_url:
        link = f"{ui_url}/runs/flow-run/{run.id}"
        rows.append(("web page", TableCell(name, link=link, plain=link)))
    notes = [clean(problem, 300) for problem in problems]
    return Card(
        title=f"Flow run {name}: {clean(run.state_name or state.title() or 'no state', 40)}",
        tone="warn" if notes and state == "COMPLETED" else _TONES.get(state, "plain"),
        rows=rows,
        notes=notes,
    )


def not_recorded_line(what: str, why: str) -> Line:
    """Return the line that says that something was not recorded, and why."""
    return Line(f"{what} not recorded: {clean(why, 300)}", "warn")
