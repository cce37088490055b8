"""``make soak``: a hundred thousand requests, then five hundred starts and stops of a small app.

Memory and threads are to stay flat: what the second half adds is compared with what is there after the
first. Ends with 1 if it grows. ``ORCHNB_SOAK_REQUESTS`` and ``ORCHNB_SOAK_CYCLES`` ask for
other numbers.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import psutil

import orchnb

REQUESTS = int(os.environ.get("ORCHNB_SOAK_REQUESTS", "100000"))
CYCLES = int(os.environ.get("ORCHNB_SOAK_CYCLES", "500"))
TIME_LIMIT = 600.0
"""Seconds for all of it."""
MOST_GROWTH = 4.0
"""Megabytes that the second half may add; 0.1 was seen."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers, and has a lifespan with something in its state."""
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["words"] = ["x"] * 1000
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def requests(count: int) -> None:
    """So many requests, ten at a time, half of them from plain code in a thread."""
    async with orchnb.PrefectClient(app) as client:
        with orchnb.SyncPrefectClient(app) as plain:

            def plainly(number: int) -> None:
                for _ in range(number):
                    plain.request("GET", "/x")

            async def awaited(number: int) -> None:
                for _ in range(number):
                    await client.request("GET", "/x")

            part, loop = count // 10, asyncio.get_running_loop()
            with ThreadPoolExecutor(5) as threads:
                await asyncio.gather(
                    *(awaited(part) for _ in range(5)),
                    *(loop.run_in_executor(threads, plainly, part) for _ in range(5)),
                )


async def cycles(count: int) -> None:
    """So many starts and stops, with a request in each."""
    for _ in range(count):
        async with orchnb.PrefectClient(app) as client:
            await client.request("GET", "/x")


async def grows(what: str, work: Callable[[int], Awaitable[None]], count: int) -> bool:
    """Do the work in two halves, and tell what the second has added."""
    began = time.monotonic()
    found = []
    for _ in range(2):
        await work(count // 2)
        gc.collect()
        memory = psutil.Process().memory_info().rss / 1e6
        found.append((memory, threading.active_count()))
    (before, threads_before), (after, threads_after) = found
    print(
        f"{count:,} {what} in {time.monotonic() - began:.0f} s: {before:.1f} MB and {threads_before} "
        f"threads after the first half, {after:.1f} MB and {threads_after} threads at the end"
    )
    return after - before > MOST_GROWTH or threads_after > threads_before


async def main() -> int:
    """Run both; the exit code."""
    with anyio.fail_after(TIME_LIMIT):
        grown = [
            await grows("requests", requests, REQUESTS),
            await grows("starts and stops", cycles, CYCLES),
        ]
    print("It grows." if any(grown) else "Flat.")
    return int(any(grown))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
