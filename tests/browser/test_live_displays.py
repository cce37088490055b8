"""Retries and the start-up, as a person sees them in JupyterLab."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

import ipykernel
import pytest

from tests.browser.lab import DARK, LIGHT, Notebook, contrasts, expect, overflow

OpenNotebook = Callable[..., Notebook]

LOAD = "%load_ext orchnb\nclient, plain = orchnb.get_client(), orchnb.get_client(sync_client=True)"
GO_ON = "plain.hello()"
READABLE = 4.5
"""The least contrast of texts by WCAG 2.2, level AA."""

# tests/notebook/test_live_displays.py sees to it that there are no buttons then.
heard = pytest.mark.skipif(
    ipykernel.version_info[0] < 7, reason="it listens to no widget while a cell awaits"
)


def spent(notebook: Notebook) -> str:
    """The words of the first row of the live display."""
    return notebook.page.locator(".orchnb-step .orchnb-words").first.inner_text()


def picture_in_both_themes(notebook: Notebook, name: str) -> None:
    for theme in (LIGHT, DARK):
        notebook.set_theme(theme)
        notebook.picture(f"{name}-{theme.split()[-1].lower()}")
        texts = contrasts(notebook.page.locator(".orchnb, .jp-OutputArea-output button"))
        assert [text for text in texts if text.ratio < READABLE] == []


@pytest.mark.parametrize("kind", ["async", "plain"])
def test_the_countdown_moves_and_becomes_one_line(kind: str, open_notebook: OpenNotebook) -> None:
    path = "'/flaky/1?after=8'"
    source = (
        f"await client.request('GET', {path})"
        if kind == "async"
        else f"plain.request('GET', {path})"
    )
    notebook = open_notebook(LOAD, source)
    notebook.run_cell(0)
    notebook.start_cell(1)

    bar = notebook.outputs(1).locator("progress")
    expect(bar).to_have_count(1)
    expect(notebook.outputs(1)).to_contain_text("503 Service Unavailable. Try 2 of 6 in")
    first_words, first = spent(notebook), float(bar.get_attribute("value") or 0)
    notebook.page.wait_for_function(
        "first => Number(document.querySelector('.orchnb progress').value) > first + 0.1", arg=first
    )
    assert spent(notebook) != first_words
    picture_in_both_themes(notebook, f"retry-{kind}")

    notebook.wait_idle()
    expect(notebook.outputs(1).locator(".orchnb-line.orchnb-good")).to_have_count(1)
    expect(notebook.outputs(1)).to_contain_text("recovered after 2 tries in")
    expect(notebook.outputs(1).locator("progress, button")).to_have_count(0)
    notebook.picture(f"retry-{kind}-over")


@heard
def test_try_now_tries_now(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook(
        LOAD, "(await client.request('GET', '/flaky/1?after=3600')).json()", GO_ON
    )
    notebook.run_cell(0)
    notebook.start_cell(1)
    button = notebook.outputs(1).get_by_role("button", name="Try now")
    expect(button).to_be_visible()
    notebook.picture("retry-buttons")
    button.click()
    notebook.wait_idle()
    expect(notebook.outputs(1)).to_contain_text("at last")
    expect(notebook.outputs(1)).to_contain_text("recovered after 2 tries")
    expect(notebook.outputs(1).locator("button")).to_have_count(0)


@heard
def test_buttons_come_back_for_the_next_wait(open_notebook: OpenNotebook) -> None:
    ask = "(await client.request('GET', '/flaky/1?key={}&after=3600')).json()"
    notebook = open_notebook(LOAD, f"{ask.format('a')}\n{ask.format('b')}", GO_ON)
    notebook.run_cell(0)
    notebook.start_cell(1)
    button = notebook.outputs(1).get_by_role("button", name="Try now")
    shown = notebook.outputs(1)
    button.click()
    expect(shown).to_contain_text("so far: 1 recovered")
    button.click()
    notebook.wait_idle()
    expect(shown).to_contain_text("2 requests were retried: 2 recovered")
    expect(shown.locator("button")).to_have_count(0)


@heard
def test_stop_waiting_shows_the_servers_last_answer(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook(LOAD, "await client.request('GET', '/flaky/9?after=3600')", GO_ON)
    notebook.run_cell(0)
    notebook.start_cell(1)
    notebook.outputs(1).get_by_role("button", name="Stop waiting").click()
    notebook.wait_idle()
    expect(notebook.outputs(1)).to_contain_text("stopped by you after 1 try")
    expect(notebook.outputs(1).locator(".orchnb-card")).to_have_count(1)
    notebook.picture("retry-stopped")
    notebook.run_cell(2)
    expect(notebook.outputs(2)).to_contain_text("200 OK")


def test_the_stop_button_ends_a_wait_in_a_plain_cell(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook(LOAD, "plain.request('GET', '/flaky/9?after=3600')", GO_ON)
    notebook.run_cell(0)
    notebook.start_cell(1)
    expect(notebook.outputs(1).locator("progress")).to_have_count(1)
    expect(notebook.outputs(1).locator("button")).to_have_count(0)
    notebook.interrupt()
    notebook.wait_idle(timeout=3)
    expect(notebook.outputs(1)).to_contain_text("stopped by you after 1 try")
    notebook.picture("retry-interrupted")
    notebook.run_cell(2)
    expect(notebook.outputs(2)).to_contain_text("200 OK")


def test_many_requests_share_one_display(open_notebook: OpenNotebook) -> None:
    source = (
        "import asyncio\n"
        "ask = lambda i: client.request('GET', f'/flaky/1?key={i}&after=6')\n"
        "await asyncio.gather(*map(ask, range(12)));"
    )
    notebook = open_notebook(LOAD, source, "%orch_retries")
    notebook.run_cell(0)
    notebook.start_cell(1)
    expect(notebook.outputs(1).locator(".orchnb-step")).to_have_count(8)
    expect(notebook.outputs(1)).to_contain_text("and 4 more requests")
    notebook.picture("retry-many")
    notebook.page.set_viewport_size({"width": 400, "height": 800})
    notebook.picture("retry-many-narrow")
    assert overflow(notebook.page) == 0
    notebook.page.set_viewport_size({"width": 1000, "height": 800})
    notebook.wait_idle()
    expect(notebook.outputs(1)).to_contain_text("12 requests were retried: 12 recovered")
    notebook.run_cell(2)
    expect(notebook.outputs(2)).to_contain_text("12 requests")
    picture_in_both_themes(notebook, "retries-table")
    notebook.page.set_viewport_size({"width": 400, "height": 800})
    notebook.picture("retries-table-narrow")
    assert overflow(notebook.page) == 0


def test_a_task_shows_in_its_own_cell(open_notebook: OpenNotebook) -> None:
    notebook = open_notebook(
        LOAD,
        "import asyncio\ntask = asyncio.create_task(client.request('GET', '/flaky/1?after=2'))",
        "await asyncio.sleep(0.5)",
        "(await task).json()",
    )
    for index in range(3):
        notebook.run_cell(index)
    expect(notebook.outputs(1).locator(".orchnb-step")).to_have_count(1)
    notebook.run_cell(3)
    expect(notebook.outputs(1)).to_contain_text("recovered after 2 tries")
    assert notebook.outputs(2).inner_text().strip() == ""
    expect(notebook.outputs(3).locator(".jp-OutputArea-output")).to_have_text("'at last'")


def test_the_start_up_of_the_real_server(open_notebook: OpenNotebook) -> None:
    """With prewarming off, so that there is something to be seen."""
    notebook = open_notebook(
        "import os\nos.environ.pop('ORCHNB_EPHEMERAL_APP')\nos.environ['ORCHNB_EPHEMERAL_PREWARM'] = '0'",
        "%load_ext orchnb",
        "client = orchnb.get_client()\nlen(await client.read_flow_runs())",
        "run = await client.create_flow_run('etl', name='first', tags=['demo'])\nrun",
        "%orch_server_type",
        "for name, state in {'second': 'COMPLETED', 'third': 'FAILED'}.items():\n"
        "    other = await client.create_flow_run('etl', name=name, tags=['demo'])\n"
        "    await client.set_flow_run_state(other.id, state)\n"
        "await client.read_flow_runs()",
        "await client.read_flow_by_name('elt')",
    )
    notebook.run_cell(0)
    notebook.run_cell(1)
    assert notebook.outputs(1).inner_text().strip() == ""
    notebook.start_cell(2)
    expect(notebook.outputs(2).locator(".orchnb-step")).to_have_count(4)
    expect(notebook.outputs(2)).to_contain_text("import the server")
    picture_in_both_themes(notebook, "start-up")
    expect(notebook.outputs(2).locator(".orchnb-step")).to_have_count(4)
    notebook.set_theme(LIGHT)
    notebook.wait_idle(timeout=60)
    expect(notebook.outputs(2).locator(".orchnb-line.orchnb-good")).to_have_count(1)
    expect(notebook.outputs(2)).to_contain_text("in this kernel, ready in")
    notebook.run_cell(3)
    notebook.run_cell(4)
    expect(notebook.outputs(4)).to_contain_text("EPHEMERAL")
    notebook.run_cell(5)
    expect(notebook.outputs(5).locator("table")).to_contain_text("Completed")
    notebook.run_cell(6)
    expect(notebook.outputs(6)).to_contain_text("What to do")
    notebook.picture_of_cells("at-work", 1, 7)  # README shows docs/at-work.png, a copy of it
    picture_in_both_themes(notebook, "start-up-over")


def test_a_saved_display_tells_its_story_to_somebody_who_was_sent_it(
    open_notebook: OpenNotebook,
) -> None:
    notebook = open_notebook(LOAD, "await client.request('GET', '/flaky/1?after=2')")
    notebook.run_cell(0)
    notebook.run_cell(1)
    expect(notebook.outputs(1)).to_contain_text("recovered after 2 tries")
    notebook.save()
    reader = notebook.open_elsewhere()
    expect(reader.outputs(1)).to_contain_text("✓ GET /api/flaky/1: recovered after 2 tries in")
    expect(reader.outputs(1)).not_to_contain_text("Try")
    expect(reader.outputs(1)).not_to_contain_text("widget")
    reader.picture("retry-elsewhere")


def test_a_notebook_that_was_saved_in_a_wait_whose_kernel_died(
    open_notebook: OpenNotebook,
) -> None:
    notebook = open_notebook(
        LOAD, "import os; os.getpid()", "await client.request('GET', '/flaky/1?after=3600')"
    )
    notebook.run_cell(0)
    notebook.run_cell(1)
    process = int(notebook.outputs(1).inner_text().split()[-1])
    notebook.start_cell(2)
    expect(notebook.outputs(2)).to_contain_text("Try 2 of 6 in")
    notebook.save()
    os.kill(process, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    reader = notebook.open_elsewhere()
    reader.picture("retry-saved-in-a-wait")
    # What nobody could end any more tells by the clock what it waited for.
    expect(reader.outputs(2)).to_contain_text("503 Service Unavailable. Try 2 of 6 in")
    expect(reader.outputs(2)).to_contain_text(re.compile(r" at \d\d:\d\d:\d\d\. "))
    expect(reader.outputs(2).locator("button")).to_have_count(0)
    expect(reader.outputs(2)).not_to_contain_text("widget")
