"""A hook of MkDocs: the addresses of the site and of the repository are those in ``pyproject.toml``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def on_config(config: Any) -> Any:
    """Set the addresses."""
    path = Path(config.config_file_path).with_name("pyproject.toml")
    urls = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["urls"]
    config.site_url, config.repo_url = urls["Documentation"], urls["Source"]
    config.repo_name = "GitHub"
    return config
