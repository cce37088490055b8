"""What the server in a kernel prints is in its log, and in no cell."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchnb.notebook.hosted_output import HostedOutput
from orchnb.runtime.host import host_log
from orchnb.runtime.loops import is_hosted
from tests.notebook.kernels import Kernel, kernel

SERVER = """
import asyncio, subprocess, sys
import anyio.to_thread

def in_a_thread():
    print("PRINTED in a thread")

async def later():
    await asyncio.sleep(0)
    print("PRINTED in the background")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        print("PRINTED at the start")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("PRINTED at the end")
        await send({"type": "lifespan.shutdown.complete"})
        return
    print("PRINTED", "in", "a request", end="")
    print(" and its end", file=sys.stdout)
    sys.stderr.write("PRINTED to stderr\\n")
    print("PRINTED without an end", end="", flush=True)
    await anyio.to_thread.run_sync(in_a_thread)
    app.task = asyncio.create_task(later())
    await app.task
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})
"""


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[Kernel]:
    (tmp_path / "server.py").write_text(SERVER)
    environment = {"PYTHONPATH": str(tmp_path), "ORCHNB_EPHEMERAL_APP": "server:app"}
    with kernel(tmp_path, **environment) as cell:
        cell("import sys\nbefore = sys.stdout, sys.stderr\n%load_ext orchnb")
        yield cell


def test_it_is_in_the_log_and_in_no_cell(cell: Kernel) -> None:
    shown = cell(
        "print('mine')\nprint('mine too', file=sys.stderr)\n"
        "r = await orchnb.get_client().request('GET', '/x')\n"
        "r = orchnb.get_client(sync_client=True).request('GET', '/x')\nprint('at last')"
    )
    assert not shown.errors, shown.traceback
    assert shown.streams.replace("mine too\n", "") == "mine\nat last\n"
    assert "PRINTED" not in shown.everything.replace("without", "")
    log = cell("%orch_server_logs").text
    for words in (
        "INFO stdout: PRINTED at the start",
        "INFO stdout: PRINTED in a request and its end",
        "WARNING stderr: PRINTED to stderr",
        "INFO stdout: PRINTED without an end",
        "INFO stdout: PRINTED in a thread",
        "INFO stdout: PRINTED in the background",
    ):
        assert words in log


def test_what_cells_do_with_the_streams_works_as_ever(cell: Kernel) -> None:
    ask = "orchnb.get_client(sync_client=True).request('GET', '/x')"
    shown = cell(f"%%capture caught\nprint('mine')\n{ask}")
    assert not shown.errors, shown.traceback
    assert cell.value("caught.stdout.splitlines()[0]") == "'mine'"
    assert (
        cell.value(
            "import contextlib, io\n"
            "with contextlib.redirect_stdout(io.StringIO()) as caught:\n"
            f"    print('mine')\n    r = {ask}\n"
            "[caught.getvalue().splitlines()[0], isinstance(sys.stdout, io.TextIOBase)]"
        )
        == "['mine', True]"
    )
    in_a_thread = (
        "import threading\nt = threading.Thread(target=print, args=['in my thread'])\n"
        "t.start(); t.join()\n!echo from a shell\n"
    )
    shown = cell(in_a_thread)
    assert "in my thread" in shown.streams
    assert "from a shell" in shown.streams
    cell("%unload_ext orchnb")
    assert cell.value("(sys.stdout, sys.stderr) == before") == "True"


def stand_in(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A stream in the place of ``sys.stdout``; not a fixture, as pytest sets its own after those."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.fixture
def hosted() -> Iterator[None]:
    token = is_hosted.set(True)
    yield
    is_hosted.reset(token)


@pytest.mark.usefixtures("hosted")
def test_after_its_removal_all_is_passed_on_by_whoever_has_kept_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = stand_in(monkeypatch)
    output = HostedOutput()
    kept = sys.stdout
    print("first", file=kept)
    output.remove()
    print("second", file=kept)
    assert sys.stdout is real
    assert real.getvalue() == "second\n"
    assert host_log.lines(1)[0].endswith("INFO stdout: first")


def test_what_somebody_has_put_around_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    output = HostedOutput()
    theirs = io.StringIO()
    sys.stdout = theirs
    output.remove()
    assert sys.stdout is theirs


@pytest.mark.usefixtures("hosted")
def test_lines_are_kept_as_lines_of_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    output = HostedOutput()
    before = len(host_log.lines(host_log.size))
    sys.stdout.writelines(["a\nb", "c\n", "\n"])
    sys.stdout.write("x" * 250_000)
    sys.stdout.flush()
    output.remove()
    lines = host_log.lines(6)
    assert [line.rpartition(": ")[2] for line in lines[:3]] == ["a", "bc", ""]
    assert [len(line.rpartition(": ")[2]) for line in lines[3:]] == [100_000, 100_000, 50_000]
    assert len(host_log.lines(host_log.size)) - before in (6, 0)


@pytest.mark.usefixtures("hosted")
def test_attributes_are_those_of_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stand_in(monkeypatch)
    output = HostedOutput()
    sys.stdout.mood = "fine"  # type: ignore[attr-defined]
    assert real.mood == "fine"  # type: ignore[attr-defined]
    assert isinstance(sys.stdout, io.StringIO)
    with pytest.raises(TypeError):
        sys.stdout.write(b"bytes")  # type: ignore[arg-type]
    output.remove()
