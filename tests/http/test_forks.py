"""Clients that were opened before a fork: each process gets its own answers."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import orchnb
from orchnb.http.connections import LoopTransport, ProcessTransport
from tests.http.echo import echo_server
from tests.servers import run_script

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with echo_server() as url:
        yield url


FAMILY = """
    import asyncio, json, os, sys, warnings
    import orchnb
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
    kind, version, url, proxy, means = sys.argv[1:]
    options = dict(http1=version == "1.1", http2=version == "2", timeout=20)
    if proxy:
        options["proxy"] = proxy
    made = {"sync": orchnb.PrefectHttpxSyncClient, "async": orchnb.PrefectHttpxAsyncClient}
    client = made[kind](**options)

    def ask(name):
        \"\"\"The wrong answers among twenty.\"\"\"
        paths = [f"/{name}/{number}" for number in range(20)]
        if kind == "sync":
            answers = [client.get(url + path).text for path in paths]
        elif name == "parent":
            answers = loop.run_until_complete(ask_all(paths))
        else:
            answers = asyncio.run(ask_all(paths))
        return [pair for pair in zip(paths, answers) if pair[0] != pair[1]]

    async def ask_all(paths):
        one = [(await client.get(url + path)).text for path in paths[:10]]
        several = await asyncio.gather(*(client.get(url + path) for path in paths[10:]))
        return one + [response.text for response in several]

    loop = asyncio.new_event_loop()
    if __name__ == "__main__":
        assert ask("parent") == []
        names = [f"child {number}".replace(" ", "-") for number in range(4)]
        if means == "os.fork":
            children = []
            for name in names:
                child = os.fork()
                if child == 0:
                    os._exit(len(ask(name)))
                children.append(child)
            wrong = ask("parent")
            wrong += [os.waitpid(child, 0)[1] for child in children]
        elif means == "multiprocessing":
            import multiprocessing
            context = multiprocessing.get_context("fork")
            queue = context.SimpleQueue()
            children = [
                context.Process(target=lambda name: queue.put(ask(name)), args=(name,))
                for name in names
            ]
            for child in children:
                child.start()
            wrong = ask("parent") + [queue.get() for _ in names]
            for child in children:
                child.join()
                wrong.append(child.exitcode)
        elif means == "ProcessPoolExecutor":
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor
            with ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as pool:
                futures = [pool.submit(ask, name) for name in names]
                wrong = ask("parent") + [future.result() for future in futures]
        elif means == "joblib threading":
            import joblib
            work = [joblib.delayed(ask)(name) for name in names]
            wrong = joblib.Parallel(4, backend="threading")(work)
        print(json.dumps([each for each in wrong + ask("parent") if each]))
"""


@forks
@pytest.mark.parametrize(
    ("version", "proxy"),
    # httpx speaks HTTP/2 to a proxy only over TLS.
    [("1.1", "direct"), ("2", "direct"), ("1.1", "proxy")],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_each_process_gets_its_own_answers(
    kind: str, version: str, proxy: str, server: str, tmp_path: Path
) -> None:
    url, through = (server, "") if proxy == "direct" else ("http://elsewhere.test", server)
    done = run_script(FAMILY, tmp_path, arguments=(kind, version, url, through, "os.fork"))
    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "[]")


@forks
@pytest.mark.parametrize("means", ["multiprocessing", "ProcessPoolExecutor", "joblib threading"])
def test_whatever_forks(means: str, server: str, tmp_path: Path) -> None:
    for kind in ("sync", "async"):
        done = run_script(FAMILY, tmp_path, arguments=(kind, "1.1", server, "", means))
        assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", "[]")


IN_KERNEL = """
    import asyncio, os, sys, time, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
    import orchnb
    from tests.api.fakes import tiny_api

    async def ask():
        await client.api_version()

    def tell():
        began = time.monotonic()
        try:
            client.api_version() if kind == "sync" else asyncio.run(ask())
        except orchnb.ClientClosed as exc:
            print(time.monotonic() - began < 1, exc, flush=True)
        with orchnb.SyncPrefectClient(tiny_api) as mine:
            print(mine.api_version(), flush=True)

    kind = sys.argv[1]
    client = orchnb.SyncPrefectClient(tiny_api) if kind == "sync" else orchnb.PrefectClient(tiny_api)
    client.open()
    loop = asyncio.new_event_loop()
    client.api_version() if kind == "sync" else loop.run_until_complete(ask())
    child = os.fork()
    if child == 0:
        tell()
        os._exit(0)
    os.waitpid(child, 0)
    print("parent", client.is_closed)
    loop.run_until_complete(client.close()) if kind == "async" else client.close()
    loop.close()
"""


@forks
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_client_of_the_in_kernel_server_says_at_once_what_to_do_in_a_child(
    kind: str, tmp_path: Path
) -> None:
    done = run_script(IN_KERNEL, tmp_path, arguments=(kind,))
    assert (done.returncode, done.stderr) == (0, "")
    told, version, parent = done.stdout.splitlines()
    assert told.startswith("True This client uses the server in the process that this one was")
    assert "Get a new client here with get_client()" in told
    assert (version, parent) == ("1.2.3", "parent False")


CLIENTS = {
    "PrefectHttpxAsyncClient": orchnb.PrefectHttpxAsyncClient,
    "PrefectHttpxSyncClient": orchnb.PrefectHttpxSyncClient,
    "PrefectClient": lambda: orchnb.PrefectClient("http://127.0.0.1:9/api"),
    "SyncPrefectClient": lambda: orchnb.SyncPrefectClient("http://127.0.0.1:9/api"),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_pickling_and_copying_say_what_to_do(name: str) -> None:
    client = CLIENTS[name]()
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError) as caught:
            attempt(client)
        assert str(caught.value).startswith(f"cannot pickle {name!r} object: ")
        assert "orchnb.get_client() in the function that runs there" in str(caught.value)


def test_httpx_asks_for_its_transports_where_ours_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It fails when httpx renames the methods, which are not public."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    for client, kind in (
        (orchnb.PrefectHttpxSyncClient(), ProcessTransport),
        (orchnb.PrefectHttpxAsyncClient(), LoopTransport),
    ):
        for url in ("http://somewhere.test", "https://somewhere.test"):
            assert type(client._transport_for_url(httpx.URL(url))) is kind


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_transport_that_is_given_is_used_as_it_is(kind: str) -> None:
    given = httpx.MockTransport(lambda _: httpx.Response(200))
    made = {"sync": orchnb.PrefectHttpxSyncClient, "async": orchnb.PrefectHttpxAsyncClient}
    assert made[kind](transport=given)._transport is given
