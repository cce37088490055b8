"""Secrets that are not shown on their way to the network.

These are Python's own types, and behave like them. Only their reprs, and so the local variables that
debuggers and error trackers show, do not contain the secret. Neither do their pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import zip_longest
from types import FrameType, TracebackType
from typing import Any

from typing_extensions import Self

from orchnb.redaction import MASK, redact_url


class _Concealed:
    """A copy is the object itself; a pickle contains only what the repr shows."""

    __slots__ = ()

    def _shown(self) -> str | bytes:
        return MASK

    def __repr__(self) -> str:
        return repr(self._shown())

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return type(self), (self._shown(),)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class ConcealedText(_Concealed, str):
    """A secret text, such as the value of a header."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """As ``str.encode``; the bytes are concealed as well."""
        return ConcealedBytes(super().encode(encoding, errors))


class ConcealedBytes(_Concealed, bytes):
    """A secret as bytes. httpx keeps the values of headers like this."""

    __slots__ = ()

    def _shown(self) -> bytes:
        return MASK.encode()

    def __str__(self) -> str:
        return repr(self)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As ``bytes.decode``; the text is concealed as well."""
        return ConcealedText(super().decode(encoding, errors))

    def strip(self, chars: Any = None, /) -> bytes:
        """As ``bytes.strip``, which h2 calls for each header."""
        return ConcealedBytes(super().strip(chars))


class Body(ConcealedBytes):
    """The body of a request, which may contain anything. Its repr says how long it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self):,} bytes>"

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As ``bytes.decode``: it is called to see the text."""
        return bytes.decode(self, encoding, errors)


class ConcealedUrl(_Concealed, str):
    """A URL with credentials, which its repr leaves out."""

    __slots__ = ()

    def _shown(self) -> str:
        return redact_url(str(self))


class ConcealedDict(dict[Any, Any]):
    """A dictionary whose repr says only how many entries it has."""

    def __repr__(self) -> str:
        return f"<dict of {len(self)}>"


class ConcealedList(list[Any]):
    """A list whose repr says only how many items it has."""

    def __repr__(self) -> str:
        return f"<list of {len(self)}>"


def concealed(value: Any) -> Any:
    """Return an equal value whose repr shows nothing: a text, bytes, a dictionary or a list.

    Other values are returned unchanged.
    """
    if isinstance(value, str):
        return ConcealedText(value)
    if isinstance(value, bytes):
        return value if isinstance(value, ConcealedBytes) else ConcealedBytes(value)
    if isinstance(value, dict):
        return ConcealedDict(value)
    return ConcealedList(value) if isinstance(value, (list, tuple)) else value


def concealed_url(url: str) -> str:
    """Return an equal URL whose repr shows no credentials."""
    return ConcealedUrl(url) if "@" in url else url


def forget_frames(
    error: BaseException,
    packages: Collection[str],
    *,
    handled: BaseException | None = None,
    if_: Callable[[FrameType], bool] = lambda frame: True,  # noqa: ARG005 - all of them
) -> None:
    """Take frames of a failed call, and so their local variables, out of the tracebacks of its error and
    of the causes of that.

    Only frames of these packages or modules are taken out, and only those for which ``if_`` holds.
    ``handled`` is the error that was being handled when the call began (``sys.exc_info()[1]``): its
    frames are the caller's.
    """
    for each in with_causes(error, handled=handled):
        kept: list[TracebackType] = []
        entry = each.__traceback__
        while entry is not None:
            name = str(entry.tb_frame.f_globals.get("__name__", ""))
            is_theirs = name in packages or name.partition(".")[0] in packages
            if not (is_theirs and if_(entry.tb_frame)):
                kept.append(entry)
            entry = entry.tb_next
        for entry, following in zip_longest(kept, kept[1:]):
            entry.tb_next = following
        each.__traceback__ = kept[0] if kept else None


def with_causes(
    error: BaseException, *, handled: BaseException | None = None
) -> Iterator[BaseException]:
    """Yield an error and the errors that led to it, up to the one that was ``handled`` before."""
    left: list[BaseException | None] = [error]
    seen = {id(None), id(handled)}
    while left:
        each = left.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            left += [each.__cause__, each.__context__]
