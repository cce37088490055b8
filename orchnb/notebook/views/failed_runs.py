"""The card of a failed flow run: what failed where, in the person's own lines, and what to do."""

from __future__ import annotations

from datetime import datetime, timezone

from orchnb.notebook.views.model import Card, LogEntry, TableCell, clean
from orchnb.notebook.views.run_cells import (
    page_link,
    run_parameters,
    run_start,
    run_state,
    run_time,
)
from orchnb.notebook.views.run_logs import log_entries
from orchnb.notebook.views.words import preformatted, short_form
from orchnb.runs.failures import FailedRun
from orchnb.runs.tracebacks_in_logs import traceback_in


def failed_run_card(failed: FailedRun, now: datetime | None = None) -> Card:
    """Return the card of a failed run. ``now`` defaults to the current time."""
    present = now if now is not None else datetime.now(timezone.utc)
    run, task, found = failed.run, failed.failing_task, failed.traceback
    name = clean(run.name or str(run.id), 80)
    flow = f" of {clean(failed.flow_name, 80)}" if failed.flow_name else ""
    state = run_state(run)
    word = state.words.partition(" ")[2] if isinstance(state, TableCell) else "Failed"
    rows: list[tuple[str, str | TableCell]] = [("Why", clean(failed.reason, 400))]
    if task is not None:
        rows.append(("In task", _task(failed, present)))
    rows += [
        ("Started", run_start(run, present)),
        ("Took", run_time(run, present)),
        ("Parameters", run_parameters(run, 200)),
        ("Id", page_link(str(run.id), failed.ui_url, "runs/flow-run", run.id)),
    ]
    whole = found is not None and len(found.own) < len(found.frames)
    return Card(
        f"Flow run {name}{flow}: {word}",
        "error",
        rows=[(label, value) for label, value in rows if str(value)],
        excerpt=preformatted(found.excerpt(), 4_000) if found is not None else "",
        whole=preformatted(found.text, 6_000) if found is not None and whole else "",
        entries=_entries(failed),
        entries_title="Last log lines" if failed.log_lines else "",
        notes=_notes(failed),
    )


def _task(failed: FailedRun, now: datetime) -> str | TableCell:
    """Return the failing task: its name, how often it was tried, and how long it took."""
    task = failed.failing_task
    assert task is not None
    tries = f"tried {task.run_count:,} times" if task.run_count > 1 else ""
    words = (clean(task.name or task.task_key, 80), tries, run_time(task, now))
    shown = ", ".join(filter(None, words))
    return page_link(shown, failed.ui_url, "runs/task-run", task.id)


def _entries(failed: FailedRun) -> list[LogEntry]:
    """Return the last log lines, without their tracebacks: the one that explains the failure is above."""
    lines = [
        line
        if (found := traceback_in(line.message)) is None
        else line.model_copy(update={"message": found.before or found.error})
        for line in failed.log_lines
    ]
    return log_entries(lines)


def _notes(failed: FailedRun) -> tuple[str, ...]:
    ident = short_form(failed.run.id)
    if failed.run.deployment_id is None:
        retry = "It has no deployment, so it cannot be retried: call its flow again."
    else:
        retry = f'To retry it: client.retry_flow_run("{ident}")'
    return (retry, f"%orch_logs {ident} shows all of its log lines.")
