"""The diagram of a flow run's graph: each run is in it, no boxes overlap, lines lead to the right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchnb.api.models import FlowRunGraph
from orchnb.notebook.views.graph import MOST_BOXES, graph_diagram
from orchnb.notebook.views.model import Diagram, html, text


def node(key: str, *parents: str, label: str = "", **details: Any) -> list[Any]:
    return [
        key,
        {
            "kind": "task-run",
            "id": key,
            "label": label or f"{key}-0a1",
            "state_type": "COMPLETED",
            "start_time": "2026-11-28T12:00:00Z",
            "end_time": "2026-11-28T12:00:04.5+00:00",
            "parents": [{"kind": "task-run", "id": parent} for parent in parents],
            **details,
        },
    ]


def drawn(*nodes: Any) -> Diagram:
    return graph_diagram(FlowRunGraph(nodes=list(nodes)))


def left_of(diagram: Diagram) -> dict[str, int]:
    return {box.name: box.x for box in diagram.boxes}


def test_a_run_is_to_the_right_of_all_that_it_depends_on() -> None:
    diagram = drawn(node("c", "a", "b"), node("a"), node("b", "a"), node("d", "c"))
    left = left_of(diagram)
    assert left["a-0a1"] < left["b-0a1"] < left["c-0a1"] < left["d-0a1"]
    assert len(diagram.arrows) == 4
    assert "✓ c-0a1  4.5 s  after a-0a1, b-0a1" in text(diagram)


def test_a_line_passes_the_boxes_in_between() -> None:
    diagram = drawn(node("a"), node("b", "a"), node("c", "a", "b"))
    long = max(diagram.arrows, key=len)
    middle = next(box for box in diagram.boxes if box.name == "b-0a1")
    assert len(long) == 4
    assert all(not middle.y <= y <= middle.y + middle.height for _, y in long[1:3])


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"state_type": "FAILED"}, "✗ x-0a1  4.5 s, failed"),
        ({"state_type": "RUNNING", "end_time": None}, "• x-0a1  running"),
        ({"state_type": None, "start_time": None}, "• x-0a1  no state"),
        ({"state_type": "A NEW STATE", "end_time": "soon"}, "• x-0a1  a new state"),
        ({"parents": None}, "✓ x-0a1  4.5 s"),
        ({"parents": ["x", {"id": "elsewhere"}]}, "✓ x-0a1  4.5 s"),
        ({"parents": [{"id": "x"}]}, "✓ x-0a1  4.5 s"),
    ],
)
def test_whatever_a_server_says_about_a_run_is_drawn(details: dict[str, Any], words: str) -> None:
    diagram = drawn(node("x", **details), "no pair", ["y", None], ["z"])
    assert text(diagram).splitlines()[1:] == [f"  {words}"]
    assert "<svg" in html(diagram)


def test_no_runs_are_said_in_words() -> None:
    assert text(drawn()) == "Graph of a flow run: no runs yet"


def test_many_runs_share_a_box_by_name_also_if_names_depend_on_each_other() -> None:
    count = MOST_BOXES + 20
    nodes = [node("k0", label="a-0")]
    for number in range(1, count):
        label = f"{'ab'[number % 2]}-{number:x}"
        nodes.append(node(f"k{number}", f"k{number - 1}", label=label))
    nodes[7][1]["state_type"] = "FAILED"
    diagram = drawn(*nodes)
    assert sorted((box.name, box.words) for box in diagram.boxes) == [
        ("a", f"{count // 2} runs"),
        ("b", f"{count // 2} runs, 1 failed"),
    ]
    assert len(diagram.arrows) == 1, "the other direction would close a cycle"
    assert "share a box" in diagram.notes[0]


def test_a_thousand_names_are_cut() -> None:
    diagram = drawn(*(node(f"k{number}", label=f"name {number}") for number in range(1000)))
    assert len(diagram.boxes) == MOST_BOXES
    assert any("of 1,000 names" in note for note in diagram.notes)
    assert len(html(diagram)) < 100_000


@given(st.data())
def test_no_boxes_overlap_and_all_lines_lead_to_the_right(data: Any) -> None:
    count = data.draw(st.integers(1, 20))
    nodes = [
        node(
            f"k{n}", *data.draw(st.lists(st.sampled_from([f"k{i}" for i in range(n)]), max_size=4))
        )
        if n
        else node("k0")
        for n in range(count)
    ]
    diagram = drawn(*data.draw(st.permutations(nodes)))
    boxes = diagram.boxes
    assert len({(box.x, box.y) for box in boxes}) == len(boxes) == count
    for box in boxes:
        assert 0 <= box.x <= box.x + box.width <= diagram.width
        assert 0 <= box.y <= box.y + box.height <= diagram.height
        for other in boxes:
            if other is not box and other.x == box.x:
                assert abs(other.y - box.y) >= box.height
    for points in diagram.arrows:
        assert [x for x, _ in points] == sorted({x for x, _ in points})
