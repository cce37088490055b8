"""The private names of httpx, and of h11 below it, that orchnb uses.

Nothing else in orchnb uses them. `tests/test_internals.py` fails when a version of httpx drops one.
"""

from __future__ import annotations

from typing import Any

import httpx

from orchnb.http.proxies import environment_proxies

TRANSPORT_MODULE: str = httpx.HTTPTransport.handle_request.__module__
"""The name of the module of httpx's transports. Their local variables hold messages of errors that quote
a request."""

H11_MODULES = ("h11._events", "h11._headers")
"""The modules of the h11 objects that hold the headers and the data of a request. Without them, local
variables of h11 that hold such objects stay in tracebacks."""


def set_content(request: httpx.Request, content: bytes) -> None:
    """Replace the copy of the body that a request keeps, and that is in its pickles.

    ``Request.content`` cannot be set, and ``Request.read`` keeps a copy as plain bytes. httpx sends
    ``Request.stream``.
    """
    request._content = content


class DefaultTransports:
    """A mix-in for httpx's clients: `make_transport` makes the transports that a client is not given.

    The public way is to pass transports to a client, but then it ignores the proxies set in the
    environment. These are read by `environment_proxies`, as httpx does not understand all of NO_PROXY.
    If httpx renames the methods below, its own transports and proxies are used.
    """

    def make_transport(self, proxy: httpx.Proxy | None = None, **options: Any) -> Any:
        """Return a new transport. The arguments are those of httpx's own transports."""
        raise NotImplementedError

    def _get_proxy_map(self, proxy: Any, allow_env_proxies: bool) -> Any:
        if proxy is not None or not allow_env_proxies:
            return super()._get_proxy_map(proxy, allow_env_proxies)  # type: ignore[misc]
        return environment_proxies(self.base_url.host)  # type: ignore[attr-defined] # httpx's

    def _init_transport(self, transport: Any = None, app: Any = None, **options: Any) -> Any:
        if transport is not None or app is not None:  # httpx 0.27 passes an app as well
            return transport or super()._init_transport(app=app, **options)  # type: ignore[misc]
        return self.make_transport(**options)

    def _init_proxy_transport(self, proxy: httpx.Proxy, **options: Any) -> Any:
        return self.make_transport(proxy=proxy, **options)
