"""Errors that ``except prefect.exceptions.ObjectNotFound`` catches.

Python's ``except`` looks at real base classes only. So, where Prefect's exceptions are imported, an error
is raised as a subclass that also has Prefect's class as a base. orchnb never imports Prefect for this.
"""

from __future__ import annotations

import sys
from typing import Any

import httpx


class _ForPrefect(httpx.HTTPStatusError):
    """Comes before Prefect's classes among the bases: theirs take other arguments."""

    def __init__(self, message: str, *, request: httpx.Request, response: httpx.Response) -> None:
        Exception.__init__(self, message)
        self._request = request
        self.response = response

    __str__ = Exception.__str__

    @property
    def http_exc(self) -> Exception:
        """Return the error itself, which is an httpx error as well."""
        return self

    @property
    def help_message(self) -> str:
        """Return the message."""
        return str(self)


def with_prefects_base(kind: type[Any], names: tuple[str, ...]) -> type[Any]:
    """Return a subclass of an error class that also has Prefect's exceptions of these names as bases, if
    they are imported; else the class itself."""
    module = sys.modules.get("prefect.exceptions")
    if module is None:
        return kind
    bases = [getattr(module, name, None) for name in names]
    known = tuple(base for base in bases if isinstance(base, type))
    if not known or issubclass(kind, known):
        return kind
    if (kind, known) not in _subclasses:
        _subclasses[kind, known] = _subclass(kind, known)
    return _subclasses[kind, known]


_subclasses: dict[tuple[type[Any], tuple[type[Any], ...]], type[Any]] = {}


def as_declared(kind: type[Any]) -> type[Any]:
    """Return the class that `with_prefects_base` was given."""
    declared: type[Any] = kind.__dict__.get("_declared", kind)
    return declared


def _subclass(kind: type[Any], bases: tuple[type[Any], ...]) -> type[Any]:
    return type(
        kind.__name__,
        (kind, _ForPrefect, *bases),
        {
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "__doc__": kind.__doc__,
            "_declared": kind,
        },
    )
