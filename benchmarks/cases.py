"""What is compared. Each case returns the results of its contestants, the reference among them."""

from __future__ import annotations

import asyncio
import atexit
import functools
import gc
import os
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from measure import Result, compare_async, compare_calls, process, summarise

import orchnb

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for the kernels and servers of the tests

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


def warm_request() -> list[Result]:
    """``hello`` by orchnb's client: to the server in this process, and to one over loopback HTTP."""
    from tests.servers import prefect_home, prefect_server

    async def main(url: str) -> list[Result]:
        own = orchnb.get_client()
        async with own, orchnb.PrefectClient(url) as other:
            return await compare_async(
                {"over loopback HTTP": other.hello, "orchnb, in-process": own.hello},
                reference="over loopback HTTP",
                rounds=60,
                repeat=30,
            )

    with tempfile.TemporaryDirectory() as folder:
        prefect_home(Path(folder, ".prefect"))
        prefect_home(Path(folder, "own"))
        os.environ["PREFECT_HOME"] = str(Path(folder, "own"))
        with prefect_server(Path(folder)) as url:
            return asyncio.run(main(url))


def per_cell() -> list[Result]:
    """What a cell does that wants one answer over loopback HTTP, each with the client as it is meant."""
    from prefect.client.orchestration import PrefectClient as PeerClient

    from orchnb.api.context import end_notebook_session
    from orchnb.runtime.loops import set_notebook_loop
    from tests.servers import prefect_home, prefect_server

    async def main(url: str) -> list[Result]:
        set_notebook_loop(asyncio.get_running_loop())

        async def plain() -> object:
            async with httpx.AsyncClient(base_url=url) as client:
                return await client.get("/hello")

        async def theirs() -> object:
            async with PeerClient(url) as client:
                return await client.hello()

        async def ours() -> object:
            return await orchnb.get_client().hello()

        results = await compare_async(
            {"httpx": plain, "orchnb": ours, "prefect": theirs},
            reference="prefect",
            rounds=30,
            repeat=5,
        )
        session = end_notebook_session()
        for left in session.close() if session is not None else ():
            await left
        return results

    with tempfile.TemporaryDirectory() as folder:
        prefect_home(Path(folder, ".prefect"))
        with prefect_server(Path(folder)) as url:
            os.environ["PREFECT_API_URL"] = url
            return asyncio.run(main(url))


_THEIR_CELLS = (
    "from prefect.client.orchestration import get_client",
    "async with get_client() as client:\n    await client.hello()",
)
_OUR_CELLS = ("%load_ext orchnb", "await orchnb.get_client().hello()")

_READING = 10.0
"""Seconds that a person reads between loading the extension and the first call."""

_QUICK = 0.15
"""Seconds that loading the extension may take."""


def first_answer() -> list[Result]:
    """From the first cell of a fresh kernel to the answer of a server of its own, database in place."""
    return _in_kernels({"prefect": lambda: sum(_cells(_THEIR_CELLS)), "orchnb": _loaded_and_asked})


def first_answer_after_reading() -> list[Result]:
    """The same, but a person reads between the two; only the cells' own time counts."""
    return _in_kernels(
        {
            "prefect": lambda: sum(_cells(_THEIR_CELLS)),
            "orchnb": lambda: sum(_cells(_OUR_CELLS, pause=_READING)),
        }
    )


def loading() -> list[Result]:
    """``%load_ext orchnb`` in a fresh kernel."""
    return _in_kernels(
        {"0.15 s": lambda: _QUICK, "orchnb": lambda: _cells(_OUR_CELLS[:1])[0]}, reference="0.15 s"
    )


def _loaded_and_asked() -> float:
    return sum(_cells(_OUR_CELLS))


def _in_kernels(
    contestants: dict[str, Callable[[], float]], *, reference: str = "prefect", rounds: int = 5
) -> list[Result]:
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            taken[name].append(measure())
    return summarise(taken, reference)


@functools.cache
def _home_in_place() -> Path:
    """A PREFECT_HOME in which a server has been started before, as all but the first ever find it."""
    from tests.servers import prefect_home

    folder = tempfile.TemporaryDirectory(prefix="orchnb-bench-")
    atexit.register(folder.cleanup)
    home = prefect_home(Path(folder.name))
    start = "import orchnb\nwith orchnb.get_client(sync_client=True) as client: client.hello()"
    process(start, PREFECT_HOME=str(home))()
    return home


def _cells(sources: tuple[str, ...], *, pause: float = 0.0) -> list[float]:
    """The seconds that each cell takes in a fresh kernel, whose end takes with it what it started."""
    import psutil

    from tests.notebook.kernels import kernel

    home = _home_in_place()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        with kernel(Path(folder), PREFECT_HOME=str(home), PYTHONPATH=str(ROOT)) as cell:
            taken = []
            for source in sources:
                began = time.perf_counter()
                shown = cell(source, timeout=120)
                taken.append(time.perf_counter() - began)
                assert not shown.errors, shown.traceback
                time.sleep(pause)
            started = psutil.Process(int(cell.value("import os\nos.getpid()"))).children(True)
            cell.client.shutdown()
            deadline = time.monotonic() + 10
            while cell.manager.is_alive() and time.monotonic() < deadline:
                time.sleep(0.05)
        for process in started:
            if process.is_running():
                process.kill()
    return taken


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
    Case("A request in a warm cell", "over loopback HTTP", 1.0, warm_request),
    Case("A cell that wants one answer", "prefect", 1.0, per_cell),
    Case("From the first cell to the first answer", "prefect", 0.45, first_answer),
    Case("The same after ten seconds of reading", "prefect", 0.1, first_answer_after_reading),
    Case("%load_ext orchnb", "0.15 s", 1.0, loading),
    Case(f"{RUNS:,} flow runs listed into models", "prefect", 1.0, listing),
    Case(f"Memory of {RUNS:,} flow runs listed", "prefect", 1.0, listing_memory),
)
