"""No secret gets out of a notebook: not into what is shown, nor into the saved file, nor into a log.

Secrets of every kind are given to a real kernel, real servers repeat them in every way, and everything
that the kernel tells its front end is searched, as is the notebook that is saved with its widgets.

``%xmode Verbose`` shows the values of variables. Those of the person's own code are theirs to show; the
cells that use it take secrets from where it does not look.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.from_thread
import ipykernel
import nbformat
import pytest
import uvicorn
from nbclient import NotebookClient

from tests.http.wire import wire
from tests.servers import clean_environment

PART = 8
"""So many characters of a secret in a row tell too much of it."""

_KINDS = (
    "key",
    "auth password",
    "header",
    "header of .env",
    "key of .env",
    "csrf token",
    "cloud password",
    "url user",
    "url password",
    "query token",
    "profile key",
    "profile password",
    "database password",
    "database password of .env",
    "cookie",
    "parameter",
    "block",
)

ORDINARY = "an-ordinary-value"
"""What the requests contain besides secrets, and errors show."""


def canary(kind: str) -> str:
    """A secret of this kind: letters that no id and no number is made of, so that a hit is one."""
    digest = hashlib.sha256(kind.encode()).hexdigest()[:20]
    return digest.translate(str.maketrans("0123456789abcdef", "ghjkmnpqrstvwxyz"))


CANARIES = {kind: canary(kind) for kind in _KINDS}


def forms() -> dict[str, str]:
    """What to look for: the secrets, and those that are sent in another form."""
    basic = {
        "basic of the settings": f"me:{CANARIES['auth password']}",
        "basic of the url": f"{CANARIES['url user']}:{CANARIES['url password']}",
    }
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in basic.items()}
    return {**CANARIES, **encoded}


def leaks(text: str) -> set[str]:
    """The kinds of secrets of which a part is in a text, whatever colours and cases it is written in."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text).lower()
    return {
        name
        for name, secret in forms().items()
        for start in range(len(secret) - PART + 1)
        if secret[start : start + PART].lower() in plain
    }


def test_the_search_finds_a_part_of_a_secret() -> None:
    secret = CANARIES["key"]
    assert leaks(f"...{secret[3:11]}...") == {"key"}
    assert leaks(f"\x1b[31m{secret[:4]}\x1b[0m{secret[4:]}".upper()) == {"key"}
    assert leaks(secret[:7] + " and nothing else") == set()


# Servers


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Repeats all that it is sent, in the way that the path asks for."""
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    query = scope["query_string"].decode()
    said = {"headers": headers, "query": query, "body": body.decode()}
    everything = json.dumps(said)
    way = scope["path"].removeprefix("/api").removeprefix("/")
    status, content, more_headers = _answer(way, everything, said)
    kind = b"text/html" if content.startswith("<") else b"application/json"
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", kind),
                *((b"x-echo", value.encode()) for value in headers.values()),
                (b"set-cookie", f"c={headers.get('authorization', '')}".encode()),
                *more_headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": content.encode()})


_asked: dict[str, int] = {}


def _answer(
    way: str, everything: str, said: dict[str, Any]
) -> tuple[int, str, list[tuple[bytes, bytes]]]:
    kind, _, rest = way.partition("/")
    _asked[way] = _asked.get(way, 0) + 1
    detail = json.dumps({"detail": f"You sent: {everything}", "request_body": said["body"]})
    if kind == "detail":
        return int(rest), detail, []
    if kind == "says":  # in short, so that nothing of it is cut off
        return int(rest), json.dumps(said["headers"].get("x-api-key")), []
    if kind == "flows":  # what `read_flow_by_name` asks for
        return 404, detail, []
    if kind == "fields":
        row = {"loc": ["body", everything], "msg": everything, "type": "x", "input": said["body"]}
        return 422, json.dumps({"detail": [row], "exception_message": everything}), []
    if kind == "page":
        escaped = everything.replace('"', "&quot;")
        return int(rest), f"<html><title>{escaped}</title><body>{escaped}</body></html>", []
    if kind == "redirect":
        token = said["headers"].get("x-team", "")
        target = f"http://me:{token}@other.invalid/{token}?t={token}#{token}"
        return 302, "{}", [(b"location", target.encode())]
    if kind == "recovers" and _asked[way] > 2:
        return 200, '"fine"', []
    if kind in ("recovers", "busy", "waits"):
        seconds = b"60" if kind == "waits" else b"0.2"
        return 503, detail, [(b"retry-after", seconds)]
    if kind == "csrf-token":
        token = {
            "token": CANARIES["csrf token"],
            "client": "c",
            "expiration": "2099-01-01T00:00:00Z",
        }
        return 200, json.dumps(token), []
    if kind == "health" and rest != "down":
        return 200, "true", []
    if way == "admin/version":
        return 200, '"1.2.3"', []
    return 500, detail, []


@contextmanager
def serving() -> Iterator[int]:
    """The echo behind uvicorn, on a thread; its port."""
    server = uvicorn.Server(uvicorn.Config(echo, log_level="critical", lifespan="off"))
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        anyio.from_thread.start_blocking_portal() as portal,
    ):
        # Not its run(), which with older versions makes uvloop the default of the whole process.
        served = portal.start_task_soon(server.serve, [listener])
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            served.result(10)


def echo_as_no_http(connection: socket.socket) -> None:
    """Repeats a header in a line that is none."""
    connection.sendall(f"HTTP/1.1 200 OK\r\nrejected {CANARIES['header']}\r\n\r\n".encode())


LEAKY_APP = """
import logging, os
from pathlib import Path

async def app(scope, receive, send):
    await receive()
    logger = logging.getLogger("leaky")
    for name, value in os.environ.items():
        if name.startswith("PREFECT_"):
            logger.warning("%s is %s", name, value)
    logger.warning("read %s", Path(".env").read_text())
    raise RuntimeError("cannot connect to " + os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"])
"""

# Notebooks

BEFORE = """
import asyncio, json, logging, os, signal, sys, threading
logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
logging.getLogger("orchnb").setLevel(logging.DEBUG)
secret = json.loads(os.environ.pop("CANARIES"))
server = os.environ["ECHO_URL"]
with_password = server.replace("//", f"//{secret['url user']}:{secret['url password']}@")
"""

AFTER_LOAD = f"""
from pydantic import SecretStr
client = orchnb.get_client()
plain = orchnb.get_client(sync_client=True)
owned = orchnb.SyncPrefectClient(with_password)
owned.__enter__()
everything = {{
    "params": {{"token": secret["query token"]}},
    "json": {{"parameters": {{"password": "{ORDINARY}"}}}},
    "headers": {{"Cookie": f"session={{secret['cookie']}}"}},
}}
def interrupt_when_it_waits():
    waits, ended = threading.Event(), threading.Event()
    observing = orchnb.observe_retries(lambda event: waits.set())
    observing.__enter__()
    def interrupt():
        waits.wait(20)
        observing.__exit__(None, None, None)
        while not ended.wait(0.3):  # again, as one that comes just before a wait is lost on Python
            os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt).start()
    return ended
"""

_REFUSALS = (
    "detail/400",
    "detail/401",
    "detail/403",
    "detail/500",
    "fields",
    "page/404",
    "redirect",
)

# What they send is not in a variable.
_SENT = f"""headers={{"X-Api-Key": json.loads(os.environ["SENT"])["header"]}},
    json={{"password": "{ORDINARY}"}}"""
_BLOCK = """name="x", data={"password": json.loads(os.environ["SENT"])["block"]},
    block_type_id="00000000-0000-0000-0000-000000000001",
    block_schema_id="00000000-0000-0000-0000-000000000002\""""
_ASYNC, _PLAIN = "await orchnb.get_client()", "orchnb.get_client(sync_client=True)"
VERBOSE = {
    **{
        f"{kind} {way}": f"{client}.request('POST', '/{way}', {_SENT})"
        for kind, client in (("async", _ASYNC), ("plain", _PLAIN))
        for way in ("detail/401", "fields", "detail/409")
    },
    **{
        f"{kind} block": f"{client}.create_block_document({_BLOCK})"
        for kind, client in (("async", _ASYNC), ("plain", _PLAIN))
    },
    **{
        f"{kind} bad header": f"{client}.request('GET', '/x', "
        'headers={"X-Team": json.loads(os.environ["SENT"])["header"] + "\\n"})'
        for kind, client in (("async", _ASYNC), ("plain", _PLAIN))
    },
    "no server": """
orchnb.SyncPrefectClient(os.environ["NOBODY"]).__enter__().request("POST", "/x", """
    + f"{_SENT})",
    "bad setting": 'orchnb.Settings(api_key=json.loads(os.environ["SENT"])["key"] + " ")',
}

CELLS: dict[str, str] = {
    "prepare": BEFORE,
    "load": "%load_ext orchnb",
    "clients": AFTER_LOAD,
    "reprs": "client, plain, owned, orchnb.get_settings()",
    "texts": "print(client, plain, owned, orchnb.get_settings())",
    "dump": "orchnb.get_settings().model_dump()",
    "status, up": "%orch_server_type",
    **{
        f"async, {way}": f"await client.request('POST', '/{way}', **everything)"
        for way in _REFUSALS
    },
    **{f"plain, {way}": f"plain.request('POST', '/{way}', **everything)" for way in _REFUSALS},
    **{f"url, {way}": f"owned.request('POST', '/{way}', **everything)" for way in _REFUSALS},
    "not found": "await client.read_flow_by_name('x')",
    "run not made": """
await client.create_flow_run(
    "00000000-0000-0000-0000-000000000001", parameters={"p": SecretStr(secret["parameter"])}
)
""",
    "whole traceback": "%orch_traceback",
    "not raised": """
from orchnb import PrefectHttpxSyncClient
with PrefectHttpxSyncClient(base_url=server, raise_on_all_errors=False) as bare:
    answer = bare.post("/says/500", headers={"X-Api-Key": secret["header"]}, json={})
answer
""",
    "a success that repeats": """
with PrefectHttpxSyncClient(base_url=server, raise_on_all_errors=False) as bare:
    answer = bare.get("/says/200", headers={"X-Api-Key": secret["header"]})
answer
""",
    "no http, plain": """
with orchnb.temporary_settings(client_max_retries=0):
    broken = orchnb.SyncPrefectClient(WIRE_URL)
with broken:
    broken.hello()
""",
    "no http, whole traceback": "%orch_traceback",
    "no http, status": "%orch_server_type server $WIRE_URL",
    "back": "%orch_server_type auto\nclient = orchnb.get_client()",
    "header that cannot be sent": """
with orchnb.temporary_settings(client_max_retries=0):
    bad = orchnb.SyncPrefectClient(server)
with bad:
    bad.request("GET", "/x", headers={"X-Team": secret["header"] + "\\n"})
""",
    "its whole traceback": "%orch_traceback",
    "recovers": "await client.request('POST', '/recovers/1', **everything)",
    "gives up": "await client.request('POST', '/busy', **everything)",
    "gives up, plain": "owned.request('POST', '/busy', **everything)",
    "interrupted": """
ended = interrupt_when_it_waits()
try:
    await client.request("POST", "/waits", **everything)
finally:
    ended.set()
""",
    "interrupted, plain": """
ended = interrupt_when_it_waits()
try:
    owned.request("POST", "/waits", **everything)
finally:
    ended.set()
""",
    "retries": "%orch_retries",
    "retries as text": "print(list(get_ipython().run_line_magic('orch_retries', '')))",
    "in text alone": "%orch_display text",
    "error in text alone": "await client.request('POST', '/detail/500', **everything)",
    "in everything": "%orch_display settings",
    "address with a password": "%orch_server_type server $with_password",
    "its error": "await orchnb.get_client().request('POST', '/detail/401', **everything)",
    "address without its kind": "%orch_server_type $with_password",
    "address that is none": "%orch_server_type server me:$secret_of_url@nowhere",
    "address of nobody": "%orch_server_type server http://x:$secret_of_url@127.0.0.1:9/api",
    "refused": "orchnb.get_client(sync_client=True).hello()",
    "profile": "%orch_server_type --profile work",
    "profile's error": "await orchnb.get_client().request('POST', '/detail/401')",
    "cloud": "%orch_server_type cloud",
    "bad setting": "orchnb.Settings(api_key=secret['key'] + ' ' + secret['header'])",
    "bad header": "orchnb.Settings(client_custom_headers={'X': secret['header'] + '\\n'})",
    "bad table": "orchnb.Settings(client_custom_headers='{' + secret['header'])",
    "an app that does not start": "%orch_server_type ephemeral",
    "its first request": "await orchnb.get_client().hello()",
    "once more": "orchnb.get_client(sync_client=True).hello()",
    "and its whole traceback": "%orch_traceback",
    "log": """
from orchnb.hosting.host import host_log
len(host_log.lines(1000)) > 0
""",
    "log, shown": "%orch_server_logs -n 1000",
    "verbose": "%xmode Verbose\n%orch_display off\n%orch_server_type auto",
    **{f"verbose, {name}": cell for name, cell in VERBOSE.items()},
    "no longer verbose": "%xmode Context\n%orch_display settings",
    "unload": "%unload_ext orchnb",
    "on purpose": "print(secret['key'])",
}
"""By what they show; only the last shows a secret, at the person's own word."""

EXPECTED_ERRORS = {
    name
    for name in CELLS
    if name.startswith(("async,", "plain,", "url,", "gives up", "interrupted", "bad ", "verbose, "))
}


@dataclass
class Session:
    """A notebook that was run, and every message that its kernel has sent."""

    notebook: Any
    messages: list[dict[str, Any]] = field(default_factory=list)

    def of(self, name: str) -> Any:
        """The cell of this name."""
        return self.notebook.cells[list(CELLS).index(name)]

    def shown(self, name: str) -> str:
        """All that this cell shows, as the saved notebook has it."""
        return json.dumps(self.of(name).outputs)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("secrets")
    with serving() as port, wire(echo_as_no_http) as broken:
        yield run(folder, f"http://127.0.0.1:{port}/api", broken.url)


def run(folder: Path, url: str, wire_url: str) -> Session:
    prefect = folder / ".prefect"
    prefect.mkdir()
    address = url.replace("//", f"//me:{CANARIES['profile password']}@")
    (prefect / "profiles.toml").write_text(
        f'[profiles.work]\nPREFECT_API_URL = "{address}"\nPREFECT_API_KEY = "{CANARIES["profile key"]}"\n'
        f'[profiles.paid]\nPREFECT_API_URL = "{url}/accounts/1"\n'
        f'PREFECT_API_KEY = "{CANARIES["profile key"]}"\n'
    )
    (folder / ".env").write_text(
        f"PREFECT_SERVER_DATABASE_PASSWORD={CANARIES['database password of .env']}\n"
        f'PREFECT_CLIENT_CUSTOM_HEADERS={{"X-Dot": "{CANARIES["header of .env"]}"}}\n'
        f"PREFECT_API_KEY={CANARIES['key of .env']}\n"
    )
    (folder / "leaky_app.py").write_text(LEAKY_APP)
    environment = clean_environment(
        folder,
        CANARIES=json.dumps(CANARIES),
        NOBODY=f"http://{CANARIES['url user']}:{CANARIES['url password']}@127.0.0.1:9/api",
        SENT=json.dumps(CANARIES),
        ECHO_URL=url,
        WIRE_URL=wire_url,
        IPYTHONDIR=str(folder / "ipython"),
        ORCHNB_EPHEMERAL_APP="leaky_app:app",
        PREFECT_API_AUTH_STRING=f"me:{CANARIES['auth password']}",
        PREFECT_API_KEY=CANARIES["key"],
        PREFECT_API_URL=url,
        PREFECT_CLIENT_CUSTOM_HEADERS=json.dumps({"X-Team": CANARIES["header"]}),
        PREFECT_CLIENT_MAX_RETRIES="2",
        PREFECT_CLOUD_API_URL=(
            url.replace("//", f"//me:{CANARIES['cloud password']}@") + "/accounts"
        ),
        PREFECT_SERVER_DATABASE_CONNECTION_URL=(
            f"postgresql+asyncpg://me:{CANARIES['database password']}@127.0.0.1:9/db"
        ),
    )
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS.values()]
    # Magics take values of variables after a $, so that no source holds a secret.
    cells[0]["source"] += (
        "\nsecret_of_url, WIRE_URL = secret['url password'], os.environ['WIRE_URL']"
    )
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook,
        timeout=60,
        allow_errors=True,
        store_widget_state=True,
        resources={"metadata": {"path": str(folder)}},
    )
    session = Session(notebook)
    with client.setup_kernel(env=environment):
        listen(client, session.messages.append)
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        client.set_widgets_metadata()
    return session


def listen(client: NotebookClient, hear: Callable[[dict[str, Any]], None]) -> None:
    """Have every message of the kernel heard, whatever nbclient makes of it."""
    assert client.kc is not None
    channel: Any = client.kc.iopub_channel
    get = channel.get_msg

    async def get_and_hear(*args: Any, **kwargs: Any) -> dict[str, Any]:
        message: dict[str, Any] = await get(*args, **kwargs)
        hear(message)
        return message

    channel.get_msg = get_and_hear


def test_everything_was_shown(session: Session) -> None:
    """What the other tests search is there: cards, retries, widgets, streams, errors."""
    for name in EXPECTED_ERRORS:
        kinds = [output.output_type for output in session.of(name).outputs]
        assert "error" in kinds, name
    for name, words in {
        "status, up": "up, answered",
        "async, detail/400": ORDINARY,
        "run not made": "a wrapped secret",
        "plain, fields": "What is wrong",
        "url, redirect": "redirected the request",
        "recovers": "recovered after 3 tries",
        "gives up": "gave up after 3 tries",
        "interrupted": "stopped by you",
        "interrupted, plain": "stopped by you",
        "retries": "recovered after 3 tries",
        "whole traceback": "Traceback",
        "its first request": "did not start",
        **{f"verbose, {name}": "orchnb/" for name in VERBOSE},
        "verbose, async detail/401": "<dict of 1>",
        "on purpose": CANARIES["key"],
    }.items():
        assert words in session.shown(name), name
    kinds = {message["msg_type"] for message in session.messages}
    # Buttons are only where they are heard: tests/notebook/test_live_displays.py.
    assert ("comm_open" in kinds) == (ipykernel.version_info[0] >= 7)
    assert {
        "display_data",
        "error",
        "execute_result",
        "stream",
        "update_display_data",
    } <= kinds
    assert "next try in" in json.dumps([cell.outputs for cell in session.notebook.cells])


def test_no_message_of_the_kernel_holds_a_secret(session: Session) -> None:
    names = list(CELLS)
    purpose = names.index("on purpose") + 1
    number = 0
    found: dict[str, set[str]] = {}
    for message in session.messages:
        if message["msg_type"] == "execute_input":
            number = message["content"]["execution_count"]
            continue
        told = leaks(json.dumps(message["content"], ensure_ascii=False))
        if told:
            found.setdefault(names[number - 1], set()).update(told)
    assert found.pop(names[purpose - 1]) == {"key"}
    assert found == {}


def test_the_saved_notebook_holds_no_secret(session: Session) -> None:
    saved = json.loads(nbformat.writes(session.notebook))
    has_buttons = ipykernel.version_info[0] >= 7
    assert ("widgets" in saved["metadata"]) == has_buttons, "the buttons' state is stored"
    parts = {"metadata": saved["metadata"], **dict(zip(CELLS, saved["cells"], strict=True))}
    found = {name: leaks(json.dumps(part, ensure_ascii=False)) for name, part in parts.items()}
    assert found.pop("on purpose") == {"key"}
    assert {name: kinds for name, kinds in found.items() if kinds} == {}
