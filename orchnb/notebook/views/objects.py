"""Turn API objects into cards and tables."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import httpx

from orchnb.api.models import (
    Deployment,
    DeploymentSchedule,
    Event,
    EventPage,
    Flow,
    FlowRun,
    Log,
    Model,
    ModelList,
    State,
    TaskRun,
    WorkPool,
)
from orchnb.api.status import ServerStatus
from orchnb.api.times import ago
from orchnb.http.errors import text_of
from orchnb.http.response import PrefectResponse
from orchnb.notebook.views.graph import graph_diagram as graph_diagram
from orchnb.notebook.views.model import Card, Line, Table, TableCell, Tone, clean, duration
from orchnb.notebook.views.retries import retried_table as retried_table
from orchnb.notebook.views.timeline import timeline_chart as timeline_chart
from orchnb.openapi.namespace import (
    AsyncOperations,
    OperationGroup,
    SyncOperations,
    overview,
)
from orchnb.redaction import secrets_of, shown_url

MOST_ROWS = 20
"""Number of rows of a list that are shown; the rest is only counted."""

_MOST_OPERATIONS = 100
"""More than for other lists, because a list of operations is most useful when complete."""


def status_card(status: ServerStatus) -> Card:
    """Return a card of the server, its version, whether it is up, and which setting selected it."""
    tones: dict[str, Tone] = {"up": "good", "slow": "warn", "down": "error", "none": "error"}
    rows = [("Server", clean(status.place))]
    if status.version:
        rows.append(("Version", clean(status.version)))
    rows.append(("State", clean(status.state_in_words)))
    rows.append(("Decided by", clean(str(status.decided_by))))
    if status.start_in_words:
        rows.append(("Its start took", status.start_in_words))
    if status.errors:
        rows.append(("Its log has", status.errors_in_words))
    rows += [("Not sent", clean(reason)) for reason in status.withheld]
    return Card(title=str(status.server_type), tone=tones.get(status.state, "plain"), rows=rows)


def described(request: httpx.Request) -> str:
    """Return a request's method and URL, without secrets."""
    return clean(f"{request.method} {shown_url(request.url)}")


def response_card(response: PrefectResponse) -> Card:
    """Return a short card of a response."""
    rows = [("Status", clean(f"{response.status_code} {response.reason_phrase}"))]
    if response.is_closed:
        words = clean(text_of(response), 20_000)
        rows.append(("Answer", clean(secrets_of(response.request).mask(words), 200)))
    return Card(
        title=described(response.request),
        tone="good" if response.is_success else "error",
        rows=rows,
    )


def operations_table(operations: AsyncOperations | SyncOperations) -> Table | Line:
    """Return a table of ``client.operations``: its groups, and the names in each."""
    place, groups = overview(operations)
    where = clean(place)
    if groups is None:
        return Line(f"The operations of {where} are not loaded yet: call load(), or press Tab")
    shown = itertools.islice(groups.items(), _MOST_OPERATIONS)
    rows = [
        (clean(name), f"{len(each):,}", clean(", ".join(dir(each)), 120)) for name, each in shown
    ]
    caption = f"{_counted(len(rows), len(groups), 'group')} of the operations of {where}"
    return Table(["group", "operations", "called"], rows, caption)


def operation_group_table(group: OperationGroup) -> Table:
    """Return a table of some of a server's operations: name, request and purpose of each."""
    rows = [
        (clean(each.name.partition(".")[2]), clean(each.request, 120), clean(each.summary, 120))
        for each in itertools.islice(group, _MOST_OPERATIONS)
    ]
    caption = _counted(len(rows), len(group), "operation")
    return Table(["operation", "request", "what it does"], rows, caption)


def as_it_is(view: Card | Line) -> Card | Line:
    """Return a view unchanged."""
    return view


def model_card(model: Model) -> Card | Table:
    """Return a card of one object with its important, non-empty fields; for a page, a table of it."""
    if isinstance(model, EventPage):
        return _page_table(model)
    fields = [name for name in _fields(type(model)) if name not in _LEFT_OUT]
    fields.sort(key=lambda name: (name != "state", name == "id"))  # the state first, the id last
    values = [(name.replace("_", " "), _column(model, name)) for name in fields]
    name = getattr(model, "name", None)
    title = f"{_kind(type(model))} {clean(str(name))}" if name else _kind(type(model))
    return Card(title=title, rows=[(label, value) for label, value in values if value])


# Repeated by another field, or useful only to programs. The attributes exist anyway.
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

# The same, only for these kinds: in others, fields with these names are useful.
_FOR_PROGRAMS: dict[type[Model], frozenset[str]] = {
    Deployment: frozenset(
        {
            "created_by",
            "updated_by",
            "global_concurrency_limit",  # shown as the concurrency limit
            "version_id",
            "storage_document_id",
            "infrastructure_document_id",
        }
    ),
    FlowRun: frozenset(
        {
            "auto_scheduled",
            "context",
            "created_by",
            "empirical_policy",
            "estimated_run_time",
            "estimated_start_time_delta",
            "infrastructure_document_id",
            "infrastructure_pid",
            "job_variables",
            "state_id",
            "work_pool_id",
            "work_queue_id",
        }
    ),
    State: frozenset({"data", "state_details"}),
    TaskRun: frozenset(
        {"empirical_policy", "estimated_run_time", "estimated_start_time_delta", "state_id"}
    ),
    WorkPool: frozenset({"storage_configuration"}),
}


def _fields(kind: type[Model]) -> list[str]:
    left_out = _FOR_PROGRAMS.get(kind, frozenset())
    return [name for name in kind.model_fields if name not in left_out]


def _page_table(page: EventPage) -> Table:
    events = ModelList(page.events, model=Event)
    more = f", of {clean(f'{page.total:,}', 40)} in all" if page.total > len(events) else ""
    return model_table(events, more=more)


def model_table(models: ModelList[Any], now: datetime | None = None, *, more: str = "") -> Table:
    """Return a table of the first rows of a list, and how many there are.

    ``now`` defaults to the current time; ``more`` adds to the count in the caption. A column that is
    empty in all rows is left out, unless it is the name or the id, or the only one.
    """
    present = now if now is not None else datetime.now(timezone.utc)
    kind = models.model or (type(models[0]) if models else Model)
    shown = list(models[:MOST_ROWS])
    names = _columns(kind)
    rows = [[_table_cell(model, name, present, models.ui_url) for name in names] for model in shown]
    kept = _kept(names, rows)
    caption = _counted(len(shown), len(models), _kind(kind).lower()) + more
    if models.cut:
        caption += ", and there may be more"
    return Table(
        [names[place].replace("_", " ") for place in kept],
        [[row[place] for place in kept] for row in rows],
        f"{caption}, as of {_here(present):%Y-%m-%d %H:%M:%S %Z}",
    )


def _kept(names: Sequence[str], rows: Sequence[Sequence[str | TableCell]]) -> Sequence[int]:
    """Return the indexes of the columns to show; all of them if there are no rows."""
    if not rows:
        return range(len(names))
    kept = [
        place
        for place, name in enumerate(names)
        if name in ("name", "id") or any(str(row[place]) for row in rows)
    ]
    return kept or range(len(names))[:1]


def _table_cell(model: Model, name: str, now: datetime, ui_url: str | None) -> str | TableCell:
    words = _column(model, name)
    value = getattr(model, name, None)
    if name == "state":
        kind = getattr(getattr(model, "state", None), "type", None) or getattr(
            model, "state_type", ""
        )
        return TableCell(words, _STATE_TONES.get(str(kind)))
    if isinstance(value, datetime):
        return TableCell(ago(value, now), title=words)
    if name == "name" and ui_url and words:
        pages = next((path for kind, path in _PAGES.items() if isinstance(model, kind)), None)
        if pages:
            return TableCell(words, link=f"{ui_url}/{pages}/{getattr(model, 'id', '')}")
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
    fields = [name for name in _fields(kind) if name not in _NO_COLUMN]
    fields.sort(key=lambda name: (name not in _FIRST, name == "id" or name.endswith("_id")))
    return [*fields[:5], *(["id"] if "id" in fields[5:] else [])]


_FIRST = ("name", "key", "slug", "tag", "timestamp", "level", "message")
_NO_COLUMN = frozenset({"updated", "logo_url", "documentation_url", "code_example", "full_error"})

# As in Python's logging, without level names that may have been added in this process.
_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


def _column(model: Model, name: str) -> str:
    if name == "state":
        return _state(model)
    if name == "concurrency_limit" and isinstance(model, Deployment):
        return _cell(getattr(model.global_concurrency_limit, "limit", model.concurrency_limit))
    if name in ("run_time", "total_run_time"):
        return _cell(getattr(model, "total_run_time", None) or None)
    if name == "level" and isinstance(model, Log):
        return _LEVELS.get(model.level) or _cell(model.level)
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
    """Convert to the local time zone, except on the first and last representable day."""
    try:
        return moment.astimezone()
    except OverflowError:
        return moment


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{_here(value):%Y-%m-%d %H:%M:%S %Z}"
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        return f"-{duration(-seconds)}" if seconds < 0 else duration(seconds)
    if isinstance(value, DeploymentSchedule):
        return _cell(value.schedule)
    if isinstance(value, Model):
        return clean(", ".join(_part(value)), 120)
    if isinstance(value, (list, tuple, set, frozenset)):
        return clean(", ".join(_cell(item) for item in itertools.islice(value, 50)), 120)
    if isinstance(value, dict):
        items = itertools.islice(value.items(), 50)
        return clean(", ".join(f"{clean(str(key))}={item!r}" for key, item in items), 120)
    if isinstance(value, UUID):
        return str(value)
    return clean(str(value), 120)


def _part(part: Model) -> Iterator[str]:
    for name, value in itertools.islice(part.__repr_args__(), 50):
        yield f"{clean(str(name))}={_cell(value)}"


def _kind(kind: type[Model]) -> str:
    """Return ``FlowRun`` as ``Flow run``."""
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in kind.__name__)
    return words.strip().capitalize()
