"""Deploy a flow from the cell that defines it."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchnb.api.client import PrefectClient
from orchnb.api.context import get_client
from orchnb.api.models import Deployment
from orchnb.errors import ObjectNotFound, SourceNotFound
from orchnb.runs.cell_sources import module_source
from orchnb.runs.serving import (
    FlowProcess,
    ServedFlow,
    failed_to_serve,
    remember,
    serving_source,
    write_source,
)

_PATIENCE = 120.0
"""Seconds until the deployment is there: the process imports Prefect and the flow's own modules."""


async def serve(
    flow: Any,
    name: str,
    *,
    cron: str | Iterable[str] | None = None,
    interval: float | timedelta | None = None,
    rrule: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    tags: Iterable[str] | None = None,
    description: str | None = None,
    limit: int | None = None,
    to_file: str | Path | None = None,
    detach: bool = False,
    timeout: float = _PATIENCE,
    client: PrefectClient | None = None,
) -> ServedFlow:
    """Deploy a flow from the cell that defines it, and execute its runs in a process on this machine.

    The flow's source goes to a file, with the imports and definitions of other cells that it uses. The
    process uses the current server. It ends with the notebook, and when you switch to another server;
    then Prefect pauses the schedules, if it gets the time: a kernel that is killed may leave them active.
    To serve the same name again replaces the deployment and the process. The arguments that are not
    listed here are those of Prefect's ``Flow.serve``.

    Args:
        flow: the flow. It may also be defined in a module.
        name: the deployment's name.
        interval: seconds between two runs, or a timedelta.
        to_file: the file to write, for example to keep it in version control; by default a file in the
            user's data folder.
        detach: whether the process goes on when the notebook ends; ``stop()`` or ``kill`` ends it then.
        timeout: seconds to wait for the deployment.
        client: the client of the server; by default that of the notebook.

    Raises:
        TypeError: ``flow`` is not a Prefect flow, or an argument cannot be written to a file.
        SourceNotFound: the flow uses something that is in no cell's source.
        FileExistsError: ``to_file`` exists with other content.
        ServingFailed: the process ended, or the deployment is not there in time. The process is ended.
    """
    function = getattr(flow, "fn", None)
    if function is None or not callable(getattr(flow, "serve", None)):
        raise TypeError(
            f"serve() takes a Prefect flow, not {type(flow).__name__}: decorate the function with @flow"
        )
    variable = function.__name__
    source = serving_source(
        _definition(function, variable),
        variable,
        name=name,
        cron=cron if cron is None or isinstance(cron, str) else list(cron),
        interval=interval,
        rrule=rrule,
        parameters=None if parameters is None else dict(parameters),
        tags=None if tags is None else list(tags),
        description=description,
        limit=limit,
    )
    whole_name = f"{flow.name}/{name}"
    file, log = _files(whole_name, to_file)
    for earlier in _served.pop(whole_name, ()):
        await asyncio.to_thread(earlier.stop)
    write_source(file, source, replace=to_file is None)
    async with _opened(client) as opened:
        before = await _deployment(opened, whole_name)
        process = FlowProcess(file, log=log, detach=detach)
        if not detach:
            remember(process)
        try:
            deployment = await _appeared(opened, whole_name, before, process, timeout)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(process.stop))
            raise
    _served.setdefault(whole_name, []).append(process)
    return ServedFlow(deployment, process, flow.name)


_served: dict[str, list[FlowProcess]] = {}
"""The processes of this notebook, by the deployment's name."""


def _definition(function: Callable[..., Any], variable: str) -> str:
    """Return the source that defines the flow: its cells', or an import of its module."""
    if function.__module__ != "__main__":
        return f"from {function.__module__} import {variable}\n"
    shell = _shell()
    if shell is None:
        raise SourceNotFound(
            f"serve() deploys flows from notebook cells; in a script, call {variable}.serve() itself"
        )
    # The cells as Python, in the order in which they were executed; see IPython's documentation of `_ih`.
    return module_source(function, list(shell.user_ns.get("_ih", ())), shell.user_ns)


def _shell() -> Any:
    interactive = sys.modules.get("IPython")
    return None if interactive is None else interactive.get_ipython()


def _files(whole_name: str, to_file: str | Path | None) -> tuple[Path, Path]:
    from platformdirs import user_data_path

    folder = user_data_path("orchnb", appauthor=False) / "served"
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"\W+", "_", whole_name).strip("_") or "flow"
    file = folder / f"{stem}.py" if to_file is None else Path(to_file).absolute()
    return file, folder / f"{stem}.log"


class _opened:
    """The given client, which is open, or the notebook's, or a new one for the block."""

    def __init__(self, client: PrefectClient | None) -> None:
        self._given = client
        self._made: PrefectClient | None = None

    async def __aenter__(self) -> PrefectClient:
        if self._given is not None:
            return self._given
        self._made = get_client()
        return await self._made.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        if self._made is not None:
            await self._made.__aexit__(*exc_info)


async def _deployment(client: PrefectClient, whole_name: str) -> Deployment | None:
    try:
        return await client.read_deployment_by_name(whole_name)
    except ObjectNotFound:
        return None


async def _appeared(
    client: PrefectClient,
    whole_name: str,
    before: Deployment | None,
    process: FlowProcess,
    timeout: float,
) -> Deployment:
    """Wait until the process has created the deployment, or updated the one that was there before."""
    until = time.monotonic() + timeout
    while process.is_running:
        deployment = await _deployment(client, whole_name)
        if deployment is not None and (before is None or deployment.updated != before.updated):
            return deployment
        if time.monotonic() > until:
            raise failed_to_serve(process, whole_name, f"no deployment after {timeout:g} s")
        await asyncio.sleep(0.2)
    raise failed_to_serve(process, whole_name, f"its process ended with {process.exit_code}")
