"""Calls: the requests that an operation of the API makes.

An operation is a function from its arguments to a `Call`: method, path, body, and how to read the
response. If it needs several calls, it is a generator and makes each with ``yield from``.
`orchnb.api.methods` turns such functions into methods.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import (
    Any,
    ClassVar,
    Generic,
    NewType,
    Protocol,
    TypeVar,
)
from urllib.parse import quote

import httpx
from typing_extensions import LiteralString

from orchnb.concealed import Body, ConcealedText
from orchnb.errors import (
    ClientClosed,
    ObjectAlreadyExists,
    ObjectNotFound,
    OutcomeUnknown,
    PrefectHTTPStatusError,
    UnexpectedAnswer,
)
from orchnb.http.effects import Sleep
from orchnb.http.errors import bare_request
from orchnb.http.json_steps import JSONRefused
from orchnb.http.json_values import plain_json, revealed
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import (
    ASIDE,
    LARGEST,
    ONCE,
    OPERATION,
    RESENT,
    TRIED_ONCE,
    UNSENT_ERRORS,
    is_repeatable,
)
from orchnb.redaction import SECRETS, shown_url
from orchnb.text import one_line

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Path = NewType("Path", str)
"""A path made by `path`: the values in it are escaped."""

# Sent by a proxy if the server did not respond in time, or sent an invalid response.
_FROM_A_PROXY = frozenset({502, 504})

AT_MOST = re.compile(r"limit: must be less than or equal to (\d+)")
"""The message of Prefect's server for a limit that is too large."""

API_HINT = (
    "Check that PREFECT_API_URL ends in /api, and that no login page or proxy is in between: "
    "open the address in a browser to see what is there."
)

_REFUSAL_HINT = "Correct what the server reports, or what the request refers to, and send it again."


def path(template: LiteralString, *values: object) -> Path:
    """Return the template with each ``{}`` replaced by a value, escaped so that it is one segment.

    Raises:
        ValueError: a value is empty; the path would belong to something else.
    """
    return Path(template.format(*(_segment(value) for value in values)))


def filled(template: str, values: Mapping[str, object]) -> str:
    """Return the template with each ``{name}`` filled by the value of that name, as in `path`.

    Raises:
        ValueError: a value is missing or empty.
    """

    def fill(place: re.Match[str]) -> str:
        name = place[1]
        if name not in values:
            raise ValueError(f"path_params should have a value for {name!r}, as in {template!r}")
        return _segment(values[name])

    return re.sub(r"\{(\w+)\}", fill, template)


def _segment(value: object) -> str:
    text = quote(str(value), safe="", errors="replace")
    if not text:
        raise ValueError("An empty string is not a valid id or name")
    # Dots alone would be removed from the path (RFC 3986, 5.2.4).
    return text.replace(".", "%2E") if text in (".", "..") else text


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request to the API and how to read its response."""

    method: str
    path: Path
    read: Callable[[PrefectResponse], T]
    json: Any = field(default=None, repr=False)  # it may contain secrets
    missing: str = ""
    """The object that does not exist if the response is a 404: ``flow 'etl'``."""
    conflict: str = ""
    """The message if the response is a 409: ``A variable 'x' already exists``."""
    refusal: str = ""
    """The message for a 409 that does not mean a conflict: the server cannot accept or find something."""
    repeatable: bool = False
    """Whether a POST may be sent again after a failure that leaves open whether the server acted: it
    only reads, or the server recognizes the repetition (a unique name, an idempotency key). All other
    methods are repeatable: twice has the same effect (RFC 9110, 9.2.2; the API's PATCHes set values)."""
    reveals: bool = False
    """Whether wrapped secrets in the body, such as pydantic's ``SecretStr``, are sent with their values;
    otherwise they are refused."""
    largest: int | None = None
    """The maximum size of the response in bytes; reading a larger one stops with an error."""
    timeout: float | None = None
    """Seconds that the server may take; None for the client's limit. With a limit here the request is not
    retried: the caller repeats it, or does without it."""
    look: str = ""
    """How to find out whether the server acted: the name of an operation that reads it. It is given for
    what changes something and is not ``repeatable``, and for what creates something."""
    after: Callable[[T], Steps[None]] | None = field(default=None, repr=False)
    """The calls to make once the result is there, to look into one that is empty."""

    dates_are_times: ClassVar[bool] = True
    """Whether a date in the body means the beginning of the day."""

    def __post_init__(self) -> None:
        """Convert the body to plain data, once: iterators in it can be read only once.

        Raises:
            ValueError: something in it cannot be sent as JSON; the message says where.
        """
        body = plain_json(self.json, reveals=self.reveals, dates_are_times=self.dates_are_times)
        object.__setattr__(self, "json", body)

    def __iter__(self) -> Generator[Call[Any], Any, T]:
        """``result = yield from call``, within an operation of several calls."""
        result: T = yield self
        if self.after is not None:
            yield from self.after(result)
        return result

    def options(self, operation: str = "") -> dict[str, Any]:
        """Return httpx's arguments in addition to method and path: the body, whether it is sent once
        only, and the name of the operation that makes it."""
        extensions: dict[str, Any] = {OPERATION: operation, ONCE: not self._is_repeatable}
        if self.largest is not None:
            extensions[LARGEST] = self.largest
        options: dict[str, Any] = {"extensions": extensions}
        if self.timeout is not None:
            extensions[TRIED_ONCE] = True
            options["timeout"] = self.timeout
        if self.json is None:
            return options
        hidden: list[ConcealedText] = []
        content = json.dumps(self.json, default=partial(_revealed, hidden), allow_nan=False)
        options["content"] = Body(content.encode())
        if hidden:
            extensions[SECRETS] = tuple(hidden)
        return {**options, "headers": {"Content-Type": "application/json"}}

    @property
    def _is_repeatable(self) -> bool:
        return self.repeatable or self.method != "POST"

    def has_been_done(self, error: PrefectHTTPStatusError) -> bool:
        """Return whether this error means that an earlier try of the same request succeeded."""
        gone = self.method == "DELETE" and error.status_code == 404
        return gone and RESENT in error.response.extensions and _is_api_answer(error.response)

    @property
    def _how_to_find_out(self) -> str:
        return _find_out(self.look)

    def explain(self, error: PrefectHTTPStatusError) -> PrefectHTTPStatusError:
        """Return the error with this call's explanation: what was not found, or already exists."""
        if ASIDE in error.request.extensions:
            return error
        if error.status_code == 404 and self.missing and _is_api_answer(error.response):
            return ObjectNotFound.from_status_error(
                error, f"There is no {self.missing}: {error.message}"
            )
        if error.status_code == 409 and self.refusal:
            error = error.from_status_error(error, f"{self.refusal}: {error.message}")
            error.hint = _REFUSAL_HINT
        elif error.status_code == 409:
            words = self.conflict or "It exists already"
            if was_resent(error):
                words += (
                    "; an earlier try of this request, whose response was lost, may have created it"
                )
            return ObjectAlreadyExists.from_status_error(error, f"{words}: {error.message}")
        if error.status_code == 422 and (most := AT_MOST.search(error.detail)):
            error.hint = (
                f"The server returns at most {most[1]} at a time: request fewer, or iterate over all "
                "of them with client.iter_flow_runs(...) or a similar method."
            )
        if error.status_code in _FROM_A_PROXY and not self._is_repeatable:
            error.hint = f"{error.hint} {self._how_to_find_out}"
        elif error.status_code in _FROM_A_PROXY and self.look:
            error.hint = f"{error.hint} {_not_twice(self.look)}"
        return error


@dataclass(frozen=True)
class Work(Call[T]):
    """Work for a thread instead of a request, such as reading a file; made by `work`."""

    function: Callable[[bool], Any] = bool


def work(function: Callable[[bool], T]) -> Work[T]:
    """Return the step that calls a function in a thread, and results in what it returns. The argument is
    whether the server is the person's own: in this process or on this machine."""
    return Work("", Path(""), _not_read, function=function)


def _not_read(response: PrefectResponse) -> Any:
    raise AssertionError(f"There is no response {response}")


def explain_silence(error: httpx.TransportError, look: str = "") -> httpx.TransportError:
    """Return the error for a try without a response: `OutcomeUnknown` if the server may have acted on a
    request that is not safe to repeat, else the error itself. ``look`` is that of `Call`."""
    request = error.request
    if ASIDE in request.extensions or isinstance(error, UNSENT_ERRORS):
        return error
    if is_repeatable(request):
        if look:
            vars(error)["hint"] = _not_twice(look)
        return error
    return OutcomeUnknown(
        f"{request.method} {shown_url(request.url)} got no response ({type(error).__name__}), and "
        "the server may have acted on it",
        request=bare_request(request),
        hint=_find_out(look),
    )


def _find_out(look: str) -> str:
    return f"It was not sent again, because that could do it twice. Find out first: {_look(look)}."


def _not_twice(look: str) -> str:
    return (
        f"The server may have acted on it nevertheless: {_look(look)}. Or run the same call again: "
        "nothing is created twice."
    )


def explain_close(error: ClientClosed, look: str = "") -> ClientClosed | OutcomeUnknown:
    """Return the error for a request that was ended by a close; ``look`` is that of `Call`."""
    request = error.request
    if request is None or not error.left_open:
        return error
    return OutcomeUnknown(
        f"The client was closed before {request.method} {shown_url(request.url)} was answered, and the "
        "server may have acted on it",
        request=request,
        hint=f"Find out before you send it again: {_look(look)}.",
    )


def _look(operation: str) -> str:
    return f"look with {operation}" if operation else "read back what you wanted to change"


def was_resent(error: PrefectHTTPStatusError) -> bool:
    """Return whether an earlier try of the same request may have reached the server."""
    return RESENT in error.response.extensions


class Steps(Protocol[T_co]):
    """What an operation's function returns: a `Call`, or a generator of calls."""

    def __iter__(self) -> Generator[Call[Any], Any, T_co]: ...


class Deferred(Generic[T]):
    """Steps that need something first, such as an id for a name.

    Args:
        find: makes the calls that find it.
        then: returns the steps, given what was found.
    """

    def __init__(
        self, find: Callable[[], Generator[Call[Any], Any, Any]], then: Callable[[Any], Any]
    ) -> None:
        self._find = find
        self._then = then

    def prepared(self) -> Generator[Call[Any], Any, Any]:
        """Find it, and return the steps without making them."""
        return self._then((yield from self._find()))

    def __iter__(self) -> Generator[Call[Any], Any, T]:
        steps = yield from self.prepared()
        result: T = yield from steps
        return result


class LongSteps(Protocol[T_co]):
    """What the function of an operation that takes time returns: a generator of calls and waits."""

    def __iter__(self) -> Generator[Call[Any] | Sleep, Any, T_co]: ...


# How to read a response.


def json_of(response: PrefectResponse) -> Any:
    """Return the response's JSON; a successful response that is not JSON does not come from an API."""
    try:
        return response.json()
    except (ValueError, RecursionError) as exc:  # its frames contain the whole text
        why = f": {exc}" if isinstance(exc, JSONRefused) else ""
    kind = one_line(response.headers.get("content-type", "")).split(";")[0]
    words = kind if response.content else "nothing"
    raise UnexpectedAnswer(
        f"{shown_url(response.request.url)} answered {response.status_code} with "
        f"{words or 'no content type'} where JSON was expected{why}",
        hint=API_HINT,
    )


def response_of(response: PrefectResponse) -> PrefectResponse:
    """Return the response itself, if it comes from an API."""
    json_of(response)
    return response


def nothing(response: PrefectResponse) -> None:
    """Return None; raise an error for a web page, which does not come from an API."""
    if response.content:
        json_of(response)


def _is_api_answer(response: httpx.Response) -> bool:
    """Return whether the response is JSON: a web page's 404 means that the address is wrong."""
    return "json" in response.headers.get("content-type", "")


def _revealed(hidden: list[ConcealedText], value: object) -> Any:
    """Return what a wrapped secret holds, and add its texts to ``hidden``."""
    plain = revealed(value)
    hidden.extend(_texts(plain))
    return plain


def _texts(value: object) -> Iterator[ConcealedText]:
    """Yield the texts and numbers in plain data."""
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield ConcealedText(value)
