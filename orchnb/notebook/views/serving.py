"""The card of a flow that is served from its cell."""

from __future__ import annotations

from orchnb.notebook.views.model import Card, TableCell, clean
from orchnb.runs.serving import ServedFlow


def served_flow_card(served: ServedFlow) -> Card:
    """Return a card of the deployment, whether its process is running, and what it wrote last."""
    runs = served.is_running
    state = (
        f"waiting for runs in process {served.process.pid}"
        if runs
        else f"ended with exit code {served.process.exit_code}"
    )
    rows: list[tuple[str, str | TableCell]] = [
        ("Process", clean(state)),
        ("Source", clean(str(served.file))),
        ("Log", clean(str(served.process.log))),
    ]
    start = f"await client.run_deployment({served.name!r})"
    return Card(
        f"{clean(served.name, 120)} is {'served' if runs else 'not served any more'}",
        "good" if runs else "warn",
        rows=rows,
        log=[clean(line, 300) for line in served.process.log_lines(5)],
        notes=[clean(f"Start a run: {start}"), "stop() ends the process and pauses the schedules."]
        if runs
        else ["serve() starts it again."],
    )
