"""The app behind a port: started by the first request that is let in."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import Iterator, MutableMapping
from typing import Any

from pydantic import SecretStr

from orchnb.asgi import ASGIApp, Receive, Send
from orchnb.errors import LifespanStartupFailed, ServerStartFailed
from orchnb.hosting.ephemeral import EphemeralApp, host_app
from orchnb.hosting.host import HostedApp
from orchnb.hosting.lifespan import app_call
from orchnb.hosting.port_guard import Refuse
from orchnb.hosting.port_middleware import answer, refuse
from orchnb.prefect_server.app import PrefectServer
from orchnb.runtime.interrupts import deferred_interrupts

_VERSION = "/api/admin/version"
_JSON = [(b"content-type", b"application/json")]

_FAILED = 500
"""The status of the answer if the app does not start. Clients do not retry it; each retry would be
another start that fails."""


class PortApp:
    """An app at its usual paths and below ``base``, and its web pages, once there are any, at theirs.

    It runs from the first request, or `lease`, until `close`.
    """

    def __init__(self, app: EphemeralApp, base: str) -> None:
        self.pages: ASGIApp | None = None
        self._app = app
        self._base = base
        self._lease: HostedApp | None = None
        self._closed = False
        self._leasing = threading.Lock()

    def lease(self) -> HostedApp:
        """Return a lease of the app; begin another start if the last one has failed.

        Raises:
            ServerStartFailed: the port has been closed.
        """
        with deferred_interrupts(), self._leasing:
            if self._closed:
                raise ServerStartFailed("The port was closed", phase="start")
            if self._lease is None or self._lease.ended:
                self._lease = host_app(self._app)
            return self._lease

    def close(self) -> None:
        """Release the app; returns immediately. A second call does nothing."""
        with deferred_interrupts(), self._leasing:
            self._closed = True
            if self._lease is not None:
                self._lease.close()

    def wait_closed(self) -> None:
        """After `close`, wait until the app has stopped, if nobody else uses it."""
        if self._lease is not None:
            self._lease.wait_closed()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        inner = path.removeprefix(self._base) or "/"
        if self.pages is not None and inner != "/api" and not inner.startswith("/api/"):
            await self.pages(scope, receive, send)
            return
        if inner == _VERSION and scope.get("method") == "GET" and self._is_to_start():
            # Prefect's client asks first whether the versions fit. If that failed, it would say only that
            # the API cannot be reached, and not why.
            self.lease()
            await answer(scope, receive, send, 200, _JSON, json.dumps(self._app.version).encode())
            return
        try:
            lease = await self._started()
        except (LifespanStartupFailed, ServerStartFailed) as error:
            await refuse(Refuse(_FAILED, str(error)), scope, receive, send)
            return
        raw = scope.get("raw_path") or path.encode()
        scope["path"] = inner
        scope["raw_path"] = raw.removeprefix(self._base.encode()) or b"/"
        # Each request has a copy of the state's first level (ASGI, "Lifespan State").
        scope["state"] = dict(lease.state)
        if scope["type"] != "http":  # a web socket ends when its client closes it, possibly never
            await lease.app(scope, receive, send)
            return
        task = asyncio.current_task()
        assert task is not None, "uvicorn creates one for each call"
        with app_call(lease.app, task.cancel):
            await lease.app(scope, receive, send)

    def _is_to_start(self) -> bool:
        return self._app.version is not None and not (self._lease and self._lease.is_up)

    async def _started(self) -> HostedApp:
        lease = self.lease()
        if not lease.started.done():
            # In an empty context: the cell that runs is waiting, and not the code on the host.
            contextvars.Context().run(lease.announce_wait)
            await lease.wait_started_async()
        lease.started.result()
        return lease


class ServersCredentials:
    """What the running app demands of its clients by its own settings, if it is Prefect's server."""

    def __init__(self, app: EphemeralApp) -> None:
        self._app = app

    def __iter__(self) -> Iterator[SecretStr]:
        server = self._app.running
        if isinstance(server, PrefectServer) and server.auth_string is not None:
            yield server.auth_string


class Gate:
    """An app that is always up. A lease of it keeps the host's thread running for a port."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan", "it gets no requests"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
