"""The server in the kernel as one works with it: a database of its own, a port, its log, its times."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import servers
from tests.notebook.kernels import Kernel, Shown, kernel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open-server")
    servers.prefect_home(folder / "prefect-home")
    (folder / "temporary").mkdir()
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(folder / "prefect-home"),
        "TMPDIR": str(folder / "temporary"),
        "TEMP": str(folder / "temporary"),
        "PYTHONPATH": str(ROOT),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "COLUMNS": "200",  # so that tables of Prefect's command are whole
        "DO_NOT_TRACK": "1",  # as a person does who does not want Prefect's client to say so each time
    }


@pytest.fixture(scope="module")
def cell(folder: Path, settings: dict[str, str]) -> Iterator[Kernel]:
    with kernel(folder, **settings) as cell:
        cell("%load_ext orchnb")
        cell(
            "import os\nclient = orchnb.get_client()\n"
            "run = await client.create_flow_run('etl', name='shared')"
        )
        yield cell


def fresh_folders(folder: Path) -> list[Path]:
    return list((folder / "temporary").glob("orchnb-fresh-*"))


def until(condition: object, *, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def names(cell: Kernel) -> str:
    return cell.value("[run.name for run in await orchnb.get_client().read_flow_runs()]")


def port(shown: Shown) -> int:
    return int(shown.text.partition("is open on port ")[2].split()[0])


def test_the_times_of_its_start_are_told(cell: Kernel) -> None:
    assert "Its start took" not in cell("%orch_server_type").text
    shown = cell("%orch_server_type --verbose")
    line = next(line for line in shown.text.splitlines() if "Its start took" in line)
    assert all(f"{phase} " in line for phase in ("import", "create", "migrate", "start"))
    assert "Its start took" in shown.html
    assert "its start took" in cell.value("st = %orch_server_type --verbose\nprint(st)\nstr(st)")


def test_a_database_of_its_own_is_there_until_one_switches(cell: Kernel, folder: Path) -> None:
    shown = cell("%orch_server_type ephemeral --fresh")
    assert not shown.errors, shown.traceback
    assert "on a separate database" in shown.text
    assert "decided by %orch_server_type --fresh" in cell.value(
        "st = %orch_server_type\nstr(st)"
    ).replace("'", "")
    assert names(cell) == "[]"
    cell("await orchnb.get_client().create_flow_run('etl', name='fresh')")
    assert names(cell) == "['fresh']"
    [first] = fresh_folders(folder)
    assert (first / "prefect.db").exists()

    cell("%orch_server_type ephemeral --fresh")
    assert names(cell) == "[]", "each time a new one"
    until(lambda: not first.exists())
    cell("%orch_server_type auto")
    assert names(cell) == "['shared']"
    until(lambda: not fresh_folders(folder))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("server http://127.0.0.1:1/api --fresh", "--fresh works only with `ephemeral`"),
        ("--fresh", "--fresh works only with `ephemeral`"),
        ("ephemeral --fresh --profile local", "--fresh works only with `ephemeral`"),
    ],
)
def test_what_fresh_does_not_go_with(cell: Kernel, folder: Path, line: str, words: str) -> None:
    shown = cell(f"%orch_server_type {line}")
    assert words in shown.stderr
    assert fresh_folders(folder) == []
    assert names(cell) == "['shared']"


def test_another_app_that_is_set_has_no_fresh_database(cell: Kernel, folder: Path) -> None:
    cell("import os\nos.environ['ORCHNB_EPHEMERAL_APP'] = 'm:app'")
    shown = cell("%orch_server_type ephemeral --fresh")
    cell("del os.environ['ORCHNB_EPHEMERAL_APP']")
    assert "ORCHNB_EPHEMERAL_APP" in shown.stderr
    assert fresh_folders(folder) == []


def auth_of(cell: Kernel) -> tuple[str, str]:
    """The user and the password that the open port wants."""
    cell("from orchnb.notebook import extension as _extension")
    user, _, password = (
        cell.value("_extension._loaded.session.served.auth_string.get_secret_value()")
        .strip("'")
        .partition(":")
    )
    return user, password


def runs_seen_from_a_terminal(line: str, folder: Path) -> str:
    """The runs, as Prefect's command lists them after that line, where nothing else is set."""
    command = shlex.join([sys.executable, "-m", "prefect", "flow-run", "ls"])
    done = subprocess.run(
        ["bash", "-c", f"{line}\n{command}"],
        env=servers.clean_environment(folder, DO_NOT_TRACK="1", COLUMNS="200"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_opened_up_it_serves_prefects_commands_and_flows(cell: Kernel, folder: Path) -> None:
    cell("client = orchnb.get_client()")
    shown = cell("%orch_serve")
    assert not shown.errors, shown.traceback
    number = port(shown)
    address = f"http://127.0.0.1:{number}"
    assert port(cell("%orch_serve")) == number, "never a second one"
    assert httpx.get(f"{address}/api/hello", trust_env=False).status_code == 401
    auth = auth_of(cell)
    base = address + re.findall(rf'href="{address}(/[0-9a-f]+)/orchnb-sign-in', shown.html)[0]
    assert f"{base}/orchnb-sign-in?code=" in shown.text, "a terminal shows no links"
    pages = httpx.get(
        f"{base}/",
        headers={"Accept": "text/html"},
        auth=auth,
        follow_redirects=True,
        trust_env=False,
    )
    assert "<title>Prefect" in pages.text

    # orchnb itself goes on as before, with the same client.
    assert cell.value("orchnb.get_client() is client") == "True"
    assert "EPHEMERAL" in cell("%orch_server_type").text
    # Nor does it send the port's auth string to another server.
    there = "with orchnb.temporary_settings(api_url='http://there/api'):\n    sent = "
    assert cell.value(f"{there}orchnb.get_settings().api_auth_string\nrepr(sent)") == "'None'"

    # Lists lead to its pages.
    runs = cell("await client.read_flow_runs()")
    assert f'href="{base}/runs/flow-run/' in runs.html

    # Prefect's engine, here and in another process, and Prefect's command.
    (folder / "elsewhere.py").write_text(
        "from prefect import flow\nfrom prefect.events import emit_event\n"
        "@flow(flow_run_name='there')\ndef other():\n"
        "    emit_event('heard.there', resource={'prefect.resource.id': 'there'})\nother()\n"
    )
    command = f"!{sys.executable}"
    shown = cell(
        "from prefect import flow\n@flow(flow_run_name='here')\ndef mine(x):\n    return x + 1\nmine(1)"
    )
    assert shown.text == "2", shown.everything
    where = "from prefect.utilities.urls import url_for\nurl_for('flow-run', obj_id=str(run.id))"
    assert f"{base}/runs/flow-run/" in cell.value(where), "as Prefect logs it"
    shown = cell(f"{command} {folder / 'elsewhere.py'}")
    shown = cell(f"{command} -m prefect flow-run ls")
    assert "there" in shown.streams, shown.everything
    settings_file = Path(shlex.split(re.findall(r"source (.*)", cell("%orch_serve").text)[0])[0])
    if os.name == "posix":
        assert settings_file.stat().st_mode & 0o777 == 0o600
        assert "there" in runs_seen_from_a_terminal(f"source {settings_file}", folder)

    found = cell.value(
        "{run.name: run.state.type for run in await client.read_flow_runs(state=['COMPLETED'])}"
    )
    assert "'here'" in found
    assert "'there'" in found
    heard = "[e.event for e in (await client.read_events(event='heard.there')).events]"
    until(lambda: cell.value(heard) == "['heard.there']")

    shown = cell("%orch_serve --stop")
    assert "The port is closed" in shown.text
    assert shown.streams == ""
    with pytest.raises(httpx.ConnectError):
        httpx.get(address, trust_env=False)
    assert not settings_file.exists()
    assert f":{number}/" not in cell.value("os.environ['PREFECT_API_URL']"), "a new port for flows"
    assert cell.value("orchnb.get_client() is client") == "True"
    assert "No port was open" in cell("%orch_serve --stop").text


def test_a_server_elsewhere_is_not_opened_up(cell: Kernel) -> None:
    cell("%orch_server_type server http://127.0.0.1:1/api")
    shown = cell("%orch_serve")
    assert "%orch_server_type ephemeral first" in shown.stderr
    cell("%orch_server_type auto")
    assert names(cell) != ""


def test_its_log(cell: Kernel) -> None:
    cell(
        "import logging\nfrom orchnb.hosting.host import host_log\n"
        "for n in range(60):\n"
        "    host_log.add(logging.LogRecord('app', 30 if n % 2 else 10, '', 0, f'line {n}', (), None))"
    )
    lines = [line for line in cell("%orch_server_logs").text.splitlines() if "line " in line]
    assert len(lines) == 50
    assert lines[-1].endswith("line 59")
    shown = cell("%orch_server_logs -n 2 --level warning")
    assert [line[-7:] for line in shown.text.splitlines() if "line " in line] == [
        "line 57",
        "line 59",
    ]
    assert "of level warning or higher" in shown.text
    assert "<pre" in shown.html
    assert (
        "No in-kernel server has logged anything" in cell("%orch_server_logs --level critical").text
    )


def test_any_app_is_used_by_giving_it(cell: Kernel) -> None:
    cell("""
from fastapi import FastAPI
app = FastAPI(title="Mine")
@app.get("/api/answer")
def answer(): return {"value": 42}
orchnb.use_app(app)
""")
    assert cell.value("(await orchnb.get_client().request('GET', '/answer')).json()") == (
        "{'value': 42}"
    )
    assert "the in-kernel server, Mine (given to use_app)" in cell("%orch_server_type").text
    served = port(cell("%orch_serve"))
    address = f"http://127.0.0.1:{served}/api/answer"
    assert httpx.get(address, trust_env=False).status_code == 401
    answer = httpx.get(address, auth=auth_of(cell), trust_env=False)
    assert answer.json() == {"value": 42}
    # The cell is run again, with a change.
    cell(
        "app = FastAPI(title='Mine')\n@app.get('/api/answer')\ndef answer(): return 43\n"
        "orchnb.use_app(app)"
    )
    assert cell.value("(await orchnb.get_client().request('GET', '/answer')).json()") == "43"
    cell("orchnb.use_app(app, api_path='')")
    assert cell.value("(await orchnb.get_client().request('GET', '/api/answer')).json()") == "43"
    assert "should be a path such as '/api'" in cell("orchnb.use_app(app, api_path='api')").text
    cell("orchnb.use_app(None)")
    assert "'shared'" in names(cell)
    shown = cell("orchnb.use_app(FastAPI)")
    assert "is not an ASGI app" in shown.text


def test_another_app_closes_the_port_of_the_one_before(cell: Kernel) -> None:
    cell("from fastapi import FastAPI\nimport os")
    number = port(cell("%orch_serve"))
    cell("orchnb.use_app(FastAPI(title='Another'))")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{number}/api/hello", trust_env=False)
    assert cell.value("'PREFECT_API_URL' in os.environ") == "False"
    words = "not this app, but the server in your settings"
    assert words in cell("%orch_server_type").text
    cell("orchnb.use_app(None)")
    assert "the same server" in cell("%orch_server_type").text
    assert "'shared'" in names(cell)


def on_a_fresh_database(cell: Kernel, folder: Path) -> Path:
    """Load the extension and switch to a fresh database; where that is."""
    cell("%load_ext orchnb")
    cell("%orch_server_type ephemeral --fresh")
    assert names(cell) == "[]"
    [path] = fresh_folders(folder)
    return path


def test_a_fresh_database_is_gone_with_the_extension_and_with_the_kernel(
    tmp_path: Path, folder: Path, settings: dict[str, str]
) -> None:
    with kernel(tmp_path, **settings) as cell:
        first = on_a_fresh_database(cell, folder)
        cell("%unload_ext orchnb")
        until(lambda: not first.exists())
        assert on_a_fresh_database(cell, folder) != first
        cell.client.shutdown()
        until(lambda: not cell.manager.is_alive())
    assert fresh_folders(folder) == []


def test_a_fresh_database_of_a_kernel_that_was_killed_is_gone_with_the_next_start(
    tmp_path: Path, folder: Path, settings: dict[str, str]
) -> None:
    with kernel(tmp_path, **settings) as cell:
        path = on_a_fresh_database(cell, folder)
        process = int(cell.value("import os\nos.getpid()"))
        os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    assert path.exists()
    with kernel(tmp_path, **settings) as cell:
        cell("%load_ext orchnb")
        cell("await orchnb.get_client().hello()")  # not even a fresh one
    assert fresh_folders(folder) == []
