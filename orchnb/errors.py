"""The errors that orchnb raises. Transport errors are httpx's, except `OutcomeUnknown`.

::

    OrchnbError
    ├── InvalidSetting              (ValueError)    a setting cannot be read or used
    ├── ServerNotConfigured         (ValueError)    no API URL is set and no in-kernel server is allowed
    ├── ClientClosed                (RuntimeError)  a client was used after, or closed during, a request
    ├── ClientNotPicklable          (TypeError)     a client cannot be pickled or copied
    ├── ForeignAddress              (ValueError)    a request is for an address outside the API
    ├── OutcomeUnknown              (httpx.TransportError)  the server may or may not have acted
    ├── InvalidParameters           (ValueError)    a deployment does not accept these parameters
    ├── FlowRunWaitTimeout          (TimeoutError)  flow runs have not ended in time; they go on
    ├── FlowRunsFailed              (RuntimeError)  flow runs that were waited for have failed
    ├── FlowRunsNotChanged          (RuntimeError)  flow runs were not retried or cancelled
    ├── ResultNotAvailable          (ValueError)    what a run returned cannot be had
    ├── AmbiguousReference          (ValueError)    a name or short id fits several objects
    ├── ReferenceNotFound           (ValueError)    a name or short id fits no object
    ├── SourceNotFound              (ValueError)    a function cannot be written to a module
    ├── ServingFailed               (RuntimeError)  the process that serves a flow does not do so
    ├── LifespanStartupFailed       (RuntimeError)  an ASGI app did not start
    ├── ServerStartFailed           (RuntimeError)  the in-kernel server did not start
    ├── UnexpectedAnswer            (ValueError)    the response is not what an API would send
    └── PrefectHTTPStatusError      (httpx.HTTPStatusError)  the server responded with an error status
        ├── ObjectNotFound          the requested object does not exist
        ├── ObjectAlreadyExists     the object already exists
        └── OperationNotFound       this version of the server does not support the operation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx
from typing_extensions import Self

from orchnb.prefect_exceptions import as_declared, with_prefects_base


class OrchnbError(Exception):
    """The base class of all orchnb errors.

    ``message`` says what is wrong. ``hint`` says in one sentence what to do about it, or is empty. The
    text of the error (``str``) is both. Every error can be pickled and copied with all its attributes,
    whatever arguments its ``__init__`` requires.
    """

    hint: str = ""

    @property
    def message(self) -> str:
        """What is wrong, without the hint."""
        return super().__str__()

    def __str__(self) -> str:
        return with_hint(self.message, self.hint)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (as_declared(type(self)), self.args, self.__dict__)


def with_hint(message: str, hint: str) -> str:
    """Return a message followed by what to do about it, each once."""
    if not hint or hint in message:
        return message
    if not message:
        return hint
    return f"{message} {hint}" if message.endswith((".", "!", "?", ":")) else f"{message}. {hint}"


def _rebuild(
    cls: type[OrchnbError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> OrchnbError:
    error = cls.__new__(cls, *args)
    error.args = args  # an OSError leaves them to its __init__
    error.__dict__.update(attributes)
    return error


class InvalidSetting(OrchnbError, ValueError):
    """A setting cannot be read or used. The message names the setting, its source and how to fix it."""


class ServerNotConfigured(OrchnbError, ValueError):
    """No API URL is set, and the in-kernel server is disabled."""


class ClientClosed(OrchnbError, RuntimeError):
    """The client was closed before it was used, or while a request was in progress. A closed client
    cannot be reopened.

    ``request`` is a copy of that request without secrets, or None. ``left_open`` is true if the server
    may have acted on the request and repeating it is not safe.
    """

    def __init__(self, message: str, *, request: httpx.Request | None = None) -> None:
        super().__init__(message)
        self.request = request
        self.left_open: bool = False
        if request is not None:
            self.hint: str = "Run it again with an open client: get_client() returns one."

    def may_have_acted(self, *, repeatable: bool) -> None:
        """Record that the request was sent to the server; ``repeatable`` says if repeating it is safe."""
        if not repeatable:
            self.left_open = True
            self.hint = "The server may have acted on it: find out before you send it again."


class ClientNotPicklable(OrchnbError, TypeError):
    """A client has connections and credentials, and cannot be pickled or copied."""


class ForeignAddress(OrchnbError, ValueError):
    """A request is for an address outside the client's API, which must not receive its credentials."""


class OutcomeUnknown(OrchnbError, httpx.TransportError):
    """A request got no response, but the server may have acted on it.

    It was not retried, because repeating it could have its effect twice. ``hint`` says how to find out;
    the cause is httpx's error. ``request`` is a copy without secrets.
    """

    def __init__(self, message: str, *, request: httpx.Request, hint: str = "") -> None:
        super().__init__(message, request=request)
        self.hint = hint


class FlowRunWaitTimeout(OrchnbError, TimeoutError):
    """Flow runs have not ended within the timeout. They go on.

    ``runs`` are all runs that were waited for, as last seen.
    """

    def __init__(self, message: str, *, runs: Sequence[Any] = (), hint: str = "") -> None:
        super().__init__(message)
        self.runs = runs
        self.hint = hint


class FlowRunsFailed(OrchnbError, RuntimeError):
    """Flow runs that were waited for have failed.

    ``runs`` are all runs that were waited for, ``failed`` those that failed, crashed or were cancelled.
    """

    def __init__(
        self,
        message: str,
        *,
        runs: Sequence[Any] = (),
        failed: Sequence[Any] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.runs = runs
        self.failed = failed
        self.hint = hint


class FlowRunsNotChanged(OrchnbError, RuntimeError):
    """Some of the flow runs that should be retried or cancelled were not.

    ``failed`` has the reasons by the runs' ids. ``results`` has the server's responses for the runs that
    were retried or cancelled. ``left`` are the ids that were not tried, because the server failed.
    """

    def __init__(
        self,
        message: str,
        *,
        results: Sequence[Any] = (),
        failed: Mapping[Any, str] | None = None,
        left: Sequence[Any] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.results = results
        self.failed: dict[Any, str] = dict(failed or {})
        self.left: tuple[Any, ...] = tuple(left)
        self.hint = hint


class ResultNotAvailable(OrchnbError, ValueError):
    """What a flow or task run returned cannot be read: it was not stored, is out of reach, or must not be
    loaded. ``run`` is the run."""

    def __init__(self, message: str, *, run: Any = None, hint: str = "") -> None:
        super().__init__(message)
        self.run = run
        self.hint = hint


class SourceNotFound(OrchnbError, ValueError):
    """A function cannot be written to a module: something that it uses is in no cell's source."""


class ServingFailed(OrchnbError, RuntimeError):
    """A process that should serve a flow does not do so. ``log`` has the last lines that it wrote."""

    def __init__(self, message: str, *, log: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message)
        self.log: tuple[str, ...] = tuple(log)
        self.hint = hint


class AmbiguousReference(OrchnbError, ValueError):
    """A name or a short id fits several objects. The message lists some; ``candidates`` has their ids."""

    def __init__(self, message: str, *, candidates: Sequence[Any] = (), hint: str = "") -> None:
        super().__init__(message)
        self.candidates: tuple[Any, ...] = tuple(candidates)
        self.hint = hint


class ReferenceNotFound(OrchnbError, ValueError):
    """A name or a short id fits no object. The hint suggests similar names."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class LifespanStartupFailed(OrchnbError, RuntimeError):
    """An ASGI app refused or failed to start. The message comes from the app."""


class ServerStartFailed(OrchnbError, RuntimeError):
    """The in-kernel server did not start.

    ``phase`` is where it failed (``import``, ``create`` or ``start``). ``log_lines`` are the last lines
    of its log, oldest first.
    """

    def __init__(
        self, message: str, *, phase: str, hint: str = "", log_lines: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.phase = phase
        self.hint = hint
        self.log_lines: tuple[str, ...] = tuple(log_lines)


class UnexpectedAnswer(OrchnbError, ValueError):
    """A successful response that an API would not send, such as a login page instead of JSON."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class FieldProblem:
    """One row of a 422: where in the request (``body.name``), what is wrong, and its type code."""

    location: str
    message: str
    type: str = ""


class InvalidParameters(OrchnbError, ValueError):
    """A deployment's schema does not accept these parameters. No flow run was created.

    ``fields`` has one row, as in a 422, for each parameter that is unknown, missing or of the wrong
    type. No row contains a value that was passed.
    """

    def __init__(
        self, message: str, *, fields: Sequence[FieldProblem] = (), hint: str = ""
    ) -> None:
        super().__init__(message)
        self.fields: tuple[FieldProblem, ...] = tuple(fields)
        self.hint = hint


class PrefectHTTPStatusError(OrchnbError, httpx.HTTPStatusError):
    """The server responded with an error status.

    The message is one line. ``detail`` is the server's explanation ("" if there is none), ``fields`` the
    rows of a 422, ``hint`` what to do about it. ``request`` and ``response`` are copies without secrets:
    no credentials, no header values set by the user, no body of the request, and in that of the response
    none of the fields that repeat it (``input``, ``request_body``). It can be pickled.

    Where Prefect is imported, it is also an error of Prefect's client: ``except
    prefect.exceptions.ObjectNotFound`` catches an `ObjectNotFound`.
    """

    _prefects_names: ClassVar[tuple[str, ...]] = ("PrefectHTTPStatusError",)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Return an error that is also one of Prefect's, if Prefect is imported."""
        kind: type[Self] = with_prefects_base(cls, cls._prefects_names)
        return super().__new__(kind, *args, **kwargs)

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
        self.fields: tuple[FieldProblem, ...] = tuple(fields)
        self.hint = hint

    @property
    def status_code(self) -> int:
        """The status code of the response, such as 404."""
        return self.response.status_code

    @classmethod
    def from_status_error(cls, error: PrefectHTTPStatusError, message: str) -> Self:
        """Return the same failure as an error of this class, with a more specific message."""
        return cls(
            message,
            request=error.request,
            response=error.response,
            detail=error.detail,
            fields=error.fields,
            hint=error.hint,
        )


class ObjectNotFound(PrefectHTTPStatusError):
    """A read returned 404: the requested object does not exist."""

    _prefects_names = ("ObjectNotFound", "PrefectHTTPStatusError")


class ObjectAlreadyExists(PrefectHTTPStatusError):
    """A write returned 409: an object with that name or key already exists."""

    _prefects_names = ("ObjectAlreadyExists", "PrefectHTTPStatusError")


class OperationNotFound(PrefectHTTPStatusError):
    """The server does not have this operation. The message names both, and the server's version."""
