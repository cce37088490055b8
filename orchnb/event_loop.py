"""Which event loop runs in this thread."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TypeAlias

Loop: TypeAlias = object
"""An event loop: asyncio's loop object, or trio's token."""


def current_loop() -> Loop | None:
    """Return the event loop that runs in this thread, or None: asyncio's loop object or trio's token."""
    # trio first, as anyio does: a cell of "%autoawait trio" runs inside the kernel's asyncio loop.
    if "trio" in sys.modules:  # trio cannot be running if nothing has imported it
        from trio import lowlevel  # waits if another thread is in the middle of importing it

        with suppress(RuntimeError):  # no task: trio 0.26 has no other way to tell
            lowlevel.current_task()
            token: Loop = lowlevel.current_trio_token()
            return token
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_closed(loop: Loop) -> bool:
    """Return whether a loop was closed, and so can never run again."""
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()
