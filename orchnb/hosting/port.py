"""The in-kernel server on a loopback port, for its owner.

It is the same running app, not a second copy: uvicorn serves it on the port, on the host's loop.
`orchnb.hosting.port_guard` decides who may use it.

The port's auth string is never shown, because a notebook is saved with its output. Prefect's client in
this process and its child processes gets it from environment and settings; other programs read it from a
file that only its owner may read, and browsers get a cookie through a link that works once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import secrets
import shlex
import socket
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from orchnb.asgi import ASGIApp, Receive, Send
from orchnb.errors import ServerStartFailed
from orchnb.hosting._uvicorn import has_started, protocol_maker
from orchnb.hosting.ephemeral import EphemeralApp, host_app
from orchnb.hosting.host import HostedApp
from orchnb.hosting.lifespan import app_call
from orchnb.hosting.port_connections import Connections, most_connections
from orchnb.hosting.port_guard import SIGN_IN, PortKeys
from orchnb.hosting.port_middleware import Door
from orchnb.prefect_server.app import PrefectServer, client_settings, known_to_prefect
from orchnb.runtime.futures import LoopTask
from orchnb.runtime.interrupts import deferred_interrupts
from orchnb.runtime.temporary_folder import FreshFolder

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"

_HUB_PREFIX = "JUPYTERHUB_SERVICE_PREFIX"

_STOP_TIMEOUT = 2.0
"""Seconds that requests in progress may still take when the port is closed."""

PATIENCE = 10.0
"""Seconds for which a connection may be silent while it is expected to send something."""

_MOST_MESSAGE = 4 * 1024 * 1024
"""The maximum size of a web socket message in bytes. Prefect's events have at most 1.5 MB."""


class Served:
    """An app while it is open on a port. ``address`` is ``http://127.0.0.1:PORT``.

    The constructor waits until the port responds. The app keeps running until `close`.

    Args:
        app: the app.
        patience: seconds for which a connection may be silent while it is expected to send something.
        connections: the maximum number of open connections; None means `most_connections`.

    Raises:
        ServerStartFailed: the app does not start, or uvicorn is not installed.
    """

    def __init__(
        self, app: EphemeralApp, *, patience: float = PATIENCE, connections: int | None = None
    ) -> None:
        if importlib.util.find_spec("uvicorn") is None:
            raise ServerStartFailed(
                "Serving on a port requires uvicorn, which is not installed",
                phase="import",
                hint="Install it: pip install uvicorn.",
            )
        self.app = app
        self._closing = threading.Lock()
        self._opened = ExitStack()
        limits = Connections(connections or most_connections(), patience=patience)
        try:
            self._open(app, limits, patience, self._opened)
        except BaseException:  # including interrupts: nobody else can close it yet
            self._opened.close()
            raise

    def _open(
        self, app: EphemeralApp, connections: Connections, patience: float, opened: ExitStack
    ) -> None:
        with deferred_interrupts():
            self._lease = lease = host_app(app)
            # Called in reverse order; closed twice, as an interrupt may prevent the first call.
            opened.callback(lease.close)
            opened.callback(lease.wait_closed)
            opened.callback(lease.close)
        lease.wait_started()
        with deferred_interrupts():
            listener = opened.enter_context(socket.create_server((HOST, 0)))
        self.port: int = int(listener.getsockname()[1])
        self._base = self.proxied or f"/{secrets.token_hex(8)}"
        server = app.running if isinstance(app.running, PrefectServer) else None
        self._keys = PortKeys(
            self.port,
            self._base,
            proxied=bool(self.proxied),
            also=[server.auth_string] if server is not None and server.auth_string else (),
            is_prefect=app.is_prefect,
        )
        folder = opened.enter_context(_folder())
        settings = self._settings()
        self.settings_file: Path = _written(settings, folder)
        pages = (
            server.web_pages(self._base, f"{self._base}/api", folder / "pages") if server else None
        )
        door = Door(_Paths(lease, pages, self._base), self._keys, connections, patience=patience)
        self._serving = opened.enter_context(_running(lease, door, listener, connections))
        if app.is_prefect:
            opened.enter_context(known_to_prefect(settings))
        if pages is not None:
            opened.callback(setattr, app, "pages_url", None)
            app.pages_url = (self.proxied_page if self.proxied else self.page).rstrip("/")

    def _settings(self) -> dict[str, str]:
        """The variables that other programs need."""
        if self.app.is_prefect:
            return client_settings(self.api_url, self.auth_string, self.page.rstrip("/"))
        auth_string = self.auth_string.get_secret_value()
        return {"ORCHNB_SERVED_URL": self.address, "ORCHNB_SERVED_AUTH_STRING": auth_string}

    @property
    def is_open(self) -> bool:
        """Whether the port is served; false if the app, or the event loop it ran on, has stopped."""
        return self._lease.is_up and not self._serving.done()

    @property
    def address(self) -> str:
        """The URL for programs on this machine."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        """The value for ``PREFECT_API_URL``."""
        return f"{self.address}/api"

    @property
    def proxied(self) -> str:
        """The path to the port through jupyter-server-proxy, without a trailing slash; empty if this
        process does not belong to a hub such as Binder."""
        prefix = os.environ.get(_HUB_PREFIX, "")
        if not re.fullmatch(r"/([\w.~@%-]+/)*", prefix):
            return ""
        return f"{prefix}proxy/absolute/{self.port}"

    @property
    def auth_string(self) -> SecretStr:
        """The value for ``PREFECT_API_AUTH_STRING``; any program can send it as HTTP Basic auth."""
        return self._keys.auth_string

    @property
    def settings_line(self) -> str:
        """The command to type into a terminal so that programs there can use the port."""
        if os.name == "nt":
            return f'call "{self.settings_file}"'
        return f"source {shlex.quote(str(self.settings_file))}"

    @property
    def page(self) -> str:
        """The URL of the web pages, or of the app's root; for browsers that have the cookie."""
        return f"{self.address}{self._base}/"

    def sign_in_path(self) -> str:
        """Return a new path that gives a browser the cookie and leads to the pages. It works once.

        Append it to `address`, or to the notebook's host if the port is used through a hub.
        """
        return f"{self._base}{SIGN_IN}?code={self._keys.new_code()}"

    @property
    def proxied_page(self) -> str:
        """`page` for a browser that uses the notebook through a hub: a path on the notebook's host."""
        return f"{self.proxied}/"

    def close(self) -> None:
        """Close the port and release the app. A second call does nothing."""
        with self._closing:
            self._opened.close()


class _Paths:
    """The app at its usual paths, and its web pages at theirs."""

    def __init__(self, lease: HostedApp, pages: ASGIApp | None, base: str) -> None:
        self._lease = lease
        self._pages = pages
        self._base = base

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        inner = path.removeprefix(self._base) or "/"
        if self._pages is not None and inner != "/api" and not inner.startswith("/api/"):
            await self._pages(scope, receive, send)
            return
        raw = scope.get("raw_path") or path.encode()
        scope["path"] = inner
        scope["raw_path"] = raw.removeprefix(self._base.encode()) or b"/"
        # Each request has a copy of the state's first level (ASGI, "Lifespan State").
        scope["state"] = dict(self._lease.state)
        if scope["type"] != "http":  # a web socket ends when its client closes it, possibly never
            await self._lease.app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None, "uvicorn creates one for each call"
        with app_call(self._lease.app, task.cancel):
            await self._lease.app(scope, receive, send)


def _written(settings: dict[str, str], folder: Path) -> Path:
    """Write variables to a shell script that only its owner may read."""
    if os.name == "nt":
        path = folder / "port.bat"
        escaped = {name: value.replace("%", "%%") for name, value in settings.items()}
        lines = [f"@set {name}={value}\n" for name, value in escaped.items()]
    else:
        path = folder / "port.sh"
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.writelines(lines)
    return path


@contextmanager
def _folder() -> Iterator[Path]:
    """Create a folder that only its owner may access; it is removed with the port, or after a crash."""
    folder = FreshFolder()
    try:
        yield folder.path
    finally:
        folder.remove()


@contextmanager
def _running(
    lease: HostedApp, door: ASGIApp, listener: socket.socket, connections: Connections
) -> Iterator[LoopTask[None]]:
    import uvicorn

    config = uvicorn.Config(
        door,
        http="h11",  # it limits the size of a request's head
        lifespan="off",  # the app's lifespan is already running
        log_config=None,
        access_log=False,
        proxy_headers=False,  # a client is the connection that it came by
        server_header=False,
        timeout_graceful_shutdown=int(_STOP_TIMEOUT),
        ws_max_size=_MOST_MESSAGE,
    )
    config.load()
    server = uvicorn.Server(config)
    make_protocol = protocol_maker(server)

    async def serve() -> None:
        accepting = asyncio.ensure_future(connections.accept(listener, make_protocol))
        # A port that accepts no more connections is not open.
        accepting.add_done_callback(lambda _: setattr(server, "should_exit", True))
        try:
            # It accepts no connections itself, and handles the existing ones.
            await server.serve(sockets=[])
        finally:
            accepting.cancel()

    ended = None
    try:
        with deferred_interrupts():
            ended = lease.host.submit(serve())
        _wait_until_it_answers(server, ended)
        yield ended
    finally:
        server.should_exit = True
        if ended is not None:
            ended.wait(_STOP_TIMEOUT + 1)
            ended.cancel()


def _wait_until_it_answers(server: uvicorn.Server, ended: LoopTask[None]) -> None:
    while not has_started(server):
        if ended.wait(0.01):
            raise ServerStartFailed(f"The port could not be served: {ended.error}", phase="start")
