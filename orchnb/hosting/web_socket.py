"""A web socket to an app on the host, for listening to what the app sends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from orchnb.hosting.host import HostedApp
from orchnb.hosting.lifespan import app_call

logger: logging.Logger = logging.getLogger(__name__)


class HostedSocket:
    """One web socket: it sends the first messages, and then listens until either side closes it.

    Args:
        path: the path at the app, without a query.
        first: the messages to send, in order, after the app has accepted the socket.
        receive: called on the host's loop with the text of each message from the app.
    """

    def __init__(
        self,
        hosted: HostedApp,
        path: str,
        *,
        subprotocol: str,
        headers: Sequence[tuple[bytes, bytes]],
        first: Sequence[str],
        receive: Callable[[str], object],
    ) -> None:
        self._hosted = hosted
        self._path = path
        self._subprotocol = subprotocol
        self._headers = [(name.lower(), bytes(value)) for name, value in headers]
        self._unsent: list[MutableMapping[str, Any]] = [{"type": "websocket.connect"}]
        self._unsent += [{"type": "websocket.receive", "text": text} for text in first]
        self._receive_text = receive
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        hosted.host.begin(self)

    def begin(self) -> None:
        """Start the app's call."""
        if not self._is_closed:
            self._task = self._hosted.host.loop.create_task(self._call_app())
            self._task.add_done_callback(self._over)

    def host_ended(self) -> None:
        """Do nothing: nobody waits for the next message."""

    @property
    def is_closed(self) -> bool:
        """Whether it was closed here."""
        return self._is_closed

    def close(self) -> None:
        """Close it, from any thread; no message is passed on after that."""
        self._is_closed = True
        self._hosted.host.post(self._cancel)

    def _cancel(self) -> None:
        # A disconnect would be too slow: Prefect's server looks for one once a second.
        if self._task is None:
            self._hosted.host.calls.discard(self)
        else:
            self._task.cancel()

    def _over(self, task: asyncio.Task[None]) -> None:
        self._hosted.host.calls.discard(self)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._hosted.host.stopping:
            logger.warning("The app failed on a web socket", exc_info=error)

    async def _call_app(self) -> None:
        hosted = self._hosted
        with app_call(hosted.app, self._cancel) as is_up:
            if is_up and not hosted.closed:
                await hosted.app(self._scope(), self._receive, self._send)

    def _scope(self) -> dict[str, Any]:
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                *self._headers,
                (b"sec-websocket-protocol", self._subprotocol.encode()),
            ],
            "subprotocols": [self._subprotocol],
            "server": ("localhost", None),
            "client": ("127.0.0.1", 0),
            "state": self._hosted.state.copy(),
        }

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._unsent:
            return self._unsent.pop(0)
        never: asyncio.Future[MutableMapping[str, Any]] = asyncio.get_running_loop().create_future()
        return await never  # `close` cancels it

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        text = message.get("text")
        if message["type"] == "websocket.send" and isinstance(text, str) and not self._is_closed:
            self._receive_text(text)
