"""Which event loop is this code on, is it the notebook's, and how to run something from plain code."""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import importlib
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Protocol, TypeAlias, TypeVar

import anyio

from orchnb.runtime.interrupts import deferred_interrupts

T = TypeVar("T")

Loop: TypeAlias = object
"""What stands for an event loop: asyncio's loop object, or trio's token."""


class Task(Protocol):
    """What `spawn` has started."""

    def cancel(self) -> object: ...


is_hosted: contextvars.ContextVar[bool] = contextvars.ContextVar("orchnb_is_hosted", default=False)
"""True in code that runs on the host, and in the worker threads that such code hands its context."""

_notebook_loop: asyncio.AbstractEventLoop | None = None


def current_loop() -> Loop | None:
    """The loop that runs in this thread, or None: asyncio's loop object or trio's token."""
    # First, as anyio does: a cell of "%autoawait trio" runs inside of the kernel's asyncio loop.
    if "trio" in sys.modules:  # unless somebody has imported it, it does not run
        from trio import lowlevel  # waits, where another thread has not quite imported it yet

        with suppress(RuntimeError):  # no task: trio 0.26 has only this to tell it by
            lowlevel.current_task()
            token: Loop = lowlevel.current_trio_token()
            return token
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def describe_loop(loop: Loop | None) -> str:
    """A loop in words that tell it from the others."""
    if loop is None:
        return "no event loop"
    if loop is _notebook_loop:
        return "the notebook's event loop"
    return f"the event loop {type(loop).__module__}.{type(loop).__qualname__} at {id(loop):#x}"


def set_notebook_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Say which loop is the notebook's; None when there is none any more."""
    global _notebook_loop
    _notebook_loop = loop


def notebook_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that cells run on, or None where no notebook is."""
    return _notebook_loop


def on_notebook_thread() -> bool:
    """Whether code here is a cell's: it runs on the notebook's loop, or, where cells run on no loop
    (terminal IPython), plainly in the main thread."""
    if _notebook_loop is None:
        return False
    loop = current_loop()
    if loop is None:
        return (
            threading.current_thread() is threading.main_thread()
            and not _notebook_loop.is_running()
        )
    return loop is _notebook_loop


def is_closed(loop: Loop) -> bool:
    """Whether a loop can never run again."""
    return isinstance(loop, asyncio.AbstractEventLoop) and loop.is_closed()


def waker() -> Callable[[Callable[[], object]], None]:
    """A way for other threads to have a function called on the running loop.

    Calls for a loop that has ended are dropped: nobody waits there any more.
    """
    loop = current_loop()
    if loop is None:
        raise RuntimeError("There is no running event loop to wake")
    if isinstance(loop, asyncio.AbstractEventLoop):
        schedule: Callable[[Callable[[], object]], object] = loop.call_soon_threadsafe
    else:
        schedule = loop.run_sync_soon  # type: ignore[attr-defined]

    def wake(function: Callable[[], object]) -> None:
        # RuntimeError: a closed asyncio loop; trio.RunFinishedError is one as well.
        with suppress(RuntimeError):
            schedule(function)

    return wake


class LoopEvent(Protocol):
    """An event that any thread may set, for who waits on the loop that it was made on."""

    def set(self) -> None:
        """Set it, for good; nothing happens if the loop has ended."""

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most ``timeout`` seconds; whether it is. For one at a time."""


def loop_event() -> LoopEvent:
    """A new event for the running loop."""
    loop = current_loop()
    return _AsyncioEvent(loop) if isinstance(loop, asyncio.AbstractEventLoop) else _AnyioEvent()


class _AsyncioEvent:
    # anyio's serve asyncio as well, but one with a time-out takes 4 % of a request to the host.

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._set)

    def _set(self) -> None:
        self._is_set = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, timeout: float | None = None) -> bool:
        if self._is_set:
            return True
        self._waiter = self._loop.create_future()
        timer = None if timeout is None else self._loop.call_later(timeout, self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return self._is_set


class _AnyioEvent:
    def __init__(self) -> None:
        self._event = anyio.Event()
        self._wake = waker()

    def set(self) -> None:
        self._wake(self._event.set)

    async def wait(self, timeout: float | None = None) -> bool:
        with anyio.move_on_after(timeout):
            await self._event.wait()
        return self._event.is_set()


def spawn(function: Callable[[], Coroutine[Any, Any, None]]) -> Task:
    """Start a task on the running loop that belongs to no other task, and return what cancels it.

    It has a copy of the caller's context, as tasks have. What it raises is for itself to report.
    What is returned is to be kept while it runs: asyncio itself holds tasks weakly.
    """
    loop = current_loop()
    if isinstance(loop, asyncio.AbstractEventLoop):
        task = loop.create_task(function())
        task.add_done_callback(_take_exception)
        return task
    trio = sys.modules["trio"]
    scope: Task = trio.CancelScope()

    async def quietly() -> None:
        # What escapes a system task would end the whole run.
        with scope, suppress(Exception):  # type: ignore[attr-defined]
            await function()

    trio.lowlevel.spawn_system_task(quietly, context=contextvars.copy_context())
    return scope


def _take_exception(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # or asyncio would report it when the task is collected


def discard_task(task: object) -> None:
    """Let go of a task whose loop is closed, quietly: its code can only be left where it stands."""
    pending: Any = task  # of one of asyncio's two classes, which nest-asyncio exchanges
    if pending is not None and not pending.done():
        # Collected as it is, it would be reported on stderr, in whichever cell runs then.
        pending._log_destroy_pending = False
        with suppress(BaseException):
            pending.get_coro().close()


def run(awaitable: Awaitable[T]) -> T:
    """Wait for an awaitable from plain code, anywhere, and return its result.

    Where no loop runs, one is run. On a running asyncio loop, the notebook's above all, the wait is
    nested on that same loop, so that the notebook's client can be used; nest-asyncio, which this
    takes, is applied at the first need. On a loop that cannot be nested (uvloop's, trio's) the
    awaitable is run on the host's loop, in another thread, while this one waits. An interrupt
    cancels it.

    Raises:
        RuntimeError: called on the host's own thread, which would wait for itself.
    """
    loop = current_loop()
    if loop is None:
        return _run_on_idle_loop(awaitable)
    from orchnb.runtime.host import lease_host, on_host_thread  # the host needs this module itself

    if on_host_thread():
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise RuntimeError("run() would wait for itself here: use await in code of a hosted app")
    try:
        if isinstance(loop, asyncio.BaseEventLoop):
            _make_nestable(loop)
            return _complete(loop, awaitable)
        with _interruptible(), lease_host() as host:
            return host.call(_as_coroutine(awaitable))
    except BaseException:
        if inspect.iscoroutine(awaitable) and _is_untouched(awaitable):
            awaitable.close()  # or Python would complain of it, in whichever cell runs then
        raise


def _run_on_idle_loop(awaitable: Awaitable[T]) -> T:
    """On the notebook's loop if code here is a cell's, else on one for this once."""
    if _notebook_loop is not None and on_notebook_thread() and not _notebook_loop.is_closed():
        return _complete(_notebook_loop, awaitable)
    # Not asyncio.run: nest-asyncio, where it is applied, makes it need a loop that is there already.
    loop = None
    try:
        with deferred_interrupts():
            loop = asyncio.new_event_loop()
        return _complete(loop, awaitable)
    finally:
        if loop is not None:
            finish_loop(loop, timeout=None)


def _complete(loop: asyncio.AbstractEventLoop, awaitable: Awaitable[T]) -> T:
    task = None
    try:
        with deferred_interrupts():
            task = loop.create_task(_as_coroutine(awaitable))
            interrupts = _Interrupts(loop, task)
        with interrupts.heard():
            result = loop.run_until_complete(task)
    except asyncio.CancelledError:
        if interrupts.arrived:
            raise KeyboardInterrupt from None  # its context still tells where the task stood
        raise
    except BaseException as exc:  # the task's own, or an interrupt
        if task is None:
            raise
        if task.done():
            _take_exception(task)
            raise
        interrupt = exc  # it fell into the loop, not into the task
    else:
        if interrupts.arrived:  # just as the task came to its end
            raise KeyboardInterrupt
        return result
    # Out of the handler: in there, Python 3.10 would lose where the task stood when it was cancelled.
    try:
        task.cancel()
        with suppress(Exception):
            loop.run_until_complete(task)
        raise interrupt
    except asyncio.CancelledError:
        raise interrupt from None  # its context still tells where the task stood
    finally:
        del interrupt  # whose traceback holds this frame
        if task.done():
            _take_exception(task)


_AFTERMATH = 1.0
"""Seconds for what tasks begin while they are cancelled."""


def finish_loop(loop: asyncio.AbstractEventLoop, *, timeout: float | None) -> None:
    """Cancel what is left on a loop that has stopped, wait for that at most ``timeout`` seconds,
    and close the loop. Its default executor is left to the interpreter: its threads may hang.

    What the tasks have begun while they were cancelled is not cancelled itself: databases close their
    connections so, on threads that fail where the loop is closed before they can tell it.
    """
    try:
        leftovers = asyncio.all_tasks(loop)
        for task in leftovers:
            task.cancel()
        if leftovers:
            loop.run_until_complete(asyncio.wait(leftovers, timeout=timeout))
        if begun := asyncio.all_tasks(loop) - leftovers:
            loop.run_until_complete(asyncio.wait(begun, timeout=_AFTERMATH))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
        for task in asyncio.all_tasks(loop):
            discard_task(task)


@contextmanager
def _interruptible() -> Iterator[None]:
    """While it lasts, an interrupt is raised here, as in any code that waits.

    Whoever runs the outer loop (asyncio.run, ipykernel in a cell with ``await``) may have replaced
    that by cancelling the outer task, which cannot act on it while it waits in here.
    """
    previous = signal.getsignal(signal.SIGINT)
    # Interrupts arrive in the main thread only, and whoever ignores them means to.
    if threading.current_thread() is not threading.main_thread() or not callable(previous):
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


class _Interrupts:
    """Interrupts that arrive while a task is run to its end: they cancel it, as asyncio.run has it.

    To raise KeyboardInterrupt where the main thread happens to be is to raise it within the loop's own
    code as well, which forgets then whom it was about to wake: the task, and with it the cell, would
    wait for ever. Only a task that goes on without awaiting anything has it raised in itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        self.arrived = False
        self._loop = loop
        self._task = task
        self._insists = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        previous = signal.getsignal(signal.SIGINT)
        nested = self._loop.is_running()
        # They arrive in the main thread only. Whoever ignores them means to, and so does who has a
        # handler of his own, other than for the sake of the outer loop.
        mine = previous is signal.default_int_handler or (nested and callable(previous))
        if threading.current_thread() is not threading.main_thread() or not mine:
            yield
            return
        signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        insists, self._insists = self._insists, False
        if not insists:
            self._loop.call_soon_threadsafe(self._task.cancel)
        if self.arrived and not _in_loop(frame):
            _interrupt(number, frame)
        if not self.arrived or insists:
            self.arrived = True
            _thread.start_new_thread(self._insist, ())

    def _insist(self) -> None:
        time.sleep(_PATIENCE)
        if not self._task.done():
            self._insists = True
            _interrupt_again()


_PATIENCE = 0.3
"""Seconds after which a task that was cancelled, and has not ended, may be one that awaits nothing."""


def _in_loop(frame: FrameType | None) -> bool:
    """Whether it is code of an event loop's own."""
    if frame is None:
        return False
    folder, name = os.path.split(frame.f_code.co_filename)
    return os.path.basename(folder) == "asyncio" or name.startswith(("selectors", "nest_asyncio"))


_RETRY_INTERRUPT = 0.005
"""Seconds after which an interrupt comes again that came where it would be lost."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not within a finalizer, where Python ignores what is raised: nested
    loops have many, as their tasks are made in Python and kept in weak sets."""
    if _in_finalizer(frame):
        again = threading.Timer(_RETRY_INTERRUPT, _interrupt_again)
        again.daemon = True
        again.start()
        return
    signal.default_int_handler(number, frame)


def _interrupt_again() -> None:
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        signal.pthread_kill(main, signal.SIGINT)  # which also wakes it, if it sleeps by now
    else:
        _thread.interrupt_main()


def _in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None:
        code = frame.f_code
        in_weakref = code.co_filename.endswith(("_weakrefset.py", "weakref.py"))
        if code.co_name == "__del__" or (in_weakref and code.co_name in ("remove", "_remove")):
            return True
        frame = frame.f_back
    return False


def _is_untouched(coroutine: Coroutine[Any, Any, Any]) -> bool:
    return inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _make_nestable(loop: asyncio.BaseEventLoop) -> None:
    # nest-asyncio breaks current_task() from Python 3.14 on; its maintained fork does not.
    name = "nest_asyncio2" if sys.version_info >= (3, 14) else "nest_asyncio"
    importlib.import_module(name).apply(loop)
