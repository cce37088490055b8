"""The logs of runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict
from uuid import UUID

from pydantic import BaseModel
from typing_extensions import Unpack

from orchnb.api import models
from orchnb.api.answers import list_of
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter, as_id, as_list
from orchnb.api.operations.payloads import Data, fields_of, required, with_defaults
from orchnb.api.operations.references import FlowRunRef, of_flow_run
from orchnb.api.operations.related import with_task_names
from orchnb.api.operations.verbs import search
from orchnb.api.times import as_moment
from orchnb.http.calls import Call, nothing, path
from orchnb.http.response import PrefectResponse

if TYPE_CHECKING:
    from orchnb.api.models import Log


logs_of: Callable[[PrefectResponse], ModelList[Log]] = list_of(lambda: models.Log)


@operation
def create_logs(logs: Iterable[Data]) -> Call[None]:
    """Write lines to the logs of runs.

    Args:
        logs: each with ``name`` (the logger's), ``level`` (as in ``logging``), ``message``,
            ``timestamp``, and ``flow_run_id`` or ``task_run_id``. Timestamps without a time zone are
            in local time.

    Raises:
        TypeError: one of these is missing from a line.
    """
    if isinstance(logs, (str, Mapping, BaseModel)):
        raise TypeError("logs should be a list of lines, each a mapping of its fields")
    lines = [
        fields_of(
            with_defaults(line),
            name=None,
            level=None,
            message=None,
            timestamp=None,
            flow_run_id=None,
            task_run_id=None,
        )
        for line in as_list(logs, "logs")
    ]
    for line in lines:
        required(line, "name", "level", "timestamp")
        line["timestamp"] = as_moment(line["timestamp"])
    return Call("POST", path("/logs/"), nothing, json=lines, look="read_logs")


class LogQuery(TypedDict, total=False):
    """Keywords of a query for log lines."""

    flow_run_id: FlowRunRef | None
    task_run_id: UUID | str | None


@operation
@of_flow_run
def read_logs(
    log_filter: Filter | None = None,
    limit: int | None = None,
    offset: int | None = None,
    sort: str | None = None,
    **query: Unpack[LogQuery],
) -> Call[ModelList[Log]]:
    """Read log lines, oldest first: ``read_logs(flow_run_id=run.id)``.

    Args:
        log_filter: the API's filter object.
        limit: with None the server decides; it returns at most 200.
        sort: ``TIMESTAMP_ASC`` or ``TIMESTAMP_DESC``.
        flow_run_id: only lines of this flow run, including its task runs.
        task_run_id: only lines of this task run.

    Raises:
        ValueError: both a run and a filter are given; the filter can name the run.
    """
    runs = {
        name: {"any_": [as_id(run_id, name)]}
        for name, run_id in query.items()
        if run_id is not None
    }
    if runs and log_filter is not None:
        raise ValueError("Give a run or a log_filter, not both; a filter can contain the run's id")
    wanted = log_filter if log_filter is not None else runs or None
    return search(
        path("/logs/filter"),
        logs_of,
        after=with_task_names(),
        logs=wanted,
        sort=sort,
        limit=limit,
        offset=offset,
    )


class LogOperations:
    """The logs of runs."""

    create_logs = create_logs
    read_logs = read_logs
