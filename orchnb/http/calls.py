"""What an operation of the API is made of: calls.

An operation is a function from its arguments to a `Call`: method, path, body, and how to read the
answer. One that takes several calls is a generator, and makes each with ``yield from``. What makes
methods of such functions is in `orchnb.api.methods`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
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

from orchnb.concealed import Body
from orchnb.errors import (
    ClientClosed,
    ObjectAlreadyExists,
    ObjectNotFound,
    OutcomeUnknown,
    PrefectHTTPStatusError,
    UnexpectedAnswer,
)
from orchnb.http.errors import bare_request
from orchnb.http.json_steps import JSONRefused
from orchnb.http.json_values import plain_json, revealed
from orchnb.http.response import PrefectResponse
from orchnb.http.retry import ASIDE, LARGEST, ONCE, OPERATION, RESENT, UNSENT_ERRORS, is_repeatable
from orchnb.redaction import shown_url
from orchnb.text import one_line

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Path = NewType("Path", str)
"""A path that `path` has made, and so one in which values can do no harm."""

# A proxy's words for a server that did not answer it in time, or not in a way that it understood.
_FROM_A_PROXY = frozenset({502, 504})

AT_MOST = re.compile(r"limit: must be less than or equal to (\d+)")
"""What Prefect's server says to who asks for more objects than it gives."""

API_HINT = (
    "Check that PREFECT_API_URL ends in /api, and that no login page or proxy stands in between: "
    "open the address in a browser to see what is there."
)

_REFUSAL_HINT = "Correct what the server names, or what the request refers to, and send it again."


def path(template: LiteralString, *values: object) -> Path:
    """The template with each ``{}`` filled by a value, as one segment, whatever the value holds.

    Raises:
        ValueError: a value is empty; the path would be another one's.
    """
    return Path(template.format(*(_segment(value) for value in values)))


def _segment(value: object) -> str:
    text = quote(str(value), safe="", errors="replace")
    if not text:
        raise ValueError("An empty text is no id and no name")
    # Dots alone would be resolved on the way (RFC 3986, 5.2.4).
    return text.replace(".", "%2E") if text in (".", "..") else text


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request to the API and how its answer is read."""

    method: str
    path: Path
    read: Callable[[PrefectResponse], T]
    json: Any = field(default=None, repr=False)  # it may hold secrets
    missing: str = ""
    """What there is none of if the answer is a 404: ``flow 'etl'``."""
    conflict: str = ""
    """What exists already if the answer is a 409: ``There is a variable 'x' already``."""
    refusal: str = ""
    """What a 409 means instead, where the server answers so to what it cannot take or find."""
    repeatable: bool = False
    """Whether a POST may be sent again after a failure that leaves open whether the server acted: it
    only reads, or the server makes one thing of two (a unique name, an idempotency key). All other
    methods may: done twice, they come to the same (RFC 9110, 9.2.2; the API's PATCHes set values)."""
    reveals: bool = False
    """Whether wrapped secrets in the body, such as pydantic's ``SecretStr``, are sent with their values;
    otherwise they are refused."""
    largest: int | None = None
    """How many bytes the answer has at most; one that is larger is not read to its end."""
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
        """httpx's arguments beside method and path: the body, whether it is sent once only, and the
        name of the operation that makes it."""
        extensions: dict[str, Any] = {OPERATION: operation, ONCE: not self._is_repeatable}
        if self.largest is not None:
            extensions[LARGEST] = self.largest
        options: dict[str, Any] = {"extensions": extensions}
        if self.json is None:
            return options
        content = json.dumps(self.json, default=revealed, allow_nan=False).encode()
        options["content"] = Body(content)
        return {**options, "headers": {"Content-Type": "application/json"}}

    @property
    def _is_repeatable(self) -> bool:
        return self.repeatable or self.method != "POST"

    def has_been_done(self, error: PrefectHTTPStatusError) -> bool:
        """Whether this error says that an earlier try of the same request did what was asked."""
        gone = self.method == "DELETE" and error.status_code == 404
        return gone and RESENT in error.response.extensions and _is_api_answer(error.response)

    @property
    def _how_to_find_out(self) -> str:
        return _find_out(self.look)

    def explain(self, error: PrefectHTTPStatusError) -> PrefectHTTPStatusError:
        """The error of this call's kind: what was not found, or is there already."""
        if ASIDE in error.request.extensions:
            return error
        if error.status_code == 404 and self.missing and _is_api_answer(error.response):
            return ObjectNotFound.from_status_error(error, f"There is no {self.missing}: {error}")
        if error.status_code == 409 and self.refusal:
            error = error.from_status_error(error, f"{self.refusal}: {error}")
            error.hint = _REFUSAL_HINT
        elif error.status_code == 409:
            words = self.conflict or "It exists already"
            if was_resent(error):
                words += (
                    "; an earlier try of this very request, whose answer was lost, may have made it"
                )
            return ObjectAlreadyExists.from_status_error(error, f"{words}: {error}")
        if error.status_code == 422 and (most := AT_MOST.search(error.detail)):
            error.hint = (
                f"The server gives no more than {most[1]} at a time: ask for less, or iterate over all "
                "of them, by client.iter_flow_runs(...) and its like."
            )
        if error.status_code in _FROM_A_PROXY and not self._is_repeatable:
            error.hint = f"{error.hint} {self._how_to_find_out}"
        elif error.status_code in _FROM_A_PROXY and self.look:
            error.hint = f"{error.hint} {_not_twice(self.look)}"
        return error


def explain_silence(error: httpx.TransportError, look: str = "") -> httpx.TransportError:
    """Return the error of a try that got no answer: `OutcomeUnknown` if the server may have acted on a
    request that is not safe to repeat, else the error itself. ``look`` is that of `Call`."""
    request = error.request
    if ASIDE in request.extensions or isinstance(error, UNSENT_ERRORS):
        return error
    if is_repeatable(request):
        if look:
            vars(error)["hint"] = _not_twice(look)
        return error
    return OutcomeUnknown(
        f"{request.method} {shown_url(request.url)} got no answer ({type(error).__name__}), and "
        "the server may have acted on it",
        request=bare_request(request),
        hint=_find_out(look),
    )


def _find_out(look: str) -> str:
    return f"It was not sent again, as that might do it twice. Find out first: {_look(look)}."


def _not_twice(look: str) -> str:
    return (
        f"The server may have acted on it nevertheless: {_look(look)}. Or run the same call again: "
        "nothing is created twice."
    )


def explain_close(error: ClientClosed, look: str = "") -> ClientClosed | OutcomeUnknown:
    """What a close during a request means for its caller; ``look`` as that of `Call`."""
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
    """Whether an earlier try of the very request that it answers may have reached the server."""
    return RESENT in error.response.extensions


class Steps(Protocol[T_co]):
    """What an operation's function returns: a `Call`, or a generator of calls."""

    def __iter__(self) -> Generator[Call[Any], Any, T_co]: ...


# What an answer may be read as.


def json_of(response: PrefectResponse) -> Any:
    """The answer's JSON; a successful answer that is none comes from something that is no API."""
    try:
        return response.json()
    except (ValueError, RecursionError) as exc:  # its frames hold the whole text
        why = f": {exc}" if isinstance(exc, JSONRefused) else ""
    kind = one_line(response.headers.get("content-type", "")).split(";")[0]
    words = kind if response.content else "nothing"
    raise UnexpectedAnswer(
        f"{shown_url(response.request.url)} answered {response.status_code} with "
        f"{words or 'no content type'} where JSON was expected{why}",
        hint=API_HINT,
    )


def response_of(response: PrefectResponse) -> PrefectResponse:
    """The answer itself, if it is an API's."""
    json_of(response)
    return response


def nothing(response: PrefectResponse) -> None:
    """Nothing is expected; a web page all the same comes from something that is no API."""
    if response.content:
        json_of(response)


def _is_api_answer(response: httpx.Response) -> bool:
    """A web page's 404 says that the address is wrong, not that an object is missing."""
    return "json" in response.headers.get("content-type", "")
