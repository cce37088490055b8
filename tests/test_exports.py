"""The front door: what is public, and that it is there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import orchnb


def test_all_is_sorted_and_without_doubles() -> None:
    assert list(orchnb.__all__) == sorted(set(orchnb.__all__))


@pytest.mark.parametrize("name", orchnb.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(orchnb, name)
    assert value.__doc__, f"{name} has no docstring"
    assert name in dir(orchnb)


def test_names_for_type_checkers_are_the_same_as_those_found_at_run_time() -> None:
    tree = ast.parse(Path(orchnb.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    typed = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("orchnb")
        for alias in node.names
    }
    assert sorted(typed) == list(orchnb.__all__)
    for name, module in typed.items():
        assert module is not None
        assert getattr(importlib.import_module(module), name) is getattr(orchnb, name)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = orchnb.no_such_name  # type: ignore[attr-defined]


def test_modules_are_not_hidden_by_names() -> None:
    """``orchnb.errors`` is the module, whatever has been resolved before."""
    importlib.import_module("orchnb.errors")
    for name in orchnb.__all__:
        getattr(orchnb, name)
    assert orchnb.errors.__name__ == "orchnb.errors"


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from orchnb import *", names)
    assert set(orchnb.__all__) <= set(names)
