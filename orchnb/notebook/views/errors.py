"""Turn an error into a card: the request, what the server said, what to do."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import httpx

from orchnb.errors import (
    FieldProblem,
    InvalidParameters,
    ObjectAlreadyExists,
    ObjectNotFound,
    OperationNotFound,
    OrchnbError,
    OutcomeUnknown,
    PrefectHTTPStatusError,
    ServerStartFailed,
    ServingFailed,
)
from orchnb.http.errors import is_about_csrf
from orchnb.http.failures import Explanation, explain
from orchnb.http.retry import ASIDE
from orchnb.notebook.views.error_texts import (
    AFTERWARDS,
    KINDS,
    UNANSWERED,
    UNCONNECTED,
    WAITS,
    Kind,
)
from orchnb.notebook.views.model import Card, Table, clean
from orchnb.notebook.views.objects import MOST_ROWS, described
from orchnb.redaction import IN_PROCESS_HOST, redact_url
from orchnb.server_type import ServerType, server_type_of_url
from orchnb.settings import get_settings

T = TypeVar("T")

TITLED_BY_WHAT: tuple[type[PrefectHTTPStatusError], ...] = (ObjectNotFound, ObjectAlreadyExists)
_NO_NEWS = frozenset(
    {
        "a",
        "already",
        "and",
        "does",
        "exist",
        "exists",
        "found",
        "id",
        "key",
        "name",
        "not",
        "the",
        "with",
    }
)

_LOG_LINES = 10  # all visible without scrolling
_WHOLE = "%orch_traceback shows the whole traceback."


def error_card(error: Exception) -> Card:
    """Return the card of an error: the request, the server's message, what to do."""
    request = _request_of(error)
    kind = _kind_of(error)
    rows = [("Request", described(request))] if request is not None else []
    table = None
    log: Sequence[str] = ()
    hint = getattr(error, "hint", "") or kind.hint
    if isinstance(error, PrefectHTTPStatusError):
        rows += _answer_rows(error)
        hint = _refusal_hint(error) or hint
    else:
        rows += _problem_rows(error, kind, request)
    if isinstance(error, (PrefectHTTPStatusError, InvalidParameters)) and error.fields:
        table = _fields_table(error.fields)
    if isinstance(error, ServerStartFailed):
        rows.append(("Phase", error.phase))
        log = _last_lines(error.log_lines)
    if isinstance(error, ServingFailed):
        log = _last_lines(error.log)
    if isinstance(error, UNANSWERED) and request is not None:
        rows.append(("On the server", _afterwards(request)))
    if hint:
        rows.append(("What to do", clean(hint)))
    return Card(kind.title, "error", rows, table, log, (_WHOLE,))


def _last_lines(texts: Sequence[str]) -> Sequence[str]:
    lines = [
        clean(line, 200) for text in texts[-_LOG_LINES:] for line in text[-20_000:].splitlines()
    ]
    return lines[-_LOG_LINES:]


def _fields_table(fields: Sequence[FieldProblem]) -> Table:
    shown = fields[:MOST_ROWS]
    cells = [(clean(f.location), clean(f.message), clean(f.type)) for f in shown]
    more = len(fields) - len(shown)
    caption = f"and {more:,} more" if more else ""
    return Table(("Where", "What is wrong", "Kind"), cells, caption)


def stopped_card(request: httpx.Request, *, sent: bool, by_limit: bool = False) -> Card:
    """Return the card for a request in progress when the user stopped the cell: what it may have done.

    ``sent`` is whether the server can have received it; the in-kernel server may still be starting.
    ``by_limit`` is whether a time limit in the user's code stopped it, such as ``asyncio.timeout``.
    """
    waiting = "It was not sent: the in-kernel server was still starting, and continues to start."
    rows = [
        ("Request", described(request)),
        ("On the server", _afterwards(request) if sent else waiting),
    ]
    title = "Stopped by the time limit around this call" if by_limit else "Stopped by you"
    return Card(title, "plain", rows, notes=(_WHOLE,))


def _kind_of(error: Exception) -> Kind:
    explanation = _explanation_of(error)
    if explanation is not None:
        return Kind(explanation.title, explanation.hint, explanation.problem)
    if isinstance(error, PrefectHTTPStatusError):
        title = _refusal_title(error)
        if title:
            return Kind(title)
    return _first(KINDS, error) or Kind(type(error).__name__)


def _first(table: Iterable[tuple[type[BaseException], T]], error: BaseException) -> T | None:
    return next((entry for kind, entry in table if isinstance(error, kind)), None)


def _explanation_of(error: Exception) -> Explanation | None:
    request = _request_of(error)
    if request is None or not isinstance(error, httpx.TransportError):
        return None
    return explain(error, request)


# The request.


def _request_of(error: BaseException | None) -> httpx.Request | None:
    try:
        request = getattr(error, "request", None)
    except RuntimeError:  # httpx: it has none
        return None
    return request if isinstance(request, httpx.Request) else None


def _afterwards(request: httpx.Request) -> str:
    if ASIDE in request.extensions:
        return "This request was not sent: it needs a CSRF token first."
    what = f"{request.method} {request.url.path}"
    for pattern, words in AFTERWARDS:
        if re.match(pattern if pattern.endswith(" ") else f"{pattern}$", what):
            return words
    return ""


# No answer.


def _problem_rows(
    error: Exception, kind: Kind, request: httpx.Request | None
) -> Iterator[tuple[str, str]]:
    words = error.message if isinstance(error, OrchnbError) else str(error)
    if request is not None:
        words = kind.problem or words
    # An unknown outcome has another error as its cause, which may be a time-out.
    silence = error.__cause__ if isinstance(error, OutcomeUnknown) else error
    wait = WAITS.get(type(silence))
    explanation = _explanation_of(error)
    by_proxy = explanation is not None and bool(explanation.proxy)
    if silence is not error or wait is None or request is None or by_proxy:
        yield "Problem", clean(words) or type(error).__name__
    if wait is not None and request is not None:  # httpx says nothing about it, or just "timed out"
        name, what = wait
        asked = _request_of(silence) or request
        seconds = asked.extensions.get("timeout", {}).get(name)
        yield "Time-out", f"{name}: {seconds:g} s {what}" if seconds else f"{name}: {what}"
    unconnected = isinstance(error, UNCONNECTED) and not by_proxy
    proxy = _proxy_of(request) if request is not None and unconnected else ""
    if proxy:
        yield "Proxy", f"{proxy}, set in the environment"


def _proxy_of(request: httpx.Request) -> str:
    """Return the proxy that the environment sets for this request, found as httpx does it."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(request.url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(request.url.host):
        return ""
    return clean(redact_url(proxy))


# An answer that is a refusal.


def _answer_rows(error: PrefectHTTPStatusError) -> Iterator[tuple[str, str]]:
    what = what_of(error)
    title = _kind_of(error).title
    if what and what != title:  # otherwise the title says it already
        yield "What", what
    if not isinstance(
        error, TITLED_BY_WHAT
    ):  # the traceback below says it, and the title means the same
        yield "Status", status_of(error)
    if error.detail and not (
        isinstance(error, TITLED_BY_WHAT) and _says_the_same(error.detail, what)
    ):
        yield "Server says", clean(error.detail)
    if _is_about_credentials(error):
        sent = "authorization" in error.request.headers
        yield "Credentials", "some were sent (not shown here)" if sent else "none were sent"


def what_of(error: PrefectHTTPStatusError) -> str:
    """Return what an error says before the status: what was not found, or exists; "" if nothing."""
    what, told, _ = error.message.partition(f": {error.status_code} ")
    return clean(what) if told and not what.startswith(f"{error.status_code} ") else ""


def status_of(error: PrefectHTTPStatusError) -> str:
    """Return an error's status, such as ``404 Not Found``."""
    return clean(f"{error.status_code} {error.response.reason_phrase}")


def _says_the_same(detail: str, what: str) -> bool:
    """Return whether a server's explanation contains nothing that ``what`` does not say, except the
    rest of a long name."""
    detail, what = detail.lower(), what.lower()
    cut = re.search(r"['\"](.+)…", what)
    if cut:
        detail = re.sub(rf"{re.escape(cut[1])}[\w.-]*", lambda _: cut[1], detail)
    return {*re.findall(r"\w+", detail)} <= {*re.findall(r"\w+", what), *_NO_NEWS}


def _refusal_title(error: PrefectHTTPStatusError) -> str:
    if isinstance(error, TITLED_BY_WHAT):
        return what_of(error)
    if isinstance(error, OperationNotFound):
        return ""
    if _is_about_csrf(error):
        return "The server does not accept the request's CSRF token"
    if _is_about_credentials(error):
        return (
            "Authentication failed (401)" if error.status_code == 401 else "Permission denied (403)"
        )
    if _is_page(error) and error.status_code < 500:
        return "This does not look like an API"
    if 300 <= error.status_code < 400:
        return "The server redirected the request"
    return "The server refused the request" if error.status_code < 500 else "The server failed"


def _refusal_hint(error: PrefectHTTPStatusError) -> str:
    """Return what to do if that depends on more than the status; otherwise ""."""
    if _is_about_csrf(error):
        return ""  # the error itself has it
    if error.status_code == 500 and error.request.url.host == IN_PROCESS_HOST:
        return "%orch_server_logs shows why it failed."
    if not _is_about_credentials(error):
        return ""
    name, place = _credentials_of(error.request)
    if place:
        known_by = f"{name}, set by: {place}"
    elif "authorization" in error.request.headers and not _has_credentials():
        known_by = (
            "the credentials this client was given as an argument, in the address or as a header"
        )
    else:
        known_by = ""
    if error.status_code == 403:
        who = f"Your credentials come from {known_by or f'{name}, which is not set'}."
        return f"Ask for the permission, or check that the address names the right workspace. {who}"
    return f"Check {known_by}." if known_by else f"Set {name}: it is not set."


def _is_about_csrf(error: PrefectHTTPStatusError) -> bool:
    return error.status_code == 403 and is_about_csrf(error.detail)


def _is_about_credentials(error: PrefectHTTPStatusError) -> bool:
    refused = error.status_code in (401, 403)
    return refused and not _is_about_csrf(error) and not _is_page(error)


def _is_page(error: PrefectHTTPStatusError) -> bool:
    return "html" in error.response.headers.get("content-type", "")


def _has_credentials() -> bool:
    settings = get_settings()
    return settings.api_key is not None or settings.api_auth_string is not None


def _credentials_of(request: httpx.Request) -> tuple[str, str]:
    """Return the setting with the credentials for this server, and what sets it now ("": nothing)."""
    try:
        settings = get_settings()
    except OrchnbError:
        either = "PREFECT_API_KEY (cloud) or PREFECT_API_AUTH_STRING (your own server)"
        return either, "settings that cannot be read"
    kind = server_type_of_url(str(request.url), cloud_api_url=settings.cloud_api_url)
    if kind is ServerType.CLOUD:
        field, name = "api_key", "PREFECT_API_KEY"
    else:
        field, name = "api_auth_string", "PREFECT_API_AUTH_STRING (user:password)"
    is_set = getattr(settings, field) is not None
    return name, settings.source(field).place if is_set else ""
