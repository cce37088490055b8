"""The in-kernel server on a loopback port, for its owner.

It is the same running app, not a second copy: uvicorn serves it on the port, on the host's loop.
`orchnb.hosting.port_guard` decides who may use it. `orchnb.hosting.standby` waits for the first
connection, so that nothing runs for a port that nobody uses.

The port's auth string is never shown, because a notebook is saved with its output. Prefect's client in
this process and its child processes gets it from environment and settings; other programs read it from a
file that only its owner may read, and browsers get a cookie through a link that works once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import re
import secrets
import shlex
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from orchnb.asgi import ASGIApp
from orchnb.errors import ServerStartFailed
from orchnb.forks import in_forked_child
from orchnb.hosting._uvicorn import has_started, protocol_maker
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.host import HostedApp
from orchnb.hosting.port_app import Gate, PortApp, ServersCredentials
from orchnb.hosting.port_connections import Connections, most_connections
from orchnb.hosting.port_guard import SIGN_IN, PortKeys
from orchnb.hosting.port_middleware import Door
from orchnb.hosting.standby import Standby
from orchnb.prefect_server.app import PrefectServer
from orchnb.prefect_server.client_settings import client_settings
from orchnb.runtime.futures import LoopTask
from orchnb.runtime.interrupts import deferred_interrupts
from orchnb.runtime.temporary_folder import FreshFolder

if TYPE_CHECKING:
    import uvicorn

logger: logging.Logger = logging.getLogger(__name__)

HOST = "127.0.0.1"

_HUB_PREFIX = "JUPYTERHUB_SERVICE_PREFIX"

_STOP_TIMEOUT = 2.0
"""Seconds that requests in progress may still take when the port is closed."""

PATIENCE = 10.0
"""Seconds for which a connection may be silent while it is expected to send something."""

_MOST_MESSAGE = 4 * 1024 * 1024
"""The maximum size of a web socket message in bytes. Prefect's events have at most 1.5 MB."""


class Served:
    """A port for an app. ``address`` is ``http://127.0.0.1:PORT``.

    The port accepts connections at once, and until `close`. The constructor also waits until the app has
    started, unless it is ``on_demand``: then the first request of the owner starts the app, or `open`.
    Requests to an app that does not start are answered with the reason.

    Args:
        app: the app.
        on_demand: whether the app starts when it is first needed.
        patience: seconds for which a connection may be silent while it is expected to send something.
        connections: the maximum number of open connections; None means `most_connections`.

    Raises:
        ServerStartFailed: the app does not start, or uvicorn is not installed.
    """

    def __init__(
        self,
        app: EphemeralApp,
        *,
        on_demand: bool = False,
        patience: float = PATIENCE,
        connections: int | None = None,
    ) -> None:
        if importlib.util.find_spec("uvicorn") is None:
            raise ServerStartFailed(
                "Serving on a port requires uvicorn, which is not installed",
                phase="import",
                hint="Install it: pip install uvicorn.",
            )
        self.app = app
        self._patience = patience
        self._connections = connections
        self._closing = threading.Lock()
        self._serving = threading.Lock()
        self._is_closed = False
        self._standby: Standby | None = None
        self._gate: HostedApp | None = None
        self._served: LoopTask[None] | None = None
        self._settings_file: Path | None = None
        self._opened = ExitStack()
        try:
            with deferred_interrupts():
                self._listener = self._opened.enter_context(socket.create_server((HOST, 0)))
                self.port: int = int(self._listener.getsockname()[1])
            self._base = self.proxied or f"/{secrets.token_hex(8)}"
            self._keys = PortKeys(
                self.port,
                self._base,
                proxied=bool(self.proxied),
                also=ServersCredentials(app),
                is_prefect=app.is_prefect,
            )
            self._app = PortApp(app, self._base)
            # Called in reverse order; closed twice, as an interrupt may prevent the first call.
            self._opened.callback(self._app.close)
            self._opened.callback(self._app.wait_closed)
            self._opened.callback(self._app.close)
            in_forked_child(self._leave_to_parent)
            if on_demand:
                self._stand_by()
            else:
                self.open()
        except BaseException:  # including interrupts: nobody else can close it yet
            self.close()
            raise

    def open(self) -> None:
        """Start the app if necessary, and add what terminals and browsers need. Can be repeated.

        Raises:
            ServerStartFailed: the app does not start; the port stays open.
        """
        self._serve()
        self._app.lease().wait_started()
        with self._serving:
            if self._is_closed or self._settings_file is not None:
                return
            folder = self._opened.enter_context(_folder())
            server = self.app.running
            if isinstance(server, PrefectServer):
                pages = server.web_pages(self._base, f"{self._base}/api", folder / "pages")
                self._app.pages = pages
                if pages is not None:
                    self._opened.callback(setattr, self.app, "pages_url", None)
                    page = self.proxied_page if self.proxied else self.page
                    self.app.pages_url = page.rstrip("/")
            self._settings_file = _written(self.variables(), folder)

    def _stand_by(self) -> None:
        self._standby = Standby(self._listener, self._serve_or_close)

    def _serve_or_close(self) -> None:
        try:
            self._serve()
        except Exception:  # so that everyone who connects is refused
            logger.exception("The port %d could not be served", self.port)
            self.close()

    def _serve(self) -> None:
        """Accept connections, on the host's loop."""
        with self._serving:
            if self._is_closed or (self._served is not None and not self._served.done()):
                return
            with deferred_interrupts():
                self._gate = gate = HostedApp(Gate())
                self._opened.callback(gate.wait_closed)
                self._opened.callback(gate.close)
            gate.wait_started()
            limits = Connections(self._connections or most_connections(), patience=self._patience)
            door = Door(self._app, self._keys, limits, patience=self._patience)
            serving = _running(gate, door, self._listener, limits)
            self._served = self._opened.enter_context(serving)
            self._served.when_done(self._serving_ended)

    def _serving_ended(self) -> None:
        """Wait for the next connection, if the loop that served the port was ended by something else."""
        if not self._is_closed and self._gate is not None and not self._gate.closed:
            self._stand_by()

    def _leave_to_parent(self) -> None:
        """In a forked child: the port is the parent's, and closes when the parent closes it."""
        self._is_closed = True
        self._opened.pop_all()  # not closed: this process has none of the threads
        self._closing, self._serving = threading.Lock(), threading.Lock()
        self._listener.close()
        if self._standby is not None:
            self._standby.close_in_child()

    def variables(self) -> dict[str, str]:
        """Return the environment variables with which other programs use the port."""
        if self.app.is_prefect:
            return client_settings(self.api_url, self.auth_string, self.page.rstrip("/"))
        auth_string = self.auth_string.get_secret_value()
        return {"ORCHNB_SERVED_URL": self.address, "ORCHNB_SERVED_AUTH_STRING": auth_string}

    @property
    def is_open(self) -> bool:
        """Whether connections are accepted; false if the event loop that served it has ended."""
        if self._is_closed or self._gate is None:
            return not self._is_closed
        return self._gate.is_up and self._served is not None and not self._served.done()

    @property
    def settings_file(self) -> Path:
        """The file that sets the variables in a terminal. It exists only after `open`."""
        assert self._settings_file is not None, "it was opened"
        return self._settings_file

    @property
    def is_given_out(self) -> bool:
        """Whether terminals and browsers may use it, see `open`."""
        return self._settings_file is not None

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
            self._is_closed = True
            if self._standby is not None:
                self._standby.end()
            with self._serving:
                self._opened.close()
            if self._standby is not None:
                self._standby.join()


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
    gate: HostedApp, door: ASGIApp, listener: socket.socket, connections: Connections
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
            ended = gate.host.submit(serve())
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
