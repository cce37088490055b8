"""Build the error for a response with an error status: the server's explanation, without secrets."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import httpx

from orchnb.errors import FieldProblem, PrefectHTTPStatusError
from orchnb.http.redirects import redirect_hint
from orchnb.http.retry import ASIDE, NOT_AWAITED, RESENT, UNREAD
from orchnb.redaction import (
    Secrets,
    redact_headers,
    redact_url,
    secrets_of,
    shown_url,
    without_query,
)
from orchnb.text import LONGEST_LOOKED_AT, one_line

# exception_message/-detail is Prefect's form, detail FastAPI's and RFC 9457's, title RFC 9457's,
# error_description OAuth's (RFC 6749, 5.2); the others are those of gateways.
_EXPLAIN = (
    *("exception_message", "title", "message", "msg", "error", "error_description", "reason"),
    *("detail", "exception_detail", "errors"),
)
_MOST_ROWS = 10
_MOST_WORDS = 5
_MOST_LOOKED_AT = 100
"""Values of an explanation of unknown form."""
_LONGEST_URL = 20_000  # httpx refuses addresses of 65,536 characters, escapes included
# The words of nginx, Go and Apache.
_WANTS_HTTPS = re.compile(r"HTTPS (port|server)|SSL-enabled server port", re.IGNORECASE)
_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title", re.IGNORECASE)

_HINTS = {
    400: "Check the arguments of the request; the server could not interpret them.",
    401: "Check PREFECT_API_KEY (cloud) or PREFECT_API_AUTH_STRING (own server): "
    "the server did not accept your credentials.",
    403: "The server accepts your credentials but does not allow this; ask for permission, "
    "or check that the API URL names the right workspace.",
    404: "Check the id or name and, unless this is the in-kernel server, that PREFECT_API_URL ends "
    "in /api.",
    405: "Check that the server's version is supported and, unless this is the in-kernel server, that "
    "PREFECT_API_URL ends in /api.",
    407: "The proxy requires credentials; check HTTP_PROXY and HTTPS_PROXY.",
    408: "The server timed out waiting for the request; try again.",
    409: "The object already exists; read it, or choose another name or key.",
    413: "The request is too large for the server; send less at a time.",
    422: "Correct the fields that the server names and try again.",
    429: "The server is limiting the rate of requests; wait a little, then try again.",
    502: "A proxy in front of the server got no valid response from it; is the server up?",
    503: "The server is currently unavailable; try again later.",
    504: "A proxy in front of the server timed out waiting for it; is the server up?",
}

_NO_SUCH_PATH = "Not Found"
"""Starlette's message for an unknown path; for a missing object, APIs say more."""


# A server's 403 about CSRF tokens, by a word that it contains.
_CSRF_HINTS = (
    (
        "Missing",
        "This client sends none: set PREFECT_CLIENT_CSRF_SUPPORT_ENABLED=true. If it is set already, "
        "the server started to require tokens after this client's first request: %reload_ext orchnb "
        "creates a new client.",
    ),
    (
        "Invalid",
        "New tokens were fetched and refused as well, so the server that checks tokens does not know "
        "the ones that were issued: several servers behind one address need one shared database, and "
        "a proxy must not cache responses of /csrf-token.",
    ),
)


def is_about_csrf(detail: str) -> bool:
    """Return whether a server's explanation of a 403 is about CSRF tokens."""
    return "CSRF token" in detail or "Missing client identifier" in detail


def status_error(
    response: httpx.Response, *, token_for: httpx.Request | None = None
) -> PrefectHTTPStatusError:
    """Return the error for a response with a status other than 2xx, without secrets.

    ``token_for`` is the user's request, if the response is to a request for its CSRF token.
    """
    request = response.request
    secrets = secrets_of(request, *(earlier.request for earlier in response.history))
    unread = response.extensions.get(UNREAD)
    body = None if unread else _body(response)
    clean = secrets.mask_json(body)
    words, rows = _explain(clean)

    def line(text: str) -> str:
        # Masked again: markup, escapes and invisible characters may have hidden secrets.
        return one_line(secrets.mask(one_line(text, LONGEST_LOOKED_AT)))

    detail = line(words)
    fields = [FieldProblem(*map(line, row)) for row in rows]

    # The standard reason phrase, as the server's may contain anything.
    status = f"{response.status_code} {httpx.codes.get_reason_phrase(response.status_code)}".strip()
    # After a redirect the server chose the URL, and may repeat what was sent in it.
    url = secrets.mask(without_query(request.url)) if response.history else request.url
    bare = bare_request(request, url) if token_for is None else aside_of(request, token_for)
    message = f"{status} for {bare.method} {shown_url(bare.url)}"
    if token_for is not None:
        message += ", which needs a CSRF token"
    if detail:
        message += f": {detail}"
    if unread:
        message += f" (the server's explanation was sent {unread} and was not read)"
    for field in fields[:_MOST_ROWS]:
        message += (
            f"; {field.location}: {field.message}" if field.location else f"; {field.message}"
        )
    if len(fields) > _MOST_ROWS:
        message += f"; and {len(fields) - _MOST_ROWS} more"
    return PrefectHTTPStatusError(
        message,
        request=bare,
        response=_bare_response(response, bare, clean, secrets),
        detail=detail,
        fields=fields,
        hint=_hint_of_waits(response) or _hint(response, body, line),
    )


def text_of(response: httpx.Response) -> str:
    """Return the text of a response that has been read, even if its charset is invalid."""
    try:
        return response.text
    except httpx.ResponseNotRead:
        raise
    except Exception:  # noqa: BLE001 - Python has codecs such as "hex" and "zip", which fail in any way
        return response.content.decode("utf-8", "replace")


def _body(response: httpx.Response) -> Any:
    """Return the body as JSON, or else as text; None if it has not been read."""
    try:
        text = text_of(response)
    except httpx.ResponseNotRead:
        return None
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return text


def _explain(body: Any) -> tuple[str, list[tuple[str, str, str]]]:
    """Return the server's explanation as one text, and the rows of a 422."""
    if isinstance(body, str):
        title = _TITLE.search(body)
        if title:
            return html.unescape(title.group(1)), []
        return ("" if _is_page(body) else body), []
    if isinstance(body, list):
        return "", [row for row in _rows(body[:_MOST_LOOKED_AT]) if row[1]]
    if not isinstance(body, dict):
        return "", []
    words: list[str] = []
    rows: list[tuple[str, str, str]] = []
    for key in _EXPLAIN:
        value = body.get(key)
        if isinstance(value, dict):  # FastAPI lets an app put anything into its detail
            value, more = _explain(value)
            rows.extend(more)
        if isinstance(value, str) and value and value not in words:
            words.append(value)
        elif isinstance(value, list):
            rows.extend(_rows(value))
    return ": ".join(words or ([] if rows else _other_words(body))), rows


def _other_words(body: dict[str, Any]) -> list[str]:
    """Return the texts in an explanation of unknown form, at most a few: the names differ by gateway."""
    found: list[str] = []
    left: list[Any] = [body]
    for _ in range(_MOST_LOOKED_AT):
        if not left or len(found) == _MOST_WORDS:
            break
        value = left.pop(0)
        if isinstance(value, dict):
            left = [*list(value.values())[:_MOST_LOOKED_AT], *left]
        elif isinstance(value, list):
            left = [*value[:_MOST_WORDS], *left]
        elif (
            isinstance(value, str) and value.strip() and value not in found and not _is_page(value)
        ):
            found.append(value)
    return found


def _is_page(body: Any) -> bool:
    return isinstance(body, str) and body.lstrip("\ufeff \t\r\n").startswith("<")


def _rows(problems: Iterable[Any]) -> Iterable[tuple[str, str, str]]:
    """Yield where each problem is, what it is, and its type."""
    for problem in problems:
        if isinstance(problem, dict):
            location = problem.get("loc")
            parts = location if isinstance(location, list) else [location or ""]
            others = {key: value for key, value in problem.items() if key not in ("loc", "type")}
            words = problem.get("msg") or problem.get("message") or ": ".join(_other_words(others))
            yield ".".join(map(str, parts)), str(words), str(problem.get("type") or "")
        elif isinstance(problem, str):
            yield "", problem, ""


def _hint(response: httpx.Response, body: Any, line: Callable[[str], str]) -> str:
    code = response.status_code
    if code == 403 and isinstance(body, dict) and is_about_csrf(str(body.get("detail"))):
        return next((hint for word, hint in _CSRF_HINTS if word in str(body["detail"])), "")
    if 300 <= code < 400:
        return redirect_hint(response, line)
    if code == 400 and response.request.url.scheme == "http" and _WANTS_HTTPS.search(str(body)):
        return "The server uses https: write the address with https://."
    if _is_page(body) and code in (401, 403, 404, 405):
        return (
            "The response is a web page, not an API response: check that PREFECT_API_URL ends in /api, "
            "and that no proxy or login page is in between."
        )
    if code == 404 and isinstance(body, dict) and body.get("detail") != _NO_SUCH_PATH:
        return "Check the id or name."
    return _HINTS.get(
        code,
        "The server failed; see its log for the reason. Try again later." if code >= 500 else "",
    )


def _hint_of_waits(response: httpx.Response) -> str:
    refusal = response.extensions.get(NOT_AWAITED)
    return f"{refusal}. Try again later, or allow longer waits." if refusal else ""


def bare_request(request: httpx.Request, url: object = None) -> httpx.Request:
    """Return the request without secrets: no credentials, no header values set by the user, no body.
    ``url`` is shown instead of the request's."""
    extensions = {ASIDE: True} if request.extensions.get(ASIDE) else None
    return httpx.Request(
        one_line(request.method),
        redact_url(url or request.url)[:_LONGEST_URL],
        headers=_as_bytes(redact_headers(request.headers, Secrets())),
        extensions=extensions,
    )


def aside_of(request: httpx.Request, users: httpx.Request) -> httpx.Request:
    """Return the user's request without secrets, for an error of another request that it needs. It is
    marked: it was not sent itself."""
    sent = bare_request(request)
    return httpx.Request(
        users.method,
        bare_request(users).url,
        headers=sent.headers,
        extensions={**request.extensions, ASIDE: True},
    )


def _bare_response(
    response: httpx.Response, request: httpx.Request, clean: Any, secrets: Secrets
) -> httpx.Response:
    headers = {
        name: value
        for name, value in redact_headers(response.headers, secrets).items()
        # The copy's body is no longer compressed and has a different length.
        if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
    }
    text = "" if clean is None else clean if isinstance(clean, str) else json.dumps(clean)
    copy = type(response)(
        response.status_code,
        headers=_as_bytes(headers),
        content=text.encode("utf-8", "replace"),
        request=request,
        extensions={RESENT: True} if response.extensions.get(RESENT) else None,
    )
    copy.encoding = "utf-8"  # whatever the content type says
    return copy


def _as_bytes(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as bytes, as on the wire: httpx accepts only ASCII text, servers send anything."""
    return [
        (name.encode("utf-8", "replace"), value.encode("utf-8", "replace"))
        for name, value in headers.items()
    ]
