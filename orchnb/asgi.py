"""The types of the ASGI protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, runtime_checkable

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@runtime_checkable
class ASGIApp(Protocol):
    """An ASGI 3 application: called with a scope, a way to receive and a way to send messages."""

    def __call__(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send, /
    ) -> Awaitable[None]: ...
