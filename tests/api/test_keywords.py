"""Plain keywords narrow what is read, and what is counted, on both clients and both servers."""

from __future__ import annotations

import inspect
from datetime import timedelta
from typing import Any

import pytest
from prefect.client.schemas.objects import StateType as PrefectsStateType

from orchnb import SyncPrefectClient
from orchnb.api.operations.coercion import as_state
from orchnb.api.operations.filters import any_of, run_words
from tests.api import both

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left

PAGE = {"sort", "limit", "offset"}
INTERVALS = {"history_start", "history_end", "history_interval"}
NARROWED_ALIKE = {
    "count_flows": ("read_flows", PAGE),
    "count_flow_runs": ("read_flow_runs", PAGE),
    "average_flow_run_lateness": ("read_flow_runs", PAGE),
    "read_flow_run_history": ("read_flow_runs", PAGE | INTERVALS),
    "count_task_runs": ("read_task_runs", PAGE),
    "read_task_run_history": ("read_task_runs", PAGE | INTERVALS),
    "count_deployments": ("read_deployments", PAGE),
    "count_work_pools": ("read_work_pools", PAGE),
    "count_artifacts": ("read_artifacts", PAGE),
    "count_latest_artifacts": ("read_latest_artifacts", PAGE),
    "count_automations": ("read_automations", PAGE),
    "count_variables": ("read_variables", PAGE),
    "count_events": ("read_events", PAGE | {"countable", "time_unit", "time_interval"}),
    "count_block_documents": (
        "read_block_documents",
        PAGE | {"include_secrets", "block_schema_type"},
    ),
}
"""Operations that take the keywords of a read, and which keywords only one of the two has."""


@pytest.mark.parametrize("operation", NARROWED_ALIKE)
def test_what_narrows_a_read_narrows_its_count(operation: str) -> None:
    name, others = NARROWED_ALIKE[operation]
    read, count = (
        inspect.signature(getattr(SyncPrefectClient, each)).parameters for each in (name, operation)
    )
    assert set(read) - others == set(count) - others
    for keyword in set(count) - others - {"self"}:
        assert count[keyword].annotation == read[keyword].annotation
        assert count[keyword].default is None


def found(client: Any, what: str, **keywords: Any) -> int:
    """How many a read finds, which are as many as are counted."""
    read = getattr(client, f"read_{what}")(**keywords)
    assert getattr(client, f"count_{what}")(**keywords) == len(read)
    return len(read)


def test_flows(client: Any, name: str) -> None:
    client.create_flow(f"{name}-a", tags=["x", "y"])
    client.create_flow(f"{name}-b", tags=["x"])
    assert found(client, "flows", name_like=name) == 2
    assert found(client, "flows", name_like=name.upper(), tags=["x", "y"]) == 1
    assert found(client, "flows", name_like=f"{name}-c") == 0


def test_flow_runs(client: Any, name: str) -> None:
    client.create_flow_run(name, name="first", state="COMPLETED", tags=["x", "y"])
    client.create_flow_run(name, name="second", state="RUNNING", tags=["x"])
    of_flow = {"flow_name": name}
    assert found(client, "flow_runs", **of_flow) == 2
    assert found(client, "flow_runs", **of_flow, state="completed") == 1
    assert found(client, "flow_runs", **of_flow, state=["FAILED", "RUNNING"]) == 1
    assert found(client, "flow_runs", **of_flow, state="Late") == 0
    assert found(client, "flow_runs", **of_flow, name_like="FIRS") == 1
    assert found(client, "flow_runs", **of_flow, tags=["x"]) == 2
    assert found(client, "flow_runs", **of_flow, tags=["x", "y"]) == 1
    assert found(client, "flow_runs", **of_flow, since="1h") == 2
    assert found(client, "flow_runs", **of_flow, since="2h", until="1h") == 0
    day = {"history_start": "1d", "history_end": timedelta(hours=-1), "history_interval": 9e4}
    for words, expected in [({}, 2), ({"state": "COMPLETED"}, 1), ({"name_like": "third"}, 0)]:
        counted = client.read_flow_run_history(**day, **of_flow, **words)
        assert sum(state.count_runs for each in counted for state in each.states) == expected
        assert (client.average_flow_run_lateness(**of_flow, **words) is None) is (expected == 0)
    nobody = {"id": {"any_": []}}
    assert found(client, "flow_runs", **of_flow, flow_run_filter=nobody, tags=["x"]) == 0
    with pytest.raises(ValueError, match="tags is given twice"):
        client.count_flow_runs(flow_run_filter={"tags": {"all_": ["x"]}}, tags=["x"])


def test_task_runs(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    other = client.create_flow_run(name)
    for index, state in enumerate(("COMPLETED", "RUNNING")):
        client.create_task_run(
            "load", run.id, str(index), name=f"{name}-{index}", state=state, extra_tags=[state]
        )
    of_run = {"flow_run_id": run.id}
    assert found(client, "task_runs", **of_run) == 2
    assert found(client, "task_runs", flow_run_id=other.id, name_like=name) == 0
    assert found(client, "task_runs", **of_run, state="RUNNING") == 1
    assert found(client, "task_runs", **of_run, name_like=f"{name}-1") == 1
    assert found(client, "task_runs", **of_run, tags=["COMPLETED"]) == 1
    assert found(client, "task_runs", **of_run, since="1h") == 2
    assert found(client, "task_runs", **of_run, until="1h") == 0


def test_deployments(client: Any, name: str) -> None:
    for each in "ab":
        client.create_deployment(name, f"{name}-{each}", tags=[each])
    assert found(client, "deployments", flow_name=name) == 2
    assert found(client, "deployments", name_like=f"{name}-B") == 1
    assert found(client, "deployments", flow_name=name, tags=["a"]) == 1
    assert found(client, "deployments", flow_name=f"{name}-a") == 0


def test_work_pools(client: Any, name: str) -> None:
    mine = {"work_pool_filter": {"name": {"any_": [f"{name}-a", f"{name}-b"]}}}
    client.create_work_pool(f"{name}-a", type="process")
    client.create_work_pool(f"{name}-b", type="docker")
    assert found(client, "work_pools", **mine, type="process") == 1
    assert found(client, "work_pools", **mine, type=("process", "docker")) == 2
    assert found(client, "work_pools", **mine, type="no-such") == 0
    with pytest.raises(ValueError, match="type is given twice: as a keyword, and in work_pool_fil"):
        client.count_work_pools(work_pool_filter={"type": {"any_": ["x"]}}, type="x")


@pytest.mark.parametrize("what", ["artifacts", "latest_artifacts"])
def test_artifacts(client: Any, name: str, what: str) -> None:
    run = client.create_flow_run(name)
    client.create_artifact(key=f"{name}-a", type="markdown", flow_run_id=run.id)
    client.create_artifact(key=f"{name}-b", type="table")
    assert found(client, what, key_like=name) == 2
    assert found(client, what, key=f"{name}-a") == 1
    assert found(client, what, key=name) == 0
    assert found(client, what, key=f"{name}-a", key_like=f"{name}-b") == 0
    assert found(client, what, key_like=name, type="table") == 1
    assert found(client, what, key_like=name, type=["table", "markdown"]) == 2
    assert found(client, what, flow_run_id=run.id) == 1
    assert found(client, what, flow_name=name) == 1
    with pytest.raises(
        ValueError, match="key is given twice: as a keyword, and in artifact_filter"
    ):
        client.count_artifacts(artifact_filter={"key": {"any_": ["x"]}}, key="x")


def test_variables(client: Any, name: str) -> None:
    name = name.replace("-", "_")
    client.create_variable(f"{name}_a", value=1, tags=["x", "y"])
    client.create_variable(f"{name}_b", value=2, tags=["x"])
    assert found(client, "variables", name_like=name) == 2
    assert found(client, "variables", name_like=name.upper(), tags=["x", "y"]) == 1
    assert found(client, "variables", name_like=f"{name}_c") == 0
    with pytest.raises(ValueError, match="given twice"):
        client.read_variables(name_like="a", variable_filter={"name": {"any_": ["a"]}})


def test_automations(client: Any, name: str) -> None:
    trigger = {"type": "event", "posture": "Reactive", "expect": ["a"], "threshold": 1, "within": 0}
    for tags in ([name, "x"], [name]):
        client.create_automation(name, trigger=trigger, actions=[{"type": "do-nothing"}], tags=tags)
    assert found(client, "automations", tags=[name]) == 2
    assert (
        found(client, "automations", tags=(name, "x"), automations={"name": {"any_": [name]}}) == 1
    )
    assert client.count_automations(tags=iter([name, "x"])) == 1
    assert [each.tags for each in client.read_automations(tags=["x", name])] == [[name, "x"]]
    with pytest.raises(ValueError, match="tags is given twice: as a keyword, and in automations"):
        client.count_automations(automations={"tags": {"all_": ["x"]}}, tags=["x"])


def test_block_documents(client: Any, name: str) -> None:
    kind = client.create_block_type(name=name, slug=name)
    fields = {"title": name, "type": "object", "properties": {}, "block_type_slug": name}
    schema = client.create_block_schema(block_type_id=kind.id, fields=fields, version="1")
    of_type = {"block_type_id": kind.id, "block_schema_id": schema.id, "data": {}}
    for each in ("alpha", "beta"):
        client.create_block_document(name=f"{name}-{each}", **of_type)

    def names(**keywords: Any) -> list[str]:
        documents = client.read_block_documents(**keywords)
        assert client.count_block_documents(**keywords) == len(documents)
        return [each.name for each in documents]

    assert sorted(names(block_type_slug=name)) == [f"{name}-alpha", f"{name}-beta"]
    assert names(name_like=f"{name}-ALPH") == [f"{name}-alpha"]
    assert names(name_like=f"{name}-alpha", block_type_slug=["secret"]) == []


def test_events(client: Any, name: str) -> None:
    for event in (f"{name}.made", f"{name}.sold", f"other.{name}"):
        client.emit_event(event, f"lab.{name}", occurred="2h")
    client.emit_event(f"{name}.late", f"lab.{name}")
    for _ in range(20):  # the server writes them down when it has so many
        client.emit_event("lab.other", "lab.other")

    def read(**keywords: Any) -> list[str]:
        page = client.read_events(**keywords)
        return sorted(each.event.replace(name, "") for each in page.events)

    everything = [".late", ".made", ".sold", "other."]
    both.eventually(lambda: read(resource_id=f"lab.{name}"), lambda found: found == everything)

    def events(**keywords: Any) -> list[str]:
        """The names of the events that a read finds, which are as many as are counted."""
        found = read(**keywords)
        counted = client.count_events(countable="event", **keywords)
        assert sum(each.count for each in counted) == len(found)
        return found

    assert events(resource_id=[f"lab.{name}", "lab.nobody"]) == everything
    assert events(event=f"{name}.made") == [".made"]
    assert events(event=[f"{name}.made", f"{name}.sold"]) == [".made", ".sold"]
    assert events(event=f"{name}.*") == [".late", ".made", ".sold"]
    assert events(event=f"{name}.*", since="1h") == [".late"]
    assert events(event=f"{name}.*", since="3h", until="1h") == [".made", ".sold"]
    with pytest.raises(ValueError, match="mixes names and prefixes"):
        client.read_events(event=["a.*", "b"])
    with pytest.raises(ValueError, match="since is later than until"):
        client.read_events(since="1h", until="2h")
    with pytest.raises(ValueError, match="event is given twice"):
        client.read_events({"event": {"name": ["a"]}}, event="a")


def test_prefects_own_enums_are_the_words_that_they_stand_for() -> None:
    """Their ``str`` is ``StateType.FAILED``, which no run is called."""
    assert run_words({"state": PrefectsStateType.FAILED})["state"] == {"type": {"any_": ["FAILED"]}}
    assert as_state(PrefectsStateType.CANCELLED) == {"type": "CANCELLED"}
    assert any_of(PrefectsStateType.FAILED) == {"any_": ["FAILED"]}
