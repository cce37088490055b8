"""What every test starts from: no settings of this machine's, and nothing left behind afterwards."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import hypothesis
import pytest

from orchnb.hosting import host, lifespan
from tests import process_wide
from tests.servers import SHARED_FOLDER

# How long one example takes says how busy the machine is; pytest's time-out bounds them all.
hypothesis.settings.register_profile("orchnb", deadline=None)
hypothesis.settings.load_profile("orchnb")

# A shell has what it runs in the background ignore Ctrl-C, and so all processes that are started there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # xdist's workers have it of this process
        folder = tempfile.TemporaryDirectory(prefix="orchnb-tests-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        os.environ[SHARED_FOLDER] = folder.name


@pytest.fixture(autouse=True)
def asyncio_threading_sys_and_logging_are_as_they_were() -> Iterator[None]:
    """No test leaves anything replaced there. By its name it is the first fixture, and so ends last."""
    before = process_wide.taken_down()
    yield
    assert not process_wide.changed(before)


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty home and folder, and no PREFECT_* or ORCHNB_* variable."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "ORCHNB_")):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("LOCALAPPDATA", str(home / "AppData"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    # An empty database is made once in a run, and not in each test.
    shared = Path(os.environ[SHARED_FOLDER], "databases")
    shared.mkdir(exist_ok=True)
    (home / "cache" / "orchnb").mkdir(parents=True)
    with suppress(OSError):  # Windows lets not everybody make links
        (home / "cache" / "orchnb" / "databases").symlink_to(shared, target_is_directory=True)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No lifespan stays open, no app hosted, and the host's thread ends."""
    yield
    left = host._tenancy.host
    assert not host._tenancy.apps, "an app was left on the host"
    if left is not None and host._tenancy.leases == 0:
        left.thread.join(5)
    for thread in threading.enumerate():
        if thread.name == "orchnb-run":
            thread.join(5)
    assert not {"orchnb-host", "orchnb-run"} & {thread.name for thread in threading.enumerate()}
    assert not lifespan._lifespans, "a lifespan was left open"
