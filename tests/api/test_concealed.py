"""Secrets stay out of what shows objects and local variables, and reach the wire."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import logging
import pickle
import signal
import socket
import sys
import threading
import traceback
import uuid
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

import orchnb
from orchnb import PrefectClient, SyncPrefectClient
from orchnb.concealed import Body, ConcealedBytes, ConcealedDict, ConcealedText, ConcealedUrl
from orchnb.errors import InvalidSetting
from orchnb.redaction import SECRETS
from orchnb.settings import Settings
from tests.http.echo import echo_server
from tests.http.wire import Answer, http, wire

PART = 8
_KINDS = (
    "key",
    "auth",
    "custom",
    "user",
    "password",
    "header",
    "cookie",
    "kept",
    "served",
    "token",
    "body",
    "block",
    "wrapped",
)
CANARY = {
    kind: hashlib.sha256(kind.encode())
    .hexdigest()[:20]
    .translate(str.maketrans("0123456789abcdef", "ghjkmnpqrstvwxyz"))
    for kind in _KINDS
}


def forms(secret: str) -> Iterator[str]:
    """The secret, and what of it is sure to be in the base64 of a text that contains it."""
    yield secret
    for before in range(3):
        encoded = b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        yield encoded[4 if before else 0 : -1]


def leaks(text: str) -> set[str]:
    return {
        name
        for name, secret in CANARY.items()
        for form in forms(secret)
        for start in range(len(form) - PART + 1)
        if form[start : start + PART] in text
    }


def test_the_search_finds_parts_and_base64() -> None:
    secret = CANARY["auth"]
    for before in ("", "a", "ab", "abc"):
        assert "auth" in leaks("Basic " + b64encode(f"{before}{secret}:x".encode()).decode())
    assert leaks(repr(secret)) == {"auth"}
    assert leaks("nothing") == set()


def seen_in(value: Any, depth: int = 12, seen: set[int] | None = None) -> Iterator[str]:
    """The reprs of a value and of all that it has and holds."""
    seen = set() if seen is None else seen
    if id(value) in seen or depth == 0 or isinstance(value, SecretStr):
        return
    seen.add(id(value))
    yield repr(value)
    if isinstance(value, Mapping):
        inner: list[Any] = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = list(value)
    elif isinstance(value, type) or not type(value).__module__.startswith(
        ("orchnb", "httpx", "http.cookiejar")
    ):
        inner = []
    else:
        inner = list(getattr(value, "__dict__", {}).values())
        for kind in type(value).__mro__:
            names = getattr(kind, "__slots__", ())
            inner += [getattr(value, name, None) for name in names if isinstance(name, str)]
    for each in inner:
        yield from seen_in(each, depth - 1, seen)


def shown(value: Any) -> str:
    return "\n".join(seen_in(value))


def shown_of_error(error: BaseException) -> str:
    """All that an error tracker, a debugger or a pickle has of an error, with its causes; without this
    file's own functions, whose variables are the person's."""
    while (entry := error.__traceback__) and entry.tb_frame.f_globals.get("__name__") == __name__:
        error.__traceback__ = entry.tb_next
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    parts = [*told.format(), *page_of_error(error), str(error), repr(error), shown(vars(error))]
    if isinstance(error, (orchnb.OrchnbError, httpx.HTTPError)):
        parts.append(pickle.dumps(error).decode("latin-1"))
    return "\n".join(parts)


def page_of_error(error: BaseException) -> Iterator[str]:
    """What `cgitb` shows, which also looks up attributes that the lines of source name."""
    if sys.version_info >= (3, 13):
        return  # it has none
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import cgitb
    yield cgitb.text((type(error), error, error.__traceback__))  # type: ignore[arg-type] # may be None


# Clients

TOKEN = json.dumps({"token": CANARY["token"], "client": "c"}).encode()
COOKIE = f"Set-Cookie: session={CANARY['served']}; Path=/"


def with_credentials(url: str) -> str:
    return url.replace("//", f"//{CANARY['user']}:{CANARY['password']}@")


CLIENTS: dict[str, Callable[[type, str], Any]] = {
    "key": lambda kind, url: kind(url, api_key=CANARY["key"], httpx_settings=options()),
    "auth string": lambda kind, url: kind(
        url, auth_string=f"me:{CANARY['auth']}", httpx_settings=options()
    ),
    "url": lambda kind, url: kind(with_credentials(url), httpx_settings=options()),
    "httpx's auth": lambda kind, url: kind(
        url, httpx_settings={**options(), "auth": ("me", CANARY["auth"])}
    ),
}
SENT_BY = {"key": "key", "auth string": "auth", "url": "password", "httpx's auth": "auth"}


def options() -> dict[str, Any]:
    return {
        "headers": {"X-Kept": CANARY["kept"]},
        "cookies": {"a": CANARY["cookie"]},
        "timeout": httpx.Timeout(5, read=0.5),
    }


@pytest.fixture(params=[PrefectClient, SyncPrefectClient], ids=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    with orchnb.temporary_settings(
        client_custom_headers={"X-Team": CANARY["custom"]}, client_max_retries=0
    ):
        yield


def used(client: Any, *actions: Callable[[Any], Any]) -> list[Any]:
    """What the actions give on an open client, or the error that they raise."""

    async def use_async() -> list[Any]:
        results: list[Any] = []
        async with client:
            for action in actions:
                try:
                    results.append(await action(client))
                except BaseException as exc:
                    results.append(exc)
        return results

    if client.is_async:
        return asyncio.run(use_async())
    results: list[Any] = []
    with client:
        for action in actions:
            try:
                results.append(action(client))
            except BaseException as exc:
                results.append(exc)
    return results


def ask(client: Any) -> Any:
    """A request with secrets in every place; the caller's own frame holds none."""
    return client.request(
        "POST",
        "/x",
        headers={"X-Given": CANARY["header"]},
        json={"password": CANARY["body"]},
        params={"visible": "yes"},
    )


@pytest.mark.parametrize("way", CLIENTS)
def test_clients_and_responses_show_no_secret_and_send_it(kind: Any, way: str) -> None:
    with wire(http(200, TOKEN, COOKIE), http(200, b'{"a": 1}', COOKIE)) as server:
        client = CLIENTS[way](kind, server.url)
        before = shown(client)
        response, _, again, opened = used(
            client, ask, ask, ask, lambda client: _given(client, shown(client))
        )
    assert response.json() == again.json() == {"a": 1}
    for text in (before, opened, shown(client)):
        assert leaks(text) == set()
    assert "X-Kept" in before
    assert all(name in opened.lower() for name in ("x-team", "x-kept", "session"))
    assert "x-given" in shown(again).lower(), "names are shown"
    assert leaks(shown(response) + pickle.dumps(response).decode("latin-1")) == set()
    assert leaks(shown(again) + pickle.dumps(again).decode("latin-1")) == set()
    sent = server.requests[-1].decode()
    names = {"custom", "kept", "header", "cookie", "served", "token", "body", SENT_BY[way]}
    assert leaks(sent) >= names
    assert again.request.headers["X-Given"] == CANARY["header"], "the person can still ask"
    assert json.loads(again.request.content) == {"password": CANARY["body"]}
    assert "visible=yes" in repr(again.request)


def _given(client: Any, value: Any) -> Any:
    async def give() -> Any:
        return value

    return give() if client.is_async else value


# Errors


def ask_much(client: Any) -> Any:
    return client.request("PUT", "/x", json={"password": CANARY["body"], "more": "x" * 20_000_000})


def ask_wrongly(client: Any) -> Any:
    return client.request("GET", "/x", headers={"X-Given": CANARY["header"] + "\n"})


def ask_in_no_json(client: Any) -> Any:
    return client.request("POST", "/x", json={"password": CANARY["body"], "no": object()})


def ask_elsewhere(client: Any) -> Any:
    return client.request("GET", with_credentials("http://elsewhere.test/x"))


def create_block(client: Any) -> Any:
    return client.create_block_document(
        name="visible-name",
        data={"password": CANARY["block"], "key": [SecretStr(CANARY["wrapped"])]},
        block_type_id="00000000-0000-0000-0000-000000000001",
        block_schema_id="00000000-0000-0000-0000-000000000002",
    )


def create_block_from_dict(client: Any) -> Any:
    return client.create_block_document(
        {
            "name": "visible-name",
            "data": {"password": CANARY["block"], "key": SecretStr(CANARY["wrapped"])},
            "block_type_id": "00000000-0000-0000-0000-000000000001",
            "block_schema_id": "00000000-0000-0000-0000-000000000002",
        }
    )


def update_block(client: Any) -> Any:
    return client.update_block_document(
        "00000000-0000-0000-0000-000000000001",
        data={"password": CANARY["block"], "key": SecretStr(CANARY["wrapped"])},
    )


def update_block_badly(client: Any) -> Any:
    return client.update_block_document(
        "00000000-0000-0000-0000-000000000001", data={"password": CANARY["block"], "x": object()}
    )


def create_block_wrongly(client: Any) -> Any:
    return client.create_block_document(dta={"password": CANARY["block"]})


ECHO = json.dumps(
    {"detail": [{"loc": ["body"], "msg": "bad", "input": CANARY["body"]}]},
).encode()
DOCUMENT = json.dumps(
    {
        "openapi": "3.1.0",
        "info": {"title": "t", "version": "1"},
        "paths": {
            "/api/blocks": {
                "post": {
                    "tags": ["blocks"],
                    "operationId": "create_block",
                    "parameters": [{"name": "x-mine", "in": "header", "schema": {}}],
                    "requestBody": {
                        "content": {
                            "application/json": {
                                "schema": {"type": "object", "properties": {"data": {}}}
                            }
                        }
                    },
                }
            }
        },
    }
).encode()


def call_described(client: Any) -> Any:
    return client.operations.blocks.create_block(
        data={"password": CANARY["block"]}, x_mine=CANARY["header"]
    )


def call_described_wrongly(client: Any) -> Any:
    return client.operations.blocks.create_block(
        data={"password": CANARY["block"]}, x_mine=CANARY["header"] + "\n"
    )


def call_described_with_more(client: Any) -> Any:
    return client.operations.blocks.create_block(dta={"password": CANARY["block"]})


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (call_described, orchnb.PrefectHTTPStatusError),
        (call_described_wrongly, ValueError),
        (call_described_with_more, TypeError),
    ],
)
def test_no_error_of_a_described_operation_shows_a_secret(
    kind: Any, action: Callable[[Any], Any], expected: type[Exception]
) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        if request.url.path.endswith("openapi.json"):
            return httpx.Response(200, content=DOCUMENT)
        return httpx.Response(404 if request.method == "GET" else 422, content=ECHO)

    client = kind(
        "http://server.test/api",
        api_key=CANARY["key"],
        httpx_settings={**options(), "transport": httpx.MockTransport(answer)},
    )
    _, error = used(client, lambda client: client.operations.load(), action)
    assert isinstance(error, expected), error
    assert leaks(shown_of_error(error)) == set()
    if action is call_described:
        assert leaks(repr(sent[-1].headers) + str(sent[-1].content)) == set()
        assert sent[-1].headers["x-mine"] == CANARY["header"]
        assert json.loads(sent[-1].content) == {"data": {"password": CANARY["block"]}}


def read_block(client: Any) -> Any:
    return client.read_block_document("00000000-0000-0000-0000-000000000001")


BAD_BLOCK = json.dumps({"id": 5, "data": {"password": CANARY["block"]}}).encode()

FAILURES: dict[str, tuple[Callable[[Any], Any], Answer, type[BaseException]]] = {
    "401": (ask, http(401, b'{"detail": "no"}', COOKIE), orchnb.PrefectHTTPStatusError),
    "409": (ask, http(409), orchnb.PrefectHTTPStatusError),
    "422": (ask, http(422, ECHO), orchnb.PrefectHTTPStatusError),
    "503": (ask, http(503), orchnb.PrefectHTTPStatusError),
    "cut": (ask, lambda connection: None, orchnb.OutcomeUnknown),
    "no json": (read_block, http(200, f"<{CANARY['block']}".encode()), orchnb.UnexpectedAnswer),
    "no block": (read_block, http(200, BAD_BLOCK), orchnb.UnexpectedAnswer),
    "bad header": (ask_wrongly, http(200), httpx.LocalProtocolError),
    "not json": (ask_in_no_json, http(200), ValueError),
    "elsewhere": (ask_elsewhere, http(200), orchnb.ForeignAddress),
    "block exists": (create_block, http(409), orchnb.ObjectAlreadyExists),
    "block exists, given whole": (create_block_from_dict, http(409), orchnb.ObjectAlreadyExists),
    "block cut": (create_block, lambda connection: None, httpx.RemoteProtocolError),
    "block not changed": (update_block, http(422, ECHO), orchnb.PrefectHTTPStatusError),
    "no such argument": (create_block_wrongly, http(200), TypeError),
    "block not json": (update_block_badly, http(200), ValueError),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("way", ["key", "url"])
def test_no_error_shows_a_secret(kind: Any, name: str, way: str) -> None:
    action, answer, expected = FAILURES[name]
    with wire(http(200, TOKEN), answer) as server:
        (first, error) = used(CLIENTS[way](kind, server.url), ask_in_no_json, action)
        if name in ("no json", "no block", "bad header", "elsewhere"):  # they take no token
            (_, error) = used(CLIENTS[way](kind, server.url), action, action)
    assert isinstance(first, ValueError)
    assert isinstance(error, expected), error
    told = shown_of_error(error)
    assert leaks(told) == set()
    if "block" in name and "changed" not in name and name.startswith("block exists"):
        assert "visible-name" in told, "only what is secret is concealed"


def test_a_header_that_h11_refuses_is_not_shown(kind: Any) -> None:
    """orchnb does not check the headers of a request that httpx has built; h11 quotes them."""

    async def send_async() -> None:
        async with orchnb.PrefectHttpxAsyncClient() as client:
            await client.send(request)

    def send() -> None:
        if kind.is_async:
            asyncio.run(send_async())
        else:
            orchnb.PrefectHttpxSyncClient().send(request)

    with wire(http(200)) as server:
        request = httpx.Request("GET", server.url, headers={"X-Given": CANARY["header"] + "\n"})
        with pytest.raises(httpx.LocalProtocolError, match="Illegal header value") as caught:
            send()
    assert leaks(shown_of_error(caught.value)) == set()


def test_no_error_without_a_connection_shows_a_secret(kind: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    (error,) = used(CLIENTS["url"](kind, f"http://127.0.0.1:{port}/api"), ask)
    assert isinstance(error, httpx.ConnectError)
    assert leaks(shown_of_error(error)) == set()


def test_no_error_of_a_connection_that_stalls_while_sending_shows_a_secret(kind: Any) -> None:
    with (
        socket.create_server(
            ("127.0.0.1", 0)
        ) as listener,  # it takes no connection, and reads nothing
        orchnb.temporary_settings(client_csrf_support_enabled=False),
    ):
        url = with_credentials(f"http://127.0.0.1:{listener.getsockname()[1]}/api")
        client = kind(url, httpx_settings={**options(), "timeout": httpx.Timeout(5, write=0.3)})
        (error,) = used(client, ask_much)
    assert isinstance(error, httpx.WriteTimeout)
    told = shown_of_error(error)
    assert "httpcore" in told, "the frames are there"
    assert leaks(told) == set()


def test_no_time_out_shows_a_secret(kind: Any) -> None:
    with wire(lambda connection: server.hang(connection)) as server:
        (error,) = used(CLIENTS["url"](kind, server.url), ask)
        server.release.set()
    assert isinstance(error, httpx.ReadTimeout)
    assert leaks(shown_of_error(error)) == set()


def test_no_cancellation_shows_a_secret() -> None:
    async def cancelled(client: PrefectClient) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.1, task.cancel)
        await ask(client)

    with wire(lambda connection: server.hang(connection)) as server:
        (error,) = used(CLIENTS["url"](PrefectClient, server.url), cancelled)
        server.release.set()
    assert isinstance(error, asyncio.CancelledError)
    assert leaks(shown_of_error(error)) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="no signal ends a wait for a socket there")
def test_no_interrupt_shows_a_secret() -> None:
    main = threading.main_thread().ident
    assert main is not None

    with wire(lambda connection: server.hang(connection)) as server:

        def interrupt() -> None:
            server.hanging.wait(10)
            signal.pthread_kill(main, signal.SIGINT)

        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        client = CLIENTS["url"](SyncPrefectClient, server.url)
        client._httpx_settings["timeout"] = 30
        (error,) = used(client, ask)
        interrupter.join(10)
        server.release.set()
    assert isinstance(error, KeyboardInterrupt)
    assert leaks(shown_of_error(error)) == set()


@pytest.mark.parametrize(
    "data",
    [
        {"password": CANARY["block"], "n": [1, {"key": SecretStr(CANARY["wrapped"])}]},
        {"password": CANARY["block"], "n": [1, {"key": CANARY["wrapped"]}]},
    ],
)
def test_the_values_of_a_block_are_sent(kind: Any, data: Any) -> None:
    with (
        orchnb.temporary_settings(client_csrf_support_enabled=False),
        wire(http(409)) as server,
    ):
        used(
            kind(server.url),
            lambda client: client.create_block_document(
                name="n", data=data, block_type_id="1", block_schema_id="2"
            ),
            lambda client: client.create_block_document(
                {"name": "n", "data": data}, False, block_type_id="1", block_schema_id="2"
            ),
            lambda client: client.update_block_document(str(uuid.UUID(int=1)), data=data),
        )
    whole, starred, changed = (
        json.loads(request.partition(b"\r\n\r\n")[2])["data"] for request in server.requests
    )
    plain = {"password": CANARY["block"], "n": [1, {"key": CANARY["wrapped"]}]}
    assert whole == changed == plain
    is_wrapped = isinstance(data["n"][1]["key"], SecretStr)
    assert starred == {
        **plain,
        "n": [1, {"key": "**********" if is_wrapped else CANARY["wrapped"]}],
    }


@pytest.mark.parametrize("act", [create_block, create_block_from_dict, update_block])
def test_a_request_that_names_its_secrets_shows_none(kind: Any, act: Callable[[Any], Any]) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(404, json={"detail": request.content.decode()})

    transport = httpx.MockTransport(answer)
    with orchnb.temporary_settings(client_csrf_support_enabled=False):
        client = kind("http://server.test/api", httpx_settings={"transport": transport})
        (error,) = used(client, act)
    (request,) = sent
    assert {CANARY["block"], CANARY["wrapped"]} == set(request.extensions[SECRETS])
    assert leaks(shown(request) + repr(pickle.dumps(request))) == set()
    assert leaks(repr(pickle.dumps(request.extensions))) == set()
    assert leaks(shown_of_error(error)) == set()
    assert error.detail.count("***") == 2
    assert "password" in error.detail


# Logs


@pytest.mark.parametrize("http2", [False, True])
def test_no_log_shows_a_secret(kind: Any, http2: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with echo_server() as url, orchnb.temporary_settings(client_csrf_support_enabled=False):
        given = {**options(), "http1": not http2, "http2": http2}
        client = kind(with_credentials(url), httpx_settings=given)
        (response,) = used(
            client, lambda client: client.request("GET", "/x", headers=_given_header())
        )
    assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    loggers = {record.name.partition(".")[0] for record in caplog.records}
    assert {"httpx", "httpcore"} <= loggers
    assert ("hpack" in loggers) == http2
    assert leaks(caplog.text) == set()


def _given_header() -> dict[str, str]:
    return {"X-Given": CANARY["header"]}


def test_other_peoples_logs_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "httpx")
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with httpx.Client(transport=transport) as client:
        client.get("http://server.test/", params={"mine": "shown"})
    assert "http://server.test/?mine=shown" in caplog.text


# Settings


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settings(api_key=f"{CANARY['key']} x"),
        lambda: Settings(api_url=with_credentials("http://[bad")),
        lambda: Settings(client_custom_headers={"X": CANARY["custom"] + "\n"}),
        lambda: SyncPrefectClient("http://server.test", api_key=f"{CANARY['key']} x"),
        lambda: SyncPrefectClient("http://server.test", auth_string=f"{CANARY['auth']}\n"),
        lambda: SyncPrefectClient(with_credentials("http://server .test")),
        lambda: orchnb.get_client({"headers": {"X": CANARY["header"]}}, sync_client=True),
    ],
)
def test_no_bad_setting_is_shown(make: Callable[[], Any], monkeypatch: Any) -> None:
    monkeypatch.setenv("PREFECT_API_REQUEST_TIMEOUT", "long")
    with pytest.raises(InvalidSetting) as caught:
        make()
    assert leaks(shown_of_error(caught.value)) == set()


def test_no_bad_file_of_settings_is_shown(tmp_path: Path, monkeypatch: Any) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(f'[profiles.a]\nPREFECT_API_KEY = "{CANARY["key"]}"\n[profiles.b\n')
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profiles))
    with pytest.raises(InvalidSetting) as caught:
        Settings()
    assert leaks(shown_of_error(caught.value)) == set()


# The types

CONCEALED: dict[str, tuple[Any, Any]] = {
    "text": (ConcealedText("s3cret-text"), "s3cret-text"),
    "bytes": (ConcealedBytes(b"s3cret-text"), b"s3cret-text"),
    "body": (Body(b"s3cret-text"), b"s3cret-text"),
    "url": (ConcealedUrl("http://me:s3cret-text@server/api"), "http://me:s3cret-text@server/api"),
    "dict": (ConcealedDict(a="s3cret-text"), {"a": "s3cret-text"}),
}


@pytest.mark.parametrize("name", CONCEALED)
def test_a_concealed_value_equals_the_value_and_shows_nothing_of_it(name: str) -> None:
    value, plain = CONCEALED[name]
    assert value == plain
    assert copy.copy(value) == copy.deepcopy(value) == plain
    assert "s3cret" not in repr(value) + repr([value]) + f"{value!r}"
    if name != "dict":
        assert hash(value) == hash(plain)
        assert b"s3cret" not in pickle.dumps(value)


def test_what_httpx_makes_of_a_concealed_header_is_concealed() -> None:
    headers = httpx.Headers({"X-A": ConcealedText("s3cret-text")})
    headers["X-B"] = ConcealedText("s3cret-text")
    other = httpx.Headers(headers)
    other.update(headers)
    for each in (headers, other, headers.copy()):
        assert "s3cret" not in repr(each) + repr(each.raw) + repr(dict(each.items()))
        assert each["X-A"] == each["x-b"] == "s3cret-text"
