"""Artifacts: tables, progress, links, images and texts that runs have created for people.

The contents of an artifact are a server's text, so none of it becomes markup. Markdown is shown as its
source, which is made to be read: as ``text/markdown``, JupyterLab would render it in a trusted notebook
with any HTML that is in it, scripts included. An image is a link: a page that loads it would tell its
server who looks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from orchnb.api.models import Artifact
from orchnb.notebook.views.looks import Around, field_cell
from orchnb.notebook.views.model import Card, Table, TableCell, clean
from orchnb.notebook.views.words import (
    exact,
    in_words,
    preformatted,
    short_form,
    short_id,
    shortened,
)

_MOST_ROWS = 20
_MOST_COLUMNS = 12
_LINK = re.compile(r"\[([^\]]*)\]\(([^\s)]+)\)")


def artifact_card(artifact: Artifact) -> Card:
    """Return a card of an artifact with what it contains."""
    kind = (artifact.type or "").casefold()
    rows: list[tuple[str, str | TableCell]] = []
    if artifact.description:
        rows.append(("Description", clean(artifact.description)))
    table = None
    excerpt = ""
    progress = _progress(artifact.data) if kind == "progress" else None
    if kind == "table":
        table = _table(artifact.data)
    elif kind in ("link", "image"):
        rows.append(("Link" if kind == "link" else "Image", _link(artifact.data)))
    if progress is None and table is None and kind not in ("link", "image"):
        data = artifact.data
        excerpt = preformatted(data if isinstance(data, str) else in_words(data, 2000))
    title = " ".join(filter(None, (_kind(artifact), clean(artifact.key or "", 120))))
    return Card(
        title,
        rows=[(label, value) for label, value in rows if str(value)],
        table=table,
        excerpt=excerpt,
        fraction=progress,
        notes=_origin(artifact),
    )


def _origin(artifact: Artifact) -> tuple[str, ...]:
    """Return when which run created an artifact, and its id."""
    created = f"created {exact(artifact.created)}" if artifact.created is not None else ""
    runs = (("flow run", artifact.flow_run_id), ("task run", artifact.task_run_id))
    parts = [created, *(f"{name} {short_form(ident)}" for name, ident in runs if ident is not None)]
    words = ", ".join([*filter(None, parts), f"id {artifact.id}"])
    return (words[0].upper() + words[1:],)


def _kind(artifact: Artifact) -> str:
    return clean(f"{(artifact.type or '').capitalize()} artifact".strip().capitalize(), 60)


def _progress(data: Any) -> float | None:
    """Return the part that is done, from 0 to 1; None if it is not a number."""
    try:
        percent = float(data)
    except (TypeError, ValueError):
        return None
    return min(1.0, max(0.0, percent / 100)) if math.isfinite(percent) else None


def _link(data: Any) -> TableCell:
    """Return the link in an artifact: an address, or one in Markdown."""
    text = data if isinstance(data, str) else ""
    found = _LINK.match(text.strip()[:4000])
    words, link = found.groups() if found else (text, text.strip())
    words = clean(words or link, 120)
    if "@" in link.partition("://")[2].partition("/")[0]:
        link = ""  # what looks like its server's name is a user's
    return TableCell(words, link=link, plain=words if words == link else clean(f"{words} {link}"))


def _table(data: Any) -> Table | None:
    """Return the table in an artifact: rows as mappings or lists, or columns; None for other data."""
    if isinstance(data, str):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError):
            return None
    if isinstance(data, Mapping) and data and all(isinstance(each, list) for each in data.values()):
        count = max(map(len, data.values()))
        data = [
            {name: values[n] if n < len(values) else None for name, values in data.items()}
            for n in range(min(count, _MOST_ROWS))
        ] + [{}] * max(0, count - _MOST_ROWS)
    if not isinstance(data, list) or not data:
        return None
    shown = data[:_MOST_ROWS]
    if all(isinstance(row, Mapping) for row in shown):
        names = list(dict.fromkeys(name for row in shown for name in row))[:_MOST_COLUMNS]
        rows = [[_value(row.get(name)) for name in names] for row in shown]
    elif all(isinstance(row, list) for row in shown):
        names = [""] * min(_MOST_COLUMNS, max(map(len, shown)))
        rows = [
            [_value(item) for item in (row + [None] * len(names))[: len(names)]] for row in shown
        ]
    else:
        return None
    caption = f"the first {len(shown)} of {len(data):,} rows" if len(data) > len(shown) else ""
    return Table([clean(str(name), 60) for name in names], rows, caption)


def _value(value: Any) -> str | TableCell:
    return shortened(in_words(value, 500), 60)


def _content(artifact: Artifact) -> str | TableCell:
    kind = (artifact.type or "").casefold()
    if kind == "progress" and (done := _progress(artifact.data)) is not None:
        return f"{100 * done:.0f} %"
    if kind == "table":
        table = _table(artifact.data)
        return ", ".join(table.columns)[:60] if table is not None else ""
    if kind in ("link", "image"):
        return _link(artifact.data)
    return shortened(in_words(artifact.data, 500), 60)


ARTIFACT_COLUMNS: dict[str, Callable[[Any, Around], str | TableCell]] = {
    "key": field_cell("key", 40),
    "type": field_cell("type"),
    "content": lambda one, _: _content(one),
    "description": field_cell("description"),
    "created": field_cell("created"),
    "id": lambda one, _: short_id(one.id),
}
