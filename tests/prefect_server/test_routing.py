"""That Prefect's server, which remembers routes, sends each request where it would have sent it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchnb.prefect_server import routing as prefect_routes
from orchnb.prefect_server.routing import remember_routes

pytest.importorskip("prefect", reason="the extra 'server' is not installed")

IDS = tuple(str(UUID(int=number)) for number in (1, 2))
NAMES = ("a", "{}", "filter", "count", IDS[0].replace("-", ""))

# So old a client is refused by each operation before it does anything.
HEADERS = [(b"x-prefect-api-version", b"0.0.1")]


class Apps:
    """Two of Prefect's apps, of which one remembers routes, and the operations of each."""

    def __init__(self) -> None:
        self.plain, self.remembering = prefect_app(), prefect_app()
        remember_routes(self.remembering)
        described = api_of(self.plain).openapi()["paths"]
        self.operations = [
            (method.upper(), "/api" + path)
            for path, methods in described.items()
            for method in methods
        ]


def prefect_app() -> Any:
    from prefect.server.api.server import create_app

    return create_app(ephemeral=True, ignore_cache=True)


def api_of(app: Any) -> Any:
    return next(route.app for route in app.routes if getattr(route, "path", None) == "/api")


@pytest.fixture(scope="module")
def apps() -> Iterator[Apps]:
    told = logging.getLogger("prefect.server")  # of each refused request
    level = told.level
    told.setLevel(logging.CRITICAL)
    yield Apps()
    told.setLevel(level)


def ask(app: Any, method: str, path: str) -> dict[str, Any]:
    """Where a request ends in an app, and with what."""
    sent: list[dict[str, Any]] = []
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": HEADERS,
        "server": ("app", 80),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return {
        "status": sent[0]["status"],
        "location": dict(sent[0]["headers"]).get(b"location"),
        "function": getattr(scope.get("endpoint"), "__qualname__", None),
        "values": scope.get("path_params"),
        "body": b"".join(message.get("body", b"") for message in sent),
    }


def test_each_operation_is_found_again_with_other_values(apps: Apps) -> None:
    assert len(apps.operations) > 150
    for method, path in apps.operations:
        answers = []
        for value in (*IDS, *NAMES):
            asked = re.sub("{[^}]*}", value, path)
            answers.append(ask(apps.remembering, method, asked))
            assert answers[-1] == ask(apps.plain, method, asked)
        assert any(answer["function"] for answer in answers), path


@given(st.data())
def test_any_requests_in_any_order_end_where_they_did(apps: Apps, data: st.DataObject) -> None:
    words = sorted({part for _, path in apps.operations for part in path.split("/")})
    parts = st.sampled_from((*IDS, *NAMES, *words))
    paths = st.lists(parts, max_size=5).map(lambda each: "/".join(("/api", *each)))
    methods = st.sampled_from(("GET", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"))
    for method, path in data.draw(st.lists(st.tuples(methods, paths), min_size=1, max_size=6)):
        assert ask(apps.remembering, method, path) == ask(apps.plain, method, path)


def test_more_paths_than_are_remembered_are_answered_as_well(
    apps: Apps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefect_routes, "_MOST_REMEMBERED", 2)
    for name in ("a", "b", "c", "a"):
        path = f"/api/variables/name/{name}"
        assert ask(apps.remembering, "GET", path) == ask(apps.plain, "GET", path)


def test_a_path_asked_for_again_is_not_looked_for_among_all_routes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    asked: list[str] = []

    class Noted(Route):
        def matches(self, scope: Any) -> Any:
            asked.append(self.path)
            return super().matches(scope)

    async def answer(request: Any) -> PlainTextResponse:
        return PlainTextResponse(str(request.path_params["id"]))

    paths = [f"/{name}/{{id:uuid}}" for name in ("flows", "runs", "pools")]
    api = Starlette(routes=[Noted(path, answer) for path in paths])
    app = Starlette(routes=[Mount("/api", app=api)])
    remember_routes(app)
    monkeypatch.setattr(prefect_routes, "_MOST_REMEMBERED", 2)
    for name in ("pools", "runs"):
        for identity in IDS:
            assert ask(app, "GET", f"/api/{name}/{identity}")["body"] == identity.encode()
    assert asked == [*paths, paths[2], *paths[:2], paths[1]]
    asked.clear()
    ask(app, "GET", f"/api/pools/{IDS[0]}")  # as many are known as can be, and they stay so
    assert asked == [paths[2]]
