"""Redirects that are followed: to another path of the same server, with the same method and body.

FastAPI answers so (307) if only a slash at the end of a path is missing. Redirects to other servers are
not followed, as the request's credentials must not go there; the error says where they lead.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urljoin

import httpx

from orchnb.http.concealing import conceal
from orchnb.redaction import without_query

MOST_REDIRECTS = 5
"""How many redirects of one request are followed."""


def next_hop(response: httpx.Response, number: int) -> httpx.Request | None:
    """Return the request that the ``number``-th redirect (from 0) asks for; None if it is not followed.

    httpx has built it, unless it follows redirects itself.
    """
    hop = response.next_request
    if response.status_code not in (307, 308) or hop is None or number >= MOST_REDIRECTS:
        return None
    if _origin(hop.url) != _origin(response.request.url):
        return None
    if not isinstance(hop.stream, httpx.ByteStream):
        return None  # a body from an iterator can be read only once
    conceal(hop)
    return hop


def redirect_hint(response: httpx.Response, line: Callable[[str], str]) -> str:
    """Return what to do about a redirect that was not followed. ``line`` returns a server's text as one
    line without secrets."""
    location = response.headers.get("location", "")
    target = line(without_query(location))
    here = response.request.url
    try:
        there = httpx.URL(urljoin(str(here), location))
        same_path = there.path.rstrip("/") == here.path.rstrip("/")
        is_here = _origin(there) == _origin(here)
    except (httpx.InvalidURL, ValueError):
        same_path = is_here = False
    if location and is_here:
        return (
            f"The server redirects to {target}, which is on the same server: use that path, or, if it is "
            "a login page, log in first."
        )
    if location and same_path:
        origin = line(without_query(there.copy_with(path="/")))
        hint = f"The server redirects to {target}: PREFECT_API_URL should begin with {origin}"
        if here.scheme == "https" and there.scheme == "http":
            return (
                f"The server redirects from https to {target}, so it does not know that a proxy in "
                "front of it uses https. Have it trust the proxy's headers (for uvicorn: "
                "FORWARDED_ALLOW_IPS), or write the path as in that address."
            )
        return (
            f"{hint}. The request was not sent there, as its credentials are for this server only."
        )
    return (
        f"The server redirects to {target or 'another address'}: use that address as "
        "PREFECT_API_URL, or, if it is a login page, log in or get past the proxy first."
    )


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port (RFC 6454, 4); httpx leaves out a scheme's usual port."""
    return url.scheme, url.host, url.port
