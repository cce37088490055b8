"""Find out where the API is, if a server answers as if there were none at the API URL.

People leave out the ``/api`` at the end, or paste the address of the server's web pages. Every request
then gets a web page, a 404 or a 405, which must not read as if an object were missing.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import httpx

from orchnb.errors import OrchnbError, PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.http.body import LARGEST_SMALL_ANSWER
from orchnb.http.calls import Call, Path, json_of
from orchnb.redaction import redact_url

_MOST_PLACES = 3
_WORKSPACE = re.compile(r"/accounts/[^/]+/workspaces/[^/]+$")


def looks_wrong(api_url: str, *, is_cloud: bool) -> bool:
    """Return whether this is an unusual address for an API, such as one that does not end in /api."""
    url = httpx.URL(api_url)
    if url.query:
        return True
    path = url.path.rstrip("/")
    return not (_WORKSPACE.search(path) if is_cloud else path.endswith("/api"))


def is_suspicious(error: Exception) -> bool:
    """Return whether a server answers like this to a path that it does not have."""
    if isinstance(error, UnexpectedAnswer):
        return True
    if not isinstance(error, PrefectHTTPStatusError) or error.status_code not in (404, 405):
        return False
    is_json = "json" in error.response.headers.get("content-type", "")
    return not is_json or error.detail in ("", "Not Found", "Method Not Allowed")


def find_api(api_url: str, *, is_cloud: bool) -> Generator[Call[Any], Any, str]:
    """Return what is wrong with an API URL and where the API is; empty if that could not be found out."""
    here = redact_url(api_url)
    if is_cloud:
        return (
            f"{here} is not the address of a workspace. Set PREFECT_API_URL to an address such as "
            "https://api.prefect.cloud/api/accounts/ACCOUNT/workspaces/WORKSPACE: `prefect cloud "
            "workspace set` does so."
        )
    url = httpx.URL(api_url)
    if not url.query and (yield from _is_api(api_url)):
        return ""
    for place in _places(url):
        if (yield from _is_api(place)):
            found = redact_url(place)
            return f"The API is not at {here} but at {found}. Set PREFECT_API_URL={found}"
    return ""


def _places(url: httpx.URL) -> list[str]:
    """Return where the API may be, the likeliest place first: on the same server, as requests have
    credentials."""
    segments = [segment for segment in url.path.split("/") if segment]
    paths = [segments] if segments[-1:] == ["api"] else [[*segments, "api"]]
    if "api" in segments:
        paths.append(segments[: segments.index("api") + 1])
    paths += [[*segments[:length], "api"] for length in (len(segments) - 1, 0) if length >= 0]
    places: list[str] = []
    for path in paths:
        place = str(
            url.copy_with(path="/" + "/".join(path), query=None, fragment=None, userinfo=b"")
        )
        if place not in places:
            places.append(place)
    return places[:_MOST_PLACES]


def _is_api(place: str) -> Generator[Call[Any], Any, bool]:
    """Return whether the API is there: Prefect's server and its cloud say ``true`` at ``/health``."""
    health = Path(f"{place}/health")
    try:
        answer = yield from Call("GET", health, json_of, largest=LARGEST_SMALL_ANSWER)
    except PrefectHTTPStatusError as exc:
        is_json = "json" in exc.response.headers.get("content-type", "")
        return exc.status_code in (401, 403) and is_json
    except (OrchnbError, httpx.HTTPError):
        return False
    return answer is True
