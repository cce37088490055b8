"""Prefect's server, answering without asking each of its routes in turn whether a request is its own.

It has some 190 of them, and a small request's time goes half into that. Which route a request goes to
is settled by its method and its path alone, so it can be remembered.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import MutableMapping, Sequence
from typing import Any

_API_PATH = "/api"

_MOST_REMEMBERED = 1000
"""Paths hold names that people choose, so there may be any number of them."""

_UUID = re.compile(r"(?<=/)[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?=/|$)")

_ROUTE = "orchnb.route"


def remember_routes(app: Any) -> None:
    """Have a Prefect app's API go straight to the route that answered the same path before.

    Paths are the same that differ in UUIDs only. A path that no route answers in full (404, 405, a
    slash too many) is left to the routes as before.
    """
    for mounted in app.routes:
        router = getattr(getattr(mounted, "app", None), "router", None)
        if router is not None and getattr(mounted, "path", None) == _API_PATH:
            router.routes.insert(0, _remembering(tuple(router.routes)))


def _remembering(routes: Sequence[Any]) -> Any:
    """A route of Starlette's, before ``routes``, for what one of them is known to answer."""
    routing: Any = importlib.import_module("starlette.routing")
    full, none = routing.Match.FULL, routing.Match.NONE
    known: dict[tuple[str, ...], Any] = {}

    class Remembering(routing.BaseRoute):  # type: ignore[misc] # found at run time, when Prefect is there
        def matches(self, scope: MutableMapping[str, Any]) -> tuple[Any, Any]:
            if scope["type"] != "http":
                return none, {}
            # In pieces, as no path can look like another one that has been cut.
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
