"""Wait for flow runs to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchnb.api import models
from orchnb.api.models.base import ModelList
from orchnb.errors import FlowRunsFailed, FlowRunWaitTimeout
from orchnb.http.calls import Call
from orchnb.http.effects import Sleep
from orchnb.runs.following import Following, RunChange
from orchnb.runs.pace import Clock
from orchnb.runs.states import has_ended, state_type
from orchnb.text import one_line

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, TaskRun

_MOST_NAMED = 5


def wait_for(
    following: Following,
    timeout: float | None,
    *,
    on_change: Callable[[RunChange], object] | None = None,
    clock: Clock = time.monotonic,
) -> Generator[Call[Any] | Sleep, Any, bool]:
    """Wait until all runs have ended; return False if they have not within ``timeout`` seconds.

    With a timeout of 0, look once. ``on_change`` is called for each change.
    """
    until = None if timeout is None else clock() + timeout
    with following.until_end():
        while not following.done:
            found = yield from following.call(until)
            for change in following.take(found):
                if on_change is not None:
                    on_change(change)
            if until is not None and clock() >= until and not following.done:
                return False
        yield from following.last_look()
        return True


def list_of_runs(runs: Iterable[FlowRun]) -> ModelList[FlowRun]:
    """Return flow runs as a list that a notebook shows as a table."""
    return ModelList(runs, model=models.FlowRun)


def timed_out(following: Following, timeout: float, *, left: int = 0) -> FlowRunWaitTimeout:
    """Return the error for runs that have not ended within ``timeout`` seconds.

    ``left`` is how many were not even created.
    """
    runs = list_of_runs(following.all_runs())
    waiting = [run for run in runs if not has_ended(run)]
    if len(runs) == 1 and not left:
        what, they = f"Flow run {name_and_state(runs[0])} has", "It goes on"
    else:
        what = f"{len(waiting)} of {len(runs)} flow runs have"
        they = "They go on"
    message = f"{what} not ended after {_seconds(timeout)}"
    if waiting and (len(runs) > 1 or left):
        message += f": {_listed(waiting)}"
    if left:
        message += f"; {left:,} more were not created"
    if following.trouble is not None:
        message += f". The server could not be asked: {one_line(str(following.trouble), 200)}"
    return FlowRunWaitTimeout(
        message,
        runs=runs,
        hint=f"{they}. Wait again with wait_for_flow_runs(exc.runs), or cancel with cancel_flow_run(id).",
    )


def failed(runs: Sequence[FlowRun]) -> FlowRunsFailed | None:
    """Return the error for runs of which some did not complete, None if all did."""
    bad = list_of_runs(run for run in runs if state_type(run) != "COMPLETED")
    if not bad:
        return None
    if len(runs) == 1:
        message = f"Flow run {name_and_state(bad[0])}"
        if bad[0].state is not None and bad[0].state.message:
            message += f": {one_line(bad[0].state.message, 300)}"
    else:
        message = f"{len(bad)} of {len(runs)} flow runs did not complete: {_listed(bad)}"
    return FlowRunsFailed(
        message,
        runs=list_of_runs(runs),
        failed=bad,
        hint="exc.failed has these runs; retry_flow_run(run) retries one.",
    )


def name_and_state(run: FlowRun | TaskRun) -> str:
    """Return a run's name and state for a message."""
    name = one_line(run.name or str(run.id), 80)
    return f"{name!r} ({one_line(run.state_name or state_type(run) or 'no state', 40)})"


def _listed(runs: Sequence[FlowRun]) -> str:
    words = ", ".join(name_and_state(run) for run in runs[:_MOST_NAMED])
    more = len(runs) - _MOST_NAMED
    return f"{words} and {more} more" if more > 0 else words


def _seconds(timeout: float) -> str:
    return f"{timeout:,.4g} s" if timeout < 120 else f"{timeout / 60:,.4g} min"


def in_seconds(timeout: float | timedelta | None) -> float | None:
    """Return a timeout in seconds; None for no limit.

    Raises:
        ValueError: it is negative.
    """
    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    if seconds is not None and not seconds >= 0:
        raise ValueError(
            f"timeout should be 0 or more seconds, or None for no limit, not {timeout}"
        )
    return seconds
