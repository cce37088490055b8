"""What runs returned is read back: of real flows, with the serializers and storages of Prefect."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchnb import FlowRunsFailed, ResultNotAvailable, SyncPrefectClient


@pytest.fixture(autouse=True)
def its_storage(site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The storage of the machine that executes the runs is this one's."""
    home = site[1] / ".prefect"
    monkeypatch.setenv("PREFECT_HOME", str(home))
    return home / "storage"


class Elsewhere(httpx.HTTPTransport):
    """Connects to this machine for any host."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host="127.0.0.1")
        return super().handle_request(request)


@pytest.fixture
def elsewhere(site: tuple[str, Path]) -> Iterator[SyncPrefectClient]:
    """A client of a server that is on another machine, by its address."""
    url = site[0].replace("127.0.0.1", "server.example")
    with SyncPrefectClient(url, httpx_settings={"transport": Elsewhere()}) as client:
        yield client


@pytest.mark.parametrize(
    ("flow", "result", "is_plain"),
    [
        ("train", {"x": 3, "total": 2}, False),
        ("plain", {"x": [3, None, "text"]}, True),
        ("typed", Path("3.0"), False),
        ("apart", 6, False),
    ],
)
def test_what_a_flow_returned(
    client: Any, elsewhere: SyncPrefectClient, flow: str, result: Any, is_plain: bool
) -> None:
    run = client.run_deployment(f"{flow}/here", parameters={"x": 3})
    assert client.read_result(run) == result
    assert client.read_result(run.name) == result
    assert elsewhere.read_result(run, allow_pickle=True) == result
    if is_plain:
        assert elsewhere.read_result(run) == result
    else:
        with pytest.raises(ResultNotAvailable, match=r"could run any code here.*allow_pickle=True"):
            elsewhere.read_result(run)


def test_what_a_task_returned(client: Any) -> None:
    run = client.run_deployment("train/here", parameters={"steps": 2})
    tasks = client.read_task_runs(flow_run_id=run, sort="EXPECTED_START_TIME_DESC")
    assert sorted(client.read_task_result(each) for each in tasks) == [0, 2]


def test_what_a_sweep_returned_in_the_order_of_its_items(client: Any) -> None:
    items = [{"x": number, "steps": 0, "fail": number == 1} for number in range(3)]
    runs = client.map_deployment("train/here", items)
    with pytest.raises(FlowRunsFailed, match=r"returned nothing: .*loss is nan at lr=1") as caught:
        client.read_results(runs)
    assert [each.id for each in caught.value.failed] == [runs[1].id]
    found = client.read_results(runs, default=None)
    assert found == [{"x": 0, "total": 0}, None, {"x": 2, "total": 0}]
    assert client.read_results([]) == []


def test_why_there_is_no_result(client: Any, its_storage: Path) -> None:
    forgotten = client.run_deployment("forgets/here")
    with pytest.raises(ResultNotAvailable, match=r"was not stored.*persist_result=True") as caught:
        client.read_result(forgotten)
    assert caught.value.run.id == forgotten.id
    waiting = client.run_deployment("plain/here", scheduled_time="in 1h", timeout=0)
    with pytest.raises(ResultNotAvailable, match="has not ended"):
        client.read_result(waiting)
    client.cancel_flow_run(waiting)
    with pytest.raises(FlowRunsFailed, match="returned nothing"):
        client.read_result(waiting)


def test_a_file_that_is_not_there_or_something_else(
    client: Any, elsewhere: SyncPrefectClient, its_storage: Path
) -> None:
    run = client.run_deployment("plain/here")
    file = its_storage / client.read_flow_run(run).state.data["storage_key"]
    for content in ("", "{", "[" * 100_000):
        file.write_text(content)
        with pytest.raises(ResultNotAvailable, match="could not be loaded: "):
            client.read_result(run)
    pickled = {"metadata": {"serializer": {"type": "pickle"}}, "result": "bm90"}
    file.write_text(json.dumps(pickled))
    with pytest.raises(ResultNotAvailable, match="could not be loaded: UnpicklingError"):
        client.read_result(run)
    with pytest.raises(ResultNotAvailable, match="allow_pickle=True"):
        elsewhere.read_result(run)
    file.unlink()
    with pytest.raises(
        ResultNotAvailable, match=r"cannot be read here: No such file.*result_storage"
    ):
        client.read_result(run)


def test_a_block_that_is_out_of_reach(client: Any, site: tuple[str, Path]) -> None:
    run = client.run_deployment("apart/here")
    folder = site[1] / "apart"
    shutil.move(folder, folder.with_name("moved"))
    try:
        with pytest.raises(
            ResultNotAvailable, match="is in the block 'apart', which cannot be read"
        ):
            client.read_result(run)
    finally:
        shutil.move(folder.with_name("moved"), folder)
