"""When to retry, and how long to wait: pure decisions, no I/O."""

from __future__ import annotations

import itertools
import logging
import random
import re
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol

import httpx

from orchnb.concealed import with_causes
from orchnb.errors import ClientClosed, OrchnbError
from orchnb.http.effects import RequestFlow, SendRequest, Sleep, WaitControl
from orchnb.http.failures import Explanation, explain, is_refused, with_explanation
from orchnb.http.proxies import proxy_secrets
from orchnb.observers import retry_observers
from orchnb.redaction import Secrets, redact_url, secrets_of, shown_url
from orchnb.settings import Settings

logger: logging.Logger = logging.getLogger(__name__)

_ENDED_CONNECTION = "ConnectionState.CLOSED"
"""In h2's message for a request on a connection that has ended, as it may when it was idle."""

RETRIED_STATUSES = frozenset({408, 429, 502, 503})

RETRIED_ERRORS = (
    httpx.ReadTimeout,
    httpx.PoolTimeout,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)

_QUICK_WAITS = (0.0, 0.5, 1.0)
"""Seconds before each of the tries that follow a refused connection of a client that was not connected
before: the server may be starting."""

UNSENT_ERRORS = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""Failures before anything was sent to the server, so it cannot have acted."""

REFUSED_STATUSES = frozenset({408, 429, 503})
"""Statuses of a server that did not process the request (RFC 9110, 15.5.9 and 15.6.4; RFC 6585, 4). A 502
comes from a proxy, and says nothing about what the server behind it did."""

ONCE = "orchnb.once"
"""The key in a request's ``extensions`` that marks a request that must not be retried after a failure
that leaves open whether the server acted."""

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods whose requests have the same effect when they are sent twice (RFC 9110, 9.2.2)."""

TRIED_ONCE = "orchnb.tried-once"
"""The key in a request's ``extensions`` that marks a request that is not retried, in maintenance too,
because its caller repeats it or does without it."""

OPERATION = "orchnb.operation"
"""The key in a request's ``extensions`` that names the client operation that sends it."""

RESENT = "orchnb.resent"
"""The key in a response's ``extensions`` that marks the response to a retry after such a failure: it may
refer to what the server did the first time."""

ASIDE = "orchnb.aside"
"""The key in a request's ``extensions`` that marks a request that another one needs before it is sent:
its outcome says nothing about the other one."""

LARGEST = "orchnb.largest"
"""The key in a request's ``extensions`` for the maximum size of the decoded response, in bytes."""

UNREAD = "orchnb.unread"
"""The key in the ``extensions`` of an error response that says why it was not read completely."""

NOT_AWAITED = "orchnb.not-awaited"
"""The key in a response's ``extensions`` that says why it was not retried: the wait would be too long."""

LONGEST_RETRY_AFTER = 24 * 3600.0
"""Seconds. A larger value is considered an error of the server, and the usual back-off applies."""

LONGEST_BACKOFF = 32.0

LONG_WAIT = 10.0
"""Seconds. A longer wait is logged as a warning if nothing observes retries: a script would seem to
hang."""

SHORTEST_MAINTENANCE_WAIT = 1.0
"""Seconds. Retries during maintenance are unlimited, so a zero wait must not become a busy loop."""


@dataclass(frozen=True)
class RetryPolicy:
    """What is retried, how often, and how long to wait in between.

    ``jitter_factor`` is the fraction of a wait by which it may vary randomly (0.2: a fifth). ``random``
    returns numbers in [0, 1); ``now`` returns seconds since the epoch, for ``Retry-After`` dates;
    ``monotonic`` returns seconds from any start, for elapsed time. ``max_wait`` is the total time in
    seconds that one request may wait; waits during maintenance do not count.
    """

    max_retries: int = 5
    max_wait: float = 3600.0
    jitter_factor: float = 0.2
    extra_codes: frozenset[int] = frozenset()
    random: Callable[[], float] = field(default=random.random, repr=False)
    now: Callable[[], float] = field(default=time.time, repr=False)
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> RetryPolicy:
        """Return the policy that the ``client_*`` settings describe."""
        return cls(
            max_retries=settings.client_max_retries,
            max_wait=settings.client_max_wait,
            jitter_factor=settings.client_retry_jitter_factor,
            extra_codes=settings.client_retry_extra_codes,
        )

    def retries_error(self, error: Exception, *, connected: bool) -> bool:
        """Return whether to retry after this error.

        A failed connection is retried only if the client has been ``connected`` before: then the server
        is restarting. Otherwise the address is wrong, and waiting does not help (see `quick_wait`).
        """
        if isinstance(error, httpx.LocalProtocolError):
            # The same request would fail again, unless it was an HTTP/2 connection that had ended.
            return _ENDED_CONNECTION in str(error)
        return isinstance(error, RETRIED_ERRORS) or (
            connected and (isinstance(error, httpx.ConnectError) or is_refused(error))
        )

    def quick_wait(self, failure: httpx.Response | Exception, attempt: int) -> float | None:
        """Return the seconds to wait after the ``attempt``-th refused connection (from 1) of a client
        that was never connected, or None if there is no further try."""
        if attempt > min(len(_QUICK_WAITS), self.max_retries):
            return None
        is_one = isinstance(failure, Exception) and is_refused(failure)
        return _QUICK_WAITS[attempt - 1] if is_one else None

    def leaves_open(self, failure: httpx.Response | Exception) -> bool:
        """Return whether the server may have acted on a request that failed like this."""
        if isinstance(failure, Exception):
            return not isinstance(failure, UNSENT_ERRORS)
        return failure.status_code not in REFUSED_STATUSES

    def wait(self, attempt: int, retry_after: float | None) -> float:
        """Return the seconds to wait after the ``attempt``-th try (from 1) has failed.

        ``retry_after`` is the minimum, and jitter is added to it. Without it the waits are 2, 4, 8, 16,
        32 and again 32 s, with jitter in both directions.
        """
        if retry_after is not None:
            return retry_after * (1 + self.jitter_factor * self.random())
        backoff = min(2.0 ** min(attempt, 10), LONGEST_BACKOFF)
        return max(0.0, backoff * (1 + self.jitter_factor * (2 * self.random() - 1)))


def is_repeatable(request: httpx.Request) -> bool:
    """Return whether a request may be retried even though the server may have acted on it: `ONCE`
    decides, or else the method."""
    once = request.extensions.get(ONCE)
    return request.method in IDEMPOTENT_METHODS if once is None else not once


def parse_retry_after(value: str, now: float) -> float | None:
    """Return the seconds in a ``Retry-After`` header (RFC 9110, 10.2.3), or None if it is invalid.

    Fractions of seconds are accepted, because some proxies send them. A date in the past means 0.
    """
    text = value.strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        seconds = float(text)
    elif not re.match(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? ", text):
        return None
    else:
        try:
            moment = parsedate_to_datetime(text)
            if moment.tzinfo is None:  # the asctime format has no time zone; it is UTC
                moment = moment.replace(tzinfo=timezone.utc)
            seconds = max(0.0, moment.timestamp() - now)
        except (TypeError, ValueError, OverflowError, IndexError):
            return None
    return seconds if seconds <= LONGEST_RETRY_AFTER else None


@dataclass(frozen=True)
class RetryEvent:
    """An event of a request that did not succeed at the first try.

    ``waiting`` is sent before each wait; one of the other kinds is sent last. ``request_id`` is the same
    for all events of one request. Neither the URL nor the cause contains a secret.
    """

    kind: Literal["waiting", "recovered", "gave_up", "stopped"]
    request_id: int
    method: str
    url: str
    attempt: int
    """The number of tries so far."""
    max_attempts: int | None
    """The maximum number of tries, including those that do not count; None while the server is in
    maintenance, when retries are unlimited."""
    cause: str
    """Why the last try failed: ``503 Service Unavailable``, or the name of an error."""
    wait: float
    """Seconds until the next try; 0 if there is none."""
    elapsed: float
    """Seconds since the first try began."""
    control: WaitControl | None = field(default=None, repr=False, compare=False)
    """Ends this wait early, by ``try_now()`` or ``stop()``; None if there is no wait."""
    operation: str = ""
    """The client operation that sends the request, such as ``read_flows``; empty if there is none."""


class RetryObserver(Protocol):
    """An observer of retries. It is called in the thread, and on the event loop, of the request."""

    def __call__(self, event: RetryEvent, /) -> object: ...


_request_ids = itertools.count(1)


def observe_retries(observer: RetryObserver) -> AbstractContextManager[None]:
    """Call ``observer`` for every retry in this process during a ``with`` block.

    An observer that raises is logged and removed; the request is not affected.
    """
    return retry_observers.observe(observer)


class _Story:
    """The events of one request, sent as they happen; the first wait is the first event."""

    def __init__(self, policy: RetryPolicy, request: httpx.Request, began: float) -> None:
        self._policy = policy
        self._request = request
        self._began = began
        self._id = 0
        self._ended = False
        self.attempt = 0
        self.uncounted = 0  # the tries during maintenance
        self.cause = ""

    @property
    def counted(self) -> int:
        return self.attempt - self.uncounted

    @property
    def place(self) -> str:
        return f"{self._request.method} {shown_url(self._request.url)}"

    def log(self, wait: float) -> None:
        """Log the next wait; as a warning if it is long and not shown anywhere else."""
        is_hidden = wait > LONG_WAIT and not retry_observers.are_any
        level = logging.WARNING if is_hidden else logging.DEBUG
        logger.log(level, "%s: %s; next try in %.0f s", self.place, self.cause, wait)

    def failed(self, failure: httpx.Response | Exception) -> None:
        self.attempt += 1
        if isinstance(failure, Exception):
            self.cause = type(failure).__name__
        else:  # the standard phrase: the server's may be anything, and may repeat what was sent
            code = failure.status_code
            self.cause = f"{code} {httpx.codes.get_reason_phrase(code)}".strip()

    def answered(self, response: httpx.Response) -> None:
        if response.is_success:
            self.attempt += 1
            self.tell("recovered")
        else:
            self.failed(response)
            self.tell("gave_up")

    def tell(
        self,
        kind: Literal["waiting", "recovered", "gave_up", "stopped"],
        *,
        wait: float = 0.0,
        endless: bool = False,
        control: WaitControl | None = None,
    ) -> None:
        if kind == "waiting":
            self._id = self._id or next(_request_ids)
        elif not self._id or self._ended:
            return  # it was never retried, or its last event has been sent
        self._ended = kind != "waiting"
        retry_observers.tell(
            RetryEvent(
                kind=kind,
                request_id=self._id,
                method=self._request.method,
                url=redact_url(self._request.url),
                attempt=self.attempt,
                max_attempts=None if endless else self._policy.max_retries + 1 + self.uncounted,
                cause=self.cause,
                wait=wait,
                elapsed=self._policy.monotonic() - self._began,
                control=control,
                operation=self._request.extensions.get(OPERATION, ""),
            )
        )


class Waits:
    """The waits of one request, with a limit on their total."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._left = policy.max_wait
        self._limit = policy.max_wait

    def shorten(self, wait: float, retry_after: float | None) -> float | None:
        """Return the wait, with jitter cut to the limit; None if it is too long without jitter."""
        least = wait if retry_after is None else retry_after
        return min(wait, self._left) if least <= self._left else None

    def add(self, wait: float) -> None:
        """Count a wait."""
        self._left -= wait

    def refusal(self, wait: float) -> str:
        """Return the reason for not making a wait that is too long."""
        return (
            f"It was not retried: the next retry is due in {wait:,.0f} s, and ORCHNB_CLIENT_MAX_WAIT "
            f"allows {self._limit:,.0f} s for all waits of one request"
        )


class Retrier:
    """The retry flow of one client; records whether that client has ever got a response."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.connected: bool = False
        self._retried_statuses = RETRIED_STATUSES | policy.extra_codes
        self._settled_statuses = frozenset(range(200, 300)) - self._retried_statuses

    def settles(self, response: httpx.Response) -> bool:
        """Return whether this response is a success that `flow` would return unchanged."""
        self.connected = True
        return response.status_code in self._settled_statuses

    def flow(
        self,
        request: httpx.Request,
        *,
        aside: bool = False,
        began: float | None = None,
        waits: Waits | None = None,
    ) -> RequestFlow:
        """Send ``request``, retry according to the policy, and return the last response.

        ``began`` is the policy's ``monotonic`` time when the first try began, by default now; ``waits``
        are the waits of the request so far, if several flows send one request.

        Raises the error of the last try if it got no response, and immediately any error that is not
        retried, such as closing the client during a try or a wait. After a wait that its control stops,
        there is no further try.
        """
        policy = self.policy
        handled = sys.exc_info()[1]
        send = SendRequest(request, aside)
        story = _Story(policy, request, policy.monotonic() if began is None else began)
        waits = waits or Waits(policy)
        once = request.extensions.get(ONCE, False)
        most_retries = 0 if request.extensions.get(TRIED_ONCE) else policy.max_retries
        earlier: httpx.Response | Exception | None = None
        resent = False
        refused = 0
        try:
            while True:
                endless = False
                retry_after: float | None = None
                try:
                    answer = yield send
                except httpx.StreamConsumed:
                    # The body came from a stream that is consumed: the last outcome is the result.
                    if isinstance(earlier, httpx.Response):
                        story.tell("gave_up")
                        return earlier
                    raise earlier or OrchnbError(
                        "The body of this request has already been sent; build a new request to send "
                        "it again"
                    ) from None
                except httpx.TransportError as exc:
                    is_first = not self.connected and most_retries > 0
                    quick = policy.quick_wait(exc, refused + 1) if is_first else None
                    if quick is not None and waits.shorten(quick, None) is not None:
                        refused += 1
                        waits.add(quick)
                        yield Sleep(quick, WaitControl())
                        continue
                    story.failed(exc)
                    retried = policy.retries_error(exc, connected=self.connected)
                    if once and policy.leaves_open(exc):
                        retried = False
                    _explain_failure(exc, request, handled)
                    earlier = exc
                    if not retried or story.counted > most_retries:
                        raise
                else:
                    assert answer is not None, "the result of a `SendRequest` is a response"
                    self.connected = True
                    if resent:
                        answer.extensions[RESENT] = True
                    final = answer.status_code not in self._retried_statuses
                    if final or (once and policy.leaves_open(answer)):
                        story.answered(answer)
                        return answer
                    endless = answer.headers.get("Prefect-Maintenance", "").lower() == "true"
                    story.uncounted += endless
                    story.failed(answer)
                    if story.counted > most_retries or (endless and most_retries == 0):
                        story.tell("gave_up")
                        return answer
                    header = answer.headers.get("Retry-After")
                    if header is not None:
                        retry_after = parse_retry_after(header, policy.now())
                    earlier = answer

                resent = resent or policy.leaves_open(earlier)
                wait = policy.wait(story.attempt if endless else story.counted, retry_after)
                if endless:
                    wait = max(wait, SHORTEST_MAINTENANCE_WAIT)
                elif (shortened := waits.shorten(wait, retry_after)) is None:
                    story.tell("gave_up")
                    refusal = waits.refusal(wait if retry_after is None else retry_after)
                    if isinstance(earlier, Exception):
                        logger.warning("%s: %s. %s.", story.place, story.cause, refusal)
                        raise earlier
                    earlier.extensions[NOT_AWAITED] = refusal
                    return earlier
                else:
                    wait = shortened
                story.log(wait)
                control = WaitControl()
                story.tell("waiting", wait=wait, endless=endless, control=control)
                yield Sleep(wait, control)
                if not endless and not control.ended:
                    waits.add(wait)
                if control.stopped:
                    story.tell("stopped")
                    if isinstance(earlier, Exception):
                        raise earlier
                    return earlier
        except ClientClosed as exc:
            if resent:
                exc.may_have_acted(repeatable=is_repeatable(request))
            story.tell("stopped")
            raise
        except Exception:
            story.tell("gave_up")
            raise
        except BaseException:  # closed during a try or a wait, or interrupted between them
            story.tell("stopped")
            raise


def _explain_failure(
    error: httpx.TransportError, request: httpx.Request, handled: BaseException | None
) -> None:
    """Make the text of an error say what is wrong and what to change. Mask the request's secrets in it
    and in the messages of its causes: h11 quotes a header that it cannot send, and a line of a response
    that it cannot parse."""
    masks = [secrets_of(request).mask]
    if isinstance(error, httpx.ProxyError):  # the message comes from the proxy
        masks.append(Secrets(proxy_secrets()).mask)

    def masked(part: Any) -> Any:
        for mask in masks:
            part = mask(part) if isinstance(part, str) else part
        return part

    for each in with_causes(error, handled=handled):
        each.args = tuple(map(masked, each.args))
    explanation = explain(error, request)
    if explanation is not None:
        with_explanation(error, Explanation(*map(masked, explanation)))
