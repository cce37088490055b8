"""Say in words why a request got no answer: what is wrong, and what to change.

httpx's own messages name neither the server nor the remedy, and some of them are empty.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import anyio
import httpx

from orchnb.errors import with_hint
from orchnb.redaction import IN_PROCESS_HOST, redact_url

E = TypeVar("E", bound=httpx.TransportError)

_EXPLANATION = "orchnb_explanation"


class Explanation(NamedTuple):
    """Why there was no answer."""

    title: str
    """What kind of failure it is, for the head of a card."""
    problem: str
    hint: str
    detail: str = ""
    """The words of the operating system, a library or a proxy."""
    proxy: str = ""
    """The proxy that was used, without credentials, if the failure is the proxy's."""


_ADDRESS = "In a notebook, %orch_server_type shows which setting the address comes from."
_RUNS = (
    "Start the server there (prefect server start), correct PREFECT_API_URL, or use the in-kernel "
    f"server: %orch_server_type ephemeral. {_ADDRESS}"
)
_LONGER = "If the server needs more time, increase PREFECT_API_REQUEST_TIMEOUT (seconds)."
_PROXY = "Correct {setting}, or start the proxy. If this server needs no proxy, add its host to NO_PROXY."
_CERTIFICATE = (
    "If it is your own or your company's, set PREFECT_API_SSL_CERT_FILE to the file that contains it. If "
    "it is for another name or has expired, it must be fixed on the server."
)
_RESTARTED = (
    "The server, or a proxy in front of it, may have been restarted; in a notebook, %orch_server_type "
    "shows whether it is up again."
)

_TEXTS: tuple[tuple[type[httpx.TransportError], str, str, str], ...] = (
    (
        httpx.ConnectTimeout,
        "Connecting to the server timed out",
        "There was no connection to {host} within {seconds}",
        f"If there is a firewall or VPN in between, allow this connection there. {_RUNS}",
    ),
    (
        httpx.ReadTimeout,
        "The server did not answer in time",
        "No part of the answer came from {host} within {seconds}",
        _LONGER,
    ),
    (
        httpx.WriteTimeout,
        "The server did not accept the request in time",
        "{host} accepted no part of the request within {seconds}",
        _LONGER,
    ),
    (
        httpx.PoolTimeout,
        "This client is busy with other requests",
        "No connection of this client became free within {seconds}",
        "Send fewer requests at a time, or more slowly.",
    ),
    (
        httpx.ConnectError,
        "The server cannot be reached",
        "{host} cannot be reached",
        _RUNS,
    ),
    (
        httpx.ReadError,
        "The connection broke",
        "The connection to {host} broke before the answer was complete",
        _RESTARTED,
    ),
    (
        httpx.WriteError,
        "The connection broke",
        "The connection to {host} broke before the request was complete",
        _RESTARTED,
    ),
    (
        httpx.RemoteProtocolError,
        "The connection broke",
        "{host} did not answer as HTTP requires",
        _RESTARTED,
    ),
    (
        httpx.LocalProtocolError,
        "This request cannot be sent",
        "HTTP does not allow this request",
        "Check its headers: a value has no blank at either end and no line break.",
    ),
    (
        httpx.UnsupportedProtocol,
        "This address cannot be used",
        "This address cannot be used",
        "It must begin with http:// or https://.",
    ),
)
"""By kind of error: the title, what is wrong, what to do."""

_BROKEN = (ConnectionResetError, BrokenPipeError, anyio.BrokenResourceError, anyio.EndOfStream)

_NO_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
)
"""OpenSSL's reasons for an answer that is not TLS."""


def explanation_of(error: BaseException) -> Explanation | None:
    """Return the explanation that `explain` has given, or None."""
    found = vars(error).get(_EXPLANATION)
    return found if isinstance(found, Explanation) else None


def with_explanation(error: E, explanation: Explanation) -> E:
    """Make an explanation the text of an error, and return the error."""
    error.args = (
        with_hint(_with_detail(explanation.problem, explanation.detail), explanation.hint),
    )
    vars(error)[_EXPLANATION] = explanation
    return error


def explain(error: httpx.TransportError, request: httpx.Request) -> Explanation | None:
    """Return why a request got no answer, or None if there is nothing to add to the error's message."""
    known = explanation_of(error)
    if known is not None:
        return known
    host = request.url.netloc.decode("ascii", "replace")
    if request.url.host == IN_PROCESS_HOST:
        host = "the in-kernel server"
    if isinstance(error, httpx.ConnectError):
        for cause in causes(error):
            found = _of_cause(cause, host)
            if found is None and request.url.scheme == "https" and isinstance(cause, _BROKEN):
                found = _no_secure_connection(host, str(cause))
            if found is not None:
                return found
    for kind, title, problem, hint in _TEXTS:
        if isinstance(error, kind):
            words = problem.format(host=host, seconds=_seconds(error, request))
            words = words[:1].upper() + words[1:] if words.startswith("the ") else words
            detail = "" if isinstance(error, httpx.TimeoutException) else str(error)
            return Explanation(title, _with_detail(words, detail), hint)
    return None


def _of_cause(cause: BaseException, host: str) -> Explanation | None:
    """Return what an error of the operating system or the TLS library says of a connection."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        title, hint = "The server's certificate is not trusted", _CERTIFICATE
        problem = _with_detail(f"The certificate of {host} is not trusted", str(cause))
    elif isinstance(cause, ssl.SSLError) and _reason(cause) in _NO_TLS:
        title = "A secure connection could not be established"
        problem = f"{host} does not answer by https"
        hint = f"If the server has no https, write its address with http://. {_ADDRESS}"
    elif isinstance(cause, ssl.SSLError):
        title = "A secure connection could not be established"
        problem = f"There was no secure connection to {host}"
        hint = "Check whether the server supports https at all. If not, write its address with http://."
    elif isinstance(cause, socket.gaierror):
        title = "The server's name cannot be resolved"
        problem = f"No address was found for {host}"
        hint = f"Check the spelling, the network and the VPN. {_ADDRESS}"
    elif isinstance(cause, ConnectionRefusedError):
        title, hint = "The server cannot be reached", _RUNS
        problem = f"{host} refuses connections: nothing is listening there"
    else:
        return None
    return Explanation(title, problem, hint, str(cause))


def _reason(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason; an error that Python code has raised has none."""
    return getattr(error, "reason", None) or ""


def _no_secure_connection(host: str, detail: str) -> Explanation:
    return Explanation(
        "A secure connection could not be established",
        f"There was no secure connection to {host}",
        "Check whether the server supports https at all. If not, write its address with http://. "
        f"{_ADDRESS}",
        detail,
    )


def _with_detail(words: str, detail: str) -> str:
    return f"{words} ({detail})" if detail and detail not in words else words


def _seconds(error: httpx.TransportError, request: httpx.Request) -> str:
    name = type(error).__name__.removesuffix("Timeout").lower()
    limit = request.extensions.get("timeout", {}).get(name)
    return f"{limit:g} s" if limit else "the time allowed"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the causes of an error, outermost first, and the members of groups among them: a name may
    have several addresses, each of which was tried."""
    seen: set[int] = set()
    left = [error.__cause__ or error.__context__]
    while left:
        cause = left.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        left.append(cause.__cause__ or cause.__context__)
        left.extend(reversed(getattr(cause, "exceptions", ())))


def is_refused(error: BaseException) -> bool:
    """Return whether every attempt to connect was refused: nothing listens there, now."""
    return isinstance(error, (httpx.ConnectError, httpx.ProxyError)) and any(
        isinstance(cause, ConnectionRefusedError) for cause in causes(error)
    )


# Proxies.


def proxy_failure(
    error: Exception, request: httpx.Request, proxy: httpx.Proxy, setting: str
) -> Exception:
    """Return the error for a request through a proxy: the proxy's, if it is the proxy that failed.

    ``setting`` is where the proxy is set.
    """
    place = redact_url(proxy.url)
    hint = _PROXY.format(setting=setting)
    words = str(error)
    if isinstance(error, httpx.ProxyError):
        if words.startswith("407"):
            hint = f"Write the proxy's user name and password into {setting}: http://user:password@host."
        problem = f"The proxy {place} ({setting}) refused the connection: {words}"
        return with_explanation(
            error, Explanation("The proxy refused the request", problem, hint, proxy=place)
        )
    if not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)) or _is_behind(
        error, proxy
    ):
        return error
    host = proxy.url.netloc.decode("ascii", "replace")
    found = next((e for cause in causes(error) if (e := _of_cause(cause, host))), None)
    if isinstance(error, httpx.ConnectTimeout):
        why, title = "there was no connection in time", "Connecting to the proxy timed out"
    else:
        why, title = (found.problem if found else words), "The proxy cannot be reached"
    explanation = Explanation(
        title, f"The proxy {place} ({setting}) cannot be reached: {why}", hint, proxy=place
    )
    if isinstance(error, httpx.ConnectTimeout):
        return with_explanation(error, explanation)
    return with_explanation(httpx.ProxyError("", request=request), explanation)


def _is_behind(error: Exception, proxy: httpx.Proxy) -> bool:
    """Return whether a failure came from the server behind a proxy: its TLS comes after the proxy's."""
    is_tls = any(isinstance(cause, ssl.SSLError) for cause in causes(error))
    return is_tls and proxy.url.scheme != "https"


# http:// where the server wants https://.

_PROBE_TIMEOUT = 3.0
"""Seconds that a connection may take that finds out whether a server uses https."""


def tls_probe(error: BaseException, request: httpx.Request) -> httpx.Request | None:
    """Return a request that finds out if the server uses https, if a failure over http may mean that.

    It is observed by the same ``trace``, which ends it when the client is closed.
    """
    broken = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
    if request.url.scheme != "http" or not isinstance(error, broken):
        return None
    place = f"https://{request.url.netloc.decode('ascii')}/"
    extensions: dict[str, Any] = {"timeout": httpx.Timeout(_PROBE_TIMEOUT).as_dict()}
    if "trace" in request.extensions:
        extensions["trace"] = request.extensions["trace"]
    return httpx.Request("HEAD", place, extensions=extensions)


def speaks_tls(outcome: Exception | None) -> bool:
    """Return whether the outcome of a `tls_probe` shows that the server uses https; None is an answer."""
    if not isinstance(outcome, (httpx.ConnectError, httpx.ConnectTimeout)):
        return outcome is None or isinstance(outcome, httpx.TransportError)  # after the handshake
    return any(
        isinstance(cause, ssl.SSLCertVerificationError)
        or (isinstance(cause, ssl.SSLError) and "ALERT" in _reason(cause))
        for cause in causes(outcome)
    )


def wants_https(request: httpx.Request) -> httpx.UnsupportedProtocol:
    """Return the error for a request over http to a server that uses https."""
    host = request.url.netloc.decode("ascii", "replace")
    return with_explanation(
        httpx.UnsupportedProtocol("", request=request),
        Explanation(
            "The server uses https",
            f"{host} uses https, and the address says http",
            f"Write the address with https://: PREFECT_API_URL=https://{host}/api. {_ADDRESS}",
        ),
    )
