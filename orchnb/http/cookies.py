"""Cookies that are limited to one host each, and in number and size as in a browser.

httpx keeps cookies in the standard library's jar: without limits, and with domain cookies, which are
sent to every host below a domain. An API needs neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import copy
from http.client import HTTPResponse
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request

import httpx

from orchnb.concealed import ConcealedText

MOST_PER_HOST = 180
LARGEST_COOKIE = 4096
"""The maximum length of a cookie's name and value together (RFC 6265, 6.1)."""

_LONGEST_PATH = 1024


class HostCookies(CookieJar):
    """A cookie jar whose cookies are sent only to the host that set them.

    ``home`` is the host for cookies without a domain, which are those that the program sets itself.
    """

    def __init__(self, home: str = "") -> None:
        super().__init__(_HostPolicy())
        self._home = home
        self._start_use: Callable[[], object] | None = None

    def when_used(self, start: Callable[[], object]) -> None:
        """Call ``start`` once, as soon as there is a cookie."""
        self._start_use = start
        self._used()

    def _used(self) -> None:
        if self._start_use is not None and any(True for _ in self):
            start, self._start_use = self._start_use, None
            start()

    def set_cookie(self, cookie: Cookie) -> None:
        """Store a cookie, with its value concealed."""
        if cookie.value is not None:
            cookie = copy(cookie)  # it may belong to the caller
            cookie.value = ConcealedText(cookie.value)
        super().set_cookie(cookie)
        self._used()

    def extract_cookies(self, response: HTTPResponse, request: Request) -> None:
        """Store the cookies of a response; if there are too many, remove the oldest ones."""
        super().extract_cookies(response, request)
        if len(self) <= MOST_PER_HOST:
            return
        counts = Counter(cookie.domain for cookie in self)
        for cookie in list(self):
            if counts[cookie.domain] > MOST_PER_HOST:
                counts[cookie.domain] -= 1
                self.clear(cookie.domain, cookie.path, cookie.name)

    def keep_to_host(self, request: httpx.Request) -> None:
        """Remove the cookies of other hosts, which httpx adds, from a request's Cookie header."""
        host = request.url.host
        others = {
            f"{cookie.name}={cookie.value}" for cookie in self if not self._is_for(cookie, host)
        }
        header = request.headers.get("Cookie")
        if header is None or not others:
            return
        kept = [pair for pair in header.split("; ") if pair not in others]
        if kept:
            request.headers["Cookie"] = "; ".join(kept)
        else:
            del request.headers["Cookie"]

    def _is_for(self, cookie: Cookie, host: str) -> bool:
        if not cookie.domain:
            return self._home in ("", host)
        if cookie.domain_specified:
            return True  # set by the program itself, see below
        # The jar puts an IPv6 address in brackets, and appends .local to a name without a dot.
        names = (host, f"[{host}]")
        return cookie.domain in (*names, *(f"{name}.local" for name in names))


class _HostPolicy(DefaultCookiePolicy):
    """Accepts cookies that are not too large, and limits each to the host that sets it (RFC 6265,
    5.3)."""

    def set_ok(self, cookie: Cookie, request: Request) -> bool:
        size = len(cookie.name) + len(cookie.value or "")
        if (
            size > LARGEST_COOKIE
            or len(cookie.path) > _LONGEST_PATH
            or not super().set_ok(cookie, request)
        ):
            return False
        if cookie.domain_specified:
            host = urlsplit(request.full_url).hostname or ""
            cookie.domain = host if "." in host else f"{host}.local"
            cookie.domain_specified = cookie.domain_initial_dot = False
        return True


def host_cookies(options: dict[str, Any]) -> Any:
    """Return the jar for a client with these httpx arguments; a jar passed by the user is not changed."""
    given = options.get("cookies")
    if isinstance(given, CookieJar):
        return given
    jar = HostCookies(httpx.URL(options.get("base_url") or "").host)
    for cookie in httpx.Cookies(given).jar:
        jar.set_cookie(cookie)
    return jar
