"""Processes made of this one, by multiprocessing and process pools, after the server's start.

A child has no server at first and starts its own when it asks; it ends by itself, and the parent goes
on. ``fork`` copies the process as it stands, ``spawn`` begins a new one.
"""

from __future__ import annotations

import os
import textwrap
from ast import literal_eval
from pathlib import Path

import pytest

from tests import servers
from tests.notebook.kernels import kernel

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

CHILDREN = """
    import asyncio, threading, orchnb

    def ask(number):
        inherited = [thread.name for thread in threading.enumerate()]
        with orchnb.get_client(sync_client=True) as client:
            plain = client.api_version()
        return "orchnb-host" in inherited, plain, asyncio.run(ask_async())

    async def ask_async():
        async with orchnb.get_client() as client:
            return await client.api_version()
"""

ANSWERS = "[(False, '1.2.3', '1.2.3'), (False, '1.2.3', '1.2.3')]"

POOL = """
    import multiprocessing, sys, warnings
    from concurrent.futures import ProcessPoolExecutor
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork with threads
    import children, orchnb

    def in_children(method):
        context = multiprocessing.get_context(method)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            answers = list(pool.map(children.ask, range(2)))
        idle = context.Process(target=len, args=("it has no use for servers",))
        idle.start()
        idle.join(20)
        assert idle.exitcode == 0, idle.exitcode
        return answers
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty one, but for modules that cells and children import."""
    (tmp_path / "children.py").write_text(textwrap.dedent(CHILDREN))
    (tmp_path / "pool.py").write_text(textwrap.dedent(POOL))
    return tmp_path


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_of_a_script(method: str, folder: Path) -> None:
    code = """
        import sys
        import orchnb, pool
        with orchnb.get_client(sync_client=True) as client:
            client.api_version()
            print(pool.in_children(sys.argv[1]))
            print(client.api_version())
    """
    done = servers.run_script(
        code, folder, arguments=(method,), ORCHNB_EPHEMERAL_APP="tests.api.fakes:tiny_api"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [ANSWERS, "1.2.3"]


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_children_of_joblib(backend: str, folder: Path) -> None:
    code = """
        import sys, warnings
        import joblib
        import children, orchnb
        warnings.simplefilter("ignore", DeprecationWarning)
        with orchnb.get_client(sync_client=True) as client:
            client.api_version()
            work = [joblib.delayed(children.ask)(number) for number in range(2)]
            print(joblib.Parallel(n_jobs=2, backend=sys.argv[1])(work))
            print(client.api_version())
    """
    done = servers.run_script(
        code, folder, arguments=(backend,), ORCHNB_EPHEMERAL_APP="tests.api.fakes:tiny_api"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [ANSWERS, "1.2.3"]


def test_children_of_a_cell(folder: Path) -> None:
    path = os.pathsep.join([str(servers.ROOT), str(folder)])
    app = "tests.api.fakes:tiny_api"
    # No thread is to be in the middle of an import when it is forked: the child would have half a module.
    quiet = {"ORCHNB_EPHEMERAL_APP": app, "ORCHNB_EPHEMERAL_PREWARM": "0"}
    with kernel(folder, PYTHONPATH=path, **quiet) as cell:
        cell("%load_ext orchnb\nimport pool\nclient = orchnb.get_client()")
        cell("await client.api_version()")
        for method in ("fork", "spawn"):
            shown = cell(
                f"answers = pool.in_children({method!r})\nanswers, await client.api_version()"
            )
            assert shown.text == f"({ANSWERS}, '1.2.3')", shown.traceback
            assert shown.stderr == ""
        shown = cell("orchnb.get_client(sync_client=True).api_version()")
        assert literal_eval(shown.text) == "1.2.3"


def test_a_forked_child_has_a_prefect_server_of_its_own_on_the_same_database(
    tmp_path: Path,
) -> None:
    """Forked while the parent writes: not in the middle of a transaction."""
    code = """
        import multiprocessing, os, signal, threading, warnings
        import orchnb
        warnings.simplefilter("ignore", DeprecationWarning)

        def write(name):
            signal.alarm(40)  # rather than that it waits for ever
            with orchnb.get_client(sync_client=True) as client:
                client.create_variable(name, value=1)

        def go_on_writing():
            while not enough.is_set():
                client.create_variable(f"parent_{len(written)}", value=1)
                written.append(1)
                wrote.set()

        with orchnb.get_client(sync_client=True) as client:
            enough, wrote, written = threading.Event(), threading.Event(), []
            writer = threading.Thread(target=go_on_writing)
            writer.start()
            children = []
            for number in range(2):
                wrote.clear()
                wrote.wait()
                child = multiprocessing.get_context("fork").Process(
                    target=write, args=(f"child_{number}",)
                )
                child.start()
                children.append(child)
            enough.set()
            writer.join()
            for child in children:
                child.join()
            print([child.exitcode for child in children])
            print(client.count_variables() - len(written))
    """
    servers.prefect_home(tmp_path / ".prefect")
    done = servers.run_script(code, tmp_path)
    # Their servers start one after the other, on a database that the parent writes to, and may say so.
    waits = ("is waiting for another program", "is waiting for another process that writes to")
    lines = done.stderr.splitlines()
    assert [line for line in lines if not any(wait in line for wait in waits)] == []
    assert done.stdout.splitlines() == ["[0, 0]", "2"]
