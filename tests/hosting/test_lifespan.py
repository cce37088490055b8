"""What app_lifespan_context promises, one by one."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import weakref
from contextlib import asynccontextmanager
from typing import Any

import anyio
import fastapi
import pytest
import starlette.applications

from orchnb.asgi import ASGIApp
from orchnb.errors import LifespanStartupFailed
from orchnb.hosting import lifespan
from orchnb.hosting.host import HostedApp
from orchnb.hosting.lifespan import app_lifespan_context, lifespan_state
from tests.hosting.apps import (
    COMPLETE,
    SHUTDOWN,
    SHUTDOWN_COMPLETE,
    STARTUP,
    ScriptedApp,
    jumping_backend,
    run_jumping,
)

WHOLE_PERIOD = [STARTUP, COMPLETE, SHUTDOWN, SHUTDOWN_COMPLETE]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return jumping_backend(request.param)


class Visitor:
    """Somebody inside of an app's lifespan, until told to leave."""

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        self.app = app
        self.options = options
        self.scope = anyio.CancelScope()
        self.may_leave = anyio.Event()
        self.inside = anyio.Event()
        self.left = anyio.Event()

    async def visit(self) -> None:
        with self.scope:
            async with app_lifespan_context(self.app, **self.options):
                self.inside.set()
                await self.may_leave.wait()
        self.left.set()


@pytest.mark.anyio
async def test_whoever_leaves_first_waits_for_nobody_in_whatever_order_they_leave() -> None:
    app = ScriptedApp()
    visitors = [Visitor(app) for _ in range(3)]
    async with anyio.create_task_group() as group:
        for visitor in visitors:
            group.start_soon(visitor.visit)
            await visitor.inside.wait()
        for visitor in (visitors[0], visitors[2], visitors[1]):
            assert app.is_up
            visitor.may_leave.set()
            await visitor.left.wait()
    assert app.messages == WHOLE_PERIOD


@pytest.mark.anyio
async def test_one_apps_slow_start_delays_no_other_app() -> None:
    slow, quick = ScriptedApp("when_told"), ScriptedApp()
    waiting = Visitor(slow)
    async with anyio.create_task_group() as group:
        group.start_soon(waiting.visit)
        await slow.start_reached.wait()
        async with app_lifespan_context(quick):
            assert quick.is_up
        assert not waiting.inside.is_set()
        waiting.may_leave.set()
        slow.may_start.set()
    assert quick.messages == slow.messages == WHOLE_PERIOD


@pytest.mark.anyio
async def test_entering_while_the_last_period_shuts_down_waits_and_starts_anew() -> None:
    app = ScriptedApp(shutdown="slow")
    first, second, third = Visitor(app), Visitor(app), Visitor(app)
    async with anyio.create_task_group() as group:
        group.start_soon(first.visit)
        await first.inside.wait()
        first.may_leave.set()
        await anyio.wait_all_tasks_blocked()
        assert app.messages == WHOLE_PERIOD[:-1]
        group.start_soon(second.visit)
        group.start_soon(third.visit)
        await anyio.wait_all_tasks_blocked()
        assert app.calls == 1
        app.released.set()
        await second.inside.wait()
        await third.inside.wait()
        assert first.left.is_set()
        second.may_leave.set()
        third.may_leave.set()
    assert app.messages == WHOLE_PERIOD * 2


@pytest.mark.anyio
async def test_who_waits_for_the_last_periods_end_can_give_up_at_once() -> None:
    app = ScriptedApp(shutdown="slow")
    first, second = Visitor(app), Visitor(app)
    async with anyio.create_task_group() as group:
        group.start_soon(first.visit)
        await first.inside.wait()
        first.may_leave.set()
        await anyio.wait_all_tasks_blocked()
        group.start_soon(second.visit)
        await anyio.wait_all_tasks_blocked()
        second.scope.cancel()
        await second.left.wait()
        assert not first.left.is_set()
        app.released.set()
    assert app.messages == WHOLE_PERIOD


@pytest.mark.anyio
async def test_an_app_that_was_left_behind_does_not_keep_the_next_period_from_starting() -> None:
    """It swallowed its cancellation; whoever waited for its end goes on at the same moment."""
    app = ScriptedApp(shutdown="swallows_cancellation")
    first, second = Visitor(app, shutdown_timeout=2), Visitor(app)
    async with anyio.create_task_group() as group:
        group.start_soon(first.visit)
        await first.inside.wait()
        first.may_leave.set()
        await anyio.wait_all_tasks_blocked()
        stuck, app.is_called = app.released, False
        app.released, app.shutdown = anyio.Event(), "ok"
        group.start_soon(second.visit)
        await second.inside.wait()
        assert first.left.is_set()
        second.may_leave.set()
        await second.left.wait()
        stuck.set()
    assert app.messages == [*WHOLE_PERIOD[:3], *WHOLE_PERIOD]


@pytest.mark.anyio
async def test_an_app_that_is_cancelled_can_clean_up_however_many_wait_for_its_end() -> None:
    app = ScriptedApp(shutdown="cleans_up_when_cancelled")
    first, second, third = Visitor(app, shutdown_timeout=2), Visitor(app), Visitor(app)
    async with anyio.create_task_group() as group:
        group.start_soon(first.visit)
        await first.inside.wait()
        first.may_leave.set()
        await anyio.wait_all_tasks_blocked()
        app.shutdown = "ok"
        group.start_soon(second.visit)
        await anyio.sleep(2.25)  # it is cleaning up
        group.start_soon(third.visit)
        second.may_leave.set()
        third.may_leave.set()
    assert app.messages[:4] == [*WHOLE_PERIOD[:3], "cleaned up"]
    assert app.messages[4:] in (WHOLE_PERIOD, WHOLE_PERIOD * 2)


@pytest.mark.anyio
async def test_who_gives_up_before_the_start_has_even_begun_leaves_at_once_and_nothing_behind() -> (
    None
):
    app = ScriptedApp()
    began = anyio.current_time()
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with app_lifespan_context(app):
            raise AssertionError("it was cancelled")
    assert anyio.current_time() == began
    assert not app.is_called
    assert not lifespan._lifespans
    async with app_lifespan_context(app):
        assert app.is_up


@pytest.mark.anyio
async def test_a_failed_start_is_over_before_the_next_one_begins() -> None:
    """An app that has said that it failed may still be cleaning up."""
    app = ScriptedApp("failed_and_hangs")
    began = anyio.current_time()
    for start in ("failed_and_hangs", "ok"):
        app.start = start
        try:
            async with app_lifespan_context(app, shutdown_timeout=2):
                assert app.calls == 2
        except LifespanStartupFailed:
            assert not app.is_called
    assert anyio.current_time() - began == pytest.approx(2)
    assert app.messages[-4:] == WHOLE_PERIOD
    assert "called while it is called" not in app.messages


@pytest.mark.anyio
async def test_who_comes_while_a_failed_start_still_cleans_up_waits_for_that() -> None:
    app = ScriptedApp("failed_and_hangs")
    second = Visitor(app)

    async def fail() -> None:
        with pytest.raises(LifespanStartupFailed):
            async with app_lifespan_context(app, shutdown_timeout=2):
                pass

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        await anyio.wait_all_tasks_blocked()
        app.start = "ok"
        group.start_soon(second.visit)
        second.may_leave.set()
    assert app.messages[-4:] == WHOLE_PERIOD
    assert "called while it is called" not in app.messages


@pytest.mark.anyio
async def test_who_comes_when_a_start_has_failed_but_nobody_has_been_told_yet_starts_afresh() -> (
    None
):
    app = ScriptedApp("failed_and_hangs")

    async def fail() -> None:
        with pytest.raises(LifespanStartupFailed):
            async with app_lifespan_context(app, shutdown_timeout=2):
                pass

    async def come_later() -> None:
        await app.start_reached.wait()
        app.start = "ok"
        async with app_lifespan_context(app):
            assert app.is_up

    async with anyio.create_task_group() as group:
        group.start_soon(come_later)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(fail)
    assert app.messages[-4:] == WHOLE_PERIOD


@pytest.mark.anyio
async def test_an_app_that_crashes_is_reported_and_the_next_entry_starts_it_afresh(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = ScriptedApp("complete_and_crash_when_told")
    async with app_lifespan_context(app):
        app.released.set()
        await anyio.wait_all_tasks_blocked()
        assert caplog.messages == ["The lifespan of the app 'scripted' failed: the scheduler died"]
        app.start = "ok"
        async with app_lifespan_context(app):
            assert app.is_up
    assert app.messages == [STARTUP, COMPLETE, *WHOLE_PERIOD]


@pytest.mark.anyio
@pytest.mark.parametrize("start", ["unsupported", "silent", "complete_and_return"])
async def test_an_app_whose_lifespan_call_returned_early_is_not_called_again_while_it_serves(
    start: str,
) -> None:
    app = ScriptedApp(start)
    async with app_lifespan_context(app):
        await anyio.wait_all_tasks_blocked()
        async with app_lifespan_context(app):
            assert app.calls == 1
    async with app_lifespan_context(app):
        assert app.calls == 2


@pytest.mark.anyio
async def test_a_start_that_completes_when_all_have_just_given_up_is_a_cancelled_start() -> None:
    """Never one that has completed and is then cut short without a shutdown."""
    app = ScriptedApp("when_told")
    visitor = Visitor(app)
    completed: list[str] = []

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            await send(message)
            completed.append(message["type"])

        await app(scope, receive, sending)

    visitor.app = wrapped
    async with anyio.create_task_group() as group:
        group.start_soon(visitor.visit)
        await app.start_reached.wait()
        app.may_start.set()
        visitor.scope.cancel()
    assert completed in ([], ["lifespan.startup.complete", "lifespan.shutdown.complete"])
    assert not app.is_called


@pytest.mark.anyio
async def test_the_state_that_a_lifespan_sets_up_can_be_asked_while_it_is_up() -> None:
    @asynccontextmanager
    async def with_state(app: object) -> Any:
        yield {"pool": "a pool"}

    app = starlette.applications.Starlette(lifespan=with_state)
    assert lifespan_state(app) == {}
    async with app_lifespan_context(app):
        assert lifespan_state(app) == {"pool": "a pool"}
    assert lifespan_state(app) == {}


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [starlette.applications.Starlette, fastapi.FastAPI])
async def test_frameworks_apps_start_and_end_once_and_fail_in_their_own_words(kind: Any) -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: object) -> Any:
        if not events:
            events.append("failed")
            raise OSError("no database")
        events.append("up")
        yield
        events.append("down")

    app = kind(lifespan=lifespan)
    with pytest.raises(LifespanStartupFailed, match="OSError: no database"):
        async with app_lifespan_context(app):
            pass
    async with app_lifespan_context(app), app_lifespan_context(app):
        assert events == ["failed", "up"]
    assert events == ["failed", "up", "down"]


@pytest.mark.anyio
async def test_the_error_behind_a_failed_start_is_its_cause() -> None:
    with pytest.raises(LifespanStartupFailed) as caught:
        async with app_lifespan_context(ScriptedApp("raises")):
            pass
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_without_a_running_loop_the_error_says_what_is_needed() -> None:
    entry = app_lifespan_context(ScriptedApp()).__aenter__()
    with pytest.raises(RuntimeError, match="needs a running asyncio or trio event loop"):
        entry.send(None)


def test_what_is_an_asgi_app() -> None:
    assert isinstance(ScriptedApp(), ASGIApp)
    assert not isinstance("http://127.0.0.1", ASGIApp)


def test_a_second_native_cancellation_leaves_the_shutdown_to_the_owner() -> None:
    """Who waits for a shutdown can be torn away from it; the shutdown goes on, and is bounded."""
    app = ScriptedApp(shutdown="slow")

    async def visit() -> None:
        async with app_lifespan_context(app):
            await anyio.sleep_forever()

    async def main() -> None:
        task = asyncio.create_task(visit())
        await anyio.wait_all_tasks_blocked()
        for _ in range(2):
            task.cancel()
            await anyio.wait_all_tasks_blocked()
        assert task.cancelled()
        app.released.set()
        async with app_lifespan_context(app):
            assert app.messages == [*WHOLE_PERIOD, STARTUP, COMPLETE]

    run_jumping("asyncio", main)
    assert app.messages == WHOLE_PERIOD * 2


def test_an_interrupt_in_a_start_up_ends_the_loop_and_leaves_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise KeyboardInterrupt

    async def main() -> None:
        async with app_lifespan_context(app):
            pass

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert not lifespan._lifespans


def test_the_end_of_a_loop_cancels_the_app_and_leaves_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = ScriptedApp()

    async def visit() -> None:
        async with app_lifespan_context(app):
            await anyio.sleep_forever()

    async def main() -> None:
        task = asyncio.create_task(visit())
        await anyio.wait_all_tasks_blocked()
        assert app.is_up
        assert not task.done()

    asyncio.run(main())
    assert app.messages[:2] == [STARTUP, COMPLETE]
    assert not app.is_called
    assert not lifespan._lifespans


@pytest.mark.parametrize("framework", [False, True], ids=["plain", "starlette"])
def test_loops_that_were_closed_without_a_shutdown_are_swept_quietly(
    framework: bool, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Dead periods go when the next begins, and what is left of their tasks reports nothing."""
    apps: list[weakref.ref[Any]] = []
    for _ in range(20):
        app = starlette.applications.Starlette() if framework else ScriptedApp()
        entry = app_lifespan_context(app)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(entry.__aenter__())
        loop.close()
        assert len(lifespan._lifespans) == 1
        apps.append(weakref.ref(app))
    del app, entry

    async def visit() -> None:
        async with app_lifespan_context(ScriptedApp()):
            pass

    asyncio.run(visit())
    assert not lifespan._lifespans
    gc.collect()
    assert not [app for app in apps if app() is not None]
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_nothing_grows_as_apps_and_loops_come_and_go() -> None:
    async def visit(app: ASGIApp) -> None:
        async with app_lifespan_context(app):
            pass

    async def many_apps() -> None:
        for _ in range(1000):
            await visit(ScriptedApp())
        await anyio.wait_all_tasks_blocked()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(visit(ScriptedApp()))
    gc.collect()
    before = sum(isinstance(item, (lifespan._Lifespan, ScriptedApp)) for item in gc.get_objects())
    asyncio.run(many_apps())
    app = ScriptedApp()
    for _ in range(100):
        asyncio.run(visit(app))
    assert app.messages == WHOLE_PERIOD * 100
    del app
    gc.collect()
    after = sum(isinstance(item, (lifespan._Lifespan, ScriptedApp)) for item in gc.get_objects())
    assert not lifespan._lifespans
    assert after == before


class CountingApp:
    """An app that counts its starts and ends, on whatever thread."""

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.ends: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.starts.append(threading.current_thread().name)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.ends.append(threading.current_thread().name)
        await send({"type": "lifespan.shutdown.complete"})


def _in_threads(count: int, target: Any) -> None:
    threads = [threading.Thread(target=target, name=f"user-{n}") for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_four_threads_with_a_loop_each_start_the_app_once_per_loop() -> None:
    app = CountingApp()
    all_in = threading.Barrier(4)

    async def visit() -> None:
        async with app_lifespan_context(app), app_lifespan_context(app):
            all_in.wait(10)

    _in_threads(4, lambda: asyncio.run(visit()))
    assert sorted(app.starts) == sorted(app.ends) == ["user-0", "user-1", "user-2", "user-3"]


def test_four_threads_start_a_hosted_app_once_per_process() -> None:
    app = CountingApp()
    all_in = threading.Barrier(4)

    def visit() -> None:
        hosted = HostedApp(app)
        hosted.wait_started()
        all_in.wait(10)
        hosted.close()
        assert hosted.wait_closed()

    _in_threads(4, visit)
    assert app.starts == app.ends == ["orchnb-host"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_starts_clean_and_the_parent_goes_on() -> None:
    """The child is forked while the app is up on the parent's loop, and its lock is held."""
    app = ScriptedApp()

    async def visit() -> None:
        async with app_lifespan_context(app):
            assert app.is_up

    async def main() -> int:
        async with app_lifespan_context(app):
            lifespan._lock.acquire()  # as a thread would that does not live on in the child
            pid = os.fork()
            if pid == 0:
                code = 1
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(10)  # rather than that a child hangs for ever
                try:
                    asyncio._set_running_loop(None)
                    app.messages.clear()
                    app.is_called = False
                    asyncio.run(visit())
                    code = 0 if app.messages == WHOLE_PERIOD and not lifespan._lifespans else 2
                finally:
                    os._exit(code)
            lifespan._lock.release()
            _, status = os.waitpid(pid, 0)
            assert app.is_up
        return os.waitstatus_to_exitcode(status)

    assert asyncio.run(main()) == 0
    assert app.messages == WHOLE_PERIOD
