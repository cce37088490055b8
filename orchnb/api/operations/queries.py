"""Reads that take a query: the keywords they have in common, and the requests they make.

A ``...Query`` has the keywords that narrow the reads of one kind of object. Those that read, count or
iterate over these objects take it as ``**query: Unpack[...Query]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from orchnb.api import models
from orchnb.api.answers import list_of
from orchnb.api.methods import warn_caller
from orchnb.api.models.base import ModelList
from orchnb.api.operations.coercion import Filter
from orchnb.api.operations.filters import with_words
from orchnb.api.operations.schedules import as_seconds
from orchnb.api.operations.verbs import search
from orchnb.api.times import When, moment
from orchnb.http.calls import Call, Path

if TYPE_CHECKING:
    from orchnb.api.models import RunHistory

_history = list_of(lambda: models.RunHistory)

_IN_BODY = {
    "flow_filter": "flows",
    "flow_run_filter": "flow_runs",
    "task_run_filter": "task_runs",
    "deployment_filter": "deployments",
    "work_pool_filter": "work_pools",
    "work_queue_filter": "work_pool_queues",
    "artifact_filter": "artifacts",
    "variable_filter": "variables",
    "automations": "automations",
    "block_document_filter": "block_documents",
    "block_type_filter": "block_types",
    "block_schema_filter": "block_schemas",
}
"""The names of filter arguments, and of the filter objects in requests."""


class RelatedFilters(TypedDict, total=False):
    """The filters common to queries for flows, deployments and runs."""

    flow_filter: Filter | None
    flow_run_filter: Filter | None
    task_run_filter: Filter | None
    deployment_filter: Filter | None


def filters_of(query: Mapping[str, Any], **words: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filter objects of a query, under their names in requests.

    ``words`` are the conditions of keywords, by the name of the filter argument that they extend.

    Raises:
        ValueError: a keyword repeats a condition of a filter object.
    """
    return {
        in_body: with_words(query.get(name), name, words.get(name, {}))
        for name, in_body in _IN_BODY.items()
    }


def warn_ignored(name: str, kind: str, instead: str) -> None:
    """Warn that Prefect's server, as of 3.8, ignores this argument when it reads objects of this kind."""
    warn_caller(
        f"Prefect's server ignores {name} for {kind}, so it does not narrow the result; use {instead}"
    )


def history(
    place: Path, start: When, end: When, interval: timedelta | float, **filters: Any
) -> Call[ModelList[RunHistory]]:
    """Return the call that counts runs by state in consecutive intervals."""
    return search(
        place,
        _history,
        history_start=moment(start),
        history_end=moment(end),
        history_interval_seconds=as_seconds(interval),
        **filters,
    )
