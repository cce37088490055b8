"""The app in this process, opened on a port."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchnb.errors import ServerStartFailed
from orchnb.hosting import host
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.port import Served


class App:
    """Tells what it was asked, and counts its lives."""

    def __init__(self) -> None:
        self.starts = self.ends = 0
        self.hanging = threading.Event()
        self.worked = self.worked_when_it_ended = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            self.starts += 1
            scope["state"]["word"] = "from the lifespan"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.worked_when_it_ended = self.worked
            self.ends += 1
            await send({"type": "lifespan.shutdown.complete"})
            return
        words = f"{scope['path']} {scope['raw_path'].decode()} {scope['state']['word']}"
        scope["state"]["word"] = "of one request"
        if scope["path"] == "/hang":
            self.hanging.set()
            await receive()
            await receive()  # until it is gone
        headers = [(b"content-length", str(len(words)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": words.encode()})
        if scope["path"] == "/work":
            await asyncio.sleep(0.1)
            self.worked = True


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def served(app: App) -> Iterator[Served]:
    opened = Served(EphemeralApp("app", home=Path(), timeout=20, given=app))
    yield opened
    opened.close()


def get(served: Served, path: str = "/", **options: Any) -> httpx.Response:
    """An answer to the owner."""
    auth = tuple(served.auth_string.get_secret_value().split(":"))
    options = {"auth": auth, "trust_env": False, "timeout": 20, **options}
    return httpx.get(f"{served.address}{path}", **options)


def test_the_running_app_answers_on_loopback_and_is_no_copy(served: Served, app: App) -> None:
    assert get(served, "/a%20b").text == "/a b /a%20b from the lifespan"
    assert get(served, "/again").text == "/again /again from the lifespan"
    assert app.starts == 1
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        if not address.startswith("127."):
            with socket.socket() as tried:
                tried.settimeout(2)
                assert tried.connect_ex((address, served.port)) != 0


def test_after_the_close_the_port_is_free_and_the_app_down(served: Served, app: App) -> None:
    get(served)
    served.close()
    served.close()
    with socket.socket() as tried:
        assert tried.connect_ex(("127.0.0.1", served.port)) != 0
    host.close_all()
    assert (app.starts, app.ends) == (1, 1)


@pytest.mark.parametrize("end", ["the port", "the process"])
def test_work_after_an_answer_through_the_port_ends_before_the_app_is_shut_down(
    served: Served, app: App, end: str
) -> None:
    get(served, "/work")
    if end == "the port":
        served.close()
    host.close_all()
    assert (app.ends, app.worked_when_it_ended) == (1, True)


def test_a_request_that_hangs_does_not_keep_the_port_open(served: Served, app: App) -> None:
    errors: list[Exception] = []

    def ask() -> None:
        try:
            get(served, "/hang")
        except Exception as exc:
            errors.append(exc)

    asking = threading.Thread(target=ask)
    asking.start()
    assert app.hanging.wait(20)
    served.close()
    asking.join(20)
    assert not asking.is_alive()


def test_through_a_hubs_proxy_the_same_app_is_below_its_path(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/me@home/")
    served = Served(EphemeralApp("app", home=Path(), timeout=20, given=app))
    try:
        path = f"/user/me@home/proxy/absolute/{served.port}"
        assert served.proxied_page == f"{path}/"
        assert get(served, f"{path}/x").text == "/x /x from the lifespan"
        assert get(served, path).text == "/ / from the lifespan"
        assert get(served, "/x").text == "/x /x from the lifespan"
    finally:
        served.close()


@pytest.mark.parametrize("prefix", ["", "//evil.example/", "https://evil.example/", '/"><script>/'])
def test_a_prefix_that_is_no_path_is_none(
    served: Served, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", prefix)
    other = Served(served.app)
    assert other.proxied_page == "/"
    assert re.fullmatch(rf"{other.address}/[0-9a-f]{{16}}/", other.page)
    other.close()


def test_an_app_that_does_not_start_opens_no_port() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(ServerStartFailed, match="no database"):
        Served(EphemeralApp("broken", home=Path(), timeout=20, given=broken))


def test_without_uvicorn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, app: App) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ServerStartFailed, match="not installed") as caught:
        Served(EphemeralApp("app", home=Path(), timeout=20, given=app))
    assert "pip install uvicorn" in caught.value.hint


def test_a_port_whose_app_went_down_is_not_open(served: Served) -> None:
    assert served.is_open
    host.close_all()
    assert not served.is_open


@pytest.fixture
def on_demand(app: App) -> Iterator[Served]:
    opened = Served(EphemeralApp("app", home=Path(), timeout=20, given=app), on_demand=True)
    yield opened
    opened.close()


def test_on_demand_the_first_request_of_the_owner_starts_the_app(
    on_demand: Served, app: App
) -> None:
    assert on_demand.is_open
    assert "orchnb-host" not in [thread.name for thread in threading.enumerate()]
    assert get(on_demand, auth=("orchnb", "wrong")).status_code == 401
    assert app.starts == 0
    assert get(on_demand, "/a").text == "/a /a from the lifespan"
    assert get(on_demand, "/b").text == "/b /b from the lifespan"
    on_demand.open()
    assert app.starts == 1
    on_demand.close()
    host.close_all()
    assert app.ends == 1


@pytest.mark.parametrize("asked", [False, True])
def test_a_port_on_demand_is_free_after_its_close(on_demand: Served, asked: bool) -> None:
    if asked:
        get(on_demand)
    on_demand.close()
    on_demand.close()
    assert not on_demand.is_open
    with socket.socket() as tried:
        assert tried.connect_ex(("127.0.0.1", on_demand.port)) != 0
    assert "orchnb-port" not in [thread.name for thread in threading.enumerate()]


def test_requests_to_an_app_that_does_not_start_are_told_why_until_it_does(app: App) -> None:
    starts = iter(["no database", "still none", ""])

    async def broken_at_first(scope: Any, receive: Any, send: Any) -> None:
        problem = next(starts) if scope["type"] == "lifespan" else ""
        if not problem:
            await app(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.failed", "message": problem})

    served = Served(
        EphemeralApp("broken", home=Path(), timeout=20, given=broken_at_first), on_demand=True
    )
    try:
        failed = get(served)
        assert failed.status_code == 500
        assert "no database" in failed.json()["detail"]
        with pytest.raises(ServerStartFailed, match="still none"):
            served.open()
        assert served.is_open
        assert not served.is_given_out
        assert get(served).text == "/ / from the lifespan"
    finally:
        served.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("asked", [False, True])
def test_a_forked_child_does_not_keep_the_port(on_demand: Served, asked: bool) -> None:
    if asked:
        get(on_demand)
    reading, writing = os.pipe()
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        on_demand.close()
        os.write(telling, b"x")
        os.read(reading, 1)  # until the parent has looked
        os._exit(0)
    os.close(reading)
    try:
        os.read(told, 1)
        assert get(on_demand).status_code == 200, "the parent's is as it was"
        on_demand.close()
        with socket.socket() as tried:
            assert tried.connect_ex(("127.0.0.1", on_demand.port)) != 0
    finally:
        for pipe in (writing, told, telling):
            os.close(pipe)
        os.waitpid(child, 0)


def test_a_port_whose_loop_was_ended_by_something_else_is_served_again(
    on_demand: Served, app: App
) -> None:
    on_demand.open()  # returns when the port is served
    left = host._tenancy.host
    assert left is not None
    left.stop()
    assert left.join(20)
    assert get(on_demand).text == "/ / from the lifespan"
    assert app.starts == 2
