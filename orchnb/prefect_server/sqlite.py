"""Prefect's sqlite database with several writers: they wait for each other instead of failing.

Prefect's transactions begin as readers, and become writers at their first write. sqlite rejects that
immediately, regardless of the timeout, if there was another write in between, because the data that the
transaction has read is outdated. So a few concurrent requests are enough for "database is locked", which
Prefect returns as a 503, or for each flow run of a bulk creation.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from weakref import WeakKeyDictionary

from orchnb.forks import around_forks, in_forked_child
from orchnb.prefect_server import internals


@functools.cache
def sqlite_configuration() -> Any:
    """Return Prefect's class for a sqlite database, with transactions that begin as writers.

    It is one class for the whole process, because Prefect keeps databases by class and address.
    """
    begin_mode = internals.SQLITE_BEGIN_MODE.get()

    class WritesInTurn(internals.SQLITE_CONFIGURATION.get()):  # type: ignore[misc] # found at run time, when Prefect is there
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
                WeakKeyDictionary()
            )
            self._writer: asyncio.Task[Any] | None = None

        @asynccontextmanager
        async def begin_transaction(
            self,
            session: Any,
            with_for_update: bool = False,  # noqa: ARG002 - Prefect's signature
        ) -> AsyncIterator[Any]:
            async with AsyncExitStack() as stack:
                task = asyncio.current_task()
                if self._writer is not task:
                    # A wait within sqlite polls at up to 100 ms, in no order.
                    turn = self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock())
                    await stack.enter_async_context(turn)
                    await _begin_writing()
                    stack.callback(_may_fork.release)
                    self._writer = task
                    stack.callback(setattr, self, "_writer", None)
                mode = begin_mode.set("IMMEDIATE")
                try:
                    transaction = await stack.enter_async_context(session.begin())
                    await session.connection()  # the transaction begins here
                finally:
                    begin_mode.reset(mode)
                yield transaction

    return WritesInTurn


# A process that is forked within a transaction inherits sqlite's record of a lock that it does not hold,
# and deadlocks.
_may_fork = threading.Lock()
_LONGEST_DELAY = 1.0
"""Seconds that a fork waits for the end of a transaction; a longer one is considered stuck."""


async def _begin_writing() -> None:
    while not _may_fork.acquire(blocking=False):  # noqa: ASYNC110 - another thread forks
        await asyncio.sleep(0.001)


_forks = threading.local()


def _before_fork() -> None:
    _forks.waited = _may_fork.acquire(timeout=_LONGEST_DELAY)


def _after_fork_in_parent() -> None:
    if _forks.waited:
        _may_fork.release()


@in_forked_child
def _after_fork_in_child() -> None:
    global _may_fork
    _may_fork = threading.Lock()


around_forks(_before_fork, _after_fork_in_parent)
