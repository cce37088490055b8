"""A process that forgets everything about its hosted apps still ends: soon, quietly, with its code."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENDS_WITHIN = 5.0
"""Seconds: the time that a shutdown may take, and some for the interpreter's own end."""

PRELUDE = """
import asyncio, atexit, os, sys, threading, time
from contextlib import asynccontextmanager
import aiosqlite, anyio, anyio.to_thread, httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from orchnb.hosting.host import HostedApp
from orchnb.hosting.lifespan import app_lifespan_context
from orchnb.runtime.run import run
from orchnb.hosting.transport import HostedTransport

def say(text):
    os.write(1, text.encode() + b"\\n")

async def swallow():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

def block():
    time.sleep(3600)

def compute():
    while True:
        pass

async def hello(request):
    return PlainTextResponse("hello")

def serve(started=None, ended=None, handler=hello):
    # Databases have threads of their own, for which the interpreter waits.
    @asynccontextmanager
    async def thread_of_its_own():
        enough = threading.Event()
        threading.Thread(target=enough.wait).start()
        try:
            yield
        finally:
            enough.set()

    @asynccontextmanager
    async def lifespan(app):
        async with thread_of_its_own(), aiosqlite.connect(":memory:") as database:
            await database.execute("select 1")
            await anyio.to_thread.run_sync(int)
            if started is not None:
                await started()
            yield
            if ended is not None:
                await ended()
            await anyio.to_thread.run_sync(int)
            await asyncio.to_thread(int)
            say("down")
    app = Starlette(lifespan=lifespan, routes=[Route("/", handler)])
    hosted = HostedApp(app)
    transport = HostedTransport(lambda: hosted)
    return hosted, httpx.Client(transport=transport, base_url="http://app", timeout=None)

def in_background(function, *args):
    threading.Thread(target=function, args=args, daemon=True).start()
"""


@dataclass(frozen=True)
class Script:
    code: str
    said: tuple[str, ...] = ()
    status: int = 0
    last_words: str = ""


NO_THREADS_AT_EXIT = (3, 12) <= sys.version_info[:3] < (3, 12, 2)

UP = "hosted, client = serve({}); hosted.wait_started(); client.get('/')\n"

SCRIPTS = {
    "an app that is up": Script(UP.format(""), said=("down",)),
    "an app that has just been asked for": Script(
        "async def app(scope, receive, send): await receive(); await anyio.to_thread.run_sync(int)\n"
        "HostedApp(app)"
    ),
    "two apps and two leases of one": Script(
        "hosted = [serve()[0], serve()[0]]; more = HostedApp(hosted[0].app)\n"
        "for one in [*hosted, more]: one.wait_started()",
        said=("down", "down"),
    ),
    "an app that was closed": Script(
        UP.format("") + "hosted.close(); assert hosted.wait_closed()", said=("down",)
    ),
    "a shutdown that hangs": Script(UP.format("ended=anyio.sleep_forever")),
    "a shutdown that hangs and takes a while to be cancelled": Script(
        "async def hang():\n"
        "    try: await anyio.sleep_forever()\n"
        "    finally:\n"
        "        with anyio.CancelScope(shield=True): await anyio.sleep(0.5)\n"
        "        say('cancelled')\n" + UP.format("ended=hang"),
        said=("cancelled",),
    ),
    "a shutdown that swallows its cancellation": Script(
        "async def app(scope, receive, send):\n"
        "    await receive(); await send({'type': 'lifespan.startup.complete'})\n"
        "    await receive(); await swallow()\n"
        "HostedApp(app).wait_started()"
    ),
    "a shutdown that fails": Script(
        "async def fail(): raise RuntimeError('pool is busy')\n" + UP.format("ended=fail")
    ),
    "a start-up that hangs": Script(
        "reached = threading.Event()\n"
        "async def hang(): reached.set(); await anyio.sleep_forever()\n"
        "serve(started=hang); reached.wait()"
    ),
    "a start-up that swallows its cancellation": Script(
        "reached = threading.Event()\n"
        "async def app(scope, receive, send):\n"
        "    await receive(); reached.set(); await swallow()\n"
        "HostedApp(app); reached.wait()"
    ),
    "a start-up that failed": Script(
        "async def fail(): raise RuntimeError('no database')\n"
        "hosted, _ = serve(started=fail)\n"
        "try: hosted.wait_started()\n"
        "except Exception: say('failed')",
        said=("failed",),
    ),
    "an app that blocks its loop": Script(
        "reached = threading.Event()\n"
        "async def app(scope, receive, send): reached.set(); block()\n"
        "HostedApp(app); reached.wait()"
    ),
    "an app that computes": Script(
        "reached = threading.Event()\n"
        "async def app(scope, receive, send): reached.set(); compute()\n"
        "HostedApp(app); reached.wait()"
    ),
    "a request that is never answered": Script(
        "reached = threading.Event()\n"
        "async def hang(request): reached.set(); await anyio.sleep_forever()\n"
        "hosted, client = serve(handler=hang); hosted.wait_started()\n"
        "def ask():\n"
        "    try: client.get('/')\n"
        "    except httpx.RemoteProtocolError: pass\n"
        "in_background(ask); reached.wait()",
        said=("down",),
    ),
    "an answer that is still to come": Script(
        "reached = threading.Event()\n"
        "async def answer(request):\n"
        "    reached.set(); await asyncio.sleep(0.3); return PlainTextResponse('answered')\n"
        "hosted, client = serve(handler=answer); hosted.wait_started()\n"
        "in_background(lambda: say(client.get('/').text)); reached.wait()",
        said=("answered", "down"),
    ),
    "work after the answer": Script(
        "async def work(): await asyncio.sleep(0.5); say('worked')\n"
        "async def answer(request): return PlainTextResponse('', background=BackgroundTask(work))\n"
        + UP.format("handler=answer"),
        said=("worked", "down"),
    ),
    "work after the answer that does not end, and a shutdown that hangs": Script(
        "async def work():\n"
        "    try: await asyncio.sleep(3600)\n"
        "    finally: say('cancelled')\n"
        "async def hang(): say('down'); await anyio.sleep_forever()\n"
        "async def answer(request): return PlainTextResponse('', background=BackgroundTask(work))\n"
        + UP.format("handler=answer, ended=hang"),
        said=("cancelled", "down"),
    ),
    "work after the answer and a shutdown that both swallow their cancellation": Script(
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        await send({'type': 'http.response.start', 'status': 200})\n"
        "        await send({'type': 'http.response.body'}); await swallow()\n"
        "    await receive(); await send({'type': 'lifespan.startup.complete'})\n"
        "    await receive(); await swallow()\n"
        "hosted = HostedApp(app); transport = HostedTransport(lambda: hosted)\n"
        "httpx.Client(transport=transport).get('http://app/')"
    ),
    "a task of an app's that goes on": Script(
        "async def begin(): tasks.append(asyncio.create_task(asyncio.sleep(3600)))\n"
        "tasks = []\n" + UP.format("started=begin"),
        said=("down",),
    ),
    "a loop that ends with somebody inside": Script(
        "async def app(scope, receive, send):\n"
        "    await receive(); await send({'type': 'lifespan.startup.complete'}); await receive()\n"
        "async def visit():\n"
        "    async with app_lifespan_context(app): inside.set(); await anyio.sleep_forever()\n"
        "async def main():\n"
        "    global inside, task\n"
        "    inside = asyncio.Event(); task = asyncio.create_task(visit()); await inside.wait()\n"
        "asyncio.run(main()); say('ended')",
        said=("ended",),
        last_words="The lifespan of the app 'app' was cancelled",
    ),
    "a loop that was closed under an app": Script(
        "async def app(scope, receive, send):\n"
        "    await receive(); await send({'type': 'lifespan.startup.complete'}); await receive()\n"
        "loop = asyncio.new_event_loop(); entry = app_lifespan_context(app)\n"
        "loop.run_until_complete(entry.__aenter__()); loop.close()\n"
        "async def another():\n"
        "    async with app_lifespan_context(app): say('inside')\n"
        "run(another())",
        said=("inside",),
    ),
    "sys.exit": Script(UP.format("") + "sys.exit(7)", said=("down",), status=7),
    "an error that nobody caught": Script(
        UP.format("") + "raise LookupError('mine')",
        said=("down",),
        status=1,
        last_words="LookupError: mine",
    ),
    "functions for the end that still use the client": Script(
        "def late():\n"
        "    try: client.get('/')\n"
        "    except httpx.ConnectError: say('too late')\n"
        "atexit.register(late)\n" + UP.format(""),
        said=("down", "too late"),
    ),
    "a forked child": Script(
        UP.format("")
        + "import warnings\n"
        + "warnings.filterwarnings('ignore', '.*multi-threaded', DeprecationWarning)\n"  # from 3.12 on
        + "pid = os.fork()\n"
        + "if pid: assert os.waitpid(pid, 0)[1] == 0; assert client.get('/').text == 'hello'\n"
        + "else: sys.exit(0)",
        said=("down",),
    ),
}


@dataclass(frozen=True)
class Ended:
    status: int
    said: tuple[str, ...]
    stderr: str
    took: float


def _run(code: str) -> Ended:
    """Runs a script; ``took`` are the seconds from the end of its code to that of the process."""
    marked = f"{PRELUDE}\ntry:\n" + "".join(f"    {line}\n" for line in code.splitlines())
    marked += "finally:\n    say(f'at {time.monotonic()}')\n"
    done = subprocess.run(
        [sys.executable, "-c", marked], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    ended = time.monotonic()
    lines = done.stdout.splitlines()
    began = max((float(line[3:]) for line in lines if line.startswith("at ")), default=0.0)
    said = tuple(line for line in lines if not line.startswith("at "))
    return Ended(done.returncode, said, done.stderr, ended - began)


@pytest.fixture(scope="module")
def ended() -> dict[str, Future[Ended]]:
    """All scripts, most of which wait most of the time, a few at once."""
    with ThreadPoolExecutor(2) as pool:
        return {name: pool.submit(_run, script.code) for name, script in SCRIPTS.items()}


@pytest.mark.skipif(sys.platform == "win32", reason="some of the scripts fork")
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_process_ends_in_time_and_in_peace_with(
    name: str, ended: dict[str, Future[Ended]]
) -> None:
    script, outcome = SCRIPTS[name], ended[name].result()
    assert outcome.status == script.status
    if script.last_words:
        assert script.last_words in outcome.stderr
    else:
        assert outcome.stderr == ""
    if NO_THREADS_AT_EXIT and "down" in script.said and "down" not in outcome.said:
        pytest.skip("Python before 3.12.2 starts no thread at its exit (python/cpython#113964)")
    assert outcome.said == script.said
    assert outcome.took < ENDS_WITHIN
