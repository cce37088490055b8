"""From an error to its card: what was asked, what the server said, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import httpx

from orchnb.api.status import describe
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
from orchnb.notebook.views import Card, Table, clean
from orchnb.redaction import redact_url

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
        rows.append(("Status", clean(status)))
        if error.detail:
            rows.append(("Server says", clean(error.detail)))
        if isinstance(error, (ObjectNotFound, ObjectAlreadyExists)):
            rows.insert(0, ("What", clean(str(error).split(f": {error.status_code} ")[0])))
        if error.fields:
            cells = [(clean(f.location), clean(f.message), clean(f.type)) for f in error.fields]
            table = Table(("Where", "What is wrong", "Kind"), cells)
    elif isinstance(error, httpx.HTTPError):
        rows.append(("Problem", clean(describe(error))))
        rows.append(("Kind", type(error).__name__))
    else:
        rows.append(("Problem", clean(str(error))))
    if isinstance(error, ServerStartFailed):
        rows.append(("Phase", error.phase))
        log = [clean(line, 200) for text in error.log_lines for line in text.splitlines()][-12:]
    hint = getattr(error, "hint", "") or _first(_HINTS, error, "")
    if hint:
        rows.append(("What to do", clean(hint)))
    return Card(
        title=_first(_TITLES, error, _fallback_title(error)),
        tone="error",
        rows=rows,
        table=table,
        log=log,
        notes=("%tb shows the whole traceback.",),
    )


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
