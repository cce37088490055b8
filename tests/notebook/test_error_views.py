"""The words of error cards, for failures that really happen: on loopback, one after the other kind."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import orchnb
from orchnb.http.retry import RetryPolicy
from orchnb.notebook import tracebacks
from orchnb.notebook.views.errors import error_card, stopped_card
from orchnb.notebook.views.model import Card, text
from tests.http import test_clients_tls
from tests.http.wire import Wire, close, http, wire

ONE_TRY = RetryPolicy(max_retries=0)

both = pytest.mark.parametrize("kind", ["async", "sync"])


@pytest.fixture(autouse=True)
def no_proxies_or_certificates_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            monkeypatch.delenv(name)


def card_of(*args: Any, **options: Any) -> Card:
    """The card of the error that this request meets."""
    return error_card(error_of(*args, **options))


def error_of(
    url: str, ask: str = "GET /hello", *, kind: str = "sync", settings: Any = None, **options: Any
) -> Exception:
    """The error that this request meets."""
    method, path = ask.split()
    options = {"retry_policy": ONE_TRY, **options}
    settings = settings or orchnb.Settings()

    async def ask_async() -> None:
        client = orchnb.PrefectClient(url, httpx_settings=options, settings=settings)
        async with client:
            await client.request(method, path)

    def ask_plainly() -> None:
        with orchnb.SyncPrefectClient(url, httpx_settings=options, settings=settings) as client:
            client.request(method, path)

    try:
        anyio.run(ask_async) if kind == "async" else ask_plainly()
    except (orchnb.OrchnbError, httpx.HTTPError, httpx.InvalidURL) as exc:
        return exc
    pytest.fail("there was no error")


def rows(card: Card) -> dict[str, str]:
    return dict(card.rows)


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# No connection


@both
def test_refused(kind: str) -> None:
    port = a_free_port()
    card = card_of(f"http://127.0.0.1:{port}/api", kind=kind)
    assert card.title == "The server cannot be reached"
    assert rows(card)["Request"] == f"GET http://127.0.0.1:{port}/api/hello"
    assert (
        rows(card)["Problem"] == f"127.0.0.1:{port} refuses connections: nothing is listening there"
    )
    assert "prefect server start" in rows(card)["What to do"]
    assert "On the server" not in rows(card)
    assert "Proxy" not in rows(card)


@both
def test_a_name_that_nobody_knows(kind: str) -> None:
    card = card_of("http://nobody.invalid/api", kind=kind)
    assert card.title == "The server's name cannot be resolved"
    assert rows(card)["Problem"].endswith("nobody.invalid")
    assert "spelling" in rows(card)["What to do"]


certificate = test_clients_tls.certificate
tls_url = test_clients_tls.tls_url


@both
def test_a_certificate_that_is_not_trusted(kind: str, tls_url: str) -> None:
    card = card_of(tls_url, kind=kind)
    assert card.title == "The server's certificate is not trusted"
    assert "certificate verify failed" in rows(card)["Problem"]
    assert "PREFECT_API_SSL_CERT_FILE" in rows(card)["What to do"]


@both
def test_https_where_only_http_is_spoken(kind: str) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65536)
        http(400)(connection)

    with test_clients_tls.serving(answer) as port:
        card = card_of(f"https://127.0.0.1:{port}/api", kind=kind)
    assert card.title == "A secure connection could not be established"
    assert "http://" in rows(card)["What to do"]


@both
def test_a_proxy_that_refuses(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with wire(http(403)) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://canary:canary@127.0.0.1:{server.port}")
        card = card_of("https://nobody.invalid/api", kind=kind)
    assert card.title == "The proxy refused the request"
    assert rows(card)["Problem"] == (
        f"The proxy http://127.0.0.1:{server.port} (HTTPS_PROXY) refused the connection: 403 Word"
    )
    assert "Proxy" not in rows(card), "the problem names it"
    assert "NO_PROXY" in rows(card)["What to do"]
    assert "canary" not in text(card)


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    port = a_free_port()
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{port}")
    card = card_of("http://nobody.invalid/api")
    assert card.title == "The proxy cannot be reached"
    assert rows(card)["Problem"] == (
        f"The proxy http://127.0.0.1:{port} (ALL_PROXY) cannot be reached: 127.0.0.1:{port} refuses "
        "connections: nothing is listening there"
    )
    monkeypatch.setenv("NO_PROXY", "nobody.invalid")
    assert "Proxy" not in rows(card_of("http://nobody.invalid/api"))


# No answer


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        ("GET /hello", "read-only"),
        ("POST /flow_runs/filter", "read-only"),
        ("DELETE /flow_runs/7", "deleted anyway"),
    ],
)
def test_an_answer_that_does_not_come(ask: str, words: str) -> None:
    with wire(http(200)) as server:
        server.answers[0] = server.hang
        card = card_of(server.url, ask, timeout=0.2, enable_csrf_support=False)
    assert card.title == "The server did not answer in time"
    assert rows(card)["Request"] == f"{ask.split()[0]} {server.url}{ask.split()[1]}"
    assert rows(card)["Time-out"] == "read: 0.2 s without receiving any part of the response"
    assert "Problem" not in rows(card), "httpx has no words for it"
    assert words in rows(card)["On the server"]
    assert "PREFECT_API_REQUEST_TIMEOUT" in rows(card)["What to do"]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        ("POST /flow_runs/", "same cell again creates no second one"),
        ("POST /flows/", "flow names are unique"),
        ("POST /flow_runs/7/set_state", "in the new state"),
        ("PATCH /flow_runs/7", "read it back before"),
        ("BREW /pot", "read it back before"),
    ],
)
def test_an_answer_that_does_not_come_to_what_is_sent_once(ask: str, words: str) -> None:
    method, path = ask.split()
    with wire(http(200)) as server:
        server.answers[0] = server.hang
        card = card_of(server.url, ask, timeout=0.2, enable_csrf_support=False)
    assert card.title == "It is unknown whether the server acted on the request"
    assert rows(card)["Request"] == f"{method} {server.url}{path}"
    assert rows(card)["Time-out"] == "read: 0.2 s without receiving any part of the response"
    assert "It was not sent again" in rows(card)["What to do"]
    # When the person has stopped it, no error of ours says so.
    stopped = stopped_card(httpx.Request(method, f"{server.url}{path}"), sent=True)
    assert words in rows(stopped)["On the server"]


def test_an_answer_that_does_not_come_async() -> None:
    with wire(http(200)) as server:
        server.answers[0] = server.hang
        card = card_of(server.url, kind="async", timeout=0.2)
    assert rows(card)["Time-out"] == "read: 0.2 s without receiving any part of the response"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
@both
def test_a_connection_that_is_not_taken_up(kind: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        try:
            card = card_of(url, "POST /x", kind=kind, timeout=0.1, enable_csrf_support=False)
        finally:
            for filler in fillers:
                filler.close()
    assert card.title == "Connecting to the server timed out"
    assert rows(card)["Time-out"] == "connect: 0.1 s without a connection"
    assert "On the server" not in rows(card), "it has not got the request"


def test_all_connections_are_busy() -> None:
    options: dict[str, Any] = {
        "timeout": httpx.Timeout(20, pool=0.1),
        "limits": httpx.Limits(max_connections=1),
        "retry_policy": ONE_TRY,
    }
    with wire(http(200)) as server:
        server.answers[0] = server.hang
        client = orchnb.SyncPrefectClient(server.url, httpx_settings=options)
        with client:

            def occupy() -> None:
                with pytest.raises(httpx.RemoteProtocolError):
                    client.request("GET", "/first")

            first = threading.Thread(target=occupy)
            first.start()
            assert server.hanging.wait(10)
            with pytest.raises(httpx.PoolTimeout) as caught:
                client.request("GET", "/second")
            server.release.set()
            first.join(10)
    card = error_card(caught.value)
    assert card.title == "This client is busy with other requests"
    assert "pool: 0.1 s" in rows(card)["Time-out"]


def test_a_request_that_is_not_taken() -> None:
    """The server accepts and reads nothing; what it has not taken fills all buffers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        options = {"timeout": httpx.Timeout(20, write=0.2), "retry_policy": ONE_TRY}
        with (
            orchnb.SyncPrefectClient(url, httpx_settings=options) as client,
            pytest.raises(httpx.WriteTimeout) as caught,
        ):
            client.request("GET", "/x", content=b"x" * 30_000_000)
    card = error_card(caught.value)
    assert card.title == "The server did not accept the request in time"
    assert "write: 0.2 s" in rows(card)["Time-out"]


def test_a_time_out_that_leaves_open_what_was_done() -> None:
    with wire(http(200)) as server:
        server.answers[0] = server.hang
        options = {
            "timeout": httpx.Timeout(20, read=0.1),
            "retry_policy": ONE_TRY,
            "enable_csrf_support": False,
        }
        client = orchnb.SyncPrefectClient(server.url, httpx_settings=options)
        with client, pytest.raises(orchnb.OutcomeUnknown) as caught:
            client.set_flow_run_state(uuid.uuid4(), "RUNNING", force=True)
        server.release.set()
    card = error_card(caught.value)
    assert card.title == "It is unknown whether the server acted on the request"
    assert "the server may have acted on it" in rows(card)["Problem"]
    assert rows(card)["Time-out"] == "read: 0.1 s without receiving any part of the response"
    assert "read_flow_run" in rows(card)["What to do"]


@both
def test_a_connection_that_breaks(kind: str) -> None:
    with wire(close) as server:
        card = card_of(server.url, "DELETE /x", kind=kind, enable_csrf_support=False)
    assert card.title == "The connection broke"
    assert "disconnected without sending" in rows(card)["Problem"]
    assert "deleted anyway" in rows(card)["On the server"]


def test_an_answer_that_cannot_be_unpacked() -> None:
    with wire(http(200, b"no gzip", "Content-Encoding: gzip")) as server:
        card = card_of(server.url)
    assert card.title == "The response cannot be decoded"


# What cannot be sent at all


def test_an_address_that_cannot_be_used() -> None:
    card = card_of("http://127.0.0.1:9/api", "GET /flows/\x00")
    assert card.title == "This address cannot be used"
    assert "Invalid non-printable" in rows(card)["Problem"]
    assert rows(card)["What to do"]


@pytest.mark.parametrize("path", ["ftp://127.0.0.1/x", "http://127.0.0.1:9/x", "//127.0.0.1/x"])
def test_an_address_of_another_place(path: str) -> None:
    card = card_of("http://127.0.0.1:9/api", f"GET {path}")
    assert card.title == "This address does not belong to the API"
    assert "give a path such as '/flows/filter'" in rows(card)["Problem"]


def test_a_header_that_cannot_be_sent_is_not_shown() -> None:
    headers = {"X-Token": "canary-token\nwith a line break"}
    card = card_of("http://127.0.0.1:9/api", headers=headers)
    assert card.title == "Invalid setting"
    assert rows(card)["Problem"] == (
        "The argument headers has a header value that is not plain ASCII on one line: that of X-Token."
    )
    assert "canary" not in text(card)
    with orchnb.PrefectHttpxSyncClient() as client, pytest.raises(httpx.HTTPError) as caught:
        client.get("http://127.0.0.1:9/api", headers=headers)
    card = error_card(caught.value)
    assert card.title == "This request cannot be sent"
    assert "that of X-Token" in rows(card)["Problem"]
    assert "canary" not in text(card)


# Refusals


def gives_token(then: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """Tokens for whoever asks for one, and this for the rest."""

    def answer(connection: socket.socket) -> None:
        asked = answer.server.requests[-1]  # type: ignore[attr-defined] # set below
        wants = asked.startswith(b"GET /api/csrf-token")
        (http(200, b'{"token": "t"}') if wants else then)(connection)

    return answer


def csrf_card(server: Wire, detail: bytes, **settings: Any) -> Card:
    answer = gives_token(http(403, b'{"detail": "' + detail + b'"}'))
    answer.server = server  # type: ignore[attr-defined] # which it asks for what was asked
    server.answers[0] = answer
    return card_of(server.url, "POST /x", settings=orchnb.Settings(**settings))


def test_a_csrf_token_that_is_refused() -> None:
    with wire(http(200)) as server:
        card = csrf_card(server, b"Invalid CSRF token or client identifier.")
    assert card.title == "The server does not accept the request's CSRF token"
    assert rows(card)["Status"] == "403 Forbidden"
    assert rows(card)["Server says"] == "Invalid CSRF token or client identifier."
    assert "several servers behind one address" in rows(card)["What to do"]
    assert "Credentials" not in rows(card)


def test_a_csrf_token_that_is_wanted_and_not_sent() -> None:
    with wire(http(200)) as server:
        card = csrf_card(server, b"Missing CSRF token.", client_csrf_support_enabled=False)
    assert "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED=true" in rows(card)["What to do"]


@pytest.mark.parametrize(
    ("status", "cloud", "environment", "sent", "words"),
    [
        (401, False, {}, "none", "Set PREFECT_API_AUTH_STRING (user:password): it is not set."),
        (
            401,
            False,
            {"PREFECT_API_AUTH_STRING": "canary:canary"},
            "some",
            "PREFECT_API_AUTH_STRING (user:password), set by: environment",
        ),
        (401, True, {}, "none", "Set PREFECT_API_KEY: it is not set."),
        (401, True, {"PREFECT_API_KEY": "canary"}, "some", "PREFECT_API_KEY, set by: environment"),
        (403, True, {"PREFECT_API_KEY": "canary"}, "some", "right workspace"),
        (403, False, {"PREFECT_API_KEY": "canary"}, "some", "PREFECT_API_AUTH_STRING"),
    ],
)
def test_credentials(
    status: int,
    cloud: bool,
    environment: dict[str, str],
    sent: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with wire(http(status, b'{"exception_message": "Unauthorized"}')) as server:
        if cloud:
            monkeypatch.setenv("PREFECT_CLOUD_API_URL", server.url)
        card = card_of(server.url)
    assert card.title == (
        "Authentication failed (401)" if status == 401 else "Permission denied (403)"
    )
    assert rows(card)["Server says"] == "Unauthorized"
    assert rows(card)["Credentials"].startswith(sent)
    assert words in rows(card)["What to do"]
    assert "canary" not in text(card)


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_no_setting_holds(status: int) -> None:
    with (
        wire(http(status)) as server,
        orchnb.SyncPrefectClient(server.url, auth_string="me:canary") as client,
        pytest.raises(orchnb.PrefectHTTPStatusError) as caught,
    ):
        client.hello()
    card = error_card(caught.value)
    assert rows(card)["Credentials"].startswith("some were sent")
    assert "this client was given as an argument" in rows(card)["What to do"]
    assert "not set" not in rows(card)["What to do"]
    assert "canary" not in text(card)


def test_credentials_where_the_settings_have_become_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        wire(http(401)) as server,
        orchnb.SyncPrefectClient(server.url) as client,
        pytest.raises(orchnb.PrefectHTTPStatusError) as caught,
    ):
        client.hello()
    monkeypatch.setenv("PREFECT_API_URL", "nonsense")
    hint = rows(error_card(caught.value))["What to do"]
    assert "PREFECT_API_KEY (cloud) or PREFECT_API_AUTH_STRING (your own server)" in hint


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_web_page_is_no_api(status: int) -> None:
    page = b"<html><title>Log in</title></html>"
    with wire(http(status, page, "Content-Type: text/html")) as server:
        card = card_of(server.url)
    assert card.title == "This does not look like an API"
    assert rows(card)["Server says"] == "Log in"
    assert "PREFECT_API_URL ends in /api" in rows(card)["What to do"]
    assert "Credentials" not in rows(card)


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (302, "The server redirected the request"),
        (400, "The server refused the request"),
        (500, "The server failed"),
    ],
)
def test_other_refusals(status: int, title: str) -> None:
    with wire(http(status, b"{}", "Location: http://other.invalid/login?token=canary")) as server:
        card = card_of(server.url)
    assert card.title == title
    assert rows(card)["Status"].startswith(str(status))
    assert rows(card)["What to do"]
    assert "canary" not in text(card)


@pytest.mark.parametrize(
    ("status", "title", "detail", "says"),
    [
        (404, "There is no flow 'etl'", "Flow not found", None),  # which the title says
        (404, "There is no flow 'etl'", "It was deleted", "It was deleted"),
        (409, "It exists already", "so it is", "so it is"),
    ],
)
def test_each_fact_about_what_was_asked_for_is_there_once(
    status: int, title: str, detail: str, says: str | None
) -> None:
    body = json.dumps({"detail": detail}).encode()
    with (
        wire(http(status, body, "Content-Type: application/json")) as server,
        orchnb.SyncPrefectClient(server.url) as client,
        pytest.raises(orchnb.PrefectHTTPStatusError) as caught,
    ):
        client.read_flow_by_name("etl")
    card = error_card(caught.value)
    assert (card.title, rows(card).get("Server says")) == (title, says)
    shown = rows(card).keys() - {"Server says"}
    assert shown == {"Request", "What to do"}
    assert text(card).count("404") == 0, "the traceback below has the status"


# Errors of our own


BROKEN_APP = """
import logging

async def app(scope, receive, send):
    await receive()
    for number in range(30):
        logging.getLogger("broken").error("line %d", number)
    await send({"type": "lifespan.startup.failed", "message": "OSError: no database"})
"""


def test_a_server_in_this_process_that_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_app_of_a_test.py").write_text(BROKEN_APP)
    monkeypatch.syspath_prepend(str(tmp_path))
    fields = {"ephemeral_app": "broken_app_of_a_test:app", "server_allow_ephemeral_mode": True}
    with (
        orchnb.temporary_settings(**fields),
        pytest.raises(orchnb.ServerStartFailed) as caught,
        orchnb.get_client(sync_client=True),
    ):
        pass
    card = error_card(caught.value)
    assert card.title == "The in-kernel server did not start"
    assert rows(card)["Phase"] == "start"
    assert "no database" in rows(card)["Problem"]
    assert "ORCHNB_EPHEMERAL_APP" in rows(card)["What to do"]
    assert len(card.log) == 10
    assert "no database" in card.log[-1]


def test_an_app_that_refuses_to_start() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database\nno work"})

    with (
        pytest.raises(orchnb.LifespanStartupFailed) as caught,
        orchnb.SyncPrefectClient(app),
    ):
        pass
    card = error_card(caught.value)
    assert card.title == "The app did not start"
    assert "no database no work" in rows(card)["Problem"]


def test_a_closed_client() -> None:
    client = orchnb.SyncPrefectClient("http://127.0.0.1:9/api")
    with client:
        pass
    with pytest.raises(orchnb.ClientClosed) as caught:
        client.hello()
    card = error_card(caught.value)
    assert card.title == "This client is not open"
    assert "get_client()" in rows(card)["Problem"]


def test_no_server_and_a_bad_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_ALLOW_EPHEMERAL_MODE", "false")
    with pytest.raises(orchnb.ServerNotConfigured) as unconfigured:
        orchnb.get_client()
    monkeypatch.setenv("PREFECT_API_URL", "nonsense")
    with pytest.raises(orchnb.InvalidSetting) as bad:
        orchnb.get_client()
    assert error_card(unconfigured.value).title == "No server is configured"
    assert "%orch_server_type ephemeral" in text(error_card(unconfigured.value))
    assert error_card(bad.value).title == "Invalid setting"
    assert "PREFECT_API_URL (environment)" in text(error_card(bad.value))


def test_an_error_of_another_kind_has_its_own_name() -> None:
    assert error_card(orchnb.OrchnbError("so\nit \x1b[31mis")).rows == [("Problem", "so it is")]
    assert error_card(orchnb.OrchnbError("x")).title == "OrchnbError"


# Interrupts


def test_a_stopped_request() -> None:
    request = httpx.Request("POST", "http://canary:canary@lab/api/flow_runs/?token=canary")
    card = stopped_card(request, sent=True)
    assert (card.title, card.tone) == ("Stopped by you", "plain")
    assert rows(card)["Request"] == "POST http://***@lab/api/flow_runs/?token=***"
    assert "creates no second one" in rows(card)["On the server"]
    assert rows(stopped_card(request, sent=False))["On the server"].startswith("It was not sent")


def test_the_server_in_this_process_is_called_that() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with (
        orchnb.SyncPrefectClient(app) as client,
        pytest.raises(orchnb.PrefectHTTPStatusError) as caught,
    ):
        client.hello()
    request = rows(error_card(caught.value))["Request"]
    assert request == "GET /api/hello of the in-kernel server"


def test_every_card_names_the_way_to_the_whole_traceback() -> None:
    for card in (error_card(orchnb.OrchnbError("x")), card_of("http://127.0.0.1:9/api")):
        assert card.notes == ("%orch_traceback shows the whole traceback.",)
        assert card.tone == "error"
        assert not any("\n" in value for _, value in card.rows)


# Each fact once


@both
def test_what_to_do_is_on_the_card_and_not_in_the_traceback_below_it(kind: str) -> None:
    """In a script, which has no cards, the error's text says it."""
    with wire(http(404, b'{"detail": "Not Found"}')) as server:
        answered = error_of(server.url, kind=kind)
    refused = error_of(f"http://127.0.0.1:{a_free_port()}/api", kind=kind)
    for error in (answered, refused):
        whole = str(error)
        card = error_card(error)
        hint = rows(card)["What to do"]
        assert "\n".join(rows(card).values()).count(hint) == 1
        assert whole.endswith(hint)
        with tracebacks._bare(error):
            assert hint not in str(error)
            assert whole.startswith(str(error).removesuffix("."))
        assert str(error) == whole
