"""One JupyterLab and one browser for all of these tests; each test has its own notebook and kernel.

Without JupyterLab, playwright or Chromium they are skipped, except where the environment variable CI is
set: there they fail. Nothing is downloaded: Chromium is the system's.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    # Not above: it skips the module that imports it, where something is missing.
    from tests.browser.lab import Lab, Notebook

_FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab; the server in its kernels is a small app that misbehaves by path."""
    from tests.browser.lab import lab_server

    folder = tmp_path_factory.mktemp("lab")
    with lab_server(folder, ORCHNB_EPHEMERAL_APP="tests.notebook.apps:app") as running:
        yield running


# Not for the whole session: playwright has an event loop running in this thread until it is left.
@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The system's Chromium, with an empty home."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no chromium on the PATH")
    home = str(tmp_path_factory.mktemp("browser"))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium, args=_FLAGS, env={**os.environ, "HOME": home}
        )
        try:
            yield running
        finally:
            running.close()


@pytest.fixture
def open_notebook(
    lab: Lab, browser: Browser, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Notebook]]:
    """Call it with the cells' sources: it opens them as a new notebook."""
    from tests.browser.lab import Notebook

    numbers = itertools.count(1)
    with ExitStack() as stack:
        context = browser.new_context(viewport={"width": 1000, "height": 800})
        stack.callback(context.close)

        def open_(*cells: str) -> Notebook:
            name = f"{re.sub('[^a-z0-9]+', '-', request.node.name)}-{next(numbers)}"
            notebook = Notebook(lab, context.new_page(), lab.write(name, cells))
            stack.callback(notebook.close)
            return notebook.open()

        yield open_
