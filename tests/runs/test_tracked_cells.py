"""Cells on the record: what a real kernel tells a real Prefect server of them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchnb.runs.lost_runs import STOPPED_AFTER, LostRuns
from tests.api.conftest import opened
from tests.notebook.kernels import Kernel, Shown, kernel
from tests.notebook.test_run_all import OTHERS, version_folder
from tests.notebook.test_saved import by_papermill, environment, outputs

ROOT = Path(__file__).parents[2]
SECRET = "admin:swordfish-and-more"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def cell(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    site: tuple[str, Path],
) -> Iterator[Kernel]:
    """A kernel with the extension, with the installed ipykernel or the one that is asked for."""
    paths = [str(ROOT)]
    version = getattr(request, "param", "")
    if version:
        if not version_folder(version).exists():
            pytest.skip(f"ipykernel {version} is not there: make test installs it")
        paths.insert(0, str(version_folder(version)))
    folder = tmp_path_factory.mktemp("kernel")
    with kernel(
        folder,
        PYTHONPATH=os.pathsep.join(paths),
        PREFECT_API_URL=site[0],
        PREFECT_API_AUTH_STRING=SECRET,
    ) as started:
        started("%load_ext orchnb\nfrom orchnb.api.context import FlowRunContext")
        started("await orchnb.get_client().hello();")
        yield started


on_each_ipykernel = pytest.mark.parametrize("cell", ["", OTHERS[0]], indirect=True)


@pytest.fixture
def server(site: tuple[str, Path]) -> Iterator[Any]:
    with opened("sync", site[0]) as client:
        yield client


def last_run(server: Any, flow: str) -> Any:
    return server.read_flow_runs(flow_name=flow, sort="START_TIME_DESC", limit=1)[0]


def lines(server: Any, run: Any) -> list[tuple[str, int, str]]:
    return [(log.name, log.level, log.message) for log in server.read_logs(flow_run_id=run.id)]


def artifacts(server: Any, run: Any, count: int) -> dict[str, list[Any]]:
    """What a run's artifacts hold, by type; they are sent soon after the cell."""
    deadline = time.monotonic() + 30
    while len(found := server.read_artifacts(flow_run_id=run.id)) < count:
        assert time.monotonic() < deadline
    by_type: dict[str, list[Any]] = {}
    for each in sorted(found, key=lambda artifact: artifact.created):
        by_type.setdefault(each.type, []).append(each.data)
    return by_type


def shown_last(shown: Shown) -> str:
    """The text of the last version of a cell's card."""
    kinds = ("display_data", "update_display_data")
    texts = [o["content"]["data"]["text/plain"] for o in shown.outputs if o["msg_type"] in kinds]
    return next(text for text in reversed(texts) if "low run" in text or "record" in text)


@on_each_ipykernel
def test_a_cell_is_a_flow_run_with_logs_and_artifacts(cell: Kernel, server: Any) -> None:
    source = (
        "%%orch_track whole -p lr=0.1 -p day=2026-11-28 --tag night # why\n"
        "from IPython.display import HTML, Image, Markdown, display\n"
        "import base64, sys\n"
        "print('one'); print('two', file=sys.stderr); print('10%\\r100%'); print('three', end='')\n"
        "display(Markdown('# Report'))\n"
        f"display(Image(base64.b64decode('{PIXEL}')))\n"
        "HTML('<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>&lt;2</td></tr></table>')"
    )
    shown = cell(source)
    assert not shown.errors, shown.traceback
    assert "Completed" in shown_last(shown)
    run = last_run(server, "whole")
    assert (run.state_name, run.parameters) == ("Completed", {"lr": 0.1, "day": "2026-11-28"})
    assert set(run.tags) == {"notebook", "night"}
    assert [state.name for state in server.read_flow_run_states(run.id)] == ["Running", "Completed"]
    assert lines(server, run) == [
        ("stdout", 20, "one"),
        ("stderr", 30, "two"),
        ("stdout", 20, "100%"),
        ("stdout", 20, "three"),
    ]
    found = artifacts(server, run, 4)
    assert found["markdown"] == [f"```python\n{source}\n```", "# Report"]
    assert found["image"] == [f"data:image/png;base64,{PIXEL}"]
    assert [json.loads(data) for data in found["table"]] == [[{"a": "1", "b": "<2"}]]


@pytest.mark.parametrize(
    ("source", "state", "words"),
    [
        ("import asyncio\nawait asyncio.sleep(0)\nprint('awaited')", "Completed", "awaited"),
        ("!echo from a shell", "Completed", "from a shell"),
        ("%%time\nprint('timed')", "Completed", "timed"),
        ("print('x')\ndef f():\n    1 / 0\nf()", "Failed", "line 4, in f\n    1 / 0"),
        ("import asyncio\nawait asyncio.sleep(0)\n[][1]", "Failed", "IndexError"),
        ("1 +", "Failed", "SyntaxError"),
        ("log.warning('kept')", "Completed", "kept"),
        (
            "import asyncio\nasyncio.current_task().cancel()\nawait asyncio.sleep(9)",
            "Cancelled",
            "",
        ),
    ],
)
def test_a_cell_of_any_kind_runs_as_without_and_is_recorded(
    cell: Kernel, server: Any, source: str, state: str, words: str
) -> None:
    cell(
        "import logging\nlog = logging.getLogger('kept')\nlog.handlers = [logging.StreamHandler()]"
    )
    shown = cell(f"%%orch_track kinds\n{source}")
    assert f": {state}" in shown_last(shown)
    assert bool(shown.errors) is (state != "Completed")
    run = last_run(server, "kinds")
    assert run.state_name == state
    assert words in "\n".join(message for _, _, message in lines(server, run))
    if state == "Failed":
        assert run.state.message.startswith(shown.errors[0]["ename"])


def test_within_the_cell_functions_find_client_and_run(cell: Kernel, server: Any) -> None:
    cell(
        "@orchnb.inject_client\n"
        "async def seen(client=None):\n"
        "    context = FlowRunContext.get()\n"
        "    return client is context.client, str(context.flow_run.id)"
    )
    shown = cell("%%orch_track found\nawait seen()")
    assert shown.result == f"(True, '{last_run(server, 'found').id}')"
    assert cell.value("FlowRunContext.get() is None") == "True"
    assert cell("%%orch_track found\nFlowRunContext.get().flow_run.name").result
    assert cell.value("FlowRunContext.get() is None") == "True"


CHILDREN = """
%%orch_track parent
from prefect import flow, task
@task
def double(x):
    return 2 * x
@flow
def child(x):
    return double(x)
@flow
async def async_child(x):
    return double(x)
"""


@pytest.mark.parametrize(
    "call", ["child(2)", "await async_child(2)", "double(2)", "double.submit(2).result()"]
)
def test_prefects_flows_and_tasks_in_the_cell_are_its_children(
    cell: Kernel, server: Any, call: str
) -> None:
    shown = cell(f"{CHILDREN.strip()}\n{call}", timeout=120)
    assert shown.result == "4", shown.everything
    run = last_run(server, "parent")
    assert run.state_name == "Completed"
    names = [row.name for row in server.read_timeline(run).rows]
    deadline = time.monotonic() + 30
    while not any(
        name.startswith("double") for name in names
    ):  # reported by events, which take a while
        assert time.monotonic() < deadline, names
        names = [row.name for row in server.read_timeline(run).rows]
    if "child" in call:
        (child,) = server.read_flow_runs(
            flow_name=call.split("(")[0].split()[-1].replace("_", "-"),
            sort="START_TIME_DESC",
            limit=1,
        )
        assert child.name in names
    # After the cell, flows have no parent.
    cell("double(2)" if "child" not in call else call)
    assert [row.name for row in server.read_timeline(run).rows] == names


def test_what_other_cells_print_meanwhile_is_not_in_its_log(cell: Kernel, server: Any) -> None:
    cell(
        "import asyncio\n"
        "async def chatter():\n"
        "    while True:\n"
        "        print('from another cell'); await asyncio.sleep(0)\n"
        "task = asyncio.create_task(chatter())"
    )
    cell("%%orch_track alone\nprint('mine')\nawait asyncio.sleep(0.05)")
    cell("task.cancel();")
    assert lines(server, last_run(server, "alone")) == [("stdout", 20, "mine")]


def test_credentials_are_not_recorded(cell: Kernel, server: Any) -> None:
    cell(
        f"%%orch_track secret -p auth={SECRET}\nimport os\n"
        "print(os.environ['PREFECT_API_AUTH_STRING'])\n"
        f"raise ValueError('{SECRET}')"
    )
    run = last_run(server, "secret")
    everything = repr([run, lines(server, run), artifacts(server, run, 1)])
    assert "swordfish" not in everything
    assert "***" in everything


@pytest.mark.skipif(sys.platform == "win32", reason="the stop button is POSIX's signal here")
@on_each_ipykernel
@pytest.mark.parametrize("source", ["import time; time.sleep(60)", "await asyncio.sleep(60)"])
def test_an_interrupted_cell_is_cancelled(cell: Kernel, server: Any, source: str) -> None:
    begun = cell.begin(f"%%orch_track stopped\nimport asyncio\nprint('started')\n{source}")
    while cell.client.get_iopub_msg(timeout=60)["content"].get("text") != "started\n":
        pass
    cell.manager.interrupt_kernel()
    shown = cell.finish(begun)
    assert shown.errors
    assert ": Cancelled" in shown_last(shown)
    assert last_run(server, "stopped").state_name == "Cancelled"


def test_what_the_shell_is_asked_about_the_cell(cell: Kernel) -> None:
    ask = "get_ipython().{}({!r})"
    for source, transformed in [
        ("%%orch_track\nx = 1", "\nx = 1\n"),
        ("\n%%orch_track a -p b=1\n\n\nx = 1", "\n\n\nx = 1\n"),
        ("%%orch_track", "\n"),
        ("x = '''\n%%orch_track\n'''", "x = '''\n%%orch_track\n'''\n"),
        ("%%orch_tracked\nx", "get_ipython().run_cell_magic('orch_tracked', '', 'x\\n')\n"),
    ]:
        once = cell.value(ask.format("transform_cell", source))
        assert once == repr(transformed), source
    asked = ask.format("check_complete", "%%orch_track\nfor x in y:\n")
    assert cell.value(asked).startswith("('incomplete'")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%%orch_track -p nothing\nran = True", "should look like NAME=VALUE, not 'nothing'"),
        ("%%orch_track a b c\nran = True", "unrecognized arguments"),
        ("ran = 1\nget_ipython().run_cell_magic('orch_track', '', 'ran = True')", "first line"),
        ("%orch_track whatever", "begin it with %%orch_track"),
    ],
)
def test_a_line_that_is_invalid_is_an_error_and_the_cell_does_not_run(
    cell: Kernel, line: str, words: str
) -> None:
    cell("ran = False")
    shown = cell(line)
    assert words in shown.everything
    assert cell.value("ran is True") == "False"


def test_without_a_server_the_cell_runs_and_says_that_it_is_not_recorded(cell: Kernel) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        socket.create_server(("127.0.0.1", 0)) as gone,
    ):
        ports = [listener.getsockname()[1] for listener in (silent, gone)]
        gone.close()
        for port, words in zip(ports, ["did not respond within 2 s", "ConnectError"], strict=True):
            cell(f"%orch_server_type server http://127.0.0.1:{port}/api")
            began = time.monotonic()
            shown = cell("%%orch_track\nprint('it ran')")
            assert time.monotonic() - began < 10  # a busy machine; two seconds is what it waits
            assert "it ran" in shown.streams
            assert not shown.errors
            assert "This cell is not recorded: " in shown_last(shown)
            assert words in shown_last(shown)
    cell("%orch_server_type auto")


def test_every_cell_is_a_task_run_while_that_is_on(cell: Kernel, server: Any) -> None:
    assert "not recorded" in cell("%orch_track").text
    assert ": Running" in cell("%orch_track on").text
    cell("\nimport os\nfirst = 1\n")
    cell("1 / 0")
    cell("%%orch_track inner\nprint('in both')")
    shown = cell("%orch_track off")
    assert ": Completed" in shown.text
    assert "4 cells, 1 failed" in shown.text
    run = last_run(server, "notebook")
    tasks = server.read_task_runs(flow_run_id=run.id, sort="EXPECTED_START_TIME_ASC")
    assert [(task.name, task.state_name) for task in tasks] == [
        ("[1] first = 1", "Completed"),
        ("[2] 1 / 0", "Failed"),
        ("[3] print('in both')", "Completed"),
        ("[4] %orch_track off", "Completed"),
    ]
    assert last_run(server, "inner").parent_task_run_id == tasks[2].id
    rows = [row.name for row in server.read_timeline(run).rows]
    assert rows == [
        run.name,
        *(task.name for task in tasks[:2]),
        last_run(server, "inner").name,
        tasks[3].name,
    ]


@pytest.mark.parametrize(
    ("last", "words"),
    [("%unload_ext orchnb", "2 cells"), ("", "1 cell")],
    ids=["unloaded", "the kernel ends"],
)
def test_the_record_of_a_notebook_ends_with_orchnb(
    site: tuple[str, Path], server: Any, tmp_path: Path, last: str, words: str
) -> None:
    with kernel(
        tmp_path,
        PYTHONPATH=str(ROOT),
        PREFECT_API_URL=site[0],
        JPY_SESSION_NAME=str(tmp_path / f"{words}.ipynb"),
    ) as started:
        started("%load_ext orchnb\n%orch_track on")
        started("x = 1")
        if last:
            started(last)
        else:
            started.manager.shutdown_kernel(now=False)
    run = last_run(server, words)
    assert (run.state_name, run.state.message) == ("Completed", words)


@pytest.mark.parametrize(
    "source",
    ["%orch_server_type server http://127.0.0.1:1/api", "%unload_ext orchnb\n%load_ext orchnb"],
)
def test_a_cell_that_closes_the_clients_is_recorded_to_its_end(
    cell: Kernel, server: Any, source: str
) -> None:
    shown = cell(f"%%orch_track closing\n{source}\nprint('after')")
    assert "after" in shown.streams
    cell("%orch_server_type auto")
    assert last_run(server, "closing").state_name == "Completed"


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_the_run_of_a_killed_kernel_is_found(
    site: tuple[str, Path], server: Any, tmp_path: Path
) -> None:
    later = LostRuns(now=lambda: time.time() + STOPPED_AFTER)
    with kernel(tmp_path, PREFECT_API_URL=site[0], PYTHONPATH=str(ROOT)) as started:
        started("%load_ext orchnb\nimport os\n%orch_track on")
        process = int(started.value("os.getpid()"))
        started.begin("%%orch_track killed\nprint('started')\nimport time; time.sleep(60)")
        while started.client.get_iopub_msg(timeout=60)["content"].get("text") != "started\n":
            pass
        run = last_run(server, "killed")
        assert run.id not in [each.id for each in server.perform(later.find())]  # it lives
        os.kill(process, signal.SIGKILL)
    assert run.id not in [
        each.id for each in server.perform(LostRuns().find())
    ]  # a fresh heartbeat
    assert run.id in [each.id for each in server.perform(later.find())]
    assert last_run(server, "killed").state_name == "Crashed"
    whole = last_run(server, "notebook")  # every cell of it was on the record too
    tasks = server.read_task_runs(flow_run_id=whole.id, sort="EXPECTED_START_TIME_ASC")
    assert (whole.state_name, tasks[-1].state_name) == ("Crashed", "Crashed")


def test_papermill_saves_the_card_as_it_ended(
    site: tuple[str, Path], server: Any, tmp_path: Path
) -> None:
    source = "%%orch_track saved\nimport asyncio\nawait asyncio.sleep(0.1)\nprint('done')"
    with environment(tmp_path, PREFECT_API_URL=site[0]):
        document = by_papermill(tmp_path, "%load_ext orchnb", source)
    run = last_run(server, "saved")
    assert run.state_name == "Completed"
    (card,) = outputs(document, source)
    assert f"Flow run {run.name}: Completed" in card["text/plain"]
    assert f"{run.name}: Completed" in card["text/html"]
