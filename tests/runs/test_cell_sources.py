"""Modules from cells: they have what a function uses, in the order of the cells, and can be executed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchnb import SourceNotFound
from orchnb.runs.cell_sources import module_source


def executed(cells: list[str]) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        exec(compile(cell, f"<cell {number}>", "exec"), namespace)
    return namespace


def module(*cells: str, name: str = "train") -> str:
    namespace = executed(list(cells))
    return module_source(namespace[name], cells, namespace)


def test_a_function_alone_is_the_module() -> None:
    assert module("x = 1", "def train(a):\n    return a * 2", "y = 3") == (
        "def train(a):\n    return a * 2\n"
    )


def test_a_module_reads_as_written_by_hand() -> None:
    source = module(
        "import json, os\nimport os.path as path, sys\nfrom math import pi as circle, tau",
        "print('hello')\nRATE = 0.5  # per step\nUNUSED = 2",
        "# The steps of a day.\n# All of them.\nSTEPS = [1, 2]\nprint(STEPS)",
        "class Model:\n    rate: float = RATE\n\n"
        "    def fit(self) -> float:\n        return helper(self.rate)",
        "def helper(x):\n    return json.dumps(x * circle)",
        'def train(n: int = 3):\n    """Train."""\n    # a comment\n'
        "    return [Model().fit() for _ in STEPS]",
    )
    assert source == (
        "import json\n"
        "from math import pi as circle\n"
        "\n"
        "RATE = 0.5  # per step\n"
        "# The steps of a day.\n"
        "# All of them.\n"
        "STEPS = [1, 2]\n"
        "\n\n"
        "class Model:\n"
        "    rate: float = RATE\n"
        "\n"
        "    def fit(self) -> float:\n"
        "        return helper(self.rate)\n"
        "\n\n"
        "def helper(x):\n"
        "    return json.dumps(x * circle)\n"
        "\n\n"
        "def train(n: int = 3):\n"
        '    """Train."""\n'
        "    # a comment\n"
        "    return [Model().fit() for _ in STEPS]\n"
    )


@pytest.mark.parametrize(
    "cells",
    [
        ["def train(): return a() + b()", "def a(): return 1", "def b(): return a()"],
        ["def train(): return train and 1"],
        ["def train(n=3): return train(n - 1) if n else 'end'"],
        ["N = 1", "M = N + 1", "N = 10", "def train(): return N, M"],
        [
            "def twice(f): return lambda: 2 * f()",
            "@twice\ndef one(): return 1",
            "def train(): return one()",
        ],
        ["a, b = 1, 2", "def train(): return b"],
        ["import collections.abc", "def train(): return collections.abc.Sized.__name__"],
        ["from collections import *", "def train(): return OrderedDict(a=1)"],
        ["if True:\n    size = 3\nelse:\n    size = 4", "def train(): return size"],
        [
            "try:\n    import tomllib as t\nexcept ImportError:\n    t = None",
            "def train(): return bool(t)",
        ],
        ["x = 1; y = x + 1", "def train(): return y"],
        ["def train():\n    def inner(): return OUT\n    return inner()", "OUT = 5"],
        [
            "class A: pass",
            "class B(A):\n    def x(self): return super().__class__",
            "def train(): return B().x().__name__",
        ],
        ["def list(x): return 'mine'", "def train(): return list(3)"],
        ["from __future__ import annotations\nimport os", "def train(x: int = 1): return x"],
        ["items = []\nitems.append(1)", "items = []", "def train(): return items"],
        ["import asyncio", "async def one(): return 1", "def train(): return asyncio.run(one())"],
        ["def train(x=(y := 3)): return x", "def bad(: pass"][:1],
        ["table = {k: v for k, v in zip('ab', range(2))}", "def train(): return table['b']"],
    ],
)
def test_a_module_does_what_the_cells_do(cells: list[str]) -> None:
    namespace = executed(cells)
    source = module_source(namespace["train"], cells, namespace)
    alone = executed([source])
    assert alone["train"]() == namespace["train"]()


def test_the_last_definition_counts_and_cells_that_failed_are_passed_over() -> None:
    cells = ["def train(): return 1", "def train(: return 0", "def train(): return 2"]
    namespace = executed([cells[0], cells[2]])
    assert module_source(namespace["train"], cells, namespace) == "def train(): return 2\n"


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["def train(): return missing"], "missing: it is not defined"),
        (["for k in range(3): pass", "def train(): return k"], "k: it is assigned in a loop"),
        (["n = 1\nn += 1", "def train(): return n"], "n: it is changed in a cell"),
        (["n = [1]\nn.append(2)", "def train(): return n"], "n: its value is no longer"),
        (["with open(__import__('os').devnull) as f: pass", "def train(): return f"], "f: it is"),
        (["train = lambda: 1"], "A lambda cannot be deployed"),
        (["def make(x):\n    def train(): return x\n    return train\ntrain = make(1)"], r"\(x\)"),
        (["def make():\n    def train(): return 1\n    return train\ntrain = make()"], "top level"),
        (["train = print"], "no Python source"),
        (["x = 1\ndef train(): return x\ndel x"], "x: it was deleted"),
        (["def train(): return get_ipython()"], "get_ipython: magics work only in notebooks"),
    ],
)
def test_what_cannot_be_in_a_module_is_named(cells: list[str], words: str) -> None:
    with pytest.raises(SourceNotFound, match=words):
        module(*cells)


def test_a_variable_that_no_cell_defines_is_named() -> None:
    cells = ["def train(): return connection"]
    namespace = {**executed(cells), "connection": object()}
    with pytest.raises(SourceNotFound, match="connection: no cell defines it"):
        module_source(namespace["train"], cells, namespace)


def test_many_problems_are_counted() -> None:
    names = [f"missing_{number}" for number in range(9)]
    with pytest.raises(SourceNotFound, match="and 4 more"):
        module(f"def train(): return {names}".replace("'", ""))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_order_of_definitions_gives_the_same_result(data: Any) -> None:
    """Values that depend on earlier values, and functions on any values, bound again and again."""
    cells = ["v0 = 1", "v1 = 2", "v2 = 3"]
    for _ in range(data.draw(st.integers(0, 8))):
        target, first, second = (data.draw(st.sampled_from(["v0", "v1", "v2"])) for _ in range(3))
        cells.append(f"{target} = {first} * 2 + {second}")
    used = data.draw(st.sampled_from(["v0", "v1", "v2", "v0 + v1 + v2"]))
    cells.insert(data.draw(st.integers(0, len(cells))), f"def train(): return {used}")
    namespace = executed(cells)
    source = module_source(namespace["train"], cells, namespace)
    assert executed([source])["train"]() == namespace["train"]()
