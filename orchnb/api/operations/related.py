"""Ask for what results refer to only by id, if somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

import httpx
from typing_extensions import LiteralString

from orchnb.api import models
from orchnb.api.answers import list_of
from orchnb.api.models.base import Model
from orchnb.api.related import related_objects
from orchnb.errors import OrchnbError
from orchnb.http.calls import Call, Steps, path

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun

T = TypeVar("T")
After: TypeAlias = Callable[[T], Steps[None]]
"""What follows a call: more calls, from its result."""

_PATIENCE = 3.0
"""Seconds that these requests may take: a result is shown without the names rather than late."""
_MOST_AT_ONCE = 200

_flows = list_of(lambda: models.Flow)
_task_runs = list_of(lambda: models.TaskRun)
_flow_runs = list_of(lambda: models.FlowRun)


def with_flow_names(after: After[T] | None = None) -> After[T] | None:
    """Return what follows a read of flow runs: if results are looked at, a request for the names of their
    flows. ``after`` is what follows it anyway."""
    return _followed(after, _ask_for_flows) if related_objects.wanted else after


def with_last_runs(after: After[T] | None = None) -> After[T] | None:
    """Return what follows a read of deployments: if results are looked at, requests for the names of
    their flows and for their last runs. ``after`` is what follows it anyway."""
    return _followed(after, _ask_for_runs) if related_objects.wanted else after


def with_task_names(after: After[T] | None = None) -> After[T] | None:
    """Return what follows a read of log lines: if results are looked at, a request for the names of the
    task runs that wrote them. ``after`` is what follows it anyway."""
    return _followed(after, _ask_for_tasks) if related_objects.wanted else after


def _followed(
    after: After[T] | None,
    ask: Callable[[Sequence[Any]], Generator[Call[Any], Any, None]],
) -> After[T]:
    def follow(found: Any) -> Generator[Call[Any], Any, None]:
        if after is not None:
            yield from after(found)
        with suppress(httpx.HTTPError, OrchnbError):  # the result is complete without them
            yield from ask([found] if isinstance(found, Model) else found)

    return follow


def _ask_for_flows(objects: Sequence[Any]) -> Generator[Call[Any], Any, None]:
    ids = related_objects.unknown_flows(each.flow_id for each in objects)[:_MOST_AT_ONCE]
    if not ids:
        return
    for flow in (yield from _filtered("/flows/filter", _flows, flows={"id": _any(ids)})):
        related_objects.flow_names.set(flow.id, flow.name)


def _ask_for_tasks(lines: Sequence[Any]) -> Generator[Call[Any], Any, None]:
    known = related_objects.task_names
    ids = dict.fromkeys(line.task_run_id for line in lines if line.task_run_id is not None)
    unknown = [each for each in ids if each not in known][:_MOST_AT_ONCE]
    if not unknown:
        return
    found = yield from _filtered("/task_runs/filter", _task_runs, task_runs={"id": _any(unknown)})
    for task in found:
        if task.name:
            known.set(task.id, task.name)


def _ask_for_runs(objects: Sequence[Any]) -> Generator[Call[Any], Any, None]:
    yield from _ask_for_flows(objects)
    ids = [each.id for each in objects][:_MOST_AT_ONCE]
    if not ids:
        return
    runs: Sequence[FlowRun] = yield from _filtered(
        "/flow_runs/filter",
        _flow_runs,
        flow_runs={
            "deployment_id": _any(ids),
            "state": {"type": {"not_any_": ["SCHEDULED"]}},
        },
        sort="START_TIME_DESC",
        limit=1 if len(ids) == 1 else _MOST_AT_ONCE,
    )
    for run in reversed(runs):  # the latest last
        if run.deployment_id is not None:
            related_objects.last_runs.set(run.deployment_id, run)


def _any(ids: Sequence[UUID]) -> dict[str, list[str]]:
    return {"any_": [str(each) for each in ids]}


def _filtered(place: LiteralString, read: Callable[[Any], T], **body: Any) -> Call[T]:
    return Call("POST", path(place), read, json=body, repeatable=True, timeout=_PATIENCE)
