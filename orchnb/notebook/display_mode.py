"""The display mode: ``ORCHNB_DISPLAY``, or the mode chosen by ``%orch_display``."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Mode: TypeAlias = Literal["auto", "html", "text", "off"]
"""Everything the front end can show; no widgets; text only; only text that was asked for."""

MODES: tuple[Mode, ...] = get_args(Mode)

CHOSEN_BY = "%orch_display"


class DisplayMode:
    """The mode of one notebook; call it for the current one."""

    def __init__(self) -> None:
        self.chosen: Mode | None = None
        """The mode chosen by ``%orch_display``; None to use the settings."""

    def __call__(self) -> Mode:
        """Return the mode; ``auto`` if the settings cannot be read, as that error must be shown too."""
        if self.chosen is not None:
            return self.chosen
        from orchnb.settings import get_settings  # late, so that the extension loads quickly

        try:
            return get_settings().display
        except Exception:  # noqa: BLE001 - every error in the notebook is shown through this
            return "auto"

    @property
    def decided_by(self) -> str:
        """The source of the mode.

        Raises:
            InvalidSetting: the settings cannot be read.
        """
        from orchnb.settings import get_settings

        return CHOSEN_BY if self.chosen is not None else str(get_settings().source("display"))
