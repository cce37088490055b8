"""The measures that the other tests rest on see what they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.browser.lab import Notebook, contrasts, overflow

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.parametrize(
    ("html", "ratio"),
    [
        ("<p style='color: black'>text</p>", 21.0),
        ("<p style='color: #777'>text</p>", 4.48),
        ("<p style='color: rgba(0, 0, 0, 0.5)'>text</p>", 3.98),
        ("<p style='opacity: 0.5; color: black'>text</p>", 3.98),
        ("<div style='background: black'><p style='color: white'>text</p></div>", 21.0),
        (
            "<div style='background: black'><p style='background: rgba(255, 255, 255, 0.5); "
            "color: white'>text</p></div>",
            3.98,
        ),
        ("<p style='color: color(srgb 0 0 0)'>text</p>", 21.0),
    ],
    ids=["black", "grey", "transparent", "opacity", "background", "layers", "srgb"],
)
def test_contrast_is_that_of_what_is_seen(browser: Browser, html: str, ratio: float) -> None:
    page = browser.new_page()
    page.set_content(f"<body style='background: white'><div id='all'>{html}</div></body>")
    (found,) = contrasts(page.locator("#all"))
    page.close()
    assert found.text == "text"
    assert found.ratio == pytest.approx(ratio, abs=0.05)


def test_what_is_hidden_has_no_contrast(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<div id='all'><p hidden>a</p><p style='visibility: hidden'>b</p> </div>")
    found = contrasts(page.locator("#all"))
    page.close()
    assert found == []


def test_overflow_is_what_the_box_does_not_scroll_itself(
    open_notebook: Callable[..., Notebook],
) -> None:
    def box(style: str) -> str:
        html = f"<div class='orchnb' style='{style}'><div style='width: 3000px'>wide</div></div>"
        return f"from IPython.display import HTML\nHTML({html!r})"

    notebook = open_notebook(box("overflow-x: auto"), box(""))
    for cell, is_seen in enumerate((False, True)):
        notebook.run_cell(cell)
        notebook.outputs(cell).get_by_text("wide").wait_for()
        assert (overflow(notebook.page) > 1000) is is_seen
