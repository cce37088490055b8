"""What people are told of each kind of error: its name, and what to do about it."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple

import httpx

from orchnb.errors import (
    ClientClosed,
    ClientNotPicklable,
    ForeignAddress,
    InvalidParameters,
    InvalidSetting,
    LifespanStartupFailed,
    ObjectAlreadyExists,
    ObjectNotFound,
    OperationNotFound,
    OutcomeUnknown,
    ServerNotConfigured,
    ServerStartFailed,
    UnexpectedAnswer,
)


class Kind(NamedTuple):
    """How errors of one kind are told."""

    title: str
    hint: str = ""
    """What to do, where the error itself does not say so."""
    problem: str = ""
    """What is wrong, where the error itself does not say so well; ``{host}`` is the server's."""


_ADDRESS = "%orch_server_type shows which setting gave the address."
_RUNS = (
    "Start the server there (prefect server start), correct the address, or use a server in this kernel: "
    f"%orch_server_type ephemeral. {_ADDRESS}"
)
_LONGER = "If the server needs longer, set PREFECT_API_REQUEST_TIMEOUT to more seconds."

KINDS: tuple[tuple[type[Exception], Kind], ...] = (
    (ObjectNotFound, Kind("Not found")),
    (ObjectAlreadyExists, Kind("It exists already")),
    (OperationNotFound, Kind("This server cannot do that")),
    (UnexpectedAnswer, Kind("This does not look like an API")),
    (ServerStartFailed, Kind("The server in this process did not start")),
    (
        LifespanStartupFailed,
        Kind("The app did not start", "Its own words say why; correct the app."),
    ),
    (ServerNotConfigured, Kind("No server is configured")),
    (InvalidSetting, Kind("A setting cannot be used")),
    (ClientNotPicklable, Kind("A client cannot be pickled")),
    (ClientClosed, Kind("This client is not open")),
    (OutcomeUnknown, Kind("It is not known whether the server did it")),
    (InvalidParameters, Kind("The deployment does not take these parameters")),
    (ForeignAddress, Kind("This address is not the API's")),
    (
        httpx.ConnectTimeout,
        Kind(
            "The server cannot be reached in time",
            f"If a firewall or VPN stands in between, have it let this pass. {_RUNS}",
        ),
    ),
    (httpx.ReadTimeout, Kind("The server did not answer in time", _LONGER)),
    (httpx.WriteTimeout, Kind("The server did not take the request in time", _LONGER)),
    (
        httpx.PoolTimeout,
        Kind("This client is busy with other requests", "Send fewer at a time, or more slowly."),
    ),
    (
        httpx.ProxyError,
        Kind(
            "The proxy refused", "Correct HTTP_PROXY or HTTPS_PROXY, or add this host to NO_PROXY."
        ),
    ),
    (httpx.ConnectError, Kind("The server cannot be reached", _RUNS)),
    (
        httpx.UnsupportedProtocol,
        Kind("This address cannot be used", "It should begin with http:// or https://."),
    ),
    (
        httpx.InvalidURL,
        Kind("This address cannot be used", f"Check the path that was asked for. {_ADDRESS}"),
    ),
    (
        httpx.LocalProtocolError,
        Kind("This request cannot be sent", "HTTP does not allow it; check the headers given."),
    ),
    (
        httpx.DecodingError,
        Kind(
            "The answer cannot be unpacked",
            "A proxy probably garbles it: add this host to NO_PROXY, or ask whoever runs the proxy.",
        ),
    ),
    (
        httpx.TransportError,
        Kind(
            "The connection broke",
            "The server, or a proxy before it, may have been restarted: %orch_server_type shows whether "
            "it is up again.",
        ),
    ),
    # Last, as some of those above are kinds of these: an operation refuses what it is given.
    (TypeError, Kind("This argument cannot be used")),
    (ValueError, Kind("This argument cannot be used")),
)

# Why there was no connection, as the operating system or the TLS library says.
NO_CONNECTION: tuple[tuple[type[BaseException], Kind], ...] = (
    (
        ssl.SSLCertVerificationError,
        Kind(
            "The server's certificate is not trusted",
            "If it is your own or your company's, let PREFECT_API_SSL_CERT_FILE name the file that "
            "holds it. If it is for another name, or has expired, that has to be corrected there.",
        ),
    ),
    (
        ssl.SSLError,
        Kind(
            "No secure connection could be made",
            "Does the server speak https at all? If not, its address begins with http://.",
        ),
    ),
    (
        socket.gaierror,
        Kind(
            "The server's name is not known",
            f"Check the spelling, the network and the VPN. {_ADDRESS}",
            "No address is to be found for {host}",
        ),
    ),
    (
        ConnectionRefusedError,
        Kind(
            "The server cannot be reached",
            _RUNS,
            "{host} refuses connections: nothing listens there",
        ),
    ),
)

WAITS: dict[type, tuple[str, str]] = {
    httpx.ConnectTimeout: ("connect", "for a connection to be made"),
    httpx.ReadTimeout: ("read", "without any part of the answer"),
    httpx.WriteTimeout: ("write", "without any part of the request being taken"),
    httpx.PoolTimeout: ("pool", "for one of the client's connections to be free"),
}

UNCONNECTED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
# The request may have been carried out all the same.
UNANSWERED = (
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)

_ONLY_ASKS = "It only asks, so nothing has changed there."
# By method and path: what a request whose answer did not come may have done, and how to look.
# A pattern that ends in a space is for any path.
AFTERWARDS = (
    ("(GET|HEAD|OPTIONS) ", _ONLY_ASKS),
    ("POST .*/(filter|filter/next|paginate|count|count-by/[^/]+|history|lateness)", _ONLY_ASKS),
    (
        "POST .*/deployments/[^/]+/create_flow_run",
        "The run may have been made all the same: read_flow_runs() shows. Running this again makes "
        "another one, unless create_flow_run_from_deployment is given the same idempotency_key both "
        "times.",
    ),
    (
        "POST .*/flow_runs/",
        "The run may have been made all the same: read_flow_runs() shows. Running this again makes "
        "another one, unless create_flow_run is given the same idempotency_key both times.",
    ),
    (
        "POST .*/flows/",
        "The flow may be there now. Running this again is safe: there is one flow of a name.",
    ),
    (
        "POST .*/flow_runs/[^/]+/set_state",
        "The run may be in the new state all the same: read_flow_run(...) shows.",
    ),
    ("DELETE ", "It may be deleted all the same: read it back; then it is not found."),
    (
        ".* ",
        "It may have been done all the same: read it back before running this again.",
    ),
)

# A server's 403 about CSRF tokens, by a word of it.
CSRF_HINTS = (
    (
        "Missing",
        "This client sends none: set PREFECT_CLIENT_CSRF_SUPPORT_ENABLED=true. If it is that "
        "already, the server began to want tokens after this client's first request: %reload_ext "
        "orchnb makes a new client.",
    ),
    (
        "Invalid",
        "New tokens were fetched and refused as well, so whoever gives them does not share them with "
        "whoever checks them: several servers behind one address want one database, and a proxy "
        "must not keep answers of /csrf-token.",
    ),
)
