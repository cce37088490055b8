"""Observers are told in order, one by one, and never felt."""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from orchnb.observers import Observers


def test_events_reach_every_observer_in_the_order_of_coming() -> None:
    told: list[tuple[str, int]] = []
    observers: Observers[int] = Observers()
    with observers.observe(lambda event: told.append(("first", event))):
        with observers.observe(lambda event: told.append(("second", event))):
            observers.tell(1)
        observers.tell(2)
    observers.tell(3)
    assert told == [("first", 1), ("second", 1), ("first", 2)]


def test_one_that_raises_is_logged_and_dropped_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[int] = []
    calls: list[int] = []

    def broken(event: int) -> None:
        calls.append(event)
        raise ZeroDivisionError

    observers: Observers[int] = Observers()
    caplog.set_level(logging.ERROR, logger="orchnb.observers")
    with observers.observe(broken), observers.observe(told.append):
        observers.tell(1)
        observers.tell(2)
    assert (calls, told) == ([1], [1, 2])
    assert "ZeroDivisionError" in caplog.text


def test_one_that_is_interrupted_interrupts() -> None:
    def interrupted(event: int) -> None:
        raise KeyboardInterrupt

    observers: Observers[int] = Observers()
    with observers.observe(interrupted), pytest.raises(KeyboardInterrupt):
        observers.tell(1)


@dataclass
class Recorder:
    """Two of these are equal while they hold the same."""

    broken: bool = field(default=False, compare=False)
    events: list[int] = field(default_factory=list, compare=False)

    def __call__(self, event: int) -> None:
        if self.broken:
            raise ZeroDivisionError
        self.events.append(event)


def test_dropping_one_does_not_drop_its_equal() -> None:
    good, bad = Recorder(), Recorder(broken=True)
    observers: Observers[int] = Observers()
    with observers.observe(good), observers.observe(bad):
        observers.tell(1)
        observers.tell(2)
    assert good.events == [1, 2]


def test_one_that_is_there_twice_is_told_twice_and_leaves_once() -> None:
    told: list[int] = []
    observers: Observers[int] = Observers()
    with observers.observe(told.append):
        with observers.observe(told.append):
            observers.tell(1)
        observers.tell(2)
    assert told == [1, 1, 2]


def test_one_that_leaves_while_an_event_is_told_does_no_harm() -> None:
    observers: Observers[int] = Observers()
    told: list[int] = []
    leaver = ExitStack()
    with observers.observe(lambda event: leaver.close()):
        leaver.enter_context(observers.observe(told.append))
        observers.tell(1)
        observers.tell(2)
    assert told == [1], "the event that was being told is told to the end"


def test_threads_come_and_go_without_losing_anybody() -> None:
    observers: Observers[int] = Observers()
    told: list[int] = []

    def come_and_go() -> None:
        for _ in range(200):
            with observers.observe(lambda event: None):
                pass

    with observers.observe(told.append):
        threads = [threading.Thread(target=come_and_go) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        observers.tell(1)
    assert told == [1]
    assert not observers._observers
