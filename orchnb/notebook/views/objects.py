"""Turn API objects into cards and tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import httpx

from orchnb.api.models import (
    Artifact,
    Event,
    EventPage,
    FlowRun,
    Log,
    Model,
    ModelList,
    TaskRun,
)
from orchnb.api.status import ServerStatus
from orchnb.http.errors import text_of
from orchnb.http.response import PrefectResponse
from orchnb.notebook.views.artifacts import ARTIFACT_COLUMNS, artifact_card
from orchnb.notebook.views.kinds import look_of
from orchnb.notebook.views.looks import Around, field_cell
from orchnb.notebook.views.model import Card, Line, Table, TableCell, Tone, clean
from orchnb.notebook.views.run_cells import run_seconds
from orchnb.notebook.views.run_logs import log_card
from orchnb.notebook.views.words import exact, fields_with_values, in_words
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


def model_card(model: Model, now: datetime | None = None) -> Card | Table:
    """Return a card of one object: what people ask about it. For a page, return a table of it.

    ``now`` defaults to the current time.
    """
    if isinstance(model, EventPage):
        return _page_table(model)
    if isinstance(model, Artifact):
        return artifact_card(model)
    if isinstance(model, Log):
        return log_card([model])
    around = Around(now if now is not None else datetime.now(timezone.utc))
    kind = _kind(type(model))
    look = look_of(type(model))
    if look is None:
        name = clean(str(getattr(model, "name", None) or ""), 120)
        rows = [
            (name.replace("_", " ").capitalize(), in_words(value, 400))
            for name, value in fields_with_values(model)
            if name not in ("name", "updated", "full_error")
        ]
        return Card(
            f"{kind} {name}".rstrip(), rows=[(label, words) for label, words in rows if words]
        )
    labelled = ((label, _shown(show, model, around)) for label, show in look.rows.items())
    return Card(
        title=f"{kind} {look.title(model)}".rstrip(),
        tone=look.tone(model),
        rows=[(label, value) for label, value in labelled if str(value)],
        notes=look.notes(model),
    )


def _shown(
    show: Callable[[Any, Around], str | TableCell], model: Model, around: Around
) -> str | TableCell:
    try:
        return show(model, around)
    except (AttributeError, KeyError, TypeError, ValueError):
        # A newer server can send a part of an object in another form. All else is shown.
        return ""


def _page_table(page: EventPage) -> Table | Card:
    events = ModelList(page.events, model=Event)
    more = f", of {clean(f'{page.total:,}', 40)} in all" if page.total > len(events) else ""
    return model_table(events, more=more)


def model_table(
    models: ModelList[Any], now: datetime | None = None, *, more: str = ""
) -> Table | Card:
    """Return a table of the first rows of a list, and how many there are; log lines as they are read.

    ``now`` defaults to the current time; ``more`` adds to the count in the caption. A column that is
    empty in all rows is left out, unless it is the name or the id, or the only one.
    """
    present = now if now is not None else datetime.now(timezone.utc)
    kind = models.model or (type(models[0]) if models else Model)
    if issubclass(kind, Log):
        return log_card(models, cut=models.cut)
    shown = list(models[:MOST_ROWS])
    columns = _columns(kind)
    around = Around(present, models.ui_url, _longest(models[:MOST_ROWS]))
    rows = [[_shown(show, model, around) for show in columns.values()] for model in shown]
    names = list(columns)
    kept = _kept(names, rows)
    caption = _counted(len(shown), len(models), _kind(kind).lower()) + more
    if models.cut:
        caption += ", and there may be more"
    return Table(
        [names[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
        f"{caption}, as of {exact(present)}",
    )


def _longest(models: Sequence[Any]) -> float:
    """Return the seconds of the longest run; 0 unless several runs can be compared."""
    seconds = [run_seconds(one) for one in models if isinstance(one, (FlowRun, TaskRun))]
    return max(seconds) if sum(each > 0 for each in seconds) > 1 else 0.0


def _columns(kind: type[Model]) -> Mapping[str, Callable[[Any, Around], str | TableCell]]:
    if issubclass(kind, Artifact):
        return ARTIFACT_COLUMNS
    look = look_of(kind)
    if look is not None:
        return look.columns
    fields = [name for name in kind.model_fields if name not in ("updated", "full_error")]
    fields.sort(key=lambda name: (name not in _FIRST, name == "id" or name.endswith("_id")))
    shown = [*fields[:5], *(["id"] if "id" in fields[5:] else [])]
    return {name.replace("_", " "): field_cell(name) for name in shown}


_FIRST = ("name", "key", "slug", "tag", "timestamp", "level", "message")


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


def model_line(model: Model) -> str:
    """Return one object in one line, for lists and dicts of objects."""
    columns = _columns(type(model))
    around = Around(datetime.now(timezone.utc))
    words = [str(_shown(show, model, around)) for show in columns.values()]
    return clean(f"<{_kind(type(model))} {' · '.join(filter(None, words))}>", 200)


def _counted(shown: int, count: int, what: str) -> str:
    many = f"{count:,} {what}{'' if count == 1 else 's'}"
    return many if shown == count else f"the first {shown} of {many}"


def _kind(kind: type[Model]) -> str:
    """Return ``FlowRun`` as ``Flow run``."""
    words = "".join(f" {char.lower()}" if char.isupper() else char for char in kind.__name__)
    return words.strip().capitalize()
