"""The server's health and version, and its default result storage."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any
from uuid import UUID

from orchnb.api import models
from orchnb.api.answers import a
from orchnb.api.methods import operation
from orchnb.api.operations.coercion import as_id
from orchnb.api.operations.payloads import quoted
from orchnb.api.operations.verbs import delete, get
from orchnb.http.body import LARGEST_SMALL_ANSWER
from orchnb.http.calls import Call, json_of, path, response_of
from orchnb.http.response import PrefectResponse

if TYPE_CHECKING:
    from orchnb.api.models import ServerDefaultResultStorage


_result_storage = a(lambda: models.ServerDefaultResultStorage)


@operation
def hello() -> Call[PrefectResponse]:
    """Send a request to ``/hello`` and return the response, for testing."""
    return Call("GET", path("/hello"), response_of, largest=LARGEST_SMALL_ANSWER)


@operation
def api_healthcheck() -> Generator[Call[Any], Any, Exception | None]:
    """Return None if the API is up, else the error that the request met. Does not raise."""
    try:
        yield from Call("GET", path("/health"), json_of, largest=LARGEST_SMALL_ANSWER)
    except Exception as exc:  # noqa: BLE001 - returned, as documented
        return exc
    return None


@operation
def api_version() -> Call[str]:
    """Return the server's version, such as ``3.8.8``."""
    return Call("GET", path("/admin/version"), a(lambda: str), largest=LARGEST_SMALL_ANSWER)


@operation
def read_server_default_result_storage() -> Call[ServerDefaultResultStorage]:
    """Read which block stores the results of runs by default."""
    return get(path("/admin/storage"), _result_storage)


@operation
def update_server_default_result_storage(
    default_result_storage_block_id: UUID | str,
) -> Call[ServerDefaultResultStorage]:
    """Set the block that stores the results of runs by default.

    Raises:
        ObjectNotFound: there is no block with that id.
        PrefectHTTPStatusError: 422, the block cannot store files.
    """
    return Call(
        "PUT",
        path("/admin/storage"),
        _result_storage,
        json={
            "default_result_storage_block_id": as_id(
                default_result_storage_block_id, "default_result_storage_block_id"
            )
        },
        missing=f"block with the id {quoted(default_result_storage_block_id)}",
    )


@operation
def clear_server_default_result_storage() -> Call[None]:
    """Remove the default block for the results of runs."""
    return delete(path("/admin/storage"))


class ServerOperations:
    """The server's health and version, and its default result storage."""

    hello = hello
    api_healthcheck = api_healthcheck
    api_version = api_version
    read_server_default_result_storage = read_server_default_result_storage
    update_server_default_result_storage = update_server_default_result_storage
    clear_server_default_result_storage = clear_server_default_result_storage
