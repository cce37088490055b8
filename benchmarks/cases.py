"""What is compared. Each case returns the results of its contestants, the reference among them."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from measure import Result, compare_async, compare_calls, process, summarise

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


RUNS = 2000
_PAGE = 200


def listing() -> list[Result]:
    """`RUNS` flow runs of a real server over HTTP, page by page, as models."""
    return asyncio.run(_listing(_times))


def listing_memory() -> list[Result]:
    """The most memory that such a list takes while it is read, and with it."""
    return asyncio.run(_listing(_peaks))


async def _listing(
    measure: Callable[[dict[str, Callable[[], Awaitable[object]]]], Awaitable[list[Result]]],
) -> list[Result]:
    from prefect.client.orchestration import PrefectClient as PeerClient
    from prefect.client.schemas.sorting import FlowRunSort

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.servers import prefect_home, prefect_server

    with tempfile.TemporaryDirectory() as folder:
        prefect_home(Path(folder, ".prefect"))
        with prefect_server(Path(folder)) as url:
            async with orchnb.PrefectClient(url) as client, PeerClient(url) as peer:
                flow_id = await client.create_flow_from_name("listed")
                for number in range(RUNS):
                    await client.create_flow_run(
                        flow_id, name=str(number), tags=["a"], parameters={"number": number}
                    )

                async def ours() -> object:
                    return [run async for run in client.iter_flow_runs()]

                async def theirs() -> object:
                    runs = []
                    for offset in range(0, RUNS, _PAGE):
                        runs += await peer.read_flow_runs(
                            sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=offset
                        )
                    return runs

                return await measure({"prefect": theirs, "orchnb": ours})


async def _times(operations: dict[str, Callable[[], Awaitable[object]]]) -> list[Result]:
    return await compare_async(operations, reference="prefect", rounds=9, repeat=1)


async def _peaks(operations: dict[str, Callable[[], Awaitable[object]]]) -> list[Result]:
    peaks: dict[str, list[float]] = {name: [] for name in operations}
    for _ in range(4):  # the first round imports and fills caches, and does not count
        for name, operation in operations.items():
            gc.collect()
            tracemalloc.start()
            listed = await operation()
            peaks[name].append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            del listed
    return summarise({name: found[1:] for name, found in peaks.items()}, "prefect", "B")


CASES = (
    Case("A request's overhead (trivial ASGI app)", "httpx", 1.05, overhead),
    Case("Making a second client", "httpx", 0.1, second_client),
    Case("A process that imports it", "import httpx", 0.5, import_alone),
    Case("A process with a client ready", "prefect", 0.45, client_ready),
    Case("A request to the Prefect server in-process", "caller's own loop", 1.0, hosted_request),
    Case(f"{RUNS:,} flow runs listed into models", "prefect", 1.0, listing),
    Case(f"Memory of {RUNS:,} flow runs listed", "prefect", 1.0, listing_memory),
)
