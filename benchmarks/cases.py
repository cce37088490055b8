"""What is compared. Each case returns the results of its contestants, the reference among them."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from measure import Result, compare_async, compare_calls, process

import orchnb

REMOTE = "http://127.0.0.1:4200/api"


@dataclass(frozen=True)
class Case:
    """A comparison: its title, what orchnb is to keep to, and how it is made."""

    title: str
    reference: str
    limit: float
    """The most that orchnb's ratio to the reference may be."""
    run: Callable[[], list[Result]]


async def trivial_app(scope: Any, receive: Any, send: Any) -> None:
    """The cheapest app there can be, so that the client's own cost shows."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def overhead() -> list[Result]:
    """One GET on the trivial app, on the caller's loop."""
    from httpx_retries import RetryTransport
    from prefect.client.base import PrefectHttpxAsyncClient as PeerClient

    async def main() -> list[Result]:
        transport = httpx.ASGITransport(trivial_app)
        options: dict[str, Any] = {"transport": transport, "base_url": "http://app"}
        clients = {
            "httpx": httpx.AsyncClient(**options),
            "orchnb": orchnb.PrefectHttpxAsyncClient(**options),
            "prefect": PeerClient(**options),
            "httpx-retries": httpx.AsyncClient(
                transport=RetryTransport(transport=transport), base_url="http://app"
            ),
        }
        operations = {name: (lambda c=client: c.get("/")) for name, client in clients.items()}
        return await compare_async(operations, reference="httpx", rounds=150, repeat=100)

    return asyncio.run(main())


def second_client() -> list[Result]:
    """Making a client when another has been made before."""
    return compare_calls(
        {"httpx": httpx.AsyncClient, "orchnb": orchnb.PrefectHttpxAsyncClient},
        reference="httpx",
        rounds=100,
    )


def import_alone() -> list[Result]:
    """A process that imports the package and ends."""
    return compare_calls(
        {"import httpx": process("import httpx"), "import orchnb": process("import orchnb")},
        reference="import httpx",
        rounds=15,
    )


def client_ready() -> list[Result]:
    """A process that has a client ready for a server elsewhere, and ends."""
    ours = "import orchnb; orchnb.get_client()"
    theirs = "from prefect.client.orchestration import get_client; get_client()"
    return compare_calls(
        {
            "prefect": process(theirs, PREFECT_API_URL=REMOTE),
            "orchnb": process(ours, PREFECT_API_URL=REMOTE),
        },
        reference="prefect",
        rounds=9,
    )


def hosted_request() -> list[Result]:
    """``/hello`` of the real Prefect server: through the host thread, and on the caller's own loop."""
    from prefect.server.api.server import create_app

    from orchnb.runtime.ephemeral import ephemeral_app, host_app
    from orchnb.runtime.transport import HostedTransport

    async def main() -> list[Result]:
        hosted = host_app(ephemeral_app(orchnb.get_settings()))
        await hosted.wait_started_async()
        app = create_app(ephemeral=True, ignore_cache=True)
        url = "http://app/api"
        try:
            async with (
                orchnb.app_lifespan_context(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url) as own,
                httpx.AsyncClient(transport=HostedTransport(hosted), base_url=url) as through,
            ):
                return await compare_async(
                    {
                        "caller's own loop": lambda: own.get("/hello"),
                        "orchnb's host": lambda: through.get("/hello"),
                    },
                    reference="caller's own loop",
                    rounds=60,
                    repeat=30,
                )
        finally:
            hosted.close()
            hosted.wait_closed()

    with tempfile.TemporaryDirectory() as home:
        os.environ["PREFECT_HOME"] = home
        os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
        return asyncio.run(main())


CASES = (
    Case("A request's overhead (trivial ASGI app)", "httpx", 1.05, overhead),
    Case("Making a second client", "httpx", 0.1, second_client),
    Case("A process that imports it", "import httpx", 0.5, import_alone),
    Case("A process with a client ready", "prefect", 0.45, client_ready),
    Case("A request to the Prefect server in-process", "caller's own loop", 1.0, hosted_request),
)
