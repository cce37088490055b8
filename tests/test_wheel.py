"""What people install is the wheel, not the tree: all is in it, and nothing more."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "orchnb").is_dir(),
    reason="no tree to build from: these tests run beside an installed wheel, which make wheel built",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_it_holds_every_file_of_the_package_and_nothing_else(unpacked: Path) -> None:
    def files(folder: Path) -> set[str]:
        paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {str(path) for path in paths if "__pycache__" not in path.parts}

    assert files(unpacked / "orchnb") == files(ROOT / "orchnb")
    assert {"py.typed", str(Path("notebook/views/templates/card.html.j2"))} <= files(
        unpacked / "orchnb"
    )
    assert {path.name.split("-")[0] for path in unpacked.iterdir()} == {"orchnb"}


def test_an_error_card_is_made_from_the_wheels_own_templates(unpacked: Path) -> None:
    code = (
        "import orchnb, orchnb.notebook.views.model as v; print(v.__file__);"
        "from orchnb.notebook.views.errors import error_card;"
        "print(v.html(error_card(orchnb.ServerNotConfigured('none'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=unpacked,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(unpacked))
    assert "No server is configured" in done.stdout
