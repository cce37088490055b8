"""Futures: set once, heard of by all who wait, whatever interrupts them."""

from __future__ import annotations

import _thread
import math
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchnb.runtime.futures import ThreadFuture, parts
from tests.servers import run_script

SECONDS = 10


def test_it_is_set_once() -> None:
    future: ThreadFuture[int] = ThreadFuture()
    assert not future.done()
    assert future.set_result(1)
    assert not future.set_result(2)
    assert not future.set_error(LookupError())
    assert (future.done(), future.result(), future.error) == (True, 1, None)


def test_an_error_is_raised_for_each_who_asks() -> None:
    future: ThreadFuture[int] = ThreadFuture()
    error = LookupError("x")
    future.set_error(error)
    for _ in range(3):
        with pytest.raises(LookupError) as caught:
            future.result()
        assert caught.value is error
        assert len(caught.traceback) == 2, "it does not grow"
    assert future.wait(0)


def test_a_wait_ends_with_its_time() -> None:
    future: ThreadFuture[None] = ThreadFuture()
    began = time.monotonic()
    assert not future.wait(0.05)
    assert not future.wait(0)
    with pytest.raises(TimeoutError):
        future.result(0.05)
    assert time.monotonic() - began >= 0.1
    assert not future._callbacks, "nothing is left of those who have gone"


def test_callbacks_are_called_once_each() -> None:
    future: ThreadFuture[None] = ThreadFuture()
    called: list[str] = []
    future.when_done(lambda: called.append("first"))
    second = lambda: called.append("second")  # noqa: E731 - the same one, to be forgotten
    future.when_done(second)
    assert future.forget(second)
    assert not future.forget(second)
    future.set_result()
    future.when_done(lambda: called.append("late"))
    assert called == ["first", "late"]


def test_all_who_wait_hear_of_it_however_it_comes_together() -> None:
    chance = random.Random(1)
    with ThreadPoolExecutor(8) as pool:
        for number in range(300):
            future: ThreadFuture[int] = ThreadFuture()
            called = threading.Semaphore(0)
            waiting = [pool.submit(future.result, SECONDS) for _ in range(3)]
            telling = [pool.submit(future.when_done, called.release) for _ in range(2)]
            time.sleep(chance.choice([0, 0, 0.0001]))
            setting = [pool.submit(future.set_result, number) for _ in range(2)]
            assert [each.result(SECONDS) for each in waiting] == [number] * 3
            assert [each.result(SECONDS) for each in telling] == [None] * 2
            assert sorted(each.result(SECONDS) for each in setting) == [False, True]
            assert all(called.acquire(timeout=SECONDS) for _ in range(2))
            assert not future._callbacks


INTERRUPTED = """
    import random, signal, sys, threading, time
    from orchnb.runtime.futures import ThreadFuture

    future, interrupted = ThreadFuture(), 0

    def hear():
        future.when_done(print)
        future.forget(print)

    use = {"wait": lambda: future.wait(0.0001), "done": future.done, "hear": hear}[sys.argv[1]]
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    ends = time.monotonic() + 1
    while time.monotonic() < ends:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 1e-4))
            while True:
                use()
        except KeyboardInterrupt:
            interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    other = threading.Thread(target=future.set_result, daemon=True)
    other.start()
    other.join(10)
    print(interrupted > 100, future.done(), other.is_alive())
"""


@pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="there is no such timer on this system"
)
@pytest.mark.parametrize("use", ["wait", "done", "hear"])
def test_an_interrupt_at_any_moment_keeps_nobody_from_setting_it(use: str, tmp_path: Path) -> None:
    """With `concurrent.futures.Future` one of some thousand interrupts left it locked."""
    done = run_script(INTERRUPTED, tmp_path, arguments=(use,))
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "True True False"


def test_an_interrupt_ends_a_wait() -> None:
    timer = threading.Timer(0.05, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        ThreadFuture().wait()
    timer.join()


def test_a_clock_that_jumps_uses_up_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    seen = []
    for part in parts(1.0, 0.25):
        seen.append(part)
        now[0] += 3600 if len(seen) == 2 else part
    assert seen == [0.25] * 4


def test_no_wait_is_without_a_limit_as_interrupts_could_be_missed() -> None:
    """One that arrives just when an unlimited wait begins is noticed when that ends only."""
    assert 0 < next(parts(math.inf)) <= 0.2
