"""What `diagnose` can learn only in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchnb.diagnosis import Surroundings
from orchnb.errors import InvalidSetting
from orchnb.notebook._ipython import is_kernel
from orchnb.notebook.buttons import hears_buttons
from orchnb.notebook.display_mode import DisplayMode

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


def surroundings(shell: InteractiveShell, mode: DisplayMode) -> Surroundings:
    """Return the facts about a shell, and the display mode."""
    try:
        decided_by = mode.decided_by
    except InvalidSetting:
        decided_by = "default, as the settings are invalid"
    return Surroundings(
        shell_class=f"{type(shell).__module__}.{type(shell).__qualname__}",
        is_kernel=is_kernel(shell),
        hears_buttons=hears_buttons(shell),
        display=f"{mode()} (decided by {decided_by})",
    )
