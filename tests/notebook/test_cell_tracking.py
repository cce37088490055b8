"""The same code in plain and async cells, tasks and threads; errors, switching, leaving.

A real kernel; the server in it is a small app where Prefect's would only take longer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import html5lib
import pytest

from tests.notebook.kernels import Kernel, kernel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("cells")
    with kernel(
        folder,
        ORCHNB_EPHEMERAL_APP="tests.notebook.apps:app",
        PYTHONPATH=str(ROOT),
        HANG_FILE=str(folder / "hanging"),
    ) as cell:
        yield cell


@pytest.fixture
def cell(shared: Kernel) -> Iterator[Kernel]:
    """The kernel with the extension freshly loaded."""
    shared("%load_ext orchnb")
    yield shared
    shared("%unload_ext orchnb")
    shared("%reset -f")


@pytest.fixture
def up(cell: Kernel) -> Kernel:
    """The same, its server being up: a start that takes long is a display of its own."""
    cell("await orchnb.get_client().hello()")
    return cell


# Where code runs


@pytest.mark.parametrize(
    "source",
    [
        "await orchnb.get_client().hello()",
        "orchnb.run(orchnb.get_client().hello())",
        "orchnb.get_client(sync_client=True).hello()",
        "import asyncio\nawait asyncio.create_task(orchnb.get_client().hello())",
        "import asyncio\nawait asyncio.to_thread(orchnb.get_client(sync_client=True).hello)",
        "async with orchnb.get_client() as c:\n    answer = await c.hello()\nanswer",
        "with orchnb.get_client(sync_client=True) as c:\n    answer = c.hello()\nanswer",
        "async def f():\n    return orchnb.run(orchnb.get_client().hello())\nawait f()",
    ],
    ids=["await", "run", "plain", "task", "thread", "async with", "with", "run within await"],
)
def test_hello_from_a_cell(cell: Kernel, source: str) -> None:
    shown = cell(source)
    assert "200 OK" in shown.text, shown.traceback
    assert shown.streams == ""


def test_the_client_is_the_same_in_plain_and_async_cells(cell: Kernel) -> None:
    cell("client = orchnb.get_client()")
    cell("same = [orchnb.get_client() is client]")
    cell("await client.hello(); same.append(orchnb.get_client() is client)")
    cell("async with client as c: await c.hello()")
    assert cell.value("same + [orchnb.get_client() is client, client.is_closed]") == (
        "[True, True, True, False]"
    )


def test_loading_and_unloading_in_a_captured_cell_leave_the_streams_alone(tmp_path: Path) -> None:
    environment = {"ORCHNB_EPHEMERAL_APP": "tests.notebook.apps:app", "PYTHONPATH": str(ROOT)}
    with kernel(tmp_path, **environment) as cell:
        cell("import sys\nstreams = sys.stdout, sys.stderr")
        for capture, line in [
            ("%%capture caught\n", "%load_ext orchnb"),
            ("", "%unload_ext orchnb"),
            ("", "%load_ext orchnb"),
            ("%%capture caught\n", "%unload_ext orchnb"),
        ]:
            assert cell(capture + line).streams == ""
            shown = cell(
                "orchnb.get_client(sync_client=True).hello(); print('seen')"
                if "un" not in line
                else "print('seen')"
            )
            assert shown.streams == "seen\n", shown.traceback
            assert cell.value("(sys.stdout, sys.stderr) == streams") == "True"


def test_inject_client_finds_the_notebooks_client(cell: Kernel) -> None:
    source = """
@orchnb.inject_client
async def which(client=None):
    return client
(await which()) is orchnb.get_client(), orchnb.get_or_create_client()[1]
"""
    assert cell.value(source) == "(True, True)"


def test_a_changed_setting_gives_another_client_and_back_the_first(cell: Kernel) -> None:
    cell("client = orchnb.get_client()\nimport os")
    cell("os.environ['PREFECT_API_REQUEST_TIMEOUT'] = '5'\nother = orchnb.get_client()")
    cell("del os.environ['PREFECT_API_REQUEST_TIMEOUT']")
    assert cell.value("other is client, orchnb.get_client() is client") == "(False, True)"


# Errors


def elements(markup: str) -> set[str]:
    tree = html5lib.parse(markup, namespaceHTMLElements=False)
    return {element.tag for element in tree.iter() if isinstance(element.tag, str)}


@pytest.mark.parametrize(
    "source",
    [
        "await orchnb.get_client().read_flow_by_name('x')",
        "orchnb.get_client(sync_client=True).read_flow_by_name('x')",
    ],
    ids=["async cell", "plain cell"],
)
def test_an_error_is_one_card_and_a_traceback_of_own_frames(up: Kernel, source: str) -> None:
    shown = up(f"def mine():\n    1 + 1\n{source}")
    assert len(shown.bundles) == 1
    assert len(shown.errors) == 1
    assert shown.errors[0]["ename"] in ("PrefectHTTPStatusError", "ObjectAlreadyExists")
    assert "orchnb/" not in shown.traceback
    assert "httpx" not in shown.traceback
    assert source in shown.traceback


def test_server_text_is_data_in_every_form(cell: Kernel) -> None:
    shown = cell("await orchnb.get_client().read_flow_by_name('x')")
    assert elements(shown.html) == {
        *("html", "head", "body", "style", "div", "p", "strong", "span"),
    }
    assert "&lt;script&gt;" in shown.html
    for text in (shown.html, shown.text, shown.errors[0]["evalue"]):
        assert "\x1b" not in text
    assert "\n" not in shown.errors[0]["evalue"]


def test_a_422_is_a_table(cell: Kernel) -> None:
    shown = cell("await orchnb.get_client().read_flow_run('nope')")
    assert "<td>path.id</td><td>no</td><td>uuid</td>" in shown.html
    assert "path.id" in shown.text


def test_html_instead_of_json_names_what_to_change(cell: Kernel) -> None:
    shown = cell("await orchnb.get_client().read_flows()")
    assert "where JSON was expected" in shown.text
    assert "PREFECT_API_URL ends in /api" in shown.text


def test_tb_shows_the_whole_traceback_and_no_second_card(cell: Kernel) -> None:
    cell("await orchnb.get_client().read_flows()")
    shown = cell("%tb")
    assert "operations.py" in shown.traceback or "calls.py" in shown.traceback
    assert shown.bundles == []


def test_other_errors_look_as_they_always_did(cell: Kernel) -> None:
    ours = cell("1 / 0")
    cell("%unload_ext orchnb")
    plain = cell("1 / 0")
    assert ours.bundles == plain.bundles == []
    assert ours.traceback.splitlines()[-1] == plain.traceback.splitlines()[-1]
    assert len(ours.traceback.splitlines()) == len(plain.traceback.splitlines())


def test_an_error_of_httpx_itself_is_not_ours(cell: Kernel) -> None:
    shown = cell("import httpx\nraise httpx.ConnectError('mine')")
    assert shown.bundles == []


def test_another_extensions_handler_is_left_alone(up: Kernel) -> None:
    up("""
ip = get_ipython()
def handler(self, etype, value, tb, tb_offset=None):
    print("handled", etype.__name__)
ip.set_custom_exc((ZeroDivisionError,), handler)
""")
    try:
        assert "handled ZeroDivisionError" in up("1 / 0").streams
        assert len(up("await orchnb.get_client().read_flows()").bundles) == 1
        up("%unload_ext orchnb")
        assert "handled ZeroDivisionError" in up("1 / 0").streams
    finally:
        up("ip.set_custom_exc((), None)")


@pytest.mark.parametrize("mode", ["Plain", "Context", "Verbose", "Minimal"])
def test_xmode_still_works(up: Kernel, mode: str) -> None:
    up(f"%xmode {mode}")
    try:
        shown = up("await orchnb.get_client().read_flows()")
        assert len(shown.bundles) == 1
        assert "UnexpectedAnswer" in shown.traceback
    finally:
        up("%xmode Context")


# Which server


def test_the_status_is_an_object_whose_text_holds_the_type(cell: Kernel) -> None:
    assert cell("st = %orch_server_type").bundles == []
    assert cell.value("str(st)").startswith("'EPHEMERAL: ")
    assert cell.value("st.is_up") == "False"


def test_switching_to_a_server_that_is_down_says_so_and_back_again(cell: Kernel) -> None:
    cell("client = orchnb.get_client()\nawait client.hello()")
    shown = cell("%orch_server_type server http://127.0.0.1:9/api")
    assert "SERVER" in shown.text
    assert "down: cannot connect" in shown.text
    assert "%orch_server_type" in shown.text
    assert cell.value("client.is_closed") == "True", "the old client is closed"
    failed = cell("await orchnb.get_client().hello()")
    assert "The server cannot be reached" in failed.text
    assert "http://127.0.0.1:9/api" in failed.text
    assert "EPHEMERAL" in cell("%orch_server_type auto").text
    assert "200 OK" in cell("await orchnb.get_client().hello()").text


def test_switching_to_what_is_used_already_keeps_the_client(cell: Kernel) -> None:
    cell("client = orchnb.get_client()\nawait client.hello()")
    cell("%orch_server_type ephemeral")
    assert cell.value("orchnb.get_client() is client, client.is_closed") == "(True, False)"


def test_a_setting_that_cannot_be_used_is_mended_by_switching(cell: Kernel) -> None:
    cell("import os\nos.environ['PREFECT_API_URL'] = 'nonsense'")
    try:
        assert (
            "PREFECT_API_URL (environment) should be a full URL" in cell("%orch_server_type").text
        )
        assert "EPHEMERAL" in cell("%orch_server_type ephemeral").text
        assert "200 OK" in cell("await orchnb.get_client().hello()").text
    finally:
        cell("del os.environ['PREFECT_API_URL']")


def test_ephemeral_starts_the_server(cell: Kernel) -> None:
    cell("%orch_server_type ephemeral")
    cell("await orchnb.get_client().hello()")
    assert "up, answered in" in cell("%orch_server_type").text


def test_profiles(cell: Kernel, tmp_path: Path) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text(
        'active = "here"\n[profiles.here]\n[profiles.lab]\n'
        'PREFECT_API_URL = "http://127.0.0.1:9/api"\nPREFECT_API_KEY = "canary-key"\n'
    )
    cell(f"%env PREFECT_PROFILES_PATH={profiles}")
    try:
        shown = cell("%orch_server_type --profile lab")
        assert "http://127.0.0.1:9/api" in shown.text
        assert "profile 'lab'" in shown.text
        unknown = cell("%orch_server_type --profile nobody")
        assert "There is no profile 'nobody'" in unknown.text
        assert "lab" in unknown.text
        assert "127.0.0.1:9" in cell("%orch_server_type").text, "nothing has changed"
        assert "canary-key" not in shown.everything + unknown.everything
        cell("%orch_server_type auto")
        assert "UNCONFIGURED" in cell("%orch_server_type").text
        assert "%orch_server_type ephemeral" in cell("orchnb.get_client()").text
    finally:
        cell("import os\nos.environ.pop('PREFECT_PROFILES_PATH', None)")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("nonsense", "not one of them"),
        ("server", "the URL is missing"),
        ("http://127.0.0.1:9/api http://127.0.0.1:9/api", "not one of them"),
        ("ephemeral http://127.0.0.1:9/api", "to use an address, add `server`"),
        ("ephemeral http://127.0.0.1:9/api --fresh", "to use an address, add `server`"),
        ("cloud", "no Prefect Cloud workspace is configured"),
        ("cloud http://127.0.0.1:9/api", "not a Prefect Cloud URL"),
        ("ephemeral --profile local", "omit the kind"),
    ],
)
def test_a_line_that_makes_no_sense_is_a_usage_error(cell: Kernel, line: str, words: str) -> None:
    shown = cell(f"%orch_server_type {line}")
    assert words in shown.stderr
    assert shown.errors == [] or shown.errors[0]["ename"] == "UsageError"
    assert "EPHEMERAL" in cell("%orch_server_type").text


def test_a_bad_address_names_what_is_wrong(cell: Kernel) -> None:
    shown = cell("%orch_server_type server localhost:4200")
    assert "should be a full URL such as http://127.0.0.1:4200/api" in shown.text
    assert "EPHEMERAL" in cell("%orch_server_type").text


def test_credentials_in_an_address_are_not_shown(cell: Kernel) -> None:
    shown = cell("%orch_server_type server http://canary:canary@127.0.0.1:9/api?token=canary")
    failed = cell("await orchnb.get_client().hello()")
    status = cell("%orch_server_type")
    for one in (shown, failed, status):
        assert "canary" not in one.everything


def test_a_clouds_key_is_not_sent_to_another_server(cell: Kernel) -> None:
    cell("%env PREFECT_API_URL=https://api.prefect.cloud/api/accounts/a/workspaces/w")
    cell("%env PREFECT_API_KEY=pnu_canary")
    try:
        cell("%orch_server_type server http://127.0.0.1:9/api")
        assert cell.value("'authorization' in orchnb.get_client()._http.headers") == "False"
    finally:
        cell("import os\nfor n in ('PREFECT_API_URL', 'PREFECT_API_KEY'): os.environ.pop(n)")


# Interrupts


@pytest.mark.parametrize(
    "source",
    [
        "orchnb.get_client(sync_client=True).request('GET', '/hang')",
        "await orchnb.get_client().request('GET', '/hang')",
        "orchnb.run(orchnb.get_client().request('GET', '/hang'))",
    ],
    ids=["plain", "await", "run"],
)
def test_an_interrupt_ends_a_request_and_the_client_goes_on(cell: Kernel, source: str) -> None:
    under_way = Path(cell("import os\nprint(os.environ['HANG_FILE'])").streams.strip())
    under_way.unlink(missing_ok=True)
    cell("client, plain = orchnb.get_client(), orchnb.get_client(sync_client=True)")
    cell("await client.hello()")
    message = cell.begin(source)
    while not under_way.exists():
        time.sleep(0.01)  # another process makes it; pytest's time-out is the limit
    cell.manager.interrupt_kernel()
    shown = cell.finish(message, timeout=10)
    assert shown.errors[0]["ename"] in ("KeyboardInterrupt", "CancelledError")
    assert "200 OK" in cell("await client.hello()").text
    assert "200 OK" in cell("plain.hello()").text


# Leaving


def test_leaving_is_clean(shared: Kernel) -> None:
    shared("import gc, os, socket, threading\nip = get_ipython()")
    look = """
def look():
    formatters = {
        mime: (len(f.type_printers), len(f.deferred_printers))
        for mime, f in ip.display_formatter.formatters.items()
        if mime in ("text/html", "text/plain")
    }
    return (
        sorted(t.name for t in threading.enumerate()),
        formatters,
        "orch_server_type" in ip.magics_manager.magics["line"],
        "OrchMagics" in ip.magics_manager.registry,
        "showtraceback" in vars(ip),
        "orchnb" in ip.user_ns,
    )
"""
    shared(look)
    before = shared.value("look()")
    shared("%load_ext orchnb")
    assert shared.value("look()") != before
    shared("await orchnb.get_client().hello()")
    shared("orchnb.get_client(sync_client=True).hello()")
    shared("await orchnb.get_client().read_flows()")
    shared("orchnb.get_client(sync_client=True).read_flows()")
    shared("%unload_ext orchnb")
    assert shared.value("look()") == before


def test_reloading_works(cell: Kernel) -> None:
    cell("await orchnb.get_client().hello()")
    assert cell("%reload_ext orchnb").errors == []
    assert "200 OK" in cell("await orchnb.get_client().hello()").text


def test_a_users_variable_named_orchnb_is_kept(shared: Kernel) -> None:
    shared("orchnb = 'mine'")
    shared("%load_ext orchnb")
    shared("%unload_ext orchnb")
    assert shared.value("orchnb") == "'mine'"
    shared("del orchnb")
