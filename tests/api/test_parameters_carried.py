"""Parameters of runs, large and odd, on the real Prefect server: what is sent comes back, or is refused
in words that say why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchnb import PrefectHTTPStatusError
from orchnb.api.models import FlowRun
from orchnb.notebook.views.model import html, text
from orchnb.notebook.views.objects import model_card, model_table
from tests.api import both
from tests.api.conftest import opened
from tests.servers import prefect_home, prefect_server, run_script

pytestmark = both.SQLALCHEMY
server_here = both.server_here
nothing_is_left = both.nothing_is_left
client = both.client
name = both.name

MB = 1_000_000
LARGE = {
    "a text": {"text": "x" * 10 * MB + "é"},
    "many values": {
        "rows": [
            {"id": number, "name": f"row {number} 😀", "none": None, "share": number / 7}
            for number in range(125_000)
        ]
    },
}
BEYOND_64_BITS = {"above": 2**64, "below": -(2**63) - 1, "far": 10**300}
ODD = {
    "emoji": {"👩‍🚀": "👩‍🚀 e\u0301 \u202e"},
    "null": {"null": None, "in a list": [None, {"deeper": None}], "empty": [{}, [], ""]},
    "integers of 64 bits": {"most": 2**64 - 1, "signed": 2**63 - 1, "least": -(2**63)},
    "floats": {"most": 1.7976931348623157e308, "least": 5e-324, "zero": -0.0, "third": 1 / 3},
    "control characters": {"nul": "\0", "escape": "\x1b[31m", "lines": "\r\n\u2028"},
    "names": {"": 1, " ": 2, "a.b": 3, "$ref": "#", "__prefect_kind": "nothing", "x" * 10_000: 4},
    "nested": {"list": json.loads("[" * 100 + "]" * 100)},
}


def same(one: Any, other: Any) -> bool:
    """Equal, and written the same: 1 is not 1.0, nor 0.0 its negative."""
    return bool(one == other) and repr(one) == repr(other)


def outcome(ask: Callable[[], Any]) -> Any:
    """What is answered, or the error that says why it is not."""
    try:
        return ask()
    except PrefectHTTPStatusError as error:
        return error


@pytest.fixture(scope="module")
def roomy_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server that sets no limit to the size of parameters; by default it is 512 KiB."""
    home = tmp_path_factory.mktemp("roomy-server")
    prefect_home(home / ".prefect")
    with prefect_server(home, PREFECT_SERVER_API_MAX_PARAMETER_SIZE="0") as url:
        yield url


@pytest.fixture
def roomy_client(roomy_server_url: str, kind: str) -> Iterator[Any]:
    """Each client on the server without a limit."""
    with opened(kind, roomy_server_url) as client:
        yield client


@pytest.mark.parametrize("parameters", LARGE.values(), ids=LARGE)
def test_ten_megabytes_come_back_and_are_shown_in_a_few_kilobytes(
    roomy_client: Any, name: str, parameters: dict[str, Any]
) -> None:
    run = roomy_client.create_flow_run(name, parameters=parameters)
    assert same(run.parameters, parameters)
    assert same(roomy_client.read_flow_run(run.id).parameters, parameters)
    listed = roomy_client.read_flow_runs(flow_name=name)
    assert [item.parameters == parameters for item in listed] == [True]

    views = [model_table(listed), model_card(run)]
    assert all(len(html(view)) < 10_000 for view in views)
    assert all(len(text(view)) < 2_000 for view in views)


_MEMORY_OF_VIEWS = """
import tracemalloc
from pathlib import Path
from orchnb.api.models.base import ModelList
from orchnb.api.models import FlowRun
from orchnb.notebook.views.objects import model_card, model_table
from orchnb.notebook.views.model import html, text

run = FlowRun.model_validate_json(Path("run.json").read_text("utf-8"))
tracemalloc.start()
for view in (model_table(ModelList([run])), model_card(run)):
    html(view), text(view)
print(tracemalloc.get_traced_memory()[1])
"""


@pytest.mark.parametrize("parameters", LARGE.values(), ids=LARGE)
def test_ten_megabytes_are_shown_without_much_memory(
    tmp_path: Path, parameters: dict[str, Any]
) -> None:
    """In a process of its own: tracing memory ends a process in which threads that are not Python's
    run, as a Prefect server's do, when it is switched off at the wrong moment (CPython issue 128679)."""
    run = {"id": str(uuid4()), "name": "large", "flow_id": str(uuid4()), "parameters": parameters}
    (tmp_path / "run.json").write_text(json.dumps(run), "utf-8")
    done = run_script(_MEMORY_OF_VIEWS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100 * MB


def test_what_is_too_large_is_refused_in_a_short_message(client: Any, name: str) -> None:
    sent = {"rows": [{"id": number, "name": f"row {number}"} for number in range(20_000)]}
    made = outcome(lambda: client.create_flow_run(name, parameters=sent))
    if isinstance(made, FlowRun):  # by a server from before there was a limit
        assert same(client.read_flow_run(made.id).parameters, sent)
        return
    message, answer = str(made), made.response.text
    assert made.status_code == 422
    assert "body.parameters" in message
    assert "must be less than 524,288 bytes" in message
    assert "row 1" not in message + answer
    assert len(message) + len(answer) < 2_000


@pytest.mark.parametrize("parameters", ODD.values(), ids=ODD)
def test_odd_values_come_back_as_they_were(
    client: Any, name: str, parameters: dict[str, Any]
) -> None:
    run = client.create_flow_run(name, parameters=parameters)
    (listed,) = client.read_flow_runs(flow_name=name)
    for found in (run, client.read_flow_run(run.id), listed):
        assert same(found.parameters, parameters)
    assert html(model_table(client.read_flow_runs(flow_name=name))).encode()


def test_integers_beyond_64_bits_come_back_where_the_server_can_write_them(
    client: Any, name: str
) -> None:
    """Prefect's server takes them and gives the run, but fails to give a list that the run is in."""
    run: FlowRun = client.create_flow_run(name, parameters=BEYOND_64_BITS)
    try:
        assert same(run.parameters, BEYOND_64_BITS)
        assert same(client.read_flow_run(run.id).parameters, BEYOND_64_BITS)
        listed = outcome(lambda: client.read_flow_runs(flow_name=name))
        if isinstance(listed, PrefectHTTPStatusError):
            assert listed.status_code == 500
            assert "see its log" in listed.hint
        else:
            assert [same(item.parameters, BEYOND_64_BITS) for item in listed] == [True]
    finally:
        client.delete_flow_run(run.id)  # else no test on this server can list runs
    assert client.read_flow_runs(flow_name=name) == []
