"""Every view there is, as JupyterLab shows it: readable in both themes, and on a narrow page."""

from __future__ import annotations

from collections.abc import Callable

from tests.browser.lab import DARK, LIGHT, Notebook, contrasts, expect, overflow

READABLE = 4.5
"""The least contrast of texts by WCAG 2.2, level AA."""

ALL_VIEWS = """
from IPython.display import HTML
from orchnb.notebook.views.model import html
from tests.notebook.test_hostile_text import HARMLESS, VIEWS
HTML("".join(html(make(HARMLESS)) for make in VIEWS.values()) + "<p>all of them</p>")
"""

_CUT_OFF = """cells => cells.filter(cell => {
  const box = cell.closest(".orchnb").getBoundingClientRect();
  return cell.getBoundingClientRect().right > box.right;
}).map(cell => cell.innerText)"""
"""The texts beside a label that one would have to scroll to."""


def test_all_views_can_be_read_in_both_themes_and_on_a_narrow_page(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook(ALL_VIEWS)
    notebook.run_cell(0)
    expect(notebook.outputs(0)).to_contain_text("all of them")
    shown = notebook.page.locator(".orchnb")
    assert shown.count() > 50
    for theme in (LIGHT, DARK):
        notebook.set_theme(theme)
        notebook.picture(f"views-{theme.split()[-1].lower()}")
        texts = contrasts(shown)
        assert len(texts) > 300
        assert [text for text in texts if text.ratio < READABLE] == []
    notebook.page.set_viewport_size({"width": 400, "height": 800})
    notebook.picture("views-narrow")
    assert overflow(notebook.page) == 0
    assert notebook.page.locator(".orchnb-row > span").evaluate_all(_CUT_OFF) == []
