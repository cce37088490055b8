"""Log records of hosted code: kept in a ring buffer, and out of cells.

A notebook shows everything written to stderr in the cell that happens to run, and servers have handlers
that write there. The server decides which handlers exist and when they are set up again, so the records
are taken when they are created, through logging's record factory. Python's warnings become records
through the hook that ``logging.captureWarnings`` uses.
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

from orchnb.redaction import MASK, Secrets
from orchnb.runtime.progress import report_progress
from orchnb.settings import configured_for_prefect
from orchnb.text import printable

# Up to the last @ before the path, because a password may contain one.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+(?=@)")
_WORD = re.compile(r"[^\s'\"]+")
_UNHANDLED = -1
"""A level below that of every handler, so that none handles the record."""


class LogRing:
    """The last ``size`` log lines, oldest first. Credentials in URLs are masked.

    ``errors`` is the number of records of level ERROR or higher, including those no longer kept.
    """

    def __init__(self, size: int = 1000) -> None:
        self.size = size
        self.errors = 0
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


@contextmanager
def divert_records(ring: LogRing, is_ours: Callable[[], bool]) -> Iterator[None]:
    """Send records and warnings created where ``is_ours()`` is true to the ring, and to no handler."""
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
