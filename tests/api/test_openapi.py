"""``client.operations``: what servers describe, on real servers, odd ones and hostile ones."""

from __future__ import annotations

import asyncio
import email.message
import functools
import gc
import inspect
import io
import json
import os
import pydoc
import socket
import stat
import sys
import time
import typing
import uuid
import weakref
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import anyio.from_thread
import anyio.lowlevel
import httpx
import pytest
from fastapi import FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from pydantic import BaseModel

from orchnb import (
    ClientClosed,
    ObjectAlreadyExists,
    ObjectNotFound,
    PrefectClient,
    PrefectHTTPStatusError,
    SyncPrefectClient,
    UnexpectedAnswer,
)
from orchnb.api.server_document import PREFECT
from orchnb.file_cache import user_cache_folder
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.host import HostedApp
from orchnb.http.retry import RetryPolicy
from orchnb.openapi.parser import read_description
from tests.api.fakes import Scripted, http_server, tiny_api
from tests.api.proxies import listening
from tests.hosting.leases import call_on, lease_host
from tests.openapi.documents import document
from tests.servers import run_script

pytestmark = pytest.mark.filterwarnings("ignore:Type object:DeprecationWarning")  # SQLAlchemy's


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, whichever platform this is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    return user_cache_folder("openapi")


@contextmanager
def operations_of(kind: str, api: Any, **options: Any) -> Iterator[Any]:
    """``client.operations`` of an open client of either kind, with plain results."""
    if kind == "sync":
        with SyncPrefectClient(api, **options) as client:
            yield client.operations
        return
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(PrefectClient(api, **options)) as client,
    ):
        yield _Awaited(client.operations, portal)


class _Awaited:
    """An async namespace whose coroutine functions are awaited on another thread's loop."""

    def __init__(self, inner: Any, portal: anyio.from_thread.BlockingPortal) -> None:
        self._inner = inner
        self._portal = portal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(found):
            return _Awaited(found, self._portal)
        return lambda *args, **kwargs: self._portal.call(functools.partial(found, *args, **kwargs))


# The real server.


@pytest.fixture(scope="module")
def prefect_here(in_process_app: EphemeralApp) -> Iterator[EphemeralApp]:
    """The server in this process, up for as long as this module wants it."""
    lease = HostedApp(in_process_app)
    lease.wait_started()
    yield in_process_app
    lease.close()
    assert lease.wait_closed()


@pytest.fixture
def nothing_is_left() -> None:
    """Instead of the check after each test; what it looks at is checked by the fixture above."""


@pytest.fixture(params=["in-process", "http"])
def api(request: pytest.FixtureRequest, prefect_here: EphemeralApp, server_url: str) -> Any:
    return server_url if request.param == "http" else prefect_here


@pytest.fixture
def operations(api: Any, kind: str) -> Iterator[Any]:
    with operations_of(kind, api) as operations:
        yield operations


@pytest.fixture
def name() -> str:
    return f"openapi-{uuid.uuid4()}"


def test_operations_of_prefects_server_do_what_they_say(operations: Any, name: str) -> None:
    ops = operations
    flow = ops.flows.create_flow(name=name, tags=["a", "b"])
    assert isinstance(flow, dict)
    assert ops.flows.read_flow(flow["id"]) == ops.flows.read_flow(id=uuid.UUID(flow["id"]))
    assert ops.flows.read_flow_by_name(name)["tags"] == ["a", "b"]
    assert ops.flows.update_flow(flow["id"], tags=["c"]) is None
    assert ops.flows.read_flows(flows={"name": {"any_": [name]}}, limit=5)[0]["tags"] == ["c"]
    assert ops.flows.count_flows(flows={"name": {"any_": [name]}}) == 1
    assert isinstance(ops.flows.count_flows(), int)

    run = ops.flow_runs.create_flow_run(
        flow_id=flow["id"], parameters={"x": 1}, state={"type": "PENDING"}
    )
    result = ops.flow_runs.set_flow_run_state(run["id"], state={"type": "RUNNING"}, force=True)
    assert result["status"] == "ACCEPT"
    states = ops.flow_run_states.read_flow_run_states(flow_run_id=run["id"])
    assert [state["type"] for state in states] == ["PENDING", "RUNNING"]
    now = datetime.now(timezone.utc)
    ops.logs.create_logs(
        [{"name": "n", "level": 20, "message": "hello", "timestamp": now, "flow_run_id": run["id"]}]
    )
    logs = ops.logs.read_logs(logs={"flow_run_id": {"any_": [run["id"]]}})
    assert [log["message"] for log in logs] == ["hello"]
    assert "hello" in ops.flow_runs.download_logs(run["id"])  # text, though described as JSON
    ops.flow_runs.create_flow_run_input(run["id"], key="k", value='"v"')
    assert json.loads(ops.flow_runs.read_flow_run_input(run["id"], "k")) == "v"
    assert ops.flow_runs.update_flow_run_labels(run["id"], {"team": "data"}) is None
    assert ops.flow_runs.read_flow_run(run["id"])["labels"]["team"] == "data"
    history = ops.flow_runs.flow_run_history(
        history_start=now - timedelta(minutes=5),
        history_end=now + timedelta(minutes=5),
        history_interval_seconds=60,
        flows={"name": {"any_": [name]}},
    )
    assert sum(state["count_runs"] for each in history for state in each["states"]) == 1

    pool = ops.work_pools.create_work_pool(name=name, type="process", description=None)
    assert pool["description"] is None
    assert ops.work_pools.update_work_pool(name, is_paused=True) is None
    assert ops.work_pools.read_work_pool(name)["is_paused"] is True
    assert [each["name"] for each in ops.work_pools.read_work_queues(name)] == ["default"]
    assert ops.work_pools.delete_work_pool(name) is None

    ops.variables.create_variable(name=name.replace("-", "_"), value={"deep": [1, None]})
    assert ops.variables.read_variable_by_name(name.replace("-", "_"))["value"] == {
        "deep": [1, None]
    }
    assert ops.admin.read_version().count(".") >= 2
    assert ops.root.health_check() is True
    assert ops.flows.delete_flow(flow["id"]) is None
    with pytest.raises(ObjectNotFound, match=f"There is no object at /flows/{flow['id']}"):
        ops.flows.read_flow(flow["id"])


def test_errors_are_those_of_every_operation(operations: Any, name: str) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="422") as caught:
        operations.flows.read_flows(limit="nonsense")
    assert caught.value.fields[0].location == "body.limit"
    with pytest.raises(ObjectNotFound, match="There is no object at /flows/nonsense"):
        operations.flows.read_flow("nonsense")
    operations.work_pools.create_work_pool(name=name, type="process")
    with pytest.raises(ObjectAlreadyExists, match="already exists"):
        operations.work_pools.create_work_pool(name=name, type="process")
    with pytest.raises(TypeError, match="did you mean"):
        operations.work_pools.create_work_pool(name=name, typ="process")


def test_every_operation_of_the_server_is_there(api: Any, kind: str) -> None:
    with SyncPrefectClient(api) as client:
        listed = client.request("GET", "/openapi.json").json()["paths"]
        wanted = {(method.upper(), path) for path, item in listed.items() for method in item}
        assert len(wanted) >= 180
        rows = {row.request for row in client.operations.load()}
        assert rows == {f"{method} {path}" for method, path in wanted}
        assert len(client.operations) == len(wanted)


def test_prefects_server_is_known_by_what_it_calls_itself(server_url: str) -> None:
    """Of no other is it known which of its operations may be sent again."""
    with SyncPrefectClient(server_url) as client:
        content = client.request("GET", "/openapi.json").content
    described = read_description(content, PREFECT).operations
    assert all(operation.patch_sets_values for operation in described)
    reads = {operation.path for operation in described if operation.is_read}
    assert {"/flow_runs/filter", "/flow_runs/count", "/flow_runs/history"} <= reads


def test_signatures_and_help_are_real(server_url: str, kind: str) -> None:
    with operations_of(kind, server_url) as operations:
        flow_runs = operations.flow_runs
        flow_runs = getattr(flow_runs, "_inner", flow_runs)
        method = flow_runs.read_flow_run
        assert inspect.iscoroutinefunction(method) is (kind == "async")
        assert str(inspect.signature(method)) == "(id: uuid.UUID | str) -> dict[str, typing.Any]"
        assert typing.get_type_hints(method) == {"id": uuid.UUID | str, "return": dict[str, Any]}
        out = io.StringIO()
        pydoc.Helper(output=out).help(flow_runs.read_flow_runs)
        assert "read_flow_runs(*, " in " ".join(out.getvalue().split()).replace("( *", "(*")
        assert "limit: int" in out.getvalue()
        assert "flow_runs: (FlowRunFilter: operator, id, name" in out.getvalue()
        for group_name in dir(getattr(operations, "_inner", operations)):
            group = getattr(getattr(operations, "_inner", operations), group_name)
            for name in dir(group) if group_name != "load" else ():
                each = getattr(group, name)
                assert each.__name__ == name
                typing.get_type_hints(each)
        text = repr(flow_runs)
        assert text.startswith("<flow_runs: ")
        assert "read_flow_run " in text
        assert "GET /flow_runs/{id}" in text


# Tab and attributes.


def completions(text: str, **names: Any) -> list[str]:
    """What Tab gives in a real IPython, as a notebook has it."""
    from IPython.core.completer import provisionalcompleter
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.user_ns.update(names)
    assert shell.Completer.use_jedi
    with provisionalcompleter():
        found = [each.text.lstrip(".") for each in shell.Completer.completions(text, len(text))]
    for name in names:
        del shell.user_ns[name]
    return found


@pytest.mark.parametrize(
    "text", ["client.operations.flow_runs.", "client.operations.flow_runs.read_flow"]
)
def test_tab_finds_operations_at_once(server_url: str, kind: str, text: str) -> None:
    async def complete() -> list[str]:
        async with PrefectClient(server_url) as client:
            return completions(text, client=client)

    if kind == "async":
        found = asyncio.run(complete())
    else:
        with SyncPrefectClient(server_url) as client:
            found = completions(text, client=client)
    assert {"read_flow_run", "read_flow_runs"} <= set(found)


def test_tab_finds_groups(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        assert {"flow_runs", "work_pools", "load"} <= set(
            completions("client.operations.", client=client)
        )
        assert "operations" in completions("client.oper", client=client)


def test_tab_without_a_server_is_quiet_and_a_use_is_not(kind: str) -> None:
    with http_server(lambda _: (500, {}, b"")) as url:
        pass  # nobody is there any more
    with operations_of(kind, f"{url}/api") as operations:
        inner = getattr(operations, "_inner", operations)
        assert dir(inner) == ["load"]
        assert repr(inner) == f"<operations of {url}/api: not loaded yet>"
        assert inner
        with pytest.raises(httpx.ConnectError):
            operations.flows  # noqa: B018 - to be looked up
        with pytest.raises(httpx.ConnectError):
            operations.load()


def test_tools_that_look_for_hooks_cause_no_request(kind: str) -> None:
    wire = Scripted(lambda request: httpx.Response(500))
    with operations_of(kind, "http://server/api", httpx_settings={"transport": wire}) as operations:
        inner = getattr(operations, "_inner", operations)
        for hook in ("_repr_html_", "_ipython_display_", "__wrapped__", "_ipython_canary_method_x"):
            assert not hasattr(inner, hook)
        repr(inner)
        bool(inner)
        list(inner)
        inspect.unwrap(inner)
    assert wire.requests == []


def test_an_async_client_that_is_not_open_says_so() -> None:
    client = PrefectClient("http://server/api")
    with pytest.raises(ClientClosed, match="not open"):
        client.operations.flows  # noqa: B018 - to be looked up
    assert dir(client.operations) == ["load"]


def test_a_client_is_not_held_by_its_operations() -> None:
    client = SyncPrefectClient("http://server/api")
    operations, ref = client.operations, weakref.ref(client)
    assert client.operations is operations
    gc.disable()
    try:
        del client
        assert ref() is None
    finally:
        gc.enable()
    with pytest.raises(ClientClosed, match="no longer exists"):
        operations.load()


def test_a_group_that_is_not_there_suggests_others(odd_app: FastAPI) -> None:
    with SyncPrefectClient(odd_app) as client:
        with pytest.raises(AttributeError, match="did you mean items"):
            client.operations.itemz  # noqa: B018 - to be looked up
        with pytest.raises(AttributeError, match=r"did you mean items\.read_item\?"):
            client.operations.read_item  # noqa: B018 - to be looked up


def test_in_the_code_of_a_hosted_app_it_says_what_to_do_instead_of_waiting_for_itself(
    odd_app: FastAPI,
) -> None:
    async def look() -> tuple[str, Any]:
        async with PrefectClient(odd_app) as client:
            try:
                client.operations.items  # noqa: B018 - to be looked up
            except RuntimeError as exc:
                await client.operations.load()
                return str(exc), await client.operations.items.read_item(1)
            return "", None

    with lease_host() as host:
        words, item = call_on(host, look())
    assert "await client.operations.load()" in words
    assert item["item_id"] == 1


@pytest.mark.parametrize("mounted", [False, True])
def test_a_transport_that_is_only_async_needs_an_await(mounted: bool) -> None:
    class OnlyAsync(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=document({"/a": {"get": {"tags": ["t"]}}}))

    async def look() -> None:
        options = {"mounts": {"http://": OnlyAsync()}} if mounted else {"transport": OnlyAsync()}
        async with PrefectClient("http://server/api", httpx_settings=options) as client:
            assert dir(client.operations) == ["load"]
            with pytest.raises(RuntimeError, match=r"await client\.operations\.load"):
                client.operations.t  # noqa: B018 - to be looked up
            await client.operations.load()
            assert dir(client.operations.t) == ["get_a"]

    asyncio.run(look())


def test_the_twin_has_the_credentials_and_no_patience() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(503)

    async def look() -> None:
        options = {
            "transport": Scripted(answer),
            "retry_policy": RetryPolicy(max_retries=3),
            "sleep": anyio.sleep,
        }
        async with PrefectClient(
            "http://server/api", auth_string="u:p", httpx_settings=options
        ) as client:
            with pytest.raises(PrefectHTTPStatusError, match="503"):
                client.operations.x  # noqa: B018 - to be looked up

    asyncio.run(look())
    assert len(asked) == 1
    assert asked[0].headers["Authorization"].startswith("Basic ")


@pytest.mark.parametrize("mounted", [False, True])
def test_the_twin_leaves_the_clients_transports_open(kind: str, mounted: bool) -> None:
    class Closing(Scripted):
        closed = False

        def close(self) -> None:
            self.closed = True

    wire = Closing(Server())
    options = {"mounts": {"http://": wire, "https://": None}} if mounted else {"transport": wire}
    with operations_of(kind, "http://server/api", httpx_settings=options) as operations:
        assert dir(getattr(operations, "_inner", operations)) == ["load", "t"]
        assert not wire.closed


# Any app.


class Item(BaseModel):
    name: str
    price: float | None = None


@pytest.fixture
def odd_app() -> FastAPI:
    app = FastAPI(title="Odd")

    @app.get("/items/{item_id}")
    def read_item(item_id: int, tags: list[str] = Query([]), on: bool = False) -> Any:  # noqa: B008
        if item_id == 404:
            raise HTTPException(404, "no such item")
        return {"item_id": item_id, "tags": tags, "on": on}

    @app.put("/items/{item_id}", tags=["Items & More"])
    def write_item(item_id: int, item: Item) -> Item:
        return item

    @app.get("/files/{file_path:path}", response_class=PlainTextResponse)
    def read_file(file_path: str) -> str:
        return f"file {file_path}"

    def takes(media_type: str, **properties: Any) -> Any:
        schema = {"type": "object", "properties": properties}
        return {"requestBody": {"required": True, "content": {media_type: {"schema": schema}}}}

    text, file = {"type": "string"}, {"type": "string", "format": "binary"}

    @app.post("/upload", openapi_extra=takes("multipart/form-data", file=file, note=text))
    async def upload(request: Request) -> Any:
        head = f"Content-Type: {request.headers['content-type']}\n\n".encode()
        message = email.message_from_bytes(head + await request.body())
        return [
            [
                part.get_param("name", header="content-disposition"),
                part.get_filename(),
                part.get_payload(),
            ]
            for part in typing.cast(list[email.message.Message], message.get_payload())
        ]

    @app.post("/form", openapi_extra=takes("application/x-www-form-urlencoded", user=text, on=text))
    async def form(request: Request) -> Any:
        return [request.headers["content-type"], (await request.body()).decode()]

    @app.post("/raw", openapi_extra=takes("text/csv"))
    async def raw(request: Request) -> Any:
        return [request.headers["content-type"], (await request.body()).decode()]

    @app.get("/bytes")
    def some_bytes() -> Response:
        return Response(b"\x00\xff", media_type="application/octet-stream")

    @app.get("/page", response_class=HTMLResponse)
    def page() -> str:
        return "<p>hello</p>"

    @app.get("/login-page")
    def login() -> Any:
        return HTMLResponse("<form>")

    @app.get("/load", tags=["load"])
    def load(x_trace: str = Header("none")) -> Any:
        return x_trace

    @app.post("/class", tags=["import"], status_code=204)
    def import_(payload: list[int]) -> None:
        return None

    return app


def test_any_app_with_a_document_has_operations(odd_app: FastAPI, kind: str) -> None:
    with operations_of(kind, odd_app) as ops:
        assert ops.items.read_item(3, tags=["a", "b"], on=True) == {
            "item_id": 3,
            "tags": ["a", "b"],
            "on": True,
        }
        assert ops.items_more.write_item(1, name="n") == {"name": "n", "price": None}
        assert ops.files.read_file("a/b c.txt") == "file a/b c.txt"
        assert ops.upload.upload(file=b"12345", note="x") == [
            ["file", "file", "12345"],
            ["note", None, "x"],
        ]
        assert ops.upload.upload(file=("n.txt", io.BytesIO(b"1"))) == [["file", "n.txt", "1"]]
        assert ops.form.form(user="me & you", on=True) == [
            "application/x-www-form-urlencoded",
            "user=me+%26+you&on=true",
        ]
        assert ops.raw.raw("a,b") == ["text/csv", "a,b"]
        assert ops.bytes.some_bytes() == b"\x00\xff"
        assert ops.page.page() == "<p>hello</p>"
        with pytest.raises(UnexpectedAnswer, match="text/html"):
            ops.login_page.login()
        assert ops.load_.load(x_trace="t") == "t"
        assert ops.import_.import_([1, 2]) is None
        with pytest.raises(ObjectNotFound, match="no such item"):
            ops.items.read_item(404)


def test_an_app_is_asked_again_by_the_next_client(odd_app: FastAPI, cache_folder: Path) -> None:
    with SyncPrefectClient(odd_app) as client:
        client.operations.load()

        @odd_app.get("/new")
        def new() -> int:
            return 3

        odd_app.openapi_schema = None
        with pytest.raises(AttributeError):
            client.operations.new  # noqa: B018 - to be looked up
        assert client.operations.load(refresh=True).new.new() == 3
    assert not cache_folder.exists()


def test_an_app_without_a_document_is_an_error_that_says_so(kind: str) -> None:
    with operations_of(kind, tiny_api) as ops:
        with pytest.raises(ObjectNotFound, match="There is no OpenAPI document"):
            ops.load()
        with pytest.raises(ObjectNotFound, match="There is no OpenAPI document"):
            ops.flows  # noqa: B018 - to be looked up
    with operations_of(kind, FastAPI(openapi_url=None)) as ops, pytest.raises(ObjectNotFound):
        ops.load()


def test_a_page_where_the_document_should_be_is_an_error(kind: str) -> None:
    page = (200, {"content-type": "text/html"}, b"<html>")
    with http_server(lambda _: page) as url, operations_of(kind, f"{url}/api") as ops:
        with pytest.raises(UnexpectedAnswer, match="not JSON"):
            ops.load()
        assert dir(getattr(ops, "_inner", ops)) == ["load"]


ENDLESS = b"transfer-encoding: chunked\r\n"
HUGE = b"content-length: 1000000000\r\n"
PACKED = b"transfer-encoding: chunked\r\ncontent-encoding: gzip\r\n"


@pytest.mark.parametrize("head", [ENDLESS, HUGE, PACKED], ids=["endless", "huge", "packed"])
@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (b"200 OK", UnexpectedAnswer, "more than 20,000,000 bytes, and was not read"),
        (b"400 Bad Request", PrefectHTTPStatusError, "more than 1,000,000 bytes and was not read"),
    ],
)
def test_a_document_beyond_measure_is_not_read_to_its_end(
    kind: str, status: bytes, error: type[Exception], words: str, head: bytes
) -> None:
    sent = 0
    packer = zlib.compressobj(wbits=31)

    def serve(near: socket.socket) -> None:
        nonlocal sent
        with near, suppress(OSError):  # the client is to go
            while request := near.recv(65_536):
                if not request.startswith(b"GET /api/openapi.json"):
                    near.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                    continue
                near.sendall(b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n")
                for _ in range(100):
                    data = bytes(1_000_000)
                    if head is PACKED:
                        data = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
                    if head is not HUGE:
                        data = b"%x\r\n%b\r\n" % (len(data), data)
                    near.sendall(data)
                    sent += len(data)

    options = {"retry_policy": RetryPolicy(max_retries=0)}
    with (
        listening(serve) as port,
        operations_of(kind, f"http://127.0.0.1:{port}/api", httpx_settings=options) as ops,
        pytest.raises(error, match=words),
    ):
        ops.load()
    assert sent < 40_000_000


def test_only_the_apis_own_place_is_asked_over_http(kind: str) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(404, json={})

    options = {"transport": Scripted(answer)}
    with (
        operations_of(kind, "http://u:secret@server/a/api", httpx_settings=options) as ops,
        pytest.raises(ObjectNotFound) as caught,
    ):
        ops.load()
    assert asked == ["http://server/a/api/admin/version", "http://server/a/api/openapi.json"]
    assert "secret" not in str(caught.value)


# The cache.


class Server:
    """A server with a version and a document, which counts what it is asked."""

    def __init__(self, version: str | None = "1.0", name: str = "first") -> None:
        self.version, self.name = version, name
        self.asked: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        what = request.url.path.rpartition("/")[2]
        self.asked.append(what)
        if what == "version":
            return (
                httpx.Response(200, json=self.version)
                if self.version
                else httpx.Response(404, json={})
            )
        if what == "openapi.json":
            return httpx.Response(
                200, content=document({"/a": {"get": {"operationId": self.name, "tags": ["t"]}}})
            )
        return httpx.Response(200, json=what)

    def names(self, url: str = "http://server/api", **options: Any) -> list[str]:
        """What a new client finds; ``asked`` is then what this client asked for."""
        self.asked.clear()
        with SyncPrefectClient(url, httpx_settings={"transport": Scripted(self)}) as client:
            return dir(client.operations.load(**options).t)


def test_a_document_is_fetched_once_for_a_version(cache_folder: Path) -> None:
    server = Server()
    assert server.names() == ["first"]
    assert server.asked == ["version", "openapi.json"]
    (file,) = cache_folder.iterdir()
    assert file.stat().st_size < 1000
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(cache_folder.stat().st_mode) == 0o700
    server.name = "second"
    assert server.names() == ["first"]
    assert server.asked == ["version"]
    assert server.names("http://user:secret@server/api") == ["first"]
    assert server.names(refresh=True) == ["second"]
    assert server.asked == ["version", "openapi.json"]
    server.version = "1.1"
    server.name = "third"
    assert server.names() == ["third"]
    assert server.names("http://other/api") == ["third"]
    assert len(list(cache_folder.iterdir())) == 3


def test_a_server_without_a_version_is_asked_each_time(cache_folder: Path) -> None:
    server = Server(version=None)
    assert server.names() == ["first"]
    server.name = "second"
    assert server.names() == ["second"]
    assert not cache_folder.exists()


def test_a_client_fetches_once(cache_folder: Path) -> None:
    server = Server()
    with SyncPrefectClient(
        "http://server/api", httpx_settings={"transport": Scripted(server)}
    ) as client:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: client.operations.t.first(), range(8))) == {"a"}
        client.operations.load()
    assert server.asked.count("openapi.json") == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_tasks_that_load_at_once_share_one_fetch(backend: str, cancelled: bool) -> None:
    server = Server(version=None)

    class Held(Scripted):
        """Keeps the first request until the others have had their turn."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await anyio.wait_all_tasks_blocked()
            return await super().handle_async_request(request)

    async def load_all() -> None:
        wire = Held(server)
        async with PrefectClient("http://server/api", httpx_settings={"transport": wire}) as client:
            first = anyio.CancelScope()

            async def load_first() -> None:
                with first:
                    await client.operations.load()

            async with anyio.create_task_group() as group:
                group.start_soon(load_first)
                await anyio.lowlevel.checkpoint()
                for _ in range(4):
                    group.start_soon(client.operations.load)
                if cancelled:
                    first.cancel()
            assert first.cancelled_caught is cancelled
            assert dir(client.operations.t) == ["first"]

    anyio.run(load_all, backend=backend)
    assert server.asked == ["version", "openapi.json"]


def _a_pipe(file: Path) -> None:
    os.mkfifo(file)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.write_bytes(b""), id="empty"),
        pytest.param(lambda file: file.write_bytes(b'{"openapi": "3.1.0", "pat'), id="half"),
        pytest.param(lambda file: file.write_bytes(b"[" * 100_000), id="deep"),
        pytest.param(lambda file: file.write_bytes(document([1])), id="broken"),
        pytest.param(lambda file: (file.write_bytes(document()), file.chmod(0o666)), id="anybodys"),
        pytest.param(lambda file: file.symlink_to("/dev/zero"), id="endless"),
        pytest.param(_a_pipe, id="pipe"),
        pytest.param(lambda file: os.truncate(file.open("wb").name, 21_000_000), id="huge"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="modes, links and pipes as POSIX has them")
def test_a_spoilt_file_is_replaced(cache_folder: Path, spoil: Callable[[Path], object]) -> None:
    server = Server()
    server.names()
    (file,) = cache_folder.iterdir()
    file.unlink()
    spoil(file)
    assert server.names() == ["first"]
    assert server.asked == ["version", "openapi.json"]
    assert server.names() == ["first"]
    assert server.asked == ["version"]


def test_a_folder_that_cannot_be_used_is_done_without(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "file"))
    assert (
        user_cache_folder("openapi").is_relative_to(tmp_path / "file") or sys.platform == "darwin"
    )
    assert Server().names() == ["first"]


def test_prefects_document_is_kept_for_the_server_in_this_process(
    prefect_here: EphemeralApp, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SyncPrefectClient(prefect_here) as client:
        client.operations.load()
    (file,) = cache_folder.iterdir()
    began = time.perf_counter()
    with SyncPrefectClient(prefect_here) as client:
        assert len(client.operations.load()) >= 180
    assert time.perf_counter() - began < 1
    assert file.read_bytes().startswith(b"{")


def test_the_cache_is_not_looked_for_before_it_is_wanted(tmp_path: Path) -> None:
    code = """
        import sys
        from orchnb import SyncPrefectClient
        print("platformdirs" in sys.modules)
    """
    assert run_script(code, tmp_path).stdout == "False\n"
