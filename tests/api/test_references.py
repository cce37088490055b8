"""A flow run is called by its id, a part of its id, its name, or the object, in every operation."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from orchnb import AmbiguousReference, PrefectClient, ReferenceNotFound
from orchnb.api.models import FlowRun
from orchnb.api.models.base import ModelList
from orchnb.api.operations.references import find_flow_runs
from orchnb.http.calls import Call
from tests.api import both

pytestmark = both.SQLALCHEMY
client = both.client
server_here = both.server_here
nothing_is_left = both.nothing_is_left
name = both.name


def made(client: Any, name: str) -> FlowRun:
    run = client.create_flow_run("referred", name=name)
    assert isinstance(run, FlowRun)
    return run


REFERENCES: dict[str, Callable[[FlowRun], Any]] = {
    "id": lambda run: run.id,
    "text": lambda run: str(run.id).upper(),
    "hex": lambda run: run.id.hex,
    "short": lambda run: str(run.id)[:12],
    "name": lambda run: run.name,
    "run": lambda run: run,
    "another-library's": lambda run: SimpleNamespace(id=str(run.id)),
}


@pytest.mark.parametrize("kind_of_reference", REFERENCES)
def test_a_run_is_read_by_each_kind_of_reference(
    client: Any, name: str, kind_of_reference: str
) -> None:
    run = made(client, name)
    reference = REFERENCES[kind_of_reference](run)
    assert client.read_flow_run(reference).id == run.id
    assert client.read_flow_run(flow_run_id=reference).id == run.id


OPERATIONS: list[tuple[str, tuple[Any, ...]]] = [
    ("set_flow_run_state", ("RUNNING",)),
    ("update_flow_run_labels", ({"a": 1},)),
    ("read_flow_run_states", ()),
    ("read_flow_run_graph", ()),
    ("create_flow_run_input", ("key", "1")),
    ("read_flow_run_input", ("key",)),
    ("filter_flow_run_input", ("k",)),
    ("delete_flow_run_input", ("key",)),
    ("update_flow_run", ()),
    ("pause_flow_run", ()),
    ("resume_flow_run", ()),
    ("cancel_flow_run", ()),
    ("wait_for_flow_run", ()),
    ("set_flow_run_name", ()),
    ("delete_flow_run", ()),
]


def test_each_operation_on_a_run_takes_a_name(client: Any, name: str) -> None:
    run = made(client, name)
    for operation, arguments in OPERATIONS:
        options: dict[str, Any] = {"tags": ["x"]} if operation == "update_flow_run" else {}
        if operation == "wait_for_flow_run":
            client.set_flow_run_state(run, "COMPLETED", force=True)
        if operation == "set_flow_run_name":
            arguments = ("x" + name,)
        getattr(client, operation)(name, *arguments, **options)
        if operation == "set_flow_run_name":
            name = "x" + name
    with pytest.raises(ReferenceNotFound):
        client.read_flow_run(name)


def test_no_operation_on_a_run_is_forgotten() -> None:
    taking = {
        name
        for name, method in inspect.getmembers(PrefectClient, callable)
        if not name.startswith("_")
        and next(iter([*inspect.signature(method).parameters][1:]), "") == "flow_run_id"
    }
    assert taking - {"read_flow_run"} == {operation for operation, _ in OPERATIONS}


@pytest.mark.parametrize(
    "read",
    [
        lambda client, run: client.read_logs(flow_run_id=run),
        lambda client, run: client.read_task_runs(flow_run_id=run),
        lambda client, run: client.count_task_runs(flow_run_id=run),
        lambda client, run: client.read_artifacts(flow_run_id=run),
        lambda client, run: client.wait_for_flow_runs([run], timeout=60),
    ],
)
def test_reads_take_a_run_by_keyword(
    client: Any, name: str, read: Callable[[Any, Any], Any]
) -> None:
    run = made(client, name)
    client.set_flow_run_state(run, "COMPLETED")
    read(client, run)
    read(client, name)


def test_iterators_take_a_name(server_url: str, name: str) -> None:
    with both.opened("sync", server_url) as client:
        run = made(client, name)
        line = {"flow_run_id": str(run.id), "name": "x", "level": 20, "message": "m"}
        client.create_logs([{**line, "timestamp": datetime.now(timezone.utc)}])
        client.set_flow_run_state(run, "COMPLETED")
        for reference in (run, name):
            assert list(client.iter_task_runs(flow_run_id=reference)) == []
            assert list(client.iter_artifacts(flow_run_id=reference)) == []
            assert [line.message for line in client.iter_logs(flow_run_id=reference)] == ["m"]
            changes = list(client.follow_flow_runs([reference]))
            assert [change.run.id for change in changes] == [run.id]


def test_a_name_of_several_runs_is_an_error_that_lists_them(client: Any, name: str) -> None:
    runs = [made(client, name) for _ in range(7)]
    with pytest.raises(AmbiguousReference, match=r"fits 7 flow runs: .* and 2 more") as caught:
        client.delete_flow_run(name)
    assert set(caught.value.candidates) == {run.id for run in runs}
    assert all(client.read_flow_run(run).id == run.id for run in runs), "nothing was deleted"


def test_a_wrong_name_suggests_a_similar_one(client: Any, name: str) -> None:
    made(client, name)
    with pytest.raises(ReferenceNotFound, match=f"Did you mean '{name}'"):
        client.read_flow_run(f"{name}x")


def test_a_run_that_the_server_fails_to_list_does_not_hide_the_others(
    client: Any, name: str
) -> None:
    odd = client.create_flow_run("referred", parameters={"far": 2**64})
    try:
        run = made(client, name)
        assert client.read_flow_run(str(run.id)[:12]).id == run.id
        with pytest.raises(ReferenceNotFound, match=f"Did you mean '{name}'"):
            client.read_flow_run(f"{name}x")
    finally:
        client.delete_flow_run(odd.id)  # else no test on this server can list runs


@pytest.mark.parametrize("reference", ["", " "])
def test_an_empty_text_is_a_value_error(client: Any, reference: str) -> None:
    with pytest.raises(ValueError, match=r"An empty string is not a valid id or name"):
        client.delete_flow_run(reference)


@pytest.mark.parametrize("reference", [7, None, {"id": "x"}, SimpleNamespace(id="x")])
def test_something_else_is_a_type_error(client: Any, reference: Any) -> None:
    with pytest.raises(TypeError, match=r"A flow run should be an id, a name, or"):
        client.delete_flow_run(reference)


# Short ids, on a server with many runs.


class Runs:
    """A server with these runs, the newest first, and with others that are scheduled."""

    def __init__(self, names: dict[str, str], future: dict[str, str] | None = None) -> None:
        self.runs, self.future = (
            [
                FlowRun.model_validate({"id": id, "flow_id": uuid.UUID(int=1), "name": name})
                for id, name in each.items()
            ]
            for each in (names, future or {})
        )
        self.requests = 0

    def find(self, *references: str) -> list[str]:
        steps: Generator[Call[Any], Any, list[uuid.UUID]] = find_flow_runs(references)
        answer: Any = None
        while True:
            try:
                call = steps.send(answer)
            except StopIteration as done:
                return [str(each) for each in done.value]
            self.requests += 1
            conditions = call.json["flow_runs"]
            wanted = (conditions.get("name") or {}).get("any_")
            runs = self.runs
            if "expected_start_time" in conditions:
                runs = self.future if "after_" in conditions["expected_start_time"] else self.runs
            found = [run for run in runs if wanted is None or run.name in wanted]
            start = call.json["offset"]
            answer = ModelList(found[start : start + call.json["limit"]])


A = "aaaa1111-0000-4000-8000-000000000000"
B = "aaaa2222-0000-4000-8000-000000000000"
FILL = {str(uuid.UUID(int=(0xB << 124) + number)): f"run-{number}" for number in range(450)}


@pytest.mark.parametrize(
    ("reference", "ids", "requests"),
    [
        (A[:8], [A], 2),
        (A[:13].upper(), [A], 2),
        (A, [A], 0),
        ("aaaa1", [A], 5),
        ("aaaa2222", [B], 4),
        ("aaaa", AmbiguousReference, 5),
        ("cccc", ReferenceNotFound, 5),
        ("bbbb-name", ReferenceNotFound, 2),
        ("aaa", ReferenceNotFound, 2),
        ("run-7", [list(FILL)[7]], 1),
        ("cafe", [list(FILL)[449]], 1),
    ],
)
def test_a_short_id_is_looked_for_among_the_newest_runs(
    reference: str, ids: Any, requests: int
) -> None:
    server = Runs({A: "first", **FILL, list(FILL)[449]: "cafe", B: "last"})
    if isinstance(ids, list):
        assert server.find(reference) == ids
    else:
        with pytest.raises(ids):
            server.find(reference)
    assert server.requests == requests


def test_a_scheduled_run_is_found_after_those_that_were_due() -> None:
    server = Runs({B: "due"}, {A: "scheduled", **FILL})
    assert server.find(A[:8]) == [A]
    assert server.requests == 3
    assert server.find(B[:8]) == [B]
    assert server.requests == 5


def test_a_name_takes_precedence_over_a_short_id() -> None:
    server = Runs({A: "first", B: A[:8]})
    assert server.find(A[:8]) == [B]
    assert server.requests == 1


def test_many_references_make_few_requests() -> None:
    server = Runs(FILL)
    names = list(FILL.values())[:300]
    assert server.find(*names) == list(FILL)[:300]
    assert server.requests == 2


def test_at_most_two_thousand_runs_are_read() -> None:
    server = Runs({str(uuid.UUID(int=number)): "same" for number in range(3_000)})
    with pytest.raises(ReferenceNotFound, match="2,000 newest runs; a whole id finds any"):
        server.find("dddd")
    assert server.requests <= 14
