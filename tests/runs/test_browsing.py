"""Browsing among many runs: what is requested, what is found, and what is said about it."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from typing import Any

import pytest

from orchnb.api.models import FlowRun, ModelList
from orchnb.http.calls import Call
from orchnb.runs.browsing import MOST_LOOKED_AT, FoundRuns, find_runs
from orchnb.runs.conditions import read_condition


class ManyRuns:
    """A server with many runs; the newest one has the number 0."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.calls: list[Call[Any]] = []

    def perform(self, call: Call[Any]) -> Any:
        self.calls.append(call)
        if call.path == "/flow_runs/count":
            return self.count
        first, limit = call.json["offset"], call.json["limit"]
        numbers = range(first, min(first + limit, self.count))
        return ModelList([self.run(number) for number in numbers], model=FlowRun)

    @staticmethod
    def run(number: int) -> FlowRun:
        parameters = {"number": number, "customer": "acme" if number % 100 == 7 else "other"}
        values = {"id": uuid.UUID(int=number), "flow_id": uuid.UUID(int=1), "name": f"r{number}"}
        return FlowRun.model_validate({**values, "parameters": parameters})

    def drive(self, steps: Generator[Call[Any], Any, FoundRuns]) -> FoundRuns:
        answer = None
        while True:
            try:
                answer = self.perform(steps.send(answer))
            except StopIteration as done:
                found: FoundRuns = done.value
                return found


def found(count: int, where: str | None = None, **options: Any) -> tuple[FoundRuns, ManyRuns]:
    server = ManyRuns(count)
    condition = None if where is None else read_condition(where)
    return server.drive(find_runs(where=condition, **{"most": 50, **options})), server


def test_without_a_condition_two_requests_are_enough() -> None:
    runs, server = found(100_000)
    assert [run.name for run in runs] == [f"r{number}" for number in range(50)]
    assert runs.total == 100_000
    assert len(server.calls) == 2
    assert server.calls[1].json["sort"] == "START_TIME_DESC"


@pytest.mark.parametrize(
    ("count", "where", "numbers", "looked_at", "note"),
    [
        (100_000, "customer == 'acme'", range(7, 5_000, 100), 4_908, ""),
        (300, "customer == 'acme'", [7, 107, 207], 300, ""),
        (300, "number < 3 and customer == 'acme'", [], 300, ""),
        (
            9_000,
            "number == 4000",
            [4_000],
            MOST_LOOKED_AT,
            "Only the parameters of the newest 5,000",
        ),
        (300, "custmer == 'acme'", [], 300, "Did you mean 'customer'"),
        (0, "custmer == 'acme'", [], 0, ""),
    ],
)
def test_parameters_are_compared_page_by_page_up_to_a_limit(
    count: int, where: str, numbers: Any, looked_at: int, note: str
) -> None:
    runs, server = found(count, where)
    assert [run.parameters["number"] for run in runs] == list(numbers)
    assert runs.looked_at == looked_at
    assert runs.total == count
    assert note in runs.note
    assert bool(runs.note) == bool(note)
    assert len(server.calls) <= 2 + MOST_LOOKED_AT / 199


@pytest.mark.parametrize(
    ("options", "has_bound"),
    [({}, True), ({"state": "failed"}, True), ({"state": "scheduled"}, False)],
)
def test_runs_that_are_scheduled_for_later_are_not_the_newest(
    options: dict[str, Any], has_bound: bool
) -> None:
    _, server = found(3, **options)
    for call in server.calls:
        bound = call.json.get("flow_runs", {}).get("expected_start_time") or {}
        assert ("before_" in bound) == has_bound
