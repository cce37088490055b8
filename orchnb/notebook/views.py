"""From objects to what a person sees: a view model, and from that an html and a text twin.

The html comes from templates with autoescape on; every text in a view model has lost its control
characters before. Nothing outside is referred to, so a saved notebook shows the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import httpx
import jinja2

from orchnb.api.models import Flow, FlowRun, Model, ModelList
from orchnb.api.status import ServerStatus, describe
from orchnb.errors import (
    ClientClosed,
    InvalidSetting,
    LifespanStartupFailed,
    ObjectAlreadyExists,
    ObjectNotFound,
    PrefectHTTPStatusError,
    ServerNotConfigured,
    ServerStartFailed,
    UnexpectedAnswer,
    WrongLoop,
)
from orchnb.http.response import PrefectResponse, one_line
from orchnb.redaction import redact_url

MOST_ROWS = 20
"""Rows of a list that are shown; the rest is counted."""

_TITLES: tuple[tuple[type[Exception], str], ...] = (
    (ObjectNotFound, "Not found"),
    (ObjectAlreadyExists, "It exists already"),
    (UnexpectedAnswer, "This does not look like an API"),
    (ServerStartFailed, "The server in this process did not start"),
    (LifespanStartupFailed, "The app did not start"),
    (ServerNotConfigured, "No server is configured"),
    (InvalidSetting, "A setting cannot be used"),
    (WrongLoop, "This client belongs to another event loop"),
    (ClientClosed, "This client is not open"),
    (httpx.TimeoutException, "The server did not answer in time"),
    (httpx.ConnectError, "The server cannot be reached"),
    (httpx.TransportError, "The connection broke"),
)

_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (
        httpx.TimeoutException,
        "It may be busy, or far away: try again, or set PREFECT_API_REQUEST_TIMEOUT to more seconds.",
    ),
    (
        httpx.ConnectError,
        "Is it running, and is the address right? %orch_server_type shows which setting gave it.",
    ),
    (httpx.TransportError, "Try again; the server or a proxy before it may have been restarted."),
)


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


def error_card(error: Exception) -> Card:
    """What went wrong: the request, the server's words, what to do."""
    rows: list[tuple[str, str]] = []
    request = _request_of(error)
    if request is not None:
        rows.append(("Request", f"{request.method} {redact_url(request.url)}"))
    table = None
    log: Sequence[str] = ()
    if isinstance(error, PrefectHTTPStatusError):
        status = f"{error.status_code} {error.response.reason_phrase}"
        rows.append(("Status", _clean(status)))
        if error.detail:
            rows.append(("Server says", _clean(error.detail)))
        if isinstance(error, (ObjectNotFound, ObjectAlreadyExists)):
            rows.insert(0, ("What", _clean(str(error).split(f": {error.status_code} ")[0])))
        if error.fields:
            cells = [(_clean(f.location), _clean(f.message), _clean(f.type)) for f in error.fields]
            table = Table(("Where", "What is wrong", "Kind"), cells)
    elif isinstance(error, httpx.HTTPError):
        rows.append(("Problem", _clean(describe(error))))
        rows.append(("Kind", type(error).__name__))
    else:
        rows.append(("Problem", _clean(str(error))))
    if isinstance(error, ServerStartFailed):
        rows.append(("Phase", error.phase))
        log = [_clean(line, 200) for text in error.log_lines for line in text.splitlines()][-12:]
    hint = getattr(error, "hint", "") or _first(_HINTS, error, "")
    if hint:
        rows.append(("What to do", _clean(hint)))
    return Card(
        title=_first(_TITLES, error, _fallback_title(error)),
        tone="error",
        rows=rows,
        table=table,
        log=log,
        notes=("%tb shows the whole traceback.",),
    )


def status_card(status: ServerStatus) -> Card:
    """Which server, which version, is it up, and which setting says so."""
    tone = {"up": "good", "down": "error", "none": "error"}.get(status.state, "plain")
    rows = [("Server", _clean(status.place))]
    if status.version:
        rows.append(("Version", _clean(status.version)))
    rows.append(("State", _clean(status.state_in_words)))
    rows.append(("Decided by", _clean(str(status.decided_by))))
    return Card(title=str(status.server_type), tone=tone, rows=rows)


def response_card(response: PrefectResponse) -> Card:
    """A response in short."""
    rows = [("Status", _clean(f"{response.status_code} {response.reason_phrase}"))]
    if response.is_closed:
        rows.append(("Answer", _clean(response.text, 200)))
    return Card(
        title=f"{response.request.method} {redact_url(response.request.url)}",
        tone="good" if response.is_success else "error",
        rows=rows,
    )


def model_card(model: Model) -> Card:
    """One object: what a person wants to know of it, without what is empty."""
    fields = [name for name in type(model).model_fields if name not in _LEFT_OUT]
    fields.sort(key=lambda name: (name != "state", name == "id"))  # what first, which one last
    values = [(name.replace("_", " "), _column(model, name)) for name in fields]
    name = getattr(model, "name", None)
    title = f"{_kind(type(model))} {_clean(str(name))}" if name else _kind(type(model))
    return Card(title=title, rows=[(label, value) for label, value in values if value])


# Said by another field already, or of use to programs only. The attributes are there all the same.
_LEFT_OUT = frozenset(
    {"name", "updated", "state_type", "state_name", "idempotency_key", "run_count", "labels"}
)


def model_table(models: ModelList[Any]) -> Table:
    """A list of objects: the first rows, and how many there are."""
    kind = models.model or (type(models[0]) if models else Model)
    shown = list(models[:MOST_ROWS])
    columns = _columns(kind)
    rows = [[_column(model, name) for name in columns] for model in shown]
    many = f"{len(models)} {_kind(kind).lower()}{'' if len(models) == 1 else 's'}"
    caption = many if len(shown) == len(models) else f"the first {len(shown)} of {many}"
    return Table([name.replace("_", " ") for name in columns], rows, caption)


def _columns(kind: type[Model]) -> list[str]:
    if issubclass(kind, FlowRun):
        return ["name", "state", "start_time", "run_time", "tags", "parameters", "id"]
    if issubclass(kind, Flow):
        return ["name", "created", "tags", "id"]
    return list(kind.model_fields)[:6]


def _column(model: Model, name: str) -> str:
    if name == "state":
        return _state(model)
    if name in ("run_time", "total_run_time"):
        seconds = getattr(model, "total_run_time", None)
        return f"{seconds:.1f} s" if seconds else ""
    return _cell(getattr(model, name, None))


def _state(model: Model) -> str:
    state = getattr(model, "state", None)
    kind = getattr(state, "type", None) or getattr(model, "state_type", None)
    name = getattr(state, "name", None) or getattr(model, "state_name", None)
    if kind is None:
        return ""
    same = name is None or str(name).upper() == str(kind)
    return _clean(str(name or kind) if same else f"{name} ({kind})")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(_cell(item) for item in value)
    if isinstance(value, dict):
        return _clean(", ".join(f"{key}={item!r}" for key, item in value.items()), 120)
    if isinstance(value, UUID):
        return str(value)
    return _clean(str(value), 120)


def _kind(kind: type[Model]) -> str:
    """``FlowRun`` as people write it: ``Flow run``."""
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in kind.__name__)
    return words.strip().capitalize()


def _clean(value: str, longest: int = 500) -> str:
    return one_line(value, longest)


def _request_of(error: Exception) -> httpx.Request | None:
    try:
        request = getattr(error, "request", None)
    except RuntimeError:  # httpx: it has none
        return None
    return request if isinstance(request, httpx.Request) else None


def _fallback_title(error: Exception) -> str:
    if isinstance(error, PrefectHTTPStatusError):
        return "The server refused" if error.status_code < 500 else "The server failed"
    return type(error).__name__


def _first(table: Iterable[tuple[type[Exception], str]], error: Exception, default: str) -> str:
    return next((words for kind, words in table if isinstance(error, kind)), default)


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
