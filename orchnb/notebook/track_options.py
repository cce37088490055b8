"""What ``%%orch_track`` is told, and the names that it uses if it is not told."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class TrackOptions(NamedTuple):
    """The arguments of ``%%orch_track``."""

    name: str | None
    parameters: dict[str, Any]
    tags: Sequence[str]


ParseOptions = Callable[[str], TrackOptions]
"""Parses the arguments on the magic's line; raises IPython's ``UsageError`` if they are invalid."""


def notebook_name(shell: InteractiveShell) -> str:
    """Return the name of the notebook's file without its ending; ``notebook`` if it is unknown.

    Jupyter Server sets ``JPY_SESSION_NAME``, VS Code a variable in the notebook.
    """
    for path in (os.environ.get("JPY_SESSION_NAME"), shell.user_ns.get("__vsc_ipynb_file__")):
        name, ending = os.path.splitext(re.split(r"[/\\]", str(path or ""))[-1])
        if name and ending == ".ipynb":
            return name
    return "notebook"


def error_line(error: BaseException) -> str:
    """Return an error's type and text on one line."""
    from orchnb.text import one_line

    try:
        words = one_line(str(error))
    except Exception:  # noqa: BLE001 - the user's `__str__`
        words = ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
