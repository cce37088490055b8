"""Conditions on the parameters of flow runs, as a person types them: ``lr > 0.1 and customer == 'acme'``.

A condition has Python's syntax for names, constants, comparisons, ``and``, ``or``, ``not`` and ``in``. It
is never evaluated as Python: a function is made from the parts that are allowed here, and everything else
is refused.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchnb.text import one_line

_LONGEST = 1_000

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.eq,  # `is None`
    ast.IsNot: operator.ne,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}

_ALLOWED = (
    "compare parameters with constants, as in \"lr > 0.1 and customer in ('acme', 'initech')\"; names, "
    "numbers, texts, lists, comparisons, in, and, or, not are allowed"
)

_CONSTANTS = (str, int, float, bool, type(None))

Value = Callable[[Mapping[str, Any]], Any]


class _Missing(Exception):
    """A run does not have this parameter."""


@dataclass(frozen=True)
class RunCondition:
    """A condition on the parameters of a run."""

    text: str
    names: frozenset[str]
    """The parameters that it looks at."""
    _holds: Value = field(repr=False)

    def holds(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether it holds for a run with these parameters.

        A comparison with a parameter that the run does not have, or of values that cannot be compared,
        does not hold.
        """
        return bool(self._holds(parameters))


def read_condition(text: str) -> RunCondition:
    """Return the condition that a text describes.

    Raises:
        ValueError: it contains something that is not allowed; the message says what is.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"a condition may have at most {_LONGEST:,} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # Outside of the except block, as their messages are about Python.
        tree = None
    if tree is None:
        raise ValueError(f"{one_line(text, 200)!r} is not a condition: {_ALLOWED}")
    names: set[str] = set()
    try:
        holds = _truth(tree.body, names, text)
    except RecursionError:
        holds = None
    if holds is None:
        raise ValueError(f"the condition is nested too deeply: {_ALLOWED}")
    return RunCondition(text, frozenset(names), holds)


def _truth(node: ast.expr, names: set[str], text: str) -> Value:
    """Return a function that says whether a part of a condition holds; it does not raise."""
    if isinstance(node, ast.BoolOp):
        parts = [_truth(each, names, text) for each in node.values]
        decide = all if isinstance(node.op, ast.And) else any
        return lambda parameters: decide(part(parameters) for part in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        part = _truth(node.operand, names, text)
        return lambda parameters: not part(parameters)
    value = _comparison(node, names, text) if isinstance(node, ast.Compare) else None
    return _safe(value if value is not None else _value(node, names, text))


def _safe(value: Value) -> Value:
    def holds(parameters: Mapping[str, Any]) -> bool:
        try:
            return bool(value(parameters))
        except (_Missing, TypeError):
            return False

    return holds


def _comparison(node: ast.Compare, names: set[str], text: str) -> Value:
    values = [_value(each, names, text) for each in (node.left, *node.comparators)]
    operators = [_COMPARISONS[type(each)] for each in node.ops]

    def compare(parameters: Mapping[str, Any]) -> bool:
        found = [value(parameters) for value in values]
        pairs = zip(operators, found, found[1:], strict=False)
        return all(holds(left, right) for holds, left, right in pairs)

    return compare


def _value(node: ast.expr, names: set[str], text: str) -> Value:
    if isinstance(node, ast.Constant) and isinstance(node.value, _CONSTANTS):
        constant = node.value
        return lambda _: constant
    if isinstance(node, ast.Name):
        return _named(node.id, names)
    if isinstance(node, ast.Attribute):
        return _part(_value(node.value, names, text), node.attr)
    if (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, (str, int))
    ):
        return _part(_value(node.value, names, text), node.slice.value)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        items = [_value(each, names, text) for each in node.elts]
        return lambda parameters: [item(parameters) for item in items]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = node.operand
        if isinstance(number, ast.Constant) and type(number.value) in (int, float):
            negative = -number.value  # type: ignore[operator] # it is one of these two
            return lambda _: negative
    part = ast.get_source_segment(text.strip(), node) or text
    raise ValueError(f"{one_line(part, 80)!r} is not allowed in a condition: {_ALLOWED}")


def _named(name: str, names: set[str]) -> Value:
    names.add(name)

    def look_up(parameters: Mapping[str, Any]) -> Any:
        if name not in parameters:
            raise _Missing
        return parameters[name]

    return look_up


def _part(whole: Value, key: str | int) -> Value:
    """Return the function that gets an item of a mapping or a list, and never an attribute."""

    def look_up(parameters: Mapping[str, Any]) -> Any:
        found = whole(parameters)
        if isinstance(found, Mapping):
            if key in found:
                return found[key]
        elif isinstance(found, list) and isinstance(key, int) and -len(found) <= key < len(found):
            return found[key]
        raise _Missing

    return look_up
