"""Remove secrets from text that may be shown, logged, pickled or saved.

Nothing here tries to recognize a secret by its form. A text is secret because of where it was found: in
the credentials or query of a URL, in a header, or in the body of a request.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote_plus, urlsplit, urlunsplit

if TYPE_CHECKING:
    import httpx

MASK = "***"

IN_PROCESS_HOST = "this-process.invalid"
"""The host name of the in-kernel server, which resolves nowhere else (RFC 6761, 6.4)."""

# Shorter texts occur by chance in any sentence; masking them would reveal more than it hides.
_SHORTEST_SECRET = 4
_SHORTEST_BODY_VALUE = 6

HARMLESS_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "allow",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "host",
        "prefect-maintenance",
        "retry-after",
        "server",
        "transfer-encoding",
        "user-agent",
        "vary",
    }
)
"""Headers whose values are not secret. All others, including unknown ones, are masked."""

_URL_HEADERS = frozenset({"location", "content-location", "referer"})
# State types: common words that everybody knows.
_VOCABULARY = frozenset(
    {
        "CANCELLED",
        "CANCELLING",
        "COMPLETED",
        "CRASHED",
        "FAILED",
        "PAUSED",
        "PENDING",
        "RUNNING",
        "SCHEDULED",
    }
)
# The input as it appears in the text of pydantic's errors; they shorten it, so it may differ from the
# value that was sent.
_ECHO = re.compile(r"(?<=input_value=).*?(?=, input_type=|\Z)", re.DOTALL)
_DEEPEST_JSON = 100


def redact_url(url: object) -> str:
    """Return the URL as text without credentials, fragment and query values; query names stay."""
    text = str(url)
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return MASK  # not a URL that can be parsed safely
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    credentials = f"{MASK}@" if "@" in parts.netloc else ""
    if not parts.netloc and "@" in parts.path:
        return MASK  # credentials, but not where they belong in a URL
    # A part without "=" is a value, not a name.
    pairs = [pair.partition("=") for pair in parts.query.split("&") if pair]
    query = "&".join(f"{name}={MASK}" if value else MASK for name, _, value in pairs)
    return urlunsplit((parts.scheme, f"{credentials}{host}{port}", parts.path, query, ""))


def shown_url(url: object) -> str:
    """Return the URL for use in a sentence: without secrets, and without the in-kernel server's host."""
    text = redact_url(url)
    _, in_process, path = text.partition(IN_PROCESS_HOST)
    return f"{path} of the in-kernel server" if in_process else text


def redact_headers(headers: Mapping[str, str], secrets: Iterable[str] = ()) -> dict[str, str]:
    """Return the headers with every value masked unless known to be harmless; those are scrubbed."""
    mask = _finder(secrets).mask

    def shown(name: str, value: str) -> str:
        if name.lower() in HARMLESS_HEADERS:
            return mask(value)
        return mask(redact_url(value)) if name.lower() in _URL_HEADERS else MASK

    return {name: shown(name, value) for name, value in headers.items()}


class Secrets(frozenset[str]):
    """Texts that must not be shown to anybody."""

    @cached_property
    def finder(self) -> _Finder:
        """The finder for these texts; created once, because there may be very many."""
        return _Finder(self)


def secrets_of(*requests: httpx.Request) -> Secrets:
    """Return every text in these requests that must not be shown to anybody: the values of their
    headers, the credentials and query values of their URLs, and the values in their JSON or form
    bodies."""
    found: set[str] = set()
    for request in requests:
        for name, value in request.headers.multi_items():
            if name.lower() not in HARMLESS_HEADERS:
                found.update(_header_parts(value))
        url = request.url
        found.update((url.username, url.password))
        for pair in url.query.decode("ascii", "replace").split("&"):
            name, _, value = pair.partition("=")
            found.add(unquote_plus(value or name))
    found = {secret for secret in found if len(secret) >= _SHORTEST_SECRET}
    for request in requests:
        found.update(_body_values(request))
    return Secrets(found)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """Return ``text`` with all secrets masked, including their forms in URLs, HTML and JSON."""
    return _finder(secrets).mask(text)


def scrub_json(value: Any, secrets: Iterable[str]) -> Any:
    """Return a JSON value with its texts scrubbed, and without the parts in which servers echo a request.

    Very deeply nested parts are masked completely.
    """
    return _clean(value, _finder(secrets), _DEEPEST_JSON)


def _clean(value: Any, secrets: _Finder, depth: int) -> Any:
    if isinstance(value, (dict, list)) and depth == 0:
        return MASK
    if isinstance(value, dict):
        return {
            secrets.mask(key): _clean(item, secrets, depth - 1)
            for key, item in value.items()
            if key not in ("input", "request_body")
        }
    if isinstance(value, list):
        return [_clean(item, secrets, depth - 1) for item in value]
    if isinstance(value, str):
        return _ECHO.sub(MASK, secrets.mask(value))
    if (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and str(value) in secrets.forms
    ):
        return MASK
    return value


class _Finder:
    """Finds secrets in texts, in time that does not depend on the number of secrets.

    A secret longer than `_PIECE` is found by its pieces of that length, so that parts of it are masked
    as well. Secrets that begin with the same letters are looked up by their lengths.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self.forms = _written_forms(secrets)
        self._pieces: set[str] = set()
        for form in self.forms:
            self._pieces.update(
                form[start : start + _PIECE] for start in range(0, len(form) - _PIECE, _PIECE)
            )
            self._pieces.add(form[-_PIECE:])
        self._start = min(map(len, self._pieces), default=1)
        self._start = min(self._start, _SHORTEST_SECRET)
        lengths: dict[str, set[int]] = {}
        for piece in self._pieces:
            lengths.setdefault(piece[: self._start], set()).add(len(piece))
        self._lengths = {start: sorted(each, reverse=True) for start, each in lengths.items()}

    def mask(self, text: str) -> str:
        """Return ``text`` with all secrets masked; overlapping ones are masked completely."""
        parts: list[str] = []
        done = 0
        if not self._pieces:
            return text
        size = self._start
        for start in range(len(text) - size + 1):
            for length in self._lengths.get(text[start : start + size], ()):
                if text[start : start + length] in self._pieces:
                    # Adjacent to or within the previous one: one mask for both.
                    parts += [text[done:start], MASK] if start > done or not parts else []
                    done = max(done, start + length)
                    break
        return "".join(parts) + text[done:]


_PIECE = 64


def _finder(secrets: Iterable[str]) -> _Finder:
    return secrets.finder if isinstance(secrets, Secrets) else _Finder(secrets)


_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
"""Characters that neither URLs (RFC 3986, 2.3) nor HTML nor JSON escape."""


_AS_JSON = [json.JSONEncoder(ensure_ascii=plain).encode for plain in (True, False)]


def _written_forms(secrets: Iterable[str]) -> frozenset[str]:
    forms: set[str] = set()
    for secret in secrets:
        forms.add(secret)
        if _PLAIN.fullmatch(secret):
            continue  # it is never escaped; a large body has very many such values
        percent = quote(secret, safe="", errors="replace")
        for quoted in (percent, re.sub("%..", lambda code: code.group().lower(), percent)):
            slashes = quoted.replace("%2F", "/").replace("%2f", "/")
            forms.update((quoted, slashes, quoted.replace("%20", "+")))
        forms.update((html.escape(secret), html.escape(secret, quote=False)))
        forms.update(encode(secret)[1:-1] for encode in _AS_JSON)
    forms.discard("")
    return frozenset(forms)


def _header_parts(value: str) -> Iterator[str]:
    """Yield a header's value and the secrets in it: the credentials after a scheme, decoded if the scheme
    is Basic (RFC 7617), and the values of cookies and parameters."""
    yield value
    scheme, _, credentials = value.partition(" ")
    yield credentials.strip()
    if scheme.lower() == "basic":
        with suppress(ValueError):
            decoded = base64.b64decode(credentials, validate=True).decode()
            yield decoded
            yield from decoded.split(":", 1)
    for part in re.split("[;,]", value):
        yield part.partition("=")[2].strip(' "')


def _body_values(request: httpx.Request) -> Iterator[str]:
    try:
        body = request.content
    except RuntimeError:  # httpx.RequestNotRead: a streamed body, which is already gone
        return
    if not body:
        return
    try:
        values = list(_leaves(json.loads(body)))
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace")
        values = [text, *(value for _, value in parse_qsl(text))]
    for value in values:
        if len(value) >= _SHORTEST_BODY_VALUE and value not in _VOCABULARY:
            yield value


def _leaves(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
        elif isinstance(item, (str, int, float)) and not isinstance(item, bool):
            yield str(item)
