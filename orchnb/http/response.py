"""Responses with a size limit, and errors that contain the server's explanation."""

from __future__ import annotations

import codecs
import json
import math
import zlib
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import anyio.lowlevel
import httpx
from typing_extensions import Self

from orchnb.errors import UnexpectedAnswer
from orchnb.http.body import (
    LARGEST_RESULT,
    LARGEST_SMALL_ANSWER,
    BodyRefused,
    Chunks,
    Decoder,
)
from orchnb.http.errors import status_error
from orchnb.http.json_steps import finish, parse, too_deep
from orchnb.http.retry import LARGEST, UNREAD
from orchnb.redaction import (
    shown_url,
)

_LARGE = 1_000_000  # bytes of JSON; parsing them takes about ten milliseconds
_SLOW_CHARSETS = frozenset({"punycode", "idna"})
_UNREAD_HINT = (
    "Request less at a time: use a limit or a filter, or iterate page by page, such as with "
    "client.iter_flow_runs(...). If the response should not be that large, check that PREFECT_API_URL is "
    "the URL of an API."
)


class PrefectResponse(httpx.Response):
    """An ``httpx.Response`` that is read up to a limit, and whose ``raise_for_status`` reports the
    server's explanation."""

    _whole = False
    """Whether the whole body is being read."""
    _parsed: tuple[Any, ValueError | None] | None = None
    """The body's JSON, or why it is invalid, if it was parsed in advance."""

    @classmethod
    def from_httpx_response(cls, response: httpx.Response) -> Self:
        """Change the class of a response to this one, in place, and return it.

        Only the class changes (as in Prefect's client): a streaming response still streams, and closing
        it closes its connection.
        """
        response.__class__ = cls
        return response  # type: ignore[return-value] # it is one now

    def read(self) -> bytes:
        """Read the whole body, up to its limit. The response is closed if that fails.

        Raises:
            UnexpectedAnswer: a successful response is too large, or its encoding was not requested. For
                an error response the part that was read is kept, and ``extensions`` says so.
        """
        self._whole = True
        try:
            return super().read()
        except BaseException:  # an interrupt as well: the connection must not be used again
            self.close()
            raise

    async def aread(self) -> bytes:
        """Read the whole body as `read` does."""
        self._whole = True
        try:
            return await super().aread()
        except BaseException:  # an interrupt as well: the connection must not be used again
            await self.aclose()
            raise

    def iter_bytes(self, chunk_size: int | None = None) -> Iterator[bytes]:
        """Decode the body piece by piece. Pieces are small, however well it is packed."""
        if self.is_stream_consumed:  # it was read, or httpx says that it is gone
            yield from super().iter_bytes(chunk_size)
            return
        chunks = Chunks(chunk_size)
        try:
            decoder = self._decoder_of_body()
            for raw in self.iter_raw():
                for piece in decoder.decode(raw):
                    yield from chunks.add(piece)
        except (BodyRefused, zlib.error) as exc:
            self._refuse(exc)
            self.close()
        yield from chunks.rest()

    async def aiter_bytes(self, chunk_size: int | None = None) -> AsyncIterator[bytes]:
        """Decode the body as `iter_bytes` does."""
        if self.is_stream_consumed:  # it was read, or httpx says that it is gone
            async for chunk in super().aiter_bytes(chunk_size):
                yield chunk
            return
        chunks = Chunks(chunk_size)
        parts = self.aiter_raw()
        try:
            decoder = self._decoder_of_body()
            async for raw in parts:
                for piece in decoder.decode(raw):
                    for chunk in chunks.add(piece):
                        yield chunk
        except (BodyRefused, zlib.error) as exc:
            self._refuse(exc)
            await parts.aclose()  # type: ignore[attr-defined] # httpx says iterator; it is a generator
            await self.aclose()
        for chunk in chunks.rest():
            yield chunk

    def _decoder_of_body(self) -> Decoder:
        encodings: list[str] = []
        announced = ""
        for name, value in self.headers.raw:  # a single pass: this runs for every response
            lower = name.lower()
            if lower == b"content-encoding":
                encodings += value.decode("latin-1").split(",")
            elif lower == b"content-length":
                announced = value.decode("latin-1")
        return Decoder(encodings, self._limit(), announced)

    def _limit(self) -> float:
        """Return the maximum size of the decoded body in bytes; unlimited if it is read in parts, unless
        the request sets a limit."""
        try:
            request = self.request
        except RuntimeError:  # it was created by hand
            return math.inf
        if not self._whole and LARGEST not in request.extensions:
            return math.inf
        largest: int = request.extensions.get(LARGEST, LARGEST_RESULT)
        if self.is_success:
            return largest
        # A server that rejects a request may repeat it, escaped.
        return min(largest, LARGEST_SMALL_ANSWER + 4 * _length_of_body(request))

    def _refuse(self, refusal: BodyRefused | zlib.error) -> None:
        """Raise the error for a body that is not decoded; an error response keeps its status only."""
        place = shown_url(self.request.url)
        if isinstance(refusal, zlib.error):
            raise httpx.DecodingError(
                f"{place} responded with a broken Content-Encoding ({refusal})",
                request=self.request,
            ) from None
        if self.is_success:
            raise UnexpectedAnswer(
                f"{place} responded {refusal}, and was not read any further", hint=_UNREAD_HINT
            ) from None
        self.extensions[UNREAD] = str(refusal)

    @property
    def charset_encoding(self) -> str | None:
        """The charset of the content type; None if it is not a charset or decodes in superlinear time.
        Python also has codecs such as "zip", with which a little input can become very large."""
        name = super().charset_encoding
        if name is None:
            return None
        try:
            "".encode(name)
            return None if codecs.lookup(name).name in _SLOW_CHARSETS else name
        except (LookupError, ValueError):
            return None

    def json(self, **kwargs: Any) -> Any:
        """Parse the body as JSON. An interrupt can stop this, however large the body is.

        Raises:
            ValueError: the body is not JSON, is too deeply nested, or has too many values.
        """
        if self._parsed is None:
            content = self.content
            if not kwargs and len(content) >= _LARGE:
                return finish(self._parse())
            try:
                return json.loads(content, **kwargs)
            except RecursionError:
                raise too_deep() from None
        (value, error), self._parsed = self._parsed, None
        if error is not None:
            raise error
        return value

    async def aparse(self) -> None:
        """Parse the body for the next call of `json`, without blocking the event loop."""
        if len(self.content) < _LARGE:
            return
        steps = self._parse()
        while True:
            try:
                next(steps)
            except StopIteration as done:
                self._parsed = done.value, None
                return
            except ValueError as exc:
                self._parsed = None, exc
                return
            await anyio.lowlevel.checkpoint()

    def _parse(self) -> Generator[None, None, Any]:
        text = self.content.decode(json.detect_encoding(self.content), "surrogatepass")
        return (yield from parse(text))

    def raise_for_status(self) -> Self:
        """Return the response itself if it is a success (2xx).

        Raises:
            PrefectHTTPStatusError: the status is not 2xx.
            RuntimeError: the response has no request.
        """
        if 200 <= self.status_code < 300:
            return self
        raise status_error(self)


def _length_of_body(request: httpx.Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else 0
