"""The flow runs that failed in some time, grouped by cause."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api import models
from orchnb.api.methods import operation
from orchnb.api.models.base import ModelList
from orchnb.api.operations.flow_runs import read_flow_runs
from orchnb.api.operations.flows import read_flows
from orchnb.api.pagination import Paging, every, pages_of
from orchnb.api.times import When, moment
from orchnb.http.calls import Call
from orchnb.runs.states import FAILURES, reason_of
from orchnb.text import one_line

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun

MOST_FAILED_RUNS = 2_000
"""Failed runs that are read at most."""

_MOST_VALUES = 3
_LONGEST_CAUSE = 300
_GAP = "…"

_QUOTED = re.compile(r"'[^'\n]{1,300}'|\"[^\"\n]{1,300}\"")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(r"\b(?:0x[0-9a-fA-F]{1,32}|[0-9a-f]{12,64})\b")
_NUMBER = re.compile(r"(?<!\w)[-+]?\d[\d_.,:]{0,40}(?:[eE][-+]?\d{1,5})?")


@dataclass(frozen=True)
class ParameterRange:
    """What the runs of a group have as a parameter."""

    name: str
    values: Sequence[Any]
    """The smallest and the largest number, or the different values; no more than three of them."""
    is_range: bool = False
    """Whether the values are the ends of a range."""
    has_more: bool = False
    """Whether there are more different values."""

    def __str__(self) -> str:
        shown = [
            one_line(value if isinstance(value, str) else repr(value), 40) for value in self.values
        ]
        if self.is_range:
            return f"{self.name} {' to '.join(shown)}"
        return f"{self.name} {', '.join(shown)}{', ' + _GAP if self.has_more else ''}"


@dataclass(frozen=True)
class FailureGroup:
    """Runs that failed for the same cause."""

    cause: str
    """The error, without the numbers, ids and paths in which the runs differ."""
    runs: ModelList[FlowRun]
    """The runs, the last one first: ``client.retry_flow_runs(group.runs)``."""
    flows: Sequence[str]
    """The names of their flows."""
    parameters: Sequence[ParameterRange]
    """The parameters in which the runs differ; all parameters if the runs are the same."""

    @property
    def count(self) -> int:
        """How many runs failed."""
        return len(self.runs)

    @property
    def last(self) -> datetime | None:
        """When the last one failed."""
        return _ended(self.runs[0])

    @property
    def retriable(self) -> ModelList[FlowRun]:
        """The runs that can run again: those of deployments."""
        runs = [run for run in self.runs if run.deployment_id is not None]
        return ModelList(runs, model=models.FlowRun, ui_url=self.runs.ui_url)

    def __str__(self) -> str:
        words = (
            f"{self.cause}: {self.count:,} run{'s' * (self.count != 1)} of {', '.join(self.flows)}"
        )
        return ", ".join([words, *map(str, self.parameters)])


@dataclass(frozen=True)
class FailureGroups:
    """The failed runs of some time, grouped by cause: those with most runs first."""

    groups: Sequence[FailureGroup]
    since: datetime
    is_cut: bool = False
    """Whether there are more failed runs than were read."""
    ui_url: str | None = field(default=None, compare=False)
    """Where the server's web pages are; None if unknown."""

    def __iter__(self) -> Iterator[FailureGroup]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> FailureGroup:
        return self.groups[index]

    @property
    def runs(self) -> ModelList[FlowRun]:
        """All failed runs, group by group."""
        runs = [run for group in self.groups for run in group.runs]
        return ModelList(runs, model=models.FlowRun, ui_url=self.ui_url)


@operation
def read_failures(
    since: When = "24h", flow_name: str | None = None, *, max_runs: int = MOST_FAILED_RUNS
) -> Generator[Call[Any], Any, FailureGroups]:
    """Read the flow runs that failed or crashed, grouped by cause.

    Errors that differ only in numbers, ids and quoted paths are the same cause. A notebook shows a table.
    ``client.retry_flow_runs(group.retriable)`` runs those of a group again.

    Args:
        since: those that ended since then: a datetime, a date, or how long ago in words (``"2h"``).
        flow_name: only runs of this flow.
        max_runs: runs to read at most.

    Raises:
        ValueError: ``since`` is not a time, or ``max_runs`` is less than 1.
    """
    if max_runs < 1:
        raise ValueError(f"max_runs should be 1 or more, not {max_runs}")
    after = moment(since)
    wanted = {
        "state": {"type": {"any_": sorted(FAILURES)}},
        "end_time": {"after_": after.isoformat()},
    }
    read = pages_of(read_flow_runs(flow_run_filter=wanted, flow_name=flow_name, sort="ID_DESC"))
    pages: Paging[FlowRun] = Paging(read, max_runs + 1)
    runs: list[FlowRun] = []
    ui_url = None
    while not pages.done:
        page = yield from pages.call()
        ui_url = page.ui_url
        runs.extend(pages.take(page))
    names = yield from _flow_names({run.flow_id for run in runs if run.flow_id is not None})
    groups = grouped(runs[:max_runs], names, ui_url)
    return FailureGroups(groups, after, is_cut=len(runs) > max_runs, ui_url=ui_url)


def _flow_names(ids: set[UUID]) -> Generator[Call[Any], Any, dict[UUID, str]]:
    if not ids:
        return {}
    wanted = {"id": {"any_": sorted(map(str, ids))}}
    flows: list[models.Flow] = yield from every(
        Paging(pages_of(read_flows(flow_filter=wanted, sort="NAME_ASC")))
    )
    return {flow.id: flow.name for flow in flows}


def grouped(
    runs: Iterable[FlowRun], flow_names: Mapping[UUID, str], ui_url: str | None = None
) -> list[FailureGroup]:
    """Return failed runs as groups, the largest first, then the one that occurred last."""
    by_cause: dict[str, list[FlowRun]] = {}
    for run in runs:
        by_cause.setdefault(cause_of(run), []).append(run)
    oldest = datetime.min.replace(tzinfo=timezone.utc)
    groups = []
    for cause, members in by_cause.items():
        members.sort(key=lambda run: _ended(run) or oldest, reverse=True)
        flows = sorted({flow_names.get(run.flow_id, "an unknown flow") for run in members})
        shown = ModelList(members, model=models.FlowRun, ui_url=ui_url)
        groups.append(FailureGroup(cause, shown, flows, ranges(members)))
    groups.sort(key=lambda group: group.last or oldest, reverse=True)
    return sorted(groups, key=lambda group: group.count, reverse=True)


def _ended(run: FlowRun) -> datetime | None:
    return run.end_time or (run.state.timestamp if run.state is not None else None)


def cause_of(run: FlowRun) -> str:
    """Return why a run failed, without what distinguishes it from others with the same cause."""
    first, *_ = reason_of(run).splitlines() or [""]
    words = one_line(first, _LONGEST_CAUSE)
    if not words:
        return f"{run.state_name or 'Failed'}, without a message"
    words = _QUOTED.sub(_without_path, words)
    for varying in (_UUID, _HEX, _NUMBER):
        words = varying.sub(_GAP, words)
    return words


def _without_path(quoted: re.Match[str]) -> str:
    whole = quoted[0]
    return f"{whole[0]}{_GAP}{whole[-1]}" if "/" in whole or "\\" in whole else whole


def ranges(runs: Sequence[FlowRun]) -> list[ParameterRange]:
    """Return the parameters in which runs differ; all parameters if the runs are the same."""
    names = dict.fromkeys(name for run in runs for name in run.parameters)
    found = [
        _range(name, [run.parameters[name] for run in runs if name in run.parameters])
        for name in names
    ]
    differing = [each for each in found if len(each.values) > 1]
    return differing or found


def _range(name: str, values: Sequence[Any]) -> ParameterRange:
    if all(isinstance(each, (int, float)) and not isinstance(each, bool) for each in values):
        ends = sorted({min(values), max(values)})
        return ParameterRange(name, ends, is_range=len(ends) > 1)
    different = list({repr(each): each for each in values}.values())
    return ParameterRange(name, different[:_MOST_VALUES], has_more=len(different) > _MOST_VALUES)
