"""The differences from Prefect's client that docs/migration.md lists: there is a test for each row."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import re
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import prefect
import prefect.exceptions
import pytest
from prefect.client.orchestration import PrefectClient as Peer
from prefect.client.orchestration import SyncPrefectClient as SyncPeer
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Scheduled
from pydantic import SecretStr

import orchnb
from orchnb.api.client import api_of
from orchnb.credentials import withheld
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.http.retry import RetryPolicy
from tests.api.fakes import FLOW_ID, RUN_ID, Scripted
from tests.servers import ROOT

URL = "http://orch.invalid/api"
RUN = {
    "id": RUN_ID,
    "flow_id": FLOW_ID,
    "name": "one",
    "created": "2026-11-28T12:00:00Z",
    "expected_start_time": "2026-11-28T12:00:00Z",
    "state": {"id": str(uuid.UUID(int=1)), "type": "COMPLETED", "name": "Completed"},
    "state_type": "COMPLETED",
    "total_run_time": 4.5,
}
SCHEMA = {"type": "object", "properties": {"day": {"type": "string"}}}
ANSWERS: dict[str, Any] = {
    "/csrf-token": {"client": "c", "token": "t", "expiration": "2099-01-01T00:00:00Z"},
    "/set_state": {"status": "ACCEPT", "details": {"type": "accept_details"}, "state": None},
    "/increment": [{"id": str(uuid.UUID(int=2)), "name": "gpu", "limit": 2}],
    "/deployments/": {
        "id": str(uuid.UUID(int=3)),
        "flow_id": FLOW_ID,
        "name": "d",
        "enforce_parameter_schema": True,
        "parameter_openapi_schema": SCHEMA,
    },
    "/create_flow_run": RUN,
    "/flow_runs/filter": [RUN],
    "/flows/filter": [],
    "/flow_runs/": RUN,
    "/hello": "👋",
}


def answer(request: httpx.Request) -> httpx.Response:
    if "fuzzy-fox" in request.url.path:
        return httpx.Response(404, json={"detail": "Not Found"})
    path = request.url.path
    known = [part for part in ANSWERS if path.endswith(part)] or [p for p in ANSWERS if p in path]
    return httpx.Response(200, json=ANSWERS[known[0]], request=request)


class Sides:
    """Both clients on a scripted server."""

    def __init__(self, ours: Any, peer: Any, wires: tuple[Scripted, Scripted]) -> None:
        self.ours = ours
        self.peer = peer
        self._wires = wires

    @property
    def sent(self) -> tuple[list[Any], list[Any]]:
        """The bodies that each has sent."""
        ours, peer = (
            [json.loads(request.content) for request in wire.requests if request.content]
            for wire in self._wires
        )
        return ours, peer


async def with_both(check: Callable[[Sides], Awaitable[None]]) -> None:
    ours, peers = Scripted(answer), Scripted(answer)
    options = {"transport": ours, "enable_csrf_support": False}
    async with (
        orchnb.PrefectClient(URL, httpx_settings=options) as client,
        Peer(URL, httpx_settings={"transport": peers}) as peer,
    ):
        await check(Sides(client, peer, (ours, peers)))


async def classes(both: Sides) -> None:
    ours, peers = [
        await client.read_flow_run(uuid.UUID(RUN_ID)) for client in (both.ours, both.peer)
    ]
    assert isinstance(peers, FlowRun)
    assert not isinstance(ours, FlowRun)
    for name in ("id", "name", "state_type", "expected_start_time", "total_run_time"):
        assert getattr(ours, name) == getattr(peers, name)
    assert FlowRun.model_validate(ours.model_dump(exclude_unset=True)).id == peers.id


async def results(both: Sides) -> None:
    run = await both.ours.read_flow_run(RUN_ID)
    assert not hasattr(run.state, "result")
    state = State.model_validate(run.state.model_dump(exclude_unset=True))
    assert state.is_completed()
    assert callable(state.result)


async def times(both: Sides) -> None:
    run = await both.ours.read_flow_run(RUN_ID)
    assert type(run.expected_start_time) is datetime
    assert run.expected_start_time.tzinfo is not None


async def slots(both: Sides) -> None:
    arguments = (["gpu"], 1, "concurrency")
    found = await both.ours.increment_concurrency_slots(*arguments)
    response = await both.peer.increment_concurrency_slots(*arguments)
    assert [limit.name for limit in found] == [each["name"] for each in response.json()] == ["gpu"]


async def names(both: Sides) -> None:
    with pytest.raises(ValueError, match=r"client\.read_task_runs\(name_like='fuzzy-fox'\)"):
        await both.ours.read_task_run("fuzzy-fox")
    assert both.sent[0] == []
    assert str((await both.ours.read_flow_run("one")).id) == RUN_ID
    with pytest.raises(prefect.exceptions.ObjectNotFound):
        await both.peer.read_flow_run("fuzzy-fox")


DEPLOYMENT = uuid.UUID(int=3)


async def secrets(both: Sides) -> None:
    values = {"day": SecretStr("x")}
    with pytest.raises(
        ValueError, match=r"parameters\.day cannot be sent as JSON: a wrapped secret"
    ):
        await both.ours.create_flow_run_from_deployment(DEPLOYMENT, parameters=values)
    await both.peer.create_flow_run_from_deployment(DEPLOYMENT, parameters=values)
    assert both.sent[0] == []
    assert both.sent[1][0]["parameters"] == {"day": "**********"}


async def numbers(both: Sides) -> None:
    values = {"day": math.nan}
    with pytest.raises(ValueError, match=r"parameters\.day cannot be sent as JSON: the number nan"):
        await both.ours.create_flow_run_from_deployment(DEPLOYMENT, parameters=values)
    await both.peer.create_flow_run_from_deployment(DEPLOYMENT, parameters=values)
    assert both.sent[1][0]["parameters"] == {"day": None}


async def naive_times(both: Sides) -> None:
    naive = datetime(2030, 1, 2, 3)
    for client in (both.ours, both.peer):
        await client.set_flow_run_state(uuid.UUID(RUN_ID), Scheduled(scheduled_time=naive))
    ours, peers = (sent[0]["state"]["state_details"]["scheduled_time"] for sent in both.sent)
    assert datetime.fromisoformat(ours.replace("Z", "+00:00")) == naive.astimezone()
    assert datetime.fromisoformat(peers.replace("Z", "")) == naive  # which the server takes for UTC
    parameters = {"day": naive}
    await both.ours.create_flow_run_from_deployment(
        DEPLOYMENT, parameters=parameters, enforce_parameter_schema=False
    )
    assert both.sent[0][1]["parameters"] == {"day": "2030-01-02T03:00:00"}


def losing(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("lost", request=request)


async def lost_requests(both: Sides) -> None:
    wire = Scripted(losing)
    policy = RetryPolicy(max_retries=1)
    options = {
        "transport": wire,
        "enable_csrf_support": False,
        "retry_policy": policy,
        "sleep": _no_wait,
    }
    async with orchnb.PrefectClient(URL, httpx_settings=options) as client:
        with pytest.raises(orchnb.OutcomeUnknown):
            await client.request("POST", "/logs/", json=[])
        assert len(wire.requests) == 1
        with pytest.raises(httpx.ReadError):
            await client.request("POST", "/logs/", json=[], repeatable=True)
    assert len(wire.requests) == 3


async def _no_wait(seconds: float) -> None:
    await asyncio.sleep(0)


async def new_runs(both: Sides) -> None:
    flow = prefect.flow(name="etl")(lambda: None)
    await both.ours.create_flow_run(uuid.UUID(FLOW_ID))
    assert uuid.UUID(both.sent[0][0]["idempotency_key"])
    await both.peer.create_flow_run_from_deployment(DEPLOYMENT)
    assert both.sent[1][-1]["idempotency_key"] is None
    assert flow.name == "etl"


async def parameters(both: Sides) -> None:
    with pytest.raises(orchnb.InvalidParameters, match="Did you mean 'day'"):
        await both.ours.create_flow_run_from_deployment(DEPLOYMENT, parameters={"dya": 1})
    for client, skip in ((both.ours, {"enforce_parameter_schema": False}), (both.peer, {})):
        run = await client.create_flow_run_from_deployment(
            DEPLOYMENT, parameters={"dya": 1}, **skip
        )
        assert str(run.id) == RUN_ID


async def unopened(both: Sides) -> None:
    peer = Peer(URL, httpx_settings={"transport": Scripted(answer)})
    assert (await peer.hello()).json() == "👋"
    client = orchnb.PrefectClient(URL, httpx_settings={"transport": Scripted(answer)})
    with pytest.raises(orchnb.ClientClosed, match="async with"):
        await client.hello()
    sync = orchnb.SyncPrefectClient(URL, httpx_settings={"transport": Scripted(answer)})
    assert sync.hello().json() == "👋"
    sync.close()


def gone(request: httpx.Request) -> httpx.Response:
    return httpx.Response(404, json={"detail": "Flow run not found"}, request=request)


async def _not_found() -> orchnb.ObjectNotFound:
    async with orchnb.PrefectClient(URL, httpx_settings={"transport": Scripted(gone)}) as client:
        with pytest.raises(orchnb.ObjectNotFound) as caught:
            await client.read_flow_run(RUN_ID)
    return caught.value


async def exceptions(both: Sides) -> None:
    error = await _not_found()
    assert isinstance(error, prefect.exceptions.ObjectNotFound)
    assert not issubclass(orchnb.ObjectNotFound, prefect.exceptions.ObjectNotFound)


async def texts(both: Sides) -> None:
    error = await _not_found()
    assert error.status_code == 404
    assert str(error).startswith("There is no flow run with the id")
    assert str(error).endswith(error.hint)


async def no_url(both: Sides) -> None:
    with orchnb.temporary_settings(api_url=None, server_allow_ephemeral_mode=True):
        assert isinstance(api_of(orchnb.get_settings()), EphemeralApp)


async def credentials(both: Sides) -> None:
    assert withheld(orchnb.get_settings()) == {}
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setenv("PREFECT_API_KEY", "mine")
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.chdir(both.folder)  # type: ignore[attr-defined] # set by the test
        Path(".env").write_text(f"PREFECT_API_URL={URL}\n")
        assert "api_key" in withheld(orchnb.get_settings())


async def waits(both: Sides) -> None:
    assert 0 < orchnb.get_settings().client_max_wait < math.inf


async def private_names(both: Sides) -> None:
    for name in ("_client", "_ephemeral_app"):
        assert hasattr(both.peer, name)
        assert not hasattr(both.ours, name)
    assert (await both.ours.request("GET", "/hello")).json() == "👋"


async def missing_methods(both: Sides) -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    listed = set(re.findall(r"`(\w+)`", ROWS["Methods that do not exist"][0]))
    # A version of Prefect may not have all of them.
    assert public(Peer) - public(orchnb.PrefectClient) <= listed
    assert public(SyncPeer) - public(orchnb.SyncPrefectClient) <= listed
    assert not listed & public(orchnb.PrefectClient)
    for name in public(Peer) & public(orchnb.PrefectClient):
        if callable(getattr(Peer, name)):
            assert _keywords(getattr(Peer, name)) <= _keywords(getattr(orchnb.PrefectClient, name))


def _keywords(method: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(method).parameters.values()
    return {
        each.name for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    }


DIFFERENCES: dict[str, Callable[[Sides], Awaitable[None]]] = {
    "Classes of results": classes,
    "Results of a run": results,
    "Times in results": times,
    "Slots of concurrency limits": slots,
    "A name where an id is required": names,
    "Wrapped secrets in values": secrets,
    "NaN and infinity": numbers,
    "Times without a time zone": naive_times,
    "Requests that are not safe to repeat": lost_requests,
    "New flow runs": new_runs,
    "Parameters of a deployment": parameters,
    "A client that was not opened": unopened,
    "Prefect's exceptions": exceptions,
    "Texts of errors": texts,
    "Without an API URL": no_url,
    "Credentials of yours, with an API URL from a file in the working folder": credentials,
    "Total time of retries": waits,
    "Private names": private_names,
    "Methods that do not exist": missing_methods,
}


def rows() -> dict[str, list[str]]:
    """The rows of the page's table, by their first column."""
    page = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells[1:]}


ROWS = rows()


def test_the_page_and_the_tests_have_the_same_rows() -> None:
    assert list(ROWS) == list(DIFFERENCES)
    assert all(len(rest) == 4 for rest in ROWS.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning:prefect")
@pytest.mark.parametrize("row", DIFFERENCES)
def test_a_difference(row: str, tmp_path: Path) -> None:
    async def check(both: Sides) -> None:
        both.folder = tmp_path  # type: ignore[attr-defined] # for one of them
        await DIFFERENCES[row](both)

    asyncio.run(with_both(check))
