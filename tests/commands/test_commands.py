"""Every command of README and CONTRIBUTING, typed in a fresh copy of the repository, with an empty home.

Each installs what it needs, so a plain run leaves them out: ``make commands`` asks for them. What would
take long is asked for in small, by the words that the Makefile's head names.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import httpx
import pytest

from tests.copies import fresh_copy
from tests.scale.processes import process, processes_of, wait_until
from tests.servers import clean_environment

pytestmark = [
    pytest.mark.commands,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.name == "nt", reason="the commands are for a POSIX shell"),
]

IN_SMALL = {
    "make demo": "",
    "make check": "",
    "make test": "TESTS=tests/test_errors.py",
    "make test-oldest": "TESTS=tests/test_errors.py",
    "make test-newest": "TESTS=tests/test_errors.py",
    "make test-prefect PREFECT=3.6.0": "TESTS=tests/test_places.py",
    "make wheel": "TESTS=tests/test_errors.py",
    "make soak": "ORCHNB_SOAK_REQUESTS=400 ORCHNB_SOAK_CYCLES=20",
    "make scale": "ORCHNB_SCALE_RUNS=8",
    "make binder": "TESTS=tests/binder/test_binder.py::test_the_recipe_holds_all_that_is_in_the_folder",
    "make docs": "",
    "make bench": "OPTIONS=--once",
}
"""What is added to a command so that it takes minutes at most."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_copy(tmp_path_factory.mktemp("commands") / "orchnb")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a newcomer's shell has: nothing of Prefect's, no package of this environment."""
    # Where packages come from is this machine's matter, and may be written in the home.
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "debug"], capture_output=True, text=True, check=True
    )
    used = re.findall(r"^  (.+), exists: True$", found.stdout, re.MULTILINE)
    clean = clean_environment(tmp_path_factory.mktemp("home"))
    if used:
        clean["PIP_CONFIG_FILE"] = used[-1]
    for name in ("PYTHONPATH", "PREFECT_HOME", "XDG_CACHE_HOME"):
        clean.pop(name, None)
    return clean


def typed(command: str, cwd: Path, env: Mapping[str, str]) -> str:
    """What the command printed, once it has succeeded."""
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("command", IN_SMALL)
def test_the_command_works(command: str, copy: Path, environment: dict[str, str]) -> None:
    typed(f"{command} {IN_SMALL[command]}", copy, environment)


def test_the_package_is_installed_from_the_folder(
    copy: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    venv.create(tmp_path / "own", with_pip=True)
    path = os.pathsep.join([str(tmp_path / "own" / "bin"), environment["PATH"]])
    in_own = {**environment, "PATH": path}
    typed('pip install ".[server]"', copy, in_own)
    assert typed("python -c 'import prefect, orchnb; print(orchnb.__file__)'", tmp_path, in_own)


def test_the_notebooks_open_in_jupyterlab(
    copy: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    # It refuses to be started by root, as whom machines that test are often used.
    settings = Path(environment["HOME"]) / ".jupyter" / "jupyter_server_config.json"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text('{"ServerApp": {"allow_root": true}}')
    log, asked_for = tmp_path / "lab.log", tmp_path / "asked-for"
    browser = tmp_path / "browser"
    browser.write_text(
        f'#!/bin/sh\nprintf %s "$1" > {asked_for}.part\nmv {asked_for}.part {asked_for}\n'
    )
    browser.chmod(0o755)
    with process(
        ["make", "lab"], log, cwd=copy, env={**environment, "BROWSER": str(browser)}
    ) as lab:
        wait_until(asked_for.exists, lab, timeout=600)
        # A file, so that the token is in no command line, which leads to the page.
        leading = Path(url2pathname(urlsplit(asked_for.read_text()).path)).read_text()
        (page, *_) = re.findall(r"http://127\.0\.0\.1:\d+/lab/tree/\S+\?token=\w+", leading)
        answer = httpx.get(page, follow_redirects=True, trust_env=False, timeout=60)
    assert answer.url.path == "/lab/tree/01_quickstart.ipynb"  # its folder is the root
    assert answer.status_code == 200
    assert processes_of(copy, patience=20) == []
