"""The clients: opening and closing, loops, credentials, TLS, time-outs, CSRF."""

from __future__ import annotations

import asyncio
import base64
import gc
import ssl
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from orchnb import (
    ClientClosed,
    ForeignAddress,
    InvalidSetting,
    LifespanStartupFailed,
    PrefectClient,
    PrefectHTTPStatusError,
    ServerType,
    SyncPrefectClient,
    temporary_settings,
)
from orchnb.hosting import host
from orchnb.http.retry import RetryPolicy
from orchnb.runtime.loops import set_notebook_loop
from orchnb.settings import Settings
from tests.api.conftest import opened
from tests.api.fakes import Scripted, http_server, tiny_api
from tests.servers import prefect_home, prefect_server

URL = "http://orch.invalid/api"
CLOUD = "https://api.prefect.cloud/api/accounts/a/workspaces/w"


async def refusing(scope: Any, receive: Any, send: Any) -> None:
    """An app that does not start."""
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "out of disk"})


# Opening and closing.


@pytest.mark.anyio
async def test_a_client_is_reentrant_and_open_until_the_outermost_exit() -> None:
    client = PrefectClient(tiny_api)
    async with client as first:
        async with client as second:
            assert first is second is client
        assert await client.api_version() == "1.2.3"
    assert client.is_closed


def test_a_sync_client_is_reentrant_too() -> None:
    client = SyncPrefectClient(tiny_api)
    with client, client:
        pass
    assert client.is_closed


@pytest.mark.anyio
async def test_what_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(ClientClosed, match="not open: use it in `async with client:`"):
        await PrefectClient(tiny_api).api_version()


@pytest.mark.parametrize(
    ("in_a_notebook", "words"),
    [(False, "%load_ext orchnb makes"), (True, "The notebook's own client works in every thread")],
)
def test_in_a_thread_of_a_notebook_nobody_is_told_to_load_the_extension(
    in_a_notebook: bool, words: str
) -> None:
    loop = asyncio.new_event_loop()
    set_notebook_loop(loop if in_a_notebook else None)
    try:
        with ThreadPoolExecutor(1) as pool:
            error = pool.submit(asyncio.run, PrefectClient(tiny_api).api_version()).exception()
    finally:
        set_notebook_loop(None)
        loop.close()
    assert isinstance(error, ClientClosed)
    assert words in str(error)
    assert ("%load_ext" in str(error)) is not in_a_notebook


@pytest.mark.anyio
async def test_the_wrong_kind_of_with_names_the_right_one() -> None:
    with (
        pytest.raises(RuntimeError, match="write `async with`, not `with`"),
        PrefectClient(tiny_api),
    ):
        pass
    with pytest.raises(RuntimeError, match="write `with`, not `async with`"):
        async with SyncPrefectClient(tiny_api):
            pass


@pytest.mark.parametrize("api", ["http", "in-process"])
def test_a_sync_client_opens_itself(api: str, server_url: str) -> None:
    client = SyncPrefectClient(server_url if api == "http" else tiny_api)
    assert "not opened yet" in repr(client)
    with ThreadPoolExecutor(4) as pool:
        versions = {job.result() for job in [pool.submit(client.api_version) for _ in range(8)]}
    assert len(versions) == 1
    assert "(open)" in repr(client)
    http = client._http
    with client:
        assert client._http is http
        client.api_version()
    assert client.is_closed

    closed = SyncPrefectClient(server_url if api == "http" else tiny_api)
    closed.api_version()
    closed.close()
    assert closed.is_closed
    with pytest.raises(ClientClosed, match="was closed"):
        closed.api_version()


def test_a_sync_client_that_opened_itself_closes_when_nobody_holds_it(server_url: str) -> None:
    client = SyncPrefectClient(server_url)
    client.api_version()
    http = client._http
    assert http is not None
    del client
    gc.collect()
    assert http.is_closed


def test_a_client_that_was_never_used_is_closed_without_a_word() -> None:
    client = SyncPrefectClient(tiny_api)
    client.close()
    assert not client.is_closed


@pytest.mark.anyio
async def test_what_was_closed_says_so_and_stays_closed() -> None:
    client, plain = PrefectClient(tiny_api), SyncPrefectClient(tiny_api)
    async with client:
        pass
    with plain:
        pass
    match = r"was closed and cannot be opened again; get a new one with get_client\(\)"
    with pytest.raises(ClientClosed, match=match):
        await client.api_version()
    with pytest.raises(ClientClosed, match=match):
        async with client:
            pass
    with pytest.raises(ClientClosed, match=match):
        plain.api_version()
    with pytest.raises(ClientClosed, match=match):
        plain.open()
    await client.close()  # closing twice is fine
    plain.close()


def test_a_closed_client_says_so_on_any_loop() -> None:
    client = PrefectClient(tiny_api)

    async def use() -> None:
        async with client:
            pass

    asyncio.run(use())
    with pytest.raises(ClientClosed):
        asyncio.run(use())


def test_a_failing_start_leaves_nothing_open(kind: str) -> None:
    with pytest.raises(LifespanStartupFailed, match="out of disk"), opened(kind, refusing):
        pytest.fail("the body must not run")  # what is left is looked for after each test


def test_an_error_in_the_body_closes_the_client_and_goes_on(kind: str) -> None:
    with pytest.raises(LookupError), opened(kind, tiny_api):
        raise LookupError


def test_a_client_that_cannot_be_made_is_not_open_and_holds_nothing() -> None:
    client = SyncPrefectClient(tiny_api, httpx_settings={"no_such_argument": 1})
    with pytest.raises(TypeError, match="no_such_argument"), client:
        pass
    assert not client.is_closed
    assert "not opened yet" in repr(client)
    for lease in list(host._tenancy.apps):
        assert lease.closed
        lease.wait_closed()


def test_one_sync_client_serves_many_threads() -> None:
    client = SyncPrefectClient(tiny_api)
    ready = threading.Barrier(4)

    def use(_: int) -> str:
        ready.wait(10)
        with client:
            return client.api_version()

    with client, ThreadPoolExecutor(4) as pool:
        assert set(pool.map(use, range(40))) == {"1.2.3"}
    assert client.is_closed


def test_a_forgotten_client_gives_its_app_back() -> None:
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            kind = (await receive())["type"]
            events.append(kind)
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    client = SyncPrefectClient(app)
    client.__enter__()
    (lease,) = host._tenancy.apps
    assert events == ["lifespan.startup"]
    del client
    gc.collect()
    assert lease.wait_closed()
    assert events == ["lifespan.startup", "lifespan.shutdown"]


# Loops.


@pytest.mark.parametrize("where", ["hosted app", "real connections"])
def test_one_client_serves_every_loop(where: str) -> None:
    """asyncio and trio, one after the other and at the same time."""
    with http_server(lambda _: (200, {"content-type": "application/json"}, b'"1.2.3"')) as url:
        client = PrefectClient(tiny_api if where == "hosted app" else f"{url}/api")

        async def several() -> list[str]:
            return [await client.api_version() for _ in range(3)]

        first = asyncio.new_event_loop()
        first.run_until_complete(client.__aenter__())
        assert client.loop is first
        assert asyncio.run(several()) == ["1.2.3"] * 3
        assert anyio.run(several, backend="trio") == ["1.2.3"] * 3
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: asyncio.run(several()), range(8)))
        assert answers == [["1.2.3"] * 3] * 8
        assert first.run_until_complete(several()) == ["1.2.3"] * 3
        asyncio.run(client.close())
        first.run_until_complete(asyncio.sleep(0.01))  # its connections are closed there
        first.close()
        assert client.is_closed


def test_a_client_whose_loop_has_ended_can_be_closed_elsewhere() -> None:
    client = PrefectClient(tiny_api)
    asyncio.run(client.__aenter__())  # type: ignore[arg-type]
    asyncio.run(client.close())
    assert client.is_closed


def test_a_client_can_be_made_before_its_loop_runs() -> None:
    client = PrefectClient(tiny_api)

    async def use() -> str:
        async with client:
            return await client.api_version()

    assert anyio.run(use) == "1.2.3"
    assert SyncPrefectClient(tiny_api).loop is None


# Where to.


def test_it_knows_what_kind_of_server_it_talks_to() -> None:
    assert PrefectClient(URL).server_type is ServerType.SERVER
    assert PrefectClient(CLOUD).server_type is ServerType.CLOUD
    assert PrefectClient(tiny_api).server_type is ServerType.EPHEMERAL
    assert PrefectClient(URL + "/").api_url == URL


@pytest.mark.parametrize("url", ["", "orch.invalid", "ftp://x/api", "http://", "http://a b/api"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="should be a full URL such as"):
        PrefectClient(url)


@pytest.mark.parametrize("api", [None, 3, b"http://x/api"])
def test_what_is_neither_url_nor_app_is_refused(api: Any) -> None:
    with pytest.raises(TypeError, match="api should be a URL or an ASGI app"):
        SyncPrefectClient(api)


def test_its_repr_tells_no_secret() -> None:
    client = SyncPrefectClient(
        "https://me:s3cret@orch.invalid/api?token=s3cret", api_key="pnu_s3cret"
    )
    assert repr(client) == (
        "<SyncPrefectClient SERVER: https://***@orch.invalid/api?token=*** (not opened yet)>"
    )
    with client:
        assert "(open)" in repr(client)
    assert "(closed)" in repr(client)


def test_any_path_of_the_api_can_be_asked(kind: str) -> None:
    with opened(kind, tiny_api) as client:
        assert client.request("GET", "/admin/version").json() == "1.2.3"
        assert client.request("POST", "flows/filter", json={}).json()[0]["name"] == "etl"


# Credentials.


def _basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def sent_headers(client_options: dict[str, Any], kind: str) -> dict[str, str]:
    """The headers that reach a real server."""
    seen: list[dict[str, str]] = []

    def echo(handler: Any) -> tuple[int, dict[str, str], bytes]:
        seen.append({name.lower(): value for name, value in handler.headers.items()})
        return 200, {"content-type": "application/json"}, b'"1.2.3"'

    with http_server(echo) as url, opened(kind, f"{url}/api", **client_options) as client:
        client.api_version()
    return seen[-1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"api_key": "pnu_key"}, "Bearer pnu_key"),
        ({"auth_string": "me:pass"}, _basic("me:pass")),
        ({"api_key": "pnu_key", "auth_string": "me:pass"}, _basic("me:pass")),
        ({"httpx_settings": {"headers": {"Authorization": "Other x"}}, "api_key": "k"}, "Other x"),
    ],
    ids=["none", "key", "auth", "both", "own-header"],
)
def test_a_server_of_ones_own_is_sent_the_auth_string_first(
    kind: str, options: dict[str, Any], expected: str | None
) -> None:
    assert sent_headers(options, kind).get("authorization") == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"api_key": "pnu_key", "auth_string": "me:pass"}, "Bearer pnu_key"),
        ({"auth_string": "me:pass"}, _basic("me:pass")),
    ],
    ids=["both", "auth"],
)
def test_a_cloud_is_sent_the_key_first(kind: str, options: dict[str, Any], expected: str) -> None:
    transport = Scripted(lambda request: httpx.Response(200, json="1"))
    options = {**options, "httpx_settings": {"transport": transport}}
    with opened(kind, CLOUD, **options) as client:
        client.api_version()
    assert transport.requests[-1].headers["authorization"] == expected


def test_credentials_and_headers_of_the_settings_are_sent(kind: str) -> None:
    with temporary_settings(
        api_auth_string="me:from-settings", client_custom_headers={"X-Team": "data"}
    ):
        headers = sent_headers({}, kind)
        assert headers["authorization"] == _basic("me:from-settings")
        assert headers["x-team"] == "data"
        given = sent_headers({"auth_string": "me:given"}, kind)
        assert given["authorization"] == _basic("me:given")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, b"identity"), ({"headers": {"Accept-Encoding": "gzip"}}, b"gzip")],
)
def test_an_app_in_this_process_is_asked_to_pack_nothing_unless_the_user_wants_it(
    kind: str, settings: dict[str, Any], expected: bytes
) -> None:
    accepted: list[bytes] = []

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        accepted.extend(v for name, v in scope.get("headers", ()) if name == b"accept-encoding")
        await tiny_api(scope, receive, send)

    with opened(kind, noting, httpx_settings=settings) as client:
        client.api_version()
    assert accepted == [expected]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"api_key": "explicit"}, "Bearer explicit"),
        (
            {"settings": Settings(api_auth_string="mine:pw"), "api_key": "explicit"},
            "Bearer explicit",
        ),
        ({"auth_string": "given:two words"}, _basic("given:two words")),
    ],
)
def test_what_is_given_is_not_mixed_with_what_the_environment_holds(
    kind: str, given: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "environments:pw")
    monkeypatch.setenv("PREFECT_API_KEY", "environments")
    assert sent_headers(given, kind)["authorization"] == expected
    transport = Scripted(lambda request: httpx.Response(200, json="1"))
    options = {**given, "httpx_settings": {"transport": transport}}
    with opened(kind, CLOUD, **options) as client:
        client.api_version()
    assert transport.requests[-1].headers["authorization"] == expected


@pytest.mark.parametrize("name", ["authorization", "Authorization", "AUTHORIZATION"])
def test_an_authorization_of_the_callers_own_is_the_only_one(kind: str, name: str) -> None:
    transport = Scripted(lambda request: httpx.Response(200, json="1"))
    options = {"httpx_settings": {"transport": transport, "headers": {name: "Bearer mine"}}}
    with opened(kind, URL, auth_string="ours:pw", **options) as client:
        client.api_version()
    assert transport.requests[-1].headers.get_list("authorization") == ["Bearer mine"]


def test_a_bad_credential_is_refused_without_being_told() -> None:
    with pytest.raises(InvalidSetting) as caught:
        PrefectClient(URL, api_key="pasted s3cret\n")
    assert "s3cret" not in str(caught.value)
    assert "api_key" in str(caught.value)


@pytest.fixture(scope="module")
def guarded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Prefect server that wants credentials and CSRF tokens."""
    home = tmp_path_factory.mktemp("guarded")
    prefect_home(home / ".prefect")
    with prefect_server(
        home,
        PREFECT_SERVER_API_AUTH_STRING="me:s3cret-pass",
        PREFECT_SERVER_CSRF_PROTECTION_ENABLED="true",
    ) as url:
        yield url


def test_the_real_server_accepts_auth_string_and_csrf_tokens(guarded_url: str, kind: str) -> None:
    with opened(kind, guarded_url, auth_string="me:s3cret-pass") as client:
        flow_id = client.create_flow_from_name("etl")
        assert client.read_flow(flow_id).name == "etl"
        run = client.create_flow_run(flow_id)
        client.delete_flow_run(run.id)


def test_the_real_server_refuses_a_wrong_auth_string(guarded_url: str, kind: str) -> None:
    with (
        opened(kind, guarded_url, auth_string="me:wrong-pass") as client,
        pytest.raises(PrefectHTTPStatusError, match="401") as caught,
    ):
        client.read_flows()
    assert "PREFECT_API_AUTH_STRING" in caught.value.hint
    assert "wrong-pass" not in f"{caught.value!r}{caught.value.__dict__}"


def test_the_real_server_wants_its_csrf_tokens(guarded_url: str, kind: str) -> None:
    with (
        temporary_settings(client_csrf_support_enabled=False),
        opened(kind, guarded_url, auth_string="me:s3cret-pass") as client,
        pytest.raises(PrefectHTTPStatusError, match="403"),
    ):
        client.create_flow_from_name("other")


@pytest.mark.parametrize(
    ("url", "asked"), [(URL, True), (CLOUD, False)], ids=["own-server", "cloud"]
)
def test_a_csrf_token_is_asked_for_on_ones_own_server_only(
    kind: str, url: str, asked: bool
) -> None:
    transport = Scripted(lambda request: httpx.Response(404 if asked else 200, json={}))
    options = {"transport": transport, "raise_on_all_errors": False}
    with opened(kind, url, httpx_settings=options) as client:
        client.request("POST", "/anything")
    paths = [request.url.path.rsplit("/", 1)[1] for request in transport.requests]
    assert paths == (["csrf-token", "anything"] if asked else ["anything"])


# TLS, time-outs, httpx's own settings.


def options_of(settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    with temporary_settings(**settings):
        return SyncPrefectClient(URL, **more)._http_options()


def test_tls_settings_reach_httpx(tmp_path: Path) -> None:
    assert "verify" not in options_of({})
    assert options_of({"api_tls_insecure_skip_verify": True})["verify"] is False
    certificates = tmp_path / "certificates.pem"
    certificates.write_text(Path(ssl.get_default_verify_paths().cafile or "").read_text())
    assert options_of({"api_ssl_cert_file": certificates})["verify"] == str(certificates)
    assert options_of({"api_enable_http2": True})["http2"] is True


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "not-one"])
def test_certificates_that_cannot_be_used_are_named_on_enter(
    tmp_path: Path, kind: str, content: str | None
) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_text(content)
    with (
        temporary_settings(api_ssl_cert_file=path),
        pytest.raises(InvalidSetting, match=r"api_ssl_cert_file.*bundle\.pem"),
        opened(kind, URL),
    ):
        pass


def test_the_time_out_is_that_of_the_settings_unless_given() -> None:
    assert options_of({"api_request_timeout": 7})["timeout"] == 7
    assert options_of({}, httpx_settings={"timeout": 3})["timeout"] == 3


def test_a_slow_server_is_given_up_on_after_the_time_out(kind: str) -> None:
    answer_wanted = threading.Event()

    def slow(handler: Any) -> tuple[int, dict[str, str], bytes]:
        answer_wanted.wait(10)
        return 200, {}, b'"late"'

    options = {"retry_policy": RetryPolicy(max_retries=0)}
    with (
        temporary_settings(api_request_timeout=0.05),
        http_server(slow) as url,
        opened(kind, f"{url}/api", httpx_settings=options) as client,
    ):
        with pytest.raises(httpx.ReadTimeout):
            client.api_version()
        answer_wanted.set()


def test_httpx_settings_go_before_ours_and_are_not_changed(kind: str) -> None:
    transport = Scripted(lambda request: httpx.Response(200, json="1"))
    given = {"transport": transport, "headers": {"X-Mine": "1"}, "params": {"a": "b"}}
    kept = {**given, "headers": dict(given["headers"])}  # type: ignore[call-overload]
    with opened(kind, URL, httpx_settings=given, api_key="pnu_key") as client:
        client.api_version()
    assert given == kept
    request = transport.requests[-1]
    assert request.headers["x-mine"] == "1"
    assert request.headers["authorization"] == "Bearer pnu_key"
    assert request.url.params["a"] == "b"


def test_a_client_of_one_app_is_told_what_another_thread_made(kind: str) -> None:
    """Two kinds of client at once on one app in this process."""
    with opened(kind, tiny_api) as first, SyncPrefectClient(tiny_api) as second:
        assert first.api_version() == second.api_version()
        assert isinstance(first.read_flows()[0].id, uuid.UUID)


def test_credentials_in_the_url_are_sent_as_a_header_and_logged_by_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json="hi")

    transport = httpx.MockTransport(answer)
    caplog.set_level("DEBUG")
    url = "http://me:c4nary@server/api"
    with SyncPrefectClient(url, httpx_settings={"transport": transport}) as client:
        client.hello()
    assert sent[0].headers["authorization"] == "Basic bWU6YzRuYXJ5"
    assert "http://server/api/hello" in caplog.text
    assert "c4nary" not in caplog.text + repr(client)


@pytest.mark.parametrize("path", ["http://elsewhere/api/hello", "//elsewhere/api", "ftp://x/"])
@pytest.mark.parametrize("api", ["http://127.0.0.1:9/api", tiny_api])
def test_a_request_for_another_place_is_not_sent(api: Any, path: str) -> None:
    """It would carry the credentials with it."""
    with (
        SyncPrefectClient(api, api_key="canary") as client,
        pytest.raises(ForeignAddress, match="not below the API's address"),
    ):
        client.request("GET", path)
