"""What is recorded of a cell: its lines, its outputs, its parameters; and whose runs are lost."""

from __future__ import annotations

import unicodedata
import uuid
from datetime import datetime, timezone
from typing import Any

import pytest

from orchnb.api.models import FlowRun
from orchnb.runs import printed
from orchnb.runs.lost_runs import STOPPED_AFTER, LostRuns
from orchnb.runs.printed import LONGEST_LINE, MOST_PRINTED_LINES, Printed
from orchnb.runs.records import typed_parameter
from orchnb.runs.rich_output import LARGEST_IMAGE, output_artifact, source_artifact, table_rows
from tests.notebook.hostile import CORPUS


def taken(made: Printed) -> list[str]:
    found: list[str] = []
    while batch := made.take():
        found += [line.text for line in batch]
    return found


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["a\nb\n"], ["a", "b"]),
        (["a", "b", "\n", "c"], ["ab", "c"]),
        (["\n\na\n"], ["", "", "a"]),
        (["0%\r50%", "\r100%\n"], ["100%"]),
        (["dos\r\nends\r\n"], ["dos", "ends"]),
        (["\x1b[31mred\x1b[0m\ttab\x00\n"], ["red     tab"]),
        (["x" * (LONGEST_LINE + 5)], ["x" * LONGEST_LINE]),
        (["\ud800 lone\n"], [" lone"]),
    ],
)
def test_lines_are_what_a_terminal_would_show_in_the_end(
    written: list[str], expected: list[str]
) -> None:
    made = Printed()
    for text in written:
        made.write("stdout", text)
    made.finish()
    assert taken(made) == expected


def test_lines_of_two_streams_keep_their_order_and_are_not_mixed() -> None:
    at = datetime(2026, 11, 28, tzinfo=timezone.utc)
    made = Printed(lambda: at)
    for stream, text in [("stdout", "a"), ("stderr", "b\n"), ("stdout", "c\n")]:
        made.write(stream, text)
    assert [tuple(line) for line in made.take()] == [
        (at, "stderr", 30, "b"),
        (at, "stdout", 20, "ac"),
    ]


@pytest.mark.parametrize("text", ["x\n" * (MOST_PRINTED_LINES + 7), "\n".join(["x" * 9_000] * 300)])
def test_too_much_is_left_out_and_counted(text: str) -> None:
    made = Printed()
    made.write("stdout", text)
    made.finish()
    found = taken(made)
    assert len(found) - 1 + made.left_out == len(text.splitlines())
    assert found[-1] == f"{made.left_out:,} more lines were printed; they are not recorded"
    assert sum(map(len, found[:-1])) <= printed.MOST_CHARACTERS


def test_a_request_has_a_limited_number_of_lines_and_characters() -> None:
    made = Printed()
    made.write("stdout", ("x" * 5_000 + "\n") * 300)
    while batch := made.take():
        assert sum(len(line.text) for line in batch) <= 500_000
    made.write("stdout", "x\n" * 2_000)
    assert len(made.take()) == 500


@pytest.mark.parametrize(
    ("bundle", "kind"),
    [
        ({"text/plain": "5"}, None),
        ({"text/html": "<b>bold</b>", "text/plain": ""}, None),
        ({"text/markdown": "# a", "text/plain": ""}, "markdown"),
        ({"image/png": "aGVs\nbG8=", "text/plain": ""}, "image"),
        ({"image/png": "A" * (LARGEST_IMAGE + 4)}, None),
        ({"image/png": '"><script>'}, None),
        ({"image/svg+xml": "<svg/>"}, None),
        ({"text/html": "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>"}, "table"),
        ({"text/html": "<table></table>"}, None),
        ({"text/html": 5}, None),
    ],
)
def test_outputs_that_say_more_than_text_are_artifacts(
    bundle: dict[str, Any], kind: str | None
) -> None:
    found = output_artifact(bundle)
    assert (found.type if found else None) == kind


@pytest.mark.parametrize(
    ("markup", "rows"),
    [
        (
            "<style>td {}</style><table><thead><tr><th></th><th>x</th></tr></thead><tbody>"
            "<tr><th>0</th><td>1 &amp; <b>2</b></td></tr></tbody></table>",
            [{"0": "0", "x": "1 & 2"}],
        ),
        ("<table><tr><td>a<td>a<tr><td>1<td>2<td>3</table>", [{"a": "1", "a 1": "2", "2": "3"}]),
        (
            "<table><tr><td>n</td></tr><tr><td><table><tr><td>x</table>y</td></tr></table>",
            [{"n": "xy"}],
        ),
        ("<table><tr><td>only one row", []),
        ("<table><tr><td>a</tr><tr><td>" + "x" * 9_000, [{"a": "x" * 500}]),
        ("no table", []),
    ],
)
def test_the_first_table_of_html_is_rows(markup: str, rows: list[dict[str, str]]) -> None:
    assert table_rows(markup) == rows


def test_large_tables_are_cut() -> None:
    rows = "".join(f"<tr>{'<td>x</td>' * 80}</tr>" for _ in range(1_000))
    found = table_rows(f"<table>{rows}</table>")
    assert (len(found), len(found[0])) == (200, 50)


@pytest.mark.parametrize("said", CORPUS.values(), ids=CORPUS)
def test_hostile_text_stays_text(said: str) -> None:
    made = Printed()
    made.write("stdout", said)
    made.finish()
    for text in [*taken(made), source_artifact(said).data]:
        text.encode()  # without lone surrogates
        kinds = {unicodedata.category(character) for character in text if character != "\n"}
        assert not kinds & {"Cc", "Cf", "Cs", "Co", "Cn"}
    source = source_artifact(said).data
    fence = source.partition("python")[0]
    assert source.count(fence) == 2  # nothing in it ends the block


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=1", 1),
        ("x=0.5", 0.5),
        ("x=true", True),
        ("x=[1, 2]", [1, 2]),
        ('x="1"', "1"),
        ("x=abc", "abc"),
        ("x=", ""),
        ("x=a=b", "a=b"),
        ("x=NaN", "NaN"),
        ("x=" + "[" * 100_000, "[" * 100_000),
    ],
)
def test_a_parameter_is_json_or_a_text(text: str, value: Any) -> None:
    assert typed_parameter(text) == ("x", value)


@pytest.mark.parametrize("text", ["x", "=1", "a b=1", "1x=2", ""])
def test_anything_else_is_no_parameter(text: str) -> None:
    with pytest.raises(ValueError, match="should look like NAME=VALUE"):
        typed_parameter(text)


def next_call(steps: Any, result: Any) -> Any:
    """The next call, after the result of the last one; None if there is none."""
    try:
        return steps.send(result)
    except StopIteration:
        return None


class World:
    """A machine, its time, and the runs that a server has."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.clock = 0.0
        self.processes: set[int] = set()

    def orchnb(self, machine: str = "here") -> LostRuns:
        return LostRuns(
            now=lambda: self.now,
            clock=lambda: self.clock,
            machine=lambda: machine,
            exists=lambda process: process in self.processes,
        )

    def found(self, looker: LostRuns, labels: dict[str, Any]) -> bool:
        """Whether the only running run, which has these labels, is set to Crashed."""
        run = FlowRun(id=uuid.UUID(int=1), flow_id=uuid.UUID(int=2), labels=labels)
        steps = looker.find()
        call = next(steps)
        assert call.json["flow_runs"]["tags"] == {"all_": ["notebook"]}
        tasks = next_call(steps, [run])
        if tasks is None:
            return False
        assert tasks.json["task_runs"]["state"] == {"type": {"any_": ["RUNNING"]}}
        change = next_call(steps, [])
        assert change is None or change.json["state"]["type"] == "CRASHED"
        return change is not None

    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.clock += seconds


def test_a_run_is_lost_when_its_heartbeat_has_stopped_and_its_process_is_gone() -> None:
    world = World()
    labels = world.orchnb().labels()
    looker = world.orchnb()
    assert not world.found(looker, labels)
    world.passes(STOPPED_AFTER - 1)
    assert not world.found(looker, labels)
    world.passes(1)
    assert world.found(looker, labels)
    assert world.found(world.orchnb(), labels)  # also for one that sees it for the first time


def test_a_process_that_exists_is_not_lost_however_long_it_says_nothing() -> None:
    world = World()
    labels = world.orchnb().labels()
    world.processes.add(labels["orchnb.process"])
    looker = world.orchnb()
    for _ in range(3):
        assert not world.found(looker, labels)
        world.passes(10 * STOPPED_AFTER)


@pytest.mark.parametrize("skew", [-1e6, 0, 1e6])
def test_another_machines_clock_is_not_compared(skew: float) -> None:
    world = World()
    theirs = world.orchnb("there")
    looker = world.orchnb()
    for _ in range(5):  # it lives
        labels = {**theirs.labels(), "orchnb.heartbeat": world.now + skew}
        assert not world.found(looker, labels)
        world.passes(STOPPED_AFTER / 2)
    assert not world.found(looker, labels)
    world.passes(STOPPED_AFTER)
    assert world.found(looker, labels)


@pytest.mark.parametrize(
    "labels", [{}, {"orchnb.heartbeat": "soon"}, {"orchnb.heartbeat": True, "orchnb.process": "x"}]
)
def test_other_runs_are_left_alone(labels: dict[str, Any]) -> None:
    world = World()
    looker = world.orchnb()
    assert not world.found(looker, labels)
    assert not world.found(looker, looker.labels())
    world.passes(STOPPED_AFTER / 2)
    assert not world.found(looker, looker.labels())
