"""CSRF tokens for Prefect's server, as a flow around any other flow."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Generator
from datetime import datetime, timezone
from typing import NamedTuple, Protocol

import httpx

from orchnb.concealed import ConcealedText
from orchnb.errors import UnexpectedAnswer
from orchnb.forks import in_forked_child
from orchnb.http.effects import RequestFlow, SendRequest, Sleep
from orchnb.http.errors import aside_of, status_error, text_of
from orchnb.http.retry import RESENT
from orchnb.redaction import shown_url

TOKEN_HEADER = "Prefect-Csrf-Token"  # noqa: S105 - a header's name
CLIENT_HEADER = "Prefect-Csrf-Client"

_CHANGING_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# One request needs one token. More refreshes than this in a row mean that someone else fetches tokens
# under the same client id, and then the server's 403 is the right response.
_MOST_REFRESHES = 5
_POLL_INTERVAL = 0.02
# Prefect's tokens have 64 characters; servers reject headers of many thousands.
_TOKEN = r"[\x21-\x7e]{1,4096}"  # noqa: S105 - a pattern


class InnerFlow(Protocol):
    """The flow that sends a request and returns its response, such as ``Retrier.flow``."""

    def __call__(self, request: httpx.Request, *, aside: bool = False) -> RequestFlow: ...


class _Token(NamedTuple):
    text: str
    expires: float | None
    """Seconds since the epoch; None if the server sent no valid expiration."""


class CsrfGuard:
    """Adds the CSRF token to requests that change something; one per client.

    ``build_token_request`` takes the client id and returns the request for a token. ``now`` returns
    seconds since the epoch. The flow sets ``enabled`` to false if the server does not use tokens.
    """

    def __init__(
        self,
        build_token_request: Callable[[str], httpx.Request],
        *,
        enabled: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.enabled: bool = enabled
        self.client_id: str = str(uuid.uuid4())
        self._build_token_request = build_token_request
        self._now = now
        self._token: _Token | None = None
        # Who is fetching a token now, on any loop or thread. No lock: an interrupt right after acquiring
        # it would leave it locked.
        self._fetcher: dict[str, object] = {}
        in_forked_child(self._after_fork)

    def _after_fork(self) -> None:
        # A new token for a client id replaces the last one, and the parent continues to use its own.
        self.client_id = str(uuid.uuid4())
        self._token = None
        self._fetcher = {}

    def concerns(self, request: httpx.Request) -> bool:
        """Return whether this request needs a token; other requests do not need this flow."""
        return self.enabled and request.method in _CHANGING_METHODS

    def flow(self, request: httpx.Request, inner: InnerFlow) -> RequestFlow:
        """Send ``request``, for which `concerns` is true, through ``inner`` with a token.

        If the server says that the token is invalid, fetch a new one and retry immediately.

        Raises:
            PrefectHTTPStatusError: the server refuses to issue a token.
            UnexpectedAnswer: the response contains no valid token.
        """
        refreshes = 0
        resent = False
        while True:
            try:
                token = yield from self._valid_token(request, inner)
            except httpx.TransportError as exc:  # it names the request that the user made
                exc.request = aside_of(exc.request, request)
                raise
            if token is not None:
                request.headers[TOKEN_HEADER] = token.text
                request.headers[CLIENT_HEADER] = self.client_id
            response = yield from inner(request)
            if resent:
                response.extensions[RESENT] = True
            resent = RESENT in response.extensions
            if not _is_refused_token(response) or token is None or refreshes >= _MOST_REFRESHES:
                return response
            refreshes += 1
            if self._token is token:  # otherwise a newer one has been fetched in the meantime
                self._token = None

    def _valid_token(
        self, users: httpx.Request, inner: InnerFlow
    ) -> Generator[SendRequest | Sleep, httpx.Response | None, _Token | None]:
        # The server keeps one token per client, so concurrent fetches would invalidate each other's.
        while self.enabled and not self._is_valid(self._token):
            me = object()
            try:
                fetcher = self._fetcher.setdefault("is", me)
                if fetcher is me and not self._is_valid(
                    self._token
                ):  # otherwise another request has just fetched one
                    request = self._build_token_request(self.client_id)
                    self._token = self._read_token((yield from inner(request, aside=True)), users)
                    return self._token
            finally:
                if self._fetcher.get("is") is me:
                    del self._fetcher["is"]
            if fetcher is not me:
                yield Sleep(_POLL_INTERVAL)
        return self._token if self.enabled else None

    def _is_valid(self, token: _Token | None) -> bool:
        return token is not None and (token.expires is None or self._now() < token.expires)

    def _read_token(self, response: httpx.Response, users: httpx.Request) -> _Token | None:
        if response.status_code == 404 or (
            response.status_code == 422 and "CSRF protection is disabled." in text_of(response)
        ):
            self.enabled = False
            return None
        if not response.is_success:
            raise status_error(response, token_for=users)
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        text = answer.get("token") if isinstance(answer, dict) else None
        if not isinstance(text, str) or not re.fullmatch(_TOKEN, text):
            raise UnexpectedAnswer(
                "The server did not return a CSRF token, which "
                f"{users.method} {shown_url(users.url)} needs",
                hint="Check that PREFECT_API_URL ends in /api and that no login page or proxy "
                "is in between.",
            )
        return _Token(ConcealedText(text), _timestamp(answer.get("expiration")))


def _is_refused_token(response: httpx.Response) -> bool:
    return response.status_code == 403 and "Invalid CSRF token" in text_of(response)


def _timestamp(text: object) -> float | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))  # 3.10 does not accept "Z"
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()
