"""Notify observers of events without being affected by their errors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

E = TypeVar("E")

logger: logging.Logger = logging.getLogger(__name__)


class Observers(Generic[E]):
    """The observers of one kind of event, in the order of their registration."""

    def __init__(self) -> None:
        # Keyed by registration, not by observer: two observers may be equal, or one may be registered
        # twice, and leaving a block must end only that block's registration.
        self._observers: dict[object, Callable[[E], object]] = {}
        self._lock = threading.Lock()

    @property
    def are_any(self) -> bool:
        """Whether there are any observers."""
        return bool(self._observers)

    @contextmanager
    def observe(self, observer: Callable[[E], object]) -> Iterator[None]:
        """Call an observer for every event during a ``with`` block."""
        registration = object()
        with self._lock:
            self._observers = {**self._observers, registration: observer}
        try:
            yield
        finally:
            self._drop(registration)

    def tell(self, event: E) -> None:
        """Call every observer; one that raises is logged and dropped."""
        for registration, observer in self._observers.items():
            try:
                observer(event)
            except Exception:
                logger.exception("An observer failed and will not be called again")
                self._drop(registration)

    def _drop(self, registration: object) -> None:
        with self._lock:  # a new dict each time: other threads may be iterating over the old one
            self._observers = {
                known: observer
                for known, observer in self._observers.items()
                if known is not registration
            }


# Here and not next to their events, so that they can be observed before anything heavy is imported.
retry_observers: Observers[Any] = Observers()
"""The observers of each `orchnb.http.retry.RetryEvent`."""

startup_observers: Observers[Any] = Observers()
"""The observers of each `orchnb.hosting.ephemeral.StartupEvent`."""

switch_observers: Observers[None] = Observers()
"""The observers that are called after `orchnb.use_app` has chosen another server."""

follow_observers: Observers[Any] = Observers()
"""The observers of each `orchnb.runs.following.Following`; called after each look at its runs."""
