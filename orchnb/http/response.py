"""Responses with a size limit, and errors that contain the server's explanation."""

from __future__ import annotations

import codecs
import html
import json
import math
import re
import unicodedata
import zlib
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping
from typing import Any

import anyio.lowlevel
import httpx
from typing_extensions import Self

from orchnb.errors import FieldProblem, PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.http.body import (
    LARGEST_RESULT,
    LARGEST_SMALL_ANSWER,
    BodyRefused,
    Chunks,
    Decoder,
)
from orchnb.http.json_steps import finish, parse, too_deep
from orchnb.http.retry import ASIDE, LARGEST, NOT_AWAITED, RESENT, UNREAD
from orchnb.redaction import (
    redact_headers,
    redact_url,
    scrub,
    scrub_json,
    secrets_of,
    shown_url,
)

_LONGEST_DETAIL = 500
_LONGEST_LOOKED_AT = 20_000
_MOST_ROWS = 10
_LONGEST_URL = 20_000  # httpx refuses addresses of 65,536 characters, escapes included
_LARGE = 1_000_000  # bytes of JSON; parsing them takes about ten milliseconds
_SLOW_CHARSETS = frozenset({"punycode", "idna"})
_UNREAD_HINT = (
    "Request less at a time: use a limit or a filter, or iterate page by page, such as with "
    "client.iter_flow_runs(...). If the response should not be that large, check that PREFECT_API_URL is "
    "the URL of an API."
)
_TITLE = re.compile(r"<title[^<>]*>([^<]*)</title", re.IGNORECASE)

_HINTS = {
    400: "Check the arguments of the request; the server could not interpret them.",
    401: "Check PREFECT_API_KEY (cloud) or PREFECT_API_AUTH_STRING (own server): "
    "the server did not accept your credentials.",
    403: "The server accepts your credentials but does not allow this; ask for permission, "
    "or check that the API URL names the right workspace.",
    404: "Check the id or name and, unless this is the in-kernel server, that PREFECT_API_URL ends "
    "in /api.",
    405: "Check that the server's version is supported and, unless this is the in-kernel server, that "
    "PREFECT_API_URL ends in /api.",
    407: "The proxy requires credentials; check HTTP_PROXY and HTTPS_PROXY.",
    408: "The server timed out waiting for the request; try again.",
    409: "The object already exists; read it, or choose another name or key.",
    413: "The request is too large for the server; send less at a time.",
    422: "Correct the fields that the server names and try again.",
    429: "The server is limiting the rate of requests; wait a little, then try again.",
    502: "A proxy in front of the server got no valid response from it; is the server up?",
    503: "The server is currently unavailable; try again later.",
    504: "A proxy in front of the server timed out waiting for it; is the server up?",
}

_NO_SUCH_PATH = "Not Found"
"""Starlette's message for an unknown path; for a missing object, APIs say more."""


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


def status_error(response: httpx.Response) -> PrefectHTTPStatusError:
    """Return the error for a response with a status other than 2xx, without secrets."""
    request = response.request
    secrets = secrets_of(request, *(earlier.request for earlier in response.history))
    unread = response.extensions.get(UNREAD)
    body = None if unread else _body(response)
    clean = scrub_json(body, secrets)
    words, fields = _explain(clean)
    # Scrubbed again: markup, escapes and invisible characters may have hidden secrets.
    detail = one_line(scrub(one_line(words, _LONGEST_LOOKED_AT), secrets))

    # The standard reason phrase, as the server's may contain anything.
    status = f"{response.status_code} {httpx.codes.get_reason_phrase(response.status_code)}".strip()
    bare = bare_request(request)
    if response.history:  # then the server chose the URL, and may repeat what was sent in it
        bare = httpx.Request(
            bare.method,
            scrub(str(bare.url), secrets),
            headers=bare.headers,
            extensions=bare.extensions,
        )
    message = f"{status} for {bare.method} {shown_url(bare.url)}"
    if detail:
        message += f": {detail}"
    if unread:
        message += f" (the server's explanation was sent {unread} and was not read)"
    for field in fields[:_MOST_ROWS]:
        message += (
            f"; {field.location}: {field.message}" if field.location else f"; {field.message}"
        )
    if len(fields) > _MOST_ROWS:
        message += f"; and {len(fields) - _MOST_ROWS} more"
    return PrefectHTTPStatusError(
        message,
        request=bare,
        response=_bare_response(response, bare, clean, secrets),
        detail=detail,
        fields=fields,
        hint=_hint_of_waits(response) or _hint(response, body, secrets),
    )


def one_line(text: str, longest: int = _LONGEST_DETAIL) -> str:
    """Make server text fit for a message: one line, no control characters, limited length."""
    plain = printable(re.sub(r"\s+", " ", text[:_LONGEST_LOOKED_AT])).strip()
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def printable(text: str) -> str:
    """Remove control and other invisible characters from text; line ends stay."""
    if text.isascii() and text.isprintable():
        return text
    text = "".join(_outside_sequences(text))
    return "".join(
        char for char in text if char == "\n" or unicodedata.category(char) not in _UNPRINTABLE
    )


def _outside_sequences(text: str) -> Iterator[str]:
    """Yield the text without terminal sequences (ECMA-48), removed completely so that no part is shown.

    A regular expression for long sequences would search for the end again and again; this searches once.
    """
    done = 0
    end: re.Match[str] | None = (
        None  # the first possible end of a long sequence, from where the search began
    )
    for match in _SEQUENCE_START.finditer(text):
        if match.start() < done:
            continue  # it is within the previous one
        after = match.end()
        if match["long"]:
            if end is None or end.start() < after:
                end = _LONG_END.search(text, after)
            if end is None:
                break  # neither this one nor any later one ends; short ones are removed below
            if end["stray"] is not None or end.start() - after > _LONGEST_SEQUENCE:
                continue
            after = end.end()
        yield text[done : match.start()]
        done = after
    yield _SHORT_SEQUENCE.sub("", text[done:])


# A complete CSI sequence, or the start of OSC, DCS and similar sequences.
_SHORT_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]")
_SEQUENCE_START = re.compile(
    rf"{_SHORT_SEQUENCE.pattern}|(?P<long>\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])"
)
_LONG_END = re.compile(r"\x07|\x1b\\|\x9c|(?P<stray>\x1b)")
_LONGEST_SEQUENCE = 4096


# Control and format characters (terminal escapes, bidi overrides), surrogates, private use.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def text_of(response: httpx.Response) -> str:
    """Return the text of a response that has been read, even if its charset is invalid."""
    try:
        return response.text
    except httpx.ResponseNotRead:
        raise
    except Exception:  # noqa: BLE001 - Python has codecs such as "hex" and "zip", which fail in any way
        return response.content.decode("utf-8", "replace")


def _body(response: httpx.Response) -> Any:
    """Return the body as JSON, or else as text; None if it has not been read."""
    try:
        text = text_of(response)
    except httpx.ResponseNotRead:
        return None
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return text


def _explain(body: Any) -> tuple[str, list[FieldProblem]]:
    """Return the server's explanation as one text, and the rows of a 422."""
    if isinstance(body, str):
        title = _TITLE.search(body)
        if title:
            return html.unescape(title.group(1)), []
        return ("" if _is_page(body) else body), []
    if not isinstance(body, dict):
        return "", []
    rows: list[FieldProblem] = []
    words: list[str] = []
    # exception_message/-detail is Prefect's form, detail FastAPI's and RFC 9457's, title RFC 9457's.
    for key in ("exception_message", "title", "message", "error", "detail", "exception_detail"):
        value = body.get(key)
        if isinstance(value, dict):  # FastAPI lets an app put anything into its detail
            value, more = _explain(value)
            rows.extend(more)
        if isinstance(value, str) and value and value not in words:
            words.append(value)
        elif isinstance(value, list):
            rows.extend(_rows(value))
    return ": ".join(words), rows


def _is_page(body: Any) -> bool:
    return isinstance(body, str) and body.lstrip("\ufeff \t\r\n").startswith("<")


def _rows(problems: Iterable[Any]) -> Iterable[FieldProblem]:
    for problem in problems:
        if isinstance(problem, dict):
            location = problem.get("loc")
            parts = location if isinstance(location, list) else [location or ""]
            yield FieldProblem(
                one_line(".".join(str(part) for part in parts)),
                one_line(str(problem.get("msg") or problem.get("message") or "")),
                one_line(str(problem.get("type") or "")),
            )
        elif isinstance(problem, str):
            yield FieldProblem("", one_line(problem))


def _hint(response: httpx.Response, body: Any, secrets: Iterable[str]) -> str:
    code = response.status_code
    if 300 <= code < 400:
        target = one_line(scrub(redact_url(response.headers.get("location", "")), secrets))
        return (
            f"The server redirects to {target or 'another address'}: use that address as "
            "PREFECT_API_URL, or, if it is a login page, log in or get past the proxy first."
        )
    if _is_page(body) and code in (401, 403, 404, 405):
        return (
            "The response is a web page, not an API response: check that PREFECT_API_URL ends in /api, "
            "and that no proxy or login page is in between."
        )
    if code == 404 and isinstance(body, dict) and body.get("detail") != _NO_SUCH_PATH:
        return "Check the id or name."
    return _HINTS.get(
        code,
        "The server failed; see its log for the reason. Try again later." if code >= 500 else "",
    )


def _hint_of_waits(response: httpx.Response) -> str:
    refusal = response.extensions.get(NOT_AWAITED)
    return f"{refusal}. Try again later, or allow longer waits." if refusal else ""


def bare_request(request: httpx.Request) -> httpx.Request:
    """Return the request without secrets: no credentials, no header values set by the user, no body."""
    url = redact_url(request.url)[:_LONGEST_URL]
    headers = _as_bytes(redact_headers(request.headers))
    extensions = {ASIDE: True} if request.extensions.get(ASIDE) else None
    return httpx.Request(one_line(request.method), url, headers=headers, extensions=extensions)


def _bare_response(
    response: httpx.Response, request: httpx.Request, clean: Any, secrets: Iterable[str]
) -> PrefectResponse:
    headers = {
        name: value
        for name, value in redact_headers(response.headers, secrets).items()
        # The copy's body is no longer compressed and has a different length.
        if name.lower() not in ("content-encoding", "content-length", "transfer-encoding")
    }
    text = "" if clean is None else clean if isinstance(clean, str) else json.dumps(clean)
    copy = PrefectResponse(
        response.status_code,
        headers=_as_bytes(headers),
        content=text.encode("utf-8", "replace"),
        request=request,
        extensions={RESENT: True} if response.extensions.get(RESENT) else None,
    )
    copy.encoding = "utf-8"  # whatever the content type says
    return copy


def _as_bytes(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as bytes, as on the wire: httpx accepts only ASCII text, servers send anything."""
    return [
        (name.encode("utf-8", "replace"), value.encode("utf-8", "replace"))
        for name, value in headers.items()
    ]
