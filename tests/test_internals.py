"""The names of other libraries that are private or not documented exist, and do what orchnb needs.

A test here fails when a new version of a library drops a name. `tests/test_layers.py` checks that no
other module of orchnb uses such names.
"""

from __future__ import annotations

import ast
import asyncio
import contextvars
import importlib
import inspect
import json
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h11
import httpx
import pytest
import uvicorn
from ipykernel.iostream import OutStream
from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQDisplayPublisher, ZMQInteractiveShell
from IPython.core import async_helpers
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from orchnb import _cpython
from orchnb.errors import ServerStartFailed
from orchnb.hosting import _uvicorn
from orchnb.http import _httpx
from orchnb.notebook import _ipython
from orchnb.prefect_server import internals
from tests import private_names, servers
from tests.test_layers import MAY_USE_PRIVATE_NAMES, PACKAGE


def on_a_loop(look: Callable[[Any], object]) -> Any:
    """What a function finds on a running loop."""

    async def main() -> object:
        return look(asyncio.get_running_loop())

    return asyncio.run(main())


def a_shell() -> Any:
    config = Config()
    config.HistoryManager.enabled = False  # it would write to the person's own history
    return InteractiveShell.instance(config=config)


def a_stream() -> Any:
    """What the constructor of a kernel's streams names; a stream itself needs a socket."""
    return SimpleNamespace(**dict.fromkeys(OutStream.__init__.__code__.co_names))


def a_server() -> uvicorn.Server:
    config = uvicorn.Config(lambda: None, http="h11", log_config=None)
    config.load()
    return uvicorn.Server(config)


# The object that has the name, and the name. A function makes the object.
NAMES: list[tuple[str, Callable[[], Any], str]] = [
    ("_cpython", lambda: on_a_loop(lambda loop: loop), "_run_once"),
    ("_cpython", lambda: on_a_loop(lambda loop: loop), "_ready"),
    ("_cpython", lambda: on_a_loop(lambda loop: loop), "_stopping"),
    ("_cpython", lambda: asyncio.tasks, "_leave_task"),
    ("_cpython", lambda: asyncio.tasks, "_enter_task"),
    ("_cpython", lambda: on_a_loop(lambda loop: loop.call_soon(bool)), "_context"),
    ("_cpython", lambda: on_a_loop(lambda loop: asyncio.current_task()), "_log_destroy_pending"),
    ("_cpython", lambda: threading, "_register_atexit"),
    ("_httpx", lambda: httpx.Request("GET", "http://somewhere.test"), "_content"),
    ("_httpx", lambda: httpx.Client, "_init_transport"),
    ("_httpx", lambda: httpx.Client, "_init_proxy_transport"),
    ("_httpx", lambda: httpx.Client, "_get_proxy_map"),
    ("_httpx", lambda: httpx.AsyncClient, "_get_proxy_map"),
    ("_httpx", lambda: httpx.AsyncClient, "_init_transport"),
    ("_httpx", lambda: httpx.AsyncClient, "_init_proxy_transport"),
    ("_uvicorn", lambda: a_server().config, "http_protocol_class"),
    ("_uvicorn", a_server, "server_state"),
    ("_uvicorn", a_server, "started"),
    ("_ipython", lambda: async_helpers, "get_asyncio_loop"),
    ("_ipython", a_shell, "loop_runner_map"),
    ("_ipython", a_shell, "InteractiveTB"),
    ("_ipython", lambda: a_shell().InteractiveTB, "get_exception_only"),
    ("_ipython", lambda: a_shell().InteractiveTB, "structured_traceback"),
    ("_ipython", lambda: a_shell().InteractiveTB, "stb2text"),
    ("_ipython", lambda: a_shell().InteractiveTB, "mode"),
    ("_ipython", lambda: a_shell().InteractiveTB, "set_mode"),
    ("_ipython", lambda: a_shell().magics_manager, "magics"),
    ("_ipython", lambda: a_shell().magics_manager, "registry"),
    ("_ipython", lambda: ZMQInteractiveShell, "kernel"),
    ("_ipython", lambda: ZMQInteractiveShell, "get_parent"),
    ("_ipython", lambda: IPythonKernel, "kernel_info"),
    ("_ipython", lambda: ZMQDisplayPublisher, "session"),
    ("_ipython", lambda: ZMQDisplayPublisher, "pub_socket"),
    ("_ipython", lambda: ZMQDisplayPublisher, "topic"),
    ("_ipython", a_stream, "echo"),
    ("_ipython", a_stream, "pub_thread"),
    ("_ipython", lambda: a_shell().displayhook, "quiet"),
    ("_ipython", lambda: a_shell().compile, "format_code_name"),
]
PREFECTS = [*internals.REQUIRED, *internals.EXTRAS]


@pytest.mark.parametrize(
    ("owner", "name"), [row[1:] for row in NAMES], ids=[f"{m}-{n}" for m, _, n in NAMES]
)
def test_a_library_has_the_name(owner: Callable[[], Any], name: str) -> None:
    assert hasattr(owner(), name)


def test_every_private_name_has_its_row() -> None:
    """Those of the modules that use the names as attributes."""
    rows = {name for _, _, name in NAMES}
    used = set()
    for module in MAY_USE_PRIVATE_NAMES - {"orchnb.prefect_server.internals"}:
        path = PACKAGE.parent / f"{module.replace('.', '/')}.py"
        for line in private_names.private_names(ast.parse(path.read_text("utf-8")), set()):
            words = set(line.replace("'", " ").replace(",", " ").replace(".", " ").split())
            names = {word for word in words if private_names.is_private(word.rstrip("()"))}
            used |= names - {"_events", "_headers"}  # h11's modules, see below
    assert used - rows == set()


# CPython


def test_a_loop_is_stepped_by_its_own_code() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        assert _cpython.can_be_stepped(loop)
        assert not _cpython.is_stopping(loop)
        seen: list[str] = []

        async def other() -> None:
            seen.append("another task")

        task = loop.create_task(other())
        before = asyncio.current_task()
        with _cpython.outside_of_its_task(loop):
            assert asyncio.current_task() is None
            while not task.done():
                assert len(_cpython.ready_handles(loop)) > 0
                _cpython.step(loop)
        assert asyncio.current_task() is before
        return seen

    assert asyncio.run(main()) == ["another task"]


def test_the_context_of_a_handle_is_the_one_it_was_given() -> None:
    context = contextvars.copy_context()
    handle = on_a_loop(lambda loop: loop.call_soon(bool, context=context))
    assert _cpython.context_of(handle) is context


AT_EXIT = """
import threading
from orchnb._cpython import call_before_threads_are_joined

def last_act():
    threading.Thread(target=print, args=["a thread at exit"]).start()

call_before_threads_are_joined(last_act)
"""


@pytest.mark.skipif(
    (3, 12, 0) <= sys.version_info < (3, 12, 2), reason="3.12.0 and 3.12.1 start no thread at exit"
)
def test_threads_can_be_started_by_what_is_called_before_they_are_joined(tmp_path: Path) -> None:
    done = servers.run_script(AT_EXIT, tmp_path)
    assert (done.stdout, done.stderr) == ("a thread at exit\n", "")


# httpx and h11


def test_the_content_of_a_request_is_replaced() -> None:
    request = httpx.Request("POST", "http://somewhere.test", content=b"one")
    _httpx.set_content(request, b"two")
    assert request.content == b"two"


def test_the_modules_of_httpx_and_h11_are_those_that_hold_requests() -> None:
    head = h11.Request(method="GET", target="/", headers=[("host", "x")])
    assert type(head).__module__ in _httpx.H11_MODULES
    assert type(head.headers).__module__ in _httpx.H11_MODULES
    assert type(h11.Data(data=b"")).__module__ in _httpx.H11_MODULES
    module = sys.modules[_httpx.TRANSPORT_MODULE]
    assert vars(module)["HTTPTransport"] is httpx.HTTPTransport


# uvicorn


def test_a_protocol_of_uvicorn_is_made_for_a_connection() -> None:
    made = on_a_loop(lambda _: _uvicorn.protocol_maker(a_server())())
    assert callable(made.data_received)
    assert not _uvicorn.has_started(a_server())


def test_a_uvicorn_without_the_name_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    server = a_server()
    del server.started, server.server_state
    for use, name in ((_uvicorn.has_started, "started"), (_uvicorn.protocol_maker, "server_state")):
        with pytest.raises(
            ServerStartFailed, match=rf"not supported .*: it has no {name}\. Upgrade orchnb"
        ) as caught:
            use(server)
        assert "Upgrade orchnb" in caught.value.hint


# IPython


def test_the_default_loop_runner_is_what_a_shell_uses() -> None:
    assert _ipython.default_loop_runner(a_shell()) is a_shell().loop_runner
    assert not _ipython.is_kernel(a_shell())
    assert _ipython.current_request(a_shell()) is None
    assert not _ipython.has_subshells(a_shell())
    assert not _ipython.can_send(a_shell().display_pub)


# Prefect


@pytest.mark.parametrize("internal", PREFECTS, ids=lambda each: each.name)
def test_prefect_has_the_name(internal: internals.Internal) -> None:
    if internal is internals._REFRESH:
        module = importlib.import_module(internal.module)
        assert hasattr(module, internal.name) or hasattr(module, "GLOBAL_SETTINGS_CONTEXT")
    else:
        assert internal.get() is not None


CALLS: dict[str, tuple[internals.Internal, str, tuple[Any, ...], dict[str, Any]]] = {
    "create_app": (internals.CREATE_APP, "", (None,), {"ephemeral": True, "ignore_cache": True}),
    "create_ui_app": (internals.CREATE_UI_APP, "", (), {"ephemeral": False}),
    "root_settings_context": (internals.ROOT_SETTINGS_CONTEXT, "", (), {}),
    "alembic_upgrade": (internals.ALEMBIC_UPGRADE, "", (), {}),
    "provide_database_interface": (internals.DATABASE_INTERFACE, "", (), {}),
    "configuration": (internals.SQLITE_CONFIGURATION, "", (), {"connection_url": "x"}),
    "is_inmemory": (internals.SQLITE_CONFIGURATION, "is_inmemory", (None,), {}),
    "begin_transaction": (internals.SQLITE_CONFIGURATION, "begin_transaction", (None, None, True), {}),
    "evaluate": (internals.EVALUATE_PROACTIVELY, "", (), {}),
    "evaluate_periodically": (internals.EVALUATE_PERIODICALLY, "", (timedelta(1),), {}),
    "flush": (internals._LOG_HANDLER, "flush", (None,), {}),
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_prefects_functions_take_what_they_are_given(call: str) -> None:
    internal, method, arguments, options = CALLS[call]
    function = getattr(internal.get(), method) if method else internal.get()
    inspect.signature(function).bind(*arguments, **options)


def test_prefects_settings_have_what_is_set_and_read() -> None:
    server = internals.ROOT_SETTINGS_CONTEXT.get()().settings.server
    for settings, names in (
        (server, {"analytics_enabled", "api", "database", "ui"}),
        (server.api, {"auth_string"}),
        (server.database, {"connection_url", "migrate_on_start"}),
        (server.ui, {"api_url", "enabled", "serve_base", "static_directory"}),
    ):
        assert names <= type(settings).model_fields.keys()


NOT_SUPPORTED = """
import importlib, json, sys, threading
from pathlib import Path
from orchnb import get_client
from orchnb.hosting.ephemeral import ephemeral_app
from orchnb.hosting.port import Served
from orchnb.notebook.views.errors import error_card
from orchnb.notebook.views.model import text
from orchnb.notebook.views.port import served_card
from orchnb.prefect_server import internals
from orchnb.settings import get_settings

def start():
    try:
        with get_client(sync_client=True) as client:
            return client.hello() and "started"
    except Exception as exc:
        return [type(exc).__name__, exc.phase, exc.message, text(error_card(exc))]

def without(each):
    module = importlib.import_module(each.module)
    value = vars(module).pop(each.name, None)
    return lambda: value is None or setattr(module, each.name, value)

internals.check()
found = {}
for each in internals.REQUIRED:
    restore = without(each)
    found[each.name] = start()
    restore()
module = sys.modules["prefect.server.api.server"]
sys.modules["prefect.server.api.server"] = None
found["the module"] = start()
sys.modules["prefect.server.api.server"] = module
for each in internals.EXTRAS:  # by another name, as Prefect's own code uses some of them
    object.__setattr__(each, "name", f"{each.name}_of_old")
served = Served(ephemeral_app(get_settings()))
found["extras"] = start()
found["pages"] = [served.app.pages_url, "Web pages" in text(served_card(served))]
served.close()
print(json.dumps(found))
"""


@pytest.mark.timeout(300)
def test_a_prefect_that_lacks_a_name_is_not_supported(tmp_path: Path) -> None:
    """The error says so, whatever phase of a start needs the name; extras are left out."""
    servers.prefect_home(tmp_path / ".prefect")
    done = servers.run_script(NOT_SUPPORTED, tmp_path)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    assert found.pop("pages") == [None, False]
    assert found.pop("extras") == "started"
    names = {each.name: each for each in internals.REQUIRED} | {"the module": internals.CREATE_APP}
    assert found.keys() == names.keys()
    for name, internal in names.items():
        kind, phase, message, card = found[name]
        assert (kind, phase) == ("ServerStartFailed", "import")
        assert message == (
            f"Prefect {internals.version()} is not supported by this version of orchnb: it has no "
            f"{internal.module}.{internal.name}"
        )
        assert card.startswith("✗ The in-kernel server did not start\n")
        assert message in card
        assert "Install a version that is supported: pip install " in card
        assert "Or upgrade orchnb." in card
