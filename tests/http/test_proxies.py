"""A proxy's password is in no message, however the address is written; the error names the variable."""

from __future__ import annotations

import importlib.util
import logging
import socket
import traceback
from contextlib import suppress
from typing import Any

import anyio
import httpx
import pytest

import orchnb
from orchnb.errors import InvalidSetting
from tests.http.test_clients_edges import quiet
from tests.http.wire import http, wire

CANARY = "hunter2"

BROKEN = [
    f"http://user:pa#{CANARY}@proxy:3128",
    f"http://user:{CANARY}#x@proxy:3128",
    f"http://user:12#{CANARY}@proxy:3128",
    f"http://user:{CANARY}/x@proxy:3128",
    f"http://user:{CANARY}?x@proxy:3128",
    f"http://user:{CANARY}@x@proxy:3128",
    f"http://user:{CANARY}@proxy:port",
    f"http://user:{CANARY}@proxy:99999",
    f"http://user:{CANARY}@",
    f"http://user:{CANARY}@[::1",
    f"user:{CANARY}@proxy:port",
    f"ftp://user:{CANARY}@proxy",
    f"http://user:{CANARY}\x07@proxy",
    f"http://{CANARY}:@pro xy",
    f"://{CANARY}@proxy",
]

VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def everything(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


CLIENTS: list[Any] = [orchnb.PrefectHttpxAsyncClient, orchnb.PrefectHttpxSyncClient]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("address", BROKEN)
def test_an_address_that_cannot_be_used_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, client: Any, address: str
) -> None:
    for name in VARIABLES:
        with monkeypatch.context() as patch:
            patch.setenv(name, address)
            with pytest.raises(InvalidSetting, match=name) as caught:
                client()
            assert CANARY not in everything(caught.value)
            client(trust_env=False)
            client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
    with pytest.raises(InvalidSetting, match="The argument proxy") as caught:
        client(proxy=address)
    assert CANARY not in everything(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "http://proxy:3128",
        "proxy:3128",
        "http://user:p%23w@proxy:3128/",
        "https://user@proxy",
        "http://[::1]:3128",
    ],
)
def test_an_address_that_can_be_used_is(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("ALL_PROXY", address)
    for client in CLIENTS:
        client()
        client(proxy=httpx.Proxy(address if "://" in address else f"http://{address}"))


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_proxy_that_repeats_the_password_is_not_quoted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.DEBUG)

    def refuse(connection: Any) -> None:
        connection.sendall(
            f"HTTP/1.1 407 user:{CANARY}%40 {CANARY}@ wrong\r\nContent-Length: 0\r\n\r\n".encode()
        )

    async def ask_async() -> None:
        async with orchnb.PrefectHttpxAsyncClient(retry_policy=quiet()) as client:
            await client.get("https://server.invalid/api")

    def ask() -> None:
        with orchnb.PrefectHttpxSyncClient(retry_policy=quiet()) as client:
            client.get("https://server.invalid/api")

    with wire(refuse) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{CANARY}%40@127.0.0.1:{server.port}")
        with pytest.raises(httpx.ProxyError) as caught:
            ask() if kind == "sync" else anyio.run(ask_async)
    assert "407" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(caught.value)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("orchnb")]
    assert not any(CANARY in line for line in ours)


SOCKS = ["socks5://proxy:1080", "socks5h://user:hunter2@proxy:1080", "SOCKS5://proxy"]


@pytest.mark.skipif(
    importlib.util.find_spec("socksio") is not None, reason="the package is installed"
)
@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("address", SOCKS)
def test_a_socks_proxy_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, client: Any, address: str
) -> None:
    words = "names a SOCKS proxy, .*proxy.*, for which a package is missing.*pip install socksio"
    with pytest.raises(InvalidSetting, match=f"The argument proxy {words}") as caught:
        client(proxy=address)
    assert CANARY not in everything(caught.value)
    with pytest.raises(InvalidSetting, match="The argument proxy"):
        client(proxy=httpx.Proxy(address.replace("socks5h", "socks5").lower()))
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(InvalidSetting, match=f"ALL_PROXY {words}"):
        client()


NO_PROXY: dict[str, tuple[str, str, bool]] = {
    # The value, the server's host, and whether it is reached without the proxy.
    "an IPv6 address": ("::1", "[::1]", True),
    "an IPv6 address in brackets": ("[::1]", "[::1]", True),
    "another IPv6 address": ("[::2]", "[::1]", False),
    "a range of one": ("::1/128", "[::1]", True),
    "an IPv6 range": ("example.com,::/64", "[::1]", True),
    "another IPv6 range": ("fd00::/8", "[::1]", False),
    "an IPv4 address": ("127.0.0.9", "127.0.0.9", True),
    "an IPv4 range": ("10.0.0.0/8, 127.0.0.0/8", "127.0.0.9", True),
    "another IPv4 range": ("10.0.0.0/8", "127.0.0.9", False),
    "a range and a name": ("::1/128,10.0.0.0/8", "nobody.invalid", False),
    "a domain": ("nobody.invalid", "a.nobody.invalid", True),
    "a domain with a dot": (".invalid", "nobody.invalid", True),
    "a domain with a star": ("*.invalid", "nobody.invalid", True),
    "localhost": ("localhost", "localhost", True),
    "all": ("::1/128,*", "nobody.invalid", True),
    "none": ("", "nobody.invalid", False),
    "no host at all": ("[::1,:::/1,a b", "nobody.invalid", False),
}


@pytest.mark.parametrize("kind", ["async", "sync"])
@pytest.mark.parametrize("case", NO_PROXY)
def test_no_proxy_says_which_servers_need_none(
    monkeypatch: pytest.MonkeyPatch, kind: str, case: str
) -> None:
    value, host, is_direct = NO_PROXY[case]
    with wire(http(200)) as proxy, socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
        closed.close()
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", value)
        url = f"http://{host}:{port}/api"

        async def ask_async() -> None:
            async with orchnb.PrefectHttpxAsyncClient(base_url=url, retry_policy=quiet()) as client:
                await client.get("/x")

        def ask() -> None:
            with orchnb.PrefectHttpxSyncClient(base_url=url, retry_policy=quiet()) as client:
                client.get("/x")

        with suppress(httpx.ConnectError):
            ask() if kind == "sync" else anyio.run(ask_async)
    assert (proxy.requests == []) == is_direct
