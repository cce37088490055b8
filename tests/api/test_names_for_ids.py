"""A name in place of an id finds a flow run or a deployment, and for any other object says how to find
it; an unknown flow's name suggests others."""

from __future__ import annotations

import inspect
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from orchnb import SyncPrefectClient
from orchnb.api.methods import operation
from orchnb.api.operations import Operations
from orchnb.hosting.ephemeral import EphemeralApp
from tests.api import both
from tests.api.conftest import opened
from tests.api.fakes import Scripted

pytestmark = both.SQLALCHEMY
server_here = both.server_here
nothing_is_left = both.nothing_is_left
name = both.name

ALSO_NAMES = {
    "create_deployment": "takes a flow's name",
    "create_flow_run_from_deployment": "takes a deployment's name",
    "decrement_v1_concurrency_slots": "its server takes any",
    "increment_v1_concurrency_slots": "its server takes any",
    "renew_concurrency_lease": "its server takes any",
    "release_concurrency_slots_with_lease": "its server takes any",
    "read_resource_related_automations": "a resource's id is any text",
    "delete_resource_owned_automations": "a resource's id is any text",
}


def operations_of_ids() -> Iterator[tuple[str, str]]:
    for name in dir(Operations):
        if not isinstance(inspect.getattr_static(Operations, name), operation):
            continue
        parameters = inspect.signature(getattr(SyncPrefectClient, name)).parameters
        first = list(parameters.values())[1:2]
        if first and first[0].name.endswith("_id") and name not in ALSO_NAMES:
            yield name, first[0].name


@pytest.mark.parametrize(("operation_name", "argument"), [*operations_of_ids()])
def test_a_name_is_not_an_id(operation_name: str, argument: str) -> None:
    empty = Scripted(lambda request: httpx.Response(200, json=[]))
    options = {"transport": empty, "enable_csrf_support": False}
    client = SyncPrefectClient("http://orch.invalid/api", httpx_settings=options)
    method = getattr(client, operation_name)
    required = [
        each
        for each in inspect.signature(method).parameters.values()
        if each.default is each.empty and each.name != argument
    ]
    others = {each.name: [] if "schedules" in each.name else {"a": "b"} for each in required}
    others |= {each.name: "COMPLETED" for each in required if each.name == "state"}
    others |= {each.name: str(uuid.UUID(int=1)) for each in required if each.name.endswith("_id")}
    others |= {each.name: "x" for each in required if each.name in ("branch", "key", "name")}
    if operation_name == "update_deployment_schedule":
        others["active"] = True
    elif operation_name.startswith("update_") and not required:
        others = _a_change(operation_name)
    words = f"{argument} should be an id .*'fuzzy-fox' is not one"
    if argument in ("flow_run_id", "deployment_id"):  # a name is looked up
        kind = argument.removesuffix("_id").replace("_", " ")
        words = f"There is no {kind} with the name or id 'fuzzy-fox'"
    with pytest.raises(ValueError, match=words):
        method("fuzzy-fox", **others)


def _a_change(operation_name: str) -> dict[str, Any]:
    return {
        "update_flow_run": {"name": "x"},
        "update_deployment": {"tags": []},
        "update_artifact": {"data": 1},
        "update_block_type": {"description": "x"},
        "update_block_document": {"data": {}},
        "update_server_default_result_storage": {},
        "update_automation": {"name": "x", "trigger": {"a": 1}, "actions": [{"a": 1}]},
    }[operation_name]


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (
            "read_task_run",
            r"To find a task run by its name: client\.read_task_runs\(name_like='ab'\)",
        ),
        ("read_flow", r"To find a flow by its name: client\.read_flow_by_name\('ab'\)"),
        (
            "read_automation",
            r"To find an automation by its name: .*read_automations_by_name\('ab'\)",
        ),
    ],
)
def test_the_error_says_how_to_find_it(read: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        getattr(SyncPrefectClient("http://orch.invalid/api"), read)("ab")


@pytest.fixture
def client(kind: str, in_process_app: EphemeralApp) -> Iterator[Any]:
    with opened(kind, in_process_app) as client:
        yield client


def test_an_object_stands_for_its_id(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    assert client.read_flow_run(run).id == run.id


@pytest.mark.parametrize(
    "read",
    [
        "read_flow_runs",
        "count_flow_runs",
        "read_deployments",
        "count_deployments",
        "read_artifacts",
    ],
)
def test_a_flow_name_that_no_flow_has_suggests_others(client: Any, name: str, read: str) -> None:
    client.create_flow_from_name(f"{name}-etl")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert getattr(client, read)(flow_name=f"{name}-elt") in (0, [])
    words = [str(each.message) for each in told]
    (ours,) = [each for each in words if each.startswith(f"There is no flow '{name}-elt'")]
    assert f"Did you mean '{name}-etl'?" in ours
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert getattr(client, read)(flow_name=f"{name}-etl") in (0, [])
        if read.startswith("read"):
            assert getattr(client, read)(flow_name="no-such", offset=1) == []
    assert not [each for each in told if "There is no flow" in str(each.message)]


def test_the_warning_is_shown_at_the_callers_line(in_process_app: EphemeralApp, name: str) -> None:
    with SyncPrefectClient(in_process_app) as client:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            assert list(client.iter_flow_runs(flow_name=name)) == []
        ours = [each for each in told if "There is no flow" in str(each.message)]
        assert [each.filename for each in ours] == [__file__]
