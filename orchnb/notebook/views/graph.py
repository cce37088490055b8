"""The view of a flow run's graph: boxes for task runs and subflows, in the order of their dependencies.

The layout is the usual one for layered graphs: a run is one column to the right of the last run that it
depends on, and each column is sorted so that runs are near what they depend on. A library for it would
be a compiled program (Graphviz) or a script in the page, which a saved notebook cannot rely on.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from orchnb.api.models import FlowRunGraph
from orchnb.notebook.views.model import Box, Diagram, Tone, clean, duration

MOST_BOXES = 80
"""Runs that are drawn one by one; more are grouped by name."""

_MOST_ARROWS = 400
_LABEL = 20
_WIDTH, _HEIGHT = 156, 40
_GAP_X, _GAP_Y = 40, 12
_PASSAGE = 4
"""The height of the gap that a line takes through a column."""

_SWEEPS = 4
"""How often the columns are sorted by what their boxes are connected to."""

Routes: TypeAlias = Mapping[tuple[str, str], Sequence[str]]
"""For each dependency, from a box to a box, the passages through the columns in between."""

_TONES: dict[str, Tone] = {
    "COMPLETED": "good",
    "FAILED": "error",
    "CRASHED": "error",
    "CANCELLED": "warn",
    "CANCELLING": "warn",
    "PAUSED": "warn",
}


@dataclass(frozen=True)
class _Node:
    key: str
    name: str
    words: str
    tone: Tone
    parents: Sequence[str]
    is_flow: bool = False
    group: str = ""


def graph_diagram(graph: FlowRunGraph) -> Diagram:
    """Return the diagram of a flow run's graph."""
    nodes = list(_nodes(graph))
    kinds = Counter(node.is_flow for node in nodes)
    counted = [
        f"{count:,} {what}{'s' * (count != 1)}"
        for count, what in ((kinds[False], "task run"), (kinds[True], "subflow"))
        if count
    ]
    notes = []
    if len(nodes) > MOST_BOXES:
        nodes = list(_grouped(nodes))
        notes.append("Runs of the same name share a box.")
        if len(nodes) > MOST_BOXES:
            notes.append(f"The first {MOST_BOXES} of {len(nodes):,} names are shown.")
            nodes = nodes[:MOST_BOXES]
    by_key = {node.key: node for node in nodes}
    levels = _levels(by_key)
    routes = {
        (parent, node.key): [
            f"{parent}>{node.key}@{level}" for level in range(levels[parent] + 1, levels[node.key])
        ]
        for node in nodes
        for parent in node.parents
        if parent in levels and levels[parent] < levels[node.key]
    }
    if len(routes) > _MOST_ARROWS:
        notes.append(f"{_MOST_ARROWS} of {len(routes):,} dependencies are drawn.")
        routes = dict(itertools.islice(routes.items(), _MOST_ARROWS))
    columns = _columns(levels, routes)
    places, height = _places(columns, by_key)
    return Diagram(
        title="Graph of a flow run: " + (" and ".join(counted) or "no runs yet"),
        width=max(len(columns) * (_WIDTH + _GAP_X) - _GAP_X, 0),
        height=height,
        boxes=[
            Box(
                *places[node.key],
                _WIDTH,
                _HEIGHT,
                label=clean(node.name, _LABEL),
                words=node.words,
                tone=node.tone,
                name=node.name,
                is_double=node.is_flow,
                after=[by_key[parent].name for parent in node.parents if parent in by_key],
            )
            for column in columns
            for node in (by_key[key] for key in column if key in by_key)
        ],
        arrows=[list(_route(keys, places)) for keys in _ends(routes)],
        notes=notes,
    )


def _ends(routes: Routes) -> Iterator[list[str]]:
    for (parent, child), between in routes.items():
        yield [parent, *between, child]


def _route(keys: Sequence[str], places: Mapping[str, tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the points of a line: curves between the columns, straight parts through them."""
    for key in keys:
        x, y = places[key]
        middle = y + (_HEIGHT if key in (keys[0], keys[-1]) else _PASSAGE) // 2
        if key != keys[0]:
            yield x, middle
        if key != keys[-1]:
            yield x + _WIDTH, middle


def _places(
    columns: Sequence[Sequence[str]], nodes: Mapping[str, _Node]
) -> tuple[dict[str, tuple[int, int]], int]:
    """Return where each box and each passage is, each column in the middle, and the whole height."""
    heights = {
        key: (_HEIGHT if key in nodes else _PASSAGE) + _GAP_Y
        for column in columns
        for key in column
    }
    most = max((sum(heights[key] for key in column) for column in columns), default=0)
    places = {}
    for number, column in enumerate(columns):
        y = (most - sum(heights[key] for key in column)) // 2
        for key in column:
            places[key] = (number * (_WIDTH + _GAP_X), y)
            y += heights[key]
    return places, most


def _nodes(graph: FlowRunGraph) -> Iterator[_Node]:
    """Yield the runs of a graph, as the server sends them: pairs of an id and details."""
    for each in graph.nodes:
        details = each[1] if isinstance(each, (list, tuple)) and len(each) == 2 else None
        if not isinstance(details, Mapping):
            continue
        state = str(details.get("state_type") or "")
        seconds = _seconds(details.get("start_time"), details.get("end_time"))
        words = [] if seconds is None else [duration(seconds)]
        if state != "COMPLETED":
            words.append(clean(state.lower() or "no state", 20))
        name = clean(str(details.get("label") or details.get("id") or ""), 120)
        yield _Node(
            key=str(each[0]),
            name=name,
            words=", ".join(words),
            tone=_TONES.get(state, "plain"),
            parents=[
                str(parent.get("id"))
                for parent in details.get("parents") or ()
                if isinstance(parent, Mapping) and parent.get("id") != each[0]
            ],
            is_flow=details.get("kind") == "flow-run",
            group=re.sub(r"-[0-9a-f]{1,8}$", "", name),
        )


def _seconds(start: object, end: object) -> float | None:
    try:
        times = [datetime.fromisoformat(str(each).replace("Z", "+00:00")) for each in (start, end)]
        return (times[1] - times[0]).total_seconds()
    except (ValueError, TypeError):  # not ended, or not a time that this version knows
        return None


def _grouped(nodes: Sequence[_Node]) -> Iterator[_Node]:
    """Yield one node for all runs of a name, with the dependencies of them all."""
    groups: dict[str, list[_Node]] = {}
    for node in nodes:
        groups.setdefault(node.group, []).append(node)
    group_of = {node.key: node.group for node in nodes}
    for name, each in groups.items():
        parents = dict.fromkeys(group_of.get(key, "") for node in each for key in node.parents)
        failed = sum(node.tone == "error" for node in each)
        going = sum(node.tone == "plain" for node in each)
        words = [f"{len(each):,} runs" if len(each) > 1 else each[0].words]
        words += [f"{failed:,} failed"] if failed and len(each) > 1 else []
        yield replace(
            each[0],
            key=name,
            name=name,
            words=", ".join(words),
            tone="error" if failed else "plain" if going else each[0].tone,
            parents=[parent for parent in parents if parent not in ("", name)],
        )


def _columns(levels: Mapping[str, int], routes: Routes) -> list[list[str]]:
    """Return the keys of boxes and passages by column, each column sorted."""
    columns: list[list[str]] = [[] for _ in range(max(levels.values(), default=-1) + 1)]
    for key, level in levels.items():
        columns[level].append(key)
    neighbours: tuple[dict[str, list[str]], dict[str, list[str]]] = ({}, {})
    for keys in _ends(routes):
        for level, key in enumerate(keys[1:-1], levels[keys[0]] + 1):
            columns[level].append(key)
        for left, right in itertools.pairwise(keys):
            neighbours[0].setdefault(right, []).append(left)
            neighbours[1].setdefault(left, []).append(right)
    for sweep in range(_SWEEPS):
        backward = sweep % 2
        places = {
            key: place / max(len(column) - 1, 1)
            for column in columns
            for place, key in enumerate(column)
        }
        for column in reversed(columns) if backward else columns:
            wanted = {key: _mean(neighbours[backward].get(key, ()), places, key) for key in column}
            column.sort(key=wanted.__getitem__)
            places.update({key: n / max(len(column) - 1, 1) for n, key in enumerate(column)})
    return columns


def _mean(keys: Iterable[str], places: Mapping[str, float], own: str) -> float:
    known = [places[key] for key in keys if key in places]
    return sum(known) / len(known) if known else places[own]


def _levels(nodes: Mapping[str, _Node]) -> dict[str, int]:
    """Return each node's column: one more than the last of those that it depends on.

    The server's graphs have no cycles; groups of runs can, and then a dependency that closes one is left
    out.
    """
    levels: dict[str, int] = {}
    for root in nodes:
        path: list[tuple[str, Iterator[str]]] = [(root, iter(nodes[root].parents))]
        open_keys = {root}
        while path:
            key, parents = path[-1]
            parent = next((each for each in parents if each in nodes), None)
            if parent is None:
                path.pop()
                open_keys.discard(key)
                above = [levels[each] for each in nodes[key].parents if each in levels]
                levels.setdefault(key, max(above, default=-1) + 1)
            elif parent not in levels and parent not in open_keys:
                path.append((parent, iter(nodes[parent].parents)))
                open_keys.add(parent)
    return levels
