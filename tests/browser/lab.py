"""A real JupyterLab in a real browser: what a person clicks, and what a person then sees."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest

from tests.servers import ROOT, clean_environment

if not os.environ.get("CI"):  # see conftest.py
    for module in ("jupyterlab", "playwright"):
        pytest.importorskip(module)

from playwright.sync_api import Locator, Page, expect

PICTURES = ROOT / "build" / "pictures"

LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"

# What would go to the internet, or ask a person something, on its own.
_QUIET = {
    "disabledExtensions": {
        "@jupyterlab/apputils-extension:announcements": True,
        "@jupyterlab/extensionmanager-extension": True,
    },
    "buildAvailable": False,
    "buildCheck": False,
}


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab server."""

    url: str
    """Ends with a slash."""
    token: str
    notebooks: Path
    """The folder that it serves."""
    settings: Path
    """Where it keeps what a person sets, such as the theme."""

    def request(self, method: str, path: str) -> Any:
        """What the server's REST API answers, from JSON; None if there is no content."""
        response = httpx.request(
            method,
            f"{self.url}api/{path}",
            headers={"Authorization": f"token {self.token}"},
            timeout=30,
            trust_env=False,
        )
        response.raise_for_status()
        return response.json() if response.content else None

    def write(self, name: str, cells: Sequence[str]) -> Path:
        """A new notebook file with code cells of these sources, for this Python."""
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        path = self.notebooks / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return path


@contextmanager
def lab_server(folder: Path, *, base: str = "/", **environment: str) -> Iterator[Lab]:
    """JupyterLab on a free port of this machine; nothing of this machine's settings is in it.

    Args:
        folder: an empty folder for all that it reads and writes.
        base: the path that it is at, as a hub's users each have theirs.
        environment: for the server and so for its kernels.
    """
    home, config, notebooks = folder / "home", folder / "config", folder / "notebooks"
    for made in (home, config / "labconfig", notebooks):
        made.mkdir(parents=True)
    (config / "labconfig" / "page_config.json").write_text(json.dumps(_QUIET))
    token = secrets.token_hex(16)
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1"),
                *("--ServerApp.port=0", "--ServerApp.allow_root=True"),
                f"--ServerApp.base_url={base}",
                *("--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"),
                "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
                "--LabApp.news_url=None",
            ],
            env=clean_environment(
                home,
                IPYTHONDIR=str(folder / "ipython"),
                JUPYTER_CONFIG_DIR=str(config),
                JUPYTER_DATA_DIR=str(folder / "data"),
                JUPYTER_RUNTIME_DIR=str(folder / "runtime"),
                JUPYTERLAB_SETTINGS_DIR=str(folder / "settings"),
                JUPYTERLAB_WORKSPACES_DIR=str(folder / "workspaces"),
                JUPYTER_TOKEN=token,  # not an argument: those are for all to see
                **environment,
            ),
            cwd=notebooks,
            stdout=log,
            stderr=log,
        )
    try:
        url = _address(process, folder)
        lab = Lab(url, token, notebooks, folder / "settings")
        yield lab
    finally:
        _end(process)


def _address(process: subprocess.Popen[bytes], folder: Path) -> str:
    """Where the server listens: it writes that down as soon as it does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for written in (folder / "runtime").glob("jpserver-*.json"):
            if content := written.read_text():
                return str(json.loads(content)["url"])
        time.sleep(0.05)
    raise RuntimeError(f"JupyterLab did not start:\n{(folder / 'log.txt').read_text()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server, which then ends its kernels; those of a killed one notice, and end."""
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Notebook:
    """One notebook in a tab of its own, in JupyterLab's single-document mode. Cells count from 0."""

    def __init__(self, lab: Lab, page: Page, path: Path) -> None:
        self.lab = lab
        self.page = page
        self.path = path

    def open(self) -> Notebook:
        """Open the file, and wait until its kernel can be used."""
        self._go()
        self.page.wait_for_function(_KERNEL_IS_READY)
        return self

    def open_elsewhere(self) -> Notebook:
        """The saved file as somebody sees it who was sent it: not trusted, and with no kernel."""
        copy = json.loads(self.path.read_text())
        copy["metadata"] = {}  # JupyterLab asks for a kernel then, and no signature fits any more
        path = self.path.with_name(f"{self.path.stem}-elsewhere.ipynb")
        path.write_text(json.dumps(copy))
        reader = Notebook(self.lab, self.page.context.new_page(), path)
        reader._go()
        dialog = reader.page.locator(".jp-Dialog")
        dialog.locator("select").select_option(label="No Kernel")
        dialog.locator("button.jp-mod-accept").click()
        expect(dialog).to_have_count(0)
        return reader

    def open_without_kernel(self) -> Notebook:
        """The saved file, trusted as it is here, but with no kernel."""
        path = self.path.with_name(f"{self.path.stem}-later.ipynb")
        path.write_bytes(self.path.read_bytes())
        reader = Notebook(self.lab, self.page.context.new_page(), path)
        reader.page.goto(
            f"{self.lab.url}doc/tree/{path.name}?token={self.lab.token}&reset&kernel-name=none"
        )
        return reader

    def close(self) -> None:
        """Close the tab, end the kernel, and forget what was set, such as a theme."""
        self.page.close()
        for session in self.lab.request("GET", "sessions"):
            if session["path"] == self.path.name:
                self.lab.request("DELETE", f"sessions/{session['id']}")
        shutil.rmtree(self.lab.settings, ignore_errors=True)

    def cell(self, index: int) -> Locator:
        """A cell: its source and its outputs."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def outputs(self, index: int) -> Locator:
        """What stands under a cell."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    def start_cell(self, index: int) -> None:
        """Run a cell as a person does, and return as soon as it shows that it runs."""
        prompt = self.cell(index).locator(".jp-InputPrompt")
        before = prompt.inner_text()
        self.cell(index).locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        expect(prompt).not_to_have_text(before)

    def run_cell(self, index: int, *, timeout: float = 30) -> None:
        """Run a cell to its end; it may fail. ``timeout`` is in seconds."""
        self.start_cell(index)
        self.wait_idle(timeout=timeout)

    def wait_idle(self, *, timeout: float = 30) -> None:
        """Wait until no cell shows that it runs. ``timeout`` is in seconds."""
        running = self.page.locator(".jp-InputPrompt", has_text="[*]")
        expect(running).to_have_count(0, timeout=timeout * 1000)

    def interrupt(self) -> None:
        """Press the stop button."""
        self._button("notebook:interrupt-kernel").click()

    def set_theme(self, theme: str) -> None:
        """Change to `LIGHT` or `DARK`."""
        self.page.evaluate(
            "theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme
        )
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)
        expect(self.page.locator("#jupyterlab-splash")).to_have_count(0)  # covers all for a while

    def save(self) -> nbformat.NotebookNode:
        """Save, and return what is in the file then."""
        self.page.evaluate(_WATCH_SAVING)
        self._button("docmanager:save").click()
        self.page.wait_for_function(_IS_SAVED)
        return nbformat.read(self.path, as_version=4)

    def picture(self, name: str) -> Path:
        """Write build/pictures/<name>.png, of what is to be seen of the notebook."""
        path = PICTURES / f"{name}.png"
        self.page.locator(".jp-NotebookPanel").screenshot(path=path)
        return path

    def picture_of_cells(self, name: str, first: int, end: int) -> Path:
        """The same of some cells, whatever their height."""
        path = PICTURES / f"{name}.png"
        before = self.page.viewport_size
        assert before is not None
        self.page.set_viewport_size({"width": before["width"], "height": 2000})
        cells = self.page.locator(".jp-Cell")
        # The first cell may not be shown at all, in which case it cannot be scrolled to.
        self.page.locator(".jp-WindowedPanel-outer").evaluate("panel => { panel.scrollTop = 0; }")
        for i in (0, end - 1):
            expect(cells.nth(i)).to_be_in_viewport(ratio=1)
        top, bottom = (cells.nth(i).bounding_box() for i in (first, end - 1))
        assert top is not None
        assert bottom is not None
        height = bottom["y"] + bottom["height"] - top["y"] + 8  # so that nothing touches the edge
        clip = {"x": top["x"], "y": top["y"], "width": top["width"], "height": height}
        self.page.screenshot(path=path, clip=clip)
        self.page.set_viewport_size(before)
        return path

    def _button(self, command: str) -> Locator:
        # In JupyterLab 4.2 the hidden entries of the command palette have this mark as well.
        return self.page.locator(f".jp-NotebookPanel-toolbar [data-command='{command}']")

    def _go(self) -> None:
        self.page.goto(f"{self.lab.url}doc/tree/{self.path.name}?token={self.lab.token}&reset")


# The status that JupyterLab shows says idle already while it is still connecting.
_KERNEL_IS_READY = """() => {
  const session = window.jupyterapp?.shell?.currentWidget?.sessionContext;
  const kernel = session?.session?.kernel;
  return session?.isReady && kernel?.status === "idle" && kernel?.connectionStatus === "connected";
}"""

# Not by whether the notebook is dirty: a display that counts down makes it so again at once.
_WATCH_SAVING = """() => {
  window.saving = "";
  const context = window.jupyterapp.shell.currentWidget.context;
  context.saveState.connect((_, state) => { window.saving = state; });
}"""
_IS_SAVED = "() => window.saving.startsWith('completed')"


@dataclass(frozen=True)
class Contrast:
    """How well one text stands out from what is behind it, by WCAG 2.2's contrast ratio."""

    text: str
    ratio: float
    colour: str
    background: str


def contrasts(within: Locator) -> list[Contrast]:
    """Of every text that is to be seen in these elements."""
    return [Contrast(**found) for found in within.evaluate_all(_CONTRASTS)]


# Colours that let what is behind shine through are laid over it, down to the page's white.
_CONTRASTS = r"""elements => {
  const parse = text => {
    const [r, g, b, alpha = 1] = text.match(/-?[\d.]+(e-?\d+)?/g).map(Number);
    if (text.startsWith("rgb")) return [r, g, b, alpha];
    if (text.startsWith("color(srgb ")) return [r * 255, g * 255, b * 255, alpha];
    throw new Error(`what colour is ${text}?`);
  };
  const over = ([r, g, b, alpha], below) =>
    [r, g, b].map((n, i) => n * alpha + below[i] * (1 - alpha));
  const linear = n => n / 255 <= 0.04045 ? n / 255 / 12.92 : ((n / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const shown = colour => `rgb(${colour.map(Math.round).join(", ")})`;
  const measure = node => {
    const styles = [];  // from the page's to that of the text
    for (let e = node.parentElement; e; e = e.parentElement) styles.unshift(getComputedStyle(e));
    const background = styles.reduce(
      (below, style) => over(parse(style.backgroundColor), below), [255, 255, 255]);
    const [r, g, b, alpha] = parse(styles.at(-1).color);
    const opacity = styles.reduce((product, style) => product * Number(style.opacity), alpha);
    const colour = over([r, g, b, opacity], background);
    const [dark, light] = [colour, background].map(luminance).sort((x, y) => x - y);
    return {
      text: node.data.trim(), ratio: (light + 0.05) / (dark + 0.05),
      colour: shown(colour), background: shown(background),
    };
  };
  return elements.flatMap(element => {
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    const isSeen = node => node.parentElement.checkVisibility({visibilityProperty: true});
    return texts.filter(node => node.data.trim() && isSeen(node)).map(measure);
  });
}"""


def overflow(page: Page) -> int:
    """By how many pixels the page, its column of cells or an output of orchnb's is too wide.

    What scrolls within orchnb's own box does not count.
    """
    return int(page.evaluate(_OVERFLOW))


_OVERFLOW = """() => {
  const inside = ".jp-WindowedPanel-outer, .jp-OutputArea-output:has(.orchnb)";
  const boxes = [document.documentElement, ...document.querySelectorAll(inside)];
  return Math.max(...boxes.map(box => box.scrollWidth - box.clientWidth));
}"""


def wait_until(condition: Callable[[], bool], *, timeout: float = 10) -> None:
    """Wait for something that does not show in the page. ``timeout`` is in seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
