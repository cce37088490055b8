"""An orchnb client works as the ``client`` of Prefect's own functions, and Prefect's ``except`` clauses
catch its errors."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import prefect.exceptions
import pytest
from prefect.blocks.system import Secret
from prefect.client.utilities import inject_client
from prefect.deployments import arun_deployment
from prefect.settings import PREFECT_API_URL, temporary_settings

import orchnb
from orchnb import PrefectClient, SyncPrefectClient


async def use_it(url: str, name: str) -> None:
    @inject_client
    async def injected(client: Any = None) -> Any:
        return client

    async with PrefectClient(url) as client:
        assert await injected(client=client) is client
        await client.create_deployment(name, "d")
        run = await arun_deployment(f"{name}/d", parameters={"a": 1}, timeout=0, client=client)  # type: ignore[arg-type] # ours
        assert (await client.read_flow_run(run.id)).parameters == {"a": 1}
        with pytest.raises(prefect.exceptions.ObjectNotFound):
            await arun_deployment(f"{name}/no-such", timeout=0, client=client)  # type: ignore[arg-type] # ours

        # Prefect finds out whether a block exists by its own exceptions.
        await Secret(value="one").asave(name, client=client)
        with pytest.raises(ValueError, match="already in use"):
            await Secret(value="two").asave(name, client=client)
        await Secret(value="two").asave(name, overwrite=True, client=client)
        assert (await Secret.aload(name, client=client)).get() == "two"
        with pytest.raises(ValueError, match="Unable to find block document"):
            await Secret.aload("no-such", client=client)
        await Secret.adelete(name, client=client)


def test_prefects_functions_take_our_client(server_url: str) -> None:
    with temporary_settings({PREFECT_API_URL: server_url}):
        asyncio.run(use_it(server_url, f"name-{uuid.uuid4()}"))


def test_prefects_except_clauses_catch_our_errors(server_url: str) -> None:
    with SyncPrefectClient(server_url) as client:
        with pytest.raises(prefect.exceptions.ObjectNotFound, match="There is no flow run") as gone:
            client.read_flow_run(uuid.uuid4())
        assert isinstance(gone.value, orchnb.ObjectNotFound)
        name = f"name_{uuid.uuid4().hex}"
        client.create_variable(name, value=1)
        with pytest.raises(prefect.exceptions.ObjectAlreadyExists):
            client.create_variable(name, value=1)
        with pytest.raises(prefect.exceptions.PrefectHTTPStatusError) as told:
            client.read_flows(sort="BY_LUCK")
        assert told.value.response.status_code == 422
