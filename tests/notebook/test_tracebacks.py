"""Errors in cells of a real kernel: whose they are, what is shown of them, and what stays as it was."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.kernels import Kernel, Shown, kernel

ROOT = Path(__file__).parents[2]

ours = "await orchnb.get_client().read_flows()"  # a web page where JSON should be
ours_plain = "orchnb.get_client(sync_client=True).read_flows()"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("errors")
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


def titles(shown: Shown) -> list[str]:
    """The first lines of the cards of errors; other things are shown as well."""
    lines = [bundle["text/plain"].splitlines()[0] for bundle in shown.bundles]
    return [line for line in lines if line.startswith(("✗", "• Stopped"))]


def plain(shown: Shown) -> str:
    """What was printed, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.streams)


# Whose error it is


@pytest.mark.parametrize(
    "source",
    [ours, ours_plain, "orchnb.run(orchnb.get_client().read_flows())"],
    ids=["await", "plain", "run"],
)
def test_one_card_and_own_frames(cell: Kernel, source: str) -> None:
    shown = cell(f"import asyncio\nasync def mine():\n    pass\n{source}")
    assert titles(shown) == ["✗ This does not look like an API"]
    assert "%orch_traceback shows the whole traceback." in shown.text
    assert [error["ename"] for error in shown.errors] == ["UnexpectedAnswer"]
    assert shown.traceback.count("File ") == 0, "the cell is the only frame"
    assert shown.streams == ""


def test_ipython_stores_with_the_cell_what_was_shown(cell: Kernel) -> None:
    """From 9 on it does. Formatting all frames a second time would keep the cell from ending."""
    shown = cell(ours)
    stored = cell(
        "stored = getattr(get_ipython().history_manager, 'exceptions', None)\n"
        "print('\\n'.join(stored[max(stored)]['traceback']) if stored else 'nothing')"
    ).streams.strip()
    assert stored in ("nothing", "\n".join(shown.errors[0]["traceback"]).strip())
    whole = cell("%tb").traceback
    assert "api/client.py" in whole, "which is not kept from who asks for it"


_REQUEST = "{client}.request('{method}', '/{path}', timeout=0.3)"
_BOTH = {"async": "await orchnb.get_client()", "plain": "orchnb.get_client(sync_client=True)"}
_KINDS = {
    "credentials": ("GET", "knows-nobody", "Authentication failed (401)"),
    "csrf": ("POST", "wants-a-token", "The server does not accept the request's CSRF token"),
    "time-out": ("GET", "hang", "The server did not answer in time"),
    "conflict": ("GET", "flows/name/x", "The server refused the request"),
}


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("client", _BOTH.values(), ids=_BOTH)
def test_each_kind_of_error_has_its_card_and_the_next_cell_works(
    cell: Kernel, kind: str, client: str
) -> None:
    method, path, title = _KINDS[kind]
    cell("import os\nos.environ['PREFECT_CLIENT_MAX_RETRIES'] = '0'")
    shown = cell(_REQUEST.format(client=client, method=method, path=path))
    assert titles(shown) == [f"✗ {title}"]
    assert shown.html.count('orchnb-card orchnb-error"') == 1
    assert "File " not in shown.traceback
    assert cell.value(f"({client}.hello()).status_code") == "200"
    cell("del os.environ['PREFECT_CLIENT_MAX_RETRIES']")


def test_the_notebooks_client_works_on_a_loop_in_another_thread(cell: Kernel) -> None:
    cell("import asyncio\nclient = orchnb.get_client()\nawait client.hello()")
    assert "200 OK" in cell("await asyncio.to_thread(asyncio.run, client.hello())").text


def test_an_error_in_a_task_and_in_a_thread(cell: Kernel) -> None:
    cell(
        "import asyncio\nclient = orchnb.get_client()\nplain = orchnb.get_client(sync_client=True)"
    )
    for source in (
        "await asyncio.create_task(client.read_flows())",
        "await asyncio.gather(client.read_flows(), client.hello())",
        "await asyncio.to_thread(plain.read_flows)",
    ):
        shown = cell(source)
        assert titles(shown) == ["✗ This does not look like an API"]
        assert "File " not in shown.traceback


_LIMITED = """
import asyncio, anyio
async def mine():
    {block} {limit}(0.3):
        await {call}
await mine()
"""
_HANG = "orchnb.get_client().request('POST', '/hang')"


@pytest.mark.parametrize(
    ("block", "limit"),
    [
        pytest.param(
            "async with",
            "asyncio.timeout",
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="new in 3.11"),
        ),
        ("with", "anyio.fail_after"),
    ],
)
def test_a_time_limit_around_a_call(cell: Kernel, block: str, limit: str) -> None:
    cell("await orchnb.get_client().hello()")  # the server's start is another thing
    shown = cell(_LIMITED.format(block=block, limit=limit, call=_HANG))
    assert titles(shown) == ["• Stopped by the time limit around this call"]
    assert "POST /api/hang" in shown.text
    assert "It may have been done anyway" in shown.text
    assert shown.errors[0]["ename"] == "TimeoutError"
    assert shown.traceback.count("Cell In") == 2, "the cell and its function"
    assert "File " not in shown.traceback
    assert "CancelledError" not in shown.traceback
    assert "httpx" in cell("%orch_traceback").streams


def test_wait_for_around_a_call(cell: Kernel) -> None:
    cell("await orchnb.get_client().hello()")
    shown = cell(f"import asyncio\nawait asyncio.wait_for({_HANG}, 0.3)")
    assert titles(shown) == ["• Stopped by the time limit around this call"]
    assert "File " not in shown.traceback


@pytest.mark.parametrize(
    "source",
    [
        "import asyncio\nasync with asyncio.timeout(0.05):\n    await asyncio.sleep(9)",
        "raise TimeoutError('mine')",
    ],
)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in 3.11")
def test_a_time_limit_around_something_else_is_not_ours(cell: Kernel, source: str) -> None:
    shown = cell(source)
    assert titles(shown) == []
    assert shown.errors[0]["ename"] == "TimeoutError"


_GROUPS = {
    "asyncio": "async with asyncio.TaskGroup() as group:\n        group.create_task(reads())",
    "anyio": "async with anyio.create_task_group() as group:\n        group.start_soon(reads)",
}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups of exceptions are new in 3.11")
@pytest.mark.parametrize("kind", _GROUPS)
def test_an_error_in_a_task_group_has_own_frames_only(cell: Kernel, kind: str) -> None:
    shown = cell(
        "import asyncio, anyio\nasync def reads():\n    await orchnb.get_client().read_flows()\n"
        f"async def mine():\n    {_GROUPS[kind]}\nawait mine()"
    )
    assert titles(shown) == ["✗ This does not look like an API"]
    printed = plain(shown)
    assert "in mine" in printed
    assert "in reads" in printed
    assert "UnexpectedAnswer" in printed
    assert "site-packages" not in printed
    assert f"orchnb{os.sep}" not in printed
    assert "Check that PREFECT_API_URL" not in printed, "the card says what to do"
    assert "calls.py" in cell("%orch_traceback").streams


@pytest.mark.parametrize("installed", ["before", "after"])
def test_richs_tracebacks(shared: Kernel, installed: str) -> None:
    rich = "from rich.traceback import install\ninstall()"
    names = "('showtraceback', '_showtraceback', 'showsyntaxerror')"
    shared(f"shell = get_ipython()\nkept = {{name: vars(shell).get(name) for name in {names}}}")
    try:
        shared(
            f"{rich}\n%load_ext orchnb" if installed == "before" else f"%load_ext orchnb\n{rich}"
        )
        shown = shared(f"def mine():\n    return {ours_plain}\nmine()")
        assert titles(shown) == ["✗ This does not look like an API"]
        panel = shown.bundles[-1]["text/plain"]
        assert "in mine" in panel
        assert "❱" in panel
        assert "json_of" not in panel
        assert "site-packages" not in panel
    finally:
        shared("%unload_ext orchnb")
        shared(
            "for name, value in kept.items():\n"
            "    vars(shell).pop(name, None) if value is None else setattr(shell, name, value)"
        )


def test_a_404_says_each_fact_once(cell: Kernel) -> None:
    body = 'b\'{"detail": "Flow not found"}\''
    cell(
        "import httpx, orchnb\n"
        "answers = httpx.MockTransport(lambda request: httpx.Response(\n"
        f"    404, content={body}, headers={{'content-type': 'application/json'}}))\n"
        "client = orchnb.SyncPrefectClient('http://lab/api',\n"
        "    httpx_settings={'transport': answers, 'enable_csrf_support': False})"
    )
    shown = cell("client.read_flow_by_name('nobody')")
    assert titles(shown) == ["✗ There is no flow 'nobody'"]
    everything = shown.text + shown.traceback
    assert everything.lower().count("not found") == 1
    assert everything.count("404") == 1
    assert everything.count("no flow") == 1
    assert everything.count("/api/flows/name/nobody") == 1
    assert "There is no flow 'nobody': 404" in shown.errors[0]["evalue"], "code sees all of it"


NOT_OURS = {
    "plain": "1 / 0",
    "async": "import asyncio\nawait asyncio.sleep(0)\n1 / 0",
    "httpx's": "import httpx\nhttpx.get('http://127.0.0.1:9/')",
    "httpx's within run": """
import httpx
async def mine():
    async with httpx.AsyncClient() as client:
        await client.get('http://127.0.0.1:9/')
import orchnb
orchnb.run(mine())
""",
    "httpx's alone within run": "import httpx, orchnb\norchnb.run(httpx.AsyncClient().get('http://127.0.0.1:9/'))",
    "a transport of the person's own": """
import httpx, orchnb
class Mine(httpx.BaseTransport):
    def handle_request(self, request):
        raise httpx.ConnectError('mine')
with orchnb.SyncPrefectClient('http://lab/api', httpx_settings={'transport': Mine()}) as client:
    client.hello()
""",
    "a function's that got a client": """
import httpx, orchnb
@orchnb.inject_client
async def mine(client=None):
    raise httpx.ConnectError('mine')
await mine(client=orchnb.PrefectClient('http://127.0.0.1:9/api'))
""",
    "wrapped": """
import orchnb
class MyError(Exception): pass
try:
    with orchnb.SyncPrefectClient('http://127.0.0.1:9/api') as client:
        client.hello()
except Exception as exc:
    raise MyError('mine') from exc
""",
    "after one of ours": """
import orchnb
try:
    with orchnb.SyncPrefectClient('http://127.0.0.1:9/api') as client:
        client.hello()
except Exception:
    1 / 0
""",
    "a cancelled task": """
import asyncio
task = asyncio.create_task(asyncio.sleep(60))
task.cancel()
await task
""",
    "syntax": "def (",
    "exit": "raise SystemExit(3)",
    "interrupt": "raise KeyboardInterrupt",
    "usage": "%nosuchmagic",
    "usage error": "%timeit -q",
}
if sys.version_info >= (3, 11):
    NOT_OURS["group"] = "raise ExceptionGroup('mine', [ValueError('a'), TypeError('b')])"


def looks(shown: Shown) -> list[tuple[str, dict[str, Any]]]:
    """All that a front end gets, save for what differs from run to run.

    A stream comes in as many parts as its timer cuts it into, which front ends put together.
    """
    kept = ("ename", "evalue", "traceback", "text", "name", "data")
    found: list[tuple[str, dict[str, Any]]] = []
    for output in shown.outputs:
        kind = output["msg_type"]
        content = {key: value for key, value in output["content"].items() if key in kept}
        if kind == "stream" and found and found[-1][0] == kind:
            _, before = found[-1]
            if before["name"] == content["name"]:
                before["text"] += content["text"]
                continue
        found.append((kind, content))
    return found


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kernel, Kernel]]:
    """A kernel with the extension and one without, in which the same cells have run."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        kernel(folder, PYTHONPATH=str(ROOT)) as loaded,
        kernel(folder, PYTHONPATH=str(ROOT)) as bare,
    ):
        # What is imported in the background silences warnings of all threads for moments, by
        # `warnings.catch_warnings`, which knows no threads before Python 3.14.
        # The thread starts when the cell that loads the extension has ended.
        loaded("import threading\n%load_ext orchnb")
        loaded("for t in threading.enumerate():\n    if t.name == 'orchnb-prewarm': t.join()")
        bare("import threading\nimport orchnb.notebook.tracebacks")
        bare("threading.enumerate()")
        yield loaded, bare


def without_chance(text: str) -> str:
    """Without the names of the process and of places in its memory."""
    text = re.sub(r"ipykernel_\d+", "ipykernel_N", text)
    return re.sub(r"0x[0-9a-f]+", "0xN", text)


@pytest.mark.parametrize("name", sorted(NOT_OURS))
def test_errors_that_are_not_ours_look_as_ever(pair: tuple[Kernel, Kernel], name: str) -> None:
    with_cards, without = (without_chance(repr(looks(each(NOT_OURS[name])))) for each in pair)
    assert with_cards == without
    assert "Error" in without or name in ("exit", "interrupt", "usage error", "group")


def test_the_card_of_an_error_that_cannot_be_made_does_not_hide_it(cell: Kernel) -> None:
    cell("from orchnb.notebook.views import errors as error_views\nkept = error_views.error_card")
    cell("error_views.error_card = None")
    shown = cell(ours)
    cell("error_views.error_card = kept")
    assert titles(shown) == []
    assert shown.errors[0]["ename"] == "UnexpectedAnswer"
    assert shown.streams == ""


# Groups


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has groups from then on")
def test_a_group_gets_cards_and_its_usual_traceback(cell: Kernel) -> None:
    shown = cell("""
import asyncio
client = orchnb.get_client()
import uuid
reads = [client.read_flow_run(uuid.UUID(int=number)) for number in range(5)]
found = await asyncio.gather(*reads, return_exceptions=True)
raise ExceptionGroup('all', [*found, ValueError('mine')]) from KeyError('root')
""")
    assert titles(shown) == ["✗ The server refused the request"] * 3
    assert "2 more errors are in the traceback" in shown.text
    assert "more errors" not in shown.bundles[0]["text/plain"]
    assert "Exception Group Traceback" in shown.streams
    assert "ValueError: mine" in shown.streams
    assert "KeyError: 'root'" in shown.streams


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has groups from then on")
def test_a_task_group_in_which_one_of_ours_failed(cell: Kernel) -> None:
    shown = cell("""
import asyncio
async with asyncio.TaskGroup() as group:
    group.create_task(orchnb.get_client().read_flows())
    group.create_task(asyncio.sleep(60))
""")
    assert titles(shown) == ["✗ This does not look like an API"]
    assert "Exception Group Traceback" in shown.streams


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio has groups from then on")
def test_errors_of_a_group_that_are_alike_get_one_card(cell: Kernel) -> None:
    shown = cell(
        "raise ExceptionGroup('all', [ExceptionGroup('some', [orchnb.ServerNotConfigured('x')]),"
        " orchnb.ServerNotConfigured('x'), KeyError('y')])"
    )
    assert titles(shown) == ["✗ No server is configured"]
    assert "more errors" not in shown.text
    whole = plain(cell("%orch_traceback"))
    assert "Exception Group Traceback" in whole
    assert "KeyError: 'y'" in whole


# Other extensions

ANOTHER = """
class Another:
    '''An extension with a showtraceback of its own.'''
    def load(self):
        self.before = vars(ip).get("showtraceback")
        original = ip.showtraceback
        def mine(*args, **kwargs):
            print("another's")
            return original(*args, **kwargs)
        self.mine = ip.showtraceback = mine
    def unload(self):
        if self.before is None:
            del ip.showtraceback
        else:
            ip.showtraceback = self.before
"""


@pytest.fixture
def bare(shared: Kernel) -> Iterator[Kernel]:
    """The kernel without the extension, and as it was afterwards."""
    shared(f"ip = get_ipython()\n{ANOTHER}\nanother = Another()")
    yield shared
    shared("%unload_ext orchnb")
    shared("ip.set_custom_exc((), None)\nvars(ip).pop('showtraceback', None)")
    shared("%reset -f")


def test_wrapped_before_ours(bare: Kernel) -> None:
    bare("another.load()")
    bare("%load_ext orchnb")
    shown = bare(ours)
    assert (len(shown.bundles), shown.streams) == (1, "another's\n")
    bare("%unload_ext orchnb")
    assert bare.value("vars(ip)['showtraceback'] is another.mine") == "True"
    shown = bare("1 / 0")
    assert (len(shown.errors), shown.streams) == (1, "another's\n")


def test_wrapped_after_ours_and_gone_last(bare: Kernel) -> None:
    bare("%load_ext orchnb")
    bare("another.load()")
    shown = bare(ours)
    assert (len(shown.bundles), shown.streams) == (1, "another's\n")
    bare("%unload_ext orchnb")
    shown = bare("import orchnb\nraise orchnb.ServerNotConfigured('x')")
    assert (shown.bundles, len(shown.errors), shown.streams) == ([], 1, "another's\n")
    bare("another.unload()")
    shown = bare("raise orchnb.ServerNotConfigured('x')")
    assert (shown.bundles, len(shown.errors), shown.streams) == ([], 1, "")


def test_wrapped_after_ours_and_gone_first(bare: Kernel) -> None:
    bare("%load_ext orchnb")
    bare("another.load()")
    bare("another.unload()")
    assert len(bare(ours).bundles) == 1
    bare("%unload_ext orchnb")
    assert bare.value("'showtraceback' in vars(ip)") == "False"


def test_a_handler_for_httpxs_errors_keeps_them(bare: Kernel) -> None:
    bare("""
import httpx, orchnb
def handler(self, etype, value, tb, tb_offset=None):
    print("handled", etype.__name__)
""")
    refused = "orchnb.SyncPrefectClient('http://127.0.0.1:9/api').__enter__().hello()"
    bare("%load_ext orchnb\nip.set_custom_exc((httpx.HTTPError,), handler)")
    for source in (refused, f"import asyncio\nawait asyncio.sleep(0)\n{refused}"):
        shown = bare(source)
        assert (shown.streams, shown.bundles) == ("handled ConnectError\n", [])
    assert len(bare(ours).bundles) == 1, "which is no error of httpx's"
    bare("%unload_ext orchnb")
    assert bare(refused).streams == "handled ConnectError\n"


# The whole traceback


def test_the_whole_traceback_has_every_frame_and_all_causes(cell: Kernel) -> None:
    cell("%orch_server_type server http://127.0.0.1:9/api")
    shown = cell("await orchnb.get_client().hello()")
    assert "httpcore" not in shown.everything
    whole = cell("%orch_traceback")
    assert whole.errors == []
    for part in (
        "httpcore",
        "api/client.py",
        "The above exception was the direct cause",
        "Cell In",
    ):
        assert part in plain(whole)
    assert "httpcore" in cell("%orch_traceback").streams, "as often as one likes"
    assert "httpcore" in cell("%tb").traceback


def test_the_whole_traceback_is_that_of_the_last_error_whosoever_it_is(cell: Kernel) -> None:
    cell(ours)
    cell("def f():\n    1 / 0\nf()")
    assert "ZeroDivisionError" in cell("%orch_traceback").streams
    cell("try:\n    orchnb.run(orchnb.get_client().read_flows())\nexcept Exception: pass")
    assert "ZeroDivisionError" in cell("%orch_traceback").streams, "that was not shown"
    cell("def (")
    assert "SyntaxError" in cell("%orch_traceback").streams


@pytest.mark.parametrize("mode", ["Plain", "Context", "Verbose", "Minimal"])
def test_xmode_and_the_whole_traceback(cell: Kernel, mode: str) -> None:
    cell(f"%xmode {mode}\nmine = 'canary'")
    try:
        shown = cell(f"def f():\n    return {ours_plain}\nf()")
        whole = plain(cell("%orch_traceback"))
        after = cell("get_ipython().InteractiveTB.mode").text
    finally:
        cell("%xmode Context")
    assert len(shown.bundles) == 1
    assert ("in f()" in shown.traceback or "in f" in shown.traceback) == (mode != "Minimal")
    assert "calls.py" not in shown.traceback
    assert "calls.py" in whole
    values = re.findall(r"(?m)^\s*kwargs = .*", whole)
    assert not values, "no values of variables, which may be secrets"
    assert after == repr(mode)


def test_before_any_error_there_is_a_friendly_line(tmp_path: Path) -> None:
    with kernel(tmp_path, PYTHONPATH=str(ROOT)) as fresh:
        fresh("%load_ext orchnb")
        shown = fresh("%orch_traceback")
    assert shown.streams == "No error has been shown in this notebook yet.\n"
    assert (shown.errors, shown.status) == ([], "ok")


def test_debug_goes_into_the_whole_traceback(cell: Kernel) -> None:
    cell(f"def mine():\n    inside = 'mine'\n    return {ours_plain}\nmine()")
    message = cell.client.execute("%debug", allow_stdin=True, stop_on_error=False)
    for answer in ("where", "q"):
        asked = cell.client.get_stdin_msg(timeout=30)
        assert asked["msg_type"] == "input_request"
        cell.client.input(answer)
    said = plain(cell.finish(message))
    assert "calls.py" in said
    assert "mine()" in said


# The stop button


def stopped(cell: Kernel, source: str) -> Shown:
    """What a cell shows that is interrupted in the middle of a request for /hang."""
    under_way = Path(cell("import os\nprint(os.environ['HANG_FILE'])").streams.strip())
    under_way.unlink(missing_ok=True)
    message = cell.begin(source)
    while not under_way.exists():
        time.sleep(0.01)  # another process makes it; pytest's time-out is the limit
    cell.manager.interrupt_kernel()
    return cell.finish(message, timeout=20)


@pytest.mark.parametrize(
    "source",
    [
        "orchnb.get_client(sync_client=True).request('POST', '/hang?token=canary')",
        "await orchnb.get_client().request('POST', '/hang?token=canary')",
        "import asyncio\n"
        "await asyncio.create_task(orchnb.get_client().request('POST', '/hang?token=canary'))",
        "async def f():\n    await orchnb.get_client().request('POST', '/hang?token=canary')\nawait f()",
        "orchnb.run(orchnb.get_client().request('POST', '/hang?token=canary'))",
    ],
    ids=["plain", "await", "task", "own function", "run"],
)
def test_stopping_tells_what_the_server_may_have_done(cell: Kernel, source: str) -> None:
    cell("client = orchnb.get_client()")
    cell("await client.hello()")
    shown = stopped(cell, source)
    assert titles(shown) == ["• Stopped by you"]
    assert "POST /api/hang?token=*** of the in-kernel server" in shown.text
    assert "read it back before" in shown.text
    assert [
        error["ename"] in ("KeyboardInterrupt", "CancelledError") for error in shown.errors
    ] == [True]
    assert "File " not in shown.traceback
    whole = cell("%orch_traceback").streams
    assert ("run.py" if "orchnb.run" in source else "transport.py") in whole
    assert "200 OK" in cell("await client.hello()").text


def test_stopping_what_only_asks(cell: Kernel) -> None:
    shown = stopped(cell, "orchnb.get_client(sync_client=True).request('GET', '/hang')")
    assert "This request is read-only; nothing was changed." in shown.text


def test_stopping_what_is_no_request_of_ours_looks_as_ever(cell: Kernel) -> None:
    cell("import os, pathlib, time, asyncio\nflag = pathlib.Path(os.environ['HANG_FILE'])")
    cell("await orchnb.get_client().hello()")
    for wait in ("time.sleep(60)", "await asyncio.sleep(60)"):
        shown = stopped(cell, f"flag.touch()\n{wait}")
        assert titles(shown) == []
        assert shown.errors[0]["ename"] in ("KeyboardInterrupt", "CancelledError")
    # Nor is a later interrupt, just because an error of ours is being handled.
    shown = stopped(
        cell,
        "try:\n    orchnb.get_client(sync_client=True).read_flow_run('x')\n"
        "except Exception:\n    flag.touch()\n    time.sleep(60)",
    )
    assert titles(shown) == []


def test_stopping_at_a_place_without_a_line_is_still_shown_as_an_interrupt(cell: Kernel) -> None:
    """Some instructions have no line (PEP 626), and IPython's traceback cannot be made of them."""
    shown = cell("""
import sys
def stop():
    raise KeyboardInterrupt
code, nowhere = stop.__code__, 0b1_1111_111  # a location of no kind, for eight units of code
if sys.version_info >= (3, 11):
    stop.__code__ = code.replace(co_linetable=bytes([nowhere] * (len(code.co_code) // 16 + 1)))
else:
    stop.__code__ = code.replace(co_linetable=bytes([len(code.co_code), 128]))
stop()
""")
    assert shown.streams == ""
    assert [error["ename"] for error in shown.errors] == ["KeyboardInterrupt"]
    assert titles(shown) == []


def test_an_interrupt_in_the_middle_of_ours_shows_the_persons_own_frames(cell: Kernel) -> None:
    shown = cell("""
import orchnb.api.context
def stop():
    raise KeyboardInterrupt
orchnb.api.context.get_settings = stop
orchnb.get_client(httpx_settings={"timeout": 1})
""")
    cell("orchnb.api.context.get_settings = orchnb.settings.get_settings")
    assert [error["ename"] for error in shown.errors] == ["KeyboardInterrupt"]
    assert "context.py" not in shown.traceback
    assert "context.py" in cell("%orch_traceback").streams


def test_a_request_that_the_persons_own_code_cancels_is_not_stopped_by_them(cell: Kernel) -> None:
    shown = cell("""
import asyncio
task = asyncio.create_task(orchnb.get_client().request('GET', '/hang'))
await asyncio.sleep(0.05)
task.cancel()
await task
""")
    # Python 3.10 does not tell it from the stop button.
    assert titles(shown) == ([] if sys.version_info >= (3, 11) else ["• Stopped by you"])
    assert shown.errors[0]["ename"] == "CancelledError"


SLOW_APP = """
import asyncio, os, pathlib

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        pathlib.Path(os.environ["HANG_FILE"]).touch()
        await asyncio.sleep(60)
"""


@pytest.mark.parametrize(
    "source", ["await orchnb.get_client().hello()", "orchnb.get_client(sync_client=True).hello()"]
)
def test_stopping_while_the_server_starts_says_that_nothing_was_sent(
    tmp_path: Path, source: str
) -> None:
    (tmp_path / "slow_app.py").write_text(SLOW_APP)
    with kernel(
        tmp_path,
        ORCHNB_EPHEMERAL_APP="slow_app:app",
        PYTHONPATH=os.pathsep.join([str(ROOT), str(tmp_path)]),
        HANG_FILE=str(tmp_path / "starting"),
    ) as fresh:
        fresh("%load_ext orchnb")
        fresh("orchnb.PrefectClient.hello, orchnb.SyncPrefectClient.hello")  # imports the models
        shown = stopped(fresh, source)
        assert titles(shown) == ["• Stopped by you"]
        assert any("It was not sent" in bundle["text/plain"] for bundle in shown.bundles)
        assert "starting" in fresh("%orch_server_type").text, "which goes on"


# Arguments that an operation refuses


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("await client.read_flow_runs(since='soon')", "'soon' is not a point in time"),
        ("plain.read_flow_runs(state=['FAILED', 'Late'])", "give only one kind"),
        ("await client.read_flow_runs(sicne='1h')", "unexpected keyword argument 'sicne'"),
        ("plain.read_flow('')", "An empty string is not a valid id or name"),
    ],
)
def test_an_argument_that_is_refused_has_a_card(cell: Kernel, source: str, words: str) -> None:
    cell("client, plain = orchnb.get_client(), orchnb.get_client(sync_client=True)")
    shown = cell(source)
    assert titles(shown) == ["✗ Invalid argument"]
    assert words in shown.text
    assert "orchnb/" not in shown.traceback
    assert source in shown.traceback


def test_an_error_of_the_persons_own_below_an_operation_looks_as_ever(cell: Kernel) -> None:
    shown = cell(
        "class Odd:\n    def __str__(self):\n        raise ValueError('mine')\n"
        "orchnb.get_client(sync_client=True).read_flow(Odd())"
    )
    assert titles(shown) == []
    assert "mine" in shown.traceback
