"""Folders that go with their process, however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchnb.runtime.temporary_folder import FreshFolder, clear_stale
from tests.servers import clean_environment

_HOLDER = """
import sys
from pathlib import Path
from orchnb.runtime.temporary_folder import FreshFolder
folder = FreshFolder(Path(sys.argv[1]))
(folder.path / "prefect.db").write_text("kept")
print(folder.path, flush=True)
sys.stdin.readline()
"""


@contextmanager
def holder(parent: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a folder in use; it ends when it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(parent)],
        env=clean_environment(parent),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


def test_it_is_the_persons_alone_and_goes_when_it_is_told(tmp_path: Path) -> None:
    folder = FreshFolder(tmp_path)
    assert folder.path.parent == tmp_path
    if os.name == "posix":
        assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "storage").mkdir()
    (folder.path / "storage" / "result").write_text("1")
    (folder.path / "prefect.db").write_text("1")
    folder.remove()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_several_at_once_leave_each_other_alone(tmp_path: Path) -> None:
    first, second = FreshFolder(tmp_path), FreshFolder(tmp_path)
    with holder(tmp_path) as (_, third):
        assert len({first.path, second.path, third}) == 3
        assert FreshFolder(tmp_path).path.exists()
        assert all(path.exists() for path in (first.path, second.path, third))
        assert (third / "prefect.db").read_text() == "kept"


def test_it_goes_with_its_process(tmp_path: Path) -> None:
    with holder(tmp_path) as (process, path):
        assert path.exists()
        process.communicate("\n", timeout=20)
        assert not path.exists()


def test_a_crashed_process_s_folder_goes_with_the_next_one(tmp_path: Path) -> None:
    with holder(tmp_path) as (process, path):
        process.kill()
        process.wait()
        assert path.exists()
        fresh = FreshFolder(tmp_path)
        assert not path.exists()
        assert list(tmp_path.glob("orchnb-fresh-*")) == [fresh.path]


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "orchnb-fresh-without-lock").mkdir()
    (tmp_path / "orchnb-fresh-a-file").write_text("1")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "in-use.lock").write_text("")
    (tmp_path / "orchnb-fresh-link").symlink_to(elsewhere)
    before = {path.name for path in tmp_path.iterdir()}
    FreshFolder(tmp_path).remove()
    assert {path.name for path in tmp_path.iterdir()} == before
    assert (elsewhere / "in-use.lock").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_does_not_take_it_away(tmp_path: Path) -> None:
    folder = FreshFolder(tmp_path)
    child = os.fork()
    if child == 0:
        folder.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.exists()
    folder.remove()
    assert not folder.path.exists()


def test_where_the_file_system_knows_no_locks_it_works_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    first = FreshFolder(tmp_path)
    second = FreshFolder(tmp_path)
    assert first.path.exists(), "nobody can tell whether it is in use"
    first.remove()
    second.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_signal_of_a_kernel_that_is_ended(tmp_path: Path) -> None:
    """A kernel that does not end in time is killed, and leaves its folder to the next one."""
    if not hasattr(signal, "SIGTERM") or os.name == "nt":
        pytest.skip("ending by signal is POSIX's")
    with holder(tmp_path) as (process, path):
        process.terminate()
        process.wait()
        FreshFolder(tmp_path).remove()
        assert not path.exists()


def test_several_may_clear_the_same_folder_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holder(tmp_path) as (process, path):
        process.kill()
        process.wait(30)
    (path / "prefect.db").touch()
    unlink = Path.unlink

    def unlink_and_all_else(entry: Path, missing_ok: bool = False) -> None:
        unlink(entry, missing_ok)
        shutil.rmtree(path)  # as another process does at this very moment

    monkeypatch.setattr(Path, "unlink", unlink_and_all_else)
    clear_stale(tmp_path)
    assert not path.exists()
