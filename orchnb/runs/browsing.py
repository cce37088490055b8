"""Browse flow runs: the newest ones, how many there are in all, and those whose parameters match."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from orchnb.api import models
from orchnb.api.models.base import ModelList
from orchnb.api.operations.flow_runs import count_flow_runs, read_flow_runs
from orchnb.api.pagination import Paging, pages_of
from orchnb.api.times import When
from orchnb.http.calls import Call
from orchnb.runs.conditions import RunCondition
from orchnb.text import did_you_mean, near_names, one_line

if TYPE_CHECKING:
    from orchnb.api.models import FlowRun

MOST_LOOKED_AT = 5_000
"""How many runs are read to find those whose parameters match."""


class FoundRuns(ModelList["FlowRun"]):
    """Flow runs that were found, the newest first; a notebook shows them page by page."""

    def __init__(
        self,
        runs: Sequence[FlowRun],
        *,
        total: int,
        looked_at: int,
        note: str = "",
        ui_url: str | None = None,
    ) -> None:
        super().__init__(runs, model=models.FlowRun, ui_url=ui_url)
        self.total: int = total
        """How many runs the server has for this search, whatever their parameters are."""
        self.looked_at: int = looked_at
        """How many of them were read."""
        self.note: str = note
        """What a person should know about the search."""


def find_runs(
    *,
    words: str = "",
    state: str | None = None,
    flow: str | None = None,
    since: When | None = None,
    where: RunCondition | None = None,
    most: int,
) -> Generator[Call[Any], Any, FoundRuns]:
    """Return the newest flow runs that match, at most ``most``.

    The server searches for everything but ``where``, which is compared with the parameters of the runs
    that it returns, newest first, up to a limit.

    Args:
        words: a part of the run's name.
        state: a type or name of a state.
        flow: the name of the flow.
        since: runs that were expected to start since then.
        where: a condition on the parameters.

    Raises:
        ValueError: a value is not valid.
    """
    # Runs that are scheduled for later are not the newest ones, unless they are asked for.
    is_future = state is not None and state.lower() in ("scheduled", "late")
    query: dict[str, Any] = {
        "name_like": words or None,
        "state": state,
        "flow_name": flow,
        "since": since,
        "until": None if is_future else "now",
    }
    total = yield from count_flow_runs(**query)
    read = read_flow_runs(**query, sort="START_TIME_DESC")
    pages: Paging[FlowRun] = Paging(pages_of(read), most if where is None else MOST_LOOKED_AT)
    found: list[FlowRun] = []
    names: set[str] = set()
    looked_at, ui_url = 0, None
    while not pages.done and len(found) < most:
        page = yield from pages.call()
        ui_url = page.ui_url or ui_url
        for run in pages.take(page):
            looked_at += 1
            names.update(run.parameters)
            if where is None or where.holds(run.parameters):
                found.append(run)
                if len(found) == most:
                    break
    note = _note(where, names, looked_at, total, len(found) == most)
    return FoundRuns(found, total=total, looked_at=looked_at, note=note, ui_url=ui_url)


def _note(
    where: RunCondition | None, names: set[str], looked_at: int, total: int, are_enough: bool
) -> str:
    if where is None or not looked_at:
        return ""
    unknown = sorted(where.names - names)
    if unknown:
        question = did_you_mean(near_names(unknown[0], names))
        none_has = f"None of these runs has a parameter {one_line(unknown[0], 80)!r}."
        return f"{none_has} {question}".strip()
    if looked_at < total and not are_enough:
        return (
            f"Only the parameters of the newest {looked_at:,} runs were compared; narrow the search with "
            "--flow or --since to reach older ones."
        )
    return ""
