"""Long reads: every row once, whatever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchnb import PrefectClient, SyncPrefectClient
from orchnb.api.operations.flow_runs import read_flow_runs
from orchnb.api.paging import Paging, pages_of


@dataclass(frozen=True, order=True)
class Row:
    id: int


class Shelf:
    """Rows in the order of their ids, as a server keeps them."""

    def __init__(self, ids: set[int]) -> None:
        self.ids = set(ids)
        self.asked: list[int] = []

    def page(self, offset: int, limit: int) -> Any:
        self.asked.append(offset)
        return [Row(id) for id in sorted(self.ids)][offset : offset + limit]


def read(
    shelf: Shelf, size: int, limit: int | None = None, between: Any = lambda: None
) -> list[int]:
    paging: Paging[Row] = Paging(shelf.page, limit, size=size)
    given_: list[int] = []
    while not paging.done:
        given_ += [row.id for row in paging.take(paging.call())]  # type: ignore[arg-type]
        between()
    return given_


@given(st.sets(st.integers(0, 500)), st.integers(2, 20))
def test_on_a_quiet_shelf_each_row_comes_once_and_in_order(ids: set[int], size: int) -> None:
    shelf = Shelf(ids)
    assert read(shelf, size) == sorted(ids)
    assert len(shelf.asked) == len(set(shelf.asked)), "no page twice"
    assert len(shelf.asked) <= len(ids) // (size - 1) + 1


@given(st.sets(st.integers(0, 500)), st.integers(2, 20), st.integers(0, 600))
def test_no_more_than_the_limit(ids: set[int], size: int, limit: int) -> None:
    assert read(Shelf(ids), size, limit) == sorted(ids)[:limit]


@given(
    st.sets(st.integers(0, 300), max_size=80),
    st.integers(2, 12),
    st.lists(st.tuples(st.booleans(), st.integers(0, 300)), max_size=60),
    st.integers(1, 4),
)
def test_rows_that_stay_come_once_whatever_comes_and_goes(
    ids: set[int], size: int, changes: list[tuple[bool, int]], at_once: int
) -> None:
    shelf = Shelf(ids)
    left = list(changes)
    stayed = ids - {number for added, number in changes if not added}
    ever = ids | {number for added, number in changes if added}

    def between() -> None:
        for _ in range(at_once):
            if left:
                added, number = left.pop()
                (shelf.ids.add if added else shelf.ids.discard)(number)

    came = read(shelf, size, between=between)
    assert len(came) == len(set(came)), "none twice"
    assert stayed <= set(came) <= ever, "none left out, none made up"


def test_all_pages_ask_the_same() -> None:
    asked = read_flow_runs(since="1h", tags=(tag for tag in ["a", "b"]), sort="ID_DESC")
    page = pages_of(asked)
    first, second = page(0, 200).json, page(199, 200).json
    assert (first.pop("offset"), second.pop("offset")) == (0, 199)
    assert first == second
    assert first["flow_runs"]["tags"] == {"all_": ["a", "b"]}
    assert first["sort"] == "ID_DESC"


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        Paging(Shelf(set()).page, -1)


def read_all(kind: str, url: str, tag: str, between: Callable[[int], None]) -> list[uuid.UUID]:
    """The ids of all runs with a tag; ``between`` is called with the number of each."""
    came: list[uuid.UUID] = []
    if kind == "sync":
        with SyncPrefectClient(url) as client:
            for run in client.iter_flow_runs(tags=[tag]):
                between(len(came))
                came.append(run.id)
        return came

    async def main() -> None:
        async with PrefectClient(url) as client:
            async for run in client.iter_flow_runs(tags=[tag]):
                between(len(came))
                came.append(run.id)

    asyncio.run(main())
    return came


def test_on_the_real_server_while_runs_come_and_go(kind: str, server_url: str) -> None:
    tag = f"paging-{uuid.uuid4()}"
    with SyncPrefectClient(server_url) as other:
        flow_id = other.create_flow_from_name("paging")

        def add() -> uuid.UUID:
            return other.create_flow_run(flow_id, tags=[tag]).id

        before = [add() for _ in range(420)]
        gone: set[uuid.UUID] = set()

        def between(number: int) -> None:
            if number % 90 == 0 and number < len(before):
                add()
                gone.add(before[number])
                other.delete_flow_run(before[number])

        came = read_all(kind, server_url, tag, between)
    assert len(came) == len(set(came)), "none twice"
    assert set(before) - gone <= set(came), "none left out"


def test_no_more_than_the_limit_on_the_real_server(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        for name in ("limit-a", "limit-b", "limit-c"):
            client.create_flow_from_name(name)
        assert len(list(client.iter_flows(limit=2))) == 2
        assert [f.name for f in client.iter_flows(name_like="limit-")] == [
            "limit-a",
            "limit-b",
            "limit-c",
        ]
