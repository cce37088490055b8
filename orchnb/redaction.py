"""Mask secrets in text that may be shown, logged, pickled or saved.

Nothing here tries to recognize a secret by its form. A text is secret because of where it was found: in
the credentials of a URL or in a header, or because the code that made the request says so (`SECRETS`).
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

from orchnb.text import one_line

if TYPE_CHECKING:
    import httpx

MASK = "***"

SECRETS = "orchnb.secrets"
"""The key in a request's ``extensions`` for the secret texts in its body."""

IN_PROCESS_HOST = "this-process.invalid"
"""The host name of the in-kernel server, which resolves nowhere else (RFC 6761, 6.4)."""

# Shorter texts occur by chance in any sentence; masking them would reveal more than it hides.
_SHORTEST_SECRET = 4

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
_CREDENTIAL_PARAMETERS = frozenset(
    {"access_token", "api_key", "auth_string", "csrf_token", "password", "token"}
)
"""Query parameters that are credentials: those named like Prefect's settings, and ``access_token`` of
OAuth (RFC 6750, 2.3)."""
# The input as it appears in the text of pydantic's errors.
_ECHO = re.compile(r"(?<=input_value=).*?(?=, input_type=|\Z)", re.DOTALL)
_DEEPEST_JSON = 100
_PIECE = 64
_LONGEST_EDGE = 32  # pydantic leaves at most 25 characters on each side


def redact_url(url: object) -> str:
    """Return the URL as text without credentials and fragment."""
    text = str(url)
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return MASK  # not a URL that can be parsed safely
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    credentials = f"{MASK}@" if "@" in parts.netloc else ""
    if not parts.netloc and "@" in parts.path and not text.startswith("/"):
        return MASK  # credentials, but not where they belong in a URL
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    query = "&".join(
        f"{name}={MASK}" if _is_credential(name) and value else name + mark + value
        for name, mark, value in pairs
    )
    return urlunsplit((parts.scheme, f"{credentials}{host}{port}", parts.path, query, ""))


def _is_credential(parameter: str) -> bool:
    return unquote_plus(parameter).lower() in _CREDENTIAL_PARAMETERS


def without_query(url: object) -> str:
    """Return a URL that a server has chosen, without credentials and query: an address to sign in at, or
    of a file, contains secrets that only that server knows, such as a signature."""
    return redact_url(url).partition("?")[0]


def shown_url(url: object) -> str:
    """Return the URL for use in a sentence: without secrets, and without the in-kernel server's host."""
    text = one_line(redact_url(url))
    _, in_process, path = text.partition(IN_PROCESS_HOST)
    return f"{path} of the in-kernel server" if in_process else text


class Secrets:
    """Texts that must not be shown. They are found in time that does not depend on their number.

    A secret longer than `_PIECE` is found by its pieces of that length, so that parts of it are masked
    as well. Secrets that begin with the same letters are looked up by their lengths.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms = _written_forms(secrets)
        self._pieces: set[str] = set()
        for form in self._forms:
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
        """Return ``text`` with all secrets masked, including their forms in URLs, HTML and JSON;
        overlapping ones are masked completely."""
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

    def mask_json(self, value: Any, depth: int = _DEEPEST_JSON) -> Any:
        """Return a JSON value with the secrets in it masked, and without the parts in which servers echo
        a request. Very deeply nested parts are masked completely."""
        if isinstance(value, (dict, list)) and depth == 0:
            return MASK
        if isinstance(value, dict):
            return {
                self.mask(key): self.mask_json(item, depth - 1)
                for key, item in value.items()
                if key not in ("input", "request_body")
            }
        if isinstance(value, list):
            return [self.mask_json(item, depth - 1) for item in value]
        if isinstance(value, str):
            return _ECHO.sub(self._mask_shortened, self.mask(value))
        return MASK if type(value) in (int, float) and str(value) in self._forms else value

    def _mask_shortened(self, echo: re.Match[str]) -> str:
        """Mask an input that pydantic has shortened within a secret, which is then no longer found."""
        before, dots, after = echo[0].partition("...")
        starts, ends = self._edges
        is_cut = dots and any(
            before[-size:] in starts or after[:size] in ends for size in range(2, _LONGEST_EDGE)
        )
        return MASK if is_cut else echo[0]

    @cached_property
    def _edges(self) -> tuple[set[str], set[str]]:
        """The beginnings and the ends of the secrets."""
        sizes = range(2, _LONGEST_EDGE)
        return (
            {form[:size] for form in self._forms for size in sizes},
            {form[-size:] for form in self._forms for size in sizes},
        )


def secrets_of(*requests: httpx.Request) -> Secrets:
    """Return every text in these requests that must not be shown to anybody: the values of their
    headers, the credentials in their URLs, and the secrets in their bodies."""
    found: set[str] = set()
    for request in requests:
        for name, value in request.headers.multi_items():
            if name.lower() not in HARMLESS_HEADERS:
                found.update(_header_parts(value))
        url = request.url
        found.update((url.username, url.password))
        query = parse_qsl(url.query.decode("ascii", "replace"))
        found.update(value for name, value in query if _is_credential(name))
        found.update(request.extensions.get(SECRETS, ()))
    return Secrets(secret for secret in found if len(secret) >= _SHORTEST_SECRET)


def redact_headers(headers: Mapping[str, str], secrets: Secrets) -> dict[str, str]:
    """Return the headers with every value masked unless known to be harmless; in those, the secrets are
    masked."""

    def shown(name: str, value: str) -> str:
        if name.lower() in HARMLESS_HEADERS:
            return secrets.mask(value)
        return secrets.mask(without_query(value)) if name.lower() in _URL_HEADERS else MASK

    return {name: shown(name, value) for name, value in headers.items()}


_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*")
"""Characters that neither URLs (RFC 3986, 2.3) nor HTML nor JSON escape."""

_AS_JSON = [json.JSONEncoder(ensure_ascii=plain).encode for plain in (True, False)]


def _written_forms(secrets: Iterable[str]) -> frozenset[str]:
    forms: set[str] = set()
    for secret in secrets:
        forms.add(secret)
        if _PLAIN.fullmatch(secret):
            continue  # it is never escaped
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
