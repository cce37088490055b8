"""Both clients on the real Prefect server, in this process and over HTTP, for a whole module of tests.

A module takes the fixtures over by their names: ``client = both.client``, and so on.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, TypeVar

import pytest
from packaging.version import Version

from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.hosting.host import HostedApp
from tests.api.conftest import opened

T = TypeVar("T")

SQLALCHEMY = [
    pytest.mark.filterwarnings("ignore:Type object:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning"),
]
"""Its warnings are the business of Prefect's server."""

SERVERS_VERSION = Version(version("prefect"))
"""That of the servers here: they are run from the same environment as the tests."""


def since(first: str) -> pytest.MarkDecorator:
    """For a test of what Prefect's server can do from this version on; test_lacking.py has the others."""
    return pytest.mark.skipif(
        Version(first) > SERVERS_VERSION,
        reason=f"Prefect's server has this from {first} on, and here is {SERVERS_VERSION}",
    )


@pytest.fixture(scope="module", autouse=True)
def server_here(in_process_app: EphemeralApp) -> Iterator[None]:
    """The server in this process stays up for the module: a start takes a second."""
    lease = HostedApp(in_process_app)
    lease.wait_started()
    yield
    lease.close()
    assert lease.wait_closed()


@pytest.fixture
def nothing_is_left() -> None:
    """Instead of the check after each test; what it looks at is checked by the fixture above."""


@pytest.fixture(params=["in-process", "http"])
def client(
    request: pytest.FixtureRequest, in_process_app: EphemeralApp, server_url: str, kind: str
) -> Iterator[Any]:
    """Each client on each server."""
    with opened(kind, server_url if request.param == "http" else in_process_app) as client:
        yield client


@pytest.fixture
def name() -> str:
    """A name that no other test has used: the server over HTTP is everybody's."""
    return f"name-{uuid.uuid4()}"


def eventually(read: Callable[[], T], is_there: Callable[[T], bool], seconds: float = 20) -> T:
    """What a read gives once it is as it should be; the last thing it gave if it never was."""
    deadline = time.monotonic() + seconds
    while True:
        found = read()
        if is_there(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
