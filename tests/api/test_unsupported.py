"""Operations that a server does not have, as its version is another one than they are made for."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from packaging.version import Version

from orchnb import PrefectHTTPStatusError
from orchnb.errors import OperationNotFound
from orchnb.http.retry import RetryPolicy
from tests.api import both
from tests.api.conftest import opened
from tests.api.fakes import FLOW_ID, Scripted

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left

SINCE = {
    "bulk_create_flow_runs_from_deployment": ("3.6.16", (FLOW_ID, [])),
    "bulk_delete_deployments": ("3.6.16", ({},)),
    "bulk_delete_flow_runs": ("3.6.16", ({"name": {"any_": []}},)),
    "bulk_delete_flows": ("3.6.16", ({"name": {"any_": []}},)),
    "bulk_set_flow_run_state": ("3.6.16", ({"name": {"any_": []}}, "CANCELLING")),
    "clear_server_default_result_storage": ("3.7", ()),
    "read_server_default_result_storage": ("3.7", ()),
    "read_work_pool_concurrency_status": ("3.6.23", ("no-such-pool",)),
    "read_work_queue_concurrency_status": ("3.6.23", (FLOW_ID,)),
    "update_server_default_result_storage": ("3.7", (FLOW_ID,)),
}
"""What not every server of a supported version has: from which on, and arguments that do no harm."""


@pytest.mark.parametrize("operation", SINCE)
def test_what_a_server_does_not_have_is_told_with_its_version(client: Any, operation: str) -> None:
    """On the real server: an old one refuses by this error, a new one by another, or does it."""
    since, arguments = SINCE[operation]
    error = None
    try:
        getattr(client, operation)(*arguments)
    except PrefectHTTPStatusError as exc:
        error = exc
    here = both.SERVERS_VERSION
    if here >= Version(since):
        assert error is None or type(error).__name__ == "ObjectNotFound"
        return
    assert type(error).__name__ == "OperationNotFound"
    assert str(error).startswith(f"The server, version {here}, does not have {operation}: 404")
    assert "usually a newer one; client.operations lists the operations of this one" in error.hint
    assert error.__context__ is None or error.__suppress_context__
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_what_only_the_cloud_has_is_told(client: Any) -> None:
    """No version of Prefect's server has branches."""
    with pytest.raises(OperationNotFound, match="does not have create_deployment_branch: 404"):
        client.create_deployment_branch(FLOW_ID, "trial")


# Servers that the real one cannot be made to be.


def server(
    *paths: str, version: int = 200, base: str = "/api"
) -> Callable[[httpx.Request], httpx.Response]:
    """One that describes these POSTs, and has no others."""
    document = {
        "openapi": "3.1.0",
        "info": {"title": "Other", "version": "1"},
        "paths": {path: {"post": {"operationId": f"do{n}"}} for n, path in enumerate(paths)},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == f"{base}/admin/version":
            return httpx.Response(version, json="9.9\x1b[31m" if version == 200 else {})
        if request.url.path == f"{base}/openapi.json":
            return httpx.Response(200 if paths else 404, json=document)
        if "bulk_delete" in request.url.path:
            return httpx.Response(405, json={"detail": "Method Not Allowed"})
        return httpx.Response(404, json={"detail": "Not Found"})

    return answer


def asked(
    kind: str,
    answer: Callable[[httpx.Request], httpx.Response],
    operation: str,
    *arguments: Any,
    api: str = "http://orch.invalid/api",
) -> tuple[PrefectHTTPStatusError, list[str]]:
    """The error of an operation, and the paths that were asked for."""
    transport = Scripted(answer)
    options = {
        "transport": transport,
        "retry_policy": RetryPolicy(max_retries=0),
        "enable_csrf_support": False,
    }
    with (
        opened(kind, api, httpx_settings=options) as client,
        pytest.raises(PrefectHTTPStatusError) as caught,
    ):
        getattr(client, operation)(*arguments)
    return caught.value, [request.url.path for request in transport.requests]


def test_a_405_is_looked_into_as_well(kind: str) -> None:
    error, _ = asked(kind, server("/flows/filter"), "bulk_delete_flows", {})
    assert isinstance(error, OperationNotFound)
    assert error.status_code == 405
    assert "version 9.9, does not have bulk_delete_flows: 405 Method Not Allowed" in str(error)


def test_below_a_prefix_paths_are_told_from_others(kind: str) -> None:
    api = "http://orch.invalid/team/api"
    answer = server("/work_pools/{name}/concurrency_status", base="/team/api")
    error, _ = asked(kind, answer, "read_work_pool_concurrency_status", "a/b", api=api)
    assert type(error).__name__ == "ObjectNotFound"
    error, _ = asked(kind, answer, "read_work_queue_concurrency_status", FLOW_ID, api=api)
    assert type(error).__name__ == "OperationNotFound"
    error, paths = asked(kind, answer, "read_flow", FLOW_ID, api=api)
    assert type(error).__name__ == "ObjectNotFound"
    assert paths == [f"/team/api/flows/{FLOW_ID}"]


def test_a_server_without_a_version_is_told_by_its_document(kind: str) -> None:
    error, _ = asked(kind, server("/flows/filter", version=404), "bulk_delete_flows", {})
    assert "The server, by its own description, does not have bulk_delete_flows" in str(error)


def test_a_server_that_describes_nothing_leaves_the_error_as_it_was(kind: str) -> None:
    error, paths = asked(kind, server(), "bulk_delete_flows", {})
    assert type(error).__name__ == "PrefectHTTPStatusError"
    assert str(error).startswith("405 Method Not Allowed for POST")
    assert paths.count("/api/openapi.json") == 1
    error, _ = asked(kind, server(), "read_work_pool_concurrency_status", "lab")
    assert type(error).__name__ == "ObjectNotFound"


def test_the_error_is_not_lost_where_looking_fails(kind: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "openapi" in request.url.path or "version" in request.url.path:
            raise httpx.ReadError("gone", request=request)
        return httpx.Response(404, json={"detail": "Not Found"})

    error, _ = asked(kind, answer, "read_work_pool_concurrency_status", "lab")
    assert type(error).__name__ == "ObjectNotFound"
    assert error.__context__ is None or error.__suppress_context__


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, {"detail": "Flow run not found"}), (404, {}), (409, {"detail": "Not Found"}), (403, {})],
)
def test_other_errors_cost_no_further_request(kind: str, status: int, body: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json=body)

    _, paths = asked(kind, answer, "set_flow_run_state", FLOW_ID, "RUNNING")
    assert paths == [f"/api/flow_runs/{FLOW_ID}/set_state"]


def test_a_web_pages_404_or_405_is_not_looked_into(kind: str) -> None:
    for status in (404, 405):
        page = httpx.Response(status, html="<title>Not Found</title>")
        _, paths = asked(kind, lambda request, page=page: page, "bulk_delete_flows", {})
        assert paths == ["/api/flows/bulk_delete"]


def test_a_good_answer_costs_no_further_request(kind: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"deleted": [json.loads(request.content)["flows"]["id"]]})

    transport = Scripted(answer)
    options = {"transport": transport, "enable_csrf_support": False}
    with opened(kind, "http://orch.invalid/api", httpx_settings=options) as client:
        assert client.bulk_delete_flows({"id": FLOW_ID}) == [uuid.UUID(FLOW_ID)]
    assert len(transport.requests) == 1
