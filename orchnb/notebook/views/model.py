"""View models: displays as data, each with an HTML and a text twin.

The HTML comes from templates with autoescape on, and control characters are removed from both twins.
The HTML refers to nothing external, so a saved notebook looks the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import jinja2

from orchnb.text import one_line, printable

Tone: TypeAlias = Literal["plain", "good", "warn", "error", "idle"]

# Signs that show the tone without colour.
_SIGNS: dict[Tone, str] = {"plain": "•", "good": "✓", "warn": "!", "error": "✗", "idle": "○"}


@dataclass(frozen=True)
class TableCell:
    """A table cell with more than text: a tone, a tooltip, a link, or an id."""

    words: str
    tone: Tone | None = None
    title: str = ""
    why: str = ""
    """What follows the words, such as the reason for a state."""
    ident: str = ""
    """The whole id, if the words are a short form of it."""
    on_one_line: bool = False
    """Whether the words are not broken into lines."""
    link: str = ""
    """An http or https URL, or a plain path on the notebook's own host, optionally with a query; anything
    else is dropped."""
    plain: str = ""
    """The text twin's replacement for the words, such as a link that the words do not show."""
    share: float | None = None
    """The length of a bar before the words, from 0 to 1; None for no bar."""

    def __post_init__(self) -> None:
        _check_link(self)

    def __str__(self) -> str:
        if self.share:
            return f"{'━' * max(round(self.share * _BAR_WIDTH), 1)} {self.words}"
        return self.plain or (f"{self.words}: {self.why}" if self.why else self.words)


_BAR_WIDTH = 8
"""Characters of the longest bar before words."""


@dataclass(frozen=True)
class LogEntry:
    """One record of a log. Its ``words`` may have several lines; the later ones are indented."""

    time: str
    level: str
    tone: Tone
    source: str
    words: str
    whole: str = ""
    """The complete text if the words leave something out, such as the frames of libraries."""


def _check_link(part: TableCell | ChartRow) -> None:
    if not re.match(r"https?://|(/[\w.~@%-]+)+/?(\?[\w=&-]*)?\Z", part.link):
        object.__setattr__(part, "link", "")


@dataclass(frozen=True)
class Table:
    """Rows of text under column names, and a caption that says how many there are."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | TableCell]]
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """A titled box with labelled rows, an optional table, an excerpt, log lines, and notes at the end."""

    title: str
    tone: Tone = "plain"
    rows: Sequence[tuple[str, str | TableCell]] = ()
    table: Table | None = None
    log: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)
    excerpt: str = ""
    """Preformatted text that is always in sight."""
    whole: str = ""
    """What the excerpt is from; folded in HTML, and left out of the text."""
    entries: Sequence[LogEntry] = ()
    entries_title: str = ""
    fraction: float | None = None
    """The progress for a bar, from 0 to 1; None for no bar."""

    @property
    def chunks(self) -> Sequence[Sequence[LogEntry]]:
        """The entries in groups that each end with one that has more text, which is folded."""
        groups: list[list[LogEntry]] = [[]]
        for entry in self.entries:
            groups[-1].append(entry)
            if entry.whole:
                groups.append([])
        return [group for group in groups if group]

    @property
    def sign(self) -> str:
        """The sign that shows the tone without colour."""
        return _SIGNS[self.tone]


@dataclass(frozen=True)
class Step:
    """One row of a live view."""

    label: str
    words: str
    sign: str = ""
    fraction: float | None = None
    """The progress for a bar, from 0 to 1; None for no bar."""


@dataclass(frozen=True)
class Live:
    """Work in progress, shown repeatedly until it ends."""

    title: str
    steps: Sequence[Step]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Line:
    """A one-sentence report of what happened."""

    words: str
    tone: Tone = "plain"

    @property
    def sign(self) -> str:
        """The sign that shows the tone without colour."""
        return _SIGNS[self.tone]


Doings: TypeAlias = Literal["waited", "ran", "failed"]


@dataclass(frozen=True)
class ChartBar:
    """A part of a row's time, from 0 to 1 of the axis."""

    doing: Doings
    start: float
    length: float


@dataclass(frozen=True)
class ChartRow:
    """A row of a chart."""

    label: str
    words: str
    """How long it took, and how it ended if it did not complete."""
    tone: Tone
    bars: Sequence[ChartBar]
    depth: int = 0
    link: str = ""
    """As in `TableCell`."""
    spoken: str = ""
    """What the bars show, in words."""
    is_group: bool = False
    """Whether its bars are those of several runs, and may overlap."""

    def __post_init__(self) -> None:
        _check_link(self)

    @property
    def sign(self) -> str:
        """The sign that shows the tone without colour."""
        return _SIGNS[self.tone]

    @property
    def kinds(self) -> Sequence[Doings]:
        """What its bars show, in the order in which they are drawn."""
        present = {bar.doing for bar in self.bars}
        return [doing for doing in _BARS if doing in present]


@dataclass(frozen=True)
class Chart:
    """Bars on a common axis of time, and notes at the end."""

    title: str
    tone: Tone
    ticks: Sequence[tuple[float, str]]
    """Positions from 0 to 1, with the time since the start in words."""
    rows: Sequence[ChartRow]
    notes: Sequence[str] = ()

    @property
    def is_tall(self) -> bool:
        """Whether the rows scroll."""
        return len(self.rows) > _MOST_UNSCROLLED

    @property
    def sign(self) -> str:
        """The sign that shows the tone without colour."""
        return _SIGNS[self.tone]


_MOST_UNSCROLLED = 40
"""Rows of a chart that are shown without a scroll bar."""


@dataclass(frozen=True)
class Box:
    """A box of a diagram; positions and sizes are in pixels."""

    x: int
    y: int
    width: int
    height: int
    label: str
    words: str
    tone: Tone
    name: str = ""
    """The whole label, if it is shortened in the box."""
    is_double: bool = False
    """Whether it has a second border, for a run that contains others."""
    after: Sequence[str] = ()
    """The names of what it depends on."""

    @property
    def sign(self) -> str:
        """The sign that shows the tone without colour."""
        return _SIGNS[self.tone]


@dataclass(frozen=True)
class Diagram:
    """Boxes and the lines between them."""

    title: str
    width: int
    height: int
    boxes: Sequence[Box]
    arrows: Sequence[Sequence[tuple[int, int]]]
    """The points of each line: a curve to the second, a straight line to the third, and so on."""
    notes: Sequence[str] = ()

    @property
    def lines(self) -> Sequence[str]:
        """The boxes as lines of text, with what each depends on."""
        names = _aligned([(f"{box.sign} {box.name or box.label}", box.words) for box in self.boxes])
        return [
            f"{name}  after {_some(box.after)}" if box.after else name
            for name, box in zip(names, self.boxes, strict=True)
        ]


def _some(names: Sequence[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


View: TypeAlias = Card | Table | Live | Line | Chart | Diagram


def html(view: View) -> str:
    """Return the view as HTML, for a notebook."""
    name = type(view).__name__.lower()
    return _templates().get_template(f"{name}.html.j2").render({name: view})


def text(view: View) -> str:
    """Return the view as text, for a terminal, a log, or a front end without HTML."""
    return printable("\n".join(_TEXTS[type(view)](view)))


def _text_of_table(table: Table) -> list[str]:
    rows = [table.columns, *([str(cell) for cell in row] for row in table.rows)]
    return [*_aligned(rows), *([table.caption] if table.caption else [])]


def _text_of_live(live: Live) -> list[str]:
    rows = [(step.sign, step.label, step.words) for step in live.steps]
    return [live.title, *_indented(_aligned(rows)), *_indented(live.notes)]


def _text_of_line(line: Line) -> list[str]:
    return [f"{line.sign} {line.words}"]


def _text_of_card(view: Card) -> list[str]:
    lines = [f"{view.sign} {view.title}"]
    lines += _indented(_aligned([(label, str(value)) for label, value in view.rows]))
    if view.fraction is not None:
        done = round(20 * view.fraction)
        lines.append(f"  [{'#' * done}{'-' * (20 - done)}] {view.fraction:.0%}")
    if view.table is not None:
        lines += _indented(_text_of_table(view.table))
    lines += [f"  | {line}" for line in view.excerpt.splitlines()]
    lines += [f"  | {line}" for entry in view.log for line in entry.splitlines()]
    if view.entries_title:
        lines.append(f"  {view.entries_title}")
    lines += _text_of_entries(view.entries)
    return [*lines, *_indented(view.notes)]


def _text_of_entries(entries: Sequence[LogEntry]) -> list[str]:
    level = max((len(entry.level) for entry in entries), default=0)
    lines = []
    for entry in entries:
        first, *more = entry.words.splitlines() or [""]
        parts = (entry.time, entry.level.ljust(level), entry.source, first)
        lines.append("  | " + "  ".join(filter(None, parts)).rstrip())
        lines += [f"  | {line}" for line in more]
    return lines


_BARS_WIDTH = 48
"""Characters for the bars of a chart's text."""

_BARS: dict[Doings, str] = {"waited": "·", "ran": "━", "failed": "━"}
"""What is drawn, later ones on top of earlier ones."""


def _text_of_chart(chart: Chart) -> list[str]:
    """Return a chart as lines: ``·`` is a wait, ``━`` is work, ``✗`` is the end of a failed try."""
    names = [f"{'  ' * row.depth}{row.sign} {row.label}" for row in chart.rows]
    width = max(map(len, names), default=0)
    axis = [" "] * (_BARS_WIDTH + 8)
    for at, words in chart.ticks:
        place = round(at * (_BARS_WIDTH - 1))
        if place == 0 or axis[place - 1] == " ":
            axis[place : place + len(words)] = words
    lines = [f"{chart.sign} {chart.title}", f"  {' ' * width}  {''.join(axis).rstrip()}"]
    for name, row in zip(names, chart.rows, strict=True):
        cells = [" "] * _BARS_WIDTH
        for bar in sorted(row.bars, key=lambda bar: list(_BARS).index(bar.doing)):
            first = min(int(bar.start * _BARS_WIDTH), _BARS_WIDTH - 1)
            last = min(max(first + 1, round((bar.start + bar.length) * _BARS_WIDTH)), _BARS_WIDTH)
            cells[first:last] = _BARS[bar.doing] * (last - first)
            if bar.doing == "failed":
                cells[last - 1] = "✗"
        lines.append(f"  {name.ljust(width)}  {''.join(cells)}  {row.words}".rstrip())
    return [*lines, *_indented(chart.notes)]


def _text_of_diagram(diagram: Diagram) -> list[str]:
    return [diagram.title, *_indented(diagram.lines), *_indented(diagram.notes)]


# Each key is the type that its function takes.
_TEXTS: dict[type[View], Callable[[Any], list[str]]] = {
    Card: _text_of_card,
    Table: _text_of_table,
    Live: _text_of_live,
    Line: _text_of_line,
    Chart: _text_of_chart,
    Diagram: _text_of_diagram,
}


def clean(value: str, longest: int = 500) -> str:
    """Return a server's text for display: one line, no control characters, limited in length."""
    return one_line(value, longest)


def duration(seconds: float) -> str:
    """Return a duration in words: ``4.2 s``, ``42 s``, ``3 min 5 s``, ``2 h 10 min``."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest} s"
    hours, minutes_rest = divmod(minutes, 60)
    return f"{hours} h {minutes_rest} min" if hours else f"{minutes} min {rest} s"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return [line.rstrip() for line in padded]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _printable(value: object) -> object:
    # Text that the templates have escaped is a subclass of str, and is left as it is.
    return printable(value) if type(value) is str else value


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("orchnb.notebook.views", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        keep_trailing_newline=False,
    )
