"""The same code everywhere: run() in plain code, in threads, in running loops, on other loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest
import trio
from tornado.ioloop import IOLoop

from orchnb.hosting.host import HostedApp
from orchnb.runtime import loops
from orchnb.runtime.run import _Job, _Runner, end_runners, run
from tests import process_wide

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class ForeignLoop(asyncio.AbstractEventLoop):
    """An asyncio loop that is not a BaseEventLoop, as uvloop's is not."""

    def __init__(self) -> None:
        self._inner = asyncio.SelectorEventLoop()
        calls = ("call_soon", "call_soon_threadsafe", "call_later", "call_at", "time", "close")
        for name in (*calls, "call_exception_handler", "get_debug", "is_running", "is_closed"):
            setattr(self, name, getattr(self._inner, name))

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=self, **options)

    def run_until_complete(self, coroutine: Any) -> Any:
        self._inner.call_soon(asyncio._set_running_loop, self)
        task = self.create_task(coroutine)
        task.add_done_callback(lambda _: self._inner.stop())
        self._inner.run_forever()
        return task.result()


class Awaitable:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Generator[Any, None, str]:
        yield from asyncio.sleep(0).__await__()
        return "awaited"


async def answer() -> str:
    await anyio.sleep(0.001)
    return f"42 on {COLOUR.get()}"


def in_a_script(function: Callable[[], Any]) -> Any:
    return function()


def in_a_thread(function: Callable[[], Any]) -> Any:
    result: list[Any] = []

    def target() -> None:
        try:
            result.append(function())
        except BaseException as exc:
            result.append(exc)

    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(target,))
    thread.start()
    thread.join()
    if isinstance(result[0], BaseException):
        raise result[0]
    return result[0]


async def _call(function: Callable[[], Any]) -> Any:
    return function()


def on_a_loop_of(factory: Callable[[], asyncio.AbstractEventLoop]) -> Callable[..., Any]:
    def on_it(function: Callable[[], Any]) -> Any:
        loop = factory()
        try:
            return loop.run_until_complete(_call(function))
        finally:
            loop.close()

    return on_it


def in_trio(function: Callable[[], Any]) -> Any:
    return trio.run(_call, function)


def in_trio_in_asyncio(function: Callable[[], Any]) -> Any:
    """As ipykernel does for the cells of %autoawait trio."""
    return on_a_loop_of(asyncio.new_event_loop)(lambda: trio.run(_call, function))


def on_uvloop(function: Callable[[], Any]) -> Any:
    return on_a_loop_of(pytest.importorskip("uvloop").new_event_loop)(function)


def in_idle_ipython(function: Callable[[], Any]) -> Any:
    """Terminal IPython: its loop is registered, and does not run while a cell does."""
    loop = asyncio.new_event_loop()
    loops.set_notebook_loop(loop)
    try:
        return function()
    finally:
        end_runners()
        loops.set_notebook_loop(None)
        loop.close()


def in_a_thread_beside_idle_ipython(function: Callable[[], Any]) -> Any:
    return in_idle_ipython(lambda: in_a_thread(function))


PLACES = [
    in_a_script,
    in_a_thread,
    on_a_loop_of(asyncio.new_event_loop),
    on_a_loop_of(ForeignLoop),
    on_uvloop,
    in_trio,
    in_trio_in_asyncio,
    in_idle_ipython,
    in_a_thread_beside_idle_ipython,
]
NAMES = [
    "script",
    "thread",
    "running loop",
    "foreign loop",
    "uvloop",
    "trio",
    "trio inside of asyncio",
    "idle IPython",
    "thread beside idle IPython",
]
everywhere = pytest.mark.parametrize("place", PLACES, ids=NAMES)


@everywhere
def test_run_returns_the_result_in_the_callers_context(place: Callable[..., Any]) -> None:
    def in_blue() -> str:
        COLOUR.set("blue")
        return place(lambda: run(answer()))

    with warnings.catch_warnings(record=True) as warned:
        assert contextvars.copy_context().run(in_blue) == "42 on blue"
    assert not warned


@everywhere
def test_run_takes_any_awaitable(place: Callable[..., Any]) -> None:
    assert place(lambda: run(Awaitable())) == "awaited"


@everywhere
def test_run_raises_what_the_awaitable_raises(place: Callable[..., Any]) -> None:
    async def fail() -> None:
        await anyio.sleep(0)
        raise LookupError("nothing here")

    with pytest.raises(LookupError, match="nothing here") as caught:
        place(lambda: run(fail()))
    assert caught.traceback[-1].name == "fail"


@everywhere
def test_run_passes_a_cancellation_on(place: Callable[..., Any]) -> None:
    async def cancel_itself() -> None:
        raise asyncio.CancelledError

    def attempt() -> str:
        try:
            run(cancel_itself())
        except (asyncio.CancelledError, concurrent.futures.CancelledError):
            return "cancelled"
        return "went on"

    assert place(attempt) == "cancelled"


@everywhere
def test_an_interrupt_in_the_awaitable_is_raised_and_run_works_again(
    place: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """And asyncio has nothing to say about an exception that nobody retrieved."""

    async def interrupted() -> None:
        raise KeyboardInterrupt

    def both() -> str:
        with pytest.raises(KeyboardInterrupt):
            run(interrupted())
        return run(answer())

    assert place(both) == "42 on none"
    gc.collect()
    assert not caplog.messages


def test_run_nested_waits_for_tasks_and_futures_of_the_same_loop() -> None:
    async def main() -> list[str]:
        task = asyncio.create_task(answer())
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "set")
        return [run(task), run(future), run(answer())]

    assert asyncio.run(main()) == ["42 on none", "set", "42 on none"]


def test_a_task_runs_on_its_own_loop_where_other_tasks_go_on() -> None:
    async def where() -> object:
        await event.wait()
        return asyncio.get_running_loop()

    async def main() -> None:
        task = asyncio.create_task(where())
        asyncio.get_running_loop().call_soon(event.set)
        assert run(task) is asyncio.get_running_loop()
        assert asyncio.current_task() is not None

    event = asyncio.Event()
    asyncio.run(main())


def test_waits_for_tasks_can_be_nested_in_each_other() -> None:
    async def inner(depth: int) -> int:
        await asyncio.sleep(0)
        if depth == 0:
            return 0
        return 1 + run(asyncio.create_task(inner(depth - 1)))

    assert asyncio.run(inner(5)) == 5


def test_a_task_of_a_loop_that_does_not_run_is_run_there() -> None:
    async def where() -> object:
        return asyncio.get_running_loop()

    loop = asyncio.new_event_loop()
    assert run(loop.create_task(where())) is loop
    loop.close()


def test_a_task_of_a_loop_in_another_thread_is_waited_for() -> None:
    async def where() -> object:
        await asyncio.sleep(0.01)
        return asyncio.get_running_loop()

    async def make() -> asyncio.Task[object]:
        return asyncio.create_task(where())

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    task = asyncio.run_coroutine_threadsafe(make(), loop).result()
    assert run(task) is loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_task_of_a_running_loop_that_cannot_be_nested_is_refused() -> None:
    async def main() -> str:
        task = asyncio.ensure_future(answer())
        with pytest.raises(
            RuntimeError, match=r"cannot wait for a task of the running .*: use await"
        ):
            run(task)
        return await task

    loop = ForeignLoop()
    assert loop.run_until_complete(main()) == "42 on none"
    loop.close()


def test_a_coroutine_that_awaits_a_task_of_the_callers_loop_is_told_what_to_do() -> None:
    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(0))
        full: asyncio.Queue[int] = asyncio.Queue(1)
        full.put_nowait(1)
        putting = asyncio.create_task(full.put(2))
        await asyncio.sleep(0)
        for awaitable in (asyncio.wait_for(task, 5), full.put(3)):
            with pytest.raises(RuntimeError, match="use await, or give run"):
                run(awaitable)
        await asyncio.wait([task])
        putting.cancel()

    asyncio.run(main())


def test_a_wait_ends_with_an_error_when_its_loop_is_stopped() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        loop.call_soon(loop.stop)
        with pytest.raises(RuntimeError, match="stopped before the task had ended"):
            run(future)

    loop = asyncio.new_event_loop()
    task = loop.create_task(main())
    loop.run_forever()
    loop.run_until_complete(task)
    loop.close()


def test_what_shares_the_context_of_the_caller_runs_after_the_wait_and_in_order() -> None:
    """ipykernel 7 runs all requests in one context, which the cell that waits has entered."""
    order: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        done: asyncio.Future[None] = loop.create_future()

        def cell() -> None:
            for number in range(3):
                loop.call_soon(order.append, f"request {number}", context=context)
            loop.call_later(0.001, order.append, "timer", context=context)
            loop.call_later(0.02, done.set_result, None)
            run(done)
            order.append("cell")

        loop.call_soon(cell, context=context)
        await done
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert order == ["cell", "request 0", "request 1", "request 2", "timer"]


def test_what_a_nested_wait_puts_aside_is_not_passed_by_what_comes_later() -> None:
    """A callback waits, and in its wait a cell runs that waits as well: the requests that come then are
    first when the cell has ended, while the callback still waits."""
    order: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        outer: asyncio.Future[None] = loop.create_future()

        def request(number: int) -> None:
            order.append(f"request {number}")
            if number == 3:
                outer.set_result(None)

        def later() -> None:
            loop.call_soon(request, 3, context=context)

        def cell() -> None:
            inner: asyncio.Future[None] = loop.create_future()
            for number in (1, 2):
                loop.call_soon(request, number, context=context)
            loop.call_later(0.01, inner.set_result, None)
            run(inner)
            order.append("cell")
            loop.call_soon(later)

        def callback() -> None:
            loop.call_soon(cell, context=context)
            run(outer)
            order.append("callback")

        loop.call_soon(callback)
        await outer
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert order == ["cell", "request 1", "request 2", "request 3", "callback"]


@pytest.mark.parametrize("bound", [False, True], ids=["coroutine", "task"])
@pytest.mark.parametrize(
    "schedule",
    [
        lambda loop, function: loop.call_soon(function),
        lambda loop, function: loop.call_later(0.001, function),
        lambda loop, function: threading.Thread(
            target=loop.call_soon_threadsafe, args=(function,)
        ).start(),
        lambda loop, function: asyncio.ensure_future(asyncio.sleep(0)).add_done_callback(
            lambda _: function()
        ),
        lambda _, function: IOLoop.current().add_callback(function),
        lambda loop, function: (
            [loop.call_soon(int) for _ in range(20)] and loop.call_soon(function)
        ),
    ],
    ids=["call_soon", "call_later", "other thread", "done callback", "tornado", "crowded"],
)
def test_run_can_be_called_first_from_a_callback_and_the_loop_lives_on(
    schedule: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], object], bound: bool
) -> None:
    """Next to tasks that poll, and with callbacks that wait for their turn behind it."""
    complaints: list[Any] = []

    async def poll() -> None:
        while True:
            await asyncio.sleep(0)

    async def main() -> str:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, complaint: complaints.append(complaint))
        polling = [asyncio.create_task(poll()) for _ in range(5)]
        result: asyncio.Future[str] = loop.create_future()
        behind: list[int] = []

        def call() -> None:
            for number in range(10):
                loop.call_soon(behind.append, number)
            result.set_result(run(loop.create_task(answer()) if bound else answer()))

        schedule(loop, call)
        found = await result
        await asyncio.sleep(0.01)
        assert behind == list(range(10))
        for task in polling:
            task.cancel()
        return found

    assert asyncio.run(main()) == "42 on none"
    assert not complaints


def test_asyncio_is_the_same_before_and_after() -> None:
    async def main() -> None:
        run(answer())
        run(asyncio.create_task(answer()))

    before = process_wide.taken_down()
    run(answer())
    asyncio.run(main())
    assert process_wide.changed(before) == []
    assert not {"nest_asyncio", "nest_asyncio2"} & sys.modules.keys()


def test_run_in_a_notebook_keeps_its_thread_for_the_next_call() -> None:
    async def where() -> object:
        return threading.current_thread()

    def twice() -> None:
        first, second = run(where()), run(where())
        assert first is second
        assert first is not in_a_thread(lambda: run(where()))

    in_idle_ipython(twice)


def test_run_can_be_called_within_itself() -> None:
    async def outer() -> str:
        return run(answer())

    assert run(outer()) == "42 on none"
    assert in_idle_ipython(lambda: run(outer())) == "42 on none"


def test_run_cancels_what_the_awaitable_has_left_on_its_own_loop() -> None:
    ended: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("cancelled")

    async def main() -> None:
        tasks.append(asyncio.create_task(linger()))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    run(main())
    assert ended == ["cancelled"]


def test_run_leaves_the_threads_current_event_loop_alone() -> None:
    mine = asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    try:
        run(answer())
        assert asyncio.get_event_loop_policy().get_event_loop() is mine
    finally:
        asyncio.set_event_loop(None)
        mine.close()


def test_on_the_hosts_thread_run_refuses_and_says_what_to_do() -> None:
    """It is asked in an app's start-up, and with a coroutine that then is not complained about."""
    errors: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            run(answer())
        except RuntimeError as exc:
            errors.append(exc)
        await send({"type": "lifespan.startup.complete"})
        await receive()

    with warnings.catch_warnings(record=True) as warned:
        hosted = HostedApp(app)
        hosted.wait_started()
        hosted.close()
        assert hosted.wait_closed()
    assert not warned
    assert "use await in code of a hosted app" in str(errors[0])


def test_code_that_run_takes_to_another_thread_is_not_hosted_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its log records are the user's, and are not diverted."""
    import logging

    async def log() -> None:
        logging.getLogger("user").warning("mine")

    in_trio(lambda: run(log()))
    assert caplog.messages == ["mine"]


INTERRUPTED = """
import asyncio, os, signal, sys, threading, time
from orchnb.runtime.run import run
from tests.runtime import test_run

def say(text):
    os.write(1, text.encode() + b"\\n")  # in one piece, from whatever thread

async def hang():
    try:
        # From another thread, while the main thread waits.
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        say("cancelled")
        raise

def twice():
    began = time.monotonic()
    try:
        run(hang())
    except KeyboardInterrupt:
        say(f"interrupted {time.monotonic() - began < 1}")
    say(run(test_run.answer()))

place = dict(zip(test_run.NAMES, test_run.PLACES))
if {place!r} == "asyncio.run":
    asyncio.run(test_run._call(twice))
else:
    place[{place!r}](twice)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize(
    "place", ["script", "running loop", "asyncio.run", "foreign loop", "trio", "idle IPython"]
)
def test_a_real_interrupt_ends_it_within_a_second_and_the_loop_stays_usable(place: str) -> None:
    """Also under asyncio.run, whose own handler would cancel a task that cannot act on it."""
    root = str(importlib.import_module("tests").__path__[0]) + "/.."
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.replace("{place!r}", repr(place))],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines()) == ["42 on none", "cancelled", "interrupted True"]
    assert done.returncode == 0


def test_an_interrupt_handler_is_put_back_and_one_who_ignores_interrupts_goes_on() -> None:
    seen: list[Any] = []

    async def look() -> None:
        seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    try:
        for handler in (lambda *_: None, signal.SIG_IGN):
            signal.signal(signal.SIGINT, handler)
            on_a_loop_of(asyncio.new_event_loop)(lambda: run(look()))
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert callable(seen[0])
    assert seen[1] is signal.SIG_IGN


class Unlucky(asyncio.Handle):
    """A turn of a task's into which an interrupt falls, before it has begun."""

    def _run(self) -> None:
        signal.raise_signal(signal.SIGINT)
        super()._run()  # type: ignore[misc] # asyncio's own, and not in the stubs


@pytest.mark.timeout(30)
def test_an_interrupt_that_falls_into_the_loop_loses_nobodys_turn() -> None:
    """The task would never run again, and code that waits for it would wait for ever."""
    cleaned_up = []

    async def waits() -> None:
        loop: Any = asyncio.get_running_loop()
        schedule = loop.call_soon

        def call_soon(callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
            loop.call_soon = schedule
            handle = Unlucky(callback, args, loop, context)
            loop._ready.append(handle)
            return handle

        loop.call_soon = call_soon
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(30)
        finally:
            loop.call_soon = schedule
            await asyncio.sleep(0.01)
            cleaned_up.append(True)

    async def main() -> None:
        run(asyncio.ensure_future(waits()))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert cleaned_up == [True]


def test_a_task_that_awaits_nothing_is_interrupted_all_the_same() -> None:
    async def computes() -> None:
        signal.raise_signal(signal.SIGINT)
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            pass

    async def main() -> None:
        run(computes())

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert time.monotonic() - began < 5


def test_an_interrupt_just_as_it_ends_is_not_lost() -> None:
    async def ends() -> int:
        signal.raise_signal(signal.SIGINT)
        return 42

    async def main() -> None:
        run(ends())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


def pressing(*seconds: float) -> None:
    """Have the person press the stop button after these times."""
    for each in seconds:
        threading.Timer(each, os.kill, (os.getpid(), signal.SIGINT)).start()


def run_threads() -> list[threading.Thread]:
    """Those that go on: each has a moment to end after the call that it was for."""
    threads = [thread for thread in threading.enumerate() if thread.name == "orchnb-run"]
    for thread in threads:
        thread.join(5)
    return [thread for thread in threads if thread.is_alive()]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_interrupt_ends_calls_within_each_other_at_once(depth: int) -> None:
    """From the innermost one outwards, and each can clean up as when it is cancelled."""
    cleaned_up: list[int] = []

    async def waits(level: int) -> None:
        try:
            if level < depth:
                run(waits(level + 1))
            else:
                pressing(0.1)
                await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            cleaned_up.append(level)
            run(asyncio.sleep(0.01))

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(waits(1))
    assert time.monotonic() - began < 0.9, (
        "less than the time after which the thread is interrupted"
    )
    assert cleaned_up == list(range(depth, 0, -1))
    assert not run_threads()


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_interrupt_cancels_each_call_once(depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls clean up to the end, however late the interrupted thread itself goes on."""
    cleaned_up: list[int] = []
    is_cleaning_up = threading.Event()
    notify = _Job.cancel

    def cancel_slowly(job: _Job[Any]) -> None:
        notify(job)
        is_cleaning_up.wait(5)  # the thread that was interrupted has not gone on yet

    async def waits(level: int) -> None:
        try:
            if level < depth:
                run(waits(level + 1))
            else:
                pressing(0.05)
                await asyncio.sleep(30)
        finally:
            is_cleaning_up.set()
            await asyncio.sleep(0.05)
            run(asyncio.sleep(0.01))
            cleaned_up.append(level)

    monkeypatch.setattr(_Job, "cancel", cancel_slowly)
    with pytest.raises(KeyboardInterrupt):
        run(waits(1))
    assert cleaned_up == list(range(depth, 0, -1))
    assert not run_threads()


@pytest.mark.parametrize("moment", ["before the inner call", "within it", "after it"])
def test_a_cancellation_is_seen_once_whichever_call_is_waited_for(moment: str) -> None:
    seen: list[str] = []
    jobs: list[_Job[Any]] = []

    def press(here: str) -> None:
        if here == moment:
            threads = [threading.Thread(target=jobs[0].cancel) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    async def inner() -> None:
        try:
            press("within it")
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            seen.append("inner")
            await asyncio.sleep(0.01)
            raise

    async def outer() -> None:
        try:
            press("before the inner call")
            run(inner())
            press("after it")
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            seen.append("outer")
            run(asyncio.sleep(0.01))
            await asyncio.sleep(0.01)
            seen.append("cleaned up")

    job: _Job[Any] = _Job(outer(), None, keep=False)
    jobs.append(job)
    _Runner(job)
    assert job.wait(10)
    job.result()
    assert seen == ["inner"] * (moment == "within it") + ["outer", "cleaned up"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("gap", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_after_two_interrupts_nothing_goes_on(depth: int, gap: float) -> None:
    """Not even a coroutine that does not notice that it is cancelled."""

    async def computes() -> None:
        pressing(0.1, 0.1 + gap)
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            pass

    async def waits(level: int) -> None:
        run(computes() if level == depth else waits(level + 1))

    def main() -> None:
        try:
            run(waits(1) if depth else computes())
        finally:
            time.sleep(0.3 + gap)  # where the second one may come

    with pytest.raises(KeyboardInterrupt):
        main()
    for thread in run_threads():
        thread.join(5)
    assert not run_threads()


def test_a_thread_that_was_interrupted_does_no_other_job() -> None:
    """The interrupt may come when its job has ended."""

    async def computes() -> threading.Thread:
        signal.raise_signal(signal.SIGINT)
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            pass
        return threading.current_thread()

    def interrupted() -> None:
        with pytest.raises(KeyboardInterrupt):
            run(computes())
        for thread in run_threads():
            thread.join(5)
        assert not run_threads()
        assert run(answer()) == "42 on none"

    in_idle_ipython(interrupted)


def test_an_error_shows_the_callers_own_code() -> None:
    """And of orchnb only the call itself, however deep calls are within each other."""

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError

    async def outer() -> None:
        run(fails())

    with pytest.raises(LookupError) as caught:
        run(outer())
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    inner = ["run", "_run_in_thread", "fails"]
    assert names[1:] == ["run", "_run_in_thread", "outer", *inner]


def test_a_thread_is_not_kept_for_a_notebook_that_is_no_more() -> None:
    async def unloads() -> None:
        loops.set_notebook_loop(None)

    def main() -> None:
        run(unloads())
        for thread in run_threads():
            thread.join(5)
        assert not run_threads()

    in_idle_ipython(main)
