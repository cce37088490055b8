"""A fork does not come in the middle of an import in a background thread."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from orchnb.runtime import background_imports
from orchnb.runtime.background_imports import _Gate
from tests import servers

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

SLOW = """
import time, pathlib
pathlib.Path("began").touch()
time.sleep(float(pathlib.Path("seconds").read_text()))
from slow import part
DONE = 1
"""

PREPARE = """
import os, pathlib, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork with threads
sys.path.insert(0, os.getcwd())
from orchnb.runtime.background_imports import import_each

def ask(_=None):
    signal.alarm(20)  # rather than wait forever
    import slow, other
    return slow.DONE + slow.part.DONE

def by_hand():
    child = os.fork()
    if child == 0:
        os._exit(ask())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def by_multiprocessing():
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(ask, range(2))[0]

def by_joblib():
    import joblib
    return joblib.Parallel(2, backend="multiprocessing")(map(joblib.delayed(ask), range(2)))[0]

def by_a_preexec_function():
    import subprocess
    subprocess.run([sys.executable, "-c", ""], preexec_fn=ask, check=True)
    return 2

def imports_in_the_background():
    thread = threading.Thread(target=import_each, args=[["slow", "other"]])
    thread.start()
    while not os.path.exists("began"):
        time.sleep(0.01)
    return thread
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "__init__.py").write_text(SLOW)
    (tmp_path / "slow" / "part.py").write_text("DONE = 1\n")
    (tmp_path / "other.py").write_text("")
    (tmp_path / "seconds").write_text("0.7")
    return tmp_path


@forks
@pytest.mark.parametrize(
    "way", ["by_hand", "by_multiprocessing", "by_joblib", "by_a_preexec_function"]
)
def test_a_child_can_import_what_its_parent_imports(way: str, folder: Path) -> None:
    code = f"{PREPARE}\nimports_in_the_background()\nprint({way}(), ask())"
    done = servers.run_script(code, folder)
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "2 2")


@forks
def test_a_fork_comes_between_two_modules(folder: Path) -> None:
    """It does not wait for the second one, which takes longer."""
    (folder / "other.py").write_text("import time; time.sleep(10)")
    code = f"""{PREPARE}
def child():
    import slow
    return slow.DONE
ask = lambda: child()
imports_in_the_background()
before = time.monotonic()
status = by_hand()
print(status, time.monotonic() - before < 5, flush=True)
os._exit(0)
"""
    done = servers.run_script(code, folder)
    assert (done.stderr, done.stdout.strip()) == ("", "1 True")


@forks
def test_an_interrupt_ends_the_wait(folder: Path) -> None:
    """It is raised in the parent, after the fork; nothing is printed."""
    (folder / "seconds").write_text("25")
    code = f"""{PREPARE}
thread = imports_in_the_background()
threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
before = time.monotonic()
try:
    child = os.fork()
    if child == 0:
        os._exit(0)
    time.sleep(10)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - before < 5, flush=True)
os._exit(0)
"""
    done = servers.run_script(code, folder)
    assert (done.stderr, done.stdout.strip()) == ("", "interrupted True")


def test_the_thread_that_imports_can_fork_and_import_more() -> None:
    gate = _Gate()
    gate.enter()
    gate.enter()
    assert not gate.begin_fork()
    gate.enter()
    gate.end_fork()
    for _ in range(3):
        gate.leave()
    assert not gate.importing


def test_an_import_waits_for_a_fork() -> None:
    gate = _Gate()
    gate.begin_fork()
    thread = threading.Thread(target=gate.enter)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    assert not gate.importing
    gate.end_fork()
    thread.join(10)
    assert gate.importing


def test_neither_waits_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_imports, "LONGEST_DELAY", 0.2)
    gate = _Gate()
    thread = threading.Thread(target=gate.enter)
    thread.start()
    thread.join(10)
    before = time.monotonic()
    assert not gate.begin_fork()
    gate.enter()
    assert 0.4 <= time.monotonic() - before < 8
    assert gate.importing.total() == 2
