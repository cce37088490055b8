"""Policies as generators, with all I/O in two small drivers.

A flow is a generator that yields effects. The driver carries out each effect and sends the result back,
or throws the error into the flow. The flow's return value is the result. So each policy is written once
for sync and async, and can be tested without a client or a clock. The idea comes from httpx's
``Auth.auth_flow``; here errors are passed to the generator as well.

Apart from the two clients that call them, the two drivers are the only code that exists in both a sync
and an async version.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple, TypeAlias, TypeVar

import anyio
import httpx

from orchnb.runtime.futures import ThreadFuture
from orchnb.runtime.loops import loop_event

Effect = TypeVar("Effect")
Answer = TypeVar("Answer")
Result = TypeVar("Result")


class SendRequest(NamedTuple):
    """Send the request.

    ``aside`` marks a request that the flow adds to the caller's: its response is read completely, and
    the options that the caller passed to ``send`` do not apply to it.
    """

    request: httpx.Request
    aside: bool = False


class Sleep(NamedTuple):
    """Wait for that many seconds, or until ``control`` ends the wait."""

    seconds: float
    control: WaitControl | None = None


class WaitControl:
    """Ends one wait of a flow early. After the wait it has no effect.

    For a request of an async client, call `try_now` and `stop` on that request's event loop; for a
    request of a sync client, call them on any thread.
    """

    def __init__(self) -> None:
        self.stopped: bool = False
        """Whether `stop` was called: no further retry."""
        self._end: ThreadFuture[None] = ThreadFuture()

    @property
    def ended(self) -> bool:
        """Whether the wait was ended early."""
        return self._end.done()

    def try_now(self) -> None:
        """End the wait and retry now."""
        self._end.set_result()

    def stop(self) -> None:
        """End the wait and do not retry: the outcome of the last try is the result."""
        self.stopped = True
        self.try_now()

    async def asleep(self, sleep: Callable[[float], Awaitable[None]], seconds: float) -> None:
        """Wait in async code with ``sleep``, until it returns or the wait is ended."""
        with anyio.CancelScope() as scope:
            self._end.when_done(scope.cancel)
            if not self.ended:
                await sleep(seconds)
        self._end.forget(scope.cancel)

    async def asleep_anywhere(self, seconds: float) -> None:
        """Wait in async code, where `try_now` may be called on any thread."""
        event = loop_event()
        self._end.when_done(event.set)
        try:
            await event.wait(seconds)
        finally:
            self._end.forget(event.set)

    def sleep(self, seconds: float) -> None:
        """Wait in sync code."""
        self._end.wait(seconds)


RequestFlow: TypeAlias = Generator[SendRequest | Sleep, httpx.Response | None, httpx.Response]
"""A flow over HTTP. The result of `SendRequest` is a response, that of `Sleep` is None."""


def drive(
    flow: Generator[Effect, Answer, Result],
    perform: Callable[[Effect], Answer],
    outcome: Any = None,
) -> Result:
    """Run a flow and return its result.

    ``outcome`` is the result of the first effect, if that was already carried out. An interrupt or
    another ``BaseException`` closes the flow and propagates; a flow cannot suppress it.
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
    """Run a flow as `drive` does, in async code. A cancellation propagates as an interrupt does."""
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
