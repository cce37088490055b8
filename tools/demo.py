"""Run a notebook headless and tell, cell by cell, what happened: ``demo.py NOTEBOOK OUTPUT_FOLDER``.

Writes the executed notebook and an html of it. Ends with 1 if a cell did not do what it should. That
is to end without an error and without a word on stderr, unless its metadata say more:

``raises``: the name of the error that it ends with (and the tag ``raises-exception``, for other programs
that run notebooks)
``shows``: a text that is to be in what it shows
"""

from __future__ import annotations

import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

MAY_FAIL = "raises-exception"
REFUSED = "UsageError: "  # what IPython writes to stderr when a magic refuses its line


def main(notebook: Path, folder: Path) -> int:
    """Execute, report, write; return the exit code."""
    document = nbformat.read(notebook, as_version=4)
    print(f"{notebook}: {sum(cell.cell_type == 'code' for cell in document.cells)} cells\n")
    began = time.monotonic()
    client = NotebookClient(
        document,
        timeout=180,
        allow_errors=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(notebook.parent)}},
        on_cell_start=start_clock,
        on_cell_executed=report,
    )
    client.execute()
    failed = [cell for cell in document.cells if complaints(cell)]
    folder.mkdir(parents=True, exist_ok=True)
    executed = folder / notebook.name
    page = executed.with_suffix(".html")
    nbformat.write(document, executed)
    page.write_text(HTMLExporter().from_notebook_node(document)[0], encoding="utf-8")
    verdict = f"{len(failed)} cells FAILED" if failed else "every cell did what it should"
    print(f"{verdict}, in {time.monotonic() - began:.1f} s")
    print(f"look at it: {page} (or {executed})")
    return 1 if failed else 0


clock: dict[str, float] = {}


def start_clock(cell: Any, cell_index: int) -> None:  # noqa: ARG001 - nbclient calls by keyword
    """Remember when the cell began."""
    clock["began"] = time.monotonic()


def report(cell: Any, cell_index: int, execute_reply: Any) -> None:  # noqa: ARG001 - as above
    """Print the cell's source and what it showed."""
    if cell.cell_type != "code":
        return
    source = "\n".join(f">>> {line}" for line in cell.source.splitlines())
    print(f"{source}    [{time.monotonic() - clock['began']:.1f} s]")
    for output in cell.outputs:
        print(textwrap.indent(shown(output), "    ").rstrip())
    for complaint in complaints(cell):
        print(f"    ^ NOT what it should do: {complaint}")
    print()


def shown(output: Any) -> str:
    """An output as text, an error as its name."""
    if output.output_type == "error":
        return f"({output.ename})"
    if output.output_type == "stream":
        return str(output.text)
    return str(output.data.get("text/plain", ""))


def complaints(cell: Any) -> list[str]:
    """What the cell did that it should not, or did not that it should."""
    if cell.cell_type != "code":
        return []
    errors = [output.ename for output in cell.outputs if output.output_type == "error"]
    stray = []
    for output in cell.outputs:
        for line in output.text.splitlines() if output.get("name") == "stderr" else ():
            errors += ["UsageError"] if line.startswith(REFUSED) else []
            stray += [] if line.startswith(REFUSED) else [f"on stderr: {line}"]
    expected = [cell.metadata.raises] if "raises" in cell.metadata else []
    words = cell.metadata.get("shows", "")
    return [
        *([f"error: {errors or 'none'}, not {expected or 'none'}"] if errors != expected else []),
        *stray,
        *([] if words in "\n".join(map(shown, cell.outputs)) else [f"it does not show: {words}"]),
    ]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
