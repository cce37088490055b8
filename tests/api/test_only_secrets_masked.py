"""Errors show the server's explanation and the caller's ordinary values unchanged, and no secret."""

from __future__ import annotations

import pickle
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
from pydantic import SecretStr

import orchnb
from orchnb import PrefectHTTPStatusError, SyncPrefectClient
from orchnb.api.models import BlockDocument
from orchnb.hosting.ephemeral import EphemeralApp
from tests.api import both

pytestmark = both.SQLALCHEMY
name = both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left

SECRET = "hunter-two-of-twenty-two-" * 3


@pytest.fixture
def client(in_process_app: EphemeralApp) -> Iterator[SyncPrefectClient]:
    """One client on one server: both clients build their errors in one place."""
    with SyncPrefectClient(in_process_app) as client:
        yield client


def failing(function: Callable[..., Any], *args: Any, **kwargs: Any) -> PrefectHTTPStatusError:
    with pytest.raises(PrefectHTTPStatusError) as caught:
        function(*args, **kwargs)
    return caught.value


def told(error: PrefectHTTPStatusError) -> str:
    """What an error says: its texts, the server's, and the address."""
    return "\n".join(
        [str(error), error.hint, repr(error.fields), error.response.text, str(error.request.url)]
    )


def everything(error: PrefectHTTPStatusError) -> str:
    """What an error says and contains."""
    headers = (error.response.headers, error.request.headers)
    return told(error) + repr(vars(error)) + repr(headers) + repr(pickle.dumps(error))


# The real server


def with_schedule(client: Any, name: str, **schedule: str) -> None:
    flow = client.create_flow_from_name(name)
    client.create_deployment(flow, name, schedules=[{"schedule": schedule}])


ORDINARY: dict[str, tuple[Callable[[Any, str], object], str]] = {
    "a work pool": (
        lambda client, name: client.read_work_pool("production-pool"),
        'Work pool "production-pool" not found',
    ),
    "the work pool of a deployment": (
        lambda client, name: client.create_deployment(
            client.create_flow_from_name(name), name, work_pool_name="production-pool"
        ),
        'Work pool "production-pool" not found',
    ),
    "a cron": (
        lambda client, name: with_schedule(client, name, cron="every day at noon"),
        'Invalid cron string: "every day at noon"',
    ),
    "a time zone": (
        lambda client, name: with_schedule(client, name, cron="0 0 * * *", timezone="Europe/Zuric"),
        'Invalid timezone: "Europe/Zuric"',
    ),
    "a posture": (
        lambda client, name: client.create_automation(
            name,
            trigger={"type": "event", "posture": "Reactiv", "threshold": 1, "within": 0},
            actions=[{"type": "do-nothing"}],
        ),
        "Input should be Posture.Reactive or Posture.Proactive",
    ),
    "a query parameter": (
        lambda client, name: client.request(
            "GET",
            "/block_types/slug/secret/block_documents",
            params={"include_secrets": "perhaps"},
        ),
        "/block_documents?include_secrets=perhaps",
    ),
}


@pytest.mark.parametrize("case", ORDINARY)
def test_the_servers_explanation_is_shown_unchanged(client: Any, name: str, case: str) -> None:
    act, words = ORDINARY[case]
    error = failing(act, client, name)
    assert words in str(error)
    assert "***" not in told(error)


def test_a_secret_in_parameters_is_refused_and_not_shown(client: Any, name: str) -> None:
    with pytest.raises(ValueError, match=r"parameters\.password .* a wrapped secret") as caught:
        client.create_flow_run(name, parameters={"password": SecretStr(SECRET), "day": "monday"})
    assert SECRET not in f"{caught.value!r} {caught.value}"


@pytest.fixture
def document(client: Any, name: str) -> BlockDocument:
    """A block document with its schema, which says that ``password`` is secret."""
    kind = client.create_block_type(name=name, slug=name)
    schema = client.create_block_schema(
        fields={"title": name, "type": "object", "secret_fields": ["password"]},
        block_type_id=kind.id,
    )
    created = client.create_block_document(
        name="db",
        data={"host": "db.example", "password": SECRET},
        block_type_id=kind.id,
        block_schema_id=schema.id,
    )
    found = client.read_block_document(created.id)
    assert isinstance(found, BlockDocument)
    return found


def with_reference(field: str, value: object) -> Callable[[BlockDocument], dict[str, Any]]:
    """The data of a document in which this field refers to a block that cannot exist."""
    return lambda document: {**document.data, field: {"$ref": {"block_document_id": value}}}


@pytest.mark.parametrize("operation", ["create", "update"])
@pytest.mark.parametrize(
    ("field", "value", "seen"),
    [
        ("host", "db.example.com", "input_value='db.example.com', "),
        ("host", "db.example.com" * 9, "input_value='db.example.comdb"),
        ("password", SECRET, "input_value=***, "),
        ("password", SECRET[:24], "input_value='***', "),
        ("password", SecretStr(SECRET), "input_value=***, "),
    ],
)
def test_of_a_block_the_secret_fields_are_masked(
    client: Any, document: BlockDocument, operation: str, field: str, value: Any, seen: str
) -> None:
    """The server repeats a part of what is wrong."""
    document.data = with_reference(field, value)(document)
    if operation == "create":
        error = failing(client.create_block_document, document, name="other")
    else:
        error = failing(client.update_block_document, document.id, document)
    assert seen in error.detail
    assert SECRET[:8] not in everything(error)
    assert SECRET[-8:] not in everything(error)


def test_without_its_schema_all_of_a_block_is_secret(client: Any, document: BlockDocument) -> None:
    data = with_reference("host", "db.example.com")(document)
    error = failing(client.update_block_document, document.id, data=data)
    assert "input_value='***'" in error.detail


# A server that repeats everything

CREDENTIAL = "hunter-two/of?twenty"
WRITTEN = (CREDENTIAL, quote(CREDENTIAL, safe=""), b64encode(f"me:{CREDENTIAL}".encode()).decode())
ADDRESS = "http://server.test/api"
WITH_USER = f"http://me:{quote(CREDENTIAL, safe='')}@server.test/api"

GIVEN: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "an API key": (ADDRESS, {"api_key": CREDENTIAL}, {}),
    "an auth string": (ADDRESS, {"auth_string": f"me:{CREDENTIAL}"}, {}),
    "a header of the client": (ADDRESS, {"httpx_settings": {"headers": {"X-A": CREDENTIAL}}}, {}),
    "a header of the request": (ADDRESS, {}, {"headers": {"X-A": CREDENTIAL}}),
    "a cookie": (ADDRESS, {"httpx_settings": {"cookies": {"a": CREDENTIAL}}}, {}),
    "a user in the address": (WITH_USER, {}, {}),
    "a token in the query": (ADDRESS, {}, {"params": {"token": CREDENTIAL, "day": "monday"}}),
}


def repeat(request: httpx.Request) -> httpx.Response:
    """Repeat the request, also in the form in which its user wrote it."""
    if request.url.path == "/api/moved":
        target = (
            f"http://me:{quote(CREDENTIAL, safe='')}@other.test/api/there/{CREDENTIAL}?a=presigned"
        )
        return httpx.Response(307, headers={"Location": target})
    headers = dict(request.headers)
    basic = headers.get("authorization", "").partition("Basic ")[2]
    said = [str(headers), unquote(str(request.url)), b64decode(basic).decode()]
    body = {"detail": f"production-pool: {said}", "more": [*headers.values(), *said]}
    return httpx.Response(409, json=body, headers={"X-Said": str(said), "Server": str(said)})


@pytest.mark.parametrize("follows", [False, True], ids=["refused", "redirected"])
@pytest.mark.parametrize("given", GIVEN)
def test_of_a_request_the_credentials_are_masked(given: str, follows: bool) -> None:
    address, client_options, options = GIVEN[given]
    settings = {
        "transport": httpx.MockTransport(repeat),
        "follow_redirects": follows,
        **client_options.get("httpx_settings", {}),
    }
    with (
        orchnb.temporary_settings(client_csrf_support_enabled=False),
        SyncPrefectClient(address, **{**client_options, "httpx_settings": settings}) as client,
    ):
        error = failing(client.request, "POST", "/moved" if follows else "/x", **options)
    shown = everything(error)
    assert [form for form in WRITTEN if form in shown] == []
    assert "presigned" not in str(error.request.url), "an address that the server has chosen"
    assert error.detail.startswith("production-pool: ")
    if not follows:
        assert "***" in error.detail
