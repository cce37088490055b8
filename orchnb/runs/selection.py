"""Find the flow runs that a person means: runs, ids, names, or a filter."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api import models
from orchnb.api.operations.flow_runs import read_flow_runs
from orchnb.api.operations.references import find_flow_runs
from orchnb.api.pagination import Paging, every, pages_of
from orchnb.api.times import When
from orchnb.http.calls import Call

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun

MOST_SELECTED = 1_000
"""How many runs of a filter are watched: the newest ones."""

_ACTIVE = ("RUNNING", "PENDING", "CANCELLING", "PAUSED")


def select_runs(
    wanted: Iterable[object] | object | None = None,
    *,
    flow: str | None = None,
    tag: str | None = None,
    since: When | None = None,
) -> Generator[Call[Any], Any, list[FlowRun | UUID]]:
    """Return the flow runs that are meant, each once; those that were given by ids as ids.

    Args:
        wanted: a run, its id, the beginning of its id, its name, or several of these. Without it and
            without a filter, the runs that are active.
        flow: the name of a flow, whose runs are meant.
        tag: a tag that the runs have.
        since: runs that were expected to start since then.

    Raises:
        ReferenceNotFound: there is no run of that name or short id.
        AmbiguousReference: several runs have that name or short id.
    """
    words = _several(wanted)
    found: list[FlowRun | UUID] = []
    ids = iter((yield from find_flow_runs(each for each in words if not _is_run(each))))
    found += [each if _is_run(each) else next(ids) for each in words]
    if flow is not None or tag is not None or since is not None:
        tags = None if tag is None else [tag]
        query = read_flow_runs(
            flow_name=flow, tags=tags, since=since, until="now", sort="EXPECTED_START_TIME_DESC"
        )
        found += yield from every(Paging(pages_of(query), MOST_SELECTED))
    elif not words:
        query = read_flow_runs(state=_ACTIVE, sort="EXPECTED_START_TIME_DESC")
        found += yield from every(Paging(pages_of(query), MOST_SELECTED))
        query = read_flow_runs(state="SCHEDULED", until="now", sort="EXPECTED_START_TIME_DESC")
        found += yield from every(Paging(pages_of(query), MOST_SELECTED - len(found)))
    return list({getattr(run, "id", run): run for run in found}.values())


def _several(wanted: object) -> list[Any]:
    if wanted is None:
        return []
    if isinstance(wanted, (str, UUID)) or hasattr(wanted, "id"):
        return [wanted]
    if not isinstance(wanted, Iterable):
        raise TypeError(
            f"runs should be flow runs, their ids or names, not {type(wanted).__name__}"
        )
    return list(wanted)


def _is_run(word: object) -> bool:
    return isinstance(word, models.FlowRun)
