"""Detect errors that mean that this version of the server does not have an operation.

The server's description is requested only if an error can mean this, so successful calls cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from orchnb.api.server_document import server_version
from orchnb.errors import OperationNotFound, OrchnbError, PrefectHTTPStatusError
from orchnb.http.calls import Call, LongSteps
from orchnb.http.effects import Sleep
from orchnb.openapi.discovery import FoundDescription
from orchnb.text import one_line

T = TypeVar("T")

_NO_SUCH_ROUTE = "Not Found"
"""The whole message of a Prefect-compatible server for an unknown path, or for an invalid id."""


def or_unsupported(
    steps: LongSteps[T],
    name: str,
    api_url: str,
    find: Callable[[], Generator[Call[Any], Any, FoundDescription]],
) -> Generator[Call[Any] | Sleep, Any, T]:
    """Make the operation's calls; if the server does not have one of them, the error says so.

    Args:
        name: the operation's name.
        find: returns the calls that get the server's description.

    Raises:
        OperationNotFound: the server's description does not contain this operation.
    """
    try:
        result: T = yield from steps
    except PrefectHTTPStatusError as exc:
        if not _may_be_unsupported(exc, api_url):
            raise
        refusal = exc
    else:
        return result
    try:
        found = yield from find()
        if found.has(refusal.request.method, str(refusal.request.url)):
            raise refusal
        version = yield from server_version()
    except (OrchnbError, httpx.HTTPError):
        raise refusal from None  # nothing more is known than this error
    which = f"version {one_line(version, 80)}" if version else "by its own description"
    answered = f"{refusal.status_code} {refusal.response.reason_phrase}".strip()
    error = OperationNotFound.from_status_error(
        refusal,
        f"The server, {which}, does not have {name}: {answered} for {refusal.request.method} "
        f"{refusal.request.url}",
    )
    error.hint = (
        "This operation needs another version of the server, usually a newer one; client.operations "
        "lists the operations of this one."
    )
    raise error


def _may_be_unsupported(error: PrefectHTTPStatusError, api_url: str) -> bool:
    request = error.request
    if "json" not in error.response.headers.get("content-type", ""):
        return False  # from a web page
    if error.status_code == 404 and error.detail == _NO_SUCH_ROUTE:
        place = urlsplit(str(request.url)).path.removeprefix(urlsplit(api_url).path.rstrip("/"))
        # Every version has paths such as /flows/{id}: there the 404 means an invalid id.
        is_objects = place.count("/") == 2 and not place.startswith("/admin/")
        return request.method == "POST" or not is_objects
    return error.status_code == 405
