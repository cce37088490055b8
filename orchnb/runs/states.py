"""What the states of runs mean."""

from __future__ import annotations

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
