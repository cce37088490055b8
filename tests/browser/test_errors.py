"""Errors in cells and the stop button, as a person sees them in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.lab import DARK, LIGHT, Notebook, contrasts, expect, overflow, wait_until

LOAD = "%load_ext orchnb"
FAILING = {
    "async": "await orchnb.get_client().read_flow_by_name('x')",
    "plain": "orchnb.get_client(sync_client=True).read_flow_by_name('x')",
}
READABLE = 4.5
"""The least contrast of texts by WCAG 2.2, level AA."""

OpenNotebook = Callable[..., Notebook]


@pytest.mark.parametrize("kind", FAILING)
def test_an_error_is_one_card_in_both_themes_and_on_a_narrow_page(
    kind: str, open_notebook: OpenNotebook
) -> None:
    notebook = open_notebook(LOAD, FAILING[kind])
    notebook.run_cell(0)
    notebook.run_cell(1)

    card = notebook.page.locator(".orchnb-card")
    expect(card).to_have_count(1)
    expect(notebook.outputs(1).locator(".orchnb-card")).to_contain_text("It exists already")
    expect(card).not_to_contain_text("409")
    expect(notebook.outputs(1)).to_contain_text("409 Conflict")  # in the traceback
    expect(card).to_contain_text("<script>alert(1)</script>")

    for theme in (LIGHT, DARK):
        notebook.set_theme(theme)
        notebook.picture(f"error-{kind}-{theme.split()[-1].lower()}")
        texts = contrasts(notebook.page.locator(".orchnb"))
        assert len(texts) > 5
        assert [text for text in texts if text.ratio < READABLE] == []

    notebook.page.set_viewport_size({"width": 400, "height": 800})
    notebook.picture(f"error-{kind}-narrow")
    assert overflow(notebook.page) == 0


def test_a_saved_error_shows_the_same_to_somebody_who_was_sent_it(
    open_notebook: OpenNotebook,
) -> None:
    notebook = open_notebook(LOAD, FAILING["async"])
    notebook.run_cell(0)
    notebook.run_cell(1)
    card = notebook.page.locator(".orchnb-card")
    words = card.inner_text().split()
    notebook.save()

    reader = notebook.open_elsewhere()
    card = reader.page.locator(".orchnb-card")
    expect(card).to_have_count(1)
    assert card.inner_text().split() == words
    for theme in (LIGHT, DARK):
        reader.set_theme(theme)
        reader.picture(f"error-elsewhere-{theme.split()[-1].lower()}")
        assert [text for text in contrasts(card) if text.ratio < READABLE] == []


@pytest.mark.parametrize(
    "waiting",
    [
        "orchnb.get_client(sync_client=True).request('GET', '/hang')",
        "await orchnb.get_client().request('GET', '/hang')",
    ],
    ids=["plain", "async"],
)
def test_the_stop_button_ends_a_wait_and_the_next_cell_works(
    waiting: str, open_notebook: OpenNotebook
) -> None:
    notebook = open_notebook(
        "import os; os.environ['HANG_FILE'] = 'under-way'",
        LOAD,
        waiting,
        "orchnb.get_client(sync_client=True).hello()",
    )
    under_way = notebook.path.with_name("under-way")
    under_way.unlink(missing_ok=True)
    notebook.run_cell(0)
    notebook.run_cell(1)
    notebook.start_cell(2)
    wait_until(under_way.exists)

    notebook.interrupt()
    notebook.wait_idle(timeout=3)
    notebook.run_cell(3)
    expect(notebook.outputs(3)).to_contain_text("200 OK")
