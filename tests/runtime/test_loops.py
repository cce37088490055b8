"""Event loops: which one runs, whose it is, waking it and ending it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import Any

import anyio
import pytest
import trio

from orchnb.event_loop import current_loop
from orchnb.runtime import loops
from orchnb.runtime.loops import loop_event, on_notebook_thread
from tests.runtime.test_run import (
    in_a_thread_beside_idle_ipython,
    in_idle_ipython,
    in_trio_in_asyncio,
)


def test_what_runs_where_can_be_asked() -> None:
    async def inside() -> object:
        return current_loop()

    assert current_loop() is None
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(inside()) is loop
    loop.close()
    assert type(trio.run(inside)).__name__ == "TrioToken"
    assert "Token" in type(in_trio_in_asyncio(current_loop)).__name__
    assert not on_notebook_thread()
    assert in_idle_ipython(on_notebook_thread)
    assert not in_a_thread_beside_idle_ipython(on_notebook_thread)


def test_what_runs_can_be_asked_while_another_thread_imports_trio() -> None:
    """As httpcore does, which is imported where it is first needed."""
    code = """
import sys, threading
from orchnb.event_loop import current_loop

assert "trio" not in sys.modules
thread = threading.Thread(target=__import__, args=["trio"])
thread.start()
while thread.is_alive():
    assert current_loop() is None
assert "trio" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_tasks_begin_while_they_are_cancelled_is_seen_to_its_end() -> None:
    """As SQLAlchemy closes the connections of cancelled tasks, on threads that tell the loop of it."""
    loop = asyncio.new_event_loop()
    told: list[str] = []

    async def close() -> None:
        await loop.run_in_executor(None, time.sleep, 0.05)
        told.append("closed")

    async def use() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            told.append("cancelled")
            closing.append(asyncio.ensure_future(close()))

    closing: list[asyncio.Future[None]] = []
    using = loop.create_task(use())
    loop.run_until_complete(asyncio.sleep(0))
    loops.finish_loop(loop, timeout=2)
    assert using.cancelled()
    assert told == ["cancelled", "closed"]
    assert loop.is_closed()


# Events.


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.mark.anyio
async def test_an_event_is_set_by_another_thread_or_before_anybody_waits() -> None:
    event, early = loop_event(), loop_event()
    early.set()
    threading.Timer(0.01, event.set).start()
    assert await event.wait()
    assert await event.wait(60)  # again, as it stays set
    assert await early.wait(60)


@pytest.mark.anyio
async def test_a_wait_for_an_event_that_is_not_set_ends_and_may_be_taken_up_again() -> None:
    event = loop_event()
    assert not await event.wait(0.001)
    assert not await event.wait(0.001)
    event.set()
    event.set()
    assert await event.wait(60)


@pytest.mark.anyio
async def test_a_wait_for_an_event_can_be_cancelled_and_taken_up_again() -> None:
    event = loop_event()
    with anyio.move_on_after(0.001) as scope:
        await event.wait()
    assert scope.cancelled_caught
    event.set()
    assert await event.wait(60)


def test_an_event_of_a_loop_that_has_ended_is_set_without_effect(anyio_backend: str) -> None:
    async def make() -> Any:
        return loop_event()

    anyio.run(make, backend=anyio_backend).set()
