"""Prefect's own flows, commands and child processes use the server that ``%orch_server_type`` shows."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.notebook.kernels import Kernel, kernel

ROOT = Path(__file__).parents[2]

VARIABLES = (
    "PREFECT_API_URL",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_UI_URL",
    "PREFECT_PROFILE",
    "PATH",
)

FLOW = """
from prefect import flow, task
@task(task_run_name="step of " + {name!r})
def step():
    return 42
@flow(flow_run_name={name!r})
def mine():
    return step()
mine()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prefect-flows")
    servers.prefect_home(folder / "prefect-home")
    return folder


@pytest.fixture(scope="module")
def elsewhere(folder: Path) -> Iterator[str]:
    (folder / "elsewhere").mkdir()
    with servers.prefect_server(folder / "elsewhere") as url:
        yield url


@pytest.fixture(scope="module")
def cell(folder: Path, elsewhere: str) -> Iterator[Kernel]:
    (folder / "prefect-home" / "profiles.toml").write_text(
        f'[profiles.there]\nPREFECT_API_URL = "{elsewhere}"\nPREFECT_LOGGING_LEVEL = "ERROR"\n'
    )
    settings = {
        "PREFECT_HOME": str(folder / "prefect-home"),
        "PYTHONPATH": str(ROOT),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "COLUMNS": "200",  # so that tables of Prefect's command are whole
        "DO_NOT_TRACK": "1",
        "PATH": "/usr/bin:/bin",  # as when the kernel's environment is not activated
    }
    with kernel(folder, **settings) as cell:
        cell("import os, psutil")
        cell(f"before = {{name: os.environ.get(name) for name in {VARIABLES}}}")
        assert not cell("%load_ext orchnb").outputs
        yield cell


def until(condition: Callable[[], bool], timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)  # between two looks


def names(cell: Kernel) -> set[str]:
    return set(eval(cell.value("[run.name for run in await orchnb.get_client().read_flow_runs()]")))


def runs(cell: Kernel, name: str) -> None:
    """Run a flow, in this process."""
    shown = cell(FLOW.format(name=name))
    assert shown.result == "42", shown.everything
    assert cell.value("psutil.Process().children(recursive=True)") == "[]", "no server of Prefect's"
    # Task runs are recorded by events, which Prefect sends in the background.
    tasks = "[run.name for run in await orchnb.get_client().read_task_runs()]"
    until(lambda: f"step of {name}" in cell.value(tasks))


def test_the_first_flow_starts_the_kernels_server(cell: Kernel) -> None:
    shown = cell(FLOW.format(name="first"))
    assert shown.result == "42", shown.everything
    assert "Prefect 3" in shown.everything, "the start is shown in the cell that waits for it"
    assert "first" in names(cell)
    shown = cell("%orch_server_type")
    assert "Prefect flows here  the same server" in " ".join(shown.text.split(" ")), shown.text


@pytest.mark.parametrize(
    "source",
    [
        "@flow(flow_run_name={name!r})\nasync def other(): ...\nawait other()",
        "import threading\nt = threading.Thread(target=mine.with_options(flow_run_name={name!r}))\n"
        "t.start(); t.join()",
        "!{python} {file} {name}",
        "%%bash\n{python} {file} {name}",
        "import subprocess\nsubprocess.run([{python!r}, {file!r}, {name!r}], check=True)",
    ],
    ids=["async", "thread", "command", "bash", "child"],
)
def test_everything_that_a_cell_starts_uses_it(
    cell: Kernel, folder: Path, source: str, request: pytest.FixtureRequest
) -> None:
    file = folder / "a_flow.py"
    file.write_text(
        "import sys\nfrom prefect import flow\n@flow(flow_run_name=sys.argv[1])\ndef mine(): ...\nmine()"
    )
    name = request.node.callspec.id
    shown = cell(source.format(name=name, python=sys.executable, file=str(file)))
    assert not shown.errors, shown.traceback
    assert name in names(cell), shown.everything


def test_the_prefect_command_is_that_of_the_kernels_environment(cell: Kernel) -> None:
    shown = cell("!prefect flow-run ls")
    assert "first" in shown.streams, shown.everything
    assert cell.value("import shutil; shutil.which('prefect')") == repr(
        str(Path(sys.executable).parent / "prefect")
    )


@pytest.mark.parametrize(
    "line",
    ["server {url}", "--profile there", "ephemeral --fresh", "auto"],
    ids=["server", "profile", "fresh", "auto"],
)
def test_each_choice_applies_to_flows(
    cell: Kernel, elsewhere: str, line: str, request: pytest.FixtureRequest
) -> None:
    name = f"by-{request.node.callspec.id}"
    shown = cell(f"%orch_server_type {line.format(url=elsewhere)}")
    assert "the same server" in shown.text, shown.everything
    runs(cell, name)
    found = names(cell)
    assert name in found
    assert ("first" in found) == (line == "auto")
    assert ("by-server" in found) == ("fresh" not in line and line != "auto")
    if "profile" in line:
        shown = cell("!prefect flow-run ls")
        assert name in shown.streams, shown.everything


IN_RUNS = """
import orchnb
from orchnb.api.context import get_or_create_client
from prefect import flow, task
from prefect.runtime import flow_run, task_run

@orchnb.inject_client
async def seen(client=None):
    "The server of the client, and whether the flow run that is going on is there."
    run = await client.read_flow_run(flow_run.id or task_run.flow_run_id)
    return str(client.api_url), run.name

@task
def in_a_task(x): return orchnb.run(seen())

@task
async def in_an_async_task(x): return await seen()

@flow(flow_run_name={name!r})
def plain():
    mapped = in_a_task.map([1, 2]).result()
    return [orchnb.run(seen()), in_a_task(0), in_a_task.submit(0).result(), *mapped]

@flow(flow_run_name={name!r})
async def awaiting():
    return [
        await seen(),
        await in_an_async_task(0),
        in_an_async_task.submit(0).result(),
        (get_or_create_client()[0] is orchnb.get_client(), get_or_create_client()[1]),
    ]

print(plain(), await awaiting())
"""


def test_a_run_has_the_client_of_its_server(cell: Kernel, elsewhere: str) -> None:
    shown = cell(IN_RUNS.format(name="own"))
    assert not shown.errors, shown.traceback
    assert shown.streams.count("'own'") == 8, shown.streams
    assert "(True, True)" in shown.streams, "the notebook's client, which is open"
    assert "http://127.0.0.1" not in shown.streams, "within the process"
    # A run of another server than the notebook's.
    other = IN_RUNS.partition("print(plain")[0].format(name="other")
    cell(other)
    shown = cell(
        "from prefect.settings import PREFECT_API_URL, temporary_settings\n"
        f"with temporary_settings({{PREFECT_API_URL: {elsewhere!r}}}):\n"
        "    print(plain(), (await awaiting())[:3])\n"
        "    from orchnb.prefect_server.client_settings import settings_of_run\n"
        "    print('sent:', flow(lambda: settings_of_run().api_auth_string, name='sent')())"
    )
    assert not shown.errors, shown.traceback
    assert shown.streams.count(f"('{elsewhere}', 'other')") == 8, shown.streams
    assert "sent: None" in shown.streams, "the auth string of the port is for the port"
    assert "other" not in names(cell)


def test_unloading_gives_prefect_and_the_environment_their_own_settings_back(cell: Kernel) -> None:
    """Also those that the person has changed in the meantime."""
    mine = "http://127.0.0.1:9/api"
    cell(
        "os.environ.update(PREFECT_API_KEY='mine', PATH='/mine' + os.pathsep + os.environ['PATH'])"
    )
    assert "the same server" in cell("%orch_server_type server http://127.0.0.1:8/api").text
    cell(f"os.environ['PREFECT_API_URL'] = {mine!r}")
    assert cell.value("orchnb.get_settings().api_url") == "'http://127.0.0.1:8/api'"
    assert cell.value("os.environ['PREFECT_API_URL']") == "'http://127.0.0.1:8/api'"
    shown = cell("%unload_ext orchnb")
    assert not shown.outputs, shown.everything
    wanted = {
        "PREFECT_API_URL": mine,
        "PATH": "/mine:/usr/bin:/bin",
    }
    now = f"{{name: os.environ.get(name) for name in {VARIABLES}}}"
    assert cell.value(f"{now} == {{**before, **{wanted}}}") == "True", cell.value(now)
    settings = "from prefect.settings import get_current_settings\n"
    api = f"{settings}api = get_current_settings().api\n[api.url, api.key.get_secret_value()]"
    assert cell.value(api) == f"['{mine}', 'mine']"
    # A variable that is set by hand is a setting of the person's.
    cell("%load_ext orchnb")
    assert "decided by PREFECT_API_URL" in cell.value("st = %orch_server_type\nstr(st)")
    cell("del os.environ['PREFECT_API_URL'], os.environ['PREFECT_API_KEY']")
    assert "in-kernel" in cell("%orch_server_type").text
    cell("%unload_ext orchnb")
    assert cell.value(f"{now} == {{**before, 'PATH': '/mine:/usr/bin:/bin'}}") == "True"


def test_flows_fail_with_the_reason_if_the_server_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    settings = {
        "PREFECT_HOME": str(tmp_path / "home-of-prefect"),
        "ORCHNB_EPHEMERAL_HOME": str(tmp_path / "a-file" / "in-a-file"),
        "PYTHONPATH": str(ROOT),
        "DO_NOT_TRACK": "1",
    }
    with kernel(tmp_path, **settings) as cell:
        cell("import os, psutil")
        cell("%load_ext orchnb")
        cell("from prefect import flow\n@flow\ndef mine(): ...")
        for line in ("", "%orch_serve"):
            if line:
                assert "cannot be created" in cell(line).everything
            began = time.monotonic()
            shown = cell("mine()")
            assert time.monotonic() - began < 20, "it does not try again and again"
            assert "cannot be created" in shown.errors[0]["evalue"], shown.everything
            assert (
                "Set PREFECT_HOME to a folder that can be written to" in shown.errors[0]["evalue"]
            )
        assert cell.value("psutil.Process().children(recursive=True)") == "[]"
        shown = cell("!prefect flow-run ls")
        assert "cannot be created" in shown.streams
        # The next start succeeds, for the same port.
        cell("os.environ['ORCHNB_EPHEMERAL_HOME'] = os.environ['PREFECT_HOME']")
        shown = cell("mine()")
        assert not shown.errors, shown.traceback
