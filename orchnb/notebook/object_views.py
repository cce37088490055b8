"""From the objects of the API to cards and tables."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import httpx

from orchnb.api.client import IN_PROCESS_HOST
from orchnb.api.described.namespace import (
    AsyncServerOperations,
    OperationGroup,
    SyncServerOperations,
    overview,
)
from orchnb.api.models import Deployment, Flow, FlowRun, Model, ModelList, TaskRun
from orchnb.api.status import ServerStatus
from orchnb.api.times import ago
from orchnb.http.response import PrefectResponse, text_of
from orchnb.notebook.retry_views import retried_table as retried_table
from orchnb.notebook.views import Card, Cell, Line, Table, Tone, clean
from orchnb.redaction import redact_url, scrub, secrets_of

MOST_ROWS = 20
"""Rows of a list that are shown; the rest is counted."""

_MOST_OPERATIONS = 100
"""A list of what can be done is of use whole."""


def status_card(status: ServerStatus) -> Card:
    """Which server, which version, is it up, and which setting says so."""
    tones: dict[str, Tone] = {"up": "good", "down": "error", "none": "error"}
    rows = [("Server", clean(status.place))]
    if status.version:
        rows.append(("Version", clean(status.version)))
    rows.append(("State", clean(status.state_in_words)))
    rows.append(("Decided by", clean(str(status.decided_by))))
    if status.start_in_words:
        rows.append(("Its start took", status.start_in_words))
    return Card(title=str(status.server_type), tone=tones.get(status.state, "plain"), rows=rows)


def described(request: httpx.Request) -> str:
    """A request as people know it: method and address, without secrets."""
    url = redact_url(request.url)
    if request.url.host == IN_PROCESS_HOST:
        url = url.partition(IN_PROCESS_HOST)[2] + " of the server in this process"
    return clean(f"{request.method} {url}")


def response_card(response: PrefectResponse) -> Card:
    """A response in short."""
    rows = [("Status", clean(f"{response.status_code} {response.reason_phrase}"))]
    if response.is_closed:
        # Not of what is in the body, which is the person's own data.
        asked = response.request
        bare = httpx.Request(asked.method, asked.url, headers=asked.headers)
        words = clean(text_of(response), 20_000)
        rows.append(("Answer", clean(scrub(words, secrets_of(bare)), 200)))
    return Card(
        title=described(response.request),
        tone="good" if response.is_success else "error",
        rows=rows,
    )


def operations_table(operations: AsyncServerOperations | SyncServerOperations) -> Table | Line:
    """``client.operations``: its groups, and the names in each."""
    place, groups = overview(operations)
    where = "the server in this process" if IN_PROCESS_HOST in place else clean(place)
    if groups is None:
        return Line(f"The operations of {where} are not loaded yet: load() does so, and Tab")
    shown = itertools.islice(groups.items(), _MOST_OPERATIONS)
    rows = [
        (clean(name), f"{len(each):,}", clean(", ".join(dir(each)), 120)) for name, each in shown
    ]
    caption = f"{_counted(len(rows), len(groups), 'group')} of the operations of {where}"
    return Table(["group", "operations", "called"], rows, caption)


def operation_group_table(group: OperationGroup) -> Table:
    """Some of a server's operations: what each is called, asks for, and is for."""
    rows = [
        (clean(each.name.partition(".")[2]), clean(each.request, 120), clean(each.summary, 120))
        for each in itertools.islice(group, _MOST_OPERATIONS)
    ]
    caption = _counted(len(rows), len(group), "operation")
    return Table(["operation", "request", "what it does"], rows, caption)


def as_it_is(view: Card | Line) -> Card | Line:
    """A view is its own view."""
    return view


def model_card(model: Model) -> Card:
    """One object: what a person wants to know of it, without what is empty."""
    fields = [name for name in type(model).model_fields if name not in _LEFT_OUT]
    fields.sort(key=lambda name: (name != "state", name == "id"))  # what first, which one last
    values = [(name.replace("_", " "), _column(model, name)) for name in fields]
    name = getattr(model, "name", None)
    title = f"{_kind(type(model))} {clean(str(name))}" if name else _kind(type(model))
    return Card(title=title, rows=[(label, value) for label, value in values if value])


# Said by another field already, or of use to programs only. The attributes are there all the same.
_LEFT_OUT = frozenset(
    {
        "name",
        "updated",
        "state_type",
        "state_name",
        "idempotency_key",
        "run_count",
        "labels",
        "full_error",
    }
)


def model_table(models: ModelList[Any], now: datetime | None = None) -> Table:
    """A list of objects: the first rows, and how many there are. ``now`` is by default the present."""
    present = now if now is not None else datetime.now(timezone.utc)
    kind = models.model or (type(models[0]) if models else Model)
    shown = list(models[:MOST_ROWS])
    columns = _columns(kind)
    rows = [
        [_table_cell(model, name, present, models.ui_url) for name in columns] for model in shown
    ]
    caption = _counted(len(shown), len(models), _kind(kind).lower())
    if models.cut:
        caption += ", and there may be more"
    return Table(
        [name.replace("_", " ") for name in columns],
        rows,
        f"{caption}, as of {_here(present):%Y-%m-%d %H:%M:%S %Z}",
    )


def _table_cell(model: Model, name: str, now: datetime, ui_url: str | None) -> str | Cell:
    words = _column(model, name)
    value = getattr(model, name, None)
    if name == "state":
        kind = getattr(getattr(model, "state", None), "type", None) or getattr(
            model, "state_type", ""
        )
        return Cell(words, _STATE_TONES.get(str(kind)))
    if isinstance(value, datetime):
        return Cell(ago(value, now), title=words)
    if name == "name" and ui_url and words:
        pages = next((path for kind, path in _PAGES.items() if isinstance(model, kind)), None)
        if pages:
            return Cell(words, link=f"{ui_url}/{pages}/{getattr(model, 'id', '')}")
    return words


_STATE_TONES: dict[str, Tone] = {
    "COMPLETED": "good",
    "RUNNING": "plain",
    "PAUSED": "warn",
    "CANCELLED": "warn",
    "CANCELLING": "warn",
    "FAILED": "error",
    "CRASHED": "error",
}

# Where the web pages of Prefect's server have a page for each object.
_PAGES: dict[type[Model], str] = {
    FlowRun: "runs/flow-run",
    TaskRun: "runs/task-run",
    Flow: "flows/flow",
    Deployment: "deployments/deployment",
}


def _columns(kind: type[Model]) -> list[str]:
    if issubclass(kind, FlowRun):
        return ["name", "state", "start_time", "run_time", "tags", "parameters", "id"]
    if issubclass(kind, Flow):
        return ["name", "created", "tags", "id"]
    fields = [name for name in kind.model_fields if name not in _NO_COLUMN]
    fields.sort(key=lambda name: (name not in _FIRST, name == "id" or name.endswith("_id")))
    return [*fields[:5], *(["id"] if "id" in fields[5:] else [])]


_FIRST = ("name", "key", "slug", "tag", "timestamp", "level", "message")
_NO_COLUMN = frozenset({"updated", "logo_url", "documentation_url", "code_example", "full_error"})


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
    return clean(str(name or kind) if same else f"{name} ({kind})")


def _counted(shown: int, count: int, what: str) -> str:
    many = f"{count:,} {what}{'' if count == 1 else 's'}"
    return many if shown == count else f"the first {shown} of {many}"


def _here(moment: datetime) -> datetime:
    """In the local time zone; the first and the last day of all have no other than their own."""
    try:
        return moment.astimezone()
    except OverflowError:
        return moment


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{_here(value):%Y-%m-%d %H:%M:%S %Z}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return clean(", ".join(_cell(item) for item in itertools.islice(value, 50)), 120)
    if isinstance(value, dict):
        items = itertools.islice(value.items(), 50)
        return clean(", ".join(f"{clean(str(key))}={item!r}" for key, item in items), 120)
    if isinstance(value, UUID):
        return str(value)
    return clean(str(value), 120)


def _kind(kind: type[Model]) -> str:
    """``FlowRun`` as people write it: ``Flow run``."""
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in kind.__name__)
    return words.strip().capitalize()
