"""README for the package index, which shows no file that a link leads to without its whole address."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Readme(MetadataHookInterface):
    """Makes the links and pictures of README.md lead to the repository, whose address is in
    ``[project.urls]``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the README to the metadata."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_whole_addresses(text, metadata["urls"]["Source"]),
        }


def with_whole_addresses(text: str, repository: str) -> str:
    """Return Markdown in which each link to a file is an address in the repository."""

    def whole(match: re.Match[str]) -> str:
        kind = "raw" if match["picture"] else "blob"
        return f"{match['picture']}[{match['words']}]({repository}/{kind}/HEAD/{match['path']})"

    link = r"(?P<picture>!?)\[(?P<words>[^\]]*)\]\((?P<path>(?![a-z]+:|#)[^)\s]+)\)"
    return re.sub(link, whole, text)
