"""Whether a server is up, slow or down, and that asking it takes no longer than it may.

The servers are real and on loopback. Some send a byte now and then, or something other than an answer,
so that no time-out between two bytes ever ends.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchnb import PrefectClient, SyncPrefectClient, get_settings, temporary_settings
from orchnb.api import client as client_module
from orchnb.api.status import ServerStatus, server_status
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.host import HostedApp
from orchnb.notebook.views.model import html
from orchnb.notebook.views.objects import status_card
from orchnb.runtime.bounded import within
from tests.http.test_clients_tls import serving
from tests.http.wire import Answer, Wire, close, http, reset, wire

PATIENCE = 1.0
LATER = PATIENCE + 1.5
"""By then everybody who waits has an answer, also on a busy machine."""

STEP = 0.1
"""Seconds between two bytes."""

OVER = threading.Event()
"""Ends what the servers do."""


@pytest.fixture(autouse=True)
def _over() -> Iterator[None]:
    OVER.clear()
    yield
    OVER.set()
    deadline = time.monotonic() + 10
    while any(thread.name == "orchnb-bounded" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a request goes on"
        time.sleep(0.01)


def after(seconds: float, answer: Answer) -> Answer:
    def send(connection: socket.socket) -> None:
        OVER.wait(seconds)
        answer(connection)

    return send


def never(connection: socket.socket) -> None:
    OVER.wait(30)


def dripping(first: bytes, part: bytes) -> Answer:
    """``first``, and then ``part`` again and again."""

    def send(connection: socket.socket) -> None:
        connection.sendall(first)
        while not OVER.wait(STEP):
            connection.sendall(part)

    return send


DRIPS: dict[str, Answer] = {
    "the head": dripping(b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
    "headers": dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "the body": dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
    "chunks": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "1xx": dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
}

UP = http(200, b"true")
VERSION = http(200, b'"3.8.8"')
SLOW = f"slow: no answer within {PATIENCE:g} s"

# What the server answers, one answer a connection, and what the status says of it.
CASES: dict[str, tuple[list[Answer], str]] = {
    "up": ([UP, VERSION], "up, answered in "),
    "up after a while": ([after(0.4, UP), VERSION], "up, answered in "),
    "its version never comes": ([UP, never], "up, answered in "),
    "its version drips": ([UP, DRIPS["the body"]], "up, answered in "),
    "an answer that comes too late": ([after(2 * PATIENCE, UP)], SLOW),
    "no answer": ([never], SLOW),
    **{f"it drips {what}": ([drip], SLOW) for what, drip in DRIPS.items()},
    "closes": ([close], "down: "),
    "resets": ([reset], "down: "),
    "an error": ([http(500)], "down: it answers 500 Internal Server Error"),
    "in maintenance": (
        [http(503, b"{}", "Prefect-Maintenance: true", "Retry-After: 3600")],
        "down: The server is in maintenance",
    ),
}


def plain(patience: float = PATIENCE) -> ServerStatus:
    return server_status(get_settings(), patience=patience)


def on_a_loop(patience: float = PATIENCE) -> ServerStatus:
    async def ask() -> ServerStatus:
        return plain(patience)

    return asyncio.run(ask())


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


ON_A_LOOP = ["up", "no answer", "it drips the body", "it drips 1xx"]


@pytest.mark.parametrize(
    ("ask", "case"),
    [*((plain, case) for case in CASES), *((on_a_loop, case) for case in ON_A_LOOP)],
)
def test_a_server_is_up_slow_or_down(case: str, ask: Callable[[], ServerStatus]) -> None:
    answers, words = CASES[case]
    with wire(*answers) as server, temporary_settings(api_url=server.url), at_most(LATER):
        status = ask()
        OVER.set()
    assert status.state_in_words.startswith(words), status
    assert status.state == words.partition(":")[0].partition(",")[0]
    assert status.is_up == (status.state == "up")
    assert str(status).startswith(f"SERVER: {server.url}")
    assert status.version == ("3.8.8" if case in ("up", "up after a while") else None)


def test_a_port_that_refuses_is_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with temporary_settings(api_url=f"http://127.0.0.1:{port}/api"):
        assert plain().state_in_words.startswith("down: cannot connect (")


def test_tls_that_is_not_answered_is_slow() -> None:
    """The connection is there; what is missing is the server's part of the handshake."""
    with serving(never) as port, at_most(LATER):
        with temporary_settings(api_url=f"https://127.0.0.1:{port}/api"):
            assert plain().state_in_words == SLOW
        OVER.set()


@pytest.mark.skipif(sys.platform != "linux", reason="how a full queue answers is up to the system")
def test_a_place_that_does_not_even_refuse_is_down() -> None:
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fill its queue: from then on the system drops what comes
            one = opened.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        with temporary_settings(api_url=url), at_most(LATER):
            assert plain().state_in_words == f"down: no connection within {PATIENCE:g} s"


def test_an_in_kernel_server_that_does_not_answer_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await answers.wait()
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    server = EphemeralApp("app", home=Path(), timeout=20, given=app)
    monkeypatch.setattr("orchnb.api.status.api_of", lambda settings: server)
    hosted = HostedApp(server)
    hosted.wait_started()
    with temporary_settings(api_url=None, server_allow_ephemeral_mode=True), at_most(LATER):
        assert plain().state_in_words == SLOW
    hosted.host.post(answers.set)
    hosted.close()
    assert hosted.wait_closed()


def test_the_card_of_a_slow_server_is_a_warning() -> None:
    with wire(never) as server, temporary_settings(api_url=server.url):
        status = plain(0.2)
        OVER.set()
    shown = html(status_card(status))
    assert 'orchnb-card orchnb-warn"' in shown
    assert "slow: no answer within 0.2 s" in shown


# Tab


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds for which Tab waits."""
    monkeypatch.setattr(client_module, "_PATIENCE", PATIENCE)


def tab_plain(server: Wire) -> list[str]:
    with SyncPrefectClient(server.url) as client:
        return dir(client.operations)


def tab_on_a_loop(server: Wire) -> list[str]:
    async def ask() -> list[str]:
        async with PrefectClient(server.url) as client:
            return dir(client.operations)

    return asyncio.run(ask())


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize(
    ("tab", "drip"),
    [*((tab_plain, drip) for drip in DRIPS), (tab_on_a_loop, "the body"), (tab_on_a_loop, "1xx")],
)
def test_tab_ends_in_time(drip: str, tab: Callable[[Wire], list[str]]) -> None:
    with wire(DRIPS[drip]) as server, at_most(LATER):
        assert tab(server) == ["load"]
        OVER.set()


@pytest.mark.usefixtures("patience")
def test_the_first_attribute_says_why_there_is_none() -> None:
    async def ask(server: Wire) -> None:
        async with PrefectClient(server.url) as client:
            with at_most(LATER), pytest.raises(httpx.ReadTimeout, match="No answer within 1 s"):
                _ = client.operations.flow_runs
            OVER.set()

    with wire(DRIPS["1xx"]) as server:
        asyncio.run(ask(server))


@pytest.mark.usefixtures("patience")
def test_tab_does_not_wait_for_a_start_that_takes_longer() -> None:
    may_start = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await may_start.wait()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    client = SyncPrefectClient(app)
    client.open()
    with at_most(LATER):
        assert dir(client.operations) == ["load"]
    client.close()


# What it is made of


def test_what_comes_of_a_call_is_handed_over() -> None:
    def fail() -> None:
        raise LookupError("as it was told")

    ended: list[str] = []
    assert within(20, lambda: threading.current_thread().name, give_up=ended.clear) != ""
    with pytest.raises(LookupError, match="as it was told"):
        within(20, fail, give_up=lambda: ended.append("given up"))
    assert ended == []


def test_an_interrupted_wait_gives_the_call_up() -> None:
    ends = threading.Event()

    def interrupt() -> None:
        import _thread

        _thread.interrupt_main()
        ends.wait(20)

    with pytest.raises(KeyboardInterrupt):
        within(20, interrupt, give_up=ends.set)
    assert ends.is_set()
