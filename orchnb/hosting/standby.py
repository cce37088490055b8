"""Wait for the first connection to a port, so that nothing else runs for a port that nobody uses."""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from orchnb.runtime.interrupts import deferred_interrupts

_LAST_TIME = 1.0
"""Seconds to wait for the thread to end; it is a daemon thread and has nothing else to do."""


class Standby:
    """A thread that calls a function, once, when there is a connection to accept on a listening socket.

    The function must accept it. It is not called after `end`.
    """

    def __init__(self, listener: socket.socket, on_connection: Callable[[], object]) -> None:
        self._listener = listener
        self._on_connection = on_connection
        self._ended = False
        self._woken, self._waking = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="orchnb-port", daemon=True)
        with deferred_interrupts():
            self._thread.start()

    def end(self) -> None:
        """End the wait; returns immediately."""
        self._ended = True
        with suppress(OSError):  # it has ended already
            self._waking.send(b"\0")

    def join(self) -> None:
        """After `end`, wait for the thread."""
        if threading.current_thread() is not self._thread:
            self._thread.join(_LAST_TIME)

    def close_in_child(self) -> None:
        """Close the sockets in a forked child, which has no such thread."""
        for each in (self._woken, self._waking):
            each.close()

    def _run(self) -> None:
        try:
            # The listener may be closed at any time, which is an error on some systems.
            with suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
                for each in (self._listener, self._woken):
                    selector.register(each, selectors.EVENT_READ)
                selector.select()
        finally:
            self._woken.close()
            self._waking.close()
        if not self._ended:
            self._on_connection()
