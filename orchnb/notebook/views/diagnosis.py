"""The description of an installation, as a card with a text to copy."""

from __future__ import annotations

from orchnb.diagnosis import Diagnosis
from orchnb.notebook.views.model import Card


def diagnosis_card(diagnosis: Diagnosis) -> Card:
    """Return a card whose log is the text of the description."""
    count = len(diagnosis.problems)
    found = f"{count} known problem{'' if count == 1 else 's'}" if count else "no known problem"
    return Card(
        f"orchnb doctor: {found}",
        tone="warn" if count else "good",
        log=str(diagnosis).splitlines(),
        notes=["To report a problem, copy this text. It contains no secrets."],
    )
