"""Terminal IPython: its plain cells run on no loop, its async cells on one of its own."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pexpect = pytest.importorskip(
    "pexpect", reason="pexpect drives terminals, which Windows has none of"
)
if sys.platform == "win32":
    pytest.skip("pexpect.spawn needs a POSIX terminal", allow_module_level=True)

ROOT = Path(__file__).parents[2]


class Terminal:
    """IPython in a terminal; call it with a line."""

    def __init__(self, folder: Path) -> None:
        environment = {**os.environ, "HOME": str(folder), "TERM": "dumb", "PYTHONPATH": str(ROOT)}
        environment.update(
            ORCHNB_EPHEMERAL_APP="tests.notebook.apps:app", IPYTHONDIR=str(folder / "ipython")
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
