"""Long reads: every row once, whatever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
import inspect
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchnb import PrefectClient, PrefectHTTPStatusError, SyncPrefectClient, get_client
from orchnb.api.operations.flow_runs import read_flow_runs
from orchnb.api.pagination import Chain, Paging, pages_of
from orchnb.errors import UnexpectedAnswer
from tests.api import both
from tests.servers import prefect_home

pytestmark = both.SQLALCHEMY
nothing_is_left = both.nothing_is_left  # the client stays open from test to test


@pytest.fixture(scope="module")
def small_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    """A client of a Prefect server that gives six rows at most, and refuses to be asked for more."""
    home = prefect_home(tmp_path_factory.mktemp("small-pages") / ".prefect")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PREFECT_HOME", str(home))
        environment.setenv("PREFECT_SERVER_API_DEFAULT_LIMIT", "6")
        with get_client(sync_client=True) as client:
            client.hello()
            yield client


@dataclass(frozen=True, order=True)
class Row:
    id: int


class Shelf:
    """Rows in the order of their ids, as a server keeps them."""

    def __init__(self, ids: set[int]) -> None:
        self.ids = set(ids)
        self.asked: list[int] = []

    def page(self, offset: int, limit: int) -> Iterator[Any]:
        yield from ()  # it has been asked already
        self.asked.append(offset)
        return [Row(id) for id in sorted(self.ids)][offset : offset + limit]


def rows_of(steps: Any) -> Any:
    with pytest.raises(StopIteration) as ended:
        next(iter(steps))
    return ended.value.value


def read(
    shelf: Shelf, size: int, limit: int | None = None, between: Any = lambda: None
) -> list[int]:
    paging: Paging[Row] = Paging(shelf.page, limit, size=size)
    given_: list[int] = []
    while not paging.done:
        given_ += [row.id for row in paging.take(rows_of(paging.call()))]
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
    first, second = (next(iter(page(offset, 200))).json for offset in (0, 199))
    assert (first.pop("offset"), second.pop("offset")) == (0, 199)
    assert first == second
    assert first["flow_runs"]["tags"] == {"all_": ["a", "b"]}
    assert first["sort"] == "ID_DESC"


# Servers that repeat themselves


REPETITIONS: dict[str, Callable[[int, int], list[int]]] = {
    "the first page": lambda offset, limit: list(range(limit)),
    "the second page": lambda offset, limit: list(
        range(min(offset, limit), min(offset, limit) + limit)
    ),
    "one row": lambda offset, limit: [7] * limit,
    "turned round": lambda offset, limit: list(range(limit))[:: -1 if offset % 2 else 1],
    "by turns": lambda offset, limit: list(
        range((offset % 2) * limit, (offset % 2) * limit + limit)
    ),
    "more than is asked for": lambda offset, limit: list(range(3 * limit)),
    "a cache of the first pages": lambda offset, limit: (
        list(range(offset, offset + limit)) if offset > 3 * limit else list(range(limit))
    ),
    "few rows that shift": lambda offset, limit: [
        (offset + row) % (2 * limit) for row in range(limit)
    ],
}


def take_all(pages: Any, came: list[int]) -> None:
    while not pages.done:
        came += [row.id for row in pages.take(rows_of(pages.call()))]


@pytest.mark.parametrize("size", [2, 6, 50, 200])
@pytest.mark.parametrize("name", REPETITIONS)
def test_pages_that_repeat_themselves_are_an_error_after_a_few(name: str, size: int) -> None:
    asked = 0

    def page(offset: int, limit: int) -> Iterator[Any]:
        nonlocal asked
        asked += 1
        assert asked < 1_500
        yield from ()
        return [Row(id) for id in REPETITIONS[name](offset, limit)]

    paging: Paging[Row] = Paging(page, size=size)
    came: list[int] = []
    with pytest.raises(UnexpectedAnswer, match="makes no progress") as caught:
        take_all(paging, came)
    assert "cache" in caught.value.hint
    assert len(came) == len(set(came))
    assert asked < (20 if size == 200 else 1_300)


@pytest.mark.parametrize("rows", [[], [1], [1, 2]])
@pytest.mark.parametrize("following", [lambda page: page, lambda page: page + 1])
def test_a_chain_of_pages_that_bring_nothing_new_is_an_error(
    rows: list[int], following: Any
) -> None:
    asked = 0

    def page(number: int) -> Iterator[Any]:
        nonlocal asked
        asked += 1
        yield from ()
        return number

    chain: Chain[Row] = Chain(
        page(0), lambda number: page(following(number)), lambda _: [Row(id) for id in rows]
    )
    with pytest.raises(UnexpectedAnswer, match="makes no progress"):
        take_all(chain, [])
    assert asked < 6


ENDLESS = {
    "match_work_queues": (["a"],),
    "count_automations": (),
    "iter_flow_runs": (),
    "iter_work_queues": (),
    "iter_events": (),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_no_client_asks_a_server_that_repeats_itself_without_end(name: str) -> None:
    asked = 0
    moment = "2026-11-01T00:00:00Z"
    ids = [str(uuid.UUID(int=number)) for number in range(200)]
    event = {
        "occurred": moment,
        "event": "e",
        "resource": {"prefect.resource.id": "r"},
        "received": moment,
    }
    row: dict[str, Any] = {"name": "n", "flow_id": ids[0], "trigger": {}, "actions": []}

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        assert asked < 30
        if "/events/" in request.url.path:
            page = {"events": [{**event, "id": id} for id in ids[:50]], "total": 10**6}
            return httpx.Response(
                200,
                json={
                    **page,
                    "next_page": "http://orch.invalid/api/events/filter/next?page-token=1",
                },
            )
        return httpx.Response(200, json=[{**row, "id": id} for id in ids])

    options = {"transport": httpx.MockTransport(answer), "enable_csrf_support": False}
    arguments: dict[str, Any] = {"automations": {"name": {}}} if name == "count_automations" else {}
    with (
        SyncPrefectClient("http://orch.invalid/api", httpx_settings=options) as client,
        pytest.raises(UnexpectedAnswer, match="makes no progress"),
    ):
        list(getattr(client, name)(*ENDLESS[name], **arguments))


@pytest.mark.parametrize("address", ["nonsense", "http://[", "/next?page-token=", "x" * 70_000])
def test_a_next_page_that_is_none_is_an_error(address: str) -> None:
    page = {"events": [], "total": 1, "next_page": address}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=page))
    options = {"transport": transport, "enable_csrf_support": False}
    with (
        SyncPrefectClient("http://orch.invalid/api", httpx_settings=options) as client,
        pytest.raises(UnexpectedAnswer, match="next page of events"),
    ):
        list(client.iter_events())


def test_pages_of_one_row_are_refused_rather_than_read_for_ever() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        detail = "Invalid limit: must be less than or equal to 1."
        return httpx.Response(422, json={"detail": detail}, request=request)

    options = {"transport": httpx.MockTransport(answer)}
    with (
        SyncPrefectClient("http://orch.invalid/api", httpx_settings=options) as client,
        pytest.raises(PrefectHTTPStatusError, match="less than or equal to 1"),
    ):
        next(client.iter_flows())


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        Paging(Shelf(set()).page, -1)


def read_all(kind: str, tag: str, between: Callable[[int], None]) -> list[uuid.UUID]:
    """The ids of all runs with a tag; ``between`` is called with the number of each."""
    came: list[uuid.UUID] = []
    if kind == "sync":
        with get_client(sync_client=True) as client:
            for run in client.iter_flow_runs(tags=[tag]):
                between(len(came))
                came.append(run.id)
        return came

    async def main() -> None:
        async with get_client() as client:
            async for run in client.iter_flow_runs(tags=[tag]):
                between(len(came))
                came.append(run.id)

    asyncio.run(main())
    return came


def test_on_the_real_server_while_runs_come_and_go(
    kind: str, small_pages: SyncPrefectClient
) -> None:
    tag = f"paging-{uuid.uuid4()}"
    flow_id = small_pages.create_flow_from_name("paging")

    def add() -> uuid.UUID:
        return small_pages.create_flow_run(flow_id, tags=[tag]).id

    before = [add() for _ in range(40)]
    gone: set[uuid.UUID] = set()

    def between(number: int) -> None:
        if number % 5 == 0 and number < len(before):
            add()
            gone.add(before[number])
            small_pages.delete_flow_run(before[number])

    came = read_all(kind, tag, between)
    assert len(came) == len(set(came)), "none twice"
    assert set(before) - gone <= set(came), "none left out"


def test_no_more_than_the_limit_and_in_order(small_pages: SyncPrefectClient) -> None:
    for name in ("limit-a", "limit-b", "limit-c"):
        small_pages.create_flow_from_name(name)
    assert len(list(small_pages.iter_flows(limit=2))) == 2
    assert [f.name for f in small_pages.iter_flows(name_like="limit-")] == [
        "limit-a",
        "limit-b",
        "limit-c",
    ]


def test_a_list_says_whether_there_can_be_more(small_pages: SyncPrefectClient) -> None:
    for number in range(7):
        small_pages.create_flow_from_name(f"cut-{number}")
    for limit, keywords, count, cut in (
        (None, {"name_like": "cut-"}, 6, True),
        (None, {"name_like": "cut-0"}, 1, False),
        (3, {"name_like": "cut-"}, 3, True),
        (3, {"name_like": "cut-0"}, 1, False),
        (None, {"name_like": "no such"}, 0, False),
    ):
        flows = small_pages.read_flows(limit=limit, **keywords)
        assert (len(flows), flows.cut) == (count, cut)
    run = small_pages.create_flow_run("cut-0")
    for state in ("RUNNING", "FAILED", "RUNNING", "FAILED", "RUNNING"):
        small_pages.set_flow_run_state(run.id, state, force=True)
    states = small_pages.read_flow_run_states(run.id)
    assert (len(states), states.cut) == (6, False), "all of them, without pages"


# All of them


MANY = 15


def add_task_run(client: SyncPrefectClient, name: str) -> object:
    return client.create_task_run("paged", client.create_flow_run("paged").id, name, name=name)


def add_deployment(client: SyncPrefectClient, name: str) -> object:
    return client.create_deployment(client.create_flow_from_name("paged"), name)


def add_block_document(client: SyncPrefectClient, name: str) -> object:
    kind = client.create_block_type(name=name, slug=name)
    schema = client.create_block_schema(fields={"title": name}, block_type_id=kind.id)
    return client.create_block_document(
        name=name, data={}, block_type_id=kind.id, block_schema_id=schema.id
    )


def add_automation(client: SyncPrefectClient, name: str, tags: Iterable[str] = ()) -> object:
    trigger = {"type": "event", "posture": "Reactive", "expect": ["nothing"], "within": 0}
    actions = [{"type": "do-nothing"}]
    return client.create_automation(name, trigger=trigger, actions=actions, tags=tags)


def add_log(client: SyncPrefectClient, name: str) -> object:
    begun = datetime(2026, 11, 26, tzinfo=timezone.utc)
    at = begun + timedelta(seconds=int(name[1:]))
    line = {"name": "lab", "level": 20, "message": name, "timestamp": at}
    return client.create_logs([{**line, "flow_run_id": uuid.uuid4()}])


ADD: dict[str, Callable[[SyncPrefectClient, str], object]] = {
    "iter_flows": lambda client, name: client.create_flow_from_name(name),
    "iter_flow_runs": lambda client, name: client.create_flow_run("paged", name=name),
    "iter_task_runs": add_task_run,
    "iter_deployments": add_deployment,
    "iter_artifacts": lambda client, name: client.create_artifact(key=name, type="x"),
    "iter_variables": lambda client, name: client.create_variable(name, value=1),
    "iter_work_pools": lambda client, name: client.create_work_pool(name, type="process"),
    "iter_work_queues": lambda client, name: client.create_work_queue(name),
    "iter_global_concurrency_limits": (
        lambda client, name: client.create_global_concurrency_limit(name, limit=1)
    ),
    "iter_block_documents": add_block_document,
    "iter_automations": add_automation,
    "iter_logs": add_log,
}


@pytest.mark.parametrize("name", ADD)
def test_each_gives_all_also_where_the_server_gives_few_at_a_time(
    name: str, small_pages: SyncPrefectClient
) -> None:
    for number in range(MANY):
        ADD[name](small_pages, f"p{number:02}")
    iterate = getattr(small_pages, name)
    came = [row.id for row in iterate()]
    assert len(came) == len(set(came)) >= MANY
    assert [row.id for row in iterate(limit=8)] == came[:8]


def test_automations_are_given_by_their_tags(small_pages: SyncPrefectClient) -> None:
    for number in range(MANY):
        add_automation(small_pages, f"by-tag-{number}", ["odd"] if number % 2 else [])
    came = {each.name for each in small_pages.iter_automations(tags=["odd"])}
    assert came == {f"by-tag-{number}" for number in range(1, MANY, 2)}


def test_events_are_given_by_pages_that_name_the_next(small_pages: SyncPrefectClient) -> None:
    name = f"paged.{uuid.uuid4()}"
    for number in range(120):  # a page of events has fifty at most
        small_pages.emit_event(name, f"number-{number}")
    mine = {"event": {"name": [name]}}
    both.eventually(lambda: small_pages.read_events(mine).total, lambda total: total == 120)
    came = [event.resource["prefect.resource.id"] for event in small_pages.iter_events(filter=mine)]
    assert sorted(came) == sorted(f"number-{number}" for number in range(120))
    some = list(small_pages.iter_events(limit=70, filter=mine))
    assert [event.resource["prefect.resource.id"] for event in some] == came[:70]
    assert list(small_pages.iter_events(limit=0)) == []


def test_every_iterator_is_tried() -> None:
    iterators = {name for name in dir(SyncPrefectClient) if name.startswith("iter_")}
    assert iterators == {*ADD, "iter_events"}


@pytest.mark.parametrize("name", [*ADD, "iter_events"])
def test_async_and_sync_say_the_same_and_name_all_keywords(name: str) -> None:
    on_async, on_sync = getattr(PrefectClient, name), getattr(SyncPrefectClient, name)
    shown = inspect.signature(on_async)
    assert shown.parameters == inspect.signature(on_sync).parameters
    assert on_async.__doc__ == on_sync.__doc__
    assert all(each.kind is not each.VAR_KEYWORD for each in shown.parameters.values())
    reads = inspect.signature(getattr(PrefectClient, name.replace("iter_", "read_"))).parameters
    assert set(reads) - set(shown.parameters) <= {"sort", "offset", "block_schema_type"}
