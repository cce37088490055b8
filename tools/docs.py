"""Put the documentation together in ``build/docs``, from which MkDocs builds the site: the pages in
``docs/``, the notebooks as they ran, the reference, and the files at the top of the repository.

``python -m tools.docs NOTEBOOKS``: the folder with the executed notebooks.
"""

from __future__ import annotations

import html
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat

from hatch_build import with_whole_addresses
from tools.reference import pages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent

AT_THE_TOP = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "explanation/security.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
}
"""Files that are pages of the site as well."""


def main(notebooks: Path, folder: Path) -> None:
    """Write all pages to the folder."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    for name, page in AT_THE_TOP.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        write(folder / page, with_whole_addresses(text, repository()))
    for page, text in pages().items():
        write(folder / page, text)
    for path in sorted(notebooks.glob("*.ipynb")):
        write(folder / "tutorial" / f"{path.stem}.md", notebook_page(path))


def write(path: Path, text: str) -> None:
    """Write a page, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def repository() -> str:
    """Return the address of the repository."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["urls"]["Source"])


def notebook_page(path: Path) -> str:
    """Return an executed notebook as Markdown with its outputs."""
    source = f"{repository()}/blob/HEAD/notebooks/{path.name}"
    document = nbformat.read(path, as_version=4)
    parts: list[str] = []
    for cell in document.cells:
        if cell.cell_type == "markdown":
            parts.append(with_links_to_pages(cell.source))
        elif cell.cell_type == "code":
            parts.append(f"```ipython\n{cell.source}\n```")
            parts += [shown for output in cell.outputs if (shown := _shown(output))]
    parts.insert(1, f"[The notebook]({source}), as it ran when this page was built.")
    return "\n\n".join(parts) + "\n"


def with_links_to_pages(text: str) -> str:
    """Return a cell's Markdown in which links to notebooks lead to their pages."""
    return re.sub(r"\]\((?:\./)?(\d\d_\w+)\.ipynb\)", r"](\1.md)", text)


def _shown(output: Any) -> str:
    data = output.get("data", {})
    if "text/html" in data or ("text/plain" in data and "image/png" in data):
        return f'<div class="orchnb-output">\n{_inner(data)}\n</div>'
    text = output.get("text") or data.get("text/plain") or ""
    if output.output_type == "error":
        text = "\n".join(output.traceback)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text).strip("\n")
    return f'<pre class="orchnb-output">{html.escape(text)}</pre>' if text.strip() else ""


def _inner(data: Any) -> str:
    if "image/png" in data:
        alternative = html.escape(data["text/plain"])
        return f'<img alt="{alternative}" src="data:image/png;base64,{data["image/png"].strip()}">'
    # Without blank lines and indentation, which would end the block of HTML.
    return "\n".join(_lines(data["text/html"]))


def _lines(text: str) -> Iterator[str]:
    in_pre = False
    for line in text.splitlines():
        if line.strip() or in_pre:
            yield (line or "&#8203;") if in_pre else line.strip()
        in_pre = (in_pre or "<pre" in line) and "</pre>" not in line


if __name__ == "__main__":
    main(Path(sys.argv[1]), ROOT / "build" / "docs")
