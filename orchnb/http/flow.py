"""Decisions as generators, input and output in two small drivers.

A flow is a generator that yields an effect, something that it wants done, and is given back what
came of it, or has the error thrown into it; what it returns is the result. So a policy is written
once for async and sync, and is tested by hand with neither client nor clock. The idea is that of
httpx's ``Auth.auth_flow``, with errors coming in as well.

The two drivers are the only place where async and sync say the same thing twice, save for the two
clients that hand them their means.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

import anyio
import httpx

Effect = TypeVar("Effect")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


class Send(NamedTuple):
    """Send the request.

    ``aside`` marks one of the flow's own, beside the caller's: its answer is read whole, and the
    options that the caller gave to ``send`` do not apply to it.
    """

    request: httpx.Request
    aside: bool = False


class Sleep(NamedTuple):
    """Do nothing for so many seconds, or until ``control`` ends the wait."""

    seconds: float
    control: WaitControl | None = None


class WaitControl:
    """Ends one wait of a flow early, at somebody's word; after the wait it does nothing.

    For a request of an async client, `try_now` and `stop` are to be called on that request's loop;
    for one of a sync client on any thread.
    """

    def __init__(self) -> None:
        self.stopped = False
        """Whether there is to be no further try."""
        self._ended = threading.Event()
        self._wake: Callable[[], object] | None = None

    @property
    def ended(self) -> bool:
        """Whether somebody has ended the wait."""
        return self._ended.is_set()

    def try_now(self) -> None:
        """End the wait, and try again."""
        self._ended.set()
        if self._wake is not None:
            self._wake()

    def stop(self) -> None:
        """End the wait, and do not try again: what the last try came to is the result."""
        self.stopped = True
        self.try_now()

    async def asleep(self, sleep: Callable[[float], Awaitable[None]], seconds: float) -> None:
        """Wait in async code by means of ``sleep``, until its end or that of the wait."""
        with anyio.CancelScope() as scope:
            self._wake = scope.cancel
            if not self._ended.is_set():
                await sleep(seconds)
        self._wake = None

    def sleep(self, seconds: float) -> None:
        """Wait in plain code."""
        if threading.current_thread() is not threading.main_thread():
            self._ended.wait(seconds)
            return
        # An interrupt that comes just as the wait for an event begins may go unnoticed until its end,
        # and on Windows none ends it at all.
        over = time.monotonic() + seconds
        while not self._ended.is_set() and (left := over - time.monotonic()) > 0:
            time.sleep(min(left, _STEP))


_STEP = 0.1
"""Seconds."""


Flow: TypeAlias = Generator[Send | Sleep, httpx.Response | None, httpx.Response]
"""A flow over HTTP. `Send` is answered by a response, `Sleep` by None."""


def drive(
    flow: Generator[Effect, Answer, Result],
    perform: Callable[[Effect], Answer],
    outcome: Any = None,
) -> Result:
    """Run a flow and return what it returns.

    ``outcome`` is what has come of the first effect, where that was carried out beforehand. An
    interrupt or another ``BaseException`` closes the flow and goes on; no flow can stop it.
    """
    try:
        effect = next(flow)
        if isinstance(outcome, Exception):
            effect = flow.throw(outcome)
        elif outcome is not None:
            effect = flow.send(outcome)
        while True:
            try:
                answer = perform(effect)
            except Exception as exc:  # noqa: BLE001 - the flow decides which ones go on
                effect = flow.throw(exc)
            else:
                effect = flow.send(answer)
    except StopIteration as done:
        result: Result = done.value
        return result
    finally:
        flow.close()


async def drive_async(
    flow: Generator[Effect, Answer, Result],
    perform: Callable[[Effect], Awaitable[Answer]],
    outcome: Any = None,
) -> Result:
    """`drive` with async means; a cancellation goes on as an interrupt does."""
    try:
        effect = next(flow)
        if isinstance(outcome, Exception):
            effect = flow.throw(outcome)
        elif outcome is not None:
            effect = flow.send(outcome)
        while True:
            try:
                answer = await perform(effect)
            except Exception as exc:  # noqa: BLE001 - the flow decides which ones go on
                effect = flow.throw(exc)
            else:
                effect = flow.send(answer)
    except StopIteration as done:
        result: Result = done.value
        return result
    finally:
        flow.close()
