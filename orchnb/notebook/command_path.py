"""The search path for commands that cells start: ``!prefect`` is the one of the kernel's environment.

A kernel is often started without activating its environment, and then its commands are not on the path,
or those of another environment come first.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator

_COMMAND = "prefect"
_PATH = "PATH"


class CommandPath:
    """The folder that is added to the front of ``PATH``, if it is needed."""

    def __init__(self) -> None:
        self._added: str | None = None
        self._looked_at: str | None = None

    def add(self) -> None:
        """Add the folder of the kernel's own command unless the path leads to that command already."""
        path = os.environ.get(_PATH, "")
        if path == self._looked_at:
            return
        own = next(_own_commands(), None)
        found = shutil.which(_COMMAND)
        if own is not None and (found is None or not os.path.samefile(own, found)):
            self.remove()
            self._added = os.path.dirname(own)
            os.environ[_PATH] = os.pathsep.join(filter(None, (self._added, os.environ.get(_PATH))))
        self._looked_at = os.environ.get(_PATH, "")

    def remove(self) -> None:
        """Remove it; what else the path has had added since stays."""
        if self._added is None:
            return
        folders = os.environ.get(_PATH, "").split(os.pathsep)
        if self._added in folders:
            folders.remove(self._added)
            os.environ[_PATH] = os.pathsep.join(folders)
        self._added = self._looked_at = None


def _own_commands() -> Iterator[str]:
    """Yield the command as it is installed in the kernel's environment, or for the user."""
    user = sysconfig.get_preferred_scheme("user")
    folders = [
        os.path.dirname(sys.executable),
        sysconfig.get_path("scripts"),
        sysconfig.get_path("scripts", user),
    ]
    for folder in folders:
        found = shutil.which(_COMMAND, path=folder)
        if found is not None:
            yield found
