"""Find the route of a request to Prefect's server without trying each route in turn.

The server has about 190 routes, and trying them takes half the time of a small request. The route depends
only on the method and the path, so it can be cached.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import MutableMapping, Sequence
from typing import Any

_API_PATH = "/api"

_MOST_REMEMBERED = 1000
"""Paths contain names that users choose, so their number is unlimited."""

_UUID = re.compile(r"(?<=/)[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?=/|$)")

_ROUTE = "orchnb.route"


def remember_routes(app: Any) -> None:
    """Make a Prefect app's API use the route that matched the same path before.

    Paths that differ only in UUIDs count as the same. A path that no route matches fully (404, 405, an
    extra slash) is handled by the routes as before.
    """
    for mounted in app.routes:
        router = getattr(getattr(mounted, "app", None), "router", None)
        if router is not None and getattr(mounted, "path", None) == _API_PATH:
            router.routes.insert(0, _remembering(tuple(router.routes)))


def _remembering(routes: Sequence[Any]) -> Any:
    """Return a Starlette route, to go before ``routes``, for paths that one of them has matched."""
    routing: Any = importlib.import_module("starlette.routing")
    full, none = routing.Match.FULL, routing.Match.NONE
    known: dict[tuple[str, ...], Any] = {}

    class Remembering(routing.BaseRoute):  # type: ignore[misc] # found at run time, when Prefect is there
        def matches(self, scope: MutableMapping[str, Any]) -> tuple[Any, Any]:
            if scope["type"] != "http":
                return none, {}
            # As separate pieces, so that no path can look like another path that was split.
            key = (scope["method"], scope.get("root_path", ""), *_UUID.split(scope["path"]))
            remembered = known.get(key)
            for route in routes if remembered is None else (remembered,):
                match, child_scope = route.matches(scope)
                if match is full:
                    if remembered is None:
                        if len(known) >= _MOST_REMEMBERED:
                            known.clear()
                        known[key] = route
                    return match, {**child_scope, _ROUTE: route}
            return none, {}

        async def handle(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            await scope.pop(_ROUTE).handle(scope, receive, send)

    return Remembering()
