"""What is compared: `CASES`.

The function of a case is called with its number of rounds and the size of one, in a process of its
own with a ``PREFECT_HOME`` of its own. It returns what each contestant took. The name of a contestant
may have a comma, and after it what is special about this way of taking part.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
from kernels import cells
from measure import Taken, compare_async, compare_calls, process, turns

import orchnb

ORCHNB, PREFECT, HTTPX, HTTPX_RETRIES = "orchnb", "Prefect's client", "httpx", "httpx-retries"
OVER_LOOPBACK = "over loopback HTTP"
AFTER_READING = f"{ORCHNB}, with ten seconds to read in between"


@dataclass(frozen=True)
class Limit:
    """The most that orchnb may take: as a ratio to the case's reference, or in seconds."""

    most: float
    unit: Literal["ratio", "s"] = "ratio"


@dataclass(frozen=True)
class Case:
    """A comparison, and what orchnb is to keep to in it."""

    title: str
    reference: str
    run: Callable[[int, int], Taken]
    rounds: int
    size: int = 1
    """Of one round: so many requests, flow runs, or seconds of reading."""
    unit: Literal["s", "B"] = "s"
    limits: Mapping[str, Limit] = field(default_factory=dict)
    """By the name of the contestant."""
    database: bool = True
    """Whether there is to be one in ``PREFECT_HOME``, which a server has used before."""


@contextmanager
def server(name: str = "server") -> Iterator[str]:
    """A Prefect server in a process of its own, over loopback HTTP; its API's URL."""
    from tests.servers import prefect_server

    mine = Path(os.environ["PREFECT_HOME"])
    home = mine.with_name(name)
    shutil.copytree(mine, home)
    with prefect_server(home, PREFECT_HOME=str(home)) as url:
        yield url


async def trivial_app(scope: Any, receive: Any, send: Any) -> None:
    """The cheapest app there can be, so that the client's own cost shows."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def with_retries(transport: httpx.AsyncBaseTransport | None = None, **options: Any) -> Any:
    """A client of httpx with the transport of httpx-retries, as its documentation makes it."""
    from httpx_retries import RetryTransport

    return httpx.AsyncClient(transport=RetryTransport(transport=transport), **options)


def overhead(rounds: int, size: int) -> Taken:
    """GETs on the trivial app, on the caller's loop."""
    from prefect.client.base import PrefectHttpxAsyncClient as PeerClient

    async def main() -> Taken:
        options: dict[str, Any] = {
            "transport": httpx.ASGITransport(trivial_app),
            "base_url": "http://app",
        }
        clients = {
            HTTPX: httpx.AsyncClient(**options),
            HTTPX_RETRIES: with_retries(**options),
            PREFECT: PeerClient(**options),
            ORCHNB: orchnb.PrefectHttpxAsyncClient(**options),
        }
        operations = {name: (lambda c=client: c.get("/")) for name, client in clients.items()}
        return await compare_async(operations, rounds=rounds, repeat=size)

    return asyncio.run(main())


def another_client(rounds: int, _: int) -> Taken:
    """Making a client when others have been made before."""
    from prefect.client.base import PrefectHttpxAsyncClient as PeerClient

    clients = {
        HTTPX: httpx.AsyncClient,
        HTTPX_RETRIES: with_retries,
        PREFECT: PeerClient,
        ORCHNB: orchnb.PrefectHttpxAsyncClient,
    }
    return compare_calls(clients, rounds=rounds)


_IMPORTS = {
    HTTPX: "import httpx",
    HTTPX_RETRIES: "import httpx_retries",
    PREFECT: "from prefect.client.orchestration import get_client",
    ORCHNB: "import orchnb",
}


def import_alone(rounds: int, _: int) -> Taken:
    """A process that imports the package and ends."""
    return compare_calls({name: process(code) for name, code in _IMPORTS.items()}, rounds=rounds)


def client_ready(rounds: int, _: int) -> Taken:
    """A process that has a client ready for a server elsewhere, and ends."""
    url = "http://127.0.0.1:4200/api"
    made_by = {
        HTTPX: f"httpx.AsyncClient(base_url={url!r})",
        HTTPX_RETRIES: "import httpx; httpx.AsyncClient("
        f"base_url={url!r}, transport=httpx_retries.RetryTransport())",
        PREFECT: "get_client()",
        ORCHNB: "orchnb.get_client()",
    }
    processes = {
        name: process(f"{_IMPORTS[name]}; {code}", PREFECT_API_URL=url)
        for name, code in made_by.items()
    }
    return compare_calls(processes, rounds=rounds)


def hosted_request(rounds: int, size: int) -> Taken:
    """``/hello`` of the real Prefect server in this process: the others run it on the caller's loop."""
    from prefect.client.orchestration import PrefectClient as PeerClient
    from prefect.server.api.server import create_app

    async def main() -> Taken:
        app = create_app(ephemeral=True, ignore_cache=True)
        transport, url = httpx.ASGITransport(app), "http://app/api"
        async with (
            PeerClient(app) as theirs,  # which runs the app's lifespan
            httpx.AsyncClient(transport=transport, base_url=url) as plain,
            with_retries(transport, base_url=url) as retrying,
            orchnb.get_client() as ours,
        ):
            operations = {
                HTTPX: lambda: plain.get("/hello"),
                HTTPX_RETRIES: lambda: retrying.get("/hello"),
                PREFECT: theirs.hello,
                ORCHNB: ours.hello,
            }
            return await compare_async(operations, rounds=rounds, repeat=size)

    return asyncio.run(main())


def warm_request(rounds: int, size: int) -> Taken:
    """``/hello`` of a server in this process, and of one over loopback HTTP, by clients that are open."""
    from prefect.client.orchestration import PrefectClient as PeerClient

    async def main(url: str) -> Taken:
        async with (
            httpx.AsyncClient(base_url=url) as plain,
            with_retries(base_url=url) as retrying,
            PeerClient(url) as theirs,
            orchnb.PrefectClient(url) as ours,
            orchnb.get_client() as in_process,
        ):
            operations = {
                f"{HTTPX}, {OVER_LOOPBACK}": lambda: plain.get("/hello"),
                f"{HTTPX_RETRIES}, {OVER_LOOPBACK}": lambda: retrying.get("/hello"),
                f"{PREFECT}, {OVER_LOOPBACK}": theirs.hello,
                f"{ORCHNB}, {OVER_LOOPBACK}": ours.hello,
                ORCHNB: in_process.hello,
            }
            return await compare_async(operations, rounds=rounds, repeat=size)

    with server() as url:
        return asyncio.run(main(url))


def per_cell(rounds: int, size: int) -> Taken:
    """What a cell does that wants one answer over loopback HTTP, each with the client as it is meant."""
    from prefect.client.orchestration import PrefectClient as PeerClient

    from orchnb.api.context import end_notebook_session
    from orchnb.runtime.loops import set_notebook_loop

    async def main(url: str) -> Taken:
        set_notebook_loop(asyncio.get_running_loop())

        async def plain() -> object:
            async with httpx.AsyncClient(base_url=url) as client:
                return await client.get("/hello")

        async def retrying() -> object:
            async with with_retries(base_url=url) as client:
                return await client.get("/hello")

        async def theirs() -> object:
            async with PeerClient(url) as client:
                return await client.hello()

        async def ours() -> object:
            return await orchnb.get_client().hello()

        operations = {HTTPX: plain, HTTPX_RETRIES: retrying, PREFECT: theirs, ORCHNB: ours}
        taken = await compare_async(operations, rounds=rounds, repeat=size)
        session = end_notebook_session()
        for left in session.close() if session is not None else ():
            await left
        return taken

    with server() as url:
        os.environ["PREFECT_API_URL"] = url
        return asyncio.run(main(url))


_FIRST_CELLS = {**_IMPORTS, ORCHNB: "%load_ext orchnb"}
_THEIR_ANSWER = "async with get_client() as client:\n    await client.hello()"
_OUR_ANSWER = "await orchnb.get_client().hello()"


def loading(rounds: int, _: int) -> Taken:
    """The first cell of a fresh kernel."""
    return _in_kernels(
        {name: lambda c=code: cells(c) for name, code in _FIRST_CELLS.items()}, rounds
    )


def first_answer(rounds: int, reading: int) -> Taken:
    """From the first cell of a fresh kernel to the answer of a server of its own, database in place.

    With reading, a person reads for so many seconds between loading and asking; only the cells count.
    """
    ours = _FIRST_CELLS[ORCHNB], _OUR_ANSWER
    return _in_kernels(
        {
            PREFECT: lambda: cells(_FIRST_CELLS[PREFECT], _THEIR_ANSWER),
            ORCHNB: lambda: cells(*ours),
            AFTER_READING: lambda: cells(*ours, pause=reading),
        },
        rounds,
    )


def _in_kernels(contestants: dict[str, Callable[[], float]], rounds: int) -> Taken:
    taken: Taken = {name: [] for name in contestants}
    for name in turns(contestants, rounds):
        taken[name].append(contestants[name]())
    return taken


_PAGE = 200


def listing(rounds: int, size: int) -> Taken:
    """So many flow runs of a server over loopback HTTP, page by page, as models."""

    async def times(operations: dict[str, Callable[[], Awaitable[object]]]) -> Taken:
        return await compare_async(operations, rounds=rounds, repeat=1)

    return asyncio.run(_listing(times, size))


def listing_memory(rounds: int, size: int) -> Taken:
    """The most memory that such a list takes while it is read, and with it."""

    async def peaks(operations: dict[str, Callable[[], Awaitable[object]]]) -> Taken:
        taken: Taken = {name: [] for name in operations}
        for name in turns(operations, rounds + 1):  # the first imports and fills caches
            gc.collect()
            tracemalloc.start()
            listed = await operations[name]()
            taken[name].append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            del listed
        return {name: found[1:] for name, found in taken.items()}

    return asyncio.run(_listing(peaks, size))


async def _listing(
    measure: Callable[[dict[str, Callable[[], Awaitable[object]]]], Awaitable[Taken]], size: int
) -> Taken:
    from prefect.client.orchestration import PrefectClient as PeerClient
    from prefect.client.schemas.sorting import FlowRunSort

    with server() as url:
        async with orchnb.PrefectClient(url) as client, PeerClient(url) as peer:
            flow_id = await client.create_flow_from_name("listed")
            for number in range(size):
                await client.create_flow_run(
                    flow_id, name=str(number), tags=["a"], parameters={"number": number}
                )

            async def ours() -> object:
                return [run async for run in client.iter_flow_runs()]

            async def theirs() -> object:
                runs = []
                for offset in range(0, size, _PAGE):
                    runs += await peer.read_flow_runs(
                        sort=FlowRunSort.ID_DESC, limit=_PAGE, offset=offset
                    )
                return runs

            return await measure({PREFECT: theirs, ORCHNB: ours})


def at_most(ratio: float) -> dict[str, Limit]:
    """The limits of a case in which orchnb takes part in one way."""
    return {ORCHNB: Limit(ratio)}


_ALONE = partial(Case, database=False)

CASES = (
    _ALONE("Importing it in a fresh process", HTTPX, import_alone, 9, limits=at_most(0.5)),
    _ALONE("A client ready in a fresh process", PREFECT, client_ready, 9, limits=at_most(0.45)),
    _ALONE("Making another client", HTTPX, another_client, 100, limits=at_most(0.1)),
    _ALONE("A request's overhead", HTTPX, overhead, 150, 100, limits=at_most(1.05)),
    Case("A cell that wants one answer", PREFECT, per_cell, 30, 5, limits=at_most(1)),
    Case(
        "A request in a warm cell",
        f"{ORCHNB}, {OVER_LOOPBACK}",
        *(warm_request, 60, 30),
        limits=at_most(1),
    ),
    Case(
        "A request to a Prefect server in the same process",
        HTTPX,
        hosted_request,
        60,
        30,
        limits=at_most(1),
    ),
    Case("Loading it in a fresh kernel", PREFECT, loading, 5, limits={ORCHNB: Limit(0.15, "s")}),
    Case(
        "From loading it to the first answer of a separate server",
        PREFECT,
        *(first_answer, 4, 10),
        limits={ORCHNB: Limit(0.45), AFTER_READING: Limit(0.1)},
    ),
    Case("A list of 2,000 flow runs", PREFECT, listing, 7, 2000, limits=at_most(1)),
    Case(
        "Memory for a list of 2,000 flow runs",
        PREFECT,
        listing_memory,
        2,
        2000,
        unit="B",
        limits=at_most(1),
    ),
)
