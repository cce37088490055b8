"""A wait between two tries ends early at somebody's word."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

from orchnb.errors import PrefectHTTPStatusError
from orchnb.http.clients import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from orchnb.http.effects import WaitControl
from orchnb.http.retry import RetryEvent, RetryPolicy, observe_retries
from orchnb.runtime.loops import waker
from tests.http import hand


def transport(*statuses: int) -> httpx.MockTransport:
    left = list(statuses)
    return httpx.MockTransport(lambda request: httpx.Response(left.pop(0), headers=AFTER))


AFTER = {"Retry-After": "3600"}
"""A test that waits for that is killed by its time-out."""


class Watcher:
    """Remembers the events, and does something about each wait."""

    def __init__(self, act: Callable[[WaitControl], Any]) -> None:
        self.events: list[RetryEvent] = []
        self._act = act

    def __call__(self, event: RetryEvent) -> None:
        self.events.append(event)
        if event.control is not None:
            self._act(event.control)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def later(act: Callable[[WaitControl], Any]) -> Callable[[WaitControl], Any]:
    """From another thread, on the request's loop, as a display does it."""

    def begin(control: WaitControl) -> None:
        wake = waker()
        threading.Timer(0.01, wake, [lambda: act(control)]).start()

    return begin


def from_a_thread(act: Callable[[WaitControl], Any]) -> Callable[[WaitControl], Any]:
    return lambda control: threading.Timer(0.01, act, [control]).start()


def at_once(act: Callable[[WaitControl], Any]) -> Callable[[WaitControl], Any]:
    return act


@pytest.mark.anyio
@pytest.mark.parametrize("when", [later, at_once])
async def test_try_now_in_async_code(when: Any) -> None:
    watcher = Watcher(when(WaitControl.try_now))
    async with PrefectHttpxAsyncClient(transport=transport(503, 503, 200)) as client:
        with observe_retries(watcher):
            assert (await client.get("http://server/")).status_code == 200
    assert watcher.kinds == ["waiting", "waiting", "recovered"]


@pytest.mark.parametrize("when", [from_a_thread, at_once])
def test_try_now_in_plain_code(when: Any) -> None:
    watcher = Watcher(when(WaitControl.try_now))
    with (
        PrefectHttpxSyncClient(transport=transport(503, 503, 200)) as client,
        observe_retries(watcher),
    ):
        assert client.get("http://server/").status_code == 200
    assert watcher.kinds == ["waiting", "waiting", "recovered"]


@pytest.mark.anyio
async def test_stop_gives_the_last_answer_as_the_error() -> None:
    watcher = Watcher(later(WaitControl.stop))
    async with PrefectHttpxAsyncClient(transport=transport(503, 200)) as client:
        with observe_retries(watcher), pytest.raises(PrefectHTTPStatusError, match="503"):
            await client.get("http://server/")
        assert (await client.get("http://server/")).status_code == 200, "it goes on working"
    assert watcher.kinds == ["waiting", "stopped"]


def test_stop_gives_the_last_error_of_transport() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("cut", request=request)

    watcher = Watcher(WaitControl.stop)
    with (
        PrefectHttpxSyncClient(transport=httpx.MockTransport(broken)) as client,
        observe_retries(watcher),
        pytest.raises(httpx.ReadError, match="cut"),
    ):
        client.get("http://server/")
    assert watcher.kinds == ["waiting", "stopped"]
    assert [event.attempt for event in watcher.events] == [1, 1]


def test_one_without_raising_gives_the_answer_back() -> None:
    with (
        PrefectHttpxSyncClient(transport=transport(503), raise_on_all_errors=False) as client,
        observe_retries(Watcher(WaitControl.stop)),
    ):
        assert client.get("http://server/").status_code == 503


@pytest.mark.anyio
async def test_after_the_wait_it_does_nothing() -> None:
    watcher = Watcher(lambda control: None)
    policy = RetryPolicy(jitter_factor=0)
    sleeps: list[float] = []

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)

    async with PrefectHttpxAsyncClient(
        transport=transport(503, 200), retry_policy=policy, sleep=sleep
    ) as client:
        with observe_retries(watcher):
            await client.get("http://server/")
            assert watcher.events[0].control is not None
            watcher.events[0].control.stop()
            await anyio.lowlevel.checkpoint()
    assert sleeps == [3600.0]
    assert watcher.kinds == ["waiting", "recovered"]


@pytest.mark.anyio
async def test_a_cancellation_during_a_wait_goes_on_as_one() -> None:
    watcher = Watcher(lambda control: None)
    async with PrefectHttpxAsyncClient(transport=transport(503, 200)) as client:
        with observe_retries(watcher), anyio.move_on_after(0.05) as scope:
            await client.get("http://server/")
    assert scope.cancelled_caught
    assert watcher.kinds == ["waiting", "stopped"]


def test_a_control_is_no_part_of_what_an_event_says() -> None:
    watcher = Watcher(WaitControl.stop)
    flow = hand.retrier().flow(hand.request())
    with observe_retries(watcher):
        hand.walk(flow, [hand.response(503)])
    event = watcher.events[0]
    assert "control" not in repr(event)
    assert event.control is not None
