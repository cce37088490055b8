"""A lease of the host without an app."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from orchnb.hosting import host
from orchnb.hosting.host import Host
from orchnb.runtime.futures import LoopTask
from orchnb.runtime.interrupts import deferred_interrupts

T = TypeVar("T")


@contextmanager
def lease_host() -> Iterator[Host]:
    """The host, started if need be, for the length of a ``with`` block."""
    with deferred_interrupts():
        leased = host._acquire()
    try:
        yield leased
    finally:
        host._release()


def call_on(leased: Host, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the host's loop, in the caller's context, and wait for its result."""
    return LoopTask(leased.loop, coroutine).result()
