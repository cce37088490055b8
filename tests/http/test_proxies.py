"""A proxy's password is in no message, however the address is written; the error names the variable."""

from __future__ import annotations

import logging
import traceback
from typing import Any

import anyio
import httpx
import pytest

import orchnb
from orchnb.errors import InvalidSetting
from tests.http.test_clients_edges import quiet
from tests.http.wire import wire

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
    for name in VARIABLES:
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
