"""A call that was not awaited, or awaited needlessly: find it in the user's code, and say what to write.

The code is only parsed. Names are looked up where it ran; nothing of it is called or evaluated again.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import os
import re
import sys
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CoroutineType, FrameType, ModuleType
from typing import Any, get_origin

_OWN_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_PACKAGE = __name__.partition(".")[0]

_FORGOTTEN = re.compile(r"\b(coroutine)\b|'Async\w+' object is not")
# In the words of Python 3.10 to 3.13, and of 3.14.
_NEEDLESS = re.compile(r"can't be used in 'await'|can't be awaited|'async for' requires")

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.GeneratorExp)


@dataclass(frozen=True)
class AwaitAdvice:
    """What to write."""

    write: str
    is_missing: bool = True
    """Whether an ``await`` or ``async`` is missing; otherwise there is one too many."""


def is_unawaited(value: object) -> bool:
    """Return whether this is a call of orchnb's that was made but not awaited."""
    if isinstance(value, CoroutineType):
        is_new = inspect.getcoroutinestate(value) == inspect.CORO_CREATED
        return is_new and value.cr_code.co_filename.startswith(_OWN_FOLDER)
    return is_async_iterator(value)


def is_async_iterator(value: object) -> bool:
    """Return whether this iterates over results of orchnb with ``async for``."""
    kind = type(value)
    return kind.__module__.startswith(f"{_PACKAGE}.") and hasattr(kind, "__anext__")


def advice_on_result(source: str, value: Any) -> AwaitAdvice:
    """Return what to write for such a call that is the result of a cell with this source."""
    code = _Code.of(source, {})
    last = code.tree.body[-1] if code is not None and code.tree.body else None
    if code is None or not isinstance(last, ast.Expr):
        return AwaitAdvice(_awaited(f"client.{_name_of(value)}(...)", value))
    calls = [
        node
        for node in ast.walk(code.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == _name_of(value)
    ]
    result = last.value
    if isinstance(result, ast.Call) and calls and result not in calls:
        result = calls[-1]  # such as the one in `display(client.read_flows())`
    return AwaitAdvice(_awaited(code.operand(result), value))


def advice_on_name(source: str, name: str, value: Any) -> AwaitAdvice:
    """Return what to write for such a call that a cell with this source has assigned to a name."""
    code = _Code.of(source, {})
    assigned = None if code is None else code.assignment(name)
    if is_async_iterator(value):
        return AwaitAdvice(_awaited(name, value))
    return AwaitAdvice(assigned or f"{name} = await {name}")


def advice_on_discarded(source: str, names: Mapping[str, Any]) -> list[AwaitAdvice]:
    """Return what to write for the statements of a cell that are such a call and nothing else."""
    code = _Code.of(source, names)
    if code is None:
        return []
    calls = [node.value for node in _nodes_of(code.tree) if isinstance(node, ast.Expr)]
    return [
        AwaitAdvice(f"await {code.text(call)}")
        for call in calls
        if isinstance(call, ast.Call) and code.kind_of_call(call) == "coroutine"
    ]


def advice_on_error(error: BaseException, is_own: Callable[[str], bool]) -> AwaitAdvice | None:
    """Return what to write, if an error comes from a missing or needless ``await`` of a call of ours.

    ``is_own`` says whether a file is the user's own code.
    """
    if not isinstance(error, (TypeError, AttributeError)):
        return None
    message = str(error)
    is_missing = bool(_FORGOTTEN.search(message))
    if not is_missing and not _NEEDLESS.search(message):
        return None
    found = None
    traceback = error.__traceback__
    while traceback is not None:
        if is_own(traceback.tb_frame.f_code.co_filename):
            found = traceback
        traceback = traceback.tb_next
    if found is None:
        return None
    code = _Code.of_frame(found.tb_frame)
    statement = None if code is None else code.statement_at(found.tb_lineno)
    if code is None or statement is None:
        return None
    write = code.with_missing(statement) if is_missing else code.without_needless(statement)
    return AwaitAdvice(write, is_missing) if write else None


def _name_of(value: Any) -> str:
    return str(getattr(value, "__name__", "iter_flow_runs"))


def _awaited(text: str, value: Any) -> str:
    if is_async_iterator(value):
        return f"await {text}.to_list()"
    return f"await {text}"


def _nodes_of(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of code that runs with it: not those within functions."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, _SCOPES):
            yield node
            yield from _nodes_of(node)


class _Code:
    """Parsed code, and the names where it ran."""

    def __init__(self, source: str, tree: ast.Module, names: Mapping[str, Any]) -> None:
        self.tree = tree
        self._lines = source.encode().splitlines(keepends=True)  # columns are counted in bytes
        self._names = names

    @classmethod
    def of(cls, source: str, names: Mapping[str, Any]) -> _Code | None:
        """Return the code; None if it is not valid Python."""
        if any(sign in source for sign in "%!?"):
            source = "".join(map(_python_line, source.splitlines(keepends=True)))
        try:
            return cls(source, ast.parse(source), names)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None

    @classmethod
    def of_frame(cls, frame: FrameType) -> _Code | None:
        lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
        return cls.of("".join(lines), ChainMap(frame.f_locals, frame.f_globals))

    # Text.

    def _raw(self, start: tuple[int, int], end: tuple[int, int]) -> str:
        lines = self._lines[start[0] - 1 : end[0]]
        if not lines:
            return ""
        lines[-1] = lines[-1][: end[1]]
        lines[0] = lines[0][start[1] :]
        return b"".join(lines).decode(errors="replace")

    def text(self, node: Any) -> str:
        """Return the source of a node in one line."""
        return _in_one_line(self._raw(_start(node), _end(node)))

    def operand(self, node: ast.expr) -> str:
        """Return the source of an expression as it can follow ``await``."""
        simple = isinstance(node, (ast.Call, ast.Name, ast.Attribute, ast.Subscript))
        return self.text(node) if simple else f"({self.text(node)})"

    def replaced(self, statement: ast.stmt, node: ast.expr, by: str) -> str:
        """Return the source of a statement, without the block below it, with a node replaced."""
        body = getattr(statement, "body", None)
        end = _start(body[0]) if isinstance(body, list) and body else _end(statement)
        before = self._raw(_start(statement), _start(node))
        return _in_one_line(before + by + self._raw(_end(node), end))

    def assignment(self, name: str) -> str:
        """Return the last assignment to a name, with its value awaited."""
        found = ""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign):
                targets: list[ast.expr] = node.targets
            elif isinstance(node, ast.AnnAssign) and node.value is not None:
                targets = [node.target]
            else:
                continue
            value = node.value
            if value is not None and any(_is_name(target, name) for target in targets):
                found = self.replaced(node, value, f"await {self.operand(value)}")
        return found

    def statement_at(self, line: int) -> ast.stmt | None:
        """Return the innermost statement with this line."""
        around = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0)
        ]
        return max(around, key=lambda node: (node.lineno, node.col_offset), default=None)

    # What names stand for.

    def value_of(self, node: ast.AST) -> Any:
        """Return what an expression stands for: an object, the class of a client that a call returns, or
        None if that is unknown."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id)
        if isinstance(node, ast.Attribute):
            base = self.value_of(node.value)
            if isinstance(base, ModuleType):
                is_ours = base.__name__ == _PACKAGE  # whose names are loaded when first used
                return getattr(base, node.attr, None) if is_ours else vars(base).get(node.attr)
            return None if base is None else inspect.getattr_static(base, node.attr, None)
        if isinstance(node, ast.Call):
            return _client_class(self.value_of(node.func), node)
        return None

    def kind_of_call(self, call: ast.Call) -> str:
        """Return what a call of a client's method returns: "coroutine", "iterator" of an async client,
        "sync" of a sync client; or "" for any other call."""
        if not isinstance(call.func, ast.Attribute):
            return ""
        client = self.value_of(call.func.value)
        kind = client if isinstance(client, type) else type(client)
        if not kind.__module__.startswith(f"{_PACKAGE}.") or not hasattr(kind, "is_async"):
            return ""
        if not kind.is_async:
            return "sync"
        method = getattr(kind, call.func.attr, None)
        if inspect.iscoroutinefunction(method):
            return "coroutine"
        result = inspect.signature(method).return_annotation if callable(method) else None
        return "iterator" if hasattr(get_origin(result) or result, "__anext__") else ""

    # What to write.

    def with_missing(self, statement: ast.stmt) -> str:
        """Return the statement with the ``await`` that is missing; "" if it is not found."""
        parents = {
            child: node for node in ast.walk(statement) for child in ast.iter_child_nodes(node)
        }
        for node in ast.walk(statement):
            parent = parents.get(node)
            if isinstance(node, ast.Call) and not isinstance(parent, ast.Await):
                kind = self.kind_of_call(node)
                if kind == "coroutine":
                    tight = isinstance(parent, (ast.Attribute, ast.Subscript, ast.BinOp))
                    text = f"await {self.text(node)}"
                    return self.replaced(statement, node, f"({text})" if tight else text)
                if kind == "iterator":
                    return self._iterated(statement, node, parent)
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and is_unawaited(self._names.get(node.id)):
                value = self._names[node.id]
                if is_async_iterator(value):
                    return self._iterated(statement, node, parents.get(node))
                return self.assignment(node.id) or f"{node.id} = await {node.id}"
        return ""

    def _iterated(self, statement: ast.stmt, node: ast.expr, parent: ast.AST | None) -> str:
        if isinstance(statement, ast.For) and parent is statement:
            return f"async {self.replaced(statement, node, self.text(node))}"
        items = f"await {self.text(node)}.to_list()"
        if isinstance(parent, ast.Call) and _is_name(parent.func, "list"):
            return self.replaced(statement, parent, items)
        if isinstance(parent, ast.comprehension):
            return f"async for {self.text(parent.target)} in {self.text(node)}"
        return self.replaced(statement, node, items)

    def without_needless(self, statement: ast.stmt) -> str:
        """Return the statement without the ``await`` that is too many; "" if it is not found."""
        if isinstance(statement, ast.AsyncFor) and self._is_sync(statement.iter):
            text = self.replaced(statement, statement.iter, self.text(statement.iter))
            return text.removeprefix("async").lstrip()
        for node in ast.walk(statement):
            if isinstance(node, ast.Await) and self._is_sync(node.value):
                return self.replaced(statement, node, self.text(node.value))
        return ""

    def _is_sync(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Call):
            return self.kind_of_call(node) == "sync"
        return type(self.value_of(node)).__module__.startswith(f"{_PACKAGE}.")


def _python_line(line: str) -> str:
    """Return a line of a cell, or ``pass`` in place of a magic, a command or a question."""
    code = line.strip()
    value = code.partition("=")[2].lstrip()
    if code.startswith(("%", "!", "?")) or code.endswith("?") or value.startswith(("%", "!")):
        return line[: len(line) - len(line.lstrip())] + "pass\n"
    return line


def _client_class(function: Any, call: ast.Call) -> Any:
    """Return the class of the client that a call of this function returns; None if it is another one."""
    client, context = sys.modules.get("orchnb.api.client"), sys.modules.get("orchnb.api.context")
    if client is None or context is None or function is None:
        return None
    if function in (client.PrefectClient, client.SyncPrefectClient):
        return function
    if function is not context.get_client:
        return None
    is_sync = any(
        keyword.arg == "sync_client"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value
        for keyword in call.keywords
    )
    return client.SyncPrefectClient if is_sync else client.PrefectClient


def _in_one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines()).strip()


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _start(node: Any) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: Any) -> tuple[int, int]:
    return node.end_lineno, node.end_col_offset
