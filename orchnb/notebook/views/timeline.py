"""The view of a timeline: a row for each task and subflow, with a bar that shows when it ran.

It is a table with a small drawing in each row, so the names and times are text: they can be read aloud,
selected and searched, and are left where a page removes drawings. The drawings are a few rectangles with
positions in percent. A plotting library would add 10 MB and more, a script or a raster image, and would
not follow the page's colours.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from orchnb.notebook.views.model import Chart, ChartBar, ChartRow, Tone, clean, duration
from orchnb.runs.states import has_ended, has_failed, state_type
from orchnb.runs.timelines import Doing, Span, Timeline, TimelineRow

MOST_BARS = 500
"""Rows that are drawn one by one; more are grouped by task."""

_LABEL = 60
_MOST_MESSAGES = 5
_STEPS = (
    1,
    2,
    5,
    10,
    15,
    30,
    60,
    120,
    300,
    600,
    900,
    1800,
    3600,
    7200,
    10_800,
    21_600,
    43_200,
    86_400,
)
"""Seconds between two ticks of the axis; shorter and longer ones are powers of ten."""


def timeline_chart(timeline: Timeline) -> Chart:
    """Return the chart of a timeline."""
    start = _axis_start(timeline)
    seconds = max((timeline.end - start).total_seconds(), 1e-3)
    rows = list(timeline.rows)
    grouped = len(rows) > MOST_BARS
    drawn = (
        [_row(rows[0], start, seconds, timeline.ui_url), *_groups(rows[1:], start, seconds)]
        if grouped
        else [_row(row, start, seconds, timeline.ui_url) for row in rows]
    )
    return Chart(
        title=_title(timeline),
        tone=_tone(rows[0]),
        ticks=[(at / seconds, _tick(at)) for at in _ticks(seconds)],
        rows=drawn,
        notes=list(_notes(timeline, start, grouped)),
    )


def _axis_start(timeline: Timeline) -> datetime:
    """Return where the axis begins: a long wait before the first task is cut short."""
    began = min(
        (
            span.start
            for row in timeline.rows
            for span in row.spans
            if span.doing is not Doing.WAITED
        ),
        default=timeline.start,
    )
    return max(timeline.start, began - (timeline.end - began) / 4)


def _title(timeline: Timeline) -> str:
    row, run = timeline.rows[0], timeline.flow_run
    state = clean(run.state_name or state_type(run).title() or "no state", 40)
    took = f" after {duration(row.ran)}" if row.ran else ""
    return f"Flow run {clean(row.name, 80)}: {state}{took}"


def _tone(row: TimelineRow) -> Tone:
    kind = state_type(row.run)
    if has_failed(row.run):
        return "error"
    if kind == "COMPLETED":
        return "good"
    return "warn" if kind in ("CANCELLED", "CANCELLING", "PAUSED") else "plain"


def _row(row: TimelineRow, start: datetime, seconds: float, ui_url: str | None) -> ChartRow:
    place = "flow-run" if row.is_flow else "task-run"
    return ChartRow(
        label=clean(row.name, _LABEL) + (" (subflow)" if row.is_flow and row.depth else ""),
        words=_words(row),
        tone=_tone(row),
        bars=[*_bars(row.spans, start, seconds)],
        depth=row.depth,
        link=f"{ui_url}/runs/{place}/{row.id}" if ui_url else "",
        spoken=_spoken(row.spans, start),
    )


def _words(row: TimelineRow) -> str:
    words = [duration(row.ran)] if row.ran or row.run.start_time is not None else []
    if row.tries > 1:
        words.append(f"{row.tries} tries")
    if state_type(row.run) != "COMPLETED":
        words.append(clean(row.run.state_name or state_type(row.run).lower() or "no state", 30))
    return ", ".join(words)


def _spoken(spans: Iterable[Span], start: datetime) -> str:
    """Return what the bars show: ``waited until 2 s, ran until 4 s``."""
    return ", ".join(
        f"{span.doing.value} until {_tick((span.end - start).total_seconds())}" for span in spans
    )


def _bars(spans: Iterable[Span], start: datetime, seconds: float) -> Iterator[ChartBar]:
    for span in spans:
        left = max((span.start - start).total_seconds(), 0.0)
        right = (span.end - start).total_seconds()
        if right >= 0:
            yield ChartBar(
                span.doing.value, min(left / seconds, 1.0), max(right - left, 0.0) / seconds
            )


def _groups(rows: Sequence[TimelineRow], start: datetime, seconds: float) -> Iterator[ChartRow]:
    groups: dict[object, list[TimelineRow]] = {}
    for row in rows:
        key = getattr(row.run, "task_key", None) or getattr(row.run, "flow_id", None)
        groups.setdefault(key, []).append(row)
    for each in groups.values():
        failed = sum(has_failed(row.run) for row in each)
        going = sum(not has_ended(row.run) for row in each)
        times = [row.ran for row in each if row.ran]
        words = [f"median {duration(statistics.median(times))}"] if times else []
        words += [f"longest {duration(max(times))}"] if times else []
        words += [f"{failed:,} failed"] if failed else []
        words += [f"{going:,} not ended"] if going else []
        spans = [span for row in each for span in row.spans]
        yield ChartRow(
            label=f"{clean(_common_name(each[0]), _LABEL)} × {len(each):,}",
            words=", ".join(words),
            tone="error" if failed else "plain" if going else "good",
            bars=[*_bars(_merged(spans), start, seconds)],
            depth=1,
            spoken=", ".join(words),
            is_group=True,
        )


def _common_name(row: TimelineRow) -> str:
    """Return a run's name without the part that Prefect adds to distinguish the runs of a task."""
    return row.name if row.is_flow else re.sub(r"-[0-9a-f]{1,8}$", "", row.name)


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield when at least one of many ran; then when one failed, which is drawn on top."""
    for wanted in (Doing.RAN, Doing.FAILED):
        open_span: Span | None = None
        for span in sorted((s for s in spans if s.doing is wanted), key=lambda s: s.start):
            if open_span is not None and span.start <= open_span.end:
                open_span = Span(wanted, open_span.start, max(open_span.end, span.end))
                continue
            if open_span is not None:
                yield open_span
            open_span = span
        if open_span is not None:
            yield open_span


def _ticks(seconds: float) -> Iterator[float]:
    """Yield round times on the axis, four to nine of them."""
    step = next((step for step in _STEPS if seconds / step <= 6), 0.0)
    if seconds < 3 or not step:
        power = 10.0 ** math.floor(math.log10(seconds / 2))
        step = next(
            step for step in (power / 2, power, 2 * power, 5 * power) if seconds / step <= 6
        )
    at = 0.0
    for number in range(int(seconds / step) + 1):
        at = number * step
        if at <= seconds * 0.97 or number == 0:
            yield at


def _tick(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if rest:
        return f"{minutes}:{rest:02} min"
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    days, hours_left = divmod(hours, 24)
    if days and not minutes:
        return f"{days} d {hours_left} h" if hours_left else f"{days} d"
    return f"{hours}:{minutes:02} h" if minutes else f"{hours} h"


def _notes(timeline: Timeline, start: datetime, grouped: bool) -> Iterator[str]:
    kinds = Counter("subflow" if row.is_flow else "task" for row in timeline.rows[1:])
    counted = [f"{kinds[kind]:,} {kind}{'s' * (kinds[kind] != 1)}" for kind in ("task", "subflow")]
    counted = [words for words in counted if not words.startswith("0 ")] or ["No tasks"]
    ended = has_ended(timeline.flow_run)
    until = (
        f"ended {_clock(timeline.end, start)}" if ended else f"as of {_clock(timeline.at, start)}"
    )
    yield f"{' and '.join(counted)}. The axis starts at {_moment(start)}; {until}."
    waited = timeline.rows[0].waited
    if start > timeline.start + timedelta(seconds=1):
        yield f"Before it ran, the flow run waited {duration(waited)}, not all of which is drawn."
    if grouped:
        yield "Runs of the same task share a row: it shows when at least one of them ran."
    if timeline.is_cut:
        yield f"Only the first {len(timeline.rows) - 1:,} runs are shown: max_runs reads more."
    failed = [row for row in timeline.rows if has_failed(row.run)]
    for row in failed[:_MOST_MESSAGES]:
        message = row.run.state.message if row.run.state is not None else None
        if message:
            yield f"✗ {clean(row.name, _LABEL)}: {clean(message, 200)}"
    if len(failed) > _MOST_MESSAGES:
        yield f"{len(failed) - _MOST_MESSAGES:,} more failed."


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def _clock(moment: datetime, start: datetime) -> str:
    """Return the time of day, with the date if it is another day than the start's."""
    here = moment.astimezone()
    return f"{here:%H:%M:%S}" if here.date() == start.astimezone().date() else _moment(moment)
