"""What Prefect's server looks after by itself, made fit for sharing a database and for ending.

A service of Prefect's is meant to be the only one on its database, and to run until its process ends.
Here several processes have one each, and go on after it. So a few of Prefect's functions are replaced
while a server runs in this process, by ones that are made of them.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchnb.runtime.locks import lock_at, locked

_WATCH_LOCK_NAME = ".orchnb-watch.lock"

_LAST_WORDS = 0.5
"""Seconds that services may take which are cancelled in the end; what takes longer ends with the loop."""


@asynccontextmanager
async def well_behaved_services(home: Path) -> AsyncIterator[None]:
    """Have the services of a server, whose database is below ``home``, take turns with those of other
    processes, and end with the block, which is to hold the server's lifespan."""
    with watching_in_turn(home / _WATCH_LOCK_NAME), _evaluations_that_end():
        try:
            yield
        finally:
            await _end_services()


@contextmanager
def watching_in_turn(path: Path) -> Iterator[None]:
    """Have only one process at a time look for what did not happen and should have.

    Every server on a database does, for all automations. It reads from the database that nobody has
    acted yet, acts, and then writes that down: two that look at the same moment would both act.
    """
    lock = lock_at(path)

    def in_turn(look: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def look_in_turn() -> None:
            async with locked(lock):
                await look()

        return look_in_turn

    with _replaced("evaluate_proactive_triggers", in_turn):
        yield


@contextmanager
def _replaced(name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Have one of Prefect's functions that evaluate triggers replaced by what is made of it.

    Where ours stands in its place already, because this is a fork, or because a server is about to end
    that is waited for no more, it is Prefect's all the same that ours is made of.
    """
    triggers: Any = importlib.import_module("prefect.server.events.triggers")
    real = inspect.unwrap(getattr(triggers, name))
    ours = functools.wraps(real)(make(real))
    setattr(triggers, name, ours)
    try:
        yield
    finally:
        if getattr(triggers, name) is ours:
            setattr(triggers, name, real)


@contextmanager
def _evaluations_that_end() -> Iterator[None]:
    """Have what Prefect evaluates again and again end when it is cancelled.

    After each evaluation it sleeps for a period of 5 s, also after one that was cancelled. A server
    that is stopped at such a moment, as one is that has just started, would take all the time it may.
    """

    def ending(
        evaluate: Callable[[timedelta], Coroutine[Any, Any, None]],
    ) -> Callable[[timedelta], Awaitable[None]]:
        async def evaluate_until_cancelled(granularity: timedelta) -> None:
            period = _Period(seconds=granularity.total_seconds())
            evaluating = asyncio.ensure_future(evaluate(period))
            try:
                await asyncio.wait([evaluating])
            finally:
                period.is_over = True
                evaluating.cancel()
                await asyncio.wait([evaluating])

        return evaluate_until_cancelled

    with _replaced("evaluate_periodically", ending):
        yield


async def _end_services() -> None:
    """End what is left of Prefect's tasks on this loop: a service that was stopped before it had begun
    begins all the same, with what stood in the place of Prefect's functions gone by then."""
    folder = os.path.dirname(str(importlib.import_module("prefect").__file__)) + os.sep

    def is_prefects(task: asyncio.Task[Any]) -> bool:
        code = getattr(task.get_coro(), "cr_code", None)  # some coroutines are not Python's
        return code is not None and code.co_filename.startswith(folder)

    left = [task for task in asyncio.all_tasks() if is_prefects(task)]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_LAST_WORDS)


class _Period(timedelta):
    """A period that takes no more time once it is over."""

    is_over = False

    def total_seconds(self) -> float:
        return 0.0 if self.is_over else super().total_seconds()
