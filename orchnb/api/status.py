"""Report which server is used, whether it is up, and which setting selected it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from orchnb.api.client import SyncPrefectClient, api_of
from orchnb.credentials import withheld
from orchnb.errors import ObjectNotFound, OrchnbError, PrefectHTTPStatusError
from orchnb.hosting.ephemeral import EphemeralApp
from orchnb.http.retry import RetryPolicy
from orchnb.redaction import redact_url
from orchnb.server_type import ServerType, determine_server_type
from orchnb.settings import Origin, Settings
from orchnb.text import one_line

_NOTHING_SET = Origin("no setting", "the default is the in-kernel server")

PROBE_TIMEOUT = 3.0
"""After how many seconds in total a server that has not answered is called slow."""


@dataclass(frozen=True)
class ServerStatus:
    """A server's state at the time of a request. Its text begins with the type."""

    server_type: ServerType
    place: str
    """The address, without credentials, or the in-kernel server."""
    state: str
    """``up``, ``slow``, ``down``, ``starting``, ``not started`` or ``none``.

    ``slow``: a connection was made, but there was no answer in time. ``down``: no connection was made,
    or the answer did not come from a working API.
    """
    decided_by: Origin
    """The setting that selected the server, and where it was set."""
    version: str | None = None
    seconds: float | None = None
    """How long it took to answer, if it is up."""
    problem: str = ""
    """Why it is not up."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """How many seconds each phase of its start took, if it is an in-kernel server that has started."""
    errors: int = 0
    """How many errors it has logged since its start, if it is an in-kernel server."""
    verbose: bool = False
    """Whether its text includes the phases."""
    flows: str = ""
    """Where Prefect's own flows in this process run: ``the same server``. Empty outside of a notebook."""
    withheld: tuple[str, ...] = ()
    """The credentials that are not sent to it, each with the reason and what to do."""

    @property
    def is_up(self) -> bool:
        """Whether it answered as an API does."""
        return self.state == "up"

    @property
    def state_in_words(self) -> str:
        """The state, with the time it took to answer or the reason it did not."""
        if self.is_up and self.seconds is not None:
            return f"up, answered in {1000 * self.seconds:.0f} ms"
        if self.state == "not started":
            return "not started yet; the first request starts it"
        return f"{self.state}: {self.problem}" if self.problem else self.state

    @property
    def start_in_words(self) -> str:
        """How long each phase of its start took; empty if it has not started, or unless ``verbose``."""
        if not self.verbose or not self.phases:
            return ""
        each = ", ".join(f"{phase} {seconds:.2f} s" for phase, seconds in self.phases.items())
        return f"{sum(self.phases.values()):.2f} s: {each}"

    @property
    def errors_in_words(self) -> str:
        """How many errors it has logged and how to see them; empty if there are none."""
        if not self.errors:
            return ""
        number = "1 error" if self.errors == 1 else f"{self.errors} errors"
        return f"{number} since it started; see %orch_server_logs --level error"

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        start = f"; its start took {self.start_in_words}" if self.start_in_words else ""
        errors = f"; in its log: {self.errors_in_words}" if self.errors else ""
        flows = f"; Prefect flows here: {self.flows}" if self.flows else ""
        return (
            f"{self.server_type}: {self.place}{version}, {self.state_in_words} "
            f"(decided by {self.decided_by}){start}{errors}{flows}"
            + "".join(f"; {reason}" for reason in self.withheld)
        )

    __repr__ = __str__


def server_status(
    settings: Settings,
    *,
    verbose: bool = False,
    patience: float = PROBE_TIMEOUT,
    clock: Callable[[], float] = time.perf_counter,
) -> ServerStatus:
    """Ask the server in the settings for its state, once, within ``patience`` seconds in total.

    This does not start an in-kernel server. It does not raise an error for a server that is slow, down,
    or not an API; the status says so.

    Raises:
        InvalidSetting: a setting has an invalid value.
    """
    kind = determine_server_type(settings)
    decided_by = _decided_by(settings, kind)
    if kind is ServerType.UNCONFIGURED:
        return ServerStatus(kind, "no server", "none", decided_by, problem="none is configured")
    api = api_of(settings)
    if not isinstance(api, EphemeralApp):
        left_out = tuple(withheld(settings).values())
        status = ServerStatus(kind, redact_url(api), "up", decided_by, withheld=left_out)
    else:
        place = "the in-kernel " + ("Prefect server" if api.is_prefect else f"server, {api.title}")
        if settings.ephemeral_home and api.is_prefect:
            place += ", on a separate database"
        status = ServerStatus(kind, place, "up", decided_by, api.version)
        if not api.is_up:
            state = "starting" if api.current_phase else "not started"
            problem = f"phase {api.current_phase!r}" if api.current_phase else ""
            return replace(status, state=state, problem=problem)
        phases = {str(phase): seconds for phase, seconds in api.phases.items()}
        status = replace(status, phases=phases, errors=api.errors, verbose=verbose)
    return replace(status, **_asked(api, settings, patience, clock))


def _asked(
    api: str | EphemeralApp, settings: Settings, patience: float, clock: Callable[[], float]
) -> dict[str, Any]:
    """Return the fields of the status that need a request."""
    options = {"timeout": patience, "retry_policy": RetryPolicy(max_retries=0)}
    client = SyncPrefectClient(api, settings=settings, httpx_settings=options)
    found: dict[str, Any] = {}

    def look() -> None:
        began = clock()
        error = client.api_healthcheck()
        if error is not None:
            raise error
        found["seconds"] = clock() - began
        if version := one_line(_ask_version(client) or "", 80):
            found["version"] = version

    try:
        client._within(patience, look)
    except httpx.TimeoutException as exc:
        if "seconds" not in found:  # else it is up, and only the version was too late
            slow = not isinstance(exc, httpx.ConnectTimeout)
            found.update(state="slow" if slow else "down", problem=_lowered(str(exc)))
    except (OrchnbError, httpx.HTTPError) as exc:
        return {"state": "down", "problem": describe(exc)}
    return dict(found)


def _lowered(words: str) -> str:
    return words[:1].lower() + words[1:]


def describe(error: Exception) -> str:
    """Return a description of an error, even if httpx gives it no message."""
    if isinstance(error, httpx.ConnectError):
        return f"cannot connect ({error})" if str(error) else "cannot connect"
    if isinstance(error, PrefectHTTPStatusError):
        words = f"{error.status_code} {error.response.reason_phrase}".strip()
        return f"it answers {words}{': ' + error.detail if error.detail else ''}. {error.hint}"
    return str(error) or type(error).__name__


def _ask_version(client: SyncPrefectClient) -> str | None:
    try:
        return client.api_version()
    except (ObjectNotFound, PrefectHTTPStatusError, ValueError):
        return None  # Prefect Cloud has none, and other apps may have none


def _decided_by(settings: Settings, kind: ServerType) -> Origin:
    if kind in (ServerType.SERVER, ServerType.CLOUD):
        return settings.source("api_url")
    origin = settings.source("server_allow_ephemeral_mode")
    return origin if origin.name or origin.place != "default" else _NOTHING_SET
