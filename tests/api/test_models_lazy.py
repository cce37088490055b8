"""The models are imported when they are first used, and are as visible as before."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from orchnb.api import models

ALONE = {"orchnb.api.models", "orchnb.api.models.base"}


def loaded_after(statement: str) -> set[str]:
    """Which of the models' modules are there after a statement in a fresh process."""
    code = f"import sys, orchnb\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split() if name.startswith("orchnb.api.models")}


@pytest.mark.parametrize(
    "statement",
    [
        "orchnb.get_client()",
        "client = orchnb.SyncPrefectClient('http://127.0.0.1:9/api'); client.open(); dir(client)",
        "import orchnb.api.operations, orchnb.openapi.namespace, orchnb.api.status",
    ],
)
def test_a_client_is_had_without_the_models(statement: str) -> None:
    assert loaded_after(statement) <= ALONE


@pytest.mark.parametrize(
    "statement",
    [
        "orchnb.PrefectClient.read_flows",
        "orchnb.SyncPrefectClient.iter_flow_runs",
        "from orchnb.api.models import FlowRun",
        "from orchnb.api import models; models.FlowRun",
    ],
)
def test_they_are_there_when_something_is_made_of_them(statement: str) -> None:
    assert "orchnb.api.models.runs" in loaded_after(statement)


def test_one_kind_does_not_bring_the_others() -> None:
    assert loaded_after("from orchnb.api.models import Variable") == {
        *ALONE,
        "orchnb.api.models.records",
    }


def test_names_for_type_checkers_are_the_same_as_those_found_at_run_time() -> None:
    tree = ast.parse(Path(models.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(typed) == sorted(models.__all__)
    assert set(typed) <= set(dir(models))
    for name, module in typed.items():
        assert getattr(importlib.import_module(module), name) is getattr(models, name)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no_such_model"):
        _ = models.no_such_model  # type: ignore[attr-defined]


def test_every_model_that_operations_name_for_type_checkers_is_found_for_their_hints() -> None:
    """`hints_of` finds what is in ``__all__``; the signatures of all operations show it whole."""
    for path in sorted(Path(inspect.getfile(models)).parents[1].glob("operations/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "orchnb.api.models":
                assert {alias.name for alias in node.names} <= set(models.__all__)
