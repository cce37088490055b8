"""Copies of the repository, for what is to be tried as on a new machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.servers import ROOT


def fresh_copy(folder: Path) -> Path:
    """Make the folder a repository that holds what a fresh clone of this one would, and return it.

    What is not committed yet is in it as well, what git ignores is not.
    """
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():  # not deleted
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    _git("init", "--quiet", cwd=folder)
    _git("add", "--all", cwd=folder)
    return folder


def _git(*arguments: str, cwd: Path) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout
