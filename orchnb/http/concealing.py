"""Conceal the secrets in what httpx is given, holds and builds."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Generator, Mapping
from http.cookiejar import CookieJar
from types import FrameType
from typing import Any

import httpx

from orchnb.concealed import (
    Body,
    ConcealedBytes,
    ConcealedText,
    concealed,
    concealed_url,
    forget_frames,
)
from orchnb.http._httpx import H11_MODULES, TRANSPORT_MODULE, set_content
from orchnb.http.cookies import HostCookies
from orchnb.http.header_check import check_headers
from orchnb.redaction import HARMLESS_HEADERS

_HARMLESS = frozenset(name.encode() for name in HARMLESS_HEADERS)
_COOKIE_HEADERS = frozenset({b"set-cookie", b"set-cookie2"})
_WIRE = frozenset(
    {
        "anyio",
        "h11",
        "h2",
        "hpack",
        "httpcore",
        "socksio",
        "ssl",
        "trio",
    }
)
"""The packages whose functions write requests to the network."""
_BODIES = ("json", "data", "files")


class BasicAuth(httpx.Auth):
    """``httpx.BasicAuth``, with its header concealed."""

    def __init__(self, username: str | bytes, password: str | bytes) -> None:
        pair = b":".join(
            part.encode() if isinstance(part, str) else part for part in (username, password)
        )
        self._header = ConcealedText(f"Basic {b64encode(pair).decode()}")

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with the header."""
        request.headers["Authorization"] = self._header
        yield request


class Cookies(httpx.Cookies):
    """``httpx.Cookies``, with the values concealed."""

    def __init__(self, cookies: Any = None) -> None:
        shared = isinstance(cookies, CookieJar)  # it belongs to the caller, and is filled by both
        super().__init__(cookies if shared else HostCookies())
        if not shared:
            self.update(cookies)

    def extract_cookies(self, response: httpx.Response) -> None:
        """As httpx's, and conceal the response's headers that have set cookies."""
        headers = response.headers.raw
        for name, _ in headers:
            if name.lower() in _COOKIE_HEADERS:
                super().extract_cookies(response)
                response.headers = httpx.Headers(
                    [
                        (name, ConcealedBytes(value) if name.lower() in _COOKIE_HEADERS else value)
                        for name, value in headers
                    ]
                )
                break

    def __repr__(self) -> str:
        return f"<Cookies({sorted(self)})>"


def conceal(request: httpx.Request) -> None:
    """Conceal the headers and the body of a request. Credentials move from its URL to a header, as httpx
    would do it, since httpx logs the URL."""
    url = request.url
    if url.userinfo:
        request.headers["Authorization"] = BasicAuth(url.username, url.password)._header
        request.url = url.copy_with(userinfo=b"")
    headers = request.headers.raw
    for name, value in headers:
        if type(value) is bytes and name.lower() not in _HARMLESS:
            request.headers = httpx.Headers([_header(*each) for each in headers])
            break
    if type(request.stream) is httpx.ByteStream:
        content = request.read()
        if content and type(content) is bytes:
            body = Body(content)
            request.stream = httpx.ByteStream(body)
            set_content(request, body)


def _header(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name, value if name.lower() in _HARMLESS else ConcealedBytes(value)


def conceal_failure(error: BaseException, handled: BaseException | None) -> None:
    """Take the frames that hold what was sent out of the error of a request that failed on its way."""
    forget_frames(error, _WIRE, handled=handled, if_=_holds_data)
    if isinstance(error, httpx.ProtocolError):
        forget_frames(error, (TRANSPORT_MODULE,), handled=handled)  # one has the message


def _holds_data(frame: FrameType) -> bool:
    return any(_is_data(value) for value in frame.f_locals.values())


def _is_data(value: object) -> bool:
    """Whether a value is data on its way to the network, or headers."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_data, value))
    return (
        isinstance(value, (bytes, bytearray, memoryview)) or type(value).__module__ in H11_MODULES
    )


def concealed_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of httpx's clients or of their requests, with the secrets in them concealed."""
    shown = dict(options)
    for name in _BODIES:
        if name in shown:
            shown[name] = concealed(shown[name])
    if isinstance(content := shown.get("content"), bytes):
        shown["content"] = Body(content)
    elif isinstance(content, str):
        shown["content"] = ConcealedText(content)
    if shown.get("headers") is not None:
        shown["headers"] = _concealed_headers(shown["headers"])
    if isinstance(cookies := shown.get("cookies"), Mapping) and type(cookies) is dict:
        shown["cookies"] = {name: concealed(value) for name, value in cookies.items()}
    elif isinstance(cookies, (list, tuple)):
        shown["cookies"] = [(name, concealed(value)) for name, value in cookies]
    if isinstance(auth := shown.get("auth"), tuple):
        shown["auth"] = BasicAuth(*auth)
    if isinstance(proxy := shown.get("proxy"), str):
        shown["proxy"] = concealed_url(proxy)
    return shown


def _concealed_headers(headers: Any) -> Any:
    if isinstance(headers, httpx.Headers):
        return httpx.Headers([_header(*each) for each in headers.raw])
    if isinstance(headers, Mapping):
        return dict(_concealed_headers(headers.items()))
    return [(name, value if _is_harmless(name) else concealed(value)) for name, value in headers]


def _is_harmless(name: str | bytes) -> bool:
    return name.lower() in (_HARMLESS if isinstance(name, bytes) else HARMLESS_HEADERS)


class Concealing:
    """For httpx's clients: conceal the secrets in what they hold and build."""

    _concealed_cookies: Cookies | None = None

    def build_request(self, *args: Any, **kwargs: Any) -> httpx.Request:
        """As httpx's; the secrets in the request are concealed.

        Raises:
            InvalidSetting: a header cannot be sent.
        """
        handled = sys.exc_info()[1]
        try:
            if kwargs.get("headers") is not None:
                kwargs["headers"] = _concealed_headers(kwargs["headers"])
                check_headers(kwargs["headers"])
            request: httpx.Request = super().build_request(*args, **kwargs)  # type: ignore[misc] # httpx's
        except BaseException as exc:
            args, kwargs = (), {}
            forget_frames(exc, ("httpx", "json"), handled=handled)
            raise
        conceal(request)
        return request

    @property
    def cookies(self) -> Cookies:
        """The cookies that go with every request."""
        cookies = self._concealed_cookies
        if cookies is None:
            cookies = self._concealed_cookies = Cookies()
        return cookies

    @cookies.setter
    def cookies(self, cookies: Any) -> None:
        self._concealed_cookies = Cookies(cookies)
