"""One kernel with an open port and one browser for the attacks of pages, one process for all others."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests import servers
from tests.notebook.kernels import kernel
from tests.security.opened import Opened, opened_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-sandbox",
    "--host-resolver-rules=MAP evil.test 127.0.0.1",
)


@dataclass(frozen=True)
class Port:
    """A port that a kernel has opened."""

    number: int
    base: str
    """The path of its pages."""
    auth: tuple[str, str] = field(repr=False)
    links: list[str] = field(repr=False)
    """Unused links that sign a browser in, of cards that the kernel has shown."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.number}"

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """What the owner's programs are told."""
        options = {"auth": self.auth, "trust_env": False, "timeout": 30, **options}
        answer = httpx.request(method, f"{self.address}/api{path}", **options)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def contents(self) -> dict[str, Any]:
        """What is in the database, as far as these tests write to it."""
        kinds = ("flows", "flow_runs", "variables", "block_documents")
        found = {
            kind: [
                (each["id"], each["updated"])
                for each in self.ask("POST", f"/{kind}/filter", json={})
            ]
            for kind in kinds
        }
        events = self.ask("POST", "/events/filter", json={"filter": {}})["events"]
        found["events"] = [event for event in events if "evil" in repr(event)]
        return found


@pytest.fixture(scope="package")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """A process with a port, for those who need no notebook and no browser."""
    with opened_port(tmp_path_factory.mktemp("opened")) as running:
        yield running


START = """
%load_ext orchnb
client = orchnb.get_client()
run = await client.create_flow_run('etl', name='first-of-all')
await client.create_variable(name='precious', value='the value of a variable')
"""

SHOW = "from orchnb.notebook import extension as _extension\n_extension._loaded.session.served"


@pytest.fixture(scope="package")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    """The port of a kernel with a Prefect server that has something to lose."""
    folder = tmp_path_factory.mktemp("port")
    home = servers.prefect_home(folder / "prefect-home")
    with kernel(folder, PREFECT_HOME=str(home), PYTHONPATH=str(servers.ROOT)) as cell:
        shown = cell(START)
        assert not shown.errors, shown.traceback
        links = []
        for _ in range(8):
            shown = cell("%orch_serve")
            assert not shown.errors, shown.traceback
            links += re.findall(r'href="(http://127[^"]+)"', shown.html)
        address, base = re.fullmatch(r"(http://[\d.:]+)(/\w+)/.*", links[0]).groups()  # type: ignore[union-attr]
        auth_string = cell.value(f"{SHOW}.auth_string.get_secret_value()").strip("'")
        user, _, password = auth_string.partition(":")
        yield Port(int(address.rpartition(":")[2]), base, (user, password), links)


# Not for longer: playwright has an event loop running in this thread until it is left.
@pytest.fixture(scope="module")
def browser(
    port: Port,  # before it, as a kernel's client is not for a thread with a running loop
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Browser]:
    """The system's Chromium, for which evil.test is this machine."""
    if not os.environ.get("CI"):
        pytest.importorskip("playwright")
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no chromium on the PATH")
    home = str(tmp_path_factory.mktemp("browser"))
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium, args=FLAGS, env={**os.environ, "HOME": home}
        )
        try:
            yield running
        finally:
            running.close()
