"""Make the background services of Prefect's server share a database, and end with the server.

Prefect's services are designed to be the only ones on their database, and to run until the process ends.
Here several processes may each run them, and continue after they end. So while a server runs in this
process, a few of Prefect's functions are replaced by wrappers.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchnb.prefect_server import internals
from orchnb.runtime.file_locks import lock_at, locked

_WATCH_LOCK_NAME = ".orchnb-watch.lock"

_LAST_WORDS = 0.5
"""Seconds that services may take after they are cancelled; slower ones end with the loop."""


@asynccontextmanager
async def well_behaved_services(home: Path) -> AsyncIterator[None]:
    """Make the services of a server with its database below ``home`` take turns with those of other
    processes, and end with the block, which must contain the server's lifespan."""
    with watching_in_turn(home / _WATCH_LOCK_NAME), _evaluations_that_end():
        try:
            yield
        finally:
            await _end_services()


@contextmanager
def watching_in_turn(path: Path) -> Iterator[None]:
    """Let only one process at a time evaluate proactive triggers: events that should have happened.

    Every server on a database evaluates them, for all automations. It reads that no server has acted yet,
    acts, and then records that: two servers at the same moment would both act.
    """
    lock = lock_at(path)

    def in_turn(look: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def look_in_turn() -> None:
            async with locked(lock):
                await look()

        return look_in_turn

    with _replaced(internals.EVALUATE_PROACTIVELY, in_turn):
        yield


@contextmanager
def _replaced(internal: internals.Internal, make: Callable[[Any], Any]) -> Iterator[None]:
    """Replace one of Prefect's functions that evaluate triggers with a wrapper, if Prefect has it.

    If it is already replaced, because this is a fork or because an abandoned server is still ending, the
    new wrapper is still made from Prefect's function.
    """
    found = internal.get()
    if found is None:
        yield
        return
    real = inspect.unwrap(found)
    ours = functools.wraps(real)(make(real))
    internal.replace(ours)
    try:
        yield
    finally:
        if internal.get() is ours:
            internal.replace(real)


@contextmanager
def _evaluations_that_end() -> Iterator[None]:
    """Make Prefect's periodic evaluation end when it is cancelled.

    After each evaluation it sleeps for a period of 5 s, even after one that was cancelled. A server that
    is stopped at such a moment, for example just after its start, would use its whole shutdown time.
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
                period.has_ended = True
                evaluating.cancel()
                await asyncio.wait([evaluating])

        return evaluate_until_cancelled

    with _replaced(internals.EVALUATE_PERIODICALLY, ending):
        yield


async def _end_services() -> None:
    """End the remaining Prefect tasks on this loop: a service that was stopped before it began still
    begins, when Prefect's functions are no longer replaced."""
    folder = f"{internals.package_folder()}{os.sep}"

    def is_prefects(task: asyncio.Task[Any]) -> bool:
        code = getattr(task.get_coro(), "cr_code", None)  # some coroutines are not Python code
        return code is not None and code.co_filename.startswith(folder)

    left = [task for task in asyncio.all_tasks() if is_prefects(task)]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_LAST_WORDS)


class _Period(timedelta):
    """A period whose length becomes zero when it has ended."""

    has_ended = False

    def total_seconds(self) -> float:
        return 0.0 if self.has_ended else super().total_seconds()
