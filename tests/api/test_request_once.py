"""`client.request`: a method that is not idempotent is sent once when the server may have acted."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

import orchnb
from orchnb.http.retry import RetryPolicy
from tests.http import wire

AT_ONCE: dict[str, Any] = {
    "retry_policy": RetryPolicy(random=lambda: 0.0),
    "enable_csrf_support": False,
}


def request(kind: str, url: str, method: str, path: str, **more: Any) -> httpx.Response:
    def wait(seconds: float) -> None:
        del seconds

    async def await_(seconds: float) -> None:
        del seconds

    async def asked() -> httpx.Response:
        options = {**AT_ONCE, "sleep": await_}
        async with orchnb.PrefectClient(url, httpx_settings=options) as client:
            return await client.request(method, path, **more)

    if kind == "async":
        return asyncio.run(asked())
    with orchnb.SyncPrefectClient(url, httpx_settings={**AT_ONCE, "sleep": wait}) as client:
        return client.request(method, path, **more)


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("failure", [wire.cut, wire.reset, wire.close])
@pytest.mark.parametrize(
    ("method", "path", "sent"),
    [
        ("POST", "/flow_runs/", 1),
        ("post", "/flow_runs/", 1),
        ("PATCH", "/flow_runs/1", 1),
        ("POST", "/my/route?then=/filter", 1),
        ("GET", "/flow_runs/1", 2),
        ("PUT", "/anything", 2),
        ("DELETE", "/flow_runs/1", 2),
        ("POST", "/flow_runs/filter", 2),
        ("POST", "/flow_runs/count?x=1", 2),
    ],
)
def test_a_lost_answer(kind: str, failure: Any, method: str, path: str, sent: int) -> None:
    with wire.wire(failure, wire.http(200)) as server:
        if sent == 1:
            with pytest.raises(
                orchnb.OutcomeUnknown, match="the server may have acted on it"
            ) as caught:
                request(kind, server.url, method, path)
            assert "It was not sent again" in caught.value.hint
        else:
            assert request(kind, server.url, method, path).status_code == 200
        assert len(server.requests) == sent


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_what_the_server_has_refused_is_sent_again(kind: str) -> None:
    with wire.wire(wire.http(503), wire.http(200)) as server:
        assert request(kind, server.url, "POST", "/flow_runs/").status_code == 200
        assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_the_caller_may_say_that_it_is_safe(kind: str) -> None:
    for again in ({"repeatable": True}, {"extensions": {"orchnb.once": False}}):
        with wire.wire(wire.cut, wire.http(200)) as server:
            assert request(kind, server.url, "POST", "/flow_runs/", **again).status_code == 200
            assert len(server.requests) == 2


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_the_caller_may_say_that_it_is_not_safe(kind: str) -> None:
    with wire.wire(wire.cut, wire.http(200)) as server:
        with pytest.raises(orchnb.OutcomeUnknown):
            request(kind, server.url, "GET", "/next-number", repeatable=False)
        assert len(server.requests) == 1
