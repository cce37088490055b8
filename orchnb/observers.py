"""Telling others what happens, without feeling what they do with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Event = TypeVar("Event")

logger = logging.getLogger(__name__)


class Observers(Generic[Event]):
    """Those who want to know of one kind of event, in the order in which they came."""

    def __init__(self) -> None:
        self._observers: tuple[Callable[[Event], object], ...] = ()
        self._lock = threading.Lock()

    @contextmanager
    def observe(self, observer: Callable[[Event], object]) -> Iterator[None]:
        """Have an observer told of every event during a ``with`` block."""
        with self._lock:
            self._observers = (*self._observers, observer)
        try:
            yield
        finally:
            self._drop(observer)

    def tell(self, event: Event) -> None:
        """Call every observer; one that raises is logged and dropped."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:
                logger.exception("An observer failed and will not be told again")
                self._drop(observer)

    def _drop(self, observer: Callable[[Event], object]) -> None:
        with self._lock:
            left = list(self._observers)
            if observer in left:
                left.remove(observer)
            self._observers = tuple(left)
