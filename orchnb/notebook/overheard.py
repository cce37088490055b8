"""Get a copy of everything a cell shows: its text, its displays and its result.

ipykernel's streams have an ``echo``, which gets what is written to them, no matter from where: also from
loggers and handlers that have kept the stream since an earlier cell. So ``sys.stdout`` stays as it is. In
shells whose streams have none, such as terminal IPython, ``sys.stdout`` and ``sys.stderr`` are replaced
for the length of the cell, as IPython's own ``%%capture`` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from orchnb.notebook._ipython import echo_of, has_echo, result_of, set_echo

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

STREAMS = ("stdout", "stderr")

Wrote = Callable[[str, str], object]
"""Gets the name of a stream and what is written to it."""

Showed = Callable[[dict[str, Any]], object]
"""Gets the MIME bundle of an output."""


class Overheard:
    """Passes on what a shell shows, from now on until `stop`. Errors of the receivers are ignored."""

    def __init__(self, shell: InteractiveShell, wrote: Wrote, showed: Showed) -> None:
        self._shell = shell
        self._showed = showed
        self._pid = os.getpid()
        self._hears_results = False
        with ExitStack() as out:
            for name in STREAMS:
                out.callback(_listen(name, partial(self._wrote, wrote, name)))
            self._hook = self._passed
            publishers: tuple[Any, Any] = shell.display_pub, shell.displayhook
            for publisher in publishers:
                register = getattr(publisher, "register_hook", None)
                if register is not None:  # in a kernel; for results since ipykernel 7.1
                    register(self._hook)
                    out.callback(publisher.unregister_hook, self._hook)
                    self._hears_results |= publisher is shell.displayhook
            self._out = out.pop_all()

    def stop(self, result: Any) -> None:
        """Stop; ``result`` is IPython's result of the cell."""
        self._out.close()
        if not self._hears_results:
            with suppress(Exception):  # a representation of the user's object
                bundle = result_of(self._shell, result)
                if bundle:
                    self._showed(bundle)

    def _wrote(self, wrote: Wrote, name: str, text: str) -> None:
        if os.getpid() == self._pid:  # in a forked child nobody would send it
            with suppress(Exception):  # must not reach the code that prints
                wrote(name, text)

    def _passed(self, message: dict[str, Any]) -> dict[str, Any]:
        with suppress(Exception):  # must not reach the code that displays
            if message["msg_type"] in ("display_data", "execute_result"):
                self._showed(message["content"]["data"])
        return message


def _listen(name: str, hear: Callable[[str], object]) -> Callable[[], None]:
    """Copy what a stream gets; return the function that ends this."""
    stream: Any = getattr(sys, name)
    if has_echo(stream):
        echo = _Echo(echo_of(stream), hear)
        set_echo(stream, echo)

        def end() -> None:
            echo.hear = None
            if echo_of(stream) is echo:
                set_echo(stream, echo.previous)

        return end
    copy = _Copied(stream, hear)
    setattr(sys, name, copy)

    def restore() -> None:
        copy.hear = None
        if getattr(sys, name) is copy:
            setattr(sys, name, stream)

    return restore


class _Echo:
    """The echo of a stream, in front of the one that it had."""

    def __init__(self, previous: Any, hear: Callable[[str], object]) -> None:
        self.previous = previous
        self.hear: Callable[[str], object] | None = hear

    def write(self, text: str) -> None:
        if self.previous is not None:
            self.previous.write(text)
        if self.hear is not None:
            self.hear(text)

    def flush(self) -> None:
        if self.previous is not None:
            self.previous.flush()


class _Copied:
    """A stream that also passes on what it gets. It works as the stream afterwards, as something may
    have kept it."""

    def __init__(self, stream: Any, hear: Callable[[str], object]) -> None:
        self._stream = stream
        self.hear: Callable[[str], object] | None = hear

    def write(self, text: str) -> Any:
        written = self._stream.write(text)
        if self.hear is not None:
            self.hear(text)
        return written

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
