"""Parse JSON in steps, so that an interrupt or a cancellation can stop it, and an event loop can go on.

``json.loads`` is one call into C: while it runs, Python does not handle signals or switch threads. So a
large text is parsed in many such calls: arrays and objects larger than a window are walked here, and
values that fit into the window are parsed in C.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from typing import Any

_WINDOW = 1 << 20
"""The most characters that one call parses, unless one string is longer. Takes about ten milliseconds."""

_DEEPEST = 50
"""The levels of large arrays and objects that are walked; deeper ones are parsed in one call."""

_MOST_VALUES = 30_000_000
"""Commas and brackets, including those in strings: each can be a value of up to 70 bytes of memory."""


class JSONRefused(ValueError):
    """The JSON is not parsed; the message says why."""


_SPACE = re.compile(r"[ \t\n\r]*")
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined] # typeshed lacks it
_Steps = Generator[None, None, tuple[Any, int]]


def parse(text: str, window: int = _WINDOW) -> Generator[None, None, Any]:
    """Parse ``text`` as ``json.loads`` does; each step parses about one window.

    Raises:
        JSONRefused: the text is nested more deeply than Python allows, or has too many values.
        ValueError: the text is not JSON.
    """
    if len(text) > _MOST_VALUES and sum(map(text.count, ",[{")) > _MOST_VALUES:
        raise JSONRefused(f"it has more than {_MOST_VALUES:,} values")
    try:
        if len(text) <= window:
            return json.loads(text)
        value, end = yield from _Walk(text, window).value(_after_space(text, 0), 0)
        end = _after_space(text, end)
        if end != len(text):
            raise json.JSONDecodeError("Extra data", text, end)
        return value
    except RecursionError:
        raise too_deep() from None


def too_deep() -> JSONRefused:
    """Return the error for a RecursionError."""
    return JSONRefused("it is nested too deeply")


def finish(steps: Generator[None, None, Any]) -> Any:
    """Run all steps, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


class _Walk:
    """A text and a window into it, which begins at ``base``."""

    def __init__(self, text: str, size: int) -> None:
        self._text = text
        self._size = size
        self._move(0)

    def _move(self, base: int) -> None:
        self._base = base
        self._window = self._text[base : base + self._size]

    def value(self, pos: int, depth: int) -> _Steps:
        """Parse the value at ``pos``, of any size; return it and the position of its end."""
        opening = self._text[pos : pos + 1]
        if opening == "[" and depth < _DEEPEST:
            return (yield from self._members(pos, depth, [], "]"))
        if opening == "{" and depth < _DEEPEST:
            pairs, end = yield from self._members(pos, depth, [], "}")
            return dict(pairs), end
        try:
            return _scan(self._text, pos)
        except StopIteration:
            raise json.JSONDecodeError("Expecting value", self._text, pos) from None

    def _members(self, pos: int, depth: int, found: list[Any], closing: str) -> _Steps:
        """Parse the members of an array, or those of an object as pairs."""
        text = self._text
        pos = _after_space(text, pos + 1)
        if text[pos : pos + 1] == closing:
            return found, pos + 1
        read: Callable[[str, int], tuple[Any, int]] = _scan if closing == "]" else self._pair
        is_plain = closing == "]"
        while True:
            if is_plain and 0 <= pos - self._base < len(self._window):
                members = self._plain_members(pos - self._base)
                is_plain = bool(members)
                if members:
                    found += members[0]
                    pos = _after_space(text, self._base + members[1])
            # As many members as the window contains. A member counts only if its end is in the window:
            # a number at the window's edge may continue.
            window, base, local = self._window, self._base, pos - self._base
            ended = False
            try:
                while not ended and 0 <= local < len(window):
                    member, end = read(window, local)
                    end = _after_space(window, end)
                    ended = window[end : end + 1] == closing
                    if not ended and window[end : end + 1] != ",":
                        break
                    following = _after_space(window, end + 1)
                    if not ended and following == len(window):
                        break  # white space may continue as well
                    found.append(member)
                    local = following
                    pos = base + (end + 1 if ended else following)
            except (StopIteration, ValueError):
                pass  # the window cuts it off, or it is invalid, which is detected below
            if ended:
                return found, pos
            if pos != self._base:
                self._move(pos)
                yield
                continue
            # It begins at the start of the window and does not fit into it.
            key, pos = self._key(text, pos) if closing == "}" else ("", pos)
            value, end = yield from self.value(pos, depth + 1)
            found.append((key, value) if closing == "}" else value)
            end = _after_space(text, end)
            if text[end : end + 1] == closing:
                return found, end + 1
            if text[end : end + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
            pos = _after_space(text, end + 1)

    def _plain_members(self, local: int) -> tuple[list[Any], int] | None:
        """Parse an array's members up to the window's last comma. Return them and the position of their
        end; None if that comma does not belong to the array. Among numbers it does."""
        cut = self._window.rfind(",", local)
        if cut <= local:
            return None
        try:
            return json.loads(f"[{self._window[local:cut]}]"), cut + 1
        except ValueError:
            return None

    def _pair(self, text: str, pos: int) -> tuple[Any, int]:
        key, pos = self._key(text, pos)
        value, end = _scan(text, pos)
        return (key, value), end

    @staticmethod
    def _key(text: str, pos: int) -> tuple[str, int]:
        """Parse a key and its colon; return the key and the position of its value."""
        if text[pos : pos + 1] != '"':
            message = "Expecting property name enclosed in double quotes"
            raise json.JSONDecodeError(message, text, pos)
        key, end = _scan(text, pos)
        end = _after_space(text, end)
        if text[end : end + 1] != ":":
            raise json.JSONDecodeError("Expecting ':' delimiter", text, end)
        return key, _after_space(text, end + 1)


def _after_space(text: str, pos: int) -> int:
    if text[pos : pos + 1] not in (" ", "\t", "\n", "\r"):
        return pos
    match = _SPACE.match(text, pos)
    return match.end() if match else pos
