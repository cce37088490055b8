"""Telling others what happens, without feeling what they do with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Event = TypeVar("Event")

logger = logging.getLogger(__name__)


class Observers(Generic[Event]):
    """Those who want to know of one kind of event, in the order in which they came."""

    def __init__(self) -> None:
        # By registration and not by observer: two observers may be equal, or the same one be there
        # twice, and leaving a block ends that block's registration only.
        self._observers: dict[object, Callable[[Event], object]] = {}
        self._lock = threading.Lock()

    @property
    def are_any(self) -> bool:
        """Whether anybody wants to know."""
        return bool(self._observers)

    @contextmanager
    def observe(self, observer: Callable[[Event], object]) -> Iterator[None]:
        """Have an observer told of every event during a ``with`` block."""
        registration = object()
        with self._lock:
            self._observers = {**self._observers, registration: observer}
        try:
            yield
        finally:
            self._drop(registration)

    def tell(self, event: Event) -> None:
        """Call every observer; one that raises is logged and dropped."""
        for registration, observer in self._observers.items():
            try:
                observer(event)
            except Exception:
                logger.exception("An observer failed and will not be told again")
                self._drop(registration)

    def _drop(self, registration: object) -> None:
        with self._lock:  # a new dict each time, as others may be telling from the old one
            self._observers = {
                known: observer
                for known, observer in self._observers.items()
                if known is not registration
            }


# Here and not beside their events, so that they can be watched before anything heavy is imported.
retry_observers: Observers[Any] = Observers()
"""Those who are told of each `orchnb.http.retry.RetryEvent`."""

startup_observers: Observers[Any] = Observers()
"""Those who are told of each `orchnb.runtime.ephemeral.StartupEvent`."""

switch_observers: Observers[None] = Observers()
"""Those who are told that another server is about to be meant by `orchnb.use_app`."""
