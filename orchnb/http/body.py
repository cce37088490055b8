"""Decode the body of a response within a limit, through every layer of ``Content-Encoding``.

A few hundred bytes can expand to gigabytes. So each layer returns its output in small pieces, and the
bytes from the wire and from each layer are counted while they are decoded.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

LARGEST_RESULT = 256_000_000
"""The maximum size in bytes of a decoded response with a result."""

LARGEST_SMALL_ANSWER = 1_000_000
"""The maximum size in bytes of a decoded response that is small: an error, a CSRF token, a status."""

ENCODINGS = "gzip, deflate"
"""The encodings to request: those whose decoders can limit their output."""

_MOST_LAYERS = 5
_PIECE = 65_536


class BodyRefused(Exception):
    """The body is not decoded any further. The message says why, as the end of a sentence."""


class Decoder:
    """Decode one body of at most ``limit`` bytes.

    ``encodings`` are the values of ``Content-Encoding`` in order, ``announced`` is the value of
    ``Content-Length``.

    Raises:
        BodyRefused: there are too many encodings, one is unknown, or the announced length is too large.
    """

    def __init__(self, encodings: Sequence[str], limit: float, announced: str = "") -> None:
        self._limit = limit
        self._layers: list[_Layer] = []
        self._left = [limit]
        """The bytes still allowed: from the wire, then from each layer."""
        if encodings:
            self._add_layers(encodings)
        if announced.isdecimal() and len(announced) < 20 and int(announced) > self._left[0]:
            raise self._too_large()

    def _add_layers(self, encodings: Sequence[str]) -> None:
        names = [name.strip().lower() for name in encodings]
        names = [name for name in names if name not in ("", "identity")]
        if len(names) > _MOST_LAYERS:
            raise BodyRefused(f"with {len(names)} layers of Content-Encoding")
        for name in names:
            if name not in _WINDOWS:
                raise BodyRefused("in a Content-Encoding that was not requested")
        self._layers = [_Layer(name) for name in reversed(names)]
        # Incompressible data becomes a little larger when it is packed.
        packed = self._limit * 1.01 + 1024
        self._left = [*(packed for _ in names), self._limit]

    def decode(self, raw: bytes) -> Iterable[bytes]:
        """Decode these bytes of the body, and return pieces of at most 64 KiB.

        Raises:
            BodyRefused: the limit is exceeded.
            zlib.error: the data is broken.
        """
        if not self._layers and len(raw) <= _PIECE:  # the case for nearly all responses
            self._left[0] -= len(raw)
            if self._left[0] < 0:
                raise self._too_large()
            return (raw,)
        parts = (raw[start : start + _PIECE] for start in range(0, len(raw), _PIECE))
        pieces = self._counted(0, parts)
        for number, layer in enumerate(self._layers, 1):
            pieces = self._counted(number, chain.from_iterable(map(layer.decode, pieces)))
        return pieces

    def _counted(self, layer: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._left[layer] -= len(piece)
            if self._left[layer] < 0:
                raise self._too_large()
            yield piece

    def _too_large(self) -> BodyRefused:
        return BodyRefused(f"with more than {self._limit:,} bytes")


_WINDOWS = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
"""zlib's ``wbits`` for each encoding (RFC 9110, 8.4.1)."""


class _Layer:
    """One encoding's decoder."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._head = b""
        self._zlib = None if name == "deflate" else zlib.decompressobj(_WINDOWS[name])

    def decode(self, data: bytes) -> Iterator[bytes]:
        if self._zlib is None:
            # Some servers send "deflate" without the zlib header that the standard requires.
            data = self._head = self._head + data
            if len(data) < 2:
                return
            is_zlib = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            window = _WINDOWS[self._name]
            self._zlib = zlib.decompressobj(window if is_zlib else -window)
        while not self._zlib.eof:
            piece = self._zlib.decompress(data, _PIECE)
            data = self._zlib.unconsumed_tail
            if piece:
                yield piece
            if not data and len(piece) < _PIECE:
                return


class Chunks:
    """Cut pieces into chunks of one size; the last may be smaller."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._kept = bytearray()

    def add(self, piece: bytes) -> Sequence[bytes]:
        """Return the chunks that are complete."""
        if self._size is None:
            return (piece,)
        self._kept += piece
        whole = len(self._kept) - len(self._kept) % self._size
        chunks = [
            bytes(self._kept[start : start + self._size]) for start in range(0, whole, self._size)
        ]
        del self._kept[:whole]
        return chunks

    def rest(self) -> Sequence[bytes]:
        """Return the last chunk, if there is one."""
        return (bytes(self._kept),) if self._kept else ()
