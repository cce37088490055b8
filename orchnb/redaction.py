"""Taking secrets out of what may be shown, logged, pickled or saved.

Nothing here tries to recognise a secret by its looks. What is secret is known from where it stood:
in a URL's credentials or query, in a header, in a request's body.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    import httpx

MASK = "***"

# Shorter texts stand by chance in any sentence; masking those would tell more than it hides.
_SHORTEST_SECRET = 4
_SHORTEST_BODY_VALUE = 6

# Headers whose values are no secrets. Every other one, also of a kind unknown to us, is masked.
_HARMLESS_HEADERS = frozenset(
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
_URL_HEADERS = frozenset({"location", "content-location", "referer"})
# Words of an API's own vocabulary ("COMPLETED") are sent and echoed all the time.
_VOCABULARY = re.compile(r"[A-Z][A-Z_]*\Z")


def redact_url(url: object) -> str:
    """The URL as text without credentials, fragment and query values; names in the query stay."""
    text = str(url)
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return MASK  # not a URL that anybody could take apart safely
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    credentials = f"{MASK}@" if "@" in parts.netloc else ""
    names = [(name, MASK) for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if parts.query and not names:
        names = [(MASK, MASK)]
    query = urlencode(names, safe="*")
    return urlunsplit((parts.scheme, f"{credentials}{host}{port}", parts.path, query, ""))


def redact_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with every value masked that is not known to be harmless."""

    def shown(name: str, value: str) -> str:
        if name.lower() in _HARMLESS_HEADERS:
            return value
        return redact_url(value) if name.lower() in _URL_HEADERS else MASK

    return {name: shown(name, value) for name, value in headers.items()}


def secrets_of(request: httpx.Request) -> frozenset[str]:
    """Every text in a request that must not be repeated to anybody: the values of its headers,
    the credentials and query values of its URL, and the values in its JSON or form body."""
    found: set[str] = set()
    for name, value in request.headers.items():
        if name.lower() not in _HARMLESS_HEADERS:
            found.add(value)
            found.update(_authorization_parts(value))
    url = request.url
    found.update((url.username, url.password))
    found.update(value for _, value in parse_qsl(url.query.decode("ascii", "replace")))
    found = {secret for secret in found if len(secret) >= _SHORTEST_SECRET}
    found.update(_body_values(request))
    return frozenset(found)


def scrub(text: str, secrets: Iterable[str]) -> str:
    """``text`` with each of the secrets, also in its percent-encoded form, masked."""
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), quote(secret))}
    forms.discard("")
    if not forms:
        return text
    # The longest first: a secret may hold another one.
    pattern = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.sub(pattern, MASK, text)


def scrub_json(value: Any, secrets: Iterable[str]) -> Any:
    """A JSON value with its texts scrubbed, and without what servers echo of a request."""
    forms = tuple(secrets)
    if isinstance(value, dict):
        return {
            scrub(key, forms): scrub_json(item, forms)
            for key, item in value.items()
            if key not in ("input", "request_body")
        }
    if isinstance(value, list):
        return [scrub_json(item, forms) for item in value]
    return scrub(value, forms) if isinstance(value, str) else value


def _authorization_parts(value: str) -> Iterator[str]:
    """The credentials in an Authorization-like header, decoded where Basic encodes them (RFC 7617)."""
    scheme, _, credentials = value.partition(" ")
    if not credentials:
        return
    yield credentials
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(credentials, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return
        yield decoded
        yield from decoded.split(":", 1)


def _body_values(request: httpx.Request) -> Iterator[str]:
    body = getattr(request, "_content", None)  # a body that streams has passed already
    if not body:
        return
    try:
        values = list(_leaves(json.loads(body)))
    except (ValueError, RecursionError):
        values = [value for _, value in parse_qsl(body.decode("utf-8", "replace"))]
    for value in values:
        if len(value) >= _SHORTEST_BODY_VALUE and not _VOCABULARY.match(value):
            yield value


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)
