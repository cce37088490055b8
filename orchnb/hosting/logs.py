"""Log records of hosted code: kept in a ring buffer, and out of cells.

A notebook shows everything written to stderr in the cell that happens to run, and servers have handlers
that write there. So filters take the records before they come to a handler. Python's warnings are not
records: there is no hook for those of some code only, so they go where prints go.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote

from orchnb.redaction import MASK, Secrets
from orchnb.runtime.progress import report_progress
from orchnb.settings import configured_for_prefect
from orchnb.text import printable

# Up to the last @ before the path, because a password may contain one.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+(?=@)")
_WORD = re.compile(r"[^\s'\"]+")
_KEPT = "orchnb_kept"


class LogRing:
    """The last ``size`` log lines, oldest first. Credentials in URLs are masked.

    ``errors`` is the number of records of level ERROR or higher, including those no longer kept.
    """

    def __init__(self, size: int = 1000) -> None:
        self.size = size
        self.errors: int = 0
        self._lines: deque[tuple[int, str]] = deque(maxlen=size)
        self._formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record's text. If it cannot be formatted, keep the message without its arguments."""
        try:
            text = self._formatter.format(record)
        except Exception as exc:  # noqa: BLE001 - a bad record must not break the code that logs it
            bare = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            text = f"{record.levelname} {record.name}: {bare} (not formatted: {type(exc).__name__})"
        self.errors += record.levelno >= logging.ERROR
        self._lines.append((record.levelno, _CREDENTIALS.sub(MASK, text)))
        # Without the time, which would make a repeated line look new.
        report_progress(getattr(record, "message", ""))

    def lines(self, count: int, level: int = logging.NOTSET) -> tuple[str, ...]:
        """Return the last ``count`` records of at least this level; one with a traceback has many
        lines."""
        kept = [text for recorded, text in list(self._lines) if recorded >= level]
        return tuple(kept[-count:]) if count > 0 else ()


def secret_mask() -> Callable[[str], str]:
    """Return a function that masks the credentials in addresses, and the currently configured secrets, in
    a server's text."""
    secrets: list[str] = []
    for name, value in configured_for_prefect():
        secrets += filter(None, (_credentials(word)[1] for word in _WORD.findall(value)))
        if name.endswith(("_PASSWORD", "_KEY", "_AUTH_STRING", "_CONNECTION_URL")):
            secrets.append(value)
        if name.endswith("_CUSTOM_HEADERS"):
            with suppress(ValueError, AttributeError):  # anything but a JSON object is not used
                secrets += map(str, json.loads(value).values())
    secrets += [part for secret in secrets for part in secret.split(":", 1)[1:]]
    secrets += [unquote(secret) for secret in secrets]
    mask = Secrets(secrets).mask
    return lambda text: _WORD.sub(_without_credentials, mask(printable(text)))


def _credentials(word: str) -> tuple[str, str, str]:
    """Split a word around the credentials of the address in it, which may contain a slash or an @."""
    scheme, mark, rest = word.partition("://")
    credentials, at, place = rest.rpartition("@")
    return scheme + mark, credentials, at + place


def _without_credentials(word: re.Match[str]) -> str:
    before, credentials, after = _credentials(word.group())
    return f"{before}{MASK if credentials else ''}{after}"


class HostedRecords:
    """Keeps the log records of hosted code in a ring, and away from handlers.

    It filters every logger. A logger that is created later passes its records on to handlers, so the
    handlers are filtered as well; the first record that comes there makes it look for new loggers. Only
    what a new logger writes to a new handler is missed, until the next look.

    Args:
        ring: where the records go.
        is_hosted: returns whether the running code is hosted.
    """

    def __init__(self, ring: LogRing, is_hosted: Callable[[], bool]) -> None:
        self._ring = ring
        self._is_hosted = is_hosted
        self._lock = threading.Lock()
        self._users = 0
        self._seen = 0
        self._filtered: list[tuple[logging.Filterer, Callable[[logging.LogRecord], bool]]] = []

    @contextmanager
    def diverted(self) -> Iterator[None]:
        """Divert the records during the block. Blocks may overlap."""
        with self._lock:
            self._users += 1
        self.look()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._remove()

    def look(self) -> None:
        """Filter the loggers and handlers that are new."""
        with self._lock:
            if not self._users:
                return
            known = list(logging.root.manager.loggerDict.values())
            self._seen = len(known)
            loggers = [each for each in known if isinstance(each, logging.Logger)]
            self._filter(logging.lastResort, self._of_handler)
            for logger in (logging.root, *loggers):
                self._filter(logger, self._of_logger)
                for handler in list(logger.handlers):
                    self._filter(handler, self._of_handler)

    def look_if_more(self) -> None:
        """Look if there are more loggers than before. This is fast enough for each request."""
        if len(logging.root.manager.loggerDict) != self._seen:
            self.look()

    def _remove(self) -> None:
        while self._filtered:
            target, function = self._filtered.pop()
            target.removeFilter(function)

    def after_fork(self) -> None:
        """In a forked child, which has no host: undo everything."""
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._users = 0
        self._remove()

    def _filter(
        self, target: logging.Filterer | None, function: Callable[[logging.LogRecord], bool]
    ) -> None:
        if target is not None and function not in target.filters:
            target.addFilter(function)
            self._filtered.append((target, function))

    def _of_logger(self, record: logging.LogRecord) -> bool:
        if not self._is_hosted():
            return True
        self._ring.add(record)
        return False

    def _of_handler(self, record: logging.LogRecord) -> bool:
        if not self._is_hosted():
            return True
        if not hasattr(record, _KEPT):  # another handler may have kept it
            setattr(record, _KEPT, True)
            self._ring.add(record)
            self.look()
        return False
