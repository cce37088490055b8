"""The server in the kernel, opened up: Prefect's own web pages in the browser, near and through a hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import servers
from tests.browser.lab import PICTURES, Lab, Notebook, expect, lab_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PREFIX = "/user/somebody/"

START = (
    "%load_ext orchnb\nrun = await orchnb.get_client().create_flow_run('etl', name='first-of-all')"
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab as a hub starts it for one of its users, with jupyter-server-proxy in it."""
    folder = tmp_path_factory.mktemp("hub")
    home = servers.prefect_home(folder / "prefect-home")
    with lab_server(folder / "lab", base=PREFIX, PREFECT_HOME=str(home)) as running:
        yield running


@pytest.fixture
def notebook(hub: Lab, browser: Browser) -> Iterator[Notebook]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    opened = Notebook(
        hub,
        context.new_page(),
        hub.write(
            "serving",
            [
                f"import os\nos.environ['JUPYTERHUB_SERVICE_PREFIX'] = {PREFIX!r}",
                START,
                "%orch_serve",
                "%orch_serve --stop",
            ],
        ),
    )
    try:
        yield opened.open()
    finally:
        opened.close()
        context.close()


def see_the_run(page: Page, name: str) -> None:
    """The run is on Prefect's pages, which have found the API; nothing was missing on the way."""
    expect(page.get_by_text("first-of-all").first).to_be_visible(timeout=30_000)
    page.screenshot(path=PICTURES / f"{name}.png")


def test_prefects_web_pages_directly_and_through_the_hub(notebook: Notebook, hub: Lab) -> None:
    for index in (0, 1, 2):
        notebook.run_cell(index, timeout=60)
    card = notebook.outputs(2).locator(".orchnb-card")
    expect(card).to_contain_text("is open on port")
    expect(card).to_contain_text("source ")
    notebook.picture("serving")

    # The first is for who sees the notebook through a hub.
    through, directly = card.locator("a").all()
    for link, name in ((through, "pages-through-hub"), (directly, "pages-directly")):
        with notebook.page.context.expect_page() as opening:
            link.click()
        page = opening.value
        page.wait_for_url("**/dashboard*")  # it is signed in, and the code is gone from its address
        failed: list[str] = []
        page.on(
            "response", lambda answer, f=failed: f.append(answer.url) if answer.status >= 400 else 0
        )
        page.goto(page.url.partition("/dashboard")[0] + "/runs")
        see_the_run(page, name)
        assert failed == []
        started = hub.url if link is through else "http://127.0.0.1:"
        assert page.url.startswith(started)
        page.close()

    # A link works once.
    with notebook.page.context.expect_page() as opening:
        directly.click()
    opening.value.wait_for_url("**/dashboard*")
    notebook.page.context.clear_cookies(name=re.compile("^orchnb-"))
    for link in (through, directly):
        with notebook.page.context.expect_page() as opening:
            link.click()
        expect(opening.value.get_by_text("used already")).to_be_visible()
        opening.value.close()

    # The saved notebook does not hold what is in the file that it names.
    saved = json.dumps(notebook.save())
    settings_file = re.findall(r"source (\S+port\.sh)", saved)[0]
    [secret] = re.findall(r"AUTH_STRING=orchnb:([\w-]+)", Path(settings_file).read_text())
    assert secret not in saved

    notebook.run_cell(3)
    expect(notebook.outputs(3)).to_contain_text("The port is closed")
