"""Any ASGI app as the server in a kernel: FastAPI, Starlette and a bare function, each in full use."""

from __future__ import annotations

import json
import os
import time
from ast import literal_eval
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.kernels import Kernel, Shown, kernel

ROOT = Path(__file__).parents[2]

SERVER = '''
"""The same app three times: its lifespan's state, a mounted app, background work, streams, errors."""

import asyncio
import threading
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

done = threading.Event()
may_end = threading.Event()

@asynccontextmanager
async def lifespan(app):
    yield {"opened": "in the lifespan"}

async def slowly():
    while not may_end.is_set():
        await asyncio.sleep(0.01)
    done.set()

async def parts():
    for n in range(5):
        yield f"part {n}\\n"
        await asyncio.sleep(0)

fast = FastAPI(lifespan=lifespan)
below = FastAPI()
fast.mount("/api/below", below)

@fast.get("/api/hello")
def hello(): return "hello"

@fast.get("/api/state")
async def state(request: Request): return request.state.opened

@below.get("/there")
async def there(request: Request): return request.scope["root_path"]

@fast.post("/api/background")
async def background(tasks: BackgroundTasks):
    tasks.add_task(slowly)
    return "accepted"

@fast.get("/api/stream")
async def stream(): return StreamingResponse(parts())

@fast.get("/api/fails")
def fails(): raise LookupError("the shelf is empty")

@fast.post("/api/size")
async def size(request: Request): return len(await request.body())

@fast.get("/api/big/{size}")
async def big(size: int): return PlainTextResponse(b"x" * size)

async def there_too(request): return JSONResponse(request.scope["root_path"])

async def hello_too(request): return JSONResponse("hello")
async def state_too(request): return JSONResponse(request.state.opened)
async def background_too(request):
    return JSONResponse("accepted", background=BackgroundTask(slowly))
async def stream_too(request): return StreamingResponse(parts())
async def fails_too(request): raise LookupError("the shelf is empty")
async def size_too(request): return JSONResponse(len(await request.body()))
async def big_too(request): return PlainTextResponse(b"x" * int(request.path_params["size"]))

star = Starlette(lifespan=lifespan, routes=[
    Route("/api/hello", hello_too), Route("/api/state", state_too),
    Mount("/api/below", routes=[Route("/there", there_too)]),
    Route("/api/background", background_too, methods=["POST"]),
    Route("/api/stream", stream_too), Route("/api/fails", fails_too),
    Route("/api/size", size_too, methods=["POST"]), Route("/api/big/{size:int}", big_too),
])

async def bare(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        scope["state"]["opened"] = "in the lifespan"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    what = scope["path"].removeprefix("/api/").split("/")
    if what[0] == "fails":
        raise LookupError("the shelf is empty")
    if what[0] == "end":  # of all that runs on the loop, and so of the app
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    if what[0] == "csrf-token":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body"})
        return
    kind = b"text/plain" if what[0] in ("stream", "big") else b"application/json"
    head = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}
    if what[0] == "stream":
        await send(head)
        async for part in parts():
            message = {"type": "http.response.body", "body": part.encode(), "more_body": True}
            await send(message)
        await send({"type": "http.response.body"})
        return
    if what[0] == "size":
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
    body = {
        "hello": lambda: b'"hello"',
        "health": lambda: b"true",
        "admin": lambda: b'"1.2.3"',
        "end": lambda: b"null",
        "state": lambda: b'"%s"' % scope["state"]["opened"].encode(),
        "below": lambda: b'"/api/below"',
        "background": lambda: b'"accepted"',
        "size": lambda: str(size).encode(),
        "big": lambda: b"x" * int(what[1]),
    }[what[0]]()
    await send(head)
    await send({"type": "http.response.body", "body": body})
    if what[0] == "background":
        await slowly()
'''

SETUP = """
import json, os, sys, time
%load_ext orchnb
import server
def peak():
    if not sys.platform.startswith("linux"):
        return 0
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # MB
"""

USE = """
client, plain = orchnb.get_client(), orchnb.get_client(sync_client=True)
async def ask(path, method="GET", **options):
    return (await client.request(method, path, **options)).json()
seen = dict(state=await ask("/state"), below=await ask("/below/there"))
server.may_end.clear(); server.done.clear()
seen["background"] = await ask("/background", "POST")
seen["done by then"] = server.done.is_set()
seen["and others are served"] = await ask("/hello")
server.may_end.set()
seen["done"] = server.done.wait(10)
seen["streamed"] = (await client.request("GET", "/stream")).text.split()
seen["and plainly"] = plain.request("GET", "/stream").text.split()
json.dumps(seen)
"""

BIG = """
SIZE = 100_000_000
body = b"x" * SIZE
before, began = peak(), time.monotonic()
sizes = [
    (await client.request("POST", "/size", content=body)).json(),
    plain.request("POST", "/size", content=body).json(),
    len((await client.request("GET", f"/big/{SIZE}")).content),
    len(plain.request("GET", f"/big/{SIZE}").content),
]
json.dumps(dict(sizes=sizes, grown=peak() - before, took=time.monotonic() - began))
"""

APPS = ["fast", "star", "bare"]


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("any")
    (folder / "server.py").write_text(SERVER)
    environment = {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        "ORCHNB_EPHEMERAL_APP": "server:bare",
        "PREFECT_CLIENT_MAX_RETRIES": "0",
    }
    with kernel(folder, **environment) as cell:
        shown = cell(SETUP)
        assert not shown.errors, shown.traceback
        yield cell


@pytest.fixture(params=APPS)
def served(request: pytest.FixtureRequest, cell: Kernel) -> Kernel:
    """The kernel with one of the apps as its server."""
    cell(f"os.environ['ORCHNB_EPHEMERAL_APP'] = 'server:{request.param}'\n%reload_ext orchnb")
    return cell


def answer(shown: Shown) -> Any:
    assert not shown.errors, shown.traceback
    assert shown.stderr == ""
    return json.loads(literal_eval(shown.text))


def test_it_is_served_with_all_that_it_does(served: Kernel) -> None:
    assert answer(served(USE)) == {
        "state": "in the lifespan",
        "below": "/api/below",
        "background": "accepted",
        "done by then": False,
        "and others are served": "hello",
        "done": True,
        "streamed": ["part", "0", "part", "1", "part", "2", "part", "3", "part", "4"],
        "and plainly": ["part", "0", "part", "1", "part", "2", "part", "3", "part", "4"],
    }


def test_an_error_in_it_is_a_500_with_a_card_and_the_server_goes_on(served: Kernel) -> None:
    for source in (
        "await orchnb.get_client().request('GET', '/fails')",
        "orchnb.get_client(sync_client=True).request('GET', '/fails')",
    ):
        shown = served(source)
        assert [error["ename"] for error in shown.errors] == ["PrefectHTTPStatusError"]
        assert "500 Internal Server Error" in shown.text
        assert shown.html.count('orchnb-card orchnb-error"') == 1
        assert shown.stderr == ""
        assert "the shelf is empty" not in shown.everything  # that is for the log
        log = served.value("from orchnb.hosting.host import host_log\nhost_log.lines(1)")
        assert "LookupError: the shelf is empty" in log
        assert served.value("(await orchnb.get_client().hello()).status_code") == "200"


def test_a_hundred_megabytes_go_there_and_back(served: Kernel) -> None:
    seen = answer(
        served("client, plain = orchnb.get_client(), orchnb.get_client(sync_client=True)\n" + BIG)
    )
    assert seen["sizes"] == [100_000_000] * 4
    assert seen["grown"] < 400  # what comes is there in parts and as a whole, and so is what goes
    assert seen["took"] < 30


def test_one_that_has_died_is_started_anew_by_asking_for_it(cell: Kernel) -> None:
    cell("os.environ['ORCHNB_EPHEMERAL_APP'] = 'server:bare'\n%reload_ext orchnb")
    cell("%orch_server_type ephemeral\nclient = orchnb.get_client()")
    cell("await client.hello()\nawait client.request('GET', '/end')")
    dead = until_state(cell, "not started")
    assert "not started yet; the first request starts it" in dead
    cell("%orch_server_type ephemeral")
    assert "up, answered in" in until_state(cell, "up")
    assert cell.value("(await client.hello()).status_code") == "200"


def until_state(cell: Kernel, state: str) -> str:
    """Ask for the server's status until it is that one; its text. Asking starts no server."""
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        status = cell("status = %orch_server_type\nprint(status)").streams
        if cell.value("status.state") == repr(state):
            return status
    raise AssertionError(f"still {status}")
