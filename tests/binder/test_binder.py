"""What Binder does with ``binder/``, without its containers: the recipe, the installation, the notebooks.

It takes minutes and an environment of its own, so a plain run leaves it out: ``make binder`` asks for it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import nbformat
import pytest

from tests.copies import fresh_copy
from tests.scale.processes import free_port, process, wait_until
from tests.servers import ROOT, clean_environment

pytestmark = [
    pytest.mark.binder,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.name == "nt", reason="Binder's steps are for a POSIX shell"),
]

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FROM_THE_BASE = "notebook"  # which images have, and with it the server that they start


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a fresh clone has it."""
    return fresh_copy(tmp_path_factory.mktemp("binder") / "orchnb")


@pytest.fixture(scope="module")
def recipe(checkout: Path) -> str:
    """What Binder's own program makes of the checkout: a Dockerfile, among other words."""
    here = str(Path(sys.executable).parent)
    printed = subprocess.run(
        ["jupyter-repo2docker", "--no-build", "--debug", "."],
        cwd=checkout,
        env={**os.environ, "PATH": os.pathsep.join([here, os.environ["PATH"]])},
        capture_output=True,
        text=True,
        check=True,
    )
    return printed.stdout + printed.stderr


@pytest.fixture(scope="module")
def image(recipe: str, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of an environment made by the recipe's steps after the checkout is in it.

    As in an image the checkout is the home. The Python is the one that ``runtime.txt`` names, if it is
    here, else this one.
    """
    wanted = (checkout / "binder" / "runtime.txt").read_text().strip().replace("-", "")
    python = wanted if is_a_command(wanted) else sys.executable
    venv = tmp_path_factory.mktemp("image") / "venv"
    subprocess.run([python, "-m", "venv", venv], check=True)
    prefix = {"KERNEL_PYTHON_PREFIX": str(venv), "REPO_DIR": str(checkout)}
    clean = clean_environment(checkout, **prefix)
    for name in ("PYTHONPATH", "PREFECT_HOME", "MPLBACKEND", "XDG_CACHE_HOME"):
        clean.pop(name, None)
    clean["PATH"] = os.pathsep.join([str(venv / "bin"), clean["PATH"]])
    _, after = recipe.split("COPY --chown=0:0 src/ ${REPO_DIR}/\n")
    steps = re.findall(r"^RUN (.+)$", after, re.MULTILINE)
    assert len(steps) == 3, steps
    for step in [f"pip install --quiet {FROM_THE_BASE}", *steps]:
        began = time.monotonic()
        done = subprocess.run(
            ["sh", "-c", step], cwd=checkout, env=clean, capture_output=True, text=True, check=False
        )
        print(f"{step}: {time.monotonic() - began:.0f} s")
        assert done.returncode == 0, done.stdout + done.stderr
    return clean


def is_a_command(name: str) -> bool:
    """Whether it is there and works."""
    return (
        shutil.which(name) is not None
        and subprocess.run([name, "--version"], capture_output=True, check=False).returncode == 0
    )


def test_the_recipe_holds_all_that_is_in_the_folder(recipe: str) -> None:
    print(recipe)
    for line in ("binder/requirements.txt", "binder/postBuild", "python=3.12"):
        assert line in recipe


def test_a_first_start_finds_what_it_would_make(image: dict[str, str], checkout: Path) -> None:
    assert (checkout / ".prefect" / "prefect.db").exists()
    (described,) = (checkout / ".cache" / "orchnb" / "openapi").iterdir()
    assert described.stat().st_size > 100_000
    assert list((checkout / ".cache" / "matplotlib").glob("fontlist*.json"))


@pytest.mark.parametrize("command", ["the recipe's", "jupyter lab", "jupyter server"])
def test_it_opens_at_the_quickstart(
    command: str, recipe: str, checkout: Path, image: dict[str, str], tmp_path: Path
) -> None:
    port = free_port()
    (words,) = re.findall(r"^CMD \[(.+)\]$", recipe, re.MULTILINE)
    started = [word.strip(' "') for word in words.split(",")]
    assert started == ["jupyter", "notebook", "--ip", "0.0.0.0"]
    if command != "the recipe's":
        started[:2] = shlex.split(command)
    started[-1] = "127.0.0.1"
    options = [f"--port={port}", "--no-browser", "--IdentityProvider.token=", "--allow-root"]
    url = f"http://127.0.0.1:{port}/"

    def is_up() -> bool:
        try:
            return httpx.get(f"{url}api/status", trust_env=False).is_success
        except httpx.TransportError:
            return False

    with process([*started, *options], tmp_path / "log", cwd=checkout, env=image) as running:
        wait_until(is_up, running)
        page = httpx.get(url, follow_redirects=True, trust_env=False, timeout=30)
    assert page.url.path == "/lab/tree/notebooks/01_quickstart.ipynb"
    assert page.status_code == 200
    assert "JupyterLab" in page.text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_there(path: Path, checkout: Path, image: dict[str, str]) -> None:
    done = subprocess.run(
        ["python", "tools/demo.py", f"notebooks/{path.name}", "build"],
        cwd=checkout,
        env=image,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout.splitlines()[-2])
    nbformat.validate(nbformat.read(checkout / "build" / path.name, as_version=4))
