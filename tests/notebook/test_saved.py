"""Saved and shared: what a live display leaves in a file, where no kernel and no widget lives.

A notebook with every kind of display is run headless, by papermill and by nbclient, and then looked
at as others get it: the saved file, and what nbconvert makes of it.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import html5lib
import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter, MarkdownExporter
from nbformat.v4 import new_code_cell, new_notebook

from tests.notebook.frontend import Page
from tests.notebook.kernels import kernel
from tests.notebook.test_live_displays import hears

ROOT = Path(__file__).parents[2]

WIDGET = "application/vnd.jupyter.widget-view+json"

SERVER = '''
"""The tests' app, which takes a while to start, and knows one flow."""

import anyio
from tests.notebook.apps import answer, app as usual

FLOW = {"id": "00000000-0000-0000-0000-000000000001", "name": "nightly"}

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await anyio.sleep(0.6)
    if scope["type"] == "http" and scope["path"] == "/api/flows/filter":
        await answer(send, 200, [FLOW])
    else:
        await usual(scope, receive, send)
'''

PRELUDE = """\
import asyncio, os, signal, threading
%load_ext orchnb
def get(path):
    return orchnb.get_client().request("GET", f"/flaky/{path}")
def plain(path):
    return orchnb.get_client(sync_client=True).request("GET", f"/flaky/{path}")
def soon(function, *arguments):
    # Half a second into the first wait, which the display has shown by then.
    def observe(event):
        if event.kind == "waiting":
            threading.Timer(0.5, function, arguments).start()
    return orchnb.observe_retries(observe)
"""

STOP_BUTTON = "with soon(os.kill, os.getpid(), signal.SIGINT): "


class Told(NamedTuple):
    """A cell, and what its outputs say in the end, each once."""

    source: str
    words: tuple[str, ...] = ()


BUSY = r"\(503 Service Unavailable\)"

STORY = (
    Told(PRELUDE),
    Told("await orchnb.get_client().hello();", (r"✓ server:app in this kernel, ready in 0\.\d s",)),
    Told(
        "await get('awaited/1?after=1');",
        (rf"✓ GET /api/flaky/awaited/1: recovered after 2 tries in 1\.\d s {BUSY}",),
    ),
    Told(
        "plain('plain/1?after=1');",
        (rf"✓ GET /api/flaky/plain/1: recovered after 2 tries in 1\.\d s {BUSY}",),
    ),
    Told(
        "await get('never/9?after=0.5')",
        (
            rf"✗ GET /api/flaky/never/9: gave up after 3 tries in \d\.\d s {BUSY}",
            r"✗ The server failed",
        ),
    ),
    Told(
        f"{STOP_BUTTON}await get('stopped/9?after=60')",
        (rf"! GET /api/flaky/stopped/9: stopped by you after 1 try in \d\.\d s {BUSY}",),
    ),
    Told(
        f"{STOP_BUTTON}plain('stopped/plain/9?after=60')",
        (rf"! GET /api/flaky/stopped/plain/9: stopped by you after 1 try in \d\.\d s {BUSY}",),
    ),
    Told(
        "await asyncio.gather(*[get(f'{i}/1?after=1') for i in range(12)]);",
        (r"✓ 12 requests were retried: 12 recovered, 24 tries in \d\.\d s",),
    ),
    Told("await orchnb.get_client().read_flow_by_name('x')", (r"✗ It exists already",)),
    Told("orchnb.get_client(sync_client=True).read_flows()", (r"nightly", r"1 flow\b")),
    Told(
        "task = asyncio.create_task(get('task/1?after=1'))\nawait asyncio.sleep(0.5)",
        (rf"✓ GET /api/flaky/task/1: recovered after 2 tries in 1\.\d s {BUSY}",),
    ),
    Told("await task;"),
    Told("%orch_retries", (r"18 requests",)),
)


def notebook(*sources: str) -> nbformat.NotebookNode:
    """A notebook of cells that may fail."""
    cells = [new_code_cell(source, metadata={"tags": ["raises-exception"]}) for source in sources]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": spec})


def by_papermill(folder: Path, *sources: str) -> nbformat.NotebookNode:
    """Run by papermill; the notebook as saved."""
    made, saved = folder / "made.ipynb", folder / "saved.ipynb"
    nbformat.write(notebook(*sources), made)
    # It goes on to the end, as the cells may fail, but then tells of the first that did.
    with suppress(papermill.PapermillExecutionError):
        papermill.execute_notebook(str(made), str(saved), progress_bar=False, cwd=str(folder))
    return nbformat.read(saved, as_version=4)


def by_nbclient(folder: Path, *sources: str) -> nbformat.NotebookNode:
    """Run by nbclient; the notebook as saved."""
    document = notebook(*sources)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(document, timeout=60, store_widget_state=True, resources=where).execute()
    nbformat.write(document, folder / "saved.ipynb")
    return nbformat.read(folder / "saved.ipynb", as_version=4)


@contextmanager
def environment(folder: Path, **more: str) -> Iterator[None]:
    """What kernels take over from this process, while it lasts."""
    (folder / "server.py").write_text(SERVER)
    values = {
        "HOME": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        "ORCHNB_EPHEMERAL_APP": "server:app",
        "PREFECT_CLIENT_RETRY_JITTER_FACTOR": "0",
        "PREFECT_CLIENT_MAX_RETRIES": "2",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        **more,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("PREFECT_", "ORCHNB_")):
                patch.delenv(name)
        for name, value in values.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module", params=[by_papermill, by_nbclient])
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> nbformat.NotebookNode:
    """The notebook that tells `STORY`, run and saved."""
    folder = tmp_path_factory.mktemp("saved")
    execute: Callable[..., nbformat.NotebookNode] = request.param
    with environment(folder):
        return execute(folder, *[told.source for told in STORY])


def outputs(document: nbformat.NotebookNode, source: str) -> list[dict[str, Any]]:
    """The mime bundles of a cell's displays and results."""
    (cell,) = [cell for cell in document.cells if cell.source == source]
    return [output.data for output in cell.outputs if "data" in output]


def visible(markup: str) -> str:
    """What a browser without scripts shows of html, as text."""
    tree = html5lib.parse(markup, namespaceHTMLElements=False)
    for element in tree.iter():
        if element.tag in ("script", "style", "head"):
            tail = element.tail
            element.clear()
            element.tail = tail
    return re.sub(r"\s+", " ", "".join(tree.itertext()))


def test_each_display_is_saved_with_its_end_in_both_twins(saved: nbformat.NotebookNode) -> None:
    for told in STORY:
        bundles = outputs(saved, told.source)
        text = "\n".join(bundle["text/plain"] for bundle in bundles)
        html = visible("\n".join(bundle["text/html"] for bundle in bundles))
        for words in told.words:
            assert len(re.findall(words, text)) == 1, text
            assert len(re.findall(words, html)) == 1, html


def test_nothing_live_is_saved(saved: nbformat.NotebookNode) -> None:
    for told in STORY:
        for bundle in outputs(saved, told.source):
            assert set(bundle) == {"text/html", "text/plain"}
            assert not re.search(r"Try \d|retrying|so far", bundle["text/plain"])
            assert not re.search(r"Try \d|retrying|so far|<progress", bundle["text/html"])


def test_our_html_needs_nothing_from_outside(saved: nbformat.NotebookNode) -> None:
    for told in STORY:
        for bundle in outputs(saved, told.source):
            tree = html5lib.parse(bundle["text/html"], namespaceHTMLElements=False)
            for element in tree.iter():
                assert element.tag not in ("script", "link", "img", "iframe", "object", "embed")
                assert not {"src", "href", "srcset", "data"} & set(element.attrib)
                assert not [name for name in element.attrib if name.startswith("on")]
            assert not re.search(r"url\(|@import", bundle["text/html"])


EXPORTERS = {
    "lab": HTMLExporter(),
    "classic": HTMLExporter(template_name="classic"),
    "basic": HTMLExporter(template_name="basic"),
    "not trusted": HTMLExporter(sanitize_html=True),
    "markdown": MarkdownExporter(),
}


@pytest.mark.parametrize("name", EXPORTERS)
def test_what_nbconvert_makes_of_it_tells_the_same(saved: nbformat.NotebookNode, name: str) -> None:
    page = visible(EXPORTERS[name].from_notebook_node(saved)[0])
    for told in STORY:
        for words in told.words:
            if words not in ("nightly", r"✗ The server failed"):
                assert len(re.findall(words, page)) == 1, words
    for left in ("retrying", "Loading widget", "model not found"):
        assert left not in page
    # This sanitizer shows the source of what it takes out, of every library's style elements too.
    assert (".orchnb" in page) == (name == "not trusted")


@pytest.mark.parametrize(
    ("mode", "kinds"), [("text", {"text/plain"}), ("html", {"text/html", "text/plain"})]
)
def test_the_variable_chooses_what_is_saved(mode: str, kinds: set[str], tmp_path: Path) -> None:
    with environment(tmp_path, ORCHNB_DISPLAY=mode):
        document = by_papermill(tmp_path, *[told.source for told in STORY])
    for told in STORY:
        bundles = outputs(document, told.source)
        assert all(set(bundle) == kinds for bundle in bundles)
        text = "\n".join(bundle["text/plain"] for bundle in bundles)
        for words in told.words:
            assert len(re.findall(words, text)) == 1, text
    assert "widgets" not in document.metadata


# A kernel that dies

WAITS = (
    r"503 Service Unavailable\. Try 2 of 3 in (?:1 h 0|59) min[ \ds]*, at \d\d:\d\d:\d\d\. "
    r"\d+\.\d s so far\."
)


@pytest.mark.parametrize(
    "request_source",
    ["await get('dead/9?after=3600')", "plain('dead/9?after=3600')"],
    ids=["awaited", "plain"],
)
def test_the_notebook_of_a_kernel_that_ends_in_a_wait_says_when_it_would_have_tried(
    request_source: str, tmp_path: Path
) -> None:
    source = f"with soon(os._exit, 1): {request_source}"
    document = notebook(PRELUDE, "await orchnb.get_client().hello();", source)
    where = {"metadata": {"path": str(tmp_path)}}
    with environment(tmp_path), pytest.raises(DeadKernelError):
        NotebookClient(document, timeout=60, resources=where).execute()
    bundle = next(bundle for bundle in outputs(document, source) if bundle["text/html"])
    assert re.search(WAITS, bundle["text/plain"])
    assert re.search(WAITS, visible(bundle["text/html"]))
    page = visible(HTMLExporter(sanitize_html=True).from_notebook_node(document)[0])
    assert len(re.findall(WAITS, page)) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_page_whose_kernel_is_killed_keeps_the_words(tmp_path: Path) -> None:
    with environment(tmp_path), kernel(tmp_path, **dict(os.environ)) as cell:
        page = Page(cell)
        page.run(PRELUDE)
        heard = hears(page)
        waiting = page.begin("await get('killed/9?after=3600')")
        page.until(lambda: re.search(WAITS, page.text(waiting)))
        page.until(lambda: page.buttons(waiting) or not heard)
        process = cell.manager.provisioner.process
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert re.search(WAITS, page.text(waiting))
        assert re.search(WAITS, visible(page.html(waiting)))
