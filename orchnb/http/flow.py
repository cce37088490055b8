"""Decisions as generators, input and output in two small drivers.

A flow is a generator that yields what it wants done, a `Send` or a `Sleep`, and is given the
response back, or has the error thrown into it; what it returns is the answer. So a policy is written
once for async and sync, and is tested by hand with neither client nor clock. The idea is that of
httpx's ``Auth.auth_flow``, with errors coming in as well.

The two drivers below are the only place where async and sync say the same thing twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import NamedTuple, Protocol, TypeAlias

import httpx


class Send(NamedTuple):
    """Send the request.

    ``aside`` marks one of the flow's own, beside the caller's: its answer is read whole, and the
    options that the caller gave to ``send`` do not apply to it.
    """

    request: httpx.Request
    aside: bool = False


class Sleep(NamedTuple):
    """Do nothing for so many seconds."""

    seconds: float


Flow: TypeAlias = Generator["Send | Sleep", "httpx.Response | None", httpx.Response]
"""To yield `Send` is to be sent a response, or to have its error thrown in."""


class AsyncTransmit(Protocol):
    """How an async client sends; ``aside`` as in `Send`."""

    def __call__(self, request: httpx.Request, aside: bool, /) -> Awaitable[httpx.Response]: ...


class Transmit(Protocol):
    """How a plain client sends; ``aside`` as in `Send`."""

    def __call__(self, request: httpx.Request, aside: bool, /) -> httpx.Response: ...


async def drive_async(
    flow: Flow,
    send: AsyncTransmit,
    sleep: Callable[[float], Awaitable[None]],
    outcome: httpx.Response | Exception | None = None,
) -> httpx.Response:
    """Run a flow with async means and return what it returns.

    A flow that asks for more has given up the response that it holds, which is then closed.
    Cancellation and other ``BaseException``s close the flow and go on; no flow can stop them.

    ``outcome`` is what has come of the flow's first effect where that was carried out beforehand.
    """
    held: httpx.Response | None = None
    try:
        effect = next(flow)
        if isinstance(outcome, httpx.Response):
            held = outcome
            effect = flow.send(held)
        elif outcome is not None:
            effect = flow.throw(outcome)
        while True:
            if held is not None:
                abandoned, held = held, None
                await abandoned.aclose()
            try:
                if isinstance(effect, Send):
                    held = await send(effect.request, effect.aside)
                else:
                    await sleep(effect.seconds)
            except Exception as exc:
                effect = flow.throw(exc)
            else:
                effect = flow.send(held)
    except StopIteration as done:
        answer: httpx.Response = done.value
        return answer
    except BaseException:
        flow.close()
        if held is not None:
            await held.aclose()
        raise


def drive(
    flow: Flow,
    send: Transmit,
    sleep: Callable[[float], None],
    outcome: httpx.Response | Exception | None = None,
) -> httpx.Response:
    """`drive_async` with plain means."""
    held: httpx.Response | None = None
    try:
        effect = next(flow)
        if isinstance(outcome, httpx.Response):
            held = outcome
            effect = flow.send(held)
        elif outcome is not None:
            effect = flow.throw(outcome)
        while True:
            if held is not None:
                abandoned, held = held, None
                abandoned.close()
            try:
                if isinstance(effect, Send):
                    held = send(effect.request, effect.aside)
                else:
                    sleep(effect.seconds)
            except Exception as exc:
                effect = flow.throw(exc)
            else:
                effect = flow.send(held)
    except StopIteration as done:
        answer: httpx.Response = done.value
        return answer
    except BaseException:
        flow.close()
        if held is not None:
            held.close()
        raise
