"""The card of the server that the notebook uses."""

from __future__ import annotations

from dataclasses import replace

from orchnb.api.status import ServerStatus
from orchnb.notebook.views.model import Card, clean
from orchnb.notebook.views.objects import status_card


def server_card(status: ServerStatus) -> Card:
    """Return a card of the server, which also says where Prefect's flows in this process run."""
    card = status_card(status)
    if not status.flows:
        return card
    return replace(card, rows=[*card.rows, ("Prefect flows here", clean(status.flows))])
