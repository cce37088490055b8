"""Texts for each kind of error: its title, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

import httpx

from orchnb.errors import (
    AmbiguousReference,
    ClientClosed,
    ClientNotPicklable,
    FlowRunsFailed,
    FlowRunsNotChanged,
    FlowRunWaitTimeout,
    ForeignAddress,
    InvalidParameters,
    InvalidSetting,
    LifespanStartupFailed,
    ObjectAlreadyExists,
    ObjectNotFound,
    OperationNotFound,
    OutcomeUnknown,
    ReferenceNotFound,
    ResultNotAvailable,
    ServerNotConfigured,
    ServerStartFailed,
    ServingFailed,
    SourceNotFound,
    UnexpectedAnswer,
)


class Kind(NamedTuple):
    """The texts for errors of one kind."""

    title: str
    hint: str = ""
    """What to do, if the error itself does not say."""
    problem: str = ""
    """What is wrong, if the error's own message is unclear."""


_ADDRESS = "%orch_server_type shows which setting the address comes from."
KINDS: tuple[tuple[type[Exception], Kind], ...] = (
    (ObjectNotFound, Kind("Not found")),
    (ObjectAlreadyExists, Kind("It exists already")),
    (OperationNotFound, Kind("This server does not support that")),
    (UnexpectedAnswer, Kind("This does not look like an API")),
    (ServerStartFailed, Kind("The in-kernel server did not start")),
    (
        LifespanStartupFailed,
        Kind("The app did not start", "The app's own message says why; fix the app."),
    ),
    (ServerNotConfigured, Kind("No server is configured")),
    (InvalidSetting, Kind("Invalid setting")),
    (ClientNotPicklable, Kind("Clients cannot be pickled")),
    (ClientClosed, Kind("This client is not open")),
    (OutcomeUnknown, Kind("It is unknown whether the server acted on the request")),
    (FlowRunWaitTimeout, Kind("Not finished in time")),
    (FlowRunsFailed, Kind("Flow runs did not complete")),
    (FlowRunsNotChanged, Kind("Not all flow runs were changed")),
    (ResultNotAvailable, Kind("The result cannot be read")),
    (ServingFailed, Kind("The flow is not served")),
    (AmbiguousReference, Kind("This name fits several objects")),
    (ReferenceNotFound, Kind("Not found")),
    (SourceNotFound, Kind("The function cannot be deployed from its cell")),
    (InvalidParameters, Kind("The deployment does not accept these parameters")),
    (ForeignAddress, Kind("This address does not belong to the API")),
    (
        httpx.ProxyError,
        Kind(
            "The proxy refused the request",
            "Correct HTTP_PROXY or HTTPS_PROXY, or add this host to NO_PROXY.",
        ),
    ),
    (
        httpx.InvalidURL,
        Kind("This address cannot be used", f"Check the requested path. {_ADDRESS}"),
    ),
    (
        httpx.LocalProtocolError,
        Kind("This request cannot be sent", "HTTP does not allow it; check its headers."),
    ),
    (
        httpx.DecodingError,
        Kind(
            "The response cannot be decoded",
            "A proxy probably corrupts it: add this host to NO_PROXY, or ask the proxy's administrator.",
        ),
    ),
    (
        httpx.TransportError,
        Kind(
            "The connection broke",
            "The server, or a proxy in front of it, may have been restarted: %orch_server_type shows "
            "whether it is up again.",
        ),
    ),
    # Last, because some of the classes above are subclasses of these: an operation refuses an argument.
    (TypeError, Kind("Invalid argument")),
    (ValueError, Kind("Invalid argument")),
)

WAITS: dict[type, tuple[str, str]] = {
    httpx.ConnectTimeout: ("connect", "without a connection"),
    httpx.ReadTimeout: ("read", "without receiving any part of the response"),
    httpx.WriteTimeout: ("write", "without sending any part of the request"),
    httpx.PoolTimeout: ("pool", "without a free connection in the client's pool"),
}

UNCONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
# The server may have acted on the request anyway.
UNANSWERED = (
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)

_ONLY_ASKS = "This request is read-only; nothing was changed."
# By method and path: what a request without a response may have done, and how to check.
# A pattern that ends in a space matches any path.
AFTERWARDS = (
    ("(GET|HEAD|OPTIONS) ", _ONLY_ASKS),
    ("POST .*/(filter|filter/next|paginate|count|count-by/[^/]+|history|lateness)", _ONLY_ASKS),
    (
        "POST .*/deployments/[^/]+/create_flow_run",
        "The run may have been created anyway: check with read_flow_runs(). Running the same cell "
        "again creates no second one.",
    ),
    (
        "POST .*/flow_runs/",
        "The run may have been created anyway: check with read_flow_runs(). Running the same cell "
        "again creates no second one.",
    ),
    (
        "POST .*/flows/",
        "The flow may exist now. Running this again is safe: flow names are unique.",
    ),
    (
        "POST .*/flow_runs/[^/]+/set_state",
        "The run may be in the new state anyway: check with read_flow_run(...).",
    ),
    (
        "DELETE ",
        "It may have been deleted anyway: read it back; if it is not found, it was deleted.",
    ),
    (
        ".* ",
        "It may have been done anyway: read it back before running this again.",
    ),
)
