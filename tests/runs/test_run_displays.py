"""A cell that waits for flow runs shows them: the view, and the display in a real kernel."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import html5lib
import pytest

from orchnb.notebook.views.watch import Watch, watch_html, watch_status, watch_text, watch_view
from orchnb.notebook.watch_displays import STATUS_INTERVAL, WatchDisplay
from orchnb.runs.following import Following
from orchnb.runs.waiting import wait_for
from orchnb.runs.watching import MOST_SHOWN, Watching
from tests.notebook.frontend import Page
from tests.notebook.kernels import Kernel, Shown, kernel
from tests.notebook.test_live_displays import hears
from tests.runs.simulation import EPOCH, SimulatedServer


def watched(
    *schedules: list[tuple[float, str]],
    until: float | None = None,
    expected: int | None = None,
    **server: Any,
) -> tuple[Watching, SimulatedServer]:
    """Runs with these schedules that were watched up to a time, or to their end."""
    simulated = SimulatedServer(
        {UUID(int=number + 10): each for number, each in enumerate(schedules)}, **server
    )
    following = Following(simulated.schedules, clock=simulated.clock)
    following.expected = expected
    watching = Watching(following, clock=simulated.clock)
    if until is None:
        simulated.drive(wait_for(following, None, clock=simulated.clock))
    while until is not None and simulated.now < until:
        following.take(simulated.drive(following.call(until)))
    return watching, simulated


def view(*schedules: list[tuple[float, str]], **options: Any) -> Watch:
    watching, simulated = watched(*schedules, **options)
    snapshot = watching.snapshot()
    return watch_view(snapshot, EPOCH + timedelta(seconds=simulated.now), watch_status(snapshot))


DONE = [(0.0, "RUNNING"), (5.0, "COMPLETED")]
FAILS = [(0.0, "RUNNING"), (7.0, "FAILED")]
LONG = [(0.0, "RUNNING"), (1e6, "COMPLETED")]
WAITS = [(0.0, "SCHEDULED")]


@pytest.mark.parametrize(
    ("made", "title", "tone"),
    [
        (lambda: view(DONE), "✓ Flow run run-10: Completed", "good"),
        (lambda: view(FAILS), "✗ Flow run run-10: Failed", "error"),
        (lambda: view(LONG, until=3), "● Flow run run-10: Running (3 s)", "active"),
        (lambda: view(DONE, DONE), "✓ 2 flow runs: 2 done", "good"),
        (lambda: view(DONE, FAILS), "✗ 2 flow runs: 1 done · 1 failed", "error"),
        (lambda: view(LONG, DONE, until=6), "● 2 flow runs: 1 running · 1 done", "active"),
        (
            lambda: view(*[LONG] * 3, *[DONE] * 12, FAILS, until=9),
            "● 16 flow runs: 3 running · 12 done · 1 failed",
            "active",
        ),
        (
            lambda: view(LONG, DONE, until=6, expected=9),
            "● 9 flow runs: 1 running · 7 not started · 1 done",
            "active",
        ),
    ],
)
def test_the_title_counts_and_the_tone_tells(
    made: Callable[[], Watch], title: str, tone: str
) -> None:
    shown = made()
    assert watch_text(shown).startswith(title)
    assert shown.tone == tone


def test_of_many_runs_those_that_need_attention_are_shown() -> None:
    shown = view(*[DONE] * 100, FAILS, *[LONG] * 5, until=10)
    assert [row.state for row in shown.rows] == ["Running"] * 5 + ["Failed"]
    assert "and 100 more: 100 done" in watch_text(shown)


def test_no_table_is_wider_than_what_it_says() -> None:
    assert "tasks" not in watch_text(view(DONE, DONE))
    assert ">tasks</th>" not in watch_html(view(DONE, DONE))
    tasks = lambda run_id, now: [("load", "RUNNING")]  # noqa: E731 - a schedule
    assert ">tasks</th>" in watch_html(view(LONG, LONG, until=9, tasks=tasks))


def test_a_thousand_runs_cost_a_front_end_no_more_than_ten() -> None:
    tasks = lambda run_id, now: [("load", "COMPLETED"), ("train", "RUNNING")]  # noqa: E731
    sizes = {
        count: len(watch_html(view(*[LONG] * count, until=9, tasks=tasks)))
        for count in (MOST_SHOWN, 100 * MOST_SHOWN)
    }
    assert sizes[1_000] <= 1.05 * sizes[10]
    assert sizes[10] < 12_000


def test_a_view_says_when_it_was_made() -> None:
    words = f"{EPOCH.astimezone() + timedelta(seconds=9):%Y-%m-%d %H:%M:%S %Z}"
    for shown, expected in (
        (view(LONG, until=9), f"as of {words}"),
        (view(DONE, [(0.0, "RUNNING"), (9.0, "COMPLETED")]), "ended 2026-"),
    ):
        assert expected in watch_text(shown)
        assert expected in watch_html(shown)


def test_a_view_is_no_younger_than_what_it_shows() -> None:
    watching, simulated = watched(LONG, until=9)
    simulated.now = 100.0
    shown = watch_view(watching.snapshot(), EPOCH + timedelta(seconds=100))
    seen = watching.following.pace.last_success
    assert seen is not None
    assert 7 < seen <= 9
    assert (
        shown.moment == f"as of {EPOCH.astimezone() + timedelta(seconds=seen):%Y-%m-%d %H:%M:%S %Z}"
    )


def test_what_assistive_technology_needs_is_there() -> None:
    tasks = lambda run_id, now: [("load", "COMPLETED"), ("train", "RUNNING")]  # noqa: E731
    source = watch_html(view(LONG, FAILS, until=9, tasks=tasks))
    tree = html5lib.parseFragment(source, namespaceHTMLElements=False)
    bars = [each for each in tree.iter() if each.attrib.get("role") == "progressbar"]
    assert len(bars) == 3
    assert all(bar.attrib["aria-label"] and bar.attrib["aria-valuetext"] for bar in bars)
    (status,) = [each for each in tree.iter() if each.attrib.get("role") == "status"]
    assert status.text == "2 flow runs: 1 running, 1 failed."
    assert all("tabindex" in each.attrib for each in _scrolling(tree))
    assert not re.search(r"animation|transition|@keyframes", source), "nothing moves by itself"


def _scrolling(tree: Any) -> list[Any]:
    return [each for each in tree.iter() if each.tag == "pre"]


def test_a_screen_reader_is_told_at_most_once_in_ten_seconds() -> None:
    watching, simulated = watched(*[LONG] * 3, until=1)
    display = WatchDisplay.__new__(WatchDisplay)
    display._clock, display._status, display._status_changed = simulated.clock, "", -1e9
    seen = []
    for second in range(60):
        simulated.now = float(second)
        watching.following.runs[UUID(int=10)] = simulated.run(UUID(int=10)).model_copy(
            update={"state_type": f"S{second}", "state_name": f"s{second}"}
        )
        seen.append(display._status_now(watching.snapshot()))
    changes = [number for number in range(1, 60) if seen[number] != seen[number - 1]]
    assert all(b - a >= STATUS_INTERVAL for a, b in itertools.pairwise(changes))


# In a real kernel


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
            "4 flow runs: 4 done",
        ),
        ("await client.wait_for_flow_runs(runs);", "4 flow runs: 4 done"),
        ("await orchnb.watch(runs)", "4 flow runs: 4 done"),
        ("%orch_watch {run.id}", ": Failed"),
        ("%orch_watch {str(run.id)[:8]}", ": Failed"),
        ("%orch_watch {run.name}", ": Failed"),
        ("%orch_watch --flow train --since 1h", " flow runs: "),
    ],
)
def test_a_cell_shows_the_runs_it_waits_for_in_one_display(
    cell: Kernel, source: str, title: str
) -> None:
    shown = cell(source)
    assert not shown.errors, shown.traceback
    assert shown.result == ""
    displays, text = last_of(shown)
    assert displays == 1, shown.everything
    assert title in text.splitlines()[0]


def test_watched_runs_are_shown_where_the_display_does_not(cell: Kernel) -> None:
    cell("watched = await orchnb.watch(runs)")
    assert "4 flow runs" in cell("watched").result
    cell("%orch_display off")
    try:
        assert "4 flow runs" in cell("await orchnb.watch(runs)").result
    finally:
        cell("%orch_display settings")


def test_failed_runs_are_shown_by_cause(cell: Kernel) -> None:
    cell("await client.run_deployment('train/here', parameters={'fail': True, 'x': 4});")
    assert "loss is nan at lr=…" in cell("%orch_failed 1h --flow train").result


def test_following_in_a_loop_shows_nothing_by_itself(cell: Kernel) -> None:
    shown = cell("found = [change async for change in client.follow_flow_runs([run])]")
    assert shown.outputs == []


def test_the_log_of_a_run_is_shown(cell: Kernel) -> None:
    cell("run = await client.run_deployment('train/here', parameters={'fail': True, 'steps': 3})")
    followed = cell("%orch_logs run -f")
    assert not followed.errors, followed.traceback
    kinds = ("display_data", "update_display_data")
    shown = [o["content"] for o in followed.outputs if o["msg_type"] in kinds]
    assert len({each["transient"]["display_id"] for each in shown}) == 1
    last = shown[-1]["data"]["text/plain"]
    assert re.match(r"✗ Log of [\w-]+ \(Failed\): \d+ log lines · \d errors? · 1 warning", last)
    for words in ("training with x=1", "step-", "about to fail", "ValueError: loss is nan"):
        assert words in last
    assert "<details>" in shown[-1]["data"]["text/html"]

    warnings = cell("%orch_logs run --level warning -n 50").text
    assert "about to fail" in warnings
    assert "training with" not in warnings
    steps = cell("%orch_logs run --task step").text
    assert re.findall(r"step (\d)", steps) == ["0", "1", "2"]
    assert "about to fail" not in steps

    failed = cell("await client.read_failed_run(run)").text
    assert re.match(r"✗ Flow run [\w-]+ of train: Failed\n  Why +ValueError: loss is nan", failed)
    assert "In task" in failed

    table = cell("await client.read_flow_runs(limit=3)").text
    assert " train " in table.splitlines()[1], "the name of the flow"
    deployments = cell("await client.read_deployments(name_like='here', flow_name='train')").text
    assert re.search(r"^train/here .* [✓✗] \w+, \w+ \d+ ", deployments, re.MULTILINE)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("%orch_watch no-such-run", "There is no flow run with the name or id 'no-such-run'"),
        ("%orch_watch --since yesteryear", "is not a point in time"),
        ("%orch_failed yesteryear", "is not a point in time"),
    ],
)
def test_what_cannot_be_watched_is_a_usage_error(cell: Kernel, source: str, words: str) -> None:
    shown = cell(source)
    assert words in shown.everything
    assert "UsageError" in shown.everything


@pytest.mark.parametrize(
    "wait",
    [
        "await client.run_deployment('train/here', parameters={'seconds': 5, 'x': 77})",
        "%orch_watch --flow train --since 10m",
    ],
)
def test_the_stop_button_ends_the_wait_and_not_the_run(cell: Kernel, wait: str) -> None:
    if wait.startswith("%"):
        cell(
            "await client.run_deployment('train/here', parameters={'seconds': 5, 'x': 78}, timeout=0);"
        )
    begun = cell.begin(wait)
    deadline = time.monotonic() + 60
    seen = ""
    while "Running" not in seen:
        assert time.monotonic() < deadline
        message = cell.client.get_iopub_msg(timeout=60)
        seen = str(message["content"].get("data", {}).get("text/plain", ""))
    cell.manager.interrupt_kernel()
    shown = cell.finish(begun)
    assert shown.errors
    text = last_of(shown)[1]
    assert "The wait was stopped, nothing was cancelled." in text
    found = "(await client.read_flow_runs(sort='START_TIME_DESC', until='now', limit=1))[0].id"
    assert cell.value(f"(await client.wait_for_flow_run({found})).state_name") == "'Completed'"


@pytest.fixture
def page(cell: Kernel) -> Page:
    return Page(cell)


def test_the_buttons_cancel_and_retry_what_is_watched(page: Page, cell: Kernel) -> None:
    if not hears(page):
        pytest.skip("this ipykernel listens to no widget while a cell awaits")
    page.run("failed = await client.run_deployment('train/here', parameters={'fail': True})")
    page.run(
        "slow = await client.run_deployment('train/here', parameters={'seconds': 60}, timeout=0)"
    )
    watch = page.begin("watched = await orchnb.watch([failed, slow])")
    page.until(lambda: page.buttons(watch) and "Running" in page.text(watch), timeout=60)
    page.press("Retry failed")
    page.until(lambda: "2 running" in page.text(watch) or "scheduled" in page.text(watch))
    page.press("Cancel")
    page.until(lambda: "Really cancel" in str(page.messages))
    page.press("Cancel")
    # The executor here does not cancel what it executes.
    page.until(lambda: "cancelling" in page.text(watch), timeout=60)
    cell.manager.interrupt_kernel()
    page.until(lambda: watch in page.idle)
    assert not page.buttons(watch)
    assert not page.comms


def test_drawing_is_bounded(page: Page) -> None:
    watch = page.begin(
        "await client.run_deployment('train/here', parameters={'seconds': 3, 'steps': 5});"
    )
    page.until(lambda: watch in page.idle, timeout=60)
    shown = [m for m in page.displays(watch) if "orchnb-watch" in str(m["content"]["data"])]
    arrivals = [m["arrived"] for m in shown]
    assert len(arrivals) >= 3
    assert len({m["content"]["transient"]["display_id"] for m in shown}) == 1
    for begun in arrivals:
        assert sum(1 for other in arrivals if begun <= other < begun + 1) <= 4
