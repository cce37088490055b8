"""A request that gets no answer says why, and what to change; what cannot get better is not retried."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

import orchnb
from tests.http import test_clients_tls
from tests.http.wire import close, cut, http, reset, wire

certificate = test_clients_tls.certificate
both = pytest.mark.parametrize("kind", ["async", "sync"])


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def ask(kind: str, url: str, **options: Any) -> tuple[Any, list[float]]:
    """Send a GET; return the answer or the error, and the waits for further tries, which take no time."""
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    async def main() -> Any:
        async with orchnb.PrefectHttpxAsyncClient(sleep=note, **options) as client:
            return await client.get(url)

    try:
        if kind == "async":
            return anyio.run(main), waits
        with orchnb.PrefectHttpxSyncClient(sleep=waits.append, **options) as client:
            return client.get(url), waits
    except httpx.HTTPError as exc:
        return exc, waits


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@both
def test_a_refused_connection_names_the_server_and_the_way_on(kind: str) -> None:
    port = free_port()
    error, waits = ask(kind, f"http://127.0.0.1:{port}/api")
    assert type(error) is httpx.ConnectError
    assert str(error).startswith(
        f"127.0.0.1:{port} refuses connections: nothing is listening there"
    )
    assert "PREFECT_API_URL" in str(error)
    assert waits == [0.0, 0.5, 1.0]


@both
def test_a_server_that_is_there_a_moment_later_is_found(kind: str) -> None:
    """Between the first two tries nothing is waited for, so the third one finds it."""
    with ExitStack() as opened:
        port = free_port()
        waits: list[float] = []

        def appear(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                listener = opened.enter_context(socket.create_server(("127.0.0.1", port)))
                thread = threading.Thread(target=answer, args=(listener,))
                thread.start()
                opened.callback(thread.join, 10)

        async def appear_async(seconds: float) -> None:
            appear(seconds)

        def answer(listener: socket.socket) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                http(200, b'"here"')(connection)

        async def main() -> Any:
            async with orchnb.PrefectHttpxAsyncClient(sleep=appear_async) as client:
                return await client.get(url)

        url = f"http://127.0.0.1:{port}/"
        if kind == "async":
            assert anyio.run(main).json() == "here"
        else:
            with orchnb.PrefectHttpxSyncClient(sleep=appear) as client:
                assert client.get(url).json() == "here"
    assert waits == [0.0, 0.5]


# Proxies


def refuse(connection: socket.socket) -> None:
    http(403)(connection)


def ask_for_a_password(connection: socket.socket) -> None:
    http(407)(connection)


PROXIES: dict[str, tuple[str, str, Any, str]] = {
    "dead": (
        "HTTP_PROXY",
        "http://server.invalid/api",
        None,
        "cannot be reached: .* refuses connections",
    ),
    "dead, for https": (
        "ALL_PROXY",
        "https://server.invalid/api",
        None,
        "cannot be reached: .* refuses",
    ),
    "refuses": ("HTTPS_PROXY", "https://server.invalid/api", refuse, "refused the connection: 403"),
    "wants a password": (
        "HTTPS_PROXY",
        "https://server.invalid/api",
        ask_for_a_password,
        "refused the connection: 407 .*Write the proxy's user name and password into HTTPS_PROXY",
    ),
}


@both
@pytest.mark.parametrize("case", PROXIES)
def test_a_proxy_that_fails_is_named(kind: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, url, answer, words = PROXIES[case]
    with ExitStack() as opened:
        port = opened.enter_context(wire(answer)).port if answer else free_port()
        monkeypatch.setenv(name, f"http://user:canary@127.0.0.1:{port}")
        error, waits = ask(kind, url)
    assert type(error) is httpx.ProxyError
    assert re.match(rf"The proxy http://127\.0\.0\.1:{port} \({name}\) {words}", str(error))
    assert "canary" not in str(error)
    assert waits == ([0.0, 0.5, 1.0] if answer is None else [])


@both
def test_the_servers_own_failure_behind_a_proxy_is_not_the_proxys(
    kind: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def tunnel(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True):
            pass

    with wire(tunnel) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        error, _ = ask(kind, "https://127.0.0.2:7/api")
    assert type(error) is httpx.ConnectError
    assert str(error).startswith("The certificate of 127.0.0.2:7 is not trusted")
    assert "PREFECT_API_SSL_CERT_FILE" in str(error)


# http and https


def polite(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    def handle(connection: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            while secured.recv(65536):
                http(200)(secured)

    return handle


def silent(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    """Close the connection in an orderly way, as uvicorn does, and not by a reset."""

    def handle(connection: socket.socket) -> None:
        if connection.recv(1, socket.MSG_PEEK) != b"\x16":
            connection.recv(65536)
            return
        polite(context)(connection)

    return handle


def with_client_certificate(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return polite(context)


@contextmanager
def tls_server(certificate: Path, how: Any) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with test_clients_tls.serving(how(context)) as port:
        yield port


@both
@pytest.mark.parametrize("how", [polite, silent, with_client_certificate])
@pytest.mark.parametrize("verify", [True, False])
def test_http_to_a_server_that_uses_https_says_so_at_once(
    kind: str, how: Any, verify: bool, certificate: Path
) -> None:
    with tls_server(certificate, how) as port:
        error, waits = ask(kind, f"http://127.0.0.1:{port}/api", verify=verify)
    assert type(error) is httpx.UnsupportedProtocol
    assert str(error).startswith(f"127.0.0.1:{port} uses https, and the address says http.")
    assert f"https://127.0.0.1:{port}/api" in str(error)
    assert waits == []


def answer_in_http(connection: socket.socket) -> None:
    connection.recv(65536)
    http(400)(connection)


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)


@both
@pytest.mark.parametrize("answer", [answer_in_http, hang_up, reset])
def test_https_to_a_server_that_uses_http_says_so_at_once(kind: str, answer: Any) -> None:
    with test_clients_tls.serving(answer) as port:
        error, waits = ask(kind, f"https://127.0.0.1:{port}/api")
    assert type(error) is httpx.ConnectError
    assert str(error).startswith(
        (
            f"127.0.0.1:{port} does not answer by https",
            f"There was no secure connection to 127.0.0.1:{port}",
        )
    )
    assert "write its address with http://" in str(error)
    assert waits == []


@both
@pytest.mark.parametrize("broken", [close, cut, reset])
def test_a_server_without_https_that_breaks_a_connection_is_asked_again(
    kind: str, broken: Any
) -> None:
    with wire(broken, http(200, b'"there"')) as server:
        answer, waits = ask(kind, server.url)
    assert answer.json() == "there"
    assert len(waits) == 1
    assert len(server.requests) == 2


# Headers

HEADERS = {
    "a blank at its end": ("X-Team", "canary ", "a blank at an end"),
    "a blank at its begin": ("X-Team", " canary", "a blank at an end"),
    "a tab at its end": ("X-Team", "canary\t", "a blank at an end"),
    "a line break": ("X-Team", "canary\nX: y", "not plain ASCII on one line"),
    "an umlaut": ("X-Team", "canärý", "not plain ASCII on one line"),
    "a null": ("X-Team", "canary\0", "not plain ASCII on one line"),
    "a blank in its name": ("X Team", "canary", "a header name that HTTP does not allow"),
    "no name": ("", "canary", "a header name that HTTP does not allow"),
}


@both
@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_cannot_be_sent_is_refused_at_once(
    kind: str, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, value, words = HEADERS[case]
    headers = {name: value}
    url = "http://127.0.0.1:9/api"

    async def main() -> None:
        async with orchnb.PrefectHttpxAsyncClient() as client:
            await client.get(url, headers=headers)

    def of_the_request() -> None:
        if kind == "async":
            anyio.run(main)
        else:
            orchnb.PrefectHttpxSyncClient().get(url, headers=headers)

    def of_the_client() -> None:
        clients: dict[str, Any] = {"async": orchnb.PrefectClient, "sync": orchnb.SyncPrefectClient}
        clients[kind](url, httpx_settings={"headers": headers})

    def of_the_settings() -> None:
        monkeypatch.setenv("PREFECT_CLIENT_CUSTOM_HEADERS", json.dumps(headers))
        orchnb.get_settings()

    for set_it in (of_the_request, of_the_client, of_the_settings):
        with pytest.raises(orchnb.InvalidSetting, match=words) as caught:
            set_it()
        assert "canar" not in str(caught.value)


@both
def test_what_http_does_not_allow_is_not_tried_again(kind: str) -> None:
    """A request that httpx built itself is not checked before; h11 refuses it."""
    with wire(http(200)) as server:
        waits: list[float] = []

        async def note(seconds: float) -> None:
            waits.append(seconds)

        request = httpx.Request("PUT", server.url, headers={"X-Team": "canary "})

        async def main() -> None:
            async with orchnb.PrefectHttpxAsyncClient(sleep=note) as client:
                await client.send(request)

        def send() -> None:
            if kind == "async":
                anyio.run(main)
            else:
                orchnb.PrefectHttpxSyncClient(sleep=waits.append).send(request)

        with pytest.raises(
            httpx.LocalProtocolError, match="HTTP does not allow this request"
        ) as caught:
            send()
    assert "canary" not in str(caught.value)
    assert waits == []


@both
@pytest.mark.parametrize("url", ["ftp://server/api", "server/api", "http:///api"])
def test_an_address_that_httpx_cannot_use_is_not_tried_again(kind: str, url: str) -> None:
    error, waits = ask(kind, url)
    assert type(error) is httpx.UnsupportedProtocol
    assert "It must begin with http:// or https://" in str(error)
    assert waits == []
