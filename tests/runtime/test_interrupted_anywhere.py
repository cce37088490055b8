"""The stop button at every single moment: it is an interrupt, nothing else, and nothing is left behind.

Moments of chance hardly ever meet the few microseconds in which something is taken and nobody has
noted yet who gives it back. Here the interrupt comes at the first moment, then at the second, and so on.
"""

from __future__ import annotations

import dis
import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import orchnb
from orchnb.api.client import PrefectClient, SyncPrefectClient
from orchnb.runtime import host
from orchnb.runtime.ephemeral import EphemeralApp
from orchnb.runtime.host import lease_host
from orchnb.runtime.loops import run
from orchnb.runtime.serving import Served

FOLDER = Path(orchnb.__file__).parent
NEVER = sys.maxsize
SECONDS = 10  # at most; nothing here should take any


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'"ok"'})


def plain_request() -> None:
    with SyncPrefectClient(app) as client:
        client.request("GET", "/hello")


def request_that_is_run() -> None:
    async def request() -> None:
        async with PrefectClient(app) as client:
            await client.request("GET", "/hello")

    run(request())


def lease_of_the_host() -> None:
    with lease_host():
        pass


def port() -> None:
    served = Served(EphemeralApp("app", home=Path(), timeout=SECONDS, given=app))
    try:
        served.close()
    finally:  # as a person would, whose first try was interrupted
        served.close()


class InterruptAt:
    """An interrupt at a moment of the main thread, counted from 1, in some files of orchnb's.

    Moments are those at which CPython looks for interrupts: where a function begins or goes on, after a
    call, and where a loop begins anew.
    """

    def __init__(self, number: int, files: tuple[str, ...]) -> None:
        self._left = number
        self.files = files
        self._paths = {str(FOLDER / file) for file in files}
        self._last: dict[FrameType, str] = {}
        self.place = ""
        """Where it came; empty if there are not so many moments."""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_filename not in self._paths:
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        if event == "call":
            self._last[frame] = "RESUME"
        elif event == "return":
            del self._last[frame]
        elif event == "opcode":
            last, self._last[frame] = self._last[frame], names_of(frame.f_code)[frame.f_lasti]
            if last.startswith(("RESUME", "CALL", "JUMP_BACKWARD", "JUMP_ABSOLUTE")):
                self._left -= 1
                if self._left == 0:
                    self._interrupt(frame)
        return self

    def _interrupt(self, frame: FrameType) -> None:
        self.place = f"{frame.f_code.co_name}, {frame.f_code.co_filename}:{frame.f_lineno}"
        self._last.clear()
        sys.settrace(None)
        signal.raise_signal(signal.SIGINT)


@cache
def names_of(code: CodeType) -> dict[int, str]:
    """What each instruction of a function does, by its place."""
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


def interrupted(work: Callable[[], None], trace: InterruptAt) -> str:
    """The name of what came of it."""
    before = sys.gettrace()
    # Python 3.12 prepares for opcodes only if a frame has asked for them before `settrace`.
    sys._getframe().f_trace_opcodes = True
    try:
        if sys.version_info[:2] == (3, 13):  # which shows them from the second time on
            sys.settrace(InterruptAt(NEVER, trace.files))
            work()
        sys.settrace(trace)
        work()
    except BaseException as exc:
        return type(exc).__name__
    finally:
        sys.settrace(before)
    return "nothing"


def left_behind() -> list[str]:
    """What still is there of the host, once it has had the time to go."""
    deadline = time.monotonic() + SECONDS
    while True:
        left = [t.name for t in threading.enumerate() if t.name == "orchnb-host"]
        left += ["lease"] * host._tenancy.leases
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()  # what the interrupt's traceback holds
        time.sleep(0.001)


@pytest.fixture
def quick_collections() -> Iterator[None]:
    """What other tests have left in memory is not looked through again and again."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


# Of a coroutine that was made for a call which the interrupt came before.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.usefixtures("quick_collections")
@pytest.mark.parametrize(
    ("work", "files"),
    [
        (lease_of_the_host, ("runtime/host.py", "runtime/loops.py", "runtime/outcome.py")),
        (
            plain_request,
            ("runtime/host.py", "runtime/outcome.py", "runtime/transport.py", "api/client.py"),
        ),
        (
            request_that_is_run,
            ("runtime/host.py", "runtime/loops.py", "runtime/transport.py", "api/client.py"),
        ),
        (port, ("runtime/serving.py",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_at_every_moment(
    work: Callable[[], None], files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: dropped.append(hook.exc_type))
    work()  # whatever it imports
    number = 0
    while True:
        number += 1
        trace = InterruptAt(number, files)
        came_of_it = interrupted(work, trace)
        if not trace.place:
            break
        # In a finalizer Python drops it, for orchnb.notebook.interrupts to send it again.
        if not (came_of_it == "nothing" and dropped == [KeyboardInterrupt]):
            assert (came_of_it, dropped) == ("KeyboardInterrupt", []), trace.place
        dropped.clear()
        assert not left_behind(), trace.place
    assert number > 20
