"""Flow runs that a cell watches, as a person sees them in JupyterLab and in the saved notebook."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import ipykernel
import pytest

from orchnb import SyncPrefectClient
from tests.browser.lab import DARK, LIGHT, PICTURES, Notebook, contrasts, expect, overflow
from tests.servers import prefect_home, prefect_server

OpenNotebook = Callable[..., Notebook]

READABLE = 4.5
"""The least contrast of texts by WCAG 2.2, level AA."""

HEARS = ipykernel.version_info[0] >= 7

SETUP = """
%load_ext orchnb
%orch_server_type server {url}
from datetime import datetime, timedelta, timezone
client = orchnb.get_client()
flow = await client.create_flow("train")
deployment = await client.create_deployment(flow, "gpu")

async def made(state, lr, tasks=(), message=None, lines=()):
    run = await client.create_flow_run_from_deployment("train/gpu", parameters={{"lr": lr, "epochs": 20}})
    await client.set_flow_run_state(run.id, "RUNNING")
    for number, kind in enumerate(tasks):
        task = await client.create_task_run("step", run.id, str(number), name=f"step-{{number}}")
        await client.set_task_run_state(task.id, "RUNNING")
        if kind != "RUNNING":
            await client.set_task_run_state(task.id, kind)
    now = datetime.now(timezone.utc)
    await client.create_logs(
        [
            dict(name="prefect.flow_runs", level=20, message=line, timestamp=now, flow_run_id=str(run.id))
            for line in lines
        ]
    )
    if state != "RUNNING":
        await client.set_flow_run_state(run.id, {{"type": state, "message": message}})
    return run

WHY = "Flow run encountered an exception: ValueError: loss is nan at lr=10; the gradient's norm was 1.2e9"
runs = [
    await made("RUNNING", 0.1, ["COMPLETED", "COMPLETED", "RUNNING"], lines=["epoch 3: loss 0.213"]),
    await made("COMPLETED", 0.01, ["COMPLETED"] * 3),
    await made("FAILED", 10, ["COMPLETED", "FAILED"], message=WHY),
    await made("RUNNING", 0.001, ["RUNNING"], lines=["reading s3://bucket/part-0003.parquet"]),
]
"""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("site")
    prefect_home(home / ".prefect")
    with prefect_server(home) as url:
        yield url


def finish(api: str) -> None:
    """End the runs that are running, as a worker would."""
    with SyncPrefectClient(api) as client:
        for run in client.read_flow_runs(state="RUNNING"):
            client.set_flow_run_state(run.id, "COMPLETED")


def pictures(notebook: Notebook, name: str) -> None:
    """Look at the cell that watches in both themes, in a wide and in a narrow window."""
    for width in (1200, 400):
        notebook.page.set_viewport_size({"width": width, "height": 800})
        for theme in (LIGHT, DARK):
            notebook.set_theme(theme)
            path = PICTURES / f"{name}-{width}-{theme.split()[-1].lower()}.png"
            notebook.outputs(1).screenshot(path=path)
            texts = contrasts(notebook.page.locator(".orchnb-watch"))
            assert [text for text in texts if text.ratio < READABLE and len(text.text) > 1] == []
        assert overflow(notebook.page) <= 0
    notebook.page.set_viewport_size({"width": 1000, "height": 800})


def test_a_watch_is_live_and_says_when_it_was_saved(api: str, open_notebook: OpenNotebook) -> None:
    notebook = open_notebook(SETUP.format(url=api), "watched = await orchnb.watch(runs)", "1")
    notebook.run_cell(0, timeout=60)
    notebook.start_cell(1)
    shown = notebook.outputs(1)
    expect(shown).to_contain_text("2 running · ✓ 1 done · ✗ 1 failed", timeout=20_000)
    expect(shown).to_contain_text("epoch 3: loss 0.213", timeout=20_000)
    expect(shown.get_by_role("progressbar")).to_have_count(5)
    if HEARS:
        expect(shown.get_by_role("button", name="Cancel")).to_be_visible()
        expect(shown.get_by_role("button", name="Retry failed")).to_be_visible()
    pictures(notebook, "watch")

    notebook.save()
    # What stands where the buttons were is in the page, but nobody sees it.
    for reader in (notebook.open_elsewhere(), notebook.open_without_kernel()):
        words = reader.outputs(1)
        expect(words).to_contain_text("2 running · ✓ 1 done · ✗ 1 failed", timeout=20_000)
        expect(words).to_contain_text(re.compile(r"as of \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"))
        words.screenshot(path=PICTURES / "watch-saved.png")
        assert "widget" not in words.inner_text()
        reader.page.close()

    finish(api)
    notebook.wait_idle(timeout=60)
    expect(shown).to_contain_text("3 done · ✗ 1 failed")
    expect(shown).to_contain_text("loss is nan at lr=10; the gradient's norm was 1.2e9")
    expect(shown.locator("button")).to_have_count(0)
    pictures(notebook, "watch-ended")
