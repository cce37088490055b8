"""What Binder does with ``binder/``, without its containers: the recipe, the installation, the notebooks.

It takes minutes and an environment of its own, so a plain run leaves it out: ``make binder`` asks for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from tests.servers import ROOT, clean_environment

pytestmark = [
    pytest.mark.binder,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.name == "nt", reason="Binder's steps are for a POSIX shell"),
]

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as a fresh clone has it."""
    folder = tmp_path_factory.mktemp("binder") / "orchnb"
    files = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    return folder


@pytest.fixture(scope="module")
def image(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of an environment made by Binder's steps, with an empty home."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    (folder / "home").mkdir()
    clean = clean_environment(folder / "home", MPLBACKEND="agg")
    del clean["PYTHONPATH"]
    clean["PATH"] = os.pathsep.join([str(folder / "venv" / "bin"), clean["PATH"]])
    for step in (
        ["python", "-m", "pip", "install", "--quiet", "-r", "binder/requirements.txt"],
        ["binder/postBuild"],
    ):
        began = time.monotonic()
        done = subprocess.run(
            step, cwd=checkout, env=clean, capture_output=True, text=True, check=False
        )
        print(f"{step[-1]}: {time.monotonic() - began:.0f} s\n{done.stdout}")
        assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "home" / ".prefect" / "prefect.db").exists(), "the database is there already"
    return clean


def test_the_recipe_holds_all_that_is_in_the_folder(checkout: Path) -> None:
    recipe = subprocess.run(
        ["jupyter-repo2docker", "--no-build", "--debug", "."],
        cwd=checkout,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    text = recipe.stdout + recipe.stderr
    print(text)
    for line in ("binder/requirements.txt", "binder/postBuild", "3.12"):
        assert line in text


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
    print(done.stdout.splitlines()[-2])
    assert done.returncode == 0, done.stdout + done.stderr
    nbformat.validate(nbformat.read(checkout / "build" / path.name, as_version=4))
