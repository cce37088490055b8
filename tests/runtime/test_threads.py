"""Threads that are started while interrupts come."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

from orchnb.runtime.threads import start_thread

SECONDS = 10  # at most; nothing here should take any


def test_a_thread_that_is_started_runs_whoever_starts_it() -> None:
    ran = []

    def start_another() -> None:
        another = threading.Thread(target=ran.append, args=("another",))
        start_thread(another)
        another.join(SECONDS)
        ran.append("one")

    one = threading.Thread(target=start_another)
    start_thread(one)
    one.join(SECONDS)
    assert ran == ["another", "one"]


def test_a_start_that_fails_leaves_the_handler_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="new thread"):
        start_thread(threading.Thread())
    assert signal.getsignal(signal.SIGINT) is before


def test_who_ignores_interrupts_goes_on_to_ignore_them(interrupted_start: None) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        thread = threading.Thread()
        start_thread(thread)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_ones_own_is_called_once_where_the_thread_is_started(
    interrupted_start: None,
) -> None:
    heard: list[tuple[int, bool]] = []
    thread = threading.Thread(target=time.sleep, args=(0,))

    def handle(number: int, frame: FrameType | None) -> None:
        assert frame is not None
        heard.append((number, thread.ident is not None))

    before = signal.signal(signal.SIGINT, handle)
    try:
        start_thread(thread)
        assert heard == [(signal.SIGINT, True)]
        assert signal.getsignal(signal.SIGINT) is handle
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="asyncio hears of no signals there")
def test_asyncio_hears_of_it_once(interrupted_start: None) -> None:
    heard: list[str] = []

    async def start() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, heard.append, "interrupt")
        start_thread(threading.Thread())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    before = signal.getsignal(signal.SIGINT)
    try:
        asyncio.run(start())
        assert heard == ["interrupt"]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupted_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt comes while a thread is being started."""
    start = threading.Thread.start

    def start_and_interrupt(self: threading.Thread) -> None:
        signal.raise_signal(signal.SIGINT)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)


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
            start_thread(thread)
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
