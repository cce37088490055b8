"""The server in this process, opened to other processes of this machine on a loopback port.

It is the same running app, not a second copy: the port is one more way to it, served by uvicorn on the
host's loop. What comes from outside is what any program of this machine may send, as with every
server on loopback.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import socket
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from orchnb.errors import ServerStartFailed
from orchnb.runtime.ephemeral import EphemeralApp, host_app
from orchnb.runtime.fresh import FreshFolder
from orchnb.runtime.host import HostedApp
from orchnb.runtime.interrupts import deferred_interrupts
from orchnb.runtime.lifespan import ASGIApp, Receive, Send, app_call
from orchnb.runtime.outcome import LoopTask
from orchnb.runtime.prefect_server import PrefectServer, known_to_prefect

if TYPE_CHECKING:
    import uvicorn

HOST = "127.0.0.1"

_HUB_PREFIX = "JUPYTERHUB_SERVICE_PREFIX"

_STOP_TIMEOUT = 2.0
"""Seconds that requests under way may still take when the port is closed."""


class Served:
    """An app while it is open on a port. ``address`` is ``http://127.0.0.1:PORT``.

    Whoever opens it waits until it answers. It keeps the app up until `close`.

    Raises:
        ServerStartFailed: the app does not start, or uvicorn is not installed.
    """

    def __init__(self, app: EphemeralApp) -> None:
        if importlib.util.find_spec("uvicorn") is None:
            raise ServerStartFailed(
                "A port is served by uvicorn, which is not installed",
                phase="import",
                hint="Install it: pip install uvicorn.",
            )
        self.app = app
        self._closing = threading.Lock()
        self._opened = ExitStack()
        try:
            self._open(app, self._opened)
        except BaseException:  # an interrupt as well: nobody has it yet who could close it
            self._opened.close()
            raise

    def _open(self, app: EphemeralApp, opened: ExitStack) -> None:
        with deferred_interrupts():
            self._lease = lease = host_app(app)
            # The last first; closed twice, as an interrupt may end the first time before it begins.
            opened.callback(lease.close)
            opened.callback(lease.wait_closed)
            opened.callback(lease.close)
        lease.wait_started()
        with deferred_interrupts():
            listener = opened.enter_context(socket.create_server((HOST, 0)))
        self.port = int(listener.getsockname()[1])
        pages = opened.enter_context(_web_pages(app.running, self.proxied))
        doors = _Doors(lease, pages, self.proxied)
        self._serving = opened.enter_context(_running(lease, doors, listener))
        if app.is_prefect:
            opened.enter_context(known_to_prefect(self.api_url))
            opened.callback(setattr, app, "pages_url", None)
            app.pages_url = (self.proxied_page if self.proxied else self.page).rstrip("/")

    @property
    def is_open(self) -> bool:
        """Whether the port is served; not, if the app or the loop that it ran on has gone down."""
        return self._lease.is_up and not self._serving.done()

    @property
    def address(self) -> str:
        """Where it is, for programs of this machine."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        """What goes into ``PREFECT_API_URL``."""
        return f"{self.address}/api"

    @property
    def proxied(self) -> str:
        """The path that leads here through jupyter-server-proxy, without a slash at its end; empty
        where this process does not belong to a hub such as Binder."""
        prefix = os.environ.get(_HUB_PREFIX, "")
        if not re.fullmatch(r"/([\w.~@%-]+/)*", prefix):
            return ""
        return f"{prefix}proxy/absolute/{self.port}"

    @property
    def page(self) -> str:
        """The web pages, or just the address where there are none."""
        return f"{self.address}{self.proxied}/"

    @property
    def proxied_page(self) -> str:
        """The same for a browser that sees the notebook through a hub: a path on the notebook's host."""
        return f"{self.proxied}/"

    def close(self) -> None:
        """Close the port and give the app back. A second time does nothing."""
        with self._closing:
            self._opened.close()


class _Doors:
    """The app at the paths that its users know, and its web pages at theirs."""

    def __init__(self, lease: HostedApp, pages: ASGIApp | None, proxied: str) -> None:
        self._lease = lease
        self._pages = pages
        self._proxied = proxied

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        inner = path.removeprefix(self._proxied) or "/"
        if self._pages is not None and inner != "/api" and not inner.startswith("/api/"):
            await self._pages(scope, receive, send)
            return
        raw = scope.get("raw_path") or path.encode()
        scope["path"] = inner
        scope["raw_path"] = raw.removeprefix(self._proxied.encode()) or b"/"
        # Each request has a copy of the state's first level (ASGI, "Lifespan State").
        scope["state"] = dict(self._lease.state)
        if scope["type"] != "http":  # a web socket ends when its client says so, which may be never
            await self._lease.app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None, "uvicorn makes one for each call"
        with app_call(self._lease.app, task.cancel):
            await self._lease.app(scope, receive, send)


@contextmanager
def _web_pages(app: ASGIApp | None, proxied: str) -> Iterator[ASGIApp | None]:
    """Prefect's web pages, which a server in a notebook leaves out; None for other apps."""
    if not isinstance(app, PrefectServer):
        yield None
        return
    folder = FreshFolder()  # also gone where this process crashes
    try:
        # A mere path, so that the pages find the API whichever way they are reached.
        yield app.web_pages(proxied or "/", f"{proxied}/api", folder.path / "pages")
    finally:
        folder.remove()


@contextmanager
def _running(lease: HostedApp, doors: ASGIApp, listener: socket.socket) -> Iterator[LoopTask[None]]:
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            doors,
            lifespan="off",  # the app's own is under way
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(_STOP_TIMEOUT),
        )
    )
    ended = None
    try:
        with deferred_interrupts():
            ended = lease.host.submit(server.serve(sockets=[listener]))
        _wait_until_it_answers(server, ended)
        yield ended
    finally:
        server.should_exit = True
        if ended is not None:
            ended.wait(_STOP_TIMEOUT + 1)
            ended.cancel()


def _wait_until_it_answers(server: uvicorn.Server, ended: LoopTask[None]) -> None:
    while not server.started:
        if ended.wait(0.01):
            raise ServerStartFailed(f"The port could not be served: {ended.error}", phase="start")
