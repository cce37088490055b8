"""A client of the API that is closed while its operations are under way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import anyio.from_thread
import pytest

from orchnb import ClientClosed, OutcomeUnknown, PrefectClient, SyncPrefectClient, observe_retries
from orchnb.api import context
from orchnb.hosting.lifespan import CALLS_SHARE, SHUTDOWN_TIMEOUT
from orchnb.notebook.views.errors import error_card
from orchnb.runtime import loops
from orchnb.settings import temporary_settings
from tests.api.fakes import RUN_ID
from tests.http.wire import http, wire

SECONDS = 10.0
SHARE = CALLS_SHARE * SHUTDOWN_TIMEOUT


class Client:
    """An open client of either kind, whose operations run elsewhere: in threads, or on a loop."""

    def __init__(self, kind: str, api: Any, stack: ExitStack) -> None:
        self.kind = kind
        if kind == "sync":
            self.client: Any = SyncPrefectClient(api)
            self.start: Any = stack.enter_context(ThreadPoolExecutor(8)).submit
            self.call: Any = lambda function: function()
        else:
            portal = stack.enter_context(anyio.from_thread.start_blocking_portal(kind))
            self.client = PrefectClient(api)
            self.start = portal.start_task_soon
            self.call = portal.call
        self.client.open()
        stack.callback(lambda: self.call(self.client.close))

    def close_for_good(self) -> None:
        """As the end of a notebook's session does it: on the clients' loop, in plain code."""

        async def on_loop() -> None:
            left = self.client.close_for_good()
            if left is not None:
                await left

        self.call(self.client.close_for_good if self.kind == "sync" else on_loop)

    def close(self) -> None:
        self.call(self.client.close)


CLOSES = {"close": Client.close, "the end of the session": Client.close_for_good}


@pytest.fixture(params=["asyncio", "trio", "sync"])
def opened(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], Client]]:
    with ExitStack() as stack:
        yield lambda api: Client(request.param, api, stack)


class Operation(NamedTuple):
    ask: Callable[[Any], Callable[[], Any]]
    error: type[Exception]
    hint: str = ""


SET_STATE = Operation(
    lambda client: partial(client.set_task_run_state, RUN_ID, "RUNNING"),
    OutcomeUnknown,
    "Find out before you send it again: look with read_task_run.",
)

OPERATIONS = {
    "a read": Operation(lambda client: partial(client.read_flow_run, RUN_ID), ClientClosed),
    "a filter": Operation(lambda client: client.read_flow_runs, ClientClosed),
    "a state": SET_STATE,
    "a deletion": Operation(lambda client: partial(client.delete_flow_run, RUN_ID), ClientClosed),
    "any GET": Operation(lambda client: partial(client.request, "GET", "/x"), ClientClosed),
    "any PUT": Operation(lambda client: partial(client.request, "PUT", "/x"), ClientClosed),
    "any POST": Operation(
        lambda client: partial(client.request, "POST", "/x"),
        OutcomeUnknown,
        "Find out before you send it again: read back what you wanted to change.",
    ),
    "any PATCH": Operation(lambda client: partial(client.request, "PATCH", "/x"), OutcomeUnknown),
}


def check(operation: Operation, outcome: Future[Any]) -> Exception:
    error = outcome.exception(SECONDS)
    assert type(error) is operation.error
    assert "The client was closed before" in str(error)
    if operation.hint:
        assert error.hint == operation.hint  # type: ignore[attr-defined]
    return error


class HangingApp:
    """An app that answers nothing, and notes what it was asked and that its caller has gone."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.gone = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise RuntimeError("I know http only")
        if scope["path"].endswith("/csrf-token"):
            await send({"type": "http.response.start", "status": 404})
            await send({"type": "http.response.body"})
            return
        await receive()
        if scope["path"].endswith("/stream"):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"part", "more_body": True})
        self.asked.set()
        assert (await receive())["type"] == "http.disconnect"
        self.gone.set()


@pytest.mark.parametrize("close", CLOSES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_by_address_an_operation_ends_at_once(opened: Any, name: str, close: str) -> None:
    operation = OPERATIONS[name]
    with wire(http(404)) as server:
        server.answers[:] = [http(404), server.hang]  # the first is asked for a token
        if name in ("a read", "any GET"):
            del server.answers[0]
        client = opened(server.url)
        asked = client.start(operation.ask(client.client))
        assert server.hanging.wait(SECONDS)
        CLOSES[close](client)
        check(operation, asked)


@pytest.mark.parametrize("close", CLOSES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_in_process_an_operation_ends_at_once_and_the_app_is_told(
    opened: Any, name: str, close: str
) -> None:
    app, operation = HangingApp(), OPERATIONS[name]
    client = opened(app)
    asked = client.start(operation.ask(client.client))
    assert app.asked.wait(SECONDS)
    began = time.monotonic()
    CLOSES[close](client)
    assert app.gone.is_set(), "it was told, and its call has ended, before it was down"
    assert time.monotonic() - began < SHARE
    check(operation, asked)


@pytest.mark.parametrize("close", CLOSES)
def test_in_process_a_stream_that_is_open_ends_at_once_and_the_app_is_told(
    opened: Any, close: str
) -> None:
    """Whether it is being read or just held."""
    app = HangingApp()
    client = opened(app)
    begun = threading.Event()

    def read() -> None:
        with client.client._http.stream("GET", "/stream") as response:
            for _ in response.iter_raw():
                begun.set()

    async def aread() -> None:
        async with client.client._http.stream("GET", "/stream") as response:
            async for _ in response.aiter_raw():
                begun.set()

    asked = client.start(read if client.kind == "sync" else aread)
    assert begun.wait(SECONDS)
    began = time.monotonic()
    CLOSES[close](client)
    assert app.gone.is_set()
    assert time.monotonic() - began < SHARE
    assert type(asked.exception(SECONDS)) is ClientClosed


def test_in_process_who_waits_for_the_start_has_sent_nothing(opened: Any) -> None:
    reached = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        reached.set()
        await asyncio.sleep(3600)

    client = opened(app)
    asked = client.start(SET_STATE.ask(client.client))
    assert reached.wait(SECONDS)
    client.close()
    assert type(asked.exception(SECONDS)) is ClientClosed


def test_what_was_refused_and_waits_for_its_next_try_has_not_been_done(opened: Any) -> None:
    waits = threading.Event()
    with (
        wire(http(404), http(503, b"", "Retry-After: 30")) as server,
        observe_retries(lambda event: waits.set()),
    ):
        client = opened(server.url)
        asked = client.start(SET_STATE.ask(client.client))
        assert waits.wait(SECONDS)
        client.close()
        assert type(asked.exception(SECONDS)) is ClientClosed


def test_closing_one_of_two_clients_leaves_the_requests_of_the_other(opened: Any) -> None:
    with wire(http(404)) as server, ExitStack() as stack:
        server.answers[:] = [server.hang]
        first, second = opened(server.url), Client("sync", server.url, stack)
        asked = second.start(second.client.request, "GET", "/x")
        assert server.hanging.wait(SECONDS)
        first.close()
        assert not asked.done()
        second.close()
        assert type(asked.exception(SECONDS)) is ClientClosed


def test_who_closes_one_of_two_openings_ends_nothing(opened: Any) -> None:
    with wire(http(404)) as server:
        server.answers[:] = [server.hang]
        client = opened(server.url)
        client.client.open()
        asked = client.start(partial(client.client.request, "GET", "/x"))
        assert server.hanging.wait(SECONDS)
        client.close()
        assert not asked.done()
        client.close()
        assert type(asked.exception(SECONDS)) is ClientClosed


@pytest.mark.parametrize("sync", [True, False])
def test_a_switch_of_server_ends_what_cells_have_begun(sync: bool) -> None:
    async def cells() -> BaseException | None:
        loops.set_notebook_loop(asyncio.get_running_loop())
        try:
            with temporary_settings(api_url=server.url):
                client: Any = context.get_client(sync_client=sync)
                if sync:
                    asked: Any = asyncio.to_thread(client.request, "POST", "/x")
                else:
                    asked = client.request("POST", "/x")
                task = asyncio.ensure_future(asked)
                assert await asyncio.to_thread(server.hanging.wait, SECONDS)
                context.close_notebook_clients()
                await asyncio.wait([task], timeout=SECONDS)
                return task.exception()
        finally:
            context.close_notebook_clients()
            loops.set_notebook_loop(None)

    with wire(http(404)) as server:
        server.answers[:] = [http(404), server.hang]
        assert type(asyncio.run(cells())) is OutcomeUnknown


@pytest.mark.parametrize("name", ["a read", "a state"])
def test_the_card_says_what_happened_and_what_to_do(opened: Any, name: str) -> None:
    app, operation = HangingApp(), OPERATIONS[name]
    client = opened(app)
    asked = client.start(operation.ask(client.client))
    assert app.asked.wait(SECONDS)
    client.close()
    card = error_card(check(operation, asked))
    rows = dict(card.rows)
    if name == "a read":
        assert card.title == "This client is not open"
        assert rows["Request"].startswith("GET ")
        assert rows["Problem"].endswith("was answered")
        assert rows["What to do"] == "Run it again with an open client: get_client() returns one."
    else:
        assert card.title == "It is unknown whether the server acted on the request"
        assert rows["Problem"].endswith("was answered, and the server may have acted on it")
        assert rows["What to do"] == operation.hint
