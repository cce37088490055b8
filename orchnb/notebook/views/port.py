"""The card of a server that is open on a port.

A notebook is saved with its cards, so no card contains the port's auth string. A link contains a code
that works once, within ten minutes.
"""

from __future__ import annotations

from orchnb.hosting.port import Served
from orchnb.notebook.views.model import Card, Line, TableCell, clean


def served_card(served: Served) -> Card:
    """Return a card that says where the server is, how its owner uses it, and who else can."""
    rows: list[tuple[str, str | TableCell]] = []
    what = "Web pages" if served.app.is_prefect else "In a browser"
    has_pages = served.app.pages_url is not None or not served.app.is_prefect
    if has_pages and served.proxied:
        rows.append((what, _page(served.proxied_page, served.sign_in_path())))
        what = "On the kernel's machine"
    if has_pages:
        rows.append((what, _page(served.page, f"{served.address}{served.sign_in_path()}")))
    notes = [
        "It is open to this notebook and the programs it starts, to terminals where you run that line, "
        "and to browsers in which you open the link; not to other users or other web pages.",
        "The link works once, within ten minutes; %orch_serve makes a new one. %orch_serve --stop closes "
        "the port.",
    ]
    if served.app.is_prefect:
        rows.append(("API", served.api_url))
        notes.insert(
            0, "Prefect's flows in this notebook use it, as do commands that start with !."
        )
    else:
        rows.append(("Address", served.address))
        notes.insert(0, 'Then: curl -u "$ORCHNB_SERVED_AUTH_STRING" "$ORCHNB_SERVED_URL"')
    rows.append(("In a terminal", served.settings_line))
    title = f"{clean(served.app.version_or_title, 80)} is open on port {served.port}"
    return Card(title, "good", rows=rows, notes=notes)


def _page(page: str, link: str) -> TableCell:
    return TableCell(page, link=link, plain=link)


def not_served_line(was_open: bool) -> Line:
    """Return a line that says what ``--stop`` did."""
    return Line("The port is closed" if was_open else "No port was open")
