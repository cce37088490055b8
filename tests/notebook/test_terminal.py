"""Terminal IPython: its plain cells run on no loop, its async cells on one of its own."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pexpect = pytest.importorskip(
    "pexpect", reason="pexpect drives terminals, which Windows has none of"
)
if sys.platform == "win32":
    pytest.skip("pexpect.spawn needs a POSIX terminal", allow_module_level=True)

ROOT = Path(__file__).parents[2]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Terminal:
    """IPython in a terminal; call it with a line."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "HOME": str(folder), "TERM": "dumb", "PYTHONPATH": str(ROOT)}
        self.hangs = folder / "hangs"
        environment.update(
            ORCHNB_EPHEMERAL_APP="tests.notebook.apps:app",
            IPYTHONDIR=str(folder / "ipython"),
            HANG_FILE=str(self.hangs),
        )
        arguments = ["-m", "IPython", "--simple-prompt", "--no-banner", "--colors=NoColor"]
        self.child = pexpect.spawn(
            sys.executable, arguments, env=environment, encoding="utf-8", timeout=60, echo=False
        )
        self.child.expect(r"In \[\d+\]: ")

    def __call__(self, line: str) -> str:
        """Run a line and return what it printed."""
        self.child.sendline(line)
        self.child.expect(r"In \[\d+\]: ")
        return re.sub(r"\r", "", self.child.before)

    def stopped(self, line: str, seen: str = "") -> str:
        """Run a line, press Ctrl-C once ``seen`` is printed, or the request hangs; what was printed."""
        self.child.sendline(line)
        if seen:
            self.child.expect(seen)
        else:
            wait_for(self.hangs.exists)
        self.child.sendintr()
        before = self.child.before
        self.child.expect(r"In \[\d+\]: ")
        return re.sub(r"\r", "", before + self.child.before)

    def leave(self) -> int:
        """End the session; its exit code."""
        self.child.sendline("exit()")
        self.child.expect(pexpect.EOF)
        self.child.close()
        return int(self.child.exitstatus)

    def end(self) -> None:
        """Be done with it, whatever it does."""
        if self.child.isalive():
            self.child.kill(signal.SIGKILL)
            self.child.wait()  # close() alone gives a busy machine a tenth of a second for that
        self.child.close()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    session = Terminal(tmp_path)
    yield session
    session.end()


def test_the_same_client_with_and_without_await(terminal: Terminal) -> None:
    assert terminal("%load_ext orchnb").strip() == ""
    terminal("client = orchnb.get_client()")
    assert "200 OK" in terminal("await client.hello()")
    assert "200 OK" in terminal("orchnb.run(client.hello())")
    assert "200 OK" in terminal("orchnb.get_client(sync_client=True).hello()")
    assert "True" in terminal("orchnb.get_client() is client")
    assert "200 OK" in terminal("await orchnb.get_client().hello()")
    assert terminal.leave() == 0


def test_status_and_errors_are_text(terminal: Terminal) -> None:
    terminal("%load_ext orchnb")
    assert "EPHEMERAL" in terminal("%orch_server_type")
    shown = terminal("orchnb.get_client(sync_client=True).read_flows()")
    assert "✗ This does not look like an API" in shown
    assert "UnexpectedAnswer" in shown
    assert "orchnb/" not in shown


def test_ctrl_c_ends_a_wait_and_cancels_the_request(terminal: Terminal) -> None:
    terminal("%load_ext orchnb")
    terminal("client = orchnb.get_client(); import asyncio")
    shown = terminal.stopped("await client.request('POST', '/hang')")
    assert "• Stopped by you" in shown
    assert "read it back before" in shown
    assert "KeyboardInterrupt" in shown
    assert "run_until_complete" not in shown
    assert (
        terminal("asyncio.all_tasks(orchnb.runtime.loops.notebook_loop())")
        .strip()
        .endswith("set()")
    )


def test_a_request_that_was_stopped_before_its_retry_is_not_sent_later(terminal: Terminal) -> None:
    terminal("%load_ext orchnb")
    terminal("client = orchnb.get_client(); import asyncio; from tests.notebook.apps import _tries")
    shown = terminal.stopped("await client.request('POST', '/flaky/9?after=1')", seen="503")
    assert "KeyboardInterrupt" in shown
    assert "42" in terminal("await asyncio.sleep(1.5, 42)")
    assert "{'/api/flaky/9': 1}" in terminal("dict(_tries)")
    assert "True" in terminal("(await client.hello()).text == '\"hello\"'")
    assert terminal("%autoawait").strip() == "IPython autoawait is `on`, and set to use `asyncio`"
    terminal("%unload_ext orchnb")
    assert (
        terminal("get_ipython().loop_runner is get_ipython().loop_runner_map['asyncio'][0]")
        .strip()
        .endswith("True")
    )


def test_unloading_and_leaving(terminal: Terminal) -> None:
    terminal("%load_ext orchnb")
    terminal("await orchnb.get_client().hello()")
    assert terminal("%unload_ext orchnb").strip() == ""
    names = terminal("import threading; print([t.name for t in threading.enumerate()])")
    assert "orchnb" not in names
    assert terminal.leave() == 0


def test_leaving_with_the_server_running_ends_with_0(terminal: Terminal) -> None:
    terminal("%load_ext orchnb")
    terminal("await orchnb.get_client().hello()")
    assert terminal.leave() == 0
    assert "Traceback" not in terminal.child.before
