"""How to find the OpenAPI document of a Prefect-compatible server, and what is not in the document."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import httpx

from orchnb.errors import OrchnbError, PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.http.body import LARGEST_SMALL_ANSWER
from orchnb.http.calls import Call, json_of, path
from orchnb.openapi.discovery import FoundDescription, document_cache, find_description
from orchnb.openapi.parser import Conventions

if TYPE_CHECKING:
    from orchnb.asgi import ASGIApp

PREFECT = Conventions(
    # The second title is from version 3.6.
    titles=frozenset({"Prefect REST API", "Prefect Prefect REST API"}),
    reads=frozenset({"count", "filter", "history", "lateness", "paginate"}),
    headers=frozenset({"x-prefect-api-version"}),
)


def find_operations(
    api_url: str, app: ASGIApp | None, *, refresh: bool = False
) -> Generator[Call[Any], Any, FoundDescription]:
    """Get the description of a server, as `find_description` does; ``app`` if it is an in-process app."""
    # An app under development changes without a new version. Prefect's server does not.
    by_version = app is None or (isinstance(app, EphemeralApp) and app.is_prefect)
    return find_description(
        api_url,
        document_cache() if by_version else None,
        server_version,
        in_process=app is not None,
        refresh=refresh,
        conventions=PREFECT,
    )


def server_version() -> Generator[Call[Any], Any, str | None]:
    """Return the server's version, or None if it does not report one as Prefect's server does."""
    try:
        version = yield from Call(
            "GET", path("/admin/version"), json_of, largest=LARGEST_SMALL_ANSWER
        )
    except PrefectHTTPStatusError as exc:
        if exc.status_code >= 500:
            raise  # a request for the document would fail too
        return None
    except UnexpectedAnswer:
        return None
    return version if isinstance(version, str) and 0 < len(version) < 200 else None


SERVERS_LIMIT = 200
"""The most objects that Prefect's server returns at once, by default."""


def servers_limit() -> Generator[Call[Any], Any, int]:
    """Return the most objects that the server returns at once, ``PREFECT_SERVER_API_DEFAULT_LIMIT``, or
    the default of that setting if the server does not tell."""
    try:
        settings = yield from Call(
            "GET", path("/admin/settings"), json_of, largest=LARGEST_SMALL_ANSWER, timeout=5.0
        )
        limit = settings["server"]["api"]["default_limit"]
    except (OrchnbError, httpx.HTTPError, LookupError, TypeError):
        return SERVERS_LIMIT
    return limit if isinstance(limit, int) else SERVERS_LIMIT
