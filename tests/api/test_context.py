"""Which client is meant: contexts, get_client, get_or_create_client, inject_client, the notebook's."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from orchnb import (
    ClientContext,
    FlowRunContext,
    InvalidSetting,
    PrefectClient,
    ServerNotConfigured,
    SyncPrefectClient,
    TaskRunContext,
    client_injector,
    get_client,
    get_or_create_client,
    inject_client,
    temporary_settings,
)
from orchnb.api import context
from orchnb.runtime import loops
from tests.api.fakes import tiny_api

CONTEXTS = [ClientContext, FlowRunContext, TaskRunContext]
every_context = pytest.mark.parametrize("kind_of_context", CONTEXTS)


@pytest.fixture(autouse=True)
def tiny_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server in this process is a tiny one."""
    monkeypatch.setenv("ORCHNB_EPHEMERAL_APP", "tests.api.fakes:tiny_api")


# Contexts.


@every_context
def test_a_context_is_found_within_its_block_only(kind_of_context: Any) -> None:
    client = SyncPrefectClient(tiny_api)
    assert kind_of_context.get() is None
    with kind_of_context(client=client) as outer:
        assert kind_of_context.get() is outer
        assert outer.client is client
        with kind_of_context(client=SyncPrefectClient(tiny_api)) as inner:
            assert kind_of_context.get() is inner
        with outer:  # the same one again
            assert kind_of_context.get() is outer
        assert kind_of_context.get() is outer
        for other in CONTEXTS:
            assert (other.get() is None) == (other is not kind_of_context)
    assert kind_of_context.get() is None


@every_context
def test_a_context_ends_with_an_error_in_its_block(kind_of_context: Any) -> None:
    with pytest.raises(LookupError), kind_of_context(client=SyncPrefectClient(tiny_api)):
        raise LookupError
    assert kind_of_context.get() is None


def test_contexts_hold_what_runs_and_neither_open_nor_close_the_client() -> None:
    client = SyncPrefectClient(tiny_api)
    with FlowRunContext(client=client, flow_run="f") as flow_run:
        assert flow_run.flow_run == "f"
    with TaskRunContext(client=client, task_run="t") as task_run:
        assert task_run.task_run == "t"
    assert not client.is_closed
    assert "not opened yet" in repr(client)


@pytest.mark.anyio
async def test_tasks_made_within_a_context_see_it_and_others_do_not() -> None:
    seen: dict[str, Any] = {}
    inside = anyio.Event()

    async def look(name: str) -> None:
        await inside.wait()
        seen[name] = ClientContext.get()

    async with anyio.create_task_group() as group:
        group.start_soon(look, "before")
        with ClientContext(client=SyncPrefectClient(tiny_api)) as active:
            group.start_soon(look, "within")
        inside.set()
    assert seen == {"before": None, "within": active}


# get_or_create_client.


@pytest.mark.anyio
async def test_a_given_client_is_given_back() -> None:
    client = PrefectClient(tiny_api)
    async with PrefectClient(tiny_api) as other:
        with ClientContext(client=other):
            assert get_or_create_client(client) == (client, True)


@pytest.mark.anyio
async def test_contexts_are_asked_in_order() -> None:
    async with PrefectClient(tiny_api) as a, PrefectClient(tiny_api) as b:
        async with PrefectClient(tiny_api) as c:
            with TaskRunContext(client=c):
                assert get_or_create_client() == (c, True)
                with FlowRunContext(client=b):
                    assert get_or_create_client() == (b, True)
                    with ClientContext(client=a):
                        assert get_or_create_client() == (a, True)
                    assert get_or_create_client(None) == (b, True)
        # c is closed now, and so cannot be meant
        with TaskRunContext(client=c):
            client, inferred = get_or_create_client()
    assert not inferred
    assert client not in (a, b, c)


@every_context
def test_a_client_of_another_loop_is_not_meant(kind_of_context: Any) -> None:
    async def on_this_loop() -> tuple[PrefectClient, bool]:
        return get_or_create_client()

    client = PrefectClient(tiny_api)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(client.__aenter__())
    with kind_of_context(client=client):
        found, inferred = asyncio.run(on_this_loop())
        assert (found is client, inferred) == (False, False)
        assert get_or_create_client()[0] is not client  # nor where no loop runs
        assert loop.run_until_complete(on_this_loop()) == (client, True)
    loop.run_until_complete(client.close())
    loop.close()


@pytest.mark.anyio
async def test_neither_unopened_nor_sync_clients_are_meant() -> None:
    unopened, plain = PrefectClient(tiny_api), SyncPrefectClient(tiny_api)
    with FlowRunContext(client=unopened), TaskRunContext(client=plain):
        client, inferred = get_or_create_client()
    assert not inferred
    assert client not in (unopened, plain)


# get_client.


def test_get_client_makes_a_new_one_each_time_outside_a_notebook() -> None:
    assert type(get_client()) is PrefectClient
    assert type(get_client(sync_client=True)) is SyncPrefectClient
    assert get_client() is not get_client()
    with temporary_settings(api_url="http://orch.invalid/api"):
        assert get_client().api_url == "http://orch.invalid/api"


@pytest.mark.anyio
async def test_get_client_gives_the_active_contexts_client() -> None:
    plain = SyncPrefectClient(tiny_api)
    async with PrefectClient(tiny_api) as client:
        with ClientContext(client=client):
            assert get_client() is client
            assert get_client(sync_client=True) is not client
            assert get_client({"timeout": 3}) is not client
        with ClientContext(client=plain):
            assert get_client(sync_client=True) is plain
            assert get_client() is not plain
        with FlowRunContext(client=client):
            assert get_client() is not client


def test_without_a_server_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with temporary_settings(server_allow_ephemeral_mode=False):
        for call in (get_client, get_or_create_client, lambda: get_client(sync_client=True)):
            with pytest.raises(ServerNotConfigured, match="Set PREFECT_API_URL"):
                call()
    monkeypatch.setenv("PREFECT_API_URL", "nonsense")
    with pytest.raises(InvalidSetting, match="PREFECT_API_URL"):
        get_client()


# inject_client.


@inject_client
async def ask(first: int = 1, client: PrefectClient | None = None, *, last: int = 2) -> Any:
    """Say who was asked."""
    assert client is not None
    return client, await client.api_version(), first, last


@pytest.mark.anyio
async def test_a_new_client_is_opened_and_closed_around_the_call() -> None:
    client, version, first, last = await ask(5, last=6)
    assert (version, first, last) == ("1.2.3", 5, 6)
    assert client.is_closed


@pytest.mark.anyio
@pytest.mark.parametrize("position", [True, False], ids=["by-position", "by-name"])
async def test_a_given_client_is_used_and_not_managed(position: bool) -> None:
    async with PrefectClient(tiny_api) as given:
        with ClientContext(client=PrefectClient(tiny_api)):
            used, *_ = await (ask(1, given) if position else ask(client=given))
        assert used is given
        assert not given.is_closed
        assert given._depth == 1


@pytest.mark.anyio
async def test_a_given_client_is_not_even_opened() -> None:
    @inject_client
    async def look(client: PrefectClient | None = None) -> str:
        return repr(client)

    assert "not opened yet" in await look(client=PrefectClient(tiny_api))


@pytest.mark.anyio
@pytest.mark.parametrize("position", [True, False], ids=["by-position", "by-name"])
async def test_none_counts_as_not_given(position: bool) -> None:
    used, _, first, last = await (ask(7, None, last=8) if position else ask(7, client=None, last=8))
    assert (first, last) == (7, 8)
    assert used.is_closed
    async with PrefectClient(tiny_api) as active:
        with FlowRunContext(client=active):
            used, *_ = await (ask(7, None) if position else ask(client=None))
        assert used is active
        assert not active.is_closed


@pytest.mark.anyio
async def test_an_error_of_the_function_goes_on_and_the_client_is_closed() -> None:
    seen: list[PrefectClient] = []

    @inject_client
    async def fail(*, client: PrefectClient) -> None:
        seen.append(client)
        raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert seen[0].is_closed


@pytest.mark.anyio
async def test_what_takes_any_keyword_takes_a_client() -> None:
    @inject_client
    async def anything(**kwargs: Any) -> Any:
        return kwargs

    assert list(await anything(a=1)) == ["a", "client"]


def test_signature_name_and_docstring_stay() -> None:
    assert ask.__name__ == "ask"
    assert ask.__doc__ == "Say who was asked."
    assert list(inspect.signature(ask).parameters) == ["first", "client", "last"]
    assert inspect.iscoroutinefunction(ask)


@pytest.mark.anyio
async def test_methods_are_given_a_client_too() -> None:
    class Report:
        @inject_client
        async def make(self, client: PrefectClient | None = None) -> Any:
            return self, client

    report = Report()
    found, client = await report.make()
    assert found is report
    assert client.is_closed


@pytest.mark.anyio
async def test_wrong_arguments_are_told_as_always() -> None:
    with pytest.raises(TypeError, match="too many positional arguments"):
        await ask(1, None, 3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="nonsense"):
        await ask(nonsense=1)  # type: ignore[call-arg]


class _Callable:
    async def __call__(self, client: Any = None) -> Any:
        return client


@pytest.mark.anyio
@pytest.mark.parametrize(
    "function",
    [
        functools.partial(ask.__wrapped__, 1),  # type: ignore[attr-defined] # functools.wraps sets it
        lambda client=None: ask.__wrapped__(1, client),  # type: ignore[attr-defined] # as above
        _Callable(),
    ],
    ids=["partial", "plain function", "object"],
)
async def test_whatever_returns_an_awaitable_is_given_a_client(function: Any) -> None:
    result = await inject_client(function)()
    used = result[0] if isinstance(result, tuple) else result
    assert isinstance(used, PrefectClient)
    assert used.is_closed


@pytest.mark.anyio
async def test_the_first_argument_can_be_the_client() -> None:
    @client_injector
    async def versions(client: PrefectClient, first: int, *, last: int) -> Any:
        """Say who was asked."""
        return client, await client.api_version(), first, last

    client, *rest = await versions(1, last=2)
    assert rest == ["1.2.3", 1, 2]
    assert client.is_closed
    assert versions.__doc__ == "Say who was asked."
    async with PrefectClient(tiny_api) as active:
        with ClientContext(client=active):
            used, *_ = await versions(1, last=2)
        assert used is active
        assert not active.is_closed


async def _no_client(x: Any) -> None: ...


async def _position_only(client: Any = None, /) -> None: ...


@pytest.mark.parametrize("function", [_no_client, _position_only, len])
def test_what_cannot_be_given_a_client_is_refused_at_decoration(function: Any) -> None:
    with pytest.raises(TypeError, match="functions with a `client` argument"):
        inject_client(function)


# The notebook's own clients. Its loop is played by one of ours; a kernel's is tested elsewhere.


@pytest.fixture
def notebook() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    loops.set_notebook_loop(loop)
    yield loop
    session = context.end_notebook_session()
    if session is not None:
        for left in session.close():
            loop.run_until_complete(left)
    loops.set_notebook_loop(None)
    loop.close()


def cell(loop: asyncio.AbstractEventLoop, function: Any) -> Any:
    """Run a function as a cell: on the notebook's loop, in a task of its own."""

    async def run() -> Any:
        result = function()
        return await result if inspect.isawaitable(result) else result

    return loop.run_until_complete(run())


def test_the_notebooks_client_is_open_and_the_same_in_every_cell(
    notebook: asyncio.AbstractEventLoop,
) -> None:
    client = cell(notebook, get_client)
    assert cell(notebook, get_client) is client
    assert cell(notebook, client.api_version) == "1.2.3"
    assert client.loop is notebook
    plain = cell(notebook, functools.partial(get_client, sync_client=True))
    assert cell(notebook, functools.partial(get_client, sync_client=True)) is plain
    assert cell(notebook, plain.api_version) == "1.2.3"
    assert cell(notebook, get_or_create_client) == (client, True)
    used, *_ = cell(notebook, ask)
    assert used is client
    assert not client.is_closed


def test_it_may_be_entered_in_a_cell_and_stays_open(notebook: asyncio.AbstractEventLoop) -> None:
    async def entered() -> PrefectClient:
        async with get_client() as client:
            await client.api_version()
        return client

    client = cell(notebook, entered)
    assert not client.is_closed
    assert cell(notebook, get_client) is client


def test_other_settings_have_another_client_and_the_first_stays(
    notebook: asyncio.AbstractEventLoop,
) -> None:
    client = cell(notebook, get_client)
    with temporary_settings(api_request_timeout=7):
        other = cell(notebook, get_client)
    assert other is not client
    assert cell(notebook, get_client) is client
    assert cell(notebook, functools.partial(get_client, {"timeout": 3})) is not client


def test_one_that_was_closed_is_replaced(notebook: asyncio.AbstractEventLoop) -> None:
    client = cell(notebook, get_client)
    cell(notebook, client.close)
    other = cell(notebook, get_client)
    assert other is not client
    assert cell(notebook, other.api_version) == "1.2.3"


def test_not_every_setting_of_a_long_day_keeps_a_client(
    notebook: asyncio.AbstractEventLoop,
) -> None:
    with temporary_settings(api_url="http://orch.invalid/api"):
        for seconds in range(1, 20):
            with temporary_settings(api_request_timeout=seconds):
                cell(notebook, get_client)
    session = cell(notebook, context.notebook_session)
    assert len(session._clients) <= 2 * context._MOST_SETTINGS


def test_code_on_another_loop_or_thread_has_nothing_to_do_with_it(
    notebook: asyncio.AbstractEventLoop,
) -> None:
    client = cell(notebook, get_client)

    async def elsewhere() -> tuple[PrefectClient, bool]:
        return get_or_create_client()

    import threading

    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(elsewhere())))
    thread.start()
    thread.join()
    assert found[0][0] is not client
    assert found[0][1] is False


def test_after_its_end_there_is_no_notebooks_client(notebook: asyncio.AbstractEventLoop) -> None:
    client = cell(notebook, get_client)
    session = context.end_notebook_session()
    assert session is not None
    for left in session.close():
        notebook.run_until_complete(left)
    assert client.is_closed
    assert context.end_notebook_session() is None
