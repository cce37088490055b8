"""Watch flow runs, in a notebook or in a script."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api.context import get_or_create_client
from orchnb.observers import follow_observers
from orchnb.runs.selection import select_runs
from orchnb.runs.states import has_failed, state_type
from orchnb.runs.waiting import in_seconds
from orchnb.runs.watching import watch_runs
from orchnb.text import one_line

if TYPE_CHECKING:
    from orchnb.api.client import PrefectClient
    from orchnb.runs.following import Following
    from orchnb.runs.watching import WatchedRuns


async def watch(
    runs: Iterable[Any] | UUID | str | Any | None = None,
    *,
    timeout: float | timedelta | None = None,
    client: PrefectClient | None = None,
) -> WatchedRuns:
    """Watch flow runs until all have ended, and return them as last seen.

    A notebook shows a table of what they are doing. In a script, a line is printed to stderr for each
    change, if stderr is a terminal. An interrupt ends the watch, not the runs. A thousand runs take at
    most two requests per second.

    Args:
        runs: a flow run, its id or the beginning of it, its name, or several of these; by default all
            that are active.
        timeout: seconds to watch; None watches without a limit. When they are over, the runs are returned
            as last seen.
        client: the client to use; by default the one that `get_or_create_client` finds.

    Raises:
        ObjectNotFound: there is no flow run with that id.
        ReferenceNotFound: there is no flow run with that name, or whose id begins so.
        AmbiguousReference: several flow runs have that name, or ids that begin so.
    """
    seconds = in_seconds(timeout)
    found, is_there = get_or_create_client(client)
    if not is_there:
        async with found:
            return await _watch(found, runs, seconds)
    return await _watch(found, runs, seconds)


async def _watch(client: PrefectClient, runs: Any, seconds: float | None) -> WatchedRuns:
    selected = await client.perform(select_runs(runs), "watch")
    if follow_observers.are_any or not sys.stderr.isatty():
        return await client.perform(watch_runs(selected, seconds))
    with follow_observers.observe(_Lines(sys.stderr.write)):
        return await client.perform(watch_runs(selected, seconds))


class _Lines:
    """Writes a line for each run that fails, and one with the counts whenever they change."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._counts = ""
        self._told: set[UUID] = set()

    def __call__(self, following: Following) -> None:
        runs = following.all_runs()
        now = time.strftime("%H:%M:%S")
        for run in filter(has_failed, runs):
            if run.id not in self._told:
                self._told.add(run.id)
                message = run.state.message if run.state is not None else ""
                words = one_line(f"{run.name}: {run.state_name}: {message or ''}", 300)
                self._write(f"{now} {words}\n")
        numbers = Counter(map(state_type, runs))
        counts = ", ".join(f"{number:,} {kind.lower()}" for kind, number in numbers.items())
        if counts != self._counts:
            self._counts = counts
            self._write(f"{now} {counts}\n")
