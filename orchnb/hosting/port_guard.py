"""Who may use the port of the in-kernel server: decided from the head of a request alone.

The port is for one person. A request must carry one of their credentials:

- The auth string of the port, as HTTP Basic authentication. Prefect's client sends it when
  ``PREFECT_API_AUTH_STRING`` holds it, and so does ``curl -u``.
- A cookie, for browsers. A browser gets it by opening a link with a one-time code in it.
- For Prefect's web sockets, the auth string in the first message, which is how Prefect's client sends it.

A cookie is sent by the browser whichever page makes it send a request, so a request of a browser must
also come from a page of the port itself (``Origin``, ``Sec-Fetch-Site``), under a name that is known
(``Host``, against DNS rebinding). Cookies do not distinguish ports; the path of the pages is therefore
random, and the cookie is limited to it: another server on 127.0.0.1 that the browser visits does not
get the cookie.

A code in a saved notebook is harmless: it works once, and for ten minutes at most.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qs

from pydantic import SecretStr

SIGN_IN = "/orchnb-sign-in"
"""Where, below the path of the pages, a browser exchanges a code for the cookie."""

CODE_LIFETIME = 600.0
"""Seconds for which the code in a link works."""

_AGAIN = "orchnb-again"

_MOST_CODES = 100

_SAFE = ("GET", "HEAD", "OPTIONS")

_HINT = "Run %orch_serve in the notebook and open the link that it shows."


@dataclass(frozen=True)
class Pass:
    """The request is one of the owner's."""

    by: Literal["auth string", "cookie"]


@dataclass(frozen=True)
class Refuse:
    """The response to the request is this status with this text."""

    status: int
    words: str


@dataclass(frozen=True)
class GoTo:
    """A page of the port sends the browser to this path on the same host: a browser does not send a
    ``SameSite=Strict`` cookie when a link on another site, or a redirect after it, leads here.

    ``code``, if there is one, is used up, and the browser gets the cookie.
    """

    path: str
    code: str = ""


@dataclass(frozen=True)
class AwaitAuthMessage:
    """The web socket may be opened; its first message must hold the auth string."""


Verdict: TypeAlias = Pass | Refuse | GoTo | AwaitAuthMessage


class PortKeys:
    """The credentials of one port, and the names of its host.

    Args:
        port: the number of the port.
        base: the path of the pages, without a slash at its end.
        proxied: whether ``base`` leads here through jupyter-server-proxy.
        also: other auth strings that are accepted; looked at for each request.
        is_prefect: whether the app is Prefect's server: then bodies that a page sends must be JSON, and
            web sockets may authenticate by their first message.
        clock: seconds, for how long the codes of links work.
    """

    def __init__(
        self,
        port: int,
        base: str,
        *,
        proxied: bool = False,
        also: Iterable[SecretStr] = (),
        is_prefect: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.auth_string: SecretStr = SecretStr(f"orchnb:{secrets.token_urlsafe(32)}")
        self.base = base
        self.is_prefect = is_prefect
        self.cookie_name: str = f"orchnb-{port}"
        self._cookie = SecretStr(secrets.token_urlsafe(32))
        self._also = also
        self.is_proxied = proxied
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        self._clock = clock
        self._codes: dict[str, float] = {}  # by their hash, so that a look-up reveals nothing

    def new_code(self) -> str:
        """Return a new code for a link, which works once."""
        code = secrets.token_urlsafe(24)
        while len(self._codes) >= _MOST_CODES:
            self._codes.pop(next(iter(self._codes)), None)  # the host may be using it
        self._codes[_hash(code)] = self._clock() + CODE_LIFETIME
        return code

    def is_code(self, code: str) -> bool:
        """Whether a code would still be accepted."""
        return self._clock() < self._codes.get(_hash(code), float("-inf"))

    def use_code(self, code: str, host: str) -> str | None:
        """Exchange a code for a ``Set-Cookie`` header; None if another request has used the code.

        Only the person's own browser knows the code, so ``host`` is a name of this port from now on: the
        one under which a hub shows it.
        """
        if not self.is_code(code) or self._codes.pop(_hash(code), None) is None:
            return None
        if self.is_proxied:
            self._hosts.add(host.lower())
        value = self._cookie.get_secret_value()
        return f"{self.cookie_name}={value}; Path={self.base}; HttpOnly; SameSite=Strict"

    def is_host(self, host: str) -> bool:
        """Whether the port goes by this name."""
        return host.lower() in self._hosts

    def is_auth_string(self, given: str) -> bool:
        """Whether this is the auth string, or one of those that are accepted as well."""
        accepted = [known.get_secret_value() for known in (self.auth_string, *self._also)]
        # Not empty ones, which a request without credentials would have. All others are compared, so that
        # the time does not tell which one it was.
        return sum(_same(given, known) for known in accepted if known) > 0

    def is_cookie(self, given: str) -> bool:
        """Whether this is the value of the cookie."""
        return _same(given, self._cookie.get_secret_value())

    def inner_path(self, path: str) -> str | None:
        """The path below ``base``, with a slash in front; None if it is not below it."""
        if path == self.base:
            return ""
        return path.removeprefix(self.base) if path.startswith(f"{self.base}/") else None


def decide(scope: Mapping[str, Any], keys: PortKeys) -> Verdict:
    """Decide on an HTTP request or a web socket by its ASGI scope."""
    request = _Request(scope, keys)
    return request.not_addressed_here() or request.from_elsewhere() or request.by_credentials()


class _Request:
    def __init__(self, scope: Mapping[str, Any], keys: PortKeys) -> None:
        self._scope = scope
        self._keys = keys
        self._path: str = scope["path"]
        self._inner = keys.inner_path(self._path)
        self._is_http = scope["type"] == "http"
        self._method: str = scope.get("method", "GET")
        self._is_api = keys.is_prefect and re.match("/api(/|$)", self._inner or "") is not None
        self._host = self._header("host")
        self._site = self._header("sec-fetch-site")

    def not_addressed_here(self) -> Refuse | None:
        """A name that leads here by DNS rebinding, or a request for another server."""
        if not self._path.startswith("/") or len(self._headers("host")) != 1:
            return Refuse(400, "The request names no path on one host.")
        if self._keys.is_host(self._host):
            return None
        if self._keys.is_proxied and self._keys.is_code(self._code()):
            return None  # see `PortKeys.use_code`
        return Refuse(
            403,
            "This port does not answer under this name. Use the address that %orch_serve shows, with "
            "the same port number.",
        )

    def from_elsewhere(self) -> Refuse | None:
        """A request that another site's page has a browser send."""
        origins = self._headers("origin")
        own = [f"{scheme}://{self._host}".lower() for scheme in ("http", "https")]
        if any(origin.lower() not in own for origin in origins) or len(origins) > 1:
            return Refuse(403, "Pages of other origins may not use this port.")
        if self._site in ("", "same-origin") or (self._site == "none" and self._method in _SAFE):
            return None
        if self._is_navigation() and self._inner is not None and not self._is_api:
            return None  # a link that a person follows; its target requires the cookie
        return Refuse(403, "Pages of other sites may not use this port.")

    def by_credentials(self) -> Verdict:
        """Check the credentials, and the further requirements for a request with a cookie."""
        if self._inner == SIGN_IN and self._is_http and self._method == "GET":
            return self._sign_in()
        if self._has_auth_string():
            return Pass("auth string")
        if self._has_cookie():
            return self._with_cookie()
        if not self._is_http:
            protocols = self._scope.get("subprotocols", ())
            if self._keys.is_prefect and "prefect" in protocols and not self._headers("origin"):
                return AwaitAuthMessage()
        elif self._site in ("same-site", "cross-site") and not self._is_again():
            return GoTo(self._with_query(again=True))
        return Refuse(
            401,
            f"This port is for its owner only. In a browser: {_HINT} For other programs, %orch_serve "
            "names a file that sets what they need.",
        )

    def _with_cookie(self) -> Verdict:
        if self._is_again():
            return GoTo(self._with_query(again=False))
        if not self._is_http or self._method in _SAFE:
            return Pass("cookie")
        if not self._headers("origin") and self._site != "same-origin":
            return Refuse(403, "A browser's request that changes something must name its origin.")
        length = self._header("content-length")
        has_body = length not in ("", "0") or self._headers("transfer-encoding")
        kind = self._header("content-type").partition(";")[0].strip().lower()
        if self._keys.is_prefect and has_body and kind != "application/json":
            return Refuse(415, "Send the body as application/json.")
        return Pass("cookie")

    def _sign_in(self) -> Verdict:
        code = self._code()
        if self._keys.is_code(code):
            return GoTo(f"{self._keys.base}/", code)
        if self._has_cookie():
            return GoTo(f"{self._keys.base}/")
        if self._site in ("same-site", "cross-site") and not self._is_again():
            return GoTo(self._with_query(again=True))  # the cookie may exist and not be sent
        return Refuse(403, f"This link has been used already, or is too old. {_HINT}")

    def _code(self) -> str:
        if self._inner != SIGN_IN:
            return ""
        return self._query().get("code", [""])[0]

    def _is_navigation(self) -> bool:
        return (
            self._is_http
            and self._method == "GET"
            and self._header("sec-fetch-mode") == "navigate"
            and self._header("sec-fetch-dest") == "document"
        )

    def _has_auth_string(self) -> bool:
        given = self._headers("authorization")
        return len(given) == 1 and self._keys.is_auth_string(basic_credentials(given[0]))

    def _has_cookie(self) -> bool:
        if self._inner is None:
            return False
        values = cookies(self._headers("cookie"), self._keys.cookie_name)
        return len(values) == 1 and self._keys.is_cookie(values[0])

    def _is_again(self) -> bool:
        return self._is_http and self._method == "GET" and _AGAIN in self._query()

    def _with_query(self, *, again: bool) -> str:
        raw: bytes = self._scope.get("raw_path") or self._path.encode()
        parts = [part for part in self._raw_query().split("&") if part and part != f"{_AGAIN}=1"]
        query = "&".join([*parts, *([f"{_AGAIN}=1"] if again else [])])
        return raw.decode("latin-1") + (f"?{query}" if query else "")

    def _raw_query(self) -> str:
        query: bytes = self._scope.get("query_string", b"")
        return query.decode("latin-1")

    def _query(self) -> dict[str, list[str]]:
        return parse_qs(self._raw_query(), keep_blank_values=True)

    def _headers(self, name: str) -> list[str]:
        found: Sequence[tuple[bytes, bytes]] = self._scope["headers"]
        return [value.decode("latin-1") for key, value in found if key.lower() == name.encode()]

    def _header(self, name: str) -> str:
        values = self._headers(name)
        return values[0] if values else ""


def basic_credentials(header: str) -> str:
    """``user:password`` from the value of an ``Authorization`` header; empty if there are none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):  # ValueError: not UTF-8, or not ASCII before the decoding
        return ""


def cookies(headers: Iterable[str], name: str) -> list[str]:
    """The values of the cookies of that name in the values of ``Cookie`` headers."""
    pairs = [pair.strip().partition("=") for header in headers for pair in header.split(";")]
    return [value for key, _, value in pairs if key == name]


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), known.encode())


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogateescape")).hexdigest()
