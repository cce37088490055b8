"""Every error that orchnb raises itself. Errors of the transport stay httpx's own.

::

    OrchnbError
    ├── InvalidSetting              (ValueError)    a setting cannot be read or used
    ├── ServerNotConfigured         (ValueError)    no address, and no server in this process
    ├── ClientClosed                (RuntimeError)  a client was closed and is used again, or was in use
    ├── ClientNotPicklable          (TypeError)     a client is to be pickled or copied
    ├── ForeignAddress              (ValueError)    a request is for another place than the API
    ├── OutcomeUnknown              (httpx.TransportError)  the server may or may not have acted
    ├── InvalidParameters           (ValueError)    a deployment does not take these parameters
    ├── LifespanStartupFailed       (RuntimeError)  an ASGI app did not start
    ├── ServerStartFailed           (RuntimeError)  the server in this process did not start
    ├── UnexpectedAnswer            (ValueError)    the answer is not what an API would send
    └── PrefectHTTPStatusError      (httpx.HTTPStatusError)  the server answered with an error
        ├── ObjectNotFound          a read found nothing
        ├── ObjectAlreadyExists     it is there already
        └── OperationNotFound       a server of this version cannot do it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from typing_extensions import Self


class OrchnbError(Exception):
    """The root of all errors of orchnb's own.

    ``hint`` says what to do about it, in one sentence, or is empty. All of them pickle and copy with
    every attribute, whatever their ``__init__`` asks for.
    """

    hint: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    cls: type[OrchnbError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> OrchnbError:
    error = cls.__new__(cls, *args)
    error.__dict__.update(attributes)
    return error


class InvalidSetting(OrchnbError, ValueError):
    """A setting cannot be read or used. The message names the setting, its source and the remedy."""


class ServerNotConfigured(OrchnbError, ValueError):
    """There is no API URL, and running a server in this process is switched off."""


class ClientClosed(OrchnbError, RuntimeError):
    """The client was closed, before it was used or while a request was under way. A closed client cannot
    be opened again.

    ``request`` is a copy of that request without secrets, or None. ``left_open`` says that the server
    may have acted on it and that it is not safe to repeat.
    """

    def __init__(self, message: str, *, request: httpx.Request | None = None) -> None:
        super().__init__(message)
        self.request = request
        self.left_open = False
        if request is not None:
            self.hint = "Run it again with a client that is open: get_client() gives one."

    def may_have_acted(self, *, repeatable: bool) -> None:
        """Note that the server was sent the request, which may be safe to repeat."""
        if not repeatable:
            self.left_open = True
            self.hint = "The server may have acted on it: find out before you send it again."


class ClientNotPicklable(OrchnbError, TypeError):
    """A client has connections and credentials, and cannot be pickled or copied."""


class ForeignAddress(OrchnbError, ValueError):
    """A request is for another place than the client's API, which is not to get its credentials."""


class OutcomeUnknown(OrchnbError, httpx.TransportError):
    """A request got no answer, and the server may have acted on it all the same.

    It was not sent again, as done twice it would do more than once. ``hint`` says how to find out;
    the cause is httpx's error. ``request`` is a copy without secrets.
    """

    def __init__(self, message: str, *, request: httpx.Request, hint: str = "") -> None:
        super().__init__(message, request=request)
        self.hint = hint


class LifespanStartupFailed(OrchnbError, RuntimeError):
    """An ASGI app refused or failed to start; the message is the app's own."""


class ServerStartFailed(OrchnbError, RuntimeError):
    """The server in this process did not start.

    ``phase`` is where it stopped (``import``, ``create`` or ``start``), ``log_lines`` are the last
    lines of its log, oldest first.
    """

    def __init__(
        self, message: str, *, phase: str, hint: str = "", log_lines: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.phase = phase
        self.hint = hint
        self.log_lines = tuple(log_lines)


class UnexpectedAnswer(OrchnbError, ValueError):
    """A successful answer that an API would not send, such as a login page instead of JSON."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class FieldProblem:
    """One row of a 422: where in the request (``body.name``), what is wrong, and its machine name."""

    location: str
    message: str
    type: str = ""


class InvalidParameters(OrchnbError, ValueError):
    """A deployment's schema does not take these parameters; no run was made.

    ``fields`` are its rows, one for each parameter that is unknown, missing or of a wrong type, as a
    422 has them. None of them holds a value that was given.
    """

    def __init__(
        self, message: str, *, fields: Sequence[FieldProblem] = (), hint: str = ""
    ) -> None:
        super().__init__(message)
        self.fields = tuple(fields)
        self.hint = hint


class PrefectHTTPStatusError(OrchnbError, httpx.HTTPStatusError):
    """The server answered with an error status.

    Its text is one line. ``detail`` is what the server said ("" if nothing), ``fields`` the rows of
    a 422, ``hint`` what to do about it. ``request`` and ``response`` are copies without secrets:
    no credentials, no header values of the user's, no echo of what was sent. It pickles.
    """

    def __init__(
        self,
        message: str,
        *,
        request: httpx.Request,
        response: httpx.Response,
        detail: str = "",
        fields: Sequence[FieldProblem] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, request=request, response=response)
        self.detail = detail
        self.fields = tuple(fields)
        self.hint = hint

    @property
    def status_code(self) -> int:
        """The status of the answer, such as 404."""
        return self.response.status_code

    @classmethod
    def from_status_error(cls, error: PrefectHTTPStatusError, message: str) -> Self:
        """The same failure as an error of this kind, with a message that says more."""
        return cls(
            message,
            request=error.request,
            response=error.response,
            detail=error.detail,
            fields=error.fields,
            hint=error.hint,
        )


class ObjectNotFound(PrefectHTTPStatusError):
    """A read answered 404: what was asked for is not there."""


class ObjectAlreadyExists(PrefectHTTPStatusError):
    """A write answered 409: something of that name or key is there already."""


class OperationNotFound(PrefectHTTPStatusError):
    """The server does not have this operation; the message names both, and the server's version."""
