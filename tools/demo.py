"""Run a notebook headless and tell, cell by cell, what happened: ``demo.py NOTEBOOK OUTPUT_FOLDER``.

Writes the executed notebook and an html of it. Ends with 1 if a cell failed that was not marked, by
the tag ``raises-exception``, as one that should.
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

EXPECTED = "raises-exception"


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
    failed = [cell for cell in document.cells if went_wrong(cell)]
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
    if went_wrong(cell):
        print("    ^ this cell did NOT do what it should")
    print()


def shown(output: Any) -> str:
    """An output as text, an error as its name."""
    if output.output_type == "error":
        return f"({output.ename})"
    if output.output_type == "stream":
        return str(output.text)
    return str(output.data.get("text/plain", ""))


def went_wrong(cell: Any) -> bool:
    """Whether a cell failed that should not, or did not though it should."""
    if cell.cell_type != "code":
        return False
    errors = [output for output in cell.outputs if output.output_type == "error"]
    return bool(errors) != (EXPECTED in cell.metadata.get("tags", []))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
