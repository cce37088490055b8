"""The host: one thread for all leases, and what it does when they come, go and fail at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import random
import selectors
import signal
import sys
import threading
import time
import warnings
from typing import Any

import anyio
import httpx
import pytest

from orchnb.api.client import SyncPrefectClient
from orchnb.errors import LifespanStartupFailed, ServerStartFailed
from orchnb.hosting import host as host_module
from orchnb.hosting.host import (
    Host,
    HostedApp,
    close_all,
    host_log,
    on_host_thread,
)
from orchnb.hosting.transport import HostedTransport
from orchnb.runtime.loops import is_hosted
from tests.hosting.apps import COMPLETE, SHUTDOWN, SHUTDOWN_COMPLETE, STARTUP, ScriptedApp
from tests.hosting.leases import lease_host

WHOLE_PERIOD = [STARTUP, COMPLETE, SHUTDOWN, SHUTDOWN_COMPLETE]
SECONDS = 10  # at most; nothing here should take any


def end(*apps: HostedApp) -> None:
    for hosted in apps:
        hosted.close()
    for hosted in apps:
        assert hosted.wait_closed(SECONDS)


class StartingApp(ScriptedApp):
    """An app whose start-up waits until it is told, on the host, to go on."""

    def __init__(self) -> None:
        super().__init__("when_told")
        self.reached = threading.Event()
        # Set in a callback, where anyio 4.4 cannot tell whose loop runs, perhaps before it is waited for.
        self.may_start = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.set()
        await super().__call__(scope, receive, send)


# Made outside of any event loop, to which their events would be bound.


@pytest.fixture
def starting() -> StartingApp:
    return StartingApp()


@pytest.fixture
def failing() -> ScriptedApp:
    return ScriptedApp("failed")


def test_all_leases_share_one_thread_which_ends_with_the_last() -> None:
    first, second = HostedApp(ScriptedApp()), HostedApp(ScriptedApp())
    first.wait_started()
    second.wait_started()
    with lease_host() as host:
        assert host is first.host is second.host
        end(first)
        end(second)
        assert host.thread.is_alive()
    assert host.join(SECONDS)


def test_after_the_last_lease_a_new_host_is_started() -> None:
    app = ScriptedApp()
    threads = []
    for _ in range(3):
        hosted = HostedApp(app)
        hosted.wait_started()
        threads.append(hosted.host.thread)
        end(hosted)
        assert not hosted.host.thread.is_alive()
    assert len(set(threads)) == 3
    assert app.messages == WHOLE_PERIOD * 3


def test_a_new_host_begins_only_when_the_one_before_it_has_ended() -> None:
    """Something that takes its time holds up the end of the first host."""
    ended = threading.Event()
    begun = threading.Event()
    order: list[str] = []

    async def linger() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.to_thread(ended.wait, SECONDS)
            order.append("the first ends")

    with lease_host() as first:
        first.submit(linger())
        assert begun.wait(SECONDS)
    app = ScriptedApp()
    hosted = HostedApp(app)
    hosted.started.when_done(lambda: order.append("the second starts"))
    assert hosted.host is not first
    assert first.thread.is_alive()
    ended.set()
    hosted.wait_started()
    assert order == ["the first ends", "the second starts"]
    assert not first.thread.is_alive()
    end(hosted)


def test_what_swallows_its_cancellation_does_not_keep_the_host_from_ending(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is anything heard of it when it is collected, though it awaits in its last words."""
    monkeypatch.setattr(host_module, "SHUTDOWN_TIMEOUT", 0.05)
    begun = threading.Event()

    async def stubborn() -> None:
        begun.set()
        try:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)

    with lease_host() as host:
        host.submit(stubborn())
        assert begun.wait(SECONDS)
    assert host.join(SECONDS)
    assert host.loop.is_closed()
    del host
    gc.collect()  # what this raises in finalisers is an error of the test
    assert not caplog.records


@pytest.mark.parametrize("seed", range(50))
def test_many_threads_that_lease_and_release_at_once_end_in_order(seed: int) -> None:
    """Every app is up for whoever waits for it, and in the end all is down and nothing is left."""
    chance = random.Random(seed)
    apps = [ScriptedApp() for _ in range(3)]
    plans = [[chance.randrange(3) for _ in range(4)] for _ in range(6)]
    go = threading.Barrier(len(plans))
    wrong: list[str] = []

    def use(plan: list[int]) -> None:
        go.wait(SECONDS)
        for number in plan:
            hosted = HostedApp(apps[number])
            hosted.wait_started()
            if not (apps[number].is_up and hosted.is_up):
                wrong.append("it is not up for whoever holds it")
            hosted.close()
            if number == 0 and not hosted.wait_closed(SECONDS):
                wrong.append("it is not closed in time")

    threads = [threading.Thread(target=use, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = HostedApp(apps[0])
    last.wait_started()
    end(last)
    assert wrong == []
    for app in apps:
        assert app.messages == WHOLE_PERIOD * app.calls
    # Apps whose closing nobody waited for may have been the last ones on the host.
    assert host_module._tenancy.host is not None
    assert host_module._tenancy.host.join(SECONDS)
    assert host_module._tenancy.leases == 0
    assert not host_module._tenancy.apps


def test_closed_means_that_the_lease_has_been_given_back() -> None:
    for _ in range(200):
        hosted = HostedApp(ScriptedApp())
        hosted.wait_started()
        end(hosted)
        assert host_module._tenancy.leases == 0
        assert hosted not in host_module._tenancy.apps
        assert not hosted.host.thread.is_alive()


def test_closed_does_not_come_before_the_lease_is_given_back() -> None:
    hosted = HostedApp(ScriptedApp())
    hosted.wait_started()
    with host_module._tenancy.lock:  # for as long as this is held, nothing can be given back
        hosted.close()
        assert not hosted._ended.wait(0.1)
    end(hosted)


def test_an_app_is_up_from_its_start_to_its_close_which_may_be_asked_for_twice() -> None:
    app = StartingApp()
    hosted = HostedApp(app)
    assert app.reached.wait(SECONDS)
    assert not hosted.is_up
    hosted.host.post(app.may_start.set)
    hosted.wait_started()
    assert hosted.is_up
    assert not hosted.closed
    end(hosted)
    assert hosted.closed
    assert not hosted.is_up
    end(hosted)
    assert app.messages == WHOLE_PERIOD


def test_closing_during_the_start_up_cancels_it_and_leaves_nothing() -> None:
    app = StartingApp()
    hosted = HostedApp(app)
    assert app.reached.wait(SECONDS)
    end(hosted)
    assert not app.is_called
    assert app.messages == []
    with pytest.raises(LifespanStartupFailed, match="was stopped before it had started"):
        hosted.wait_started()


def test_closing_before_the_start_up_has_even_begun_does_not_call_the_app() -> None:
    app = ScriptedApp()
    gate = threading.Event()
    with lease_host() as host:
        host.post(gate.wait, SECONDS)  # nothing else happens on the loop until then
        hosted = HostedApp(app)
        hosted.close()
        gate.set()
        end(hosted)
    assert app.calls == 0


def test_who_closes_during_the_start_up_takes_it_from_nobody_else() -> None:
    app = StartingApp()
    first, second = HostedApp(app), HostedApp(app)
    assert app.reached.wait(SECONDS)
    end(first)
    second.host.post(app.may_start.set)
    second.wait_started()
    assert app.is_up
    end(second)
    assert app.calls == 1


def test_waiting_for_the_close_is_bounded_and_tells_whether_it_is_so() -> None:
    app = ScriptedApp(shutdown="slow")
    hosted = HostedApp(app)
    hosted.wait_started()
    hosted.close()
    assert not hosted.wait_closed(0.01)
    hosted.host.post(app.released.set)
    assert hosted.wait_closed(SECONDS)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_on_any_event_loop_the_start_and_the_close_can_be_waited_for(
    starting: StartingApp,
) -> None:
    app = starting
    hosted = HostedApp(app)
    with anyio.move_on_after(0):
        await hosted.wait_started_async()
    hosted.host.post(app.may_start.set)
    await hosted.wait_started_async()
    assert app.is_up
    hosted.close()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await hosted.wait_closed_async(SECONDS)  # shielded
    assert app.messages == WHOLE_PERIOD


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_after_the_last_close_that_is_waited_for_on_an_event_loop_the_thread_is_gone() -> (
    None
):
    for _ in range(50):
        hosted = HostedApp(ScriptedApp())
        await hosted.wait_started_async()
        hosted.close()
        await hosted.wait_closed_async(SECONDS)
        assert not hosted.host.thread.is_alive()


def test_hosted_code_that_waits_for_the_close_does_not_wait_for_its_own_thread() -> None:
    hosted = HostedApp(ScriptedApp())
    hosted.wait_started()

    async def close() -> None:
        hosted.close()
        await hosted.wait_closed_async(math.inf)

    assert hosted.host.submit(close()).wait(SECONDS)
    assert hosted.wait_closed(SECONDS)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_failed_start_is_told_to_all_who_wait_and_ends_the_lease_by_itself(
    failing: ScriptedApp,
) -> None:
    hosted = HostedApp(failing)
    told: list[str] = []

    async def wait() -> None:
        with pytest.raises(LifespanStartupFailed) as caught:
            await hosted.wait_started_async()
        told.append(str(caught.value))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(wait)
    assert told == ["no database"] * 20
    for _ in range(2):
        with pytest.raises(LifespanStartupFailed, match="no database"):
            hosted.wait_started()
    assert not hosted.is_up
    assert hosted.wait_closed(SECONDS)


def test_the_servers_own_account_of_a_failed_start_goes_before_the_lifespans() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise ServerStartFailed("no database", phase="start", hint="make one")

    hosted = HostedApp(app)
    with pytest.raises(ServerStartFailed) as caught:
        hosted.wait_started()
    assert caught.value.hint == "make one"
    end(hosted)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_an_interrupt_ends_the_wait_for_a_start() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.to_thread(waiting.wait, SECONDS)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        await asyncio.sleep(3600)

    held: list[HostedApp] = []
    waiting = threading.Event()

    def start() -> None:
        held.append(HostedApp(app))
        waiting.set()
        held[0].wait_started()

    with pytest.raises(KeyboardInterrupt):
        start()
    for hosted in held:
        end(hosted)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_a_cancellation_at_the_end_of_a_part_of_the_wait_for_a_start_is_not_lost(
    starting: StartingApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = 0.2
    monkeypatch.setattr(host_module, "_LONGEST_PART", part)
    hosted = HostedApp(starting)
    waiting = asyncio.get_running_loop().create_task(hosted.wait_started_async())
    await asyncio.sleep(0)  # it waits now
    loop = asyncio.get_running_loop()
    # The loop is held up, so that both are due at once: the part's end, and the cancellation right after.
    loop.call_later(part - 0.05, time.sleep, 0.1)
    loop.call_later(part + 0.01, waiting.cancel)
    done, _ = await asyncio.wait([waiting], timeout=part + 1)
    hosted.close()
    assert done
    assert waiting.cancelled()
    await hosted.wait_closed_async()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_of_an_app_that_means_to_exit_ends_neither_the_host_nor_other_apps(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    async def leave() -> None:
        raise error

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        task = asyncio.create_task(leave())
        await asyncio.wait([task])
        task.exception()
        await send({"type": "lifespan.startup.complete"})
        await receive()

    other = HostedApp(ScriptedApp())
    hosted = HostedApp(app)
    hosted.wait_started()
    other.wait_started()
    assert other.is_up
    assert any(f"raised {error.__name__}" in line for line in host_log.lines(5))
    end(hosted, other)
    assert not caplog.records


def test_what_asyncio_complains_of_in_hosted_code_is_not_said_in_somebodys_cell(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It says it when a task is collected: here, in this thread, after the host has ended."""
    tasks: list[asyncio.Task[None]] = []

    async def fail() -> None:
        raise ValueError("nobody asks for this error")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        tasks.append(asyncio.create_task(fail()))
        await asyncio.wait(tasks)

    hosted = HostedApp(app)
    hosted.wait_started()
    end(hosted)
    tasks.clear()
    gc.collect()
    assert not caplog.records
    (line,) = host_log.lines(1)
    assert "Task exception was never retrieved" in line
    assert line.endswith("ValueError: nobody asks for this error")


def test_what_is_handed_to_a_host_that_has_ended_is_dropped_without_a_warning() -> None:
    async def never() -> None:
        raise AssertionError

    with lease_host() as host:
        pass
    assert host.join(SECONDS)
    host.post(never)
    with warnings.catch_warnings(record=True) as warned, pytest.raises(RuntimeError):
        host.submit(never())
    assert not warned


@pytest.mark.skipif(sys.platform == "win32", reason="loops there have a proactor, not a selector")
def test_a_call_begun_after_a_loop_broke_that_cannot_even_be_closed_is_told() -> None:
    class Call:
        told = False

        def begin(self) -> None: ...

        def host_ended(self) -> None:
            self.told = True

    with lease_host() as host:
        loop: Any = host.loop
        host.post(loop._selector.close)
        assert host.join(SECONDS)
        assert not loop.is_closed()
        call = Call()
        host.begin(call)
        assert call.told
    loop._selector = selectors.DefaultSelector()
    loop.close()


def test_hosted_code_knows_that_it_is_and_nobody_else() -> None:
    async def ask() -> tuple[bool, bool, bool]:
        return is_hosted.get(), on_host_thread(), await asyncio.to_thread(is_hosted.get)

    with lease_host() as host:
        assert host.submit(ask()).result(SECONDS) == (True, True, True)
    assert not is_hosted.get()
    assert not on_host_thread()


def test_a_thread_that_cannot_be_started_leaves_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            HostedApp(ScriptedApp())
    hosted = HostedApp(ScriptedApp())
    hosted.wait_started()
    end(hosted)


def test_an_interrupt_while_the_thread_starts_leaves_neither_thread_nor_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start
    threads = []

    def start_and_interrupt(self: threading.Thread) -> None:
        start(self)
        threads.append(self)
        runs = threading.Event()
        # The loop runs once what it was handed has been called. A thread's target is the host's method.
        self._target.__self__.loop.call_soon_threadsafe(runs.set)  # type: ignore[attr-defined]
        assert runs.wait(SECONDS)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            SyncPrefectClient(ScriptedApp()).open()
    [thread] = threads
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_an_interrupt_while_an_app_is_closed_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hosted = HostedApp(ScriptedApp())
    hosted.wait_started()
    post = hosted.host.post

    def interrupt_and_post(*args: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        post(*args)

    with monkeypatch.context() as patch:
        patch.setattr(hosted.host, "post", interrupt_and_post)
        with pytest.raises(KeyboardInterrupt):
            hosted.close()
    assert hosted.wait_closed(SECONDS)


def test_at_the_end_of_the_process_all_apps_are_closed_and_the_host_ends() -> None:
    apps = [ScriptedApp(), ScriptedApp()]
    hosted = [HostedApp(app) for app in apps]
    for one in hosted:
        one.wait_started()
    close_all(SECONDS)
    assert [app.messages for app in apps] == [WHOLE_PERIOD] * 2
    assert not hosted[0].host.thread.is_alive()
    close_all(SECONDS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("started", [True, False], ids=["up", "starting"])
def test_a_forked_child_has_no_host_but_can_start_its_own_and_the_parent_goes_on(
    started: bool,
) -> None:
    app = StartingApp()
    hosted = HostedApp(app)
    if started:
        hosted.host.post(app.may_start.set)
        hosted.wait_started()
    assert app.reached.wait(SECONDS)
    host_module._tenancy.lock.acquire()  # as a thread would that does not live on in the child
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)  # rather than that a child hangs for ever
        code = 1
        try:
            _check_child(hosted)
            code = 0
        finally:
            os._exit(code)
    host_module._tenancy.lock.release()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert isinstance(hosted.host, Host)
    hosted.host.post(app.may_start.set)
    hosted.wait_started()
    assert hosted.is_up
    end(hosted)
    assert app.messages == WHOLE_PERIOD


def _check_child(parents: HostedApp) -> None:
    assert host_module._tenancy.host is None
    assert parents.closed
    assert not parents.is_up
    with contextlib.suppress(LifespanStartupFailed):
        parents.wait_started()
    with (
        httpx.Client(transport=HostedTransport(lambda: parents)) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.get("http://app/")
    end(parents)
    app = ScriptedApp()
    mine = HostedApp(app)
    mine.wait_started()
    end(mine)
    assert app.messages == WHOLE_PERIOD
