"""The names of uvicorn that orchnb uses and that its documentation does not mention.

Nothing else in orchnb uses them. `tests/test_internals.py` fails when a version of uvicorn drops one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from orchnb.errors import ServerStartFailed

if TYPE_CHECKING:
    import uvicorn


def protocol_maker(server: uvicorn.Server) -> Callable[[], asyncio.Protocol]:
    """Return a function that creates a server's protocol for a connection that was accepted elsewhere.

    uvicorn has no limit on connections that never send anything, so `orchnb.hosting.port_connections`
    accepts them.

    Raises:
        ServerStartFailed: this version of uvicorn has no such protocols.
    """
    try:
        protocol: Any = server.config.http_protocol_class
        return partial(
            protocol, config=server.config, server_state=server.server_state, app_state={}
        )
    except AttributeError as exc:
        raise _not_supported(str(exc.name)) from None


def has_started(server: uvicorn.Server) -> bool:
    """Return whether a server has begun to serve.

    Raises:
        ServerStartFailed: this version of uvicorn does not say so.
    """
    try:
        return server.started
    except AttributeError as exc:
        raise _not_supported(str(exc.name)) from None


def _not_supported(name: str) -> ServerStartFailed:
    import uvicorn

    return ServerStartFailed(
        f"uvicorn {uvicorn.__version__} is not supported by this version of orchnb: it has no {name}",
        phase="start",
        hint="Upgrade orchnb, or install an older uvicorn.",
    )
