"""The server in this process: the real Prefect server, started, stopped, watched and failing.

Which apps ORCHNB_EPHEMERAL_APP may name is tested in test_app_finder.py.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import io
import logging
import os
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchnb import (
    InvalidSetting,
    PrefectClient,
    ServerStartFailed,
    StartupEvent,
    SyncPrefectClient,
    get_client,
    get_settings,
    observe_startup,
)
from orchnb.api.status import server_status
from orchnb.hosting.ephemeral import (
    EphemeralApp,
    ephemeral_app,
    forget_app,
    host_app,
)
from orchnb.hosting.host import HostedApp, host_log
from orchnb.hosting.lifespan import SHUTDOWN_TIMEOUT
from orchnb.prefect_server.app import _on_a_separate_loop, import_server
from orchnb.prefect_server.services import watching_in_turn
from tests import servers

pytestmark = pytest.mark.filterwarnings("ignore:Type object:DeprecationWarning")  # SQLAlchemy's


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PREFECT_HOME with a database."""
    home = servers.prefect_home(tmp_path / "prefect-home")
    monkeypatch.setenv("PREFECT_HOME", str(home))
    return home


@pytest.fixture
def events() -> Iterator[list[StartupEvent]]:
    """What observers are told."""
    told: list[StartupEvent] = []
    with observe_startup(told.append):
        yield told


def version() -> str:
    """Start the server for one question."""
    with get_client(sync_client=True) as client:
        return client.api_version()


def why_not() -> ServerStartFailed:
    with pytest.raises(ServerStartFailed) as caught:
        version()
    return caught.value


def test_the_phases_are_told_in_order_with_their_times(events: list[StartupEvent]) -> None:
    version()
    awaited = [event for event in events if event.kind == "awaited"]
    assert awaited, "somebody waited"
    assert all(event.over is not None and event.over() for event in awaited)
    told = [event for event in events if event.kind != "awaited"]
    assert [(event.phase, event.kind) for event in told] == [
        ("import", "began"),
        ("import", "ended"),
        ("create", "began"),
        ("create", "ended"),
        ("migrate", "began"),
        ("migrate", "ended"),
        ("start", "began"),
        ("start", "ended"),
    ]
    app = ephemeral_app(get_settings())
    assert [event.elapsed for event in told[1::2]] == list(app.phases.values())
    assert all(event.elapsed == 0 for event in told[::2])
    assert {event.title for event in events} == {app.version_or_title}
    assert min(app.phases["migrate"], app.phases["start"]) > 0.001
    assert app.current_phase is None
    assert not app.is_up


def test_a_home_that_is_a_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with monkeypatch.context() as broken:
        broken.setenv("PREFECT_HOME", str(tmp_path / "file"))
        with pytest.raises(InvalidSetting, match="Fix or remove the file"):
            version()  # already the settings, whose profiles would be there
    assert version()


def test_it_starts_once_for_many_clients_threads_and_loops(events: list[StartupEvent]) -> None:
    def plain(_: int) -> str:
        return version()

    def on_a_loop(_: int) -> list[str]:
        async def one() -> str:
            async with PrefectClient(ephemeral_app(get_settings())) as client:
                return await client.api_version()

        async def several() -> list[str]:
            return list(await asyncio.gather(*(one() for _ in range(5))))

        return asyncio.run(several())

    lease = HostedApp(ephemeral_app(get_settings()))  # so that the first cannot be the last as well
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(plain, range(10)))
        for some in pool.map(on_a_loop, range(2)):
            answers += some
    assert len(answers) == 20
    assert len(set(answers)) == 1
    assert len([event for event in events if event.kind == "ended"]) == 4
    lease.close()
    lease.wait_closed()


def test_it_starts_anew_after_the_last_client_has_left(events: list[StartupEvent]) -> None:
    apps = []
    for times in (1, 2, 3):
        with get_client(sync_client=True) as client:
            client.create_flow_from_name(f"flow-{times}")
            assert len(client.read_flows()) == times  # the same database each time
            apps.append(weakref.ref(ephemeral_app(get_settings()).running._app))
    assert [event.kind for event in events if event.phase == "start"] == ["began", "ended"] * 3
    gc.collect()
    assert [app() for app in apps] == [None] * 3, "Prefect itself keeps them for good"


def test_the_next_start_heeds_the_settings_of_then(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect itself reads its settings once per process."""
    with get_client(sync_client=True) as client:
        client.create_flow_from_name("in the first")
    monkeypatch.setenv("PREFECT_HOME", str(servers.prefect_home(tmp_path / "other")))
    with get_client(sync_client=True) as client:
        assert client.read_flows() == []
        client.create_flow_from_name("in the other")
    for folder, name in ((home, "in the first"), (tmp_path / "other", "in the other")):
        with closing(sqlite3.connect(folder / "prefect.db")) as database:
            assert database.execute("SELECT name FROM flow").fetchall() == [(name,)]


def test_it_keeps_the_process_as_it_was(home: Path) -> None:
    """Prefect's settings, and the database that Prefect's own code may have opened before."""
    environment = dict(os.environ)
    version()
    assert dict(os.environ) == environment
    from prefect.server.database.dependencies import MODELS_DEPENDENCIES, provide_database_interface
    from prefect.settings import (
        PREFECT_SERVER_DATABASE_CONNECTION_URL,
        get_current_settings,
        temporary_settings,
    )

    before = get_current_settings()
    elsewhere = "sqlite+aiosqlite:////nowhere/elsewhere.db"
    with temporary_settings({PREFECT_SERVER_DATABASE_CONNECTION_URL: elsewhere}):
        provide_database_interface()
    opened = MODELS_DEPENDENCIES["database_config"]
    assert opened is not None
    with get_client(sync_client=True) as client:
        client.create_flow_from_name("in its own")
        assert get_current_settings() is before
    assert MODELS_DEPENDENCIES["database_config"] is opened
    MODELS_DEPENDENCIES.update(dict.fromkeys(("database_config", "query_components", "orm")))  # type: ignore[typeddict-item]
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        assert database.execute("SELECT name FROM flow").fetchall() == [("in its own",)]


def test_telemetry_is_off_also_where_prefect_was_imported_before(tmp_path: Path) -> None:
    """Prefect reads its settings when it is imported."""
    code = """
        import prefect.server.api.server
        import orchnb
        from orchnb.hosting.host import host_log
        with orchnb.get_client(sync_client=True) as client:
            client.api_version()
            response = client.request("GET", "/admin/settings")
            print(response.json()["server"]["analytics_enabled"])
        print(any("elemetry" in line for line in host_log.lines(1000)))
    """
    servers.prefect_home(tmp_path / ".prefect")
    done = servers.run_script(code, tmp_path)
    assert done.stdout.split() == ["False", "False"]
    assert done.stderr == ""
    with closing(sqlite3.connect(tmp_path / ".prefect" / "prefect.db")) as database:
        rows = database.execute("SELECT key FROM configuration").fetchall()
    assert "TELEMETRY_SESSION" not in [key for (key,) in rows]


def test_telemetry_stays_on_for_who_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    from orchnb.prefect_server.app import import_server

    app = import_server(get_settings().home)()
    assert app._context.settings.server.analytics_enabled is True  # type: ignore[attr-defined]
    monkeypatch.delenv("PREFECT_SERVER_ANALYTICS_ENABLED")
    app = import_server(get_settings().home)()
    assert app._context.settings.server.analytics_enabled is False  # type: ignore[attr-defined]


def test_its_log_goes_to_the_ring_and_not_to_the_cell(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_SERVER_LOGGING_LEVEL", "DEBUG")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    try:
        with get_client(sync_client=True) as client:
            client.create_flow_run("talkative")
    finally:
        logging.getLogger().removeHandler(handler)
    assert stream.getvalue() == ""
    assert capfd.readouterr() == ("", "")
    assert any(" DEBUG prefect.server" in line for line in host_log.lines(1000))


def test_a_start_keeps_the_log_levels_that_the_person_has_set() -> None:
    import_server(get_settings().home)  # imports Prefect, which sets levels
    chosen = {"": logging.CRITICAL, "prefect": logging.ERROR, "prefect.flow_runs": logging.DEBUG}
    before = {name: logging.getLogger(name).level for name in chosen}
    try:
        for name, level in chosen.items():
            logging.getLogger(name).setLevel(level)
        import_server(get_settings().home)()
        assert {name: logging.getLogger(name).level for name in chosen} == chosen
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def test_it_stops_at_once_in_the_middle_of_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    triggers = importlib.import_module("prefect.server.events.triggers")
    evaluating = threading.Event()

    async def evaluate(as_of: object) -> None:  # what takes milliseconds, at the moment of the stop
        evaluating.set()
        await asyncio.sleep(60)

    monkeypatch.setattr(triggers, "periodic_evaluation", evaluate)
    with get_client(sync_client=True) as client:
        client.hello()
        assert evaluating.wait(30)
        began = time.monotonic()
    assert time.monotonic() - began < SHUTDOWN_TIMEOUT
    assert not [line for line in host_log.lines(20) if "did not end in time" in line]


def test_a_service_that_has_not_begun_ends_with_the_server(home: Path) -> None:
    services = importlib.import_module("prefect.server.events.services.triggers")

    async def stop_before_it_begins() -> None:
        server = import_server(home)()
        async with server.holding_the_process():
            late = asyncio.create_task(services.ReactiveTriggers().start())
            somebodys = asyncio.create_task(asyncio.sleep(60))
        assert late.done()
        assert not somebodys.done()
        somebodys.cancel()

    asyncio.run(stop_before_it_begins())


def test_a_database_in_memory_is_there_while_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:///:memory:")
    for _ in range(2):
        with get_client(sync_client=True) as client:
            assert client.read_flows() == []
            client.create_flow_from_name("kept")
            assert len(client.read_flows()) == 1


def test_who_answers_after_a_migration_has_failed_says_nothing() -> None:
    """As aiosqlite's thread may, on a database that it could not open."""
    loops: list[asyncio.AbstractEventLoop] = []

    def migrate() -> None:
        anyio.from_thread.run_sync(lambda: loops.append(asyncio.get_running_loop()))
        raise OSError("no such folder")

    with pytest.raises(OSError, match="no such folder"):
        _on_a_separate_loop(migrate)
    assert loops[0].is_closed()
    loops[0].call_soon_threadsafe(print)


def test_what_stands_in_prefects_place_is_made_of_prefects_own_function(tmp_path: Path) -> None:
    """Also in a forked child, and beside a server that is about to end: there ours stands already."""
    triggers = importlib.import_module("prefect.server.events.triggers")
    real = triggers.evaluate_proactive_triggers
    with watching_in_turn(tmp_path / "first.lock"):
        first = triggers.evaluate_proactive_triggers
        with watching_in_turn(tmp_path / "second.lock"):
            second = triggers.evaluate_proactive_triggers
            assert first.__wrapped__ is second.__wrapped__ is real
            assert second is not first
        assert triggers.evaluate_proactive_triggers is real
        triggers.evaluate_proactive_triggers = later = object()
    assert triggers.evaluate_proactive_triggers is later, "whoever has changed it since, meant it"
    triggers.evaluate_proactive_triggers = real


def test_a_script_that_forgets_to_close_ends_quietly_and_soon(tmp_path: Path) -> None:
    servers.prefect_home(tmp_path / ".prefect")
    code = """
        import atexit, time
        import orchnb
        client = orchnb.get_client(sync_client=True)
        client.__enter__()
        client.create_flow_run("forgotten")
        print(len(client.read_flow_runs()))
        print(client.request("GET", "/admin/settings").json()["server"]["analytics_enabled"])
        began = time.monotonic()
        # Functions registered with atexit are called after the threads have been waited for.
        atexit.register(lambda: print(time.monotonic() - began < 3))
    """
    done = servers.run_script(code, tmp_path)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["1", "False", "True"], "")


def test_an_async_script_that_forgets_to_close_ends_quietly(tmp_path: Path) -> None:
    code = """
        import asyncio, orchnb
        async def main():
            client = await orchnb.get_client().__aenter__()
            print(len(await client.read_flows()))
        asyncio.run(main())
    """
    app = "tests.api.fakes:tiny_api"
    done = servers.run_script(code, tmp_path, ORCHNB_EPHEMERAL_APP=app)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1", "")


# When it does not start.


def _unwritable(home: Path) -> dict[str, str]:
    return {"PREFECT_HOME": "/proc/orchnb"}


def _corrupt(home: Path) -> dict[str, str]:
    broken = home.parent / "broken"
    broken.mkdir()
    (broken / "prefect.db").write_bytes(b"this is no database" * 1000)
    return {"PREFECT_HOME": str(broken)}


def _url(text: str) -> object:
    return lambda home: {"PREFECT_SERVER_DATABASE_CONNECTION_URL": text}


@pytest.mark.parametrize(
    ("break_it", "phase", "reason"),
    [
        pytest.param(_unwritable, "import", "/proc/orchnb, which cannot be created", id="home"),
        pytest.param(_corrupt, "create", "prefect.db is not an SQLite database", id="corrupt"),
        pytest.param(
            _url("sqlite+aiosqlite:////nonexistent/folder/x.db"),
            "create",
            "/nonexistent/folder/x.db cannot be created: there is no folder /nonexistent/folder",
            id="no-folder",
        ),
        pytest.param(
            _url("postgresql+asyncpg://me:s3cret-pass@127.0.0.1:1/x"),
            "migrate",
            "ConnectionRefusedError",
            id="refused",
        ),
        pytest.param(
            _url("mystery://me:s3cret-pass@127.0.0.1/x"),
            "create",
            "names a mystery database, which Prefect does not support",
            id="unknown-kind",
        ),
        pytest.param(
            _url("://me:s3cret-pass@"), "create", "is not a database address", id="no-url"
        ),
    ],
)
def test_a_database_that_cannot_be_opened_is_told_and_can_be_mended(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    break_it: object,
    phase: str,
    reason: str,
    events: list[StartupEvent],
) -> None:
    with monkeypatch.context() as broken:
        for name, value in break_it(home).items():  # type: ignore[operator]
            broken.setenv(name, value)
        error = why_not()
    assert error.phase == phase
    assert reason in str(error)
    assert "\n" not in str(error)
    assert "PREFECT_HOME" in error.hint
    last = [event for event in events if event.kind != "awaited"][-1]
    assert (last.kind, last.phase) == ("failed", phase)
    if phase == "migrate":
        assert any(reason in line for line in error.log_lines)
    everything = f"{error!r} {error} {error.hint} {error.log_lines} {error.__cause__!r}"
    assert "s3cret" not in everything
    assert error.__suppress_context__
    assert version()  # the next one works, in the same process


def test_an_open_client_starts_it_again_once_it_can(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook's client is opened without waiting, and stays the same object in the next cell."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "prefect.db").write_bytes(b"this is no database" * 1000)
    monkeypatch.setenv("PREFECT_HOME", str(broken))
    client = get_client(sync_client=True)
    client.open()
    with pytest.raises(ServerStartFailed, match="is not an SQLite database"):
        client.api_version()
    with pytest.raises(ServerStartFailed, match="is not an SQLite database"):
        client.api_version()
    (broken / "prefect.db").write_bytes((home / "prefect.db").read_bytes())
    assert client.api_version()
    client.close()


def test_prefect_that_is_not_installed(tmp_path: Path) -> None:
    code = """
        import sys
        class Nowhere:
            def find_spec(self, name, path=None, target=None):
                if name == "prefect" or name.startswith("prefect."):
                    return None
                return find(name, path, target)
            def find_distributions(self, *context):
                return PathFinder.find_distributions(*context)
        from importlib.machinery import PathFinder
        find = PathFinder.find_spec
        sys.meta_path[sys.meta_path.index(PathFinder)] = Nowhere()
        import orchnb
        try:
            orchnb.get_client(sync_client=True).__enter__()
        except orchnb.ServerStartFailed as exc:
            print(exc.phase, "|", exc, "|", exc.hint)
    """
    done = servers.run_script(code, tmp_path)
    assert done.stderr == ""
    assert done.stdout.startswith("import | The Prefect server is not installed")
    assert re.search(r'pip install .*"prefect<3\.\d+,>=3\.6"', done.stdout)


def test_a_start_that_makes_no_progress_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORCHNB_EPHEMERAL_STARTUP_TIMEOUT", "0.001")
    error = why_not()
    assert f"did not start: no progress for 0.001 s (phase: {error.phase})" in str(error)
    assert "ORCHNB_EPHEMERAL_STARTUP_TIMEOUT" in error.hint
    monkeypatch.delenv("ORCHNB_EPHEMERAL_STARTUP_TIMEOUT")
    assert version()


def test_a_start_that_blocks_its_own_loop_does_not_keep_anybody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clock on that loop moves; the waiter's does."""
    blocked, release = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        blocked.set()
        release.wait(30)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    (tmp_path / "blocking.py").write_text("app = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("blocking")
    monkeypatch.setattr(module, "app", app)
    monkeypatch.setattr("orchnb.hosting.ephemeral._GRACE", 0.0)
    server = EphemeralApp("blocking:app", home=tmp_path, timeout=1.0)
    client = SyncPrefectClient(server)
    try:
        with pytest.raises(
            ServerStartFailed,
            match=r"no progress for 1 s \(phase: start\), .*blocks the event loop",
        ):
            client.__enter__()
        assert blocked.is_set()
    finally:
        release.set()
    with SyncPrefectClient(server) as again:
        assert again.is_closed is False


def test_a_service_of_prefects_that_dies_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    base = importlib.import_module("prefect.server.services.base")
    service = base.RunInEphemeralServers.enabled_services()[0]
    die = threading.Event()

    async def start(self: Any) -> None:
        while not die.is_set():
            await asyncio.sleep(0.01)
        raise RuntimeError("the service died")

    monkeypatch.setattr(service, "start", start)
    with get_client(sync_client=True) as client:
        app = ephemeral_app(get_settings())
        assert "in its log" not in str(server_status(get_settings())), host_log.lines(5)
        die.set()
        while not app.errors:
            assert client.api_version()
        assert "in its log: 1 error since it started; see %orch_server_logs --level error" in str(
            server_status(get_settings())
        )
        assert client.create_flow_run("etl").state_type == "PENDING"
    (line,) = (line for line in host_log.lines(50) if "RuntimeError: the service died" in line)
    assert "has failed: test_a_service_of_prefects_that_dies_is_told_of.<locals>.start" in line


def test_a_start_that_follows_a_shutdown_is_asked_for_as_any_is(events: list[StartupEvent]) -> None:
    """What is on its way down, is up no more for whoever comes then."""
    goes_down, may_end = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        goes_down.set()
        await anyio.to_thread.run_sync(may_end.wait, 20)
        await send({"type": "lifespan.shutdown.complete"})

    ours = EphemeralApp("app", home=Path(), timeout=20, given=app)
    first = host_app(ours)
    first.wait_started()
    first.close()
    assert goes_down.wait(20)
    second = host_app(ours)
    may_end.set()
    second.wait_started()
    second.close()
    assert second.wait_closed()
    asked = [event.phase for event in events if event.kind == "awaited"]
    assert len(asked) == 2


def test_an_app_that_is_not_to_come_again_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ORCHNB_EPHEMERAL_HOME", str(tmp_path / "own"))
    app = ephemeral_app(get_settings())
    assert ephemeral_app(get_settings()) is app
    forget_app(app)
    assert ephemeral_app(get_settings()) is not app

    monkeypatch.delenv("ORCHNB_EPHEMERAL_HOME")
    usual = ephemeral_app(get_settings())
    forget_app(usual)
    assert ephemeral_app(get_settings()) is usual, "somebody may ask for the usual one at any time"
