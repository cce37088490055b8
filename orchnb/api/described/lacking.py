"""Whether a refusal means that the server does not have an operation: its versions differ in that.

The server is asked what it has only where its answer may mean this, so good calls cost nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from orchnb.api.calls import Call, Steps
from orchnb.api.described.document import PLACEHOLDER
from orchnb.api.described.loading import Found, server_version
from orchnb.errors import OperationNotFound, OrchnbError, PrefectHTTPStatusError
from orchnb.http.response import one_line

T = TypeVar("T")

_NO_SUCH_ROUTE = "Not Found"
"""All that servers of Prefect's kind say to a path that is none of theirs, or to an id that is no id."""


def or_lacking(
    steps: Steps[T],
    name: str,
    api_url: str,
    find: Callable[[], Generator[Call[Any], Any, Found]],
) -> Generator[Call[Any], Any, T]:
    """The operation's calls; if the server turns out not to have one of them, the error says so.

    Args:
        name: what the operation is called.
        find: the calls that get what the server says of itself.

    Raises:
        OperationNotFound: the server describes itself, and this operation is not there.
    """
    try:
        result: T = yield from steps
    except PrefectHTTPStatusError as exc:
        if not _may_be_lacking(exc, api_url):
            raise
        refusal = exc
    else:
        return result
    try:
        if _describes((yield from find()), refusal.request):
            raise refusal
        version = yield from server_version()
    except (OrchnbError, httpx.HTTPError):
        raise refusal from None  # what is known already is what there is to say
    which = f"of version {one_line(version, 80)}" if version else "as it describes itself"
    answered = f"{refusal.status_code} {refusal.response.reason_phrase}".strip()
    error = OperationNotFound.from_status_error(
        refusal,
        f"The server, {which}, does not have {name}: {answered} for {refusal.request.method} "
        f"{refusal.request.url}",
    )
    error.hint = (
        "It takes a server of another version, mostly a newer one; client.operations shows what this "
        "one can do."
    )
    raise error


def _may_be_lacking(error: PrefectHTTPStatusError, api_url: str) -> bool:
    request = error.request
    if "json" not in error.response.headers.get("content-type", ""):
        return False  # a web page's
    if error.status_code == 404 and error.detail == _NO_SUCH_ROUTE:
        place = urlsplit(str(request.url)).path.removeprefix(urlsplit(api_url).path.rstrip("/"))
        # At such as /flows/{id} every version has its objects: there the id is none.
        is_objects = place.count("/") == 2 and not place.startswith("/admin/")
        return request.method == "POST" or not is_objects
    return error.status_code == 405


def _describes(found: Found, request: httpx.Request) -> bool:
    description, place = found
    asked = urlsplit(str(request.url)).path.split("/")
    for operation in description.operations:
        if operation.method == request.method:
            address = place.address(description.servers, operation.path)
            whole = address if "://" in address else f"{place.url}{address}"
            if _fits(asked, urlsplit(whole).path.split("/")):
                return True
    return False


def _fits(segments: list[str], template: list[str]) -> bool:
    return len(segments) == len(template) and all(
        expected == segment or PLACEHOLDER.search(expected)
        for segment, expected in zip(segments, template, strict=True)
    )
