"""ORCHNB_EPHEMERAL_APP: which apps it may name, and what it says of those that will not do."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from orchnb import ServerStartFailed, get_client
from orchnb.hosting.host import host_log

MODULE = """
import asyncio
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b'"bare"'})

async def without_lifespan(scope, receive, send):
    assert scope["type"] == "http"
    await app(scope, receive, send)

def make():
    return app

def make_with_options(settings=None, debug=False, final=False):
    return app

class Instance:
    async def __call__(self, scope, receive, send):
        await app(scope, receive, send)

class Anything:
    async def __call__(self, *args, **kwargs):
        await app(*args, **kwargs)

class ASGI3Class:
    def __init__(self, scope, receive, send):
        self.call = app(scope, receive, send)
    def __await__(self):
        return self.call.__await__()

instance = Instance()
wrapped = Anything()

class Holder:
    inner = instance
    class Deeper:
        inner = instance

number = 3

def broken_factory():
    raise LookupError("no configuration here")

def leaving_factory():
    raise SystemExit("I leave")

def wrong_factory():
    return 3

def takes_one(argument):
    return app

async def async_factory():
    return app

async def failing(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the disk is full"})

async def raising(scope, receive, send):
    await receive()
    raise OSError("cannot reach postgres://me:s3cret@db/x")

async def slow(scope, receive, send):
    if scope["type"] == "lifespan" and "NEVER_STARTS" in os.environ:
        await asyncio.Event().wait()
    await app(scope, receive, send)
"""


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules to be imported from."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "given_apps.py").write_text(MODULE)
    (folder / "given_frameworks.py").write_text(
        textwrap.dedent(
            """
            from fastapi import FastAPI
            from starlette.applications import Starlette
            from starlette.responses import JSONResponse
            from starlette.routing import Route

            fast = FastAPI()

            @fast.get("/api/admin/version")
            def version():
                return "fastapi"

            star = Starlette(
                routes=[Route("/api/admin/version", lambda request: JSONResponse("starlette"))]
            )
            """
        )
    )
    (folder / "given_broken_syntax.py").write_text("def (:\n")
    (folder / "given_broken_import.py").write_text("import a_package_that_is_not_there\n")
    (folder / "given_raising.py").write_text("raise RuntimeError('at import')\n")
    (folder / "given_leaving.py").write_text("raise SystemExit(3)\n")
    (folder / "given_interrupting.py").write_text("raise KeyboardInterrupt\n")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def answer(spec: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ORCHNB_EPHEMERAL_APP", spec)
    with get_client(sync_client=True) as client:
        return client.api_version()


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("given_apps:app", "bare"),
        ("given_apps:without_lifespan", "bare"),
        ("given_apps:make", "bare"),
        ("given_apps:make_with_options", "bare"),
        ("given_apps:Instance", "bare"),
        ("given_apps:instance", "bare"),
        ("given_apps:wrapped", "bare"),
        ("given_apps:ASGI3Class", "bare"),
        ("given_apps:Holder.inner", "bare"),
        ("given_apps:Holder.Deeper.inner", "bare"),
        ("given_frameworks:fast", "fastapi"),
        ("given_frameworks:star", "starlette"),
    ],
)
def test_an_app_of_any_shape_is_served(
    spec: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert answer(spec, monkeypatch) == expected


@pytest.mark.parametrize(
    ("spec", "phase", "words"),
    [
        ("given_apps", "import", "should have the form module:app"),
        (":app", "import", "should have the form module:app"),
        ("given_apps:", "import", "should have the form module:app"),
        ("no_such_module:app", "import", "names a module that cannot be found: no_such_module"),
        ("given_apps.inner:app", "import", "cannot be found: given_apps.inner"),
        (
            "given_broken_import:app",
            "import",
            "cannot be imported: it needs the module a_package_that_is_not_there",
        ),
        ("given_broken_syntax:app", "import", "cannot be imported: SyntaxError: "),
        ("given_raising:app", "import", "cannot be imported: RuntimeError: at import"),
        ("given_leaving:app", "import", "cannot be imported: SystemExit: 3"),
        ("given_interrupting:app", "import", "cannot be imported: KeyboardInterrupt"),
        ("given_apps:nothing", "import", "names 'nothing', which given_apps does not have"),
        ("given_apps:Holder.nothing", "import", "names 'Holder.nothing', which given_apps does"),
        (
            "given_apps:number",
            "import",
            "is not an ASGI app: it should take (scope, receive, send)",
        ),
        (
            "given_apps:takes_one",
            "import",
            "is not an ASGI app: it should take (scope, receive, send)",
        ),
        ("given_apps:async_factory", "import", "is an async factory"),
        ("given_apps:broken_factory", "create", "LookupError: no configuration here"),
        ("given_apps:leaving_factory", "create", "SystemExit: I leave"),
        ("given_apps:wrong_factory", "create", "returned 'int', which is not an ASGI app"),
        ("given_apps:failing", "start", "the disk is full"),
        ("given_apps:raising", "start", "cannot reach postgres://***@db/x"),
    ],
)
def test_what_will_not_do_is_told_and_the_next_start_works(
    spec: str, phase: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServerStartFailed) as caught:
        answer(spec, monkeypatch)
    error = caught.value
    assert error.phase == phase
    assert words in str(error)
    assert spec in str(error)
    assert "\n" not in str(error)
    assert "ORCHNB_EPHEMERAL_APP" in error.hint or phase == "create"
    assert error.hint
    assert "s3cret" not in f"{error!r} {error.log_lines}"
    assert answer("given_apps:app", monkeypatch) == "bare"


def test_a_corrected_module_is_imported_at_the_next_start(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    with pytest.raises(ServerStartFailed, match="RuntimeError: at import"):
        answer("given_raising:app", monkeypatch)
    (modules / "given_raising.py").write_text(MODULE)
    assert answer("given_raising:app", monkeypatch) == "bare"


def test_a_start_that_never_ends_fails_at_the_deadline_and_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEVER_STARTS", "1")
    monkeypatch.setenv("ORCHNB_EPHEMERAL_STARTUP_TIMEOUT", "0.05")
    with pytest.raises(ServerStartFailed, match=r"slow did not start: no progress for 0.05 s"):
        answer("given_apps:slow", monkeypatch)
    monkeypatch.delenv("ORCHNB_EPHEMERAL_STARTUP_TIMEOUT")
    monkeypatch.delenv("NEVER_STARTS")
    assert answer("given_apps:slow", monkeypatch) == "bare"


def test_a_failure_comes_with_the_last_lines_of_the_log(
    modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (modules / "given_logging.py").write_text(
        "import logging\n"
        "def make():\n"
        "    for number in range(30):\n"
        "        logging.getLogger('mine').warning('step %d of sql://u:pw@h', number)\n"
        "    raise LookupError('gone')\n"
    )
    with pytest.raises(ServerStartFailed) as caught:
        answer("given_logging:make", monkeypatch)
    lines = caught.value.log_lines
    assert len(lines) == 20
    assert lines[-1] == "LookupError: gone"
    assert any(line.endswith("WARNING mine: step 29 of sql://***@h") for line in lines)
    assert any("step 29" in line for line in host_log.lines(100))
