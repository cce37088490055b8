"""An ``await`` that is missing, or is one too many: the cell says what to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.kernels import Kernel, Shown, kernel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("unawaited")
    app = {"ORCHNB_EPHEMERAL_APP": "tests.notebook.apps:app", "PYTHONPATH": str(ROOT)}
    with kernel(folder, **app) as running:
        running(
            "%load_ext orchnb\nimport asyncio\nclient = orchnb.get_client()\n"
            "plain = orchnb.get_client(sync_client=True)\nclass Mine: pass\nmine = Mine()\n"
            "mine.client = client\nasync def theirs(): return 1"
        )
        yield running
        running("%unload_ext orchnb")
        assert "coroutine object" in running("late = theirs()\nlate").text
        running("late.close()")


def written(shown: Shown) -> list[str]:
    """Return the lines that the cards say to write."""
    lines = [line for bundle in shown.bundles for line in bundle["text/plain"].splitlines()]
    return [line.split(None, 1)[1] for line in lines if line.strip().startswith("Write")]


def assert_no_warning(cell: Kernel, shown: Shown) -> None:
    """Python reports a call that was not awaited when it is collected."""
    shown = cell("import gc\nget_ipython().displayhook.flush()\ngc.collect()\nNone")
    assert "never awaited" not in shown.stderr


RESULTS: dict[str, str] = {
    "client.hello()": "await client.hello()",
    "client.read_flows(limit=3,\n    sort='x')": "await client.read_flows(limit=3, sort='x')",
    "x = 1\norchnb.get_client().read_flows()": "await orchnb.get_client().read_flows()",
    "mine.client.request('GET', '/é/x')": "await mine.client.request('GET', '/é/x')",
    "display(client.hello())": "await client.hello()",
    "%time 1\nclient.hello()": "await client.hello()",
    "client.hello() if 1 else 2": "await (client.hello() if 1 else 2)",
    "client.iter_flow_runs(limit=1)": "await client.iter_flow_runs(limit=1).to_list()",
    "theirs": "",
}


@pytest.mark.parametrize("source", RESULTS)
def test_a_result_that_was_not_awaited(cell: Kernel, source: str) -> None:
    shown = cell(source)
    expected = [RESULTS[source]] if RESULTS[source] else []
    assert written(shown) == expected
    assert not shown.errors
    if expected:
        assert "An await is missing, so nothing was sent" in shown.text
        assert "orchnb-card" in shown.html
        assert "coroutine object" not in shown.everything
        assert_no_warning(cell, shown)


def test_it_can_still_be_awaited(cell: Kernel) -> None:
    cell("client.hello()")
    assert "200 OK" in cell("await Out[max(Out)]").text


OTHERS: dict[str, list[str]] = {
    # Assigned, and in a later cell replaced by what the card says to write.
    "answer = client.hello()": ["answer = await client.hello()"],
    "answer: object = client.hello()": ["answer: object = await client.hello()"],
    "one = two = client.hello()": ["one = two = await client.hello()"],
    "(got := client.hello())": ["await (got := client.hello())"],
    "for each in 'ab':\n    got = client.hello()": ["got = await client.hello()"],
    # Statements that are only the call: Python itself warns about them, in the same cell.
    "client.hello()\nprint(1)": ["await client.hello()"],
    "client.hello();": ["await client.hello()"],
    "if 1:\n    client.hello()\n    mine.client.hello()\n": [
        "await client.hello()",
        "await mine.client.hello()",
    ],
    # Nothing is wrong.
    "answer = await client.hello()": [],
    "task = asyncio.create_task(client.hello())": [],
    "call = client.hello()\ntask = asyncio.create_task(call)": [],
    "call = client.hello()\nawait call": [],
    "answer = orchnb.run(client.hello())": [],
    "def later():\n    client.hello()\n": [],
    "_private = theirs()\nawait _private": [],
    "pages = client.iter_flow_runs()": [],
    "len(await client.iter_flow_runs(limit=0).to_list())": [],
    "plain.hello();": [],
    "other = theirs()\nother.close()": [],
}


@pytest.mark.parametrize("source", OTHERS)
def test_a_call_that_was_not_awaited_anywhere_in_a_cell(cell: Kernel, source: str) -> None:
    shown = cell(source)
    assert sorted(set(written(shown))) == sorted(OTHERS[source])
    assert not shown.errors
    for name in ("answer", "one", "two", "got", "call", "task"):
        cell(f"globals().pop('{name}', None);")
    assert_no_warning(cell, shown)


def test_a_name_is_reported_once(cell: Kernel) -> None:
    assert written(cell("answer = client.hello()")) == ["answer = await client.hello()"]
    assert written(cell("1")) == []
    assert written(cell("answer")) == ["await answer"]
    assert "200 OK" in cell("answer = await answer\nanswer").text


ERRORS: dict[str, str] = {
    "answer = client.hello()\nanswer.status_code": "answer = await client.hello()",
    "runs = client.read_flow_runs()\nlen(runs)": "runs = await client.read_flow_runs()",
    "runs = client.read_flows()\nfor run in runs:\n    1": "runs = await client.read_flows()",
    "client.hello().json()": "(await client.hello()).json()",
    "x = client.hello()['a']": "x = (await client.hello())['a']",
    "for run in client.read_flow_runs():\n    print(run)": "for run in await client.read_flow_runs():",
    "len(client.read_flow_runs())": "len(await client.read_flow_runs())",
    "import json\njson.dumps(client.hello())": "json.dumps(await client.hello())",
    "def count():\n    return len(client.hello())\ncount()": "return len(await client.hello())",
    "for run in client.iter_flow_runs():\n    print(run)": "async for run in client.iter_flow_runs():",
    "list(client.iter_flow_runs())": "await client.iter_flow_runs().to_list()",
    "[run.name for run in client.iter_flow_runs()]": "async for run in client.iter_flow_runs()",
    "await plain.hello()": "plain.hello()",
    "answer = await plain.hello()": "answer = plain.hello()",
    "answer = plain.hello()\nawait answer": "answer",
    "await orchnb.get_client(sync_client=True).hello()": "orchnb.get_client(sync_client=True).hello()",
    "async for run in plain.iter_flow_runs():\n    print(run)": "for run in plain.iter_flow_runs():",
    # Not about calls of ours.
    "theirs().name": "",
    "await 1": "",
    "len(theirs())": "",
    "plain.hello().nonsense": "",
    "async for x in [1]:\n    pass": "",
}


@pytest.mark.parametrize("source", ERRORS)
def test_an_error_because_of_an_await(cell: Kernel, source: str) -> None:
    cell("globals().pop('answer', None), globals().pop('runs', None);")
    shown = cell(source)
    assert shown.errors[0]["ename"] in ("TypeError", "AttributeError")
    lines = written(shown)
    assert lines[:1] == ([ERRORS[source]] if ERRORS[source] else [])
    if lines:
        title = "needs no await" if "plain" in source or "sync_client" in source else "An await is"
        assert title in shown.bundles[0]["text/plain"]
        assert "site-packages" not in shown.traceback


def test_what_it_says_works(cell: Kernel) -> None:
    for source in ("(await client.hello()).json()", "answer = plain.hello()\nanswer.json()"):
        assert cell(source).text == "'hello'"


@pytest.mark.parametrize("mode", ["off", "text"])
def test_display_modes(cell: Kernel, mode: str) -> None:
    cell(f"%orch_display {mode}")
    shown: Any = cell("client.hello()")
    assert written(shown) == ([] if mode == "off" else ["await client.hello()"])
    assert "text/html" not in shown.bundles[0]
    if mode == "off":
        assert "<coroutine object hello at " in shown.text
        cell("_.close()")
    cell("%orch_display auto")
