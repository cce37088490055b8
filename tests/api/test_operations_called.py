"""Every operation is called, with success, by a test that has both clients on the real Prefect server.

Read from the tests' source: what was called in another process, or in another order, makes no difference.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from orchnb.api.methods import operation
from orchnb.api.operations import Operations

HERE = Path(__file__).parent
OPERATIONS = {
    name
    for name in dir(Operations)
    if isinstance(inspect.getattr_static(Operations, name), operation)
}

NOT_TO_BE_CALLED = {
    "create_deployment_branch": "Prefect Cloud alone has it; see test_lacking.py",
}
"""Operations that cannot be called on a Prefect server of one's own, and why."""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def arguments_of(function: Function) -> set[str]:
    return {each.arg for each in (*function.args.args, *function.args.kwonlyargs)}


def is_fixture(function: Function) -> bool:
    return any("fixture" in ast.unparse(each) for each in function.decorator_list)


def is_of_both(function: Function) -> bool:
    """Whether it is a fixture that opens the client of each kind on a real server."""
    asked = arguments_of(function)
    return (
        is_fixture(function)
        and "kind" in asked
        and any(name.endswith(("server_url", "prefect_here", "in_process_app")) for name in asked)
        and "opened(kind, " in ast.unparse(function)
    )


def functions_of(tree: ast.Module) -> dict[str, Function]:
    return {each.name: each for each in tree.body if isinstance(each, Function)}


def taken_over(tree: ast.Module) -> Iterator[str]:
    """The names under which a module takes `both`'s client over."""
    for each in tree.body:
        if isinstance(each, ast.Assign):
            (target,) = each.targets
            pairs = (
                zip(target.elts, each.value.elts, strict=True)
                if isinstance(target, ast.Tuple) and isinstance(each.value, ast.Tuple)
                else [(target, each.value)]
            )
            yield from (
                ast.unparse(name) for name, value in pairs if ast.unparse(value) == "both.client"
            )


def is_of_one(function: Function) -> bool:
    """Whether a test chooses the client itself, or never runs."""
    words = [ast.unparse(each) for each in function.decorator_list]
    return any(
        word.startswith("pytest.mark.skip(")
        or (word.startswith("pytest.mark.parametrize(") and "kind" in word.split(",")[0])
        for word in words
    )


def is_stored(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def outside_of_raises(node: ast.AST) -> Iterator[ast.AST]:
    """All that is in it but what is meant to fail."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.With, ast.AsyncWith)) and any(
            ast.unparse(item.context_expr).startswith("pytest.raises") for item in child.items
        ):
            continue
        yield from outside_of_raises(child)


def called_in(source: str) -> set[str]:
    """The names of methods of both clients that a module's tests call, themselves or by its helpers and
    fixtures, where they are given the client by the fixture's name."""
    tree = ast.parse(source)
    functions = functions_of(tree)
    clients = {name for name, each in functions.items() if is_of_both(each)}
    clients |= set(taken_over(tree))
    found: set[str] = set()
    left = [
        each for name, each in functions.items() if name.startswith("test_") and not is_of_one(each)
    ]
    seen: set[str] = set()
    while left:
        function = left.pop()
        seen.add(function.name)
        given = clients & arguments_of(function)
        given -= {getattr(each, "id", "") for each in ast.walk(function) if is_stored(each)}
        for node in outside_of_raises(function):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id in given:
                    found.add(node.func.attr)
            name = getattr(node, "id", None) or getattr(node, "arg", None)
            if name in functions and name not in seen:
                seen.add(name)
                left.append(functions[name])
    return found


def called_here() -> set[str]:
    return set().union(*(called_in(each.read_text("utf-8")) for each in HERE.glob("test_*.py")))


def test_every_operation_is_called_with_success_on_both_clients() -> None:
    missing = OPERATIONS - called_here() - set(NOT_TO_BE_CALLED)
    assert not missing, f"no test calls {sorted(missing)} by `client`, a fixture of both clients"


def test_what_is_not_to_be_called_is_an_operation_and_not_called() -> None:
    assert set(NOT_TO_BE_CALLED) <= OPERATIONS - called_here()


BOTH = "client = both.client\n"
OWN = """
@pytest.fixture(params=["in-process", "http"])
def client(request, in_process_app, server_url, kind):
    with opened(kind, server_url) as client:
        yield client
"""


@pytest.mark.parametrize(
    ("source", "called"),
    [
        (BOTH + "def test_it(client): assert client.hello().status_code == 200", True),
        ("client, name = both.client, both.name\ndef test_it(client): client.hello()", True),
        (OWN + "def test_it(client): client.hello()", True),
        (BOTH + "def ask(client): client.hello()\ndef test_it(client): ask(client)", True),
        (
            BOTH + "@pytest.fixture\ndef asked(client): client.hello()\ndef test_it(asked): pass",
            True,
        ),
        (BOTH + "def test_it(client): both.eventually(lambda: client.hello(), bool)", True),
        ("def test_it(client): client.hello()", False),
        (
            OWN.replace("opened(kind,", "opened('sync',") + "def test_it(client): client.hello()",
            False,
        ),
        (BOTH + "def ask(client): client.hello()\ndef test_it(client): pass", False),
        (BOTH + "def test_it(name): client.hello()", False),
        (BOTH + "def test_it(client):\n with another() as client: client.hello()", False),
        (BOTH + "def test_it(client): other.hello()", False),
        (BOTH + "def test_it(client): client.operations.hello()", False),
        (BOTH + "def test_it(client):\n with pytest.raises(ObjectNotFound): client.hello()", False),
        (BOTH + "def test_it(client):\n with a, pytest.raises(E) as told: client.hello()", False),
        (
            BOTH
            + "@pytest.mark.parametrize('kind', ['sync'])\ndef test_it(client): client.hello()",
            False,
        ),
        (BOTH + "@pytest.mark.skip('later')\ndef test_it(client): client.hello()", False),
    ],
)
def test_a_call_counts_if_it_is_made_on_both_clients_and_may_succeed(
    source: str, called: bool
) -> None:
    assert ("hello" in called_in(source)) is called
