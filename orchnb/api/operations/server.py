"""Whether the server is there, and which."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from orchnb.api.calls import Call, a, json_of, operation, path, response_of
from orchnb.http.response import PrefectResponse


@operation
def hello() -> Call[PrefectResponse]:
    """Say hello; the response is the server's greeting, for testing."""
    return Call("GET", path("/hello"), response_of)


@operation
def api_healthcheck() -> Generator[Call[Any], Any, Exception | None]:
    """None if the API is up, else the error that asking it met; it does not raise."""
    try:
        yield from Call("GET", path("/health"), json_of)
    except Exception as exc:  # noqa: BLE001 - handed over, as promised
        return exc
    return None


@operation
def api_version() -> Call[str]:
    """The server's version, such as ``3.8.8``."""
    return Call("GET", path("/admin/version"), a(lambda: str))


class ServerOperations:
    """Whether the server is there, and which."""

    hello = hello
    api_healthcheck = api_healthcheck
    api_version = api_version
