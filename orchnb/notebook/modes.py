"""What is shown of orchnb's own: ``ORCHNB_DISPLAY``, or what ``%orch_display`` chose."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

Mode: TypeAlias = Literal["auto", "html", "text", "off"]
"""All that the front end can; all but widgets; text alone; text, and of that only what was asked for."""

MODES: tuple[Mode, ...] = get_args(Mode)

CHOSEN_BY = "%orch_display"


class DisplayMode:
    """The mode of one notebook; call it for the current one."""

    def __init__(self) -> None:
        self.chosen: Mode | None = None
        """What ``%orch_display`` chose; None for what the settings say."""

    def __call__(self) -> Mode:
        """The mode. Where the settings cannot be read it is ``auto``: that has to be shown as well."""
        if self.chosen is not None:
            return self.chosen
        from orchnb.settings import get_settings  # at the first need, so that loading is quick

        try:
            return get_settings().display
        except Exception:  # noqa: BLE001 - every error of the notebook is shown by way of this
            return "auto"

    @property
    def decided_by(self) -> str:
        """Who decided it.

        Raises:
            InvalidSetting: the settings cannot be read.
        """
        from orchnb.settings import get_settings

        return CHOSEN_BY if self.chosen is not None else str(get_settings().source("display"))
