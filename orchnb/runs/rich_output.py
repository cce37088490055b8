"""Artifacts of a cell: its source, and what it displays, from the MIME bundles of its outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any, NamedTuple

from orchnb.text import printable

LARGEST_IMAGE = 500_000
"""Characters of an image as base64."""

LONGEST_TEXT = 200_000
"""Characters of a source or of a text in Markdown."""

_MOST_ROWS = 200
_MOST_COLUMNS = 50
_LONGEST_CELL = 500
_LARGEST_HTML = 1_000_000

_IMAGES = ("image/png", "image/jpeg", "image/gif")


class ArtifactContent(NamedTuple):
    """What an artifact shows."""

    type: str
    data: str
    description: str = ""


def source_artifact(source: str) -> ArtifactContent:
    """Return a cell's source as Markdown."""
    text = _cut(printable(source.expandtabs(4)))
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return ArtifactContent("markdown", f"{fence}python\n{text}\n{fence}", "Source of the cell")


def output_artifact(bundle: Mapping[str, Any]) -> ArtifactContent | None:
    """Return the artifact for an output; None if it is plain text, too large, or of another kind."""
    markdown = bundle.get("text/markdown")
    if isinstance(markdown, str) and markdown:
        return ArtifactContent("markdown", _cut(printable(markdown.expandtabs(4))))
    for mime in _IMAGES:
        image = bundle.get(mime)
        if isinstance(image, str) and image:
            data = "".join(image.split())
            if len(data) > LARGEST_IMAGE or not re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", data):
                return None
            return ArtifactContent("image", f"data:{mime};base64,{data}")
    markup = bundle.get("text/html")
    if isinstance(markup, str) and 0 < len(markup) <= _LARGEST_HTML and "<table" in markup.lower():
        rows = table_rows(markup)
        if rows:
            return ArtifactContent("table", json.dumps(rows))
    return None


def table_rows(markup: str) -> list[dict[str, str]]:
    """Return the rows of the first table in HTML, by column; empty without a table."""
    reader = _TableReader()
    reader.feed(markup)
    reader.close()
    rows = reader.rows
    if len(rows) < 2:
        return []
    width = min(max(map(len, rows)), _MOST_COLUMNS)
    names: list[str] = []
    for place in range(width):
        name = rows[0][place] if place < len(rows[0]) else ""
        names.append(name if name and name not in names else f"{name} {place}".strip())
    return [dict(zip(names, row, strict=False)) for row in rows[1:]]


class _TableReader(HTMLParser):
    """Reads the cells of the first table as text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self._depth = 0
        self._is_over = False
        self._cell: list[str] | None = None
        self._ignored = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        if tag in ("style", "script"):
            self._ignored += 1
        elif tag == "table":
            self._depth += 1
        elif self._is_over or self._depth != 1:
            return
        elif tag == "tr":
            self._end_cell()
            if len(self.rows) > _MOST_ROWS:
                self._is_over = True
            else:
                self.rows.append([])
        elif tag in ("td", "th"):
            self._end_cell()
            self._cell = []

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script"):
            self._ignored = max(0, self._ignored - 1)
        elif tag == "table" and self._depth:
            self._depth -= 1
            if self._depth == 0:
                self._end_cell()
                self._is_over = True
        elif tag in ("td", "th", "tr") and self._depth == 1:
            self._end_cell()

    def handle_data(self, data: str) -> None:
        if self._cell is not None and not self._ignored and not self._is_over:
            self._cell.append(data)

    def close(self) -> None:
        """End the document, and the table if it has no end."""
        super().close()
        self._end_cell()

    def _end_cell(self) -> None:
        cell, self._cell = self._cell, None
        if cell is None or self._is_over:
            return
        if not self.rows:
            self.rows.append([])
        text = printable(" ".join("".join(cell)[: 10 * _LONGEST_CELL].split()))
        self.rows[-1].append(text[:_LONGEST_CELL])


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]}\n… {len(text) - LONGEST_TEXT:,} more characters"
