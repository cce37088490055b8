"""Finds private names of other libraries in source code."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import re
import threading
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import httpx

_BY_NAME = ("getattr", "setattr", "hasattr", "delattr")
_PATH = re.compile(r"[A-Za-z_]\w*([./][A-Za-z_]\w*)+")
"""The name of a module, or of a folder in a package."""


def is_private(name: str) -> bool:
    """Dunder names, and names such as ``_repr_html_``, are protocols."""
    return name.startswith("_") and not name.endswith("_")


def defined_in(tree: ast.AST) -> set[str]:
    """The names of functions and classes, of what modules and classes hold, and of attributes that an
    object sets on itself."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, (ast.Module, ast.ClassDef)):
            for statement in node.body:
                found.update(_assigned(statement))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_own(node):
            found.add(node.attr)
    return found


def _assigned(statement: ast.stmt) -> Iterator[str]:
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
            if node.id == "__slots__" and statement.value is not None:
                yield from ast.literal_eval(statement.value)


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def private_names(tree: ast.AST, ours: set[str]) -> list[str]:
    """What a module takes from other libraries although it is private there; ``ours`` are the names that
    the package itself defines."""
    return [
        f"line {line}: {text}"
        for line, name, text, is_own in _used(tree)
        if name not in ours or (name in of_libraries() and not is_own)
    ]


def _used(tree: ast.AST) -> Iterator[tuple[int, str, str, bool]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.lineno, node.attr, ast.unparse(node), _is_own(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in _BY_NAME:
            name = node.args[1]
            if isinstance(name, ast.Constant) and is_private(str(name.value)):
                is_own = ast.unparse(node.args[0]) in ("self", "cls")
                yield node.lineno, str(name.value), ast.unparse(node), is_own
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None) or ""
            if module.partition(".")[0] != "orchnb":
                parts = [
                    *module.split("."),
                    *(a for each in node.names for a in each.name.split(".")),
                ]
                if any(map(is_private, parts)):
                    yield node.lineno, "", ast.unparse(node), False
        elif isinstance(node, ast.Constant) and _PATH.fullmatch(str(node.value)):
            first, *parts = re.split(r"[./]", str(node.value))
            if first != "orchnb" and any(map(is_private, parts)):
                yield node.lineno, "", repr(node.value), False


@cache
def of_libraries() -> set[str]:
    """Private names of the objects that orchnb gets from libraries most often."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(asyncio.sleep(0))
    loop.run_until_complete(task)
    request = httpx.Request("GET", "http://somewhere.test")
    objects: Iterable[object] = (
        loop,
        task,
        asyncio.Handle(bool, (), loop),
        threading.Thread(),
        httpx.Client(),
        httpx.AsyncClient(),
        httpx.HTTPTransport(),
        request,
        httpx.Response(200, request=request),
    )
    names = {name for each in objects for name in dir(each)}
    loop.close()
    return set(filter(is_private, names))


def names_of_prefect(tree: ast.AST) -> list[str]:
    """Imports of Prefect, and names of its modules."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and _imports(node.func):
            names = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
        elif isinstance(node, ast.Constant):
            parts = str(node.value).split(".")
            names = [node.value] if len(parts) > 1 and parts[1] in _modules_of_prefect() else []
        else:
            continue
        found += [
            f"line {getattr(node, 'lineno', 0)}: {name}"
            for name in names
            if name.split(".")[0] == "prefect"
        ]
    return found


def _imports(function: ast.expr) -> bool:
    return ast.unparse(function).rpartition(".")[2] in ("import_module", "find_spec", "__import__")


@cache
def _modules_of_prefect() -> set[str]:
    spec = importlib.util.find_spec("prefect")
    assert spec is not None, "the tests need Prefect"
    folders = map(Path, spec.submodule_search_locations or ())
    return {path.stem for folder in folders for path in folder.iterdir()}
