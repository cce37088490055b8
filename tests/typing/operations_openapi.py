"""What a server describes, as a user meets it. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from orchnb import PrefectClient, SyncPrefectClient
from orchnb.openapi.namespace import AsyncOperations, SyncOperations


async def asynchronous(client: PrefectClient) -> None:
    operations = assert_type(await client.operations.load(), AsyncOperations)
    assert_type(await operations.flow_runs.read_flow_runs(limit=3), Any)
    for row in operations.flow_runs:
        assert_type(row.summary, str)


def plain(client: SyncPrefectClient) -> None:
    operations = assert_type(client.operations.load(refresh=True), SyncOperations)
    assert_type(operations.flow_runs.read_flow_runs(limit=3), Any)

    client.operations.load(True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
