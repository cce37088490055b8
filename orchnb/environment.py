"""The environment variables that orchnb sets for Prefect and for child processes.

`orchnb.settings` reads the environment as the person has set it, so that a variable of orchnb's own is
not taken for a setting.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple

from orchnb.forks import in_forked_child


class _Exported(NamedTuple):
    value: str
    before: str | None


_exported: dict[str, _Exported] = {}
_lock = threading.Lock()


def persons_environment() -> dict[str, str]:
    """Return the environment without what orchnb has set."""
    with _lock:
        return _persons()


def exported(name: str) -> str | None:
    """Return the value that orchnb has set for a variable; None if the variable is the person's."""
    with _lock:
        ours = _exported.get(name)
        return ours.value if ours is not None and os.environ.get(name) == ours.value else None


def export(values: Mapping[str, str]) -> None:
    """Set these variables, and only these: earlier ones get the value back that they had before.

    A variable that the person has changed since keeps the new value.
    """
    with _lock:
        persons = _persons()
        for name in _exported.keys() - values.keys():
            if os.environ.get(name) == _exported.pop(name).value:
                _put(os.environ, name, persons.get(name))
        for name, value in values.items():
            _exported[name] = _Exported(value, persons.get(name))
            os.environ[name] = value


def _persons() -> dict[str, str]:
    environment = dict(os.environ)
    for name, ours in _exported.items():
        if environment.get(name) == ours.value:  # otherwise the person has changed it since
            _put(environment, name, ours.before)
    return environment


def _put(environment: MutableMapping[str, str], name: str, value: str | None) -> None:
    if value is None:
        environment.pop(name, None)
    else:
        environment[name] = value


@in_forked_child
def _after_fork() -> None:
    # Another thread of the parent may have held it.
    global _lock
    _lock = threading.Lock()
