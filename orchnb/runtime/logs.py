"""Log records of hosted code: kept in a ring, kept out of cells.

A notebook shows whatever is written to stderr in the cell that happens to run, and servers bring
handlers that write there. Which handlers there are, and when they are set up anew, is the server's
affair; so the records are taken out at their making, by logging's own hook for that. Python's warnings
are made records of, by the hook that ``logging.captureWarnings`` uses.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO
from urllib.parse import unquote

from orchnb.http.response import printable
from orchnb.redaction import MASK, scrub
from orchnb.runtime.progress import report_progress
from orchnb.settings import configured_for_prefect

# To the last @ before the path: a password may hold one.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+(?=@)")
_WORD = re.compile(r"[^\s'\"]+")
_UNHANDLED = -1
"""A level below that of every handler, so that none takes the record."""


class LogRing:
    """The last ``size`` log lines, oldest first. Credentials in URLs are masked.

    ``errors`` is how many there have been of level ERROR or higher, also of those that are kept no more.
    """

    def __init__(self, size: int = 1000) -> None:
        self.size = size
        self.errors = 0
        self._lines: deque[tuple[int, str]] = deque(maxlen=size)
        self._formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def add(self, record: logging.LogRecord) -> None:
        """Keep a record's text. One that cannot be formatted is kept as its bare message."""
        try:
            text = self._formatter.format(record)
        except Exception as exc:  # noqa: BLE001 - what does not fit must not hurt who logs
            bare = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            text = f"{record.levelname} {record.name}: {bare} (not formatted: {type(exc).__name__})"
        self.errors += record.levelno >= logging.ERROR
        self._lines.append((record.levelno, _CREDENTIALS.sub(MASK, text)))
        # Without the time, which makes a line new that only repeats an earlier one.
        report_progress(getattr(record, "message", ""))

    def lines(self, count: int, level: int = logging.NOTSET) -> tuple[str, ...]:
        """The last ``count`` lines of at least this level. A traceback makes a line of several."""
        kept = [text for recorded, text in list(self._lines) if recorded >= level]
        return tuple(kept[-count:]) if count > 0 else ()


def secret_mask() -> Callable[[str], str]:
    """What gives a server's words without the credentials in addresses, and without its configured
    secrets as they are now."""
    secrets: list[str] = []
    for name, value in configured_for_prefect():
        secrets += filter(None, (_credentials(word)[1] for word in _WORD.findall(value)))
        if name.endswith(("_PASSWORD", "_KEY", "_AUTH_STRING", "_CONNECTION_URL")):
            secrets.append(value)
        if name.endswith("_CUSTOM_HEADERS"):
            with suppress(ValueError, AttributeError):  # what is no JSON object is not used either
                secrets += map(str, json.loads(value).values())
    secrets += [part for secret in secrets for part in secret.split(":", 1)[1:]]
    secrets += [unquote(secret) for secret in secrets]
    return lambda text: _WORD.sub(_without_credentials, scrub(printable(text), secrets))


def _credentials(word: str) -> tuple[str, str, str]:
    """A word, taken apart at the credentials of the address in it, which may hold a slash or an @."""
    scheme, mark, rest = word.partition("://")
    credentials, at, place = rest.rpartition("@")
    return scheme + mark, credentials, at + place


def _without_credentials(word: re.Match[str]) -> str:
    before, credentials, after = _credentials(word.group())
    return f"{before}{MASK if credentials else ''}{after}"


@contextmanager
def divert_records(ring: LogRing, is_ours: Callable[[], bool]) -> Iterator[None]:
    """Send records and warnings made where ``is_ours()`` holds to the ring, and to no handler."""
    factory = _Records(ring, is_ours)
    show = _Warnings(is_ours)
    logging.setLogRecordFactory(factory)
    warnings.showwarning = show
    try:
        yield
    finally:
        factory.is_active = show.is_active = False
        # Other code may have put its own functions around ours, which then pass everything on. Another
        # host may still divert, and will take these out as well.
        while isinstance(top := logging.getLogRecordFactory(), _Records) and not top.is_active:
            logging.setLogRecordFactory(top.previous)
        while isinstance(shown := warnings.showwarning, _Warnings) and not shown.is_active:
            warnings.showwarning = shown.previous


class _Records:
    """A factory of log records that keeps those of hosted code."""

    def __init__(self, ring: LogRing, is_ours: Callable[[], bool]) -> None:
        self.previous: Callable[..., logging.LogRecord] = logging.getLogRecordFactory()
        self.is_active = True
        self._ring = ring
        self._is_ours = is_ours

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self.previous(*args, **kwargs)
        # A record without a name is about to become a copy of one (logging.makeLogRecord).
        if self.is_active and record.name is not None and self._is_ours():
            self._ring.add(record)
            record.levelno = _UNHANDLED
        return record


class _Warnings:
    """Shows warnings, and logs those of hosted code."""

    def __init__(self, is_ours: Callable[[], bool]) -> None:
        self.previous: Any = warnings.showwarning
        self.is_active = True
        self._is_ours = is_ours

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if self.is_active and self._is_ours():
            text = warnings.formatwarning(message, category, filename, lineno, line)
            logging.getLogger("py.warnings").warning("%s", text.rstrip())
        else:
            self.previous(message, category, filename, lineno, file, line)
