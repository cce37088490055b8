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


TWENTY_RUNS = """
import uuid
from datetime import datetime, timezone
from orchnb.api.models import FlowRun, ModelList
from orchnb.api.related import related_objects
flow_id, began = uuid.uuid4(), datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
related_objects.flow_names.set(flow_id, "nightly-etl-for-the-whole-data-warehouse")
words = "Flow run encountered an exception: ValueError: loss is nan at step 1200 of 5000 in epoch 3"
ModelList(
    [
        FlowRun(
            id=uuid.uuid4(), flow_id=flow_id, name="a-long-name-that-somebody-made-from-2026-11-21",
            state={"type": "FAILED", "name": "Failed", "message": words}, state_type="FAILED",
            parameters={"lr": 0.1, "data": "s3://bucket/a/long/path/to.parquet", "dry_run": False},
            tags=["nightly", "team-a"], start_time=began, total_run_time=747,
        )
        for _ in range(20)
    ],
    ui_url="http://127.0.0.1:4200",
)
"""


def test_twenty_runs_with_long_names_fit_on_a_screen(
    open_notebook: Callable[..., Notebook],
) -> None:
    notebook = open_notebook("%load_ext orchnb", TWENTY_RUNS)
    notebook.page.set_viewport_size({"width": 1200, "height": 1000})
    notebook.run_cell(0)
    notebook.run_cell(1)
    table = notebook.outputs(1).locator(".orchnb")
    expect(table).to_contain_text("20 flow runs")
    notebook.picture("flow-runs")
    box = table.bounding_box()
    assert box is not None
    assert box["height"] < 800
    assert table.evaluate("table => table.scrollWidth - table.clientWidth") == 0
    notebook.page.set_viewport_size({"width": 400, "height": 1000})
    assert overflow(notebook.page) == 0
    assert table.evaluate("table => table.scrollWidth - table.clientWidth") > 0, "it scrolls itself"
    assert table.get_attribute("tabindex") == "0", "and by keyboard"
