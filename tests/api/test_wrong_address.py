"""An API URL that is not quite right: the error says where the API is, and nothing reads as missing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from orchnb import ObjectNotFound, PrefectHTTPStatusError
from orchnb.errors import InvalidSetting, UnexpectedAnswer
from orchnb.http.retry import RetryPolicy
from orchnb.settings import Settings
from tests.api.conftest import opened
from tests.api.fakes import FLOW_ID, RUN_ID, Scripted


class BelowPrefix(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A proxy that serves a server below another path, and records its requests."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._sync, self._async = httpx.HTTPTransport(), httpx.AsyncHTTPTransport()
        self.paths: list[str] = []

    def _forwarded(self, request: httpx.Request) -> httpx.Request | None:
        path = request.url.raw_path.decode()
        self.paths.append(path)
        there = self._path_there(path)
        if there is None:
            return None
        return httpx.Request(
            request.method,
            request.url.copy_with(raw_path=there.encode()),
            headers=request.headers,
            stream=request.stream,
            extensions=request.extensions,
        )

    def _path_there(self, path: str) -> str | None:
        below = f"{path}/".startswith(f"{self._prefix}/")
        return (path.removeprefix(self._prefix) or "/") if below else None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        forwarded = self._forwarded(request)
        if forwarded is None:
            return httpx.Response(404, html="<title>No such app</title>")
        return self._sync.handle_request(forwarded)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        forwarded = self._forwarded(request)
        if forwarded is None:
            return httpx.Response(404, html="<title>No such app</title>")
        return await self._async.handle_async_request(forwarded)

    def close(self) -> None:
        self._sync.close()

    async def aclose(self) -> None:
        await self._async.aclose()


OPERATIONS: list[tuple[str, tuple[Any, ...]]] = [
    ("hello", ()),
    ("read_flows", ()),
    ("read_flow_run", (RUN_ID,)),
    ("read_flow_by_name", ("etl",)),
    ("read_work_pool_concurrency_status", ("lab",)),
    ("set_flow_run_state", (RUN_ID, "COMPLETED")),
    ("delete_flow_run", (RUN_ID,)),
    ("create_flow_run", (FLOW_ID,)),
]

# Prefix of the proxy, what is wrong after it, and how often it is looked for the API.
ADDRESSES = {
    "without /api": ("", "", 2),
    "a web page": ("", "/dashboard", 4),
    "a page of a run": ("", "/runs/flow-run/7", 4),
    "with a query": ("", "/api?x=1", 1),
    "below the API": ("", "/api/flows", 3),
    "without /api, below a prefix": ("/team", "/team", 2),
    "a web page below a prefix": ("/team", "/team/dashboard", 3),
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_error_says_where_the_api_is(server_url: str, kind: str, address: str) -> None:
    prefix, wrong, most = ADDRESSES[address]
    root = server_url.removesuffix("/api")
    transport = BelowPrefix(prefix)
    options = {"transport": transport, "retry_policy": RetryPolicy(max_retries=0)}
    options["enable_csrf_support"] = False
    with opened(kind, f"{root}{wrong}", httpx_settings=options) as client:
        for operation, arguments in OPERATIONS:
            with pytest.raises((UnexpectedAnswer, PrefectHTTPStatusError)) as caught:
                getattr(client, operation)(*arguments)
            assert not isinstance(caught.value, ObjectNotFound)
            assert f"Set PREFECT_API_URL={root}{prefix}/api" in str(caught.value), operation
    assert len(transport.paths) <= len(OPERATIONS) + most, "it is looked for once"
    assert not any("openapi" in path for path in transport.paths)


def test_a_good_address_is_not_looked_into(server_url: str, kind: str) -> None:
    transport = BelowPrefix("")
    options = {"transport": transport, "enable_csrf_support": False}
    with opened(kind, server_url, httpx_settings=options) as client:
        for _ in range(2):
            with pytest.raises(ObjectNotFound):
                client.read_flow_run(RUN_ID)
            with pytest.raises(ObjectNotFound, match="There is no work pool 'a/b'"):
                client.read_work_pool("a/b")  # a path that the server does not have
    assert len(transport.paths) == 4


def test_an_api_at_an_unusual_address_is_one(server_url: str, kind: str) -> None:
    """Its paths begin right after a prefix, as those of Prefect's cloud do."""
    root = server_url.removesuffix("/api")

    class Renamed(BelowPrefix):
        def _path_there(self, path: str) -> str:
            return path.replace("/orchestrator", "/api", 1)

    transport = Renamed("")
    options = {"transport": transport, "enable_csrf_support": False}
    with opened(kind, f"{root}/orchestrator", httpx_settings=options) as client:
        for _ in range(2):
            with pytest.raises(ObjectNotFound, match=f"There is no flow with the id '{RUN_ID}'"):
                client.read_flow(RUN_ID)
            with pytest.raises(ObjectNotFound, match="There is no work pool 'a/b'"):
                client.read_work_pool("a/b")  # a path that the server does not have
    assert transport.paths.count("/orchestrator/health") == 1


def test_no_credentials_are_sent_to_another_server(kind: str) -> None:
    transport = Scripted(lambda _: httpx.Response(404, html="<title>Lost</title>"))
    with (
        opened(kind, "http://one.invalid/x/y", httpx_settings={"transport": transport}) as client,
        pytest.raises(PrefectHTTPStatusError),
    ):
        client.read_flow_run(RUN_ID)
    assert {request.url.host for request in transport.requests} == {"one.invalid"}


def test_a_description_that_is_not_there_is_asked_for_once(kind: str) -> None:
    transport = Scripted(lambda _: httpx.Response(404, json={"detail": "Not Found"}))
    with opened(kind, "http://one.invalid/api", httpx_settings={"transport": transport}) as client:
        for _ in range(3):
            with pytest.raises(ObjectNotFound):
                client.read_work_pool_concurrency_status("lab")
    paths = [request.url.path for request in transport.requests]
    assert paths.count("/api/openapi.json") == 1


IDS = ("0" * 8 + "-0000-0000-0000-" + "0" * 12, "1" * 8 + "-0000-0000-0000-" + "1" * 12)


@pytest.mark.parametrize(
    ("path", "account", "workspace"),
    [
        (f"/account/{IDS[0]}/workspace/{IDS[1]}", *IDS),
        (f"/account/{IDS[0]}/workspace/{IDS[1]}/runs?page=1", *IDS),
        ("", "ACCOUNT", "WORKSPACE"),
        ("/auth/login", "ACCOUNT", "WORKSPACE"),
    ],
)
def test_a_page_of_the_cloud_is_refused_with_the_apis_address(
    path: str, account: str, workspace: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings(api_url=f"https://app.prefect.cloud{path}")
    assert str(caught.value) == (
        "api_url (argument) is the address of Prefect Cloud's web pages. The address of the API is "
        f"https://api.prefect.cloud/api/accounts/{account}/workspaces/{workspace}."
    )


def test_an_address_of_the_cloud_without_a_workspace_is_told(kind: str) -> None:
    transport = Scripted(lambda _: httpx.Response(404, json={"detail": "Not Found"}))
    url = "https://api.prefect.cloud/api"
    with (
        opened(kind, url, api_key="k", httpx_settings={"transport": transport}) as client,
        pytest.raises(PrefectHTTPStatusError) as caught,
    ):
        client.read_flow_run(RUN_ID)
    assert not isinstance(caught.value, ObjectNotFound)
    assert f"{url} is not the address of a workspace" in str(caught.value)
