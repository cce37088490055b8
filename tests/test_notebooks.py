"""The notebooks that people open: as they are in the repository, and as they run in an empty home."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.scale.processes import processes_of
from tests.servers import ROOT, clean_environment
from tools.demo import complaints

# Who serves a flow asks for its runs every ten seconds otherwise, and makes a folder that it forgets.
SOONER = {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}
LEFT_BY_PREFECT = "runner_storage"

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[Any]:
    """The notebook's cells of code."""
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def test_they_are_numbered_in_reading_order() -> None:
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{n:02}_" for n in range(1, 8)]


@by_name
def test_no_outputs_are_kept(path: Path) -> None:
    """They would be of some machine and some day; each run makes its own."""
    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in code_cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None


@by_name
def test_what_it_should_do_is_said(path: Path) -> None:
    """To ``tools/demo.py``, which checks it, and by a tag to other programs that run notebooks."""
    known = {"raises", "shows", "tags"}
    cells = code_cells(path)
    assert any("shows" in cell.metadata for cell in cells), "something that is to be seen in it"
    for cell in cells:
        assert known.issuperset(cell.metadata)
        tags = ["raises-exception"] if "raises" in cell.metadata else []
        assert cell.metadata.get("tags", []) == tags


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """What a fresh clone has for notebooks, but for these. No process that is started there survives."""
    folder = tmp_path / "clone"
    (folder / "notebooks").mkdir(parents=True)
    shutil.copytree(ROOT / "tools", folder / "tools")
    shutil.copy(ROOT / "Makefile", folder)
    yield folder
    for left in processes_of(tmp_path):
        left.kill()
        left.wait(10)


@by_name
@pytest.mark.timeout(300)
def test_it_runs_and_does_what_it_should(path: Path, clone: Path, tmp_path: Path) -> None:
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    shutil.copy(path, clone / "notebooks")
    command = [sys.executable, "tools/demo.py", f"notebooks/{path.name}", "build"]
    if "quickstart" in path.name and shutil.which("make"):  # the first command that people type
        command = ["make", "--old-file=setup", "demo", f"BIN={Path(sys.executable).parent}"]
    done = subprocess.run(
        command,
        env=clean_environment(home, TMPDIR=str(temporary), **SOONER),
        cwd=clone,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cells = code_cells(clone / "build" / path.name)
    assert [complaint for cell in cells for complaint in complaints(cell)] == []
    if any("plot" in cell.source for cell in cells):
        shown = [output.get("data", {}) for cell in cells for output in cell.outputs]
        assert any("image/png" in data for data in shown), "its picture was drawn"
    assert (clone / "build" / path.with_suffix(".html").name).stat().st_size > 10_000
    assert os.listdir(clone / "notebooks") == [path.name], "nothing is left beside it"
    assert processes_of(tmp_path, patience=10) == []
    assert set(os.listdir(temporary)) <= {LEFT_BY_PREFECT}


# It stands for a server that ends at once. POSIX has it; Windows does not.
@pytest.mark.skipif(shutil.which("false") is None, reason="there is no program that just fails")
@pytest.mark.parametrize(
    ("notebook", "starts", "words"),
    [
        ("04_your_own_server", "server = subprocess.Popen", "the server has ended"),
    ],
)
def test_a_process_that_dies_is_not_waited_for(
    notebook: str, starts: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = [
        cell.source
        for cell in code_cells(ROOT / "notebooks" / f"{notebook}.ipynb")
        if starts in cell.source
    ]
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    code = compile(source, notebook, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {"client": NothingDeployed(), "time": time}

    async def run_cell() -> None:
        done = eval(code, names)
        if inspect.isawaitable(done):
            await done

    with pytest.raises(RuntimeError, match=words):
        asyncio.run(run_cell())


class NothingDeployed:
    """A client of a server without deployments."""

    async def read_deployments(self, **filters: Any) -> list[Any]:
        """None."""
        return []


def cell(*outputs: Any, **metadata: str) -> Any:
    """A cell that has been run."""
    return nbformat.v4.new_code_cell(outputs=list(outputs), metadata=metadata)


def stream(name: str, text: str) -> Any:
    """What was printed."""
    return nbformat.v4.new_output("stream", name=name, text=text)


def error(name: str) -> Any:
    """An error's output."""
    return nbformat.v4.new_output("error", ename=name, evalue="", traceback=[])


REFUSAL = stream("stderr", "UsageError: no such line\n")


@pytest.mark.parametrize(
    "executed",
    [
        cell(),
        cell(stream("stdout", "all is well\n"), shows="is well"),
        cell(error("NotFound"), raises="NotFound"),
        cell(REFUSAL, raises="UsageError"),
    ],
)
def test_a_cell_that_does_what_it_should(executed: Any) -> None:
    assert complaints(executed) == []


@pytest.mark.parametrize(
    ("executed", "complaint"),
    [
        (cell(error("NotFound")), "error: ['NotFound'], not none"),
        (cell(error("KeyError"), raises="NotFound"), "error: ['KeyError'], not ['NotFound']"),
        (cell(raises="NotFound"), "error: none, not ['NotFound']"),
        (cell(REFUSAL), "error: ['UsageError'], not none"),
        (cell(REFUSAL, raises="NotFound"), "error: ['UsageError'], not ['NotFound']"),
        (cell(stream("stderr", "a warning\n")), "on stderr: a warning"),
        (cell(stream("stdout", "fine\n"), shows="is well"), "it does not show: is well"),
    ],
)
def test_a_cell_that_does_not(executed: Any, complaint: str) -> None:
    assert complaints(executed) == [complaint]
