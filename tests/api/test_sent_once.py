"""What becomes of requests whose answers, or which themselves, get lost on the way.

The faults are those that a network makes, at every point of a request; the server is Prefect's own.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any

import anyio
import httpx
import pytest
from packaging.version import Version

from orchnb import (
    ObjectAlreadyExists,
    ObjectNotFound,
    OutcomeUnknown,
    PrefectClient,
    PrefectHTTPStatusError,
    SyncPrefectClient,
    observe_retries,
)
from orchnb.http.calls import Call, json_of, nothing, path
from orchnb.http.clients import PrefectHttpxSyncClient
from orchnb.http.retry import RetryPolicy
from tests.api.conftest import opened
from tests.api.fakes import RUN_ID, Scripted
from tests.api.proxies import FaultyProxy, breaking_proxy
from tests.servers import prefect_home, prefect_server

PATIENT = RetryPolicy(max_retries=40)
"""One in five is lost: so many times in a row is not to be expected in the life of this universe."""


async def short_wait(seconds: float) -> None:
    """The faults are over at once, and a busy database sooner than in life."""
    await anyio.sleep(seconds / 40)


def short_wait_sync(seconds: float) -> None:
    """As `short_wait`."""
    time.sleep(seconds / 40)


async def no_wait(seconds: float) -> None:
    """What answers comes from the test itself, which has nothing to wait for."""
    await anyio.sleep(0)


def no_wait_sync(seconds: float) -> None:
    """As `no_wait`."""


def options(kind: str, transport: Any, **more: Any) -> dict[str, Any]:
    sleep = short_wait if kind == "async" else short_wait_sync
    settings = {"transport": transport, "retry_policy": PATIENT, "sleep": sleep}
    return {"httpx_settings": {**settings, **more}}


class Lossy(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Hands requests on over HTTP, and loses one in five: on the way there, or the answer, or it is a
    proxy that says 502 or 503 to either."""

    FAULTS = ("refused", "unsent", "lost answer", "502 before", "502 after", "503 before")

    def __init__(self, seed: int, loss: float = 0.2) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._loss = loss
        self._sync = httpx.HTTPTransport()
        self._async = httpx.AsyncHTTPTransport()
        self.faults: Counter[str] = Counter()

    def _fault(self) -> str:
        with self._lock:
            if self._random.random() >= self._loss:
                return ""
            fault = self._random.choice(self.FAULTS)
            self.faults[fault] += 1
            return fault

    def _before(self, fault: str, request: httpx.Request) -> httpx.Response | None:
        if fault == "refused":
            raise httpx.ConnectTimeout("no connection", request=request)
        if fault == "unsent":
            raise httpx.WriteError("cut while sending", request=request)
        if fault.endswith("before"):
            return httpx.Response(int(fault[:3]), request=request)
        return None

    def _after(self, fault: str, request: httpx.Request) -> httpx.Response | None:
        if fault == "lost answer":
            raise httpx.ReadError("the answer was lost", request=request)
        return httpx.Response(502, request=request) if fault == "502 after" else None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        fault = self._fault()
        early = self._before(fault, request)
        if early is not None:
            return early
        response = self._sync.handle_request(request)
        response.read()
        return self._after(fault, request) or response

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        fault = self._fault()
        early = self._before(fault, request)
        if early is not None:
            return early
        response = await self._async.handle_async_request(request)
        await response.aread()
        return self._after(fault, request) or response

    def close(self) -> None:
        self._sync.close()

    async def aclose(self) -> None:
        await self._async.aclose()


Make = Callable[[Any, int], Any]
"""Creates one thing by a client of either kind: an awaitable for the asynchronous one."""


def runs_of(url: str, tag: str) -> Make:
    """What creates flow runs, which an idempotency key tells apart."""
    with SyncPrefectClient(url) as client:
        flow_id = client.create_flow_from_name("lossy")
    return lambda client, number: client.create_flow_run(flow_id, name=str(number), tags=[tag])


def variables_of(tag: str) -> Make:
    """What creates variables, which their names tell apart."""
    name = f"lossy_{uuid.uuid4().hex}"
    return lambda client, number: client.create_variable(
        f"{name}_{number}", value=number, tags=[tag]
    )


def number_with_tag(url: str, tag: str, kind: str) -> int:
    """How many ``flow_runs`` or ``variables`` there are."""
    with SyncPrefectClient(url) as client:
        body = {kind: {"tags": {"all_": [tag]}}}
        return int(client.request("POST", f"/{kind}/count", json=body).json())


def names_with_tag(url: str, tag: str) -> set[str | None]:
    with SyncPrefectClient(url) as client:
        return {run.name for run in client.read_flow_runs(tags=[tag], limit=200)}


def create_async(url: str, make: Make, numbers: range, transport: Any, **more: Any) -> None:
    async def main() -> None:
        limit = anyio.CapacityLimiter(8)
        async with PrefectClient(url, **options("async", transport, **more)) as client:

            async def one(number: int) -> None:
                async with limit:
                    await make(client, number)

            async with anyio.create_task_group() as group:
                for number in numbers:
                    group.start_soon(one, number)

    asyncio.run(main())


def create_sync(url: str, make: Make, numbers: range, transport: Any, **more: Any) -> None:
    with (
        SyncPrefectClient(url, **options("sync", transport, **more)) as client,
        ThreadPoolExecutor(4) as pool,
    ):
        for job in [pool.submit(make, client, number) for number in numbers]:
            job.result()


def create_by_both(
    urls: Sequence[str], make: Make, each: int, transports: Sequence[Any], **more: Any
) -> None:
    """The asynchronous and the synchronous client at once, each with its URL and transport, create so
    many each."""
    creators = [create_async, create_sync]
    with ThreadPoolExecutor(len(creators)) as pool:
        jobs = [
            pool.submit(create, url, make, range(i * each, (i + 1) * each), transport, **more)
            for i, (create, url, transport) in enumerate(
                zip(creators, urls, transports, strict=True)
            )
        ]
        for job in jobs:
            job.result()


@pytest.fixture(scope="module")
def busy_url(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for those who create at once what may be there already.

    With SQLAlchemy before 2.1, all that there is for Python 3.10, Prefect's own hangs for a minute
    then; so there it is orchnb's, which does not.
    """
    if Version(version("sqlalchemy")) >= Version("2.1"):
        yield server_url
        return
    home = tmp_path_factory.mktemp("busy")
    prefect_home(home / ".prefect")
    with prefect_server(home, opened=True) as url:
        yield url


@pytest.mark.timeout(300)  # a thousand real creates
def test_a_thousand_creates_under_loss_give_a_thousand_objects(busy_url: str) -> None:
    """By clients of both kinds at once."""
    tag = f"lossy-{uuid.uuid4()}"
    runs, variables = runs_of(busy_url, tag), variables_of(tag)
    lossy = [Lossy(seed=0), Lossy(seed=1)]
    # The server takes far longer for a run than for a variable, and for both at once if it is an old one.
    for make, each in ((variables, 450), (runs, 50)):
        create_by_both([busy_url] * 2, make, each, lossy)
    for transport in lossy:
        assert set(transport.faults) == set(Lossy.FAULTS), "every fault has happened to each"
        assert transport.faults.total() > 75
    made = [number_with_tag(busy_url, tag, kind) for kind in ("variables", "flow_runs")]
    assert made == [900, 100]


def test_connections_that_really_break_make_no_second_run(server_url: str) -> None:
    """By clients of both kinds at once."""
    tag = f"broken-{uuid.uuid4()}"
    make = runs_of(server_url, tag)
    # No connection is kept, so that each request meets a fault of its own.
    limits = httpx.Limits(max_keepalive_connections=0)
    transports = [httpx.AsyncHTTPTransport(limits=limits), httpx.HTTPTransport(limits=limits)]
    with (
        breaking_proxy(server_url, seed=7) as (url, broken),
        breaking_proxy(server_url, seed=7) as (other_url, others_broken),
    ):
        create_by_both([url, other_url], make, 120, transports)
    assert min(len(broken), len(others_broken)) > 12
    assert number_with_tag(server_url, tag, "flow_runs") == 240


def test_resets_and_stalls_make_no_second_run(server_url: str) -> None:
    """By clients of both kinds at once."""
    tag = f"faulty-{uuid.uuid4()}"
    make = runs_of(server_url, tag)
    proxies = [FaultyProxy(server_url, seed=10), FaultyProxy(server_url, seed=10)]
    causes: Counter[str] = Counter()
    # A stall costs so much time; a busy server that needs longer is but one more fault.
    timeout = httpx.Timeout(10, read=0.5)
    with ExitStack() as stack:
        urls = [stack.enter_context(proxy.running()) for proxy in proxies]
        stack.enter_context(observe_retries(lambda event: causes.update([event.cause])))
        create_by_both(urls, make, 100, [None, None], timeout=timeout)
    for proxy in proxies:
        assert set(proxy.faults) == set(FaultyProxy.FAULTS), "every fault has happened to each"
    assert {"ReadError", "ReadTimeout"} <= set(causes), "a reset is no orderly end"
    assert number_with_tag(server_url, tag, "flow_runs") == 200
    assert names_with_tag(server_url, tag) == {str(number) for number in range(200)}


# What may not be sent twice


def append(read: Any = json_of, **more: Any) -> Call[Any]:
    return Call("POST", path("/flow_runs/{}/set_state", RUN_ID), read, json={}, **more)


class Outcome:
    """What a call came to, and how often it was sent; the last outcome is that of all further tries."""

    def __init__(self, kind: str, call: Call[Any], *outcomes: Any) -> None:
        left = list(outcomes)

        def answer(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/csrf-token"):
                return httpx.Response(404, request=request)
            self.sent += 1
            outcome = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(outcome, type):
                raise outcome("broken", request=request)
            kinds = {"content-type": "application/json"}
            return httpx.Response(outcome, headers=kinds, content=b"{}", request=request)

        self.sent = 0
        self.error: Any = None
        self.result: Any = None
        settings = options(kind, Scripted(answer))
        settings["httpx_settings"]["sleep"] = no_wait if kind == "async" else no_wait_sync
        with opened(kind, "http://orch.invalid/api", **settings) as client:
            try:
                self.result = client.perform(call)
            except Exception as exc:
                self.error = exc


@pytest.mark.parametrize(
    "failure", [httpx.ReadTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError]
)
def test_a_failure_that_leaves_it_open_is_told_and_not_repeated(kind: str, failure: Any) -> None:
    outcome = Outcome(kind, append(look="read_flow_run"), failure, 200)
    assert outcome.sent == 1
    error = outcome.error
    assert isinstance(error, OutcomeUnknown)
    assert isinstance(error, httpx.TransportError)
    assert isinstance(error.__cause__, failure)
    assert f"got no response ({failure.__name__}), and the server may have acted" in str(error)
    assert "Find out first: look with read_flow_run." in error.hint
    assert error.request.method == "POST"


@pytest.mark.parametrize("failure", [httpx.ProxyError, httpx.UnsupportedProtocol])
def test_what_never_reached_the_server_leaves_nothing_open(kind: str, failure: Any) -> None:
    error = Outcome(kind, append(look="read_flow_run"), failure).error
    assert type(error) is failure


@pytest.mark.parametrize("failure", [httpx.ReadTimeout, 502, 409])
def test_a_token_that_is_not_to_be_had_says_nothing_of_the_request_that_needs_it(
    kind: str, failure: Any
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path.endswith("/csrf-token"), "the other one is never sent"
        if not isinstance(failure, int):
            raise failure("from the fake", request=request)
        return httpx.Response(failure, json={}, request=request)

    settings = options(kind, Scripted(answer))
    settings["httpx_settings"]["enable_csrf_support"] = True
    settings["httpx_settings"]["sleep"] = no_wait if kind == "async" else no_wait_sync
    with (
        opened(kind, "http://orch.invalid/api", **settings) as client,
        pytest.raises((httpx.ReadTimeout, PrefectHTTPStatusError)) as caught,
    ):
        client.perform(append(look="read_flow_run"))
    assert not isinstance(caught.value, (OutcomeUnknown, ObjectAlreadyExists))
    assert "read_flow_run" not in getattr(caught.value, "hint", "")
    assert caught.value.request.method == "POST"
    assert caught.value.request.url.path.endswith("/set_state"), "the user's request is named"


@pytest.mark.parametrize("failure", [httpx.ConnectTimeout, httpx.PoolTimeout, 408, 429, 503])
def test_a_request_that_was_not_sent_or_was_refused_is_sent_again(kind: str, failure: Any) -> None:
    outcome = Outcome(kind, append(), failure, 200)
    assert (outcome.sent, outcome.error) == (2, None)


def test_a_refused_connection_stays_httpxs_error(kind: str) -> None:
    outcome = Outcome(kind, append(), httpx.ConnectError)
    assert type(outcome.error) is httpx.ConnectError


def test_a_proxys_bad_gateway_is_not_repeated_and_says_how_to_find_out(kind: str) -> None:
    outcome = Outcome(kind, append(look="read_flow_run"), 502, 200)
    assert outcome.sent == 1
    assert isinstance(outcome.error, PrefectHTTPStatusError)
    assert "Find out first: look with read_flow_run." in outcome.error.hint


@pytest.mark.parametrize("failure", [httpx.ReadError, 502])
def test_what_may_be_repeated_is(kind: str, failure: Any) -> None:
    outcome = Outcome(kind, append(repeatable=True), failure, 200)
    assert (outcome.sent, outcome.error) == (2, None)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_methods_that_come_to_the_same_twice_are_repeated(kind: str, method: str) -> None:
    outcome = Outcome(kind, Call(method, path("/x"), nothing), httpx.ReadError, 200)
    assert (outcome.sent, outcome.error) == (2, None)


def test_a_delete_whose_answer_was_lost_has_been_done(kind: str) -> None:
    call = Call("DELETE", path("/x"), nothing, missing="x")
    assert Outcome(kind, call, httpx.ReadError, 404).error is None
    assert isinstance(Outcome(kind, call, 404).error, ObjectNotFound)
    assert isinstance(Outcome(kind, call, 503, 404).error, ObjectNotFound), "it was refused before"


def test_a_conflict_after_a_lost_answer_says_that_it_may_be_our_own(kind: str) -> None:
    call = append(repeatable=True)
    error = Outcome(kind, call, httpx.ReadError, 409).error
    assert isinstance(error, ObjectAlreadyExists)
    assert "an earlier try of this request" in str(error)
    assert "an earlier try" not in str(Outcome(kind, call, 409).error)


def test_the_bare_http_client_goes_on_as_it_is_documented() -> None:
    left: list[Any] = [httpx.ReadError, 200]

    def answer(request: httpx.Request) -> httpx.Response:
        outcome = left.pop(0)
        if isinstance(outcome, type):
            raise outcome("broken", request=request)
        return httpx.Response(outcome, request=request)

    with PrefectHttpxSyncClient(transport=Scripted(answer), sleep=short_wait_sync) as client:
        assert client.post("http://orch.invalid/anything").status_code == 200


class LosesTheFirstAnswer(httpx.HTTPTransport):
    """Hands requests on, and loses the first answer to one of those to this path."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self.ending = ending
        self.sent = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        # A busy server says so with a 503, has done nothing then, and is asked again.
        wanted = request.method == "POST" and request.url.path.endswith(self.ending)
        if wanted and response.status_code != 503:
            self.sent += 1
            if self.sent == 1:
                response.read()
                raise httpx.ReadError("the answer was lost", request=request)
        return response


def test_a_state_whose_answer_was_lost_is_set_once(server_url: str) -> None:
    transport = LosesTheFirstAnswer("/set_state")
    with SyncPrefectClient(server_url, **options("sync", transport)) as client:
        run = client.create_flow_run("state-lost")
        before = len(client.read_flow_run_states(run.id))
        result = client.set_flow_run_state(run.id, "RUNNING")
        assert transport.sent == 2
        assert (result.status, result.details) == ("ACCEPT", None)
        assert result.state is not None
        assert result.state.type == "RUNNING"
        assert len(client.read_flow_run_states(run.id)) == before + 1
        again = client.read_flow_run(run.id).state
        assert client.set_flow_run_state(run.id, again, force=True).status == "ACCEPT"


def test_a_forced_state_whose_answer_was_lost_is_not_set_again(server_url: str) -> None:
    with SyncPrefectClient(
        server_url, **options("sync", LosesTheFirstAnswer("/set_state"))
    ) as client:
        run = client.create_flow_run("state-lost")
        with pytest.raises(OutcomeUnknown, match="may have acted on it") as told:
            client.set_flow_run_state(run.id, "RUNNING", force=True)
        assert "read_flow_run" in told.value.hint


@pytest.mark.parametrize(
    ("create", "ending"),
    [
        (lambda client, name: client.create_variable(name, value=[1, {"a": 2}]), "/variables/"),
        (lambda client, name: client.create_work_pool(name, type="process"), "/work_pools/"),
        (lambda client, name: client.create_work_queue(name, priority=3), "/work_queues/"),
    ],
    ids=["variable", "work pool", "work queue"],
)
def test_what_has_a_name_and_whose_answer_was_lost_is_the_result(
    create: Callable[[SyncPrefectClient, str], Any], ending: str, server_url: str
) -> None:
    name = f"lost_{uuid.uuid4().hex}"
    transport = LosesTheFirstAnswer(ending)
    with SyncPrefectClient(server_url, **options("sync", transport)) as client:
        made = create(client, name)
        assert (made.name, transport.sent) == (name, 2)
        with pytest.raises(ObjectAlreadyExists):
            create(client, name)


def test_what_somebody_else_made_under_that_name_is_no_result(server_url: str) -> None:
    name = f"lost_{uuid.uuid4().hex}"
    with SyncPrefectClient(server_url) as other:
        other.create_variable(name, value=1)
    transport = LosesTheFirstAnswer("/variables/")
    with (
        SyncPrefectClient(server_url, **options("sync", transport)) as client,
        pytest.raises(ObjectAlreadyExists, match="may have created it"),
    ):
        client.create_variable(name, value=2)
