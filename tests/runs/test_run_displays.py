"""A cell that waits for flow runs shows them, in a real kernel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchnb.notebook.views.model import Card, Table, text
from orchnb.notebook.views.runs import MOST_RUNS_SHOWN, runs_card
from orchnb.runs.following import Following
from orchnb.runs.waiting import wait_for
from tests.notebook.kernels import Kernel, Shown, kernel
from tests.runs.simulation import EPOCH, SimulatedServer


def card(*schedules: list[tuple[float, str]], until: float | None = None, **expected: int) -> Card:
    """The view of runs with these schedules, at a time or at their end."""
    server = SimulatedServer({UUID(int=number + 10): each for number, each in enumerate(schedules)})
    following = Following(server.schedules, clock=server.clock)
    following.expected = expected.get("expected")
    steps = wait_for(following, until, clock=server.clock)
    if until is None:
        server.drive(steps)
    else:
        while server.now < until:
            found = server.drive(following.call(until))
            following.take(found)
    return runs_card(following, EPOCH + timedelta(seconds=server.now))


DONE = [(0.0, "RUNNING"), (5.0, "COMPLETED")]
FAILS = [(0.0, "RUNNING"), (7.0, "FAILED")]
LONG = [(0.0, "RUNNING"), (1e6, "COMPLETED")]


@pytest.mark.parametrize(
    ("made", "title", "tone"),
    [
        (lambda: card(DONE), "Flow run run-10: Completed", "good"),
        (lambda: card(FAILS), "Flow run run-10: Failed", "error"),
        (lambda: card(LONG, until=3), "Flow run run-10: Running", "plain"),
        (lambda: card(DONE, DONE), "2 flow runs: 2 completed", "good"),
        (lambda: card(DONE, FAILS), "2 flow runs: 1 completed · 1 failed", "error"),
        (lambda: card(LONG, DONE, until=6), "2 flow runs: 1 running · 1 completed", "plain"),
        (
            lambda: card(LONG, DONE, until=6, expected=9),
            "9 flow runs: 1 running · 1 completed · 7 not started",
            "plain",
        ),
    ],
)
def test_the_title_counts_and_the_tone_tells(made: Any, title: str, tone: str) -> None:
    shown = made()
    assert (shown.title, shown.tone) == (title, tone)


def test_of_many_runs_those_that_need_attention_are_shown() -> None:
    shown = card(*[DONE] * 100, FAILS, *[LONG] * 5, until=10)
    assert shown.table is not None
    states = [str(row[0]) for row in shown.table.rows]
    assert states == ["Failed", *["Running"] * 5, *["Completed"] * (MOST_RUNS_SHOWN - 6)]
    assert "12 of 106 runs" in text(shown)


def test_no_table_is_wider_than_what_it_says() -> None:
    shown = card(DONE)
    assert isinstance(shown.table, Table)
    assert list(shown.table.columns) == ["state", "name", "time"]


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory, site: tuple[str, Path]) -> Iterator[Kernel]:
    with kernel(tmp_path_factory.mktemp("kernel"), PREFECT_API_URL=site[0]) as started:
        started("%load_ext orchnb\nclient = orchnb.get_client()")
        yield started


def last_of(shown: Shown) -> tuple[int, str]:
    """How many displays of runs a cell shows, and what is left of the last in the end."""
    # A busy server may answer a 503: then the cell also shows a retry.
    kinds = ("display_data", "update_display_data")
    found = [
        (o["content"]["transient"]["display_id"], o["content"]["data"]["text/plain"])
        for o in shown.outputs
        if o["msg_type"] in kinds and "low run" in o["content"]["data"]["text/plain"]
    ]
    return len({display for display, _ in found}), found[-1][1] if found else ""


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("run = await client.run_deployment('train/here', parameters={'x': 5})", ": Completed"),
        (
            "run = orchnb.run(client.run_deployment('train/here', parameters={'fail': True}))",
            ": Failed",
        ),
        (
            "runs = await client.map_deployment('train/here', [{'x': n} for n in range(4)], "
            "max_running=2, sweep='kernel')",
            "4 flow runs: 4 completed",
        ),
    ],
)
def test_a_cell_shows_the_runs_it_waits_for_in_one_display(
    cell: Kernel, source: str, title: str
) -> None:
    shown = cell(source)
    assert not shown.errors, shown.traceback
    displays, text = last_of(shown)
    assert displays == 1
    assert title in text.splitlines()[0]


def test_following_in_a_loop_shows_nothing_by_itself(cell: Kernel) -> None:
    shown = cell("found = [change async for change in client.follow_flow_runs([run])]")
    assert shown.outputs == []


def test_the_stop_button_ends_the_wait_and_not_the_run(cell: Kernel) -> None:
    source = "await client.run_deployment('train/here', parameters={'seconds': 5, 'x': 77})"
    begun = cell.begin(source)
    deadline = time.monotonic() + 60
    seen = ""
    while "Running" not in seen:
        assert time.monotonic() < deadline
        message = cell.client.get_iopub_msg(timeout=60)
        seen = str(message["content"].get("data", {}).get("text/plain", ""))
    cell.manager.interrupt_kernel()
    shown = cell.finish(begun)
    assert shown.errors
    assert "It was not finished when the wait ended. It goes on." in last_of(shown)[1]
    found = "(await client.read_flow_runs(sort='START_TIME_DESC', until='now', limit=1))[0].id"
    assert cell.value(f"(await client.wait_for_flow_run({found})).state_name") == "'Completed'"
