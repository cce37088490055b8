"""Every operation against the real Prefect server, in this process and over HTTP, async and sync."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from orchnb import (
    ObjectAlreadyExists,
    ObjectNotFound,
    PrefectHTTPStatusError,
    ReferenceNotFound,
)
from orchnb.api.models import (
    Flow,
    FlowRun,
    ModelList,
    ServerDefaultResultStorage,
    State,
    StateType,
)
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.host import HostedApp
from tests.api import both
from tests.api.conftest import opened
from tests.api.fakes import RUN_ID

pytestmark = pytest.mark.filterwarnings("ignore:Type object:DeprecationWarning")  # SQLAlchemy's


@pytest.fixture(scope="module", autouse=True)
def server_here(in_process_app: EphemeralApp) -> Iterator[None]:
    """The server in this process stays up for this module: a start takes a second."""
    lease = HostedApp(in_process_app)
    lease.wait_started()
    yield
    lease.close()
    assert lease.wait_closed()


@pytest.fixture
def nothing_is_left() -> None:
    """Instead of the check after each test; what it looks at is checked by the fixture above."""


@pytest.fixture(params=["in-process", "http"])
def client(
    request: pytest.FixtureRequest, in_process_app: EphemeralApp, server_url: str, kind: str
) -> Iterator[Any]:
    """Each client on each server."""
    with opened(kind, server_url if request.param == "http" else in_process_app) as client:
        yield client


@pytest.fixture
def name() -> str:
    """A name that no other test has used: the server over HTTP is everybody's."""
    return f"flow-{uuid.uuid4()}"


def test_hello_gives_the_servers_greeting(client: Any) -> None:
    response = client.hello()
    assert response.status_code == 200
    assert response.json() == "👋"


def test_a_healthy_server_has_no_problem(client: Any) -> None:
    assert client.api_healthcheck() is None


def test_the_version_is_that_of_the_installed_server(client: Any) -> None:
    import prefect

    assert client.api_version() == prefect.__version__


@both.since("3.7")
def test_a_block_keeps_the_results_that_nobody_said_where_to_keep(client: Any, name: str) -> None:
    def block(*capabilities: str) -> uuid.UUID:
        slug = f"{name}-{len(capabilities)}"
        block_type = client.create_block_type(name=slug, slug=slug)
        schema = client.create_block_schema(
            fields={"title": slug, "type": "object", "properties": {}},
            block_type_id=block_type.id,
            capabilities=capabilities,
        )
        document = client.create_block_document(
            name="results", data={}, block_type_id=block_type.id, block_schema_id=schema.id
        )
        return uuid.UUID(str(document.id))

    files, secrets = block("read-path", "write-path"), block()
    assert client.clear_server_default_result_storage() is None
    none = client.read_server_default_result_storage()
    assert isinstance(none, ServerDefaultResultStorage)
    assert none.default_result_storage_block_id is None
    try:
        for given in (files, str(files)):
            set_to = client.update_server_default_result_storage(given)
            assert set_to.default_result_storage_block_id == files
        assert client.read_server_default_result_storage() == set_to
        with pytest.raises(ObjectNotFound, match=f"There is no block with the id '{RUN_ID}': 404"):
            client.update_server_default_result_storage(RUN_ID)
        with pytest.raises(PrefectHTTPStatusError, match="422"):
            client.update_server_default_result_storage(secrets)
        assert client.read_server_default_result_storage() == set_to
    finally:  # the server is everybody's
        client.clear_server_default_result_storage()
    assert client.read_server_default_result_storage() == none


def test_a_flow_is_created_once_for_a_name(client: Any, name: str) -> None:
    first = client.create_flow_from_name(name)
    assert isinstance(first, uuid.UUID)
    assert client.create_flow_from_name(name) == first
    assert len(client.read_flows(flow_filter={"name": {"any_": [name]}})) == 1


def test_a_flow_is_read_by_id_and_by_name(client: Any, name: str) -> None:
    flow_id = client.create_flow_from_name(name)
    for flow in (
        client.read_flow(flow_id),
        client.read_flow(str(flow_id)),
        client.read_flow_by_name(name),
    ):
        assert isinstance(flow, Flow)
        assert (flow.id, flow.name) == (flow_id, name)
        assert flow.created is not None
        assert flow.created.tzinfo is not None


def test_flows_are_filtered_sorted_and_paged(client: Any, name: str) -> None:
    names = [f"{name}-{letter}" for letter in "cab"]
    for each in names:
        client.create_flow_from_name(each)
    some = {"name": {"like_": name}}

    def read(**arguments: Any) -> list[str]:
        flows = client.read_flows(flow_filter=some, sort="NAME_ASC", **arguments)
        assert isinstance(flows, ModelList)
        assert flows.model is Flow
        return [flow.name[-1] for flow in flows]

    assert read() == ["a", "b", "c"]
    assert read(limit=2) == ["a", "b"]
    assert read(limit=2, offset=2) == ["c"]
    assert read(flow_run_filter={"name": {"any_": ["no such run"]}}) == []


def test_no_flows_are_an_empty_list_that_knows_its_kind(client: Any, name: str) -> None:
    flows = client.read_flows(flow_filter={"name": {"any_": [name]}})
    assert flows == []
    assert flows.model is Flow


def test_filters_may_be_prefects_own_models(client: Any, name: str) -> None:
    from prefect.client.schemas.filters import FlowFilter, FlowFilterName
    from prefect.client.schemas.sorting import FlowSort

    client.create_flow_from_name(name)
    flows = client.read_flows(
        flow_filter=FlowFilter(name=FlowFilterName(any_=[name])), sort=FlowSort.NAME_ASC
    )
    assert [flow.name for flow in flows] == [name]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda flow: flow.id, id="id"),
        pytest.param(lambda flow: str(flow.id), id="id-as-text"),
        pytest.param(lambda flow: flow.name, id="name"),
        pytest.param(lambda flow: flow, id="flow"),
        pytest.param(lambda flow: SimpleNamespace(name=flow.name), id="anything-with-a-name"),
    ],
)
def test_a_run_is_created_for_whatever_says_which_flow(client: Any, name: str, make: Any) -> None:
    flow = client.read_flow(client.create_flow_from_name(name))
    run = client.create_flow_run(make(flow))
    assert isinstance(run, FlowRun)
    assert run.flow_id == flow.id
    assert run.state_type is StateType.PENDING


def test_a_run_for_a_new_name_makes_the_flow(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    assert client.read_flow_by_name(name).id == run.flow_id


def test_a_run_has_what_it_was_created_with(client: Any, name: str) -> None:
    class Size(BaseModel):
        rows: int

    some_id = uuid.uuid4()
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    created = client.create_flow_run(
        name,
        name="the-run",
        parameters={"a": 1, "id": some_id, "when": moment, "size": Size(rows=3), "none": None},
        tags=("x", "y"),
        state=State(type=StateType.SCHEDULED, name="Later", message="not yet"),
        context={"who": "me"},
        labels={"team": "data"},
        idempotency_key=f"key-{name}",
    )
    run = client.read_flow_run(created.id)
    assert run.id == created.id
    assert run.name == "the-run"
    assert run.parameters == {
        "a": 1,
        "id": str(some_id),
        "when": "2026-01-02T03:04:05Z",
        "size": {"rows": 3},
        "none": None,
    }
    assert sorted(run.tags) == ["x", "y"]
    assert run.state is not None
    assert (run.state.type, run.state.name, run.state.message) == (
        StateType.SCHEDULED,
        "Later",
        "not yet",
    )
    assert run.context == {"who": "me"}  # not a field of ours: kept as it came
    assert run.labels["team"] == "data"
    assert run.idempotency_key == f"key-{name}"


def test_the_same_key_makes_one_run_and_no_key_makes_two(client: Any, name: str) -> None:
    first = client.create_flow_run(name, idempotency_key="k")
    assert client.create_flow_run(name, idempotency_key="k").id == first.id
    assert client.create_flow_run(name).id != client.create_flow_run(name).id
    assert len(client.read_flow_runs(flow_filter={"name": {"any_": [name]}})) == 3


def test_runs_are_filtered_sorted_and_paged(client: Any, name: str) -> None:
    for each in "cab":
        client.create_flow_run(name, name=each, tags=[each])
    mine = {"name": {"any_": [name]}}

    def read(**arguments: Any) -> list[str]:
        runs = client.read_flow_runs(flow_filter=mine, sort="NAME_ASC", **arguments)
        assert runs.model is FlowRun
        return [run.name for run in runs]

    assert read() == ["a", "b", "c"]
    assert read(limit=1, offset=1) == ["b"]
    assert read(flow_run_filter={"tags": {"all_": ["c"]}}) == ["c"]


def test_a_state_is_set_and_the_servers_rules_are_told(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    refused = client.set_flow_run_state(run.id, State(type="PENDING"))
    assert refused.status == "ABORT"
    assert "PENDING" in refused.details.reason

    forced = client.set_flow_run_state(run.id, StateType.PENDING, force=True)
    assert forced.status == "ACCEPT"

    done = client.set_flow_run_state(str(run.id), "completed")
    assert done.status == "ACCEPT"
    assert done.state.type is StateType.COMPLETED
    assert client.read_flow_run(run.id).state_type is StateType.COMPLETED


def test_a_state_that_was_read_can_be_set_again(client: Any, name: str) -> None:
    moment = "2031-01-01T00:00:00+00:00"
    state = State(type="SCHEDULED", state_details={"scheduled_time": moment})
    first = client.create_flow_run(name, state=state)
    assert first.expected_start_time == datetime.fromisoformat(moment)
    second = client.create_flow_run(name, state=client.read_flow_run(first.id).state)
    assert second.expected_start_time == first.expected_start_time
    assert client.set_flow_run_state(second.id, first.state, force=True).status == "ACCEPT"


def test_prefects_own_state_will_do(client: Any, name: str) -> None:
    from prefect.states import Cancelled

    run = client.create_flow_run(name, state=Cancelled(message="no more"))
    assert run.state.type is StateType.CANCELLED
    assert run.state.message == "no more"


def test_a_deleted_run_is_gone(client: Any, name: str) -> None:
    run = client.create_flow_run(name)
    assert client.delete_flow_run(run.id) is None
    with pytest.raises(ObjectNotFound):
        client.read_flow_run(run.id)


@pytest.mark.parametrize(
    ("operation", "arguments", "words"),
    [
        ("read_flow", (uuid.UUID(int=7),), f"There is no flow with the id '{uuid.UUID(int=7)}'"),
        ("read_flow_by_name", ("nobody's",), 'There is no flow "nobody\'s"'),
        ("read_flow_run", (uuid.UUID(int=7),), "There is no flow run with the id"),
        ("delete_flow_run", (uuid.UUID(int=7),), "There is no flow run with the id"),
        ("set_flow_run_state", (uuid.UUID(int=7), "FAILED"), "There is no flow run with the id"),
    ],
)
def test_a_404_says_what_was_not_found(
    client: Any, operation: str, arguments: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(ObjectNotFound) as caught:
        getattr(client, operation)(*arguments)
    assert str(caught.value).startswith(words)
    assert "404 Not Found for" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_run_of_a_flow_that_is_not_there_is_not_said_to_exist_already(client: Any) -> None:
    """The real server answers 409 to that."""
    with pytest.raises(
        PrefectHTTPStatusError, match="something it refers to, such as its flow"
    ) as caught:
        client.create_flow_run(uuid.uuid4())
    assert not isinstance(caught.value, ObjectAlreadyExists)
    assert caught.value.status_code == 409
    assert caught.value.hint.startswith(
        "Correct what the server reports, or what the request refers"
    )


def test_what_cannot_be_an_id_is_refused(client: Any) -> None:
    with pytest.raises(ValueError, match=r"should be an id \(a UUID\), and 'nope' is not one"):
        client.read_task_run("nope")


def test_a_422_tells_the_fields(client: Any, name: str) -> None:
    with pytest.raises(PrefectHTTPStatusError) as caught:
        client.read_flows(sort="BY_LUCK")
    assert caught.value.status_code == 422
    assert [field.location for field in caught.value.fields] == ["body.sort"]


HOSTILE = [
    "../admin/version",
    "..",
    ".",
    "?limit=1",
    "#top",
    "%2e%2e",
    "a/b",
    "日本語 ☃",
    "\udce9",
    "x" * 300,
    "a\r\nHost: evil",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_in_a_path_names_nothing_else(server_url: str, kind: str, text: str) -> None:
    with opened(kind, server_url) as client:
        for operation in ("read_flow", "read_task_run", "delete_task_run"):
            with pytest.raises(ValueError, match="should be an id"):
                getattr(client, operation)(text)
        for operation in ("read_flow_run", "delete_flow_run"):  # it may be a name
            with pytest.raises(ReferenceNotFound, match="There is no flow run with the name or id"):
                getattr(client, operation)(text)
        for operation in ("read_work_pool", "delete_work_pool", "read_flow_by_name"):
            with pytest.raises(PrefectHTTPStatusError) as caught:
                getattr(client, operation)(text)
            assert caught.value.status_code in (404, 422)


def test_unusual_names_come_back_as_they_went(client: Any, name: str) -> None:
    unusual = f"日本語 ☃ ?#&= .. {name}".replace("&", "")
    flow_id = client.create_flow_from_name(unusual)
    assert client.read_flow_by_name(unusual).id == flow_id
    assert client.read_flow(flow_id).name == unusual
