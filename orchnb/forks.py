"""The package's one fork handler: what a forked child must forget of its parent.

A child process has a copy of the parent's memory, but none of its threads, and shares its sockets.
Modules and objects that hold such things register here what to do.
"""

from __future__ import annotations

import inspect
import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[[], object])

_before: list[Callable[[], object]] = []
_in_parent: list[Callable[[], object]] = []
_in_child: list[Callable[[], object]] = []
_objects: weakref.WeakKeyDictionary[object, Callable[[Any], object]] = weakref.WeakKeyDictionary()


def around_forks(before: Callable[[], object], after_in_parent: Callable[[], object]) -> None:
    """Call a function in the parent before each fork, and another one after it."""
    _before.append(before)
    _in_parent.append(after_in_parent)


def in_forked_child(function: F) -> F:
    """Call a function in each forked child, before any other code runs there. Can be a decorator.

    A bound method, one per object, does not keep its object alive.
    """
    if inspect.ismethod(function):
        _objects[function.__self__] = function.__func__
    else:
        _in_child.append(function)
    return function


def _call(functions: list[Callable[[], object]]) -> None:
    for function in functions:
        function()


def _after_in_child() -> None:
    _call(_in_child)
    for owner, method in list(_objects.items()):
        method(owner)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(
        before=lambda: _call(_before),
        after_in_parent=lambda: _call(_in_parent),
        after_in_child=_after_in_child,
    )
