"""What people install is the wheel, not the tree: all is in it, and nothing more."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "orchnb").is_dir(),
    reason="no tree to build from: these tests run beside an installed wheel, which make wheel built",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(built("sdist", ROOT, folder)) as archive:
        archive.extractall(folder)
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    return unpacked


def built(kind: str, source: Path, folder: Path) -> Path:
    """Build a distribution of a tree, and return its file."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (distribution,) = (path for path in folder.iterdir() if path.is_file())
    return distribution


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return table["project"]


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


def test_the_metadata_is_for_users(unpacked: Path) -> None:
    (file,) = unpacked.glob("*.dist-info/METADATA")
    metadata = email.message_from_string(file.read_text(encoding="utf-8"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert (file.parent / "licenses" / metadata["License-File"]).is_file()
    assert set(metadata.get_all("Provides-Extra") or ()) == {"pandas", "server"}
    assert (file.parent / "entry_points.txt").read_text().split() == [
        "[console_scripts]",
        *("orchnb", "=", "orchnb.__main__:run_command"),
    ]
    source = project()["urls"]["Source"]
    links = re.findall(r"\]\(([^)]+)\)", str(metadata.get_payload()))
    assert f"{source}/raw/HEAD/docs/at-work.png" in links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_the_address_of_the_repository_is_the_same_everywhere() -> None:
    source = project()["urls"]["Source"]
    name = source.removeprefix("https://github.com/")
    assert project()["urls"]["Issues"] == f"{source}/issues"
    assert project()["urls"]["Changelog"].startswith(f"{source}/")
    named = {
        match
        for path in ROOT.rglob("*.*")
        if path.suffix in (".md", ".yml", ".yaml", ".toml", ".ipynb")
        and not {"build", "dist"}.intersection(path.relative_to(ROOT).parts)
        and not any(part.startswith(".venv") for part in path.parts)
        for match in re.findall(
            r"(?:mybinder\.org/v2/gh|colab\.research\.google\.com/github|github\.com)/"
            r"([\w.-]*orchnb[\w.-]*/[\w-]+|[\w.-]+/orchnb)",
            path.read_text(encoding="utf-8"),
        )
    }
    assert named == {name}


def test_the_source_distribution_holds_what_the_repository_does(source: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("this is not a git repository")
    held = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    known = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    assert known - held == set()


def test_the_source_distribution_builds_the_same_wheel(source: Path, wheel: Path) -> None:
    def names(path: Path) -> list[str]:
        with zipfile.ZipFile(path) as archive:
            return sorted(archive.namelist())

    assert names(built("wheel", source, source / "dist")) == names(wheel)


def test_the_source_distribution_tests_itself(source: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("tests/test_exports.py", "tests/test_docs.py", "-k", "exports or variable or file"),
        ],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
