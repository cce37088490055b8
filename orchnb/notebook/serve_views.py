"""A server that is open on a port, as a card."""

from __future__ import annotations

import os

from orchnb.notebook.views import Card, Cell, Line, clean
from orchnb.runtime.serving import Served

_SET = "set" if os.name == "nt" else "export"


def served_card(served: Served) -> Card:
    """Where it is, and how other programs use it."""
    rows: list[tuple[str, str | Cell]] = []
    what = "Web pages" if served.app.is_prefect else "Address"
    if served.proxied:
        rows.append((what, Cell(served.proxied_page, link=served.proxied_page)))
        what = "On the kernel's machine"
    rows.append((what, Cell(served.page, link=served.page)))
    notes = [
        "Every program on this machine can use it, other users' as well. "
        "%orch_serve --stop closes the port."
    ]
    if served.app.is_prefect:
        rows.append(("API", served.api_url))
        rows.append(("In a terminal", f"{_SET} PREFECT_API_URL={served.api_url}"))
        notes.insert(0, "Prefect's flows in this notebook use it, and so do commands after a !.")
    title = f"{clean(served.app.version_or_title, 80)} is open on port {served.port}"
    return Card(title, "good", rows=rows, notes=notes)


def not_served_line(was_open: bool) -> Line:
    """What ``--stop`` has done."""
    return Line("The port is closed" if was_open else "No port was open")
