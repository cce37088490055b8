"""The private names of Python's own asyncio and threading that orchnb uses, each behind a function.

Nothing else in orchnb uses them. `tests/test_internals.py` fails when a version of Python drops one.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


def can_be_stepped(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether `step` and the functions below it work on a loop.

    They work on the loops that are written in Python, which are asyncio's and those derived from them.
    asyncio has no public way to run a loop from code that the same loop is running.
    """
    return all(hasattr(loop, name) for name in ("_run_once", "_ready", "_stopping"))


def step(loop: asyncio.AbstractEventLoop) -> None:
    """Run a loop for one iteration."""
    loop._run_once()  # type: ignore[attr-defined] # see `can_be_stepped`


def ready_handles(loop: asyncio.AbstractEventLoop) -> Any:
    """Return the queue of handles that a loop runs in its next iterations."""
    return loop._ready  # type: ignore[attr-defined] # see `can_be_stepped`


def set_ready_handles(loop: asyncio.AbstractEventLoop, handles: Any) -> None:
    """Make a loop take its handles from another queue."""
    loop._ready = handles  # type: ignore[attr-defined] # see `can_be_stepped`


def is_stopping(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop was told to stop. The public names only tell whether it runs."""
    return bool(loop._stopping)  # type: ignore[attr-defined] # see `can_be_stepped`


@contextmanager
def outside_of_its_task(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let a loop run other tasks during the block, although one of its tasks runs the block.

    Python's documentation names both functions for authors of other task classes ("Extending asyncio").
    """
    task = asyncio.current_task(loop)
    if task is None:
        yield
        return
    asyncio.tasks._leave_task(loop, task)
    try:
        yield
    finally:
        asyncio.tasks._enter_task(loop, task)


def context_of(handle: asyncio.Handle) -> contextvars.Context:
    """Return the context that a handle's callback runs in. It is public since Python 3.12."""
    if sys.version_info >= (3, 12):
        return handle.get_context()
    any_handle: Any = handle
    context: contextvars.Context = any_handle._context
    return context


def discard_silently(task: Any) -> None:
    """Keep asyncio from reporting on stderr that a pending task was garbage-collected.

    asyncio has no public way to say so. Without the name, the report is printed.
    """
    with suppress(AttributeError):
        task._log_destroy_pending = False


def call_before_threads_are_joined(function: Callable[[], object]) -> None:
    """Call a function at exit, while new threads can still be started.

    ``atexit`` calls functions after the interpreter has joined all threads that are not daemons.
    ``concurrent.futures`` uses the same hook. Calls are made in reverse order.

    Raises:
        RuntimeError: the interpreter is exiting already.
    """
    register = getattr(threading, "_register_atexit", atexit.register)
    register(function)
