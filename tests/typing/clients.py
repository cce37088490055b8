"""The types of get_client, inject_client, contexts and observers. Checked, never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from typing_extensions import assert_type

import orchnb
from orchnb import (
    ClientContext,
    PrefectClient,
    RetryEvent,
    StartupEvent,
    SyncPrefectClient,
    get_client,
    get_or_create_client,
    inject_client,
    observe_retries,
    observe_startup,
)


def which(flag: bool) -> None:
    assert_type(get_client(), PrefectClient)
    assert_type(get_client(sync_client=False), PrefectClient)
    assert_type(get_client(sync_client=True), SyncPrefectClient)
    assert_type(get_client({"timeout": 3}), PrefectClient)
    assert_type(get_client({"timeout": 3}, True), SyncPrefectClient)
    assert_type(get_client({"timeout": 3}, sync_client=True), SyncPrefectClient)
    assert_type(get_client(sync_client=flag), PrefectClient | SyncPrefectClient)
    assert_type(get_or_create_client(), tuple[PrefectClient, bool])


def contexts(client: PrefectClient) -> None:
    with ClientContext(client=client) as context:
        assert_type(context, ClientContext)
        assert_type(context.client, PrefectClient | SyncPrefectClient)
    assert_type(ClientContext.get(), ClientContext | None)


@inject_client
async def count(prefix: str, client: PrefectClient | None = None) -> int:
    assert client is not None
    return len([flow for flow in await client.read_flows() if flow.name.startswith(prefix)])


async def injected(client: PrefectClient) -> None:
    _count = assert_type(count("a"), Coroutine[Any, Any, int])
    assert_type(await count("a", client=client), int)
    await count(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def on_retry(event: RetryEvent) -> None: ...


def on_startup(event: StartupEvent) -> None:
    assert_type(event.elapsed, float)


def observers() -> None:
    with observe_retries(on_retry), observe_startup(on_startup):
        pass
    observe_startup(on_retry)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    observe_retries(print)
    assert_type(orchnb.run(count("a")), int)
