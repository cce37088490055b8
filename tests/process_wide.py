"""What a whole process shares, and a library has no business to change: taken down, and compared."""

from __future__ import annotations

import asyncio
import asyncio.events
import asyncio.futures
import asyncio.runners
import asyncio.tasks
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from types import MethodType

_MODULES = (asyncio, asyncio.events, asyncio.futures, asyncio.runners, asyncio.tasks)
_CLASSES = (
    asyncio.BaseEventLoop,
    asyncio.SelectorEventLoop,
    asyncio.Handle,
    logging.Logger,
    logging.LogRecord,
    threading.Thread,
)
_NAMES: dict[object, tuple[str, ...]] = {
    logging: ("Logger", "captureWarnings", "getLogger", "lastResort", "warn"),
    signal: ("getsignal", "raise_signal", "set_wakeup_fd", "signal"),
    sys: (
        "breakpointhook",
        "displayhook",
        "excepthook",
        "stderr",
        "stdin",
        "stdout",
        "unraisablehook",
    ),
    threading: ("Event", "Lock", "Thread", "Timer", "excepthook", "get_ident", "settrace"),
    warnings: ("formatwarning", "showwarning", "warn", "warn_explicit"),
}
_VALUES: dict[str, Callable[[], object]] = {
    "logging.getLogRecordFactory()": logging.getLogRecordFactory,
    "logging.getLoggerClass()": logging.getLoggerClass,
    "logging.root.level": lambda: logging.root.level,
    "signal.getsignal(SIGINT)": lambda: signal.getsignal(signal.SIGINT),
    "sys.getswitchinterval()": sys.getswitchinterval,
    "sys.gettrace()": sys.gettrace,
    "threading.gettrace()": lambda: getattr(threading, "gettrace", lambda: None)(),
}


def taken_down() -> dict[str, object]:
    """Everything that is compared, by name."""
    found: dict[str, object] = {}
    for module in _MODULES:
        for name, value in vars(module).items():
            if not name.startswith("__") and (callable(value) or isinstance(value, type)):
                found[f"{module.__name__}.{name}"] = value
    for kind in _CLASSES:
        for name, value in vars(kind).items():
            found[f"{kind.__module__}.{kind.__qualname__}.{name}"] = value
    for module, names in _NAMES.items():
        for name in names:
            found[f"{module.__name__}.{name}"] = getattr(module, name, None)  # type: ignore[attr-defined]
    found.update((name, value()) for name, value in _VALUES.items())
    return found


def changed(before: dict[str, object]) -> list[str]:
    """The names of what is not what it was."""
    now = taken_down()
    names = sorted(before.keys() | now.keys())
    return [name for name in names if not _is_same(before.get(name), now.get(name))]


def _is_same(one: object, other: object) -> bool:
    # Each look at a bound method makes another object.
    return one is other or (isinstance(one, (int, float, MethodType)) and one == other)
