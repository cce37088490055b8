"""The real Prefect server, over HTTP and in this process, and both clients behind one face."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio.from_thread
import pytest

from orchnb import PrefectClient, SyncPrefectClient
from orchnb.hosting.ephemeral import EphemeralApp
from tests.servers import prefect_home, prefect_server


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API of a real Prefect server over HTTP."""
    home = tmp_path_factory.mktemp("server")
    prefect_home(home / ".prefect")
    with prefect_server(home) as url:
        yield url


@pytest.fixture(scope="session")
def in_process_app(tmp_path_factory: pytest.TempPathFactory) -> EphemeralApp:
    """The real server in this process, not started, with a database of its own."""
    home = prefect_home(tmp_path_factory.mktemp("in-process"))
    return EphemeralApp("prefect", home=home, timeout=60)


class _Awaiting:
    """An async client whose methods are awaited on a loop in another thread."""

    def __init__(self, client: PrefectClient, portal: anyio.from_thread.BlockingPortal) -> None:
        self._client = client
        self._portal = portal

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **kwargs: self._portal.call(functools.partial(method, *args, **kwargs))


@contextmanager
def opened(kind: str, api: Any, **options: Any) -> Iterator[Any]:
    """An open client of either kind, whose operations give plain results."""
    if kind == "sync":
        with SyncPrefectClient(api, **options) as client:
            yield client
        return
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(PrefectClient(api, **options)) as async_client,
    ):
        yield _Awaiting(async_client, portal)


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two clients."""
    return str(request.param)
