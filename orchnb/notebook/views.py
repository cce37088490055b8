"""What a person sees, as data: view models, and from each an html and a text twin.

The html comes from templates with autoescape on; every text in a view model has lost its control
characters before, by `clean`. Nothing outside is referred to, so a saved notebook shows the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import jinja2

from orchnb.http.response import one_line


@dataclass(frozen=True)
class Table:
    """Rows of texts under columns, and a caption that says how many there are."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Card:
    """A titled box: labelled rows, perhaps a table and log lines, notes at the end."""

    title: str
    tone: str = "plain"
    """``plain``, ``good`` or ``error``."""
    rows: Sequence[tuple[str, str]] = ()
    table: Table | None = None
    log: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def sign(self) -> str:
        """What tells the tone without colour."""
        return {"error": "✗", "good": "✓"}.get(self.tone, "•")


def html(view: Card | Table) -> str:
    """The view for a notebook."""
    if isinstance(view, Card):
        return _templates().get_template("card.html.j2").render(card=view)
    return _templates().get_template("table.html.j2").render(table=view)


def text(view: Card | Table) -> str:
    """The view for a terminal, a log, or a front end without html."""
    if isinstance(view, Table):
        return "\n".join([*_text_table(view), view.caption]).rstrip()
    lines = [f"{view.sign} {view.title}"]
    width = max((len(label) for label, _ in view.rows), default=0)
    lines += [f"  {label.ljust(width)}  {value}" for label, value in view.rows]
    if view.table is not None:
        lines += [f"  {line}" for line in _text_table(view.table)]
    lines += [f"  | {line}" for line in view.log]
    lines += [f"  {note}" for note in view.notes]
    return "\n".join(lines)


def clean(value: str, longest: int = 500) -> str:
    """A server's words fit to be shown: one line, no control characters, not endless."""
    return one_line(value, longest)


def _text_table(table: Table) -> list[str]:
    lines = [list(table.columns), *[list(row) for row in table.rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.columns))]
    padded = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    return [line.rstrip() for line in padded]


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("orchnb.notebook", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=False,
    )
