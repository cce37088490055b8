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

Tone: TypeAlias = Literal["plain", "good", "warn", "error"]

# Signs that show the tone without colour.
_SIGNS: dict[Tone, str] = {"plain": "•", "good": "✓", "warn": "!", "error": "✗"}


@dataclass(frozen=True)
class TableCell:
    """A table cell with more than text: a tone, a tooltip, or a link."""

    words: str
    tone: Tone | None = None
    title: str = ""
    link: str = ""
    """An http or https URL, or a plain path on the notebook's own host, optionally with a query; anything
    else is dropped."""
    plain: str = ""
    """The text twin's replacement for the words, such as a link that the words do not show."""

    def __post_init__(self) -> None:
        if not re.match(r"https?://|(/[\w.~@%-]+)+/?(\?[\w=&-]*)?\Z", self.link):
            object.__setattr__(self, "link", "")

    def __str__(self) -> str:
        return self.plain or self.words


@dataclass(frozen=True)
class Table:
    """Rows of text under column names, and a caption that says how many there are."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | TableCell]]
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """A titled box with labelled rows, an optional table and log lines, and notes at the end."""

    title: str
    tone: Tone = "plain"
    rows: Sequence[tuple[str, str | TableCell]] = ()
    table: Table | None = None
    log: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)

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


View: TypeAlias = Card | Table | Live | Line


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
    if view.table is not None:
        lines += _indented(_text_of_table(view.table))
    lines += [f"  | {line}" for entry in view.log for line in entry.splitlines()]
    return [*lines, *_indented(view.notes)]


# Each key is the type that its function takes.
_TEXTS: dict[type[View], Callable[[Any], list[str]]] = {
    Card: _text_of_card,
    Table: _text_of_table,
    Live: _text_of_live,
    Line: _text_of_line,
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
