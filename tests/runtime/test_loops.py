"""The same code everywhere: run() in plain code, in threads, in running loops, on other loops."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import importlib
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any

import anyio
import pytest
import trio

from orchnb.runtime import loops
from orchnb.runtime.host import HostedApp, lease_host
from orchnb.runtime.loops import current_loop, describe_loop, loop_event, on_notebook_thread, run

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class ForeignLoop(asyncio.AbstractEventLoop):
    """An asyncio loop that is no BaseEventLoop, as uvloop's: what nest-asyncio cannot nest."""

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
        loops.set_notebook_loop(None)
        loop.close()


def in_a_thread_beside_idle_ipython(function: Callable[[], Any]) -> Any:
    return in_idle_ipython(lambda: in_a_thread(function))


def in_a_thread_after_nesting(function: Callable[[], Any]) -> Any:
    """nest-asyncio changes asyncio.run and get_event_loop for all threads."""
    on_a_loop_of(asyncio.new_event_loop)(lambda: run(answer()))
    return in_a_thread(function)


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
    in_a_thread_after_nesting,
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
    "thread after nesting",
]
everywhere = pytest.mark.parametrize("place", PLACES, ids=NAMES)


@pytest.fixture(autouse=True)
def asyncio_as_it_was() -> Iterator[None]:
    """nest-asyncio changes asyncio for good; tests begin without it."""
    names = {
        asyncio: ["Task", "Future", "run", "get_event_loop"],
        asyncio.tasks: ["Task", "_CTask"],
        asyncio.futures: ["Future", "_CFuture"],
        asyncio.events: ["_get_event_loop", "get_event_loop"],
    }
    kept = [(m, n, getattr(m, n)) for m, ns in names.items() for n in ns if hasattr(m, n)]
    policy = type(asyncio.get_event_loop_policy())
    classes = {policy, asyncio.SelectorEventLoop, *asyncio.SelectorEventLoop.__mro__, ForeignLoop}
    dicts = {cls: dict(vars(cls)) for cls in classes if cls is not object}
    yield
    for module, name, value in kept:
        setattr(module, name, value)
    for cls, attributes in dicts.items():
        for name in set(vars(cls)) - set(attributes):
            delattr(cls, name)
        for name in ("get_event_loop", "run_forever", "run_until_complete", "_run_once"):
            if name in attributes and vars(cls)[name] is not attributes[name]:
                setattr(cls, name, attributes[name])
    if hasattr(asyncio, "_nest_patched"):
        del asyncio._nest_patched


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

    with pytest.raises(LookupError, match="nothing here"):
        place(lambda: run(fail()))


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


def test_run_nested_stays_on_the_same_loop_and_its_other_tasks_go_on() -> None:
    async def where() -> object:
        await event.wait()
        return asyncio.get_running_loop()

    async def main() -> None:
        asyncio.get_running_loop().call_soon(event.set)
        assert run(where()) is asyncio.get_running_loop()

    event = asyncio.Event()
    asyncio.run(main())


def test_run_in_idle_ipython_uses_its_loop_and_in_a_thread_it_does_not() -> None:
    async def where() -> object:
        return asyncio.get_running_loop()

    def both() -> None:
        assert run(where()) is loops._notebook_loop
        assert in_a_thread(lambda: run(where())) is not loops._notebook_loop

    in_idle_ipython(both)


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


def test_nest_asyncio_is_applied_at_need_only() -> None:
    c_task = asyncio.Task
    run(answer())
    in_a_thread(lambda: run(answer()))
    in_trio(lambda: run(answer()))
    on_a_loop_of(ForeignLoop)(lambda: run(answer()))
    in_idle_ipython(lambda: run(answer()))
    assert asyncio.Task is c_task
    assert not hasattr(asyncio, "_nest_patched")
    on_a_loop_of(asyncio.new_event_loop)(lambda: run(answer()))
    assert hasattr(asyncio, "_nest_patched")


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


def test_code_that_run_takes_to_the_host_is_not_hosted_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its log records are the user's, and are not diverted."""
    import logging

    async def log() -> None:
        logging.getLogger("user").warning("mine")

    in_trio(lambda: run(log()))
    assert caplog.messages == ["mine"]


def test_what_runs_where_can_be_asked() -> None:
    async def inside() -> object:
        return current_loop()

    assert current_loop() is None
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(inside()) is loop
    loop.close()
    assert type(trio.run(inside)).__name__ == "TrioToken"
    assert "Token" in type(in_trio_in_asyncio(current_loop)).__name__
    assert describe_loop(None) == "no event loop"
    assert f"{id(loop):#x}" in describe_loop(loop)
    assert not on_notebook_thread()
    assert in_idle_ipython(on_notebook_thread)
    assert not in_a_thread_beside_idle_ipython(on_notebook_thread)
    assert (
        in_idle_ipython(lambda: describe_loop(loops._notebook_loop)) == "the notebook's event loop"
    )


def test_what_runs_can_be_asked_while_another_thread_imports_trio() -> None:
    """As httpcore does, which is imported where it is first needed."""
    code = """
import sys, threading
from orchnb.runtime.loops import current_loop

assert "trio" not in sys.modules
thread = threading.Thread(target=__import__, args=["trio"])
thread.start()
while thread.is_alive():
    assert current_loop() is None
assert "trio" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_lease_for_run_is_given_back() -> None:
    in_trio(lambda: run(answer()))
    with lease_host() as host:
        assert host.call(answer()) == "42 on none"
    assert host.join(10)


INTERRUPTED = """
import asyncio, os, signal, sys, threading, time
from orchnb.runtime import loops
from tests.runtime import test_loops

def say(text):
    os.write(1, text.encode() + b"\\n")  # in one piece, from whatever thread

async def hang():
    try:
        # From another thread: the main one is to be found waiting.
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        say("cancelled")
        raise

def twice():
    began = time.monotonic()
    try:
        loops.run(hang())
    except KeyboardInterrupt:
        say(f"interrupted {time.monotonic() - began < 1}")
    say(loops.run(test_loops.answer()))

place = dict(zip(test_loops.NAMES, test_loops.PLACES))
if {place!r} == "asyncio.run":
    asyncio.run(test_loops._call(twice))
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
    assert seen[0].__func__ is loops._Interrupts._handle
    assert seen[1] is signal.SIG_IGN


class Unlucky(asyncio.Handle):
    """A turn of a task's into which an interrupt falls, before it has begun."""

    def _run(self) -> None:
        signal.raise_signal(signal.SIGINT)
        super()._run()  # type: ignore[misc] # asyncio's own, and not in the stubs


@pytest.mark.timeout(30)
def test_an_interrupt_that_falls_into_the_loop_loses_nobodys_turn() -> None:
    """The task would never have it again, and whoever waits for the task would wait for ever."""
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
        loops.run(waits())

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
        loops.run(computes())

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert time.monotonic() - began < 5


def test_an_interrupt_just_as_it_ends_is_not_lost() -> None:
    async def ends() -> int:
        signal.raise_signal(signal.SIGINT)
        return 42

    async def main() -> None:
        loops.run(ends())

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())


def test_an_interrupt_in_a_finalizer_comes_again_where_it_is_felt() -> None:
    """Python ignores what is raised in there, so the stop button would have no effect."""

    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.001)  # a step at which Python looks for signals

    async def waits() -> None:
        Dying()  # gone at once
        await asyncio.sleep(30)

    async def main() -> None:
        loops.run(waits())

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert time.monotonic() - began < 10


def test_what_tasks_begin_while_they_are_cancelled_is_seen_to_its_end() -> None:
    """As SQLAlchemy closes the connections of cancelled tasks, on threads that tell the loop of it."""
    loop = asyncio.new_event_loop()
    told: list[str] = []

    async def close() -> None:
        await loop.run_in_executor(None, time.sleep, 0.05)
        told.append("closed")

    async def use() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            told.append("cancelled")
            closing.append(asyncio.ensure_future(close()))

    closing: list[asyncio.Future[None]] = []
    using = loop.create_task(use())
    loop.run_until_complete(asyncio.sleep(0))
    loops.finish_loop(loop, timeout=2)
    assert using.cancelled()
    assert told == ["cancelled", "closed"]
    assert loop.is_closed()


# Events.


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.mark.anyio
async def test_an_event_is_set_by_another_thread_or_before_anybody_waits() -> None:
    event, early = loop_event(), loop_event()
    early.set()
    threading.Timer(0.01, event.set).start()
    assert await event.wait()
    assert await event.wait(60)  # again, as it stays set
    assert await early.wait(60)


@pytest.mark.anyio
async def test_a_wait_for_an_event_that_is_not_set_ends_and_may_be_taken_up_again() -> None:
    event = loop_event()
    assert not await event.wait(0.001)
    assert not await event.wait(0.001)
    event.set()
    event.set()
    assert await event.wait(60)


@pytest.mark.anyio
async def test_a_wait_for_an_event_can_be_cancelled_and_taken_up_again() -> None:
    event = loop_event()
    with anyio.move_on_after(0.001) as scope:
        await event.wait()
    assert scope.cancelled_caught
    event.set()
    assert await event.wait(60)


def test_an_event_of_a_loop_that_has_ended_is_set_without_effect(anyio_backend: str) -> None:
    async def make() -> Any:
        return loop_event()

    anyio.run(make, backend=anyio_backend).set()
