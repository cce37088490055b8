"""The notebooks that people open: as they are in the repository, and as they run in an empty home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.servers import ROOT, clean_environment

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXPECTED = "raises-exception"

by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_they_are_numbered_in_reading_order() -> None:
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{n:02}_" for n in range(1, 6)]


@by_name
def test_no_outputs_are_kept(path: Path) -> None:
    """They would be of some machine and some day; each run makes its own."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@by_name
@pytest.mark.timeout(300)
def test_it_runs_and_shows_no_error_but_the_expected(path: Path, tmp_path: Path) -> None:
    work = tmp_path / "notebooks"
    work.mkdir()
    (work / path.name).write_bytes(path.read_bytes())
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "demo.py", work / path.name, tmp_path / "executed"],
        env=clean_environment(home),
        cwd=work,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    executed = nbformat.read(tmp_path / "executed" / path.name, as_version=4)
    for cell in executed.cells:
        if cell.cell_type != "code":
            continue
        kinds = [output.output_type for output in cell.outputs]
        assert ("error" in kinds) == (EXPECTED in cell.metadata.get("tags", [])), cell.source
        stray = [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
        assert all(text.startswith("UsageError: ") for text in stray), (cell.source, stray)
    if "matplotlib" in path.read_text(encoding="utf-8"):
        shown = [o.data for cell in executed.cells for o in cell.get("outputs", ()) if "data" in o]
        assert any("image/png" in data for data in shown), "its picture was drawn"
    assert os.listdir(work) == [path.name], "nothing is left beside it"
