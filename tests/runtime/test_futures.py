"""Outcomes: set once, heard of by all who wait, whatever interrupts them."""

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

from orchnb.runtime.futures import Outcome, parts
from tests.servers import run_script

SECONDS = 10


def test_it_is_set_once() -> None:
    outcome: Outcome[int] = Outcome()
    assert not outcome.done()
    assert outcome.settle(1)
    assert not outcome.settle(2)
    assert not outcome.settle(error=LookupError())
    assert (outcome.done(), outcome.result(), outcome.error) == (True, 1, None)


def test_an_error_is_raised_for_each_who_asks() -> None:
    outcome: Outcome[int] = Outcome()
    error = LookupError("x")
    outcome.settle(error=error)
    for _ in range(3):
        with pytest.raises(LookupError) as caught:
            outcome.result()
        assert caught.value is error
        assert len(caught.traceback) == 2, "it does not grow"
    assert outcome.wait(0)


def test_a_wait_ends_with_its_time() -> None:
    outcome: Outcome[None] = Outcome()
    began = time.monotonic()
    assert not outcome.wait(0.05)
    assert not outcome.wait(0)
    with pytest.raises(TimeoutError):
        outcome.result(0.05)
    assert time.monotonic() - began >= 0.1
    assert not outcome._callbacks, "nothing is left of those who have gone"


def test_callbacks_are_called_once_each() -> None:
    outcome: Outcome[None] = Outcome()
    called: list[str] = []
    outcome.when_done(lambda: called.append("first"))
    second = lambda: called.append("second")  # noqa: E731 - the same one, to be forgotten
    outcome.when_done(second)
    assert outcome.forget(second)
    assert not outcome.forget(second)
    outcome.settle()
    outcome.when_done(lambda: called.append("late"))
    assert called == ["first", "late"]


def test_all_who_wait_hear_of_it_however_it_comes_together() -> None:
    chance = random.Random(1)
    with ThreadPoolExecutor(8) as pool:
        for number in range(300):
            outcome: Outcome[int] = Outcome()
            called = threading.Semaphore(0)
            waiting = [pool.submit(outcome.result, SECONDS) for _ in range(3)]
            telling = [pool.submit(outcome.when_done, called.release) for _ in range(2)]
            time.sleep(chance.choice([0, 0, 0.0001]))
            setting = [pool.submit(outcome.settle, number) for _ in range(2)]
            assert [each.result(SECONDS) for each in waiting] == [number] * 3
            assert [each.result(SECONDS) for each in telling] == [None] * 2
            assert sorted(each.result(SECONDS) for each in setting) == [False, True]
            assert all(called.acquire(timeout=SECONDS) for _ in range(2))
            assert not outcome._callbacks


INTERRUPTED = """
    import random, signal, sys, threading, time
    from orchnb.runtime.futures import Outcome

    outcome, interrupted = Outcome(), 0

    def hear():
        outcome.when_done(print)
        outcome.forget(print)

    use = {"wait": lambda: outcome.wait(0.0001), "done": outcome.done, "hear": hear}[sys.argv[1]]
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
    other = threading.Thread(target=outcome.settle, daemon=True)
    other.start()
    other.join(10)
    print(interrupted > 100, outcome.done(), other.is_alive())
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
        Outcome().wait()
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
