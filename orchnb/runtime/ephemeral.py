"""The server inside this process: which app it is, and how it starts.

By default that is the real Prefect server (``pip install "orchnb[server]"``), telemetry off;
``ORCHNB_EPHEMERAL_APP="module:app_or_factory"`` names any other ASGI app. It is itself an ASGI app
whose start-up makes the real one, so the lifespan manager counts its users as it does for any app:
it is started once per process, and anew after everybody has left.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias

import anyio
import anyio.to_thread

from orchnb.errors import LifespanStartupFailed, ServerStartFailed
from orchnb.observers import Observers
from orchnb.runtime.host import HostedApp, host_log
from orchnb.runtime.lifespan import (
    ASGIApp,
    Receive,
    Send,
    app_lifespan_context,
    lifespan_state,
)
from orchnb.settings import Settings

Phase: TypeAlias = Literal["import", "create", "start"]

_LOG_LINES = 20
_PREFECT = "prefect"


@dataclass(frozen=True)
class StartupEvent:
    """A phase of the server's start-up began, ended or failed."""

    phase: Phase
    kind: Literal["began", "ended", "failed"]
    elapsed: float
    """Seconds since the phase began."""


class StartupObserver(Protocol):
    """Who wants to watch the start-up. Called on the host's thread: be quick."""

    def __call__(self, event: StartupEvent, /) -> object: ...


_observers: Observers[StartupEvent] = Observers()


def observe_startup(observer: StartupObserver) -> AbstractContextManager[None]:
    """Have ``observer`` told of the phases of every start-up during a ``with`` block."""
    return _observers.observe(observer)


class EphemeralApp:
    """The app of the server in this process, as one ASGI app. Get it from `ephemeral_app`.

    ``title`` is what people call it; ``phases`` the seconds that each phase of the last start took;
    ``current_phase`` the one that is under way, or None.
    """

    def __init__(
        self, spec: str, *, timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.spec = spec
        self.title = "the Prefect server" if spec == _PREFECT else spec
        self.timeout = timeout
        self.phases: dict[Phase, float] = {}
        self.current_phase: Phase | None = None
        self._clock = clock
        self._app: ASGIApp | None = None

    @property
    def is_up(self) -> bool:
        """Whether it has started and not been shut down."""
        return self._app is not None

    @property
    def is_prefect(self) -> bool:
        """Whether it is Prefect's own server."""
        return self.spec == _PREFECT

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            assert self._app is not None, "requests come after the start-up"
            await self._app(scope, receive, send)
            return
        await receive()
        async with self._running() as app:
            scope["state"].update(lifespan_state(app))
            self._app = app
            await send({"type": "lifespan.startup.complete"})
            await receive()
        self._app = None
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[ASGIApp]:
        """The real app, from import to shutdown."""
        self.phases = {}
        deadline = anyio.current_time() + self.timeout
        with self._phase("import"):
            find = _prefect_factory if self.is_prefect else partial(_find, self.spec)
            make = await self._in_time(deadline, anyio.to_thread.run_sync, find)
        with self._phase("create"):
            app = await self._in_time(deadline, anyio.to_thread.run_sync, make)
        settings = _quiet_prefect() if self.is_prefect else contextmanager(_nothing)()
        with settings:
            lifespan = app_lifespan_context(app)
            with self._phase("start"):
                await self._in_time(deadline, lifespan.__aenter__)
            try:
                yield app
            finally:
                # It tells errors of a shutdown to the log; those of the requests are not its own.
                await lifespan.__aexit__(None, None, None)

    async def _in_time(self, deadline: float, function: Callable[..., Any], *args: Any) -> Any:
        with anyio.fail_after(max(0.0, deadline - anyio.current_time())):
            # A thread cannot be stopped: left alone, it ends by itself, and a module that it has
            # imported need not be imported again.
            if function is anyio.to_thread.run_sync:
                return await anyio.to_thread.run_sync(*args, abandon_on_cancel=True)
            return await function(*args)

    @contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        began = self._clock()
        self.current_phase = phase
        _observers.tell(StartupEvent(phase, "began", 0.0))
        try:
            yield
        except Exception as exc:
            elapsed = self._clock() - began
            _observers.tell(StartupEvent(phase, "failed", elapsed))
            raise self._failure(phase, exc) from exc
        finally:
            self.current_phase = None
        self.phases[phase] = self._clock() - began
        _observers.tell(StartupEvent(phase, "ended", self.phases[phase]))

    def _failure(self, phase: Phase, exc: Exception) -> ServerStartFailed:
        if isinstance(exc, ServerStartFailed):
            return exc
        if isinstance(exc, TimeoutError):
            reason = f"it took longer than {self.timeout:g} s"
            hint = (
                "Try again: what was done so far is kept. If it is just slow, set "
                "ORCHNB_EPHEMERAL_STARTUP_TIMEOUT to more seconds."
            )
        else:
            reason = _last_line(str(exc)) or type(exc).__name__
            hint = self._hint(phase, str(exc))
        lines = list(host_log.lines(_LOG_LINES))
        if isinstance(exc, LifespanStartupFailed):
            lines += str(exc).splitlines()  # frameworks put their whole traceback into the message
        return ServerStartFailed(
            f"{self.title} did not start (phase: {phase}): {reason}",
            phase=phase,
            hint=hint,
            log_lines=lines[-_LOG_LINES:],
        )

    def _hint(self, phase: Phase, reason: str) -> str:
        if not self.is_prefect:
            return "ORCHNB_EPHEMERAL_APP names this app; correct it, or the app."
        if "database" in reason or "sqlite" in reason or phase == "start":
            return (
                "Check that the database can be opened: PREFECT_HOME and "
                "PREFECT_SERVER_DATABASE_CONNECTION_URL say where it is."
            )
        return 'Check the installation: pip install "orchnb[server]" brings a fitting one.'


_apps: dict[str, EphemeralApp] = {}


def ephemeral_app(settings: Settings) -> EphemeralApp:
    """The app of the server in this process that these settings ask for, one per process."""
    spec = settings.ephemeral_app or _PREFECT
    app = _apps.setdefault(spec, EphemeralApp(spec, timeout=settings.ephemeral_startup_timeout))
    app.timeout = settings.ephemeral_startup_timeout
    return app


def host_ephemeral(settings: Settings) -> HostedApp:
    """A lease of the server in this process; the start-up begins if it is not up yet."""
    return HostedApp(ephemeral_app(settings))


def _nothing() -> Iterator[None]:
    yield


def _prefect_factory() -> Callable[[], ASGIApp]:
    """Import Prefect's server; return what makes an app of it."""
    if importlib.util.find_spec("prefect") is None or (
        importlib.util.find_spec("prefect.server") is None
    ):
        raise ServerStartFailed(
            "The Prefect server is not installed, so none can run in this process",
            phase="import",
            hint='Install it with: pip install "orchnb[server]". Or use a server elsewhere: set '
            "PREFECT_API_URL, or %orch_server_type server URL.",
        )
    # It phones home, and logs an error where it cannot. A wish of the user's own stands.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    create_app = importlib.import_module("prefect.server.api.server").create_app
    # Its apps run once: one that has been shut down comes up without its services and database.
    return partial(create_app, ephemeral=True, ignore_cache=True)


@contextmanager
def _quiet_prefect() -> Iterator[None]:
    """Telemetry off also where Prefect had been imported, and its settings read, before."""
    settings = importlib.import_module("prefect.settings")
    if os.environ.get("PREFECT_SERVER_ANALYTICS_ENABLED", "").lower() in ("1", "true"):
        yield
        return
    with settings.temporary_settings({settings.PREFECT_SERVER_ANALYTICS_ENABLED: False}):
        yield


def _find(spec: str) -> Callable[[], ASGIApp]:
    """Import what ``module:name`` says; return what makes an app of it."""
    module_name, separator, path = spec.partition(":")
    if not separator or not module_name or not path:
        raise _bad_app(spec, "should have the form module:app, or module:factory")
    try:
        target: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        raise _bad_app(spec, f"names a module that cannot be found: {exc.name}") from exc
    except Exception as exc:
        raise _bad_app(spec, f"cannot be imported: {type(exc).__name__}: {exc}") from exc
    for name in path.split("."):
        try:
            target = getattr(target, name)
        except AttributeError:
            raise _bad_app(spec, f"names {path!r}, which {module_name} does not have") from None
    if _accepts(target, 3):
        return lambda: target
    if _accepts(target, 0):
        return partial(_make, spec, target)
    raise _bad_app(
        spec, "is no ASGI app: it should take (scope, receive, send), or make such an app"
    )


def _make(spec: str, factory: Callable[[], Any]) -> ASGIApp:
    app = factory()
    if not _accepts(app, 3):
        raise ServerStartFailed(
            f"ORCHNB_EPHEMERAL_APP={spec} made {type(app).__name__!r}, which is no ASGI app",
            phase="create",
            hint="The factory should return an app that takes (scope, receive, send).",
        )
    return app  # type: ignore[no-any-return]


def _accepts(target: object, count: int) -> bool:
    if not callable(target):
        return False
    try:
        inspect.signature(target).bind(*range(count))
    except (TypeError, ValueError):
        return False
    return True


def _bad_app(spec: str, problem: str) -> ServerStartFailed:
    return ServerStartFailed(
        f"ORCHNB_EPHEMERAL_APP={spec} {problem}",
        phase="import",
        hint="Set ORCHNB_EPHEMERAL_APP to an ASGI app that can be imported from here, or unset it "
        "to run the Prefect server.",
    )


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
