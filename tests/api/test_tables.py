"""Lists of results: a list in every way, a table, dicts, a pandas frame."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from fastapi import FastAPI

from orchnb import PrefectClient, SyncPrefectClient
from orchnb.api.models import (
    Deployment,
    EventPage,
    Flow,
    FlowRun,
    FlowRunCreateResult,
    Log,
    Model,
    ModelList,
    Part,
    State,
    TaskRun,
    WorkPool,
)
from orchnb.api.related import related_objects
from orchnb.notebook.views.model import Card, Line, Table, TableCell, html, text
from orchnb.notebook.views.objects import (
    model_card,
    model_table,
    operation_group_table,
    operations_table,
)
from tests.api.fakes import tiny_api

NOW = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


def run(**changes: Any) -> FlowRun:
    values: dict[str, Any] = {
        "id": uuid.UUID(int=2),
        "flow_id": uuid.UUID(int=1),
        "name": "nightly",
        "state": {"type": "FAILED", "name": "Failed"},
        "start_time": NOW - timedelta(minutes=3, seconds=5),
        "brand_new": "kept",
    }
    return FlowRun.model_validate({**values, **changes})


def cell(runs: ModelList[Any], column: str) -> str | TableCell:
    table = model_table(runs, NOW)
    return table.rows[0][list(table.columns).index(column)]


def test_states_are_in_words_and_colour() -> None:
    state = cell(ModelList([run()]), "state")
    assert isinstance(state, TableCell)
    assert (state.words, state.tone) == ("✗ Failed", "error")
    unknown = cell(ModelList([run(state={"type": "DREAMING"})]), "state")
    assert isinstance(unknown, TableCell)
    assert (unknown.words, unknown.tone) == ("○ Dreaming", "idle")


def test_times_are_exact_in_what_is_saved() -> None:
    start = cell(ModelList([run()]), "start")
    assert isinstance(start, TableCell)
    began = (NOW - timedelta(minutes=3, seconds=5)).astimezone()
    assert start.words == f"Nov {began.day} {began:%H:%M:%S}"
    assert start.title.startswith("2026-11-")
    assert f'title="{start.title}"' in html(model_table(ModelList([run()]), NOW))


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, ""), (4.21, "4.2 s"), (72.25, "1 min 12 s"), (7300, "2 h 1 min")]
)
def test_lengths_of_time_are_in_words(seconds: float, words: str) -> None:
    one = run(total_run_time=seconds)
    table = model_table(ModelList([one]), NOW)
    if words:
        assert str(table.rows[0][list(table.columns).index("duration")]) == words
    card = model_card(one)
    assert isinstance(card, Card)
    assert dict(card.rows).get("Duration", "") == words
    frame = ModelList([one]).to_pandas()
    assert frame["total_run_time"].dt.total_seconds().tolist() == [seconds]


def test_names_lead_to_the_servers_pages_where_it_has_some() -> None:
    linked = ModelList([run()], ui_url="http://127.0.0.1:4200")
    name = cell(linked, "name")
    assert isinstance(name, TableCell)
    assert name.link == f"http://127.0.0.1:4200/runs/flow-run/{uuid.UUID(int=2)}"
    assert f'<a href="{name.link}"' in html(model_table(linked, NOW))
    assert "<a " not in html(model_table(ModelList([run()]), NOW))


@pytest.mark.parametrize(
    "ui_url", ["javascript:alert(1)//", "data:text/html,x", "//evil", " http://x"]
)
def test_no_other_address_becomes_a_link(ui_url: str) -> None:
    assert "<a " not in html(model_table(ModelList([run()], ui_url=ui_url), NOW))


def test_the_first_rows_are_shown_and_all_are_counted() -> None:
    many = ModelList([run(id=uuid.uuid4()) for _ in range(1234)])
    table = model_table(many, NOW)
    assert len(table.rows) == 20
    assert "the first 20 of 1,234 flow runs, as of 2026-11-21" in text(table)


def test_a_list_that_may_be_longer_on_the_server_says_so() -> None:
    assert "1 flow run, and there may be more" in text(
        model_table(ModelList([run()], cut=True), NOW)
    )


def test_nothing_is_a_table_too() -> None:
    nothing = model_table(ModelList([], model=Flow), NOW)
    assert "0 flows" in text(nothing)
    assert nothing.columns == ["name", "created", "tags", "id"]


def test_a_column_that_is_empty_in_all_rows_is_left_out() -> None:
    table = model_table(ModelList([run(), run(name="other")]), NOW)
    assert table.columns == ["name", "state", "start", "id"]
    assert [len(row) for row in table.rows] == [4, 4]
    assert "<th>tags</th>" not in html(table)
    assert "tags" not in text(table)
    some = model_table(ModelList([run(), run(tags=["prod"])]), NOW)
    assert some.columns == ["name", "state", "start", "tags", "id"]
    assert [row[3] for row in some.rows] == ["", "prod"]
    assert "<th>tags</th>" in html(some)


def test_the_name_the_id_and_the_only_column_stay_when_they_are_empty() -> None:
    flow = Flow.model_validate({"id": uuid.UUID(int=1), "name": ""})
    assert model_table(ModelList([flow]), NOW).columns == ["name", "id"]
    alone = model_table(ModelList([FlowRunCreateResult(status="")]), NOW)
    assert (alone.columns, alone.rows) == (["status"], [[""]])


def logs(*levels: int, message: str = "hello") -> ModelList[Log]:
    line = {"name": "prefect.flow_runs", "message": message, "timestamp": NOW}
    return ModelList([Log.model_validate({**line, "level": level}) for level in levels])


def test_levels_of_logs_are_in_words_and_those_without_one_are_numbers() -> None:
    shown = model_table(logs(10, 20, 30, 40, 50, 25, 0, -1), NOW)
    assert isinstance(shown, Card)
    words = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "25", "0", "-1"]
    assert [entry.level for entry in shown.entries] == words
    for word in words:
        assert f">{word.ljust(8)}</span>" in html(shown)
        assert word in text(shown)
    one = model_card(logs(30)[0])
    assert isinstance(one, Card)
    assert [entry.level for entry in one.entries] == ["WARNING"]


def page(count: int, total: int, event: str = "prefect.flow-run.Completed") -> EventPage:
    resource = {"prefect.resource.id": "prefect.flow-run.x"}
    one = {"event": event, "occurred": NOW, "resource": resource}
    events = [{**one, "id": uuid.UUID(int=n)} for n in range(count)]
    return EventPage.model_validate({"events": events, "total": total, "next_page": "http://x/n"})


def test_a_page_of_events_is_shown_as_their_table() -> None:
    found = page(2, 2)
    view = model_card(found)
    assert isinstance(view, Table)
    same = model_table(ModelList(found.events, model=type(found.events[0])), NOW)
    assert [row[0] for row in view.rows] == [row[0] for row in same.rows]
    assert view.columns == same.columns == ["occurred", "event", "resource", "id"]
    assert view.caption.startswith("2 events, as of ")


@pytest.mark.parametrize(
    ("count", "total", "words"),
    [
        (50, 12345, "the first 20 of 50 events, of 12,345 in all, as of "),
        (3, 53, "3 events, of 53 in all, as of "),
        (0, 0, "0 events, as of "),
        (1, -1, "1 event, as of "),
        (1, 10**4000, "1 event, of 10"),
    ],
    ids=["much", "last page", "nothing", "not known", "absurd"],
)
def test_a_page_of_events_says_how_many_there_are_in_all(
    count: int, total: int, words: str
) -> None:
    view = model_card(page(count, total))
    assert isinstance(view, Table)
    assert len(view.rows) == min(count, 20)
    assert view.caption.startswith(words)
    assert len(view.caption) < 120
    assert view.caption in text(view)
    assert view.caption in html(view)


def test_words_of_events_and_logs_are_data() -> None:
    said = "<script>\x1b[31mred</script>"
    for view in (model_card(page(1, 9, said)), model_table(logs(20, message=said), NOW)):
        assert "&lt;script&gt;" in html(view)
        assert "<script>" not in html(view)
        assert "\x1b" not in html(view) + text(view)
        assert "red" in text(view)


FOR_PROGRAMS = {"id": uuid.UUID(int=7), "type": "of use to programs"}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (FlowRun, ["context", "created_by", "empirical_policy", "job_variables", "labels"]),
        (TaskRun, ["empirical_policy", "labels"]),
        (Deployment, ["created_by", "updated_by", "labels"]),
        (WorkPool, ["storage_configuration"]),
        (State, ["data", "state_details"]),
    ],
    ids=lambda given: given.__name__ if isinstance(given, type) else "",
)
def test_what_is_for_programs_only_is_in_no_card_and_no_table(
    kind: type[Model], fields: list[str]
) -> None:
    one = {"id": uuid.UUID(int=1), "flow_id": uuid.UUID(int=2), "name": "x", "type": "x"}
    keys = {"task_key": "x", "dynamic_key": "x"} if kind is TaskRun else {}
    model = kind.model_validate({**one, **keys, **dict.fromkeys(fields, FOR_PROGRAMS)})
    kept = getattr(model, fields[0])
    assert (kept.model_dump() if isinstance(kept, Part) else kept).items() >= FOR_PROGRAMS.items()
    for view in (model_card(model), model_table(ModelList([model]), NOW)):
        assert "of use to programs" not in text(view) + html(view)


def test_a_slice_is_a_table_and_an_item_is_none() -> None:
    runs = ModelList([run(), run()], model=FlowRun, ui_url="http://x")
    part = runs[:1]
    assert isinstance(part, ModelList)
    assert (part.model, part.ui_url, len(part)) == (FlowRun, "http://x", 1)
    assert isinstance(runs[0], FlowRun)
    assert runs == list(runs)


def test_dicts_hold_every_field() -> None:
    (fields,) = ModelList([run()]).to_dicts()
    assert fields["brand_new"] == "kept"
    assert fields["id"] == uuid.UUID(int=2)


def test_a_pandas_frame() -> None:
    frame = ModelList([run(), run(name="other")]).to_pandas()
    assert list(frame["name"]) == ["nightly", "other"]
    assert frame["start_time"].dt.tz is not None
    assert list(ModelList([], model=Flow).to_pandas().columns) == list(Flow.model_fields)


def test_without_pandas_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        ModelList([run()]).to_pandas()


WORKSPACE = "accounts/11111111-1111-1111-1111-111111111111/workspaces/22222222-2222"


@pytest.mark.parametrize(
    ("api", "ui_url"),
    [
        ("http://127.0.0.1:4200/api", "http://127.0.0.1:4200"),
        ("https://user:secret@host/prefix/api", "https://host/prefix"),
        (
            f"https://api.prefect.cloud/api/{WORKSPACE}",
            f"https://app.prefect.cloud/{WORKSPACE.replace('s/', '/')}",
        ),
        (tiny_api, None),
    ],
)
def test_where_the_servers_pages_are(api: Any, ui_url: str | None) -> None:
    assert PrefectClient(api).ui_url == ui_url
    assert SyncPrefectClient(api).ui_url == ui_url


def test_a_list_that_was_read_knows_its_server(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        client.create_flow_from_name("tables-a")
        client.create_flow_from_name("tables-b")
        assert client.read_flows(limit=1).cut
        flows = client.read_flows(name_like="tables-")
        assert (len(flows), flows.cut) == (2, False)
        assert flows.ui_url == server_url.removesuffix("/api")


def test_an_iterator_gives_a_list_of_all_that_is_left(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        for name in "abc":
            client.create_flow_from_name(f"listed-{name}")
        rows = client.iter_flows(name_like="listed-")
        assert next(rows).name == "listed-a"
        left = rows.to_list()
        assert isinstance(left, ModelList)
        assert ([flow.name for flow in left], left.model) == (["listed-b", "listed-c"], Flow)
        assert client.iter_flows(name_like="listed-").to_list().to_pandas().shape[0] == 3
        assert client.iter_flows(name_like="no-such-flow").to_list() == []

    async def read() -> list[Flow]:
        async with PrefectClient(server_url) as client:
            return await client.iter_flows(name_like="listed-").to_list()

    assert [flow.name for flow in asyncio.run(read())] == ["listed-a", "listed-b", "listed-c"]


def test_names_are_asked_for_only_where_results_are_looked_at(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        flow_id = client.create_flow_from_name("looked-at")
        client.create_flow_run(flow_id)
        requests: list[str] = []
        client._http.event_hooks = {"request": [lambda sent: requests.append(sent.url.path)]}
        client.read_flow_runs(flow_name="looked-at", limit=5)
        assert requests == ["/api/flow_runs/filter"]
        related_objects.wanted = True
        try:
            requests.clear()
            for _ in range(2):  # what is known is not asked for again
                client.read_flow_runs(flow_name="looked-at", limit=5)
        finally:
            related_objects.wanted = False
        asked = ["/api/flow_runs/filter", "/api/flows/filter", "/api/flow_runs/filter"]
        assert requests == asked
        assert related_objects.flow_names.get(flow_id) == "looked-at"


def test_the_newest_flow_runs_are_first(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        flow_id = client.create_flow_from_name("newest-first")
        for number in range(8):
            client.create_flow_run(flow_id, name=f"run-{number}")
        found = client.read_flow_runs(flow_name="newest-first", limit=3)
        assert [each.name for each in found] == ["run-7", "run-6", "run-5"]


# What a server can do.


def test_operations_of_prefects_server_are_a_table_of_groups(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        before = operations_table(client.operations)
        assert isinstance(before, Line)
        assert f"operations of {server_url} are not loaded yet" in text(before)
        table = operations_table(client.operations.load())
    assert isinstance(table, Table)
    rows = {str(row[0]): (str(row[1]), str(row[2])) for row in table.rows}
    flow_runs = client.operations.flow_runs
    count, names = rows["flow_runs"]
    assert count == str(len(flow_runs))
    assert names.startswith(", ".join(dir(flow_runs)[:3]))
    assert sum(int(count) for count, _ in rows.values()) >= len(client.operations)
    assert table.caption == f"{len(rows)} groups of the operations of {server_url}"
    assert "<td>flow_runs</td>" in html(table)


def test_a_group_is_a_table_of_operations(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        group = client.operations.flow_runs
    table = operation_group_table(group)
    assert ("read_flow_run", "GET /flow_runs/{id}", "Read Flow Run") in table.rows
    assert [row[0] for row in table.rows] == dir(group)
    assert table.caption == f"{len(group)} operations"
    assert "<td>GET /flow_runs/{id}</td>" in html(table)


def test_much_that_can_be_done_is_counted_and_words_are_data() -> None:
    app = FastAPI()
    for n in range(150):
        app.get(f"/things/{n}", tags=["much"], summary="<b>\x1b[31m" + "x" * 500)(lambda: None)
    with SyncPrefectClient(app) as client:
        group = client.operations.much
    table = operation_group_table(group)
    assert (len(table.rows), table.caption) == (100, "the first 100 of 150 operations")
    assert "of the in-kernel server" in text(operations_table(client.operations))
    assert max(map(len, text(table).splitlines())) < 250
    assert "<b>" not in html(table)
    assert "\x1b" not in text(table) + html(table)
