"""Interrupts that wait until what is being done is whole."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from orchnb.runtime.interrupts import deferred_interrupts

SECONDS = 10  # at most; nothing here should take any


@contextmanager
def handled_by(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_raised_at_the_end_of_the_block() -> None:
    done = []

    def interrupted() -> None:
        with deferred_interrupts():
            signal.raise_signal(signal.SIGINT)
            done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["whole"]


def test_without_interrupts_nothing_happens() -> None:
    before = signal.getsignal(signal.SIGINT)
    with deferred_interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_block_within_a_block_hands_it_on() -> None:
    done = []

    def interrupted() -> None:
        with deferred_interrupts():
            with deferred_interrupts():
                signal.raise_signal(signal.SIGINT)
            done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["whole"]


def test_an_error_leaves_the_handler_as_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), deferred_interrupts():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_is_not_lost_where_there_is_an_error_as_well() -> None:
    def interrupted() -> None:
        with deferred_interrupts():
            signal.raise_signal(signal.SIGINT)
            raise ZeroDivisionError

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupted()
    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_a_handler_of_ones_own_is_called_once_at_the_end() -> None:
    heard: list[tuple[int, bool]] = []

    def handle(number: int, frame: FrameType | None) -> None:
        assert frame is not None
        heard.append((number, whole))

    with handled_by(handle):
        whole = False
        with deferred_interrupts():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            whole = True
        assert heard == [(signal.SIGINT, True)]


def test_who_ignores_interrupts_goes_on_to_ignore_them() -> None:
    with handled_by(signal.SIG_IGN), deferred_interrupts():
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_which_no_interrupt_reaches_leave_the_handler_alone() -> None:
    seen = []

    def look() -> None:
        with deferred_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(SECONDS)
    assert seen == [signal.getsignal(signal.SIGINT)]


@pytest.mark.skipif(sys.platform == "win32", reason="asyncio hears of no signals there")
def test_asyncio_hears_of_it_once() -> None:
    heard: list[str] = []

    async def interrupted() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, heard.append, "interrupt")
        with deferred_interrupts():
            signal.raise_signal(signal.SIGINT)
        for _ in range(10):
            await asyncio.sleep(0)
        loop.remove_signal_handler(signal.SIGINT)

    with handled_by(signal.getsignal(signal.SIGINT)):
        asyncio.run(interrupted())
    assert heard == ["interrupt"]


def no_interrupt(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN: Python complains where that takes the place of a handler that was about to run."""


def one_interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, no_interrupt)
    raise KeyboardInterrupt


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Interrupts at moments of chance, which nobody heeds yet."""
    over = threading.Event()
    chance = random.Random(0)
    main = threading.main_thread().ident
    assert main is not None

    def send() -> None:
        while not over.wait(chance.uniform(0, 0.0005)):
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, no_interrupt)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        over.set()
        sender.join(SECONDS)
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_a_thread_is_started_whole_or_not_at_all_whenever_the_interrupt_comes(
    interrupts: None,
) -> None:
    """Those that are said to be alive come to run, and no other."""
    gate = threading.Event()
    ran: set[threading.Thread] = set()

    def run() -> None:
        gate.wait(SECONDS)
        ran.add(threading.current_thread())

    threads = [threading.Thread(target=run) for _ in range(300)]
    interrupted = 0
    alive = set()
    for thread in threads:
        try:
            signal.signal(signal.SIGINT, one_interrupt)
            with deferred_interrupts():
                thread.start()
            signal.signal(signal.SIGINT, no_interrupt)
        except KeyboardInterrupt:
            interrupted += 1
        if thread.is_alive():
            alive.add(thread)
    gate.set()
    for thread in alive:
        thread.join(SECONDS)
    assert ran == alive
    assert interrupted > 0
