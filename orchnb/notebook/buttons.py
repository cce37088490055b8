"""Buttons below a live display, where the kernel handles them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchnb.notebook._ipython import has_subshells

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.notebook.display_output import Output


ABOVE_BUTTONS = (
    "<style>.jp-OutputArea-child:has(.orchnb-above)~* .jp-OutputArea-output:not(:has(*))"
    '{display:none}</style><span class="orchnb-above"></span>'
)
"""HTML for the output above the buttons. A notebook can be saved while they are there; JupyterLab then
says "Loading widget..." or "model not found" in their place, and this hides it. Where the notebook is not
trusted, JupyterLab shows the HTML twin of the buttons, which is empty."""


@dataclass(frozen=True)
class ButtonSpec:
    """A button: its words, a tooltip, and the function it calls."""

    words: str
    tip: str
    act: Callable[[], object]


class Buttons:
    """Buttons as a widget in a separate output."""

    def __init__(self, output: Output, specs: Sequence[ButtonSpec]) -> None:
        import ipywidgets  # slow to import, and used only here

        self._output = output
        self._buttons: dict[str, Any] = {}
        for spec in specs:
            button = ipywidgets.Button(description=spec.words, tooltip=spec.tip)
            button.on_click(lambda _, act=spec.act: act())
            self._buttons[spec.words] = button
        box = ipywidgets.HBox(list(self._buttons.values()))
        self._widgets = [box, *self._buttons.values()]
        view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
        # Without widgets, or after they are closed, nothing is visible.
        twins = {"text/html": "", "text/plain": ""}
        output.put({"application/vnd.jupyter.widget-view+json": view, **twins})

    def show_only(self, words: Mapping[str, str]) -> None:
        """Show these buttons, each with a description, and hide the others."""
        for name, button in self._buttons.items():
            button.layout.display = None if name in words else "none"
            button.description = words.get(name, name)

    def close(self) -> None:
        """Remove the buttons and close their comms."""
        if not self._output.is_heard:
            return
        self._output.clear()
        for widget in self._widgets:
            for part in ("style", "layout"):
                if widget.has_trait(part):
                    getattr(widget, part).close()
            widget.close()


def hears_buttons(shell: InteractiveShell) -> bool:
    """Return whether the kernel handles widgets while a cell awaits, as ipykernel does since 7."""
    return has_subshells(shell)


def awaits(shell: InteractiveShell, source: str) -> bool:
    """Return whether a cell awaits, and so leaves the kernel's event loop free for other work."""
    try:
        transformed = shell.transform_cell(source)
    except SyntaxError:
        return False
    return bool(shell.should_run_async(source, transformed_cell=transformed))
