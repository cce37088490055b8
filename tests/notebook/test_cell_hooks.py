"""The stop button at the very moment at which a cell begins or ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.kernels import Kernel, kernel

ROOT = Path(__file__).parents[2]

# Sends what the stop button sends, from within a function of ours that IPython calls around cells.
STOPPING = """
import os, signal
from orchnb.notebook import extension
hooks = extension._loaded.cells._hooks
real = {name: getattr(hooks, name) for name in ("_before", "_after")}
def stopping(name):
    def hook(about):
        setattr(hooks, name, real[name])
        os.kill(os.getpid(), signal.SIGINT)
        real[name](about)
    setattr(hooks, name, hook)
"""


STOP_THE_NEXT_CELL = (
    "get_ipython().events.register('post_run_cell', arm := lambda r: (stopping('_before'), "
    "get_ipython().events.unregister('post_run_cell', arm)))"
)


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("hooks")
    environment = {"ORCHNB_EPHEMERAL_APP": "tests.notebook.apps:app", "PYTHONPATH": str(ROOT)}
    with kernel(folder, **environment) as cell:
        cell("%load_ext orchnb")
        cell(STOPPING)
        yield cell


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX's signal")
@pytest.mark.parametrize(
    "source", ["ran = True", "import asyncio\nawait asyncio.sleep(0)\nran = True"]
)
def test_a_cell_that_is_stopped_as_it_begins_does_not_run(cell: Kernel, source: str) -> None:
    for _ in range(3):
        cell("ran = False")
        cell(STOP_THE_NEXT_CELL)
        shown = cell(source)
        assert [error["ename"] for error in shown.errors] == ["KeyboardInterrupt"]
        assert shown.streams == ""
        assert cell.value("ran") == "False"
        assert cell.value("(await orchnb.get_client().hello()).status_code") == "200"


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX's signal")
def test_stopping_a_cell_that_is_no_python_stops_no_other(cell: Kernel) -> None:
    cell(STOP_THE_NEXT_CELL)
    assert [error["ename"] for error in cell("1 +").errors] == ["SyntaxError"]
    assert cell.value("2 + 2") == "4"


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX's signal")
def test_one_that_is_stopped_as_it_ends_has_run(cell: Kernel) -> None:
    shown = cell("stopping('_after')\n1 + 1")
    assert shown.text == "2"
    assert not shown.errors
    assert shown.streams == ""
    assert cell.value("2 + 2") == "4"
