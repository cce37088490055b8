"""A module from cells: a function with the imports and definitions that it uses, and nothing else.

The cells are Python, as IPython has executed them. Of each name that the function uses, directly or
through other definitions, the last cell statement that has bound it is taken; the module keeps the order
in which they were executed.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from orchnb.errors import SourceNotFound
from orchnb.text import one_line

_BUILTINS = frozenset(dir(builtins))
_MOST_NAMED = 5


@dataclass(frozen=True)
class _Statement:
    """A statement at the top level of a cell."""

    place: tuple[int, int]
    """The cell's number, and the statement's in it."""
    node: ast.stmt
    text: str
    """With its decorators, and the comments directly above it."""
    binds: frozenset[str]
    uses_at_once: frozenset[str]
    """Names that it uses when it is executed."""
    uses_later: frozenset[str]
    """Names that the functions in it use when they are called."""

    @property
    def is_definition(self) -> bool:
        """Whether it defines a function or a class."""
        return isinstance(self.node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))


@dataclass
class _Needed:
    statements: dict[tuple[int, int], _Statement] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    """The import line for each name."""
    problems: dict[str, str] = field(default_factory=dict)
    """Why a name cannot be had, by name."""


def module_source(
    function: Callable[..., Any], cells: Sequence[str], namespace: Mapping[str, Any]
) -> str:
    """Return the source of a module that defines a function as the cells do.

    Args:
        function: the function, without what decorators have made of it.
        cells: the sources of all cells so far, in the order in which they were executed.
        namespace: the notebook's variables, which the source has to agree with.

    Raises:
        SourceNotFound: the function has no source, uses variables of another function, or uses names for
            which no cell has a definition that can be repeated; the message lists them.
    """
    name = getattr(function, "__name__", "")
    code = getattr(function, "__code__", None)
    if code is None:
        raise SourceNotFound(f"{_shown(function)} has no Python source, so it cannot be deployed")
    if name == "<lambda>":
        raise SourceNotFound("A lambda cannot be deployed: define a function with def")
    if "<locals>" in function.__qualname__ or code.co_freevars:
        used = ", ".join(code.co_freevars)
        raise SourceNotFound(
            f"{name} is defined in another function"
            + (f" and uses its variables ({used})" if used else "")
            + ": define it at the top level of a cell, and give it what it needs as parameters"
        )
    statements = list(_statements(cells))
    needed = _Needed()
    _collect(name, statements, namespace, needed)
    if needed.problems:
        raise SourceNotFound(_problem(name, needed.problems))
    return _module(needed)


def _shown(value: object) -> str:
    return one_line(repr(value), 80)


def _problem(function: str, problems: Mapping[str, str]) -> str:
    listed = [f"{name}: {reason}" for name, reason in list(problems.items())[:_MOST_NAMED]]
    more = len(problems) - len(listed)
    return (
        f"{function} cannot be written to a separate module. "
        + "; ".join(listed)
        + (f"; and {more} more" if more > 0 else "")
    )


# Which statements there are.


def _statements(cells: Sequence[str]) -> Iterator[_Statement]:
    for number, cell in enumerate(cells):
        try:
            tree = ast.parse(cell)
        except (SyntaxError, ValueError):  # it was not executed either
            continue
        lines = cell.splitlines(keepends=True)
        end_before = 0
        for index, node in enumerate(tree.body):
            decorators = getattr(node, "decorator_list", ())
            first = min([node.lineno, *(each.lineno for each in decorators)])
            last = node.end_lineno or node.lineno
            start = first - 1
            while start > end_before and lines[start - 1].startswith("#"):
                start -= 1
            following = tree.body[index + 1] if index + 1 < len(tree.body) else None
            shares_a_line = first - 1 < end_before or (
                following is not None and following.lineno == last
            )
            text = ast.unparse(node) if shares_a_line else "".join(lines[start:last]).rstrip()
            end_before = last
            at_once, later = _used(node)
            yield _Statement((number, index), node, text, frozenset(_bound(node)), at_once, later)


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds in the module."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
        return
    for each in _outside_of_scopes(node):
        if isinstance(each, ast.Name) and isinstance(each.ctx, (ast.Store, ast.Del)):
            yield each.id
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield each.name


def _outside_of_scopes(node: ast.AST) -> Iterator[ast.AST]:
    """Walk a statement, without the bodies of functions and classes in it."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield child
        else:
            yield from _outside_of_scopes(child)


def _used(node: ast.stmt) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the module that a statement uses: when it is executed, and later."""
    try:
        table = symtable.symtable(ast.unparse(node), "<cell>", "exec")
    except SyntaxError:  # such as a top-level await, which is refused elsewhere
        names = (each.id for each in ast.walk(node) if isinstance(each, ast.Name))
        return frozenset(names), frozenset()
    at_once = {each.get_name() for each in table.get_symbols() if each.is_referenced()}
    later: set[str] = set()
    for child in table.get_children():
        (at_once if child.get_type() == "class" else later).update(_global_names(child))
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        later.discard(node.name)
        at_once.discard(node.name)
    return frozenset(at_once), frozenset(later)


def _global_names(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_global() and symbol.is_referenced():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _global_names(child)


# Which of them are needed.


def _collect(
    name: str, statements: Sequence[_Statement], namespace: Mapping[str, Any], needed: _Needed
) -> None:
    waiting: list[tuple[str, tuple[int, int] | None]] = [(name, None)]
    seen: set[tuple[str, tuple[int, int] | None]] = set()
    while waiting:
        wanted, before = waiting.pop()
        if (wanted, before) in seen or (wanted.startswith("__") and wanted.endswith("__")):
            continue
        seen.add((wanted, before))
        bindings = [each for each in statements if wanted in each.binds]
        if not bindings:
            if wanted in _BUILTINS and wanted not in namespace:
                continue
            line = _import_of(wanted, namespace.get(wanted))
            if line is not None:
                needed.imports[wanted] = line
            else:
                needed.problems[wanted] = _why_not_found(wanted, namespace)
            continue
        earlier = [each for each in bindings if before is None or each.place < before]
        statement = (earlier or bindings)[-1]
        problem = _why_not_repeatable(statement)
        if problem is None and statement is bindings[-1]:
            problem = _why_changed(wanted, statement, namespace)
        if problem is not None:
            needed.problems[wanted] = problem
        elif isinstance(statement.node, (ast.Import, ast.ImportFrom)):
            needed.imports[wanted] = _import_line(statement.node, wanted)
        elif statement.place not in needed.statements:
            needed.statements[statement.place] = statement
            waiting += [(each, statement.place) for each in sorted(statement.uses_at_once)]
            waiting += [(each, None) for each in sorted(statement.uses_later)]
    if any(_has_future_annotations(each) for each in statements):
        needed.imports["__future__"] = "from __future__ import annotations"


def _has_future_annotations(statement: _Statement) -> bool:
    node = statement.node
    return (
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
    )


def _import_line(node: ast.Import | ast.ImportFrom, name: str) -> str:
    """Return an import of this name only."""
    alias = next(
        each for each in node.names if (each.asname or each.name.partition(".")[0]) == name
    )
    if isinstance(node, ast.Import):
        return ast.unparse(ast.Import([alias]))
    return ast.unparse(ast.ImportFrom(node.module, [alias], node.level))


def _import_of(name: str, value: object) -> str | None:
    """Return the import of something that no cell has imported, such as by ``from x import *``."""
    if isinstance(value, ModuleType):
        module = value.__name__
        return f"import {module}" if module == name else f"import {module} as {name}"
    module_name, qualified = (
        getattr(value, "__module__", None),
        getattr(value, "__qualname__", None),
    )
    if qualified == name and isinstance(module_name, str) and module_name != "__main__":
        return f"from {module_name} import {name}"
    return None


def _why_not_found(name: str, namespace: Mapping[str, Any]) -> str:
    if name == "get_ipython":
        return "magics work only in notebooks"
    if name not in namespace:
        return "it is not defined"
    return "no cell defines it; assign it in a cell, or make it a parameter"


def _why_not_repeatable(statement: _Statement) -> str | None:
    node = statement.node
    if isinstance(node, ast.Delete):
        return "it was deleted"
    if isinstance(node, ast.AugAssign):
        return "it is changed in a cell after it was assigned; make it a parameter"
    if isinstance(node, (ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith)):
        return "it is assigned in a loop or a with block; make it a parameter"
    if any(
        isinstance(each, (ast.Await, ast.AsyncFor, ast.AsyncWith))
        for each in _outside_of_scopes(node)
    ):
        return "it comes from an await; make it a parameter"
    if "get_ipython" in statement.uses_at_once:
        return "it comes from a magic; make it a parameter"
    return None


def _why_changed(name: str, statement: _Statement, namespace: Mapping[str, Any]) -> str | None:
    """Say that a plain value, such as a number or a list, is no longer the one in the cell."""
    node = statement.node
    if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
        return None
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    if name not in namespace or not all(isinstance(target, ast.Name) for target in targets):
        return None
    try:
        written = ast.literal_eval(node.value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None  # not a plain value
    if _same(namespace[name], written):
        return None
    return "its value is no longer the one in the cell; run that cell again, or make it a parameter"


def _same(value: object, written: object) -> bool:
    try:
        return type(value) is type(written) and bool(value == written)
    except (ValueError, TypeError):  # a list of arrays, for one
        return False


# The module.


def _module(needed: _Needed) -> str:
    statements = [statement for _, statement in sorted(needed.statements.items())]
    source = "\n".join(_sorted_imports(dict.fromkeys(needed.imports.values())))
    for before, statement in zip([None, *statements], statements, strict=False):
        if source:
            apart = statement.is_definition or (before is not None and before.is_definition)
            source += "\n\n\n" if apart else "\n\n" if before is None else "\n"
        source += statement.text
    return source + "\n"


def _sorted_imports(lines: Iterable[str]) -> list[str]:
    """Sort imports: ``__future__``, then modules, then names of modules."""
    return sorted(
        lines, key=lambda line: ("__future__" not in line, line.startswith("from "), line)
    )
