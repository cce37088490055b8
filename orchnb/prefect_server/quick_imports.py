"""Import jsonschema without the grammar that it nearly never uses.

jsonschema, which Prefect imports, imports ``rfc3987_syntax`` where it is installed, as it is with
JupyterLab. That builds a grammar of IRIs at its import, which takes two fifths of the CPU time of the
import of Prefect's server. Only the check of a value with the format ``iri`` uses the grammar.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from orchnb.runtime.background_imports import importing

_GRAMMAR = "rfc3987_syntax"
_USER = "jsonschema"


def import_jsonschema() -> None:
    """Import jsonschema, unless it is not installed. It imports the grammar at its first use instead."""
    if importlib.util.find_spec(_USER) is None:
        return
    with importing(), _grammar_at_first_use():
        importlib.import_module(_USER)


@contextmanager
def _grammar_at_first_use() -> Iterator[None]:
    """Give importers of the grammar's module a stand-in for it during the block."""
    if _GRAMMAR in sys.modules or _USER in sys.modules or not _is_installed():
        yield
        return
    stand_in = sys.modules[_GRAMMAR] = _StandIn()
    try:
        yield
    finally:
        if sys.modules.get(_GRAMMAR) is stand_in:
            del sys.modules[_GRAMMAR]


def _is_installed() -> bool:
    return importlib.util.find_spec(_GRAMMAR) is not None


class _StandIn(ModuleType):
    """Has what jsonschema imports; for everything else, as another thread may need, it imports the real
    module."""

    def __init__(self) -> None:
        super().__init__(_GRAMMAR)
        self.__spec__ = spec = importlib.util.find_spec(_GRAMMAR)
        self.__path__ = list(spec.submodule_search_locations or ()) if spec is not None else []

    def is_valid_syntax(self, term: str, value: str) -> bool:
        """Return whether a value is what ``term`` names in the grammar."""
        return bool(self._real().is_valid_syntax(term, value))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python's own questions about a module
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> ModuleType:
        if sys.modules.get(_GRAMMAR) is self:
            del sys.modules[_GRAMMAR]
        return importlib.import_module(_GRAMMAR)
