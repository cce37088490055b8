"""The same code in every place that a person runs code in."""

from __future__ import annotations

import asyncio
import textwrap
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

import orchnb
from tests import servers

CODE = """
async def main_job():
    async with orchnb.get_client() as client:
        run = await client.create_flow_run("etl", parameters={"a": 1})
        found = await client.read_flow_run(run.id)
        return len(await client.read_flows()), found.parameters["a"]


def plain_job():
    with orchnb.get_client(sync_client=True) as client:
        run = client.create_flow_run("etl", parameters={"a": 1})
        found = client.read_flow_run(run.id)
        return len(client.read_flows()), found.parameters["a"]
"""

PLACES = {
    "script-sync": "print(plain_job())",
    "script-asyncio": "print(asyncio.run(main_job()))",
    "script-trio": "import trio; print(trio.run(main_job))",
    "script-run": "print(orchnb.run(main_job()))",
    "thread-sync": """
        with ThreadPoolExecutor(1) as pool:
            print(pool.submit(plain_job).result())
    """,
    "thread-loop": """
        with ThreadPoolExecutor(1) as pool:
            print(pool.submit(asyncio.run, main_job()).result())
    """,
    "sync-on-a-loop": """
        async def main():
            print(plain_job())
        asyncio.run(main())
    """,
    "nested-run": """
        async def main():
            print(orchnb.run(main_job()))
        asyncio.run(main())
    """,
    "sync-on-trio": """
        import trio
        async def main():
            print(plain_job())
        trio.run(main)
    """,
    "loop-after-loop": """
        asyncio.run(main_job())
        print(asyncio.run(main_job()))
    """,
}


def test_a_trio_script_does_its_job_against_the_real_server(tmp_path: Path) -> None:
    """Alone in its process, where everything is started and ended once. That of plain scripts is
    tested with the server itself."""
    servers.prefect_home(tmp_path / ".prefect")
    head = "import asyncio\nimport orchnb\n"
    done = servers.run_script(head + CODE + PLACES["script-trio"], tmp_path)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "(1, 1)", "")


FAKE = '''
import json

RUNS = {}
FLOWS = {}

async def app(scope, receive, send):
    """As much of an API as the job needs."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    body = (await receive())["body"]
    given = json.loads(body) if body else {}
    path = scope["path"].removeprefix("/api")
    status = 200
    if path == "/flows/":
        flow_id = FLOWS.setdefault(given["name"], "11111111-1111-4111-8111-111111111111")
        answer = {"id": flow_id, "name": given["name"]}
    elif path == "/flows/filter":
        answer = [{"id": flow_id, "name": name} for name, flow_id in FLOWS.items()]
    elif path == "/flow_runs/":
        answer = {"id": "22222222-2222-4222-8222-222222222222", **given}
        RUNS[answer["id"]] = answer
    elif path.startswith("/flow_runs/"):
        answer = RUNS[path.rsplit("/", 1)[1]]
    else:
        status, answer = 404, {"detail": "Nothing here"}
    await send({"type": "http.response.start", "status": status,
                "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})
'''


@pytest.mark.parametrize("place", PLACES)
def test_the_same_code_does_the_same_in_every_place(place: str, tmp_path: Path) -> None:
    (tmp_path / "fake_server.py").write_text(FAKE)
    head = "import asyncio\nfrom concurrent.futures import ThreadPoolExecutor\nimport orchnb\n"
    done = servers.run_script(
        head + CODE + textwrap.dedent(PLACES[place]),
        tmp_path,
        ORCHNB_EPHEMERAL_APP="fake_server:app",
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "(1, 1)", "")


def test_many_places_at_once_share_one_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process: a thread, a loop in a thread, trio in a thread, and this one."""
    (tmp_path / "shared_server.py").write_text(FAKE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("ORCHNB_EPHEMERAL_APP", "shared_server:app")
    jobs: dict[str, Any] = {"orchnb": orchnb}
    exec(CODE, jobs)
    answers: list[Any] = []
    places = [
        lambda: jobs["plain_job"](),
        lambda: asyncio.run(jobs["main_job"]()),
        lambda: anyio.run(jobs["main_job"], backend="trio"),
        lambda: orchnb.run(jobs["main_job"]()),
    ]
    threads = [
        threading.Thread(target=lambda place=place: answers.append(place()))  # type: ignore[misc]
        for place in places
    ]
    started: list[orchnb.StartupEvent] = []
    with orchnb.observe_startup(started.append), orchnb.get_client(sync_client=True):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [(1, 1)] * 4
    kinds = [event.kind for event in started if event.kind != "awaited"]
    assert kinds == ["began", "ended"] * 3
