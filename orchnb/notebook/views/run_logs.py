"""Log lines of runs: time, level, task, and whole messages, with tracebacks folded to the person's own
frames."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from orchnb.api.models import FlowRun, Log
from orchnb.api.related import related_objects
from orchnb.notebook.views.model import Card, LogEntry, TableCell, Tone, clean
from orchnb.notebook.views.run_cells import run_state, run_tone
from orchnb.notebook.views.words import as_local, preformatted, short_form
from orchnb.runs.tracebacks_in_logs import traceback_in

MOST_LINES = 200
"""Log lines that are shown: as many as one read returns."""

_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
"""As in Python's logging, without level names that may have been added in this process."""
_LONGEST_MESSAGE = 8_000
_ALL_MESSAGES = 40_000
"""Characters; the longest messages are shortened if all together are more."""
_USUAL_LOGGERS = (".flow_runs", ".task_runs")


def log_card(logs: Sequence[Log], *, cut: bool = False, title: str = "") -> Card:
    """Return the last log lines of a list, oldest first. ``cut`` is whether there may be more."""
    shown = logs[-MOST_LINES:]
    entries = log_entries(shown)
    notes = []
    if shown:
        days = f"{_day(shown[0].timestamp)} to {_day(shown[-1].timestamp)}"
        first, _, last = days.partition(" to ")
        zone = f"{as_local(shown[-1].timestamp):%Z}"
        notes.append(
            f"{first if first == last else days}, times in {zone}"
            + (". There may be more lines: iter_logs reads all of them." if cut else "")
        )
    return Card(title or _counted(logs, len(shown)), _tone(logs), entries=entries, notes=notes)


def run_log_card(
    run: FlowRun,
    logs: Sequence[Log],
    *,
    cut: bool = False,
    among: str = "",
    notes: Sequence[str] = (),
) -> Card:
    """Return the log lines of one run under its name and state. ``among`` says which lines they are."""
    state = run_state(run, 0)
    card = log_card(logs, cut=cut)
    name = clean(run.name or str(run.id), 80)
    words = state.words if isinstance(state, TableCell) else str(state)
    title = f"Log of {name} ({words.partition(' ')[2] or words}): {card.title}{clean(among, 80)}"
    return replace(card, title=title, tone=run_tone(run), notes=[*card.notes, *notes])


def _day(moment: datetime) -> str:
    return f"{as_local(moment):%Y-%m-%d}"


def _counted(logs: Sequence[Log], shown: int) -> str:
    many = f"{len(logs):,} log line{'' if len(logs) == 1 else 's'}"
    if shown < len(logs):
        many = f"The last {shown:,} of {many}"
    levels = Counter(
        "error"
        if line.level >= logging.ERROR
        else "warning"
        if line.level >= logging.WARNING
        else ""
        for line in logs
    )
    found = [
        f"{levels[name]:,} {name}{'' if levels[name] == 1 else 's'}"
        for name in ("error", "warning")
        if levels[name]
    ]
    return " · ".join([many, *found])


def _tone(logs: Sequence[Log]) -> Tone:
    return level_tone(max((line.level for line in logs), default=0))


def level_tone(level: int) -> Tone:
    """Return the tone of a level of `logging`."""
    if level >= logging.ERROR:
        return "error"
    return "warn" if level >= logging.WARNING else "plain" if level >= logging.INFO else "idle"


def level_name(level: int) -> str:
    """Return the name of a level of `logging`, or its number."""
    return _LEVELS.get(level) or str(level)


def log_entries(logs: Sequence[Log]) -> list[LogEntry]:
    """Return log lines for display. Messages are whole, unless all together are too much."""
    longest = _longest([len(line.message) for line in logs])
    return [
        log_entry(
            f"{_milliseconds(line.timestamp)}",
            line.level,
            level_name(line.level),
            _source(line),
            line.message,
            longest,
        )
        for line in logs
    ]


def _longest(lengths: Sequence[int]) -> int:
    """Return the length to which the longest messages are shortened, so that all fit."""
    left, count = _ALL_MESSAGES, len(lengths)
    for length in sorted(lengths):
        if length * count > left:
            return min(_LONGEST_MESSAGE, left // count)
        left, count = left - length, count - 1
    return _LONGEST_MESSAGE


def log_entry(
    time: str, level: int, name: str, source: str, message: str, longest: int
) -> LogEntry:
    """Return one log line for display."""
    found = traceback_in(message)
    if found is None:
        words, whole = _indented(preformatted(message, longest)), ""
    else:
        shown = "\n".join(filter(None, (found.before, found.excerpt())))
        words = _indented(preformatted(shown, longest))
        whole = preformatted(message, longest) if len(found.own) < len(found.frames) else ""
    return LogEntry(time, clean(name, 12), level_tone(level), clean(source, 60), words, whole)


def _indented(words: str) -> str:
    return words.replace("\n", "\n    ")


def _milliseconds(moment: datetime) -> str:
    here = as_local(moment)
    return f"{here:%H:%M:%S}.{here.microsecond // 1000:03}"


def _source(line: Log) -> str:
    """Return which task and logger wrote a line. Prefect's own loggers only say that it is a run."""
    task = ""
    if line.task_run_id is not None:
        name = related_objects.task_names.get(line.task_run_id)
        task = clean(name, 40) if name else f"task {short_form(line.task_run_id)}"
    logger = "" if line.name.endswith(_USUAL_LOGGERS) else line.name
    return " ".join(filter(None, (task, logger)))
