"""What the states of runs mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun, TaskRun

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
FAILURES = frozenset({"FAILED", "CRASHED"})


def state_type(run: FlowRun | TaskRun) -> str:
    """Return the type of a run's state, such as ``RUNNING``; empty if it has no state."""
    kind = run.state_type or (run.state.type if run.state is not None else "")
    return str(getattr(kind, "value", kind) or "")


def has_ended(run: FlowRun | TaskRun) -> bool:
    """Return whether a run has ended, in whatever way."""
    return state_type(run) in FINAL


def has_failed(run: FlowRun | TaskRun) -> bool:
    """Return whether a run has ended in a failure: ``FAILED`` or ``CRASHED``."""
    return state_type(run) in FAILURES


_USUAL_WORDS = re.compile(r"(Flow|Task) run encountered an exception:? ?")
"""What Prefect puts before the error of each run that raised one."""


def reason_of(run: FlowRun | TaskRun) -> str:
    """Return why a run is in its state: the state's message, without words that all of them have."""
    message = run.state.message if run.state is not None else None
    return _USUAL_WORDS.sub("", message, count=1).strip() if message else ""
