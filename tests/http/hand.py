"""Flows driven by hand: neither client nor clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from orchnb.http.effects import RequestFlow, SendRequest, Sleep
from orchnb.http.retry import Retrier, RetryPolicy

NOW = 1_800_000_000.0
"""The time of day in these tests, in seconds since the epoch: 2027-01-15 08:00:00 UTC."""


def policy(**changes: Any) -> RetryPolicy:
    """A policy in which chance is in the middle: jitter changes nothing on both sides."""
    options: dict[str, Any] = {
        "random": lambda: 0.5,
        "now": lambda: NOW,
        "monotonic": lambda: 0.0,
        **changes,
    }
    return RetryPolicy(**options)


def retrier(*, connected: bool = False, **changes: Any) -> Retrier:
    made = Retrier(policy(**changes))
    made.connected = connected
    return made


def request(
    method: str = "GET", url: str = "http://server/api/flows", **kwargs: Any
) -> httpx.Request:
    return httpx.Request(method, url, **kwargs)


def response(
    status: int = 200, *, to: httpx.Request | None = None, **kwargs: Any
) -> httpx.Response:
    return httpx.Response(status, request=to or request(), **kwargs)


@dataclass
class Walk:
    """What a flow did with the answers that it was given."""

    sent: list[httpx.Request] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    """``send``, ``aside`` or ``sleep``, in order."""
    returned: httpx.Response | None = None
    raised: Exception | None = None


def walk(flow: RequestFlow, answers: Sequence[httpx.Response | Exception]) -> Walk:
    """Run a flow to its end; each `SendRequest` takes the next answer, the last one again and again."""
    done = Walk()
    left = list(answers)
    try:
        effect = next(flow)
        while True:
            assert len(done.steps) < 10_000, "the flow has no end"
            if isinstance(effect, Sleep):
                done.steps.append("sleep")
                done.waits.append(effect.seconds)
                effect = flow.send(None)
                continue
            assert isinstance(effect, SendRequest)
            done.steps.append("aside" if effect.aside else "send")
            done.sent.append(effect.request)
            answer = left.pop(0) if len(left) > 1 else left[0]
            effect = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
    except StopIteration as stop:
        done.returned = stop.value
    except Exception as exc:
        done.raised = exc
    return done
