"""The event stream: a hint arrives when a run has changed, and nothing depends on it."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.sync.server import ServerConnection, serve

from orchnb import SyncPrefectClient
from orchnb.api.event_stream import (
    THREAD_NAME,
    RemoteHints,
    event_headers,
    first_messages,
    hinted_run,
    listen,
    stream_url,
    token_of,
)
from orchnb.http.clients import PrefectHttpxSyncClient
from tests.api import both
from tests.servers import prefect_home, prefect_server

pytestmark = both.SQLALCHEMY
client = both.client
server_here = both.server_here
nothing_is_left = both.nothing_is_left

RUN = uuid.UUID(int=7)
EVENT = {
    "type": "event",
    "event": {
        "event": "prefect.flow-run.Completed",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{RUN}"},
    },
}


def with_event(**changes: Any) -> dict[str, Any]:
    return {**EVENT, "event": {**EVENT["event"], **changes}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("message", "run_id"),
    [
        (EVENT, RUN),
        (with_event(event="prefect.flow-run.heartbeat"), None),
        (with_event(event="prefect.deployment.created"), None),
        (with_event(event=7), None),
        (with_event(resource={}), None),
        (with_event(resource=None), None),
        (with_event(resource={"prefect.resource.id": "prefect.flow-run.nobody"}), None),
        (with_event(resource={"prefect.resource.id": ["x"]}), None),
        ({"type": "auth_success"}, None),
        ({"event": None}, None),
        ([], None),
        ("[" * 100_000, None),
        ("", None),
        ("\x00", None),
    ],
)
def test_a_message_names_the_run_that_has_changed(message: Any, run_id: Any) -> None:
    text = message if isinstance(message, str) else json.dumps(message)
    assert hinted_run(text) == run_id


def test_few_runs_are_named_to_the_server_and_many_are_not() -> None:
    few = [uuid.uuid4() for _ in range(3)]
    for runs, names in [(few, [f"prefect.flow-run.{each}" for each in few]), (few * 20, None)]:
        auth, conditions = map(json.loads, first_messages(listen(str, runs), "key"))
        assert auth == {"type": "auth", "token": "key"}
        assert conditions["filter"].get("resource", {}).get("id") == names


@pytest.mark.parametrize(
    ("api", "stream"),
    [
        ("http://host:4200/api", "ws://host:4200/api/events/out"),
        ("https://host/api", "wss://host/api/events/out"),
        ("http://user:secret@host/api", "ws://host/api/events/out"),
    ],
)
def test_the_address_has_no_credentials(api: str, stream: str) -> None:
    assert stream_url(api) == stream


@pytest.mark.parametrize(
    ("options", "token"),
    [
        ({}, None),
        ({"headers": {"Authorization": "Bearer pnu_key"}}, "pnu_key"),
        ({"auth": ("user", "pass")}, "user:pass"),
    ],
)
def test_the_token_is_that_of_the_client(options: Any, token: str | None) -> None:
    with PrefectHttpxSyncClient(base_url="http://host", **options) as http:
        found = token_of(event_headers(http))
    assert found == token
    assert token is None or token not in repr(found)


class Told:
    """The runs that hints were about."""

    def __init__(self) -> None:
        self.runs: list[uuid.UUID] = []
        self._changed = threading.Condition()

    def __call__(self, run_id: uuid.UUID) -> None:
        with self._changed:
            self.runs.append(run_id)
            self._changed.notify_all()

    def wait(self, run_id: uuid.UUID, seconds: float = 20) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: run_id in self.runs, seconds)


@pytest.fixture(scope="module")
def guarded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that needs credentials, as orchnb opens it."""
    home = tmp_path_factory.mktemp("guarded")
    prefect_home(home / ".prefect")
    with prefect_server(home, opened=True) as url:
        yield url


def changed_until_heard(client: Any, told: Told) -> None:
    """Change runs until a hint comes: the stream takes a moment to connect."""
    run, other = (client.create_flow_run("streamed") for _ in range(2))
    stream = client.perform(listen(told, [run.id]))
    assert stream is not None
    deadline = time.monotonic() + 30
    while not told.runs and time.monotonic() < deadline:
        client.set_flow_run_state(other.id, "RUNNING", force=True)
        client.set_flow_run_state(run.id, "RUNNING", force=True)
        told.wait(run.id, 0.2)
    assert set(told.runs) == {run.id}
    stream.close()
    assert stream.is_closed


def test_a_hint_comes_when_a_run_has_changed(client: Any) -> None:
    changed_until_heard(client, Told())


def test_the_stream_of_a_server_that_needs_credentials(guarded_url: str) -> None:
    with SyncPrefectClient(guarded_url) as client:
        changed_until_heard(client, Told())
        stream = client.perform(listen(str))
    assert stream is not None
    assert stream.is_closed, "with the client"


@contextmanager
def web_sockets(handle: Callable[[ServerConnection], object]) -> Iterator[str]:
    with serve(handle, "127.0.0.1", 0, subprotocols=["prefect"]) as server:  # type: ignore[list-item]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


def remote(url: str, told: Told) -> RemoteHints:
    return RemoteHints(
        url,
        headers={"Authorization": "Basic canary"},
        context=None,
        first=lambda: ["auth", "filter"],
        hint=told,
        pause=0.01,
    )


def test_a_lost_connection_is_made_again() -> None:
    connections = []

    def handle(socket: ServerConnection) -> None:
        connections.append([socket.recv(), socket.recv()])
        socket.send('{"type": "auth_success"}')
        event = json.dumps(EVENT)
        socket.send(event.replace(str(RUN), str(uuid.UUID(int=len(connections)))))

    told = Told()
    with web_sockets(handle) as url:
        stream = remote(url, told)
        assert told.wait(uuid.UUID(int=3))
        stream.close()
    assert connections[:3] == [["auth", "filter"]] * 3
    gone()


@pytest.mark.parametrize("answer", ["reset", "refused", "garbage", "silent"])
def test_a_server_without_a_stream_is_not_asked_for_ever(
    answer: str, caplog: pytest.LogCaptureFixture
) -> None:
    count = 0

    def handle(socket: ServerConnection) -> None:
        nonlocal count
        count += 1
        if answer == "refused":
            socket.close(1008, "no")
        elif answer == "garbage":
            socket.send(b"\x00" * 300_000)
        elif answer == "reset":
            socket.socket.shutdown(2)

    caplog.set_level("DEBUG")
    told = Told()
    with web_sockets(handle) as url:
        stream = remote(url.replace("ws:", "wss:") if answer == "silent" else url, told)
        gone()
    assert not stream.is_closed
    assert count <= 4
    assert told.runs == []
    assert "canary" not in "".join(
        record.getMessage() for record in caplog.records if record.name != "websockets.server"
    )


def gone() -> None:
    for thread in threading.enumerate():
        if thread.name == THREAD_NAME:
            thread.join(20)
            assert not thread.is_alive()


def test_only_a_few_streams_are_open_at_a_time(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        streams = [client.perform(listen(str)) for _ in range(5)]
        assert [each is None for each in streams] == [False] * 4 + [True]
        assert streams[0] is not None
        streams[0].close()
        assert client.perform(listen(str)) is not None


@pytest.mark.parametrize("options", [{"proxy": None}, {"verify": False}, {"trust_env": False}])
def test_a_client_that_reaches_the_server_in_another_way_has_no_stream(
    server_url: str, options: Any
) -> None:
    with SyncPrefectClient(server_url, httpx_settings=options) as client:
        assert client.perform(listen(str)) is None
