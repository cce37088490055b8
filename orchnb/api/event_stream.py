"""Hints from the server's event stream: which flow runs have just changed.

A hint only says that it is worth asking now. The change itself is read from the API, so an event that is
lost, late, repeated or invented costs time at most: nothing depends on it. Without a stream (a proxy
without web sockets, a server that restarts, a laptop that sleeps) there is only polling.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import ssl
import threading
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol
from uuid import UUID

import httpx

from orchnb.api.operations.coercion import as_uuid
from orchnb.concealed import ConcealedText
from orchnb.http.calls import Call, path
from orchnb.http.concealing import BasicAuth
from orchnb.http.response import PrefectResponse
from orchnb.runtime.futures import ThreadFuture

THREAD_NAME = "orchnb-events"

SUBPROTOCOL = "prefect"
"""Without it Prefect's server does not read the auth message."""

_RUN = "prefect.flow-run."
_BEAT = "prefect.flow-run.heartbeat"

_MOST_IDS = 50
"""Runs that are named to the server, so that it sends only their events; with more, it sends all."""

_LARGEST = 256 * 1024
"""Bytes of one message; an event of a run has about 2,000."""

_PATIENCE = 10.0
"""Seconds for opening a connection."""

_LONGEST_WAIT = 1.0
"""Seconds until a reader notices that it was closed."""

_LONGEST_PAUSE = 60.0
"""Seconds between two attempts to connect, at most."""

_MOST_FAILURES = 4
"""Attempts in a row that fail, after which the stream is not asked for again."""


class Hints(Protocol):
    """An open stream."""

    @property
    def is_closed(self) -> bool:
        """Whether it was closed here."""

    def close(self) -> object:
        """Close it, from any thread."""


@dataclass(frozen=True)
class Listen(Call["Hints | None"]):
    """Open the event stream; the result is None if this client cannot.

    ``hint`` is called on another thread with the id of a run that has changed. ``runs`` are the runs that
    matter; none means all.
    """

    hint: Callable[[UUID], object] = str
    runs: Sequence[UUID] = ()


def listen(hint: Callable[[UUID], object], runs: Sequence[UUID] = ()) -> Listen:
    """Return the call that opens the event stream; see `Listen`."""
    return Listen("GET", path("/events/out"), _unread, hint=hint, runs=runs)


def _unread(response: PrefectResponse) -> None:
    del response  # a web socket has none


def first_messages(call: Listen, token: str | None) -> list[str]:
    """Return what Prefect's server expects at the beginning: who asks, and for which events."""
    now = datetime.now(timezone.utc)
    conditions: dict[str, Any] = {
        "event": {"prefix": [_RUN]},
        # Without an end, it would be now. The server shortens the time before now to what it allows.
        "occurred": {
            "since": (now - timedelta(days=1)).isoformat(),
            "until": (now + timedelta(days=3650)).isoformat(),
        },
    }
    if 0 < len(call.runs) <= _MOST_IDS:
        conditions["resource"] = {"id": [f"{_RUN}{each}" for each in call.runs]}
    return [
        json.dumps({"type": "auth", "token": token}),
        json.dumps({"type": "filter", "backfill": False, "filter": conditions}),
    ]


def hinted_run(text: str) -> UUID | None:
    """Return the id of the flow run that a message says has changed; None for any other message."""
    try:
        message = json.loads(text)
        event = message["event"]
        if not str(event["event"]).startswith(_RUN) or event["event"] == _BEAT:
            return None
        return as_uuid(str(event["resource"]["prefect.resource.id"]).removeprefix(_RUN))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


def can_listen() -> bool:
    """Return whether the library for web sockets is here; it comes with Prefect."""
    return importlib.util.find_spec("websockets") is not None


class RemoteHints:
    """The event stream of a server elsewhere, read by a thread that connects again when it is lost.

    Args:
        url: the address of the stream, ``ws://`` or ``wss://``, without credentials.
        headers: of the handshake: the client's own.
        first: makes the messages to send first.
        hint: called with the id of a run that has changed.
        pause: seconds before the second attempt to connect; each further one waits twice as long.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        context: ssl.SSLContext | None,
        first: Callable[[], Sequence[str]],
        hint: Callable[[UUID], object],
        pause: float = 1.0,
    ) -> None:
        self._pause = pause
        self._url = url
        self._headers = headers
        self._context = context
        self._first = first
        self._hint = hint
        self._closed: ThreadFuture[None] = ThreadFuture()
        # A daemon: it may wait for a server that says nothing.
        thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there are no threads here, or no more
            self._closed.set_result()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed here."""
        return self._closed.done()

    def close(self) -> None:
        """Close it; returns immediately. The connection ends within about a second."""
        self._closed.set_result()

    def _run(self) -> None:
        failures = 0
        while failures < _MOST_FAILURES:
            try:
                if self._read():
                    failures = 0
            except Exception:  # noqa: BLE001, S110 - whatever breaks it, polling goes on; nobody to tell
                pass
            if self._closed.wait(min(self._pause * 2.0**failures, _LONGEST_PAUSE)):
                return
            failures += 1

    def _read(self) -> bool:
        """Read until the connection ends; return whether it began."""
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect

        with connect(
            self._url,
            additional_headers=self._headers,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item] # a NewType of str
            ssl=self._context,
            open_timeout=_PATIENCE,
            max_size=_LARGEST,
            logger=_SILENT,
        ) as socket:
            for text in self._first():
                socket.send(text)
            socket.recv(timeout=_PATIENCE)  # that it accepts the auth message; else it closes
            with suppress(ConnectionClosed):
                while not self._closed.done():
                    with suppress(TimeoutError):
                        message = socket.recv(timeout=_LONGEST_WAIT)
                        run_id = hinted_run(message) if isinstance(message, str) else None
                        if run_id is not None and not self._closed.done():
                            self._hint(run_id)
        return True


_SILENT = logging.Logger("orchnb.events", logging.CRITICAL + 1)
"""websockets logs the headers and messages that it sends, and so the credentials."""


def stream_url(api_url: str) -> str:
    """Return the address of the event stream of an API, without the URL's credentials."""
    url = httpx.URL(api_url)
    scheme = "wss" if url.scheme == "https" else "ws"
    return (
        str(url.copy_with(scheme=scheme, userinfo=b"", query=None, fragment=None)) + "/events/out"
    )


LEAVE_THE_WAY = frozenset(
    {"timeout", "event_hooks", "sleep", "retry_policy", "limits", "headers", "follow_redirects"}
)
"""Arguments for httpx that leave open how the server is reached. With others, such as a proxy or
certificates, the stream could not be opened in the same way."""

_NOT_SENT = frozenset({"accept", "accept-encoding", "connection", "host", "prefect-csrf-token"})


def event_headers(http: httpx.AsyncClient | httpx.Client) -> dict[str, str]:
    """Return a client's headers as those of the handshake, with its credentials."""
    request = http.build_request("GET", "/")
    if isinstance(http.auth, BasicAuth):
        next(http.auth.auth_flow(request))
    return {name: value for name, value in request.headers.items() if name not in _NOT_SENT}


def token_of(headers: Mapping[str, str]) -> str | None:
    """Return the token of Prefect's auth message: the key, or the auth string."""
    scheme, _, secret = headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        with suppress(ValueError):
            return ConcealedText(b64decode(secret).decode())
    return ConcealedText(secret) if secret else None
