"""The in-kernel server: which app it is, and how it starts.

By default it is the real Prefect server (``pip install "orchnb[server]"``), with telemetry off.
``ORCHNB_EPHEMERAL_APP="module:app_or_factory"`` names any other ASGI app. `EphemeralApp` is an ASGI app
whose start-up creates the real one. So the lifespan manager counts its users as it does for any app: it
is started once per process, and again after the last user has left.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import re
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import anyio
import anyio.to_thread
from pydantic import ValidationError

from orchnb.asgi import ASGIApp, Receive, Send
from orchnb.errors import LifespanStartupFailed, ServerStartFailed
from orchnb.hosting.host import HostedApp, host_log, hosted_records
from orchnb.hosting.import_app import find_app, is_asgi
from orchnb.hosting.lifespan import app_lifespan_context, lifespan_state
from orchnb.hosting.logs import secret_mask
from orchnb.observers import startup_observers
from orchnb.prefect_server.app import PrefectServer, import_server
from orchnb.prefect_server.internals import server_packages
from orchnb.runtime.loops import notebook_loop
from orchnb.runtime.progress import NoProgress, Progress, limited_without_progress
from orchnb.runtime.sqlite_locks import is_about_a_lock, writer_of
from orchnb.settings import Settings
from orchnb.text import one_line

logger: logging.Logger = logging.getLogger(__name__)

Phase: TypeAlias = Literal["import", "create", "migrate", "start"]
"""In this order. Only Prefect's server has the phase ``migrate``, for its database."""

_LOG_LINES = 20

_GRACE = 1.0
"""Seconds that waiters add to the limit, so that the start can report why it failed."""

_STORY_LINES = 10
_PREFECT = "prefect"

_IN_THE_WAY = (
    "Let it finish, or end it, and try again. A server with another database is not affected: set "
    "PREFECT_HOME to another folder, or use %orch_server_type ephemeral --fresh in a notebook."
)
"""What to do about a process that holds a lock."""


@dataclass(frozen=True)
class StartupEvent:
    """An event in the start-up of the in-kernel server.

    ``awaited`` is reported in the thread and context of code that begins to wait for a server that is not
    up yet; the other kinds are reported on the host's thread. ``stopped``: the start was abandoned before
    the end of the phase. ``waits``: the start waits for another process, or no longer does.
    """

    phase: Phase
    kind: Literal["awaited", "began", "waits", "ended", "failed", "stopped"]
    elapsed: float = 0.0
    """Seconds since the phase began."""
    title: str = ""
    """What starts: ``Prefect 3.8.8``, or the name of an app."""
    waits_for: str = ""
    """With ``waits``: what for, such as ``another notebook (process 4711), which is starting a server on
    the same database``. Empty when the wait has ended."""
    over: Callable[[], bool] | None = field(default=None, repr=False, compare=False)
    """With ``awaited``: returns whether that start has ended."""


class StartupObserver(Protocol):
    """An observer of the start-up. It should be fast, because the start-up waits for it."""

    def __call__(self, event: StartupEvent, /) -> object: ...


def observe_startup(observer: StartupObserver) -> AbstractContextManager[None]:
    """Report the phases of every start-up to ``observer`` during a ``with`` block."""
    return startup_observers.observe(observer)


class EphemeralApp:
    """The in-kernel server as an ASGI app. Get it from `ephemeral_app`.

    ``title`` is what people call it; ``phases`` the seconds that each phase of the last start took;
    ``current_phase`` the one that is under way, or None. ``api_path`` is where its API begins;
    ``pages_url`` where a browser finds its web pages while they are served, else None.
    """

    def __init__(
        self,
        spec: str,
        *,
        home: Path,
        timeout: float,
        own_database: bool = False,
        given: ASGIApp | None = None,
        api_path: str = "/api",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.title: str = "the Prefect server" if spec == _PREFECT else spec
        if given is not None:
            name = getattr(given, "title", None) or getattr(given, "__name__", type(given).__name__)
            self.title = f"{one_line(str(name), 80)} (given to use_app)"
        self.home = home
        self.timeout = timeout
        self.api_path = api_path
        self.pages_url: str | None = None
        self._own_database = own_database
        self._given = given
        self.phases: dict[Phase, float] = {}
        self.current_phase: Phase | None = None
        self.progress: Progress = Progress(on_wait=self._tell_of_wait)
        self._clock = clock
        self._app: ASGIApp | None = None
        self._database_file: Path | None = None
        self._errors_before = 0
        self._tells_of_deaths = False
        self._runs = False
        self._ends = False
        self._when_down: list[Callable[[], object]] = []

    @property
    def running(self) -> ASGIApp | None:
        """The real app while it runs, from its start-up to its shutdown."""
        return self._app

    @property
    def is_up(self) -> bool:
        """Whether it has started and not been shut down."""
        return self._app is not None

    @property
    def stays_up(self) -> bool:
        """Whether it is up, and its shutdown has not begun."""
        return self._app is not None and not self._ends

    @property
    def errors(self) -> int:
        """How many errors hosted code has logged since its last start."""
        return host_log.errors - self._errors_before

    def when_down(self, callback: Callable[[], object]) -> None:
        """Call a function, on any thread, when the server is down: now if it does not run or start."""
        self._when_down.append(callback)
        if not self._runs:
            self._tell_down()

    def _tell_down(self) -> None:
        while self._when_down:
            with suppress(IndexError):  # another thread was faster
                self._when_down.pop()()

    @property
    def is_prefect(self) -> bool:
        """Whether it is Prefect's own server."""
        return self.spec == _PREFECT

    @property
    def is_given(self) -> bool:
        """Whether it was passed as an object, and not by name."""
        return self._given is not None

    @property
    def version(self) -> str | None:
        """The version of Prefect, if it is Prefect's and installed."""
        try:
            return metadata.version("prefect") if self.is_prefect else None
        except metadata.PackageNotFoundError:
            return None

    @property
    def version_or_title(self) -> str:
        """``Prefect 3.8.8``, or the title."""
        return f"Prefect {self.version}" if self.version else self.title

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            assert self._app is not None, "requests come after the start-up"
            await self._app(scope, receive, send)
            return
        await receive()
        self._runs = True
        self.progress.begin()
        try:
            async with self._running() as app:
                scope["state"].update(lifespan_state(app))
                self._app = app
                await send({"type": "lifespan.startup.complete"})
                await receive()
                self._ends = True
        finally:
            self.progress.end()
            self._app = None
            self._ends = False
            self._runs = False
            self._tell_down()
        await send({"type": "lifespan.shutdown.complete"})

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[ASGIApp]:
        """Run the real app, from its import to its shutdown."""
        self.phases = {}
        self._database_file = None
        self._errors_before = host_log.errors
        async with AsyncExitStack() as held:
            starting = await held.enter_async_context(AsyncExitStack())
            with self._phase("import"):
                make = await _in_thread(self._find)
            with self._phase("create"):
                app = await _in_thread(make)
            if isinstance(app, PrefectServer):
                self._database_file = app.database_file
                with self._phase("migrate"):
                    await held.enter_async_context(app.holding_the_process())
                    await starting.enter_async_context(app.locked_database())
                    await app.until_writable()
                    await _in_thread(app.migrate)
            lifespan = app_lifespan_context(app)
            with self._phase("start"):
                if isinstance(app, PrefectServer):
                    await app.until_writable()
                others = asyncio.all_tasks()
                self._tells_of_deaths = True
                await lifespan.__aenter__()
                for task in asyncio.all_tasks() - others:
                    task.add_done_callback(self._tell_of_death)
            await starting.aclose()
            self.progress.end()
            try:
                yield app
            finally:
                self._tells_of_deaths = False
                if isinstance(app, PrefectServer):
                    app.end()
                # It logs errors of the shutdown. It must not see an error that ends this block.
                await lifespan.__aexit__(None, None, None)

    def _tell_of_wait(self, what: str) -> None:
        """Tell observers what the start waits for; outside of a notebook, log it."""
        phase = self.current_phase
        assert phase is not None, "a start waits in one of its phases"
        startup_observers.tell(
            StartupEvent(phase, "waits", title=self.version_or_title, waits_for=what)
        )
        if what and notebook_loop() is None:
            # In an empty context, because records of hosted code do not reach the process's handlers.
            log = contextvars.Context().run
            log(logger.warning, "The start of %s is waiting for %s", self.version_or_title, what)

    def _tell_of_death(self, task: asyncio.Task[Any]) -> None:
        """Log the error of a task that the start-up has started, such as a service of Prefect's, which is
        awaited only at the shutdown."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._tells_of_deaths:
            logger.error(
                "A task that was started with %s has failed: %s",
                self.title,
                _name(task),
                exc_info=error,
            )

    def _find(self) -> Callable[[], ASGIApp]:
        """Import the app; return a function that creates it."""
        if self._given is not None:
            given = self._given
            return lambda: given
        if self.is_prefect:
            return import_server(self.home, own_database=self._own_database)
        return find_app(self.spec)

    @contextmanager
    def _phase(self, phase: Phase) -> Iterator[None]:
        began = self._clock()

        def tell(kind: Literal["began", "ended", "failed", "stopped"], elapsed: float) -> None:
            startup_observers.tell(StartupEvent(phase, kind, elapsed, self.version_or_title))

        self.current_phase = phase
        self.progress.report(("phase", phase))
        hosted_records.look()  # for loggers of modules that the previous phase has imported
        tell("began", 0.0)
        try:
            with limited_without_progress(self.progress, self.timeout):
                yield
        except Exception as exc:  # noqa: BLE001 - each becomes a ServerStartFailed
            tell("failed", self._clock() - began)
            # Its context may contain a password, as part of a database's address.
            raise self._failure(phase, exc) from None
        except BaseException:  # nobody waits for it any more
            tell("stopped", self._clock() - began)
            raise
        finally:
            self.current_phase = None
        self.phases[phase] = self._clock() - began
        tell("ended", self.phases[phase])

    def _failure(self, phase: Phase, exc: Exception) -> ServerStartFailed:
        mask = secret_mask()
        if isinstance(exc, ServerStartFailed):
            return ServerStartFailed(mask(exc.message), phase=phase, hint=exc.hint)
        lines = list(host_log.lines(_LOG_LINES))
        words = f"{self.title} did not start"
        if isinstance(exc, NoProgress):
            message = f"{words}: {exc} (phase: {phase})"
            hint = (
                "Try again: what was done so far is kept. If it is only slow, increase "
                "ORCHNB_EPHEMERAL_STARTUP_TIMEOUT (in seconds)."
            )
            if self.progress.waits_for:
                message += f"; it was waiting for {mask(self.progress.waits_for)}"
                hint = _IN_THE_WAY
        else:
            message = f"{words} (phase: {phase}): {mask(_reason(exc))}"
            hint = self._hint(phase)
            if self._database_file is not None and is_about_a_lock(str(exc)):
                message += f"; the lock is held by {mask(writer_of(self._database_file))}"
                hint = _IN_THE_WAY
            # Frameworks put the whole traceback of a failed start into its message.
            failed_lifespan = isinstance(exc, LifespanStartupFailed)
            story = str(exc) if failed_lifespan else "".join(traceback.format_exception(exc))
            lines += story.splitlines()[-_STORY_LINES:]
        return ServerStartFailed(
            message,
            phase=phase,
            hint=hint,
            log_lines=[mask(line) for line in lines[-_LOG_LINES:]],
        )

    def _hint(self, phase: Phase) -> str:
        if self.is_given:
            return "It was passed to orchnb.use_app: correct it, and call use_app again."
        if not self.is_prefect:
            return "ORCHNB_EPHEMERAL_APP names this app: correct the variable or the app."
        if phase == "import":
            return f"Check the installation: pip install {server_packages()} brings a supported version."
        return (
            "Check that the database can be opened: PREFECT_HOME and "
            "PREFECT_SERVER_DATABASE_CONNECTION_URL say where it is."
        )


_apps: dict[tuple[str, Path | None], EphemeralApp] = {}
_given = itertools.count(1)


def ephemeral_app(settings: Settings) -> EphemeralApp:
    """Return the in-kernel server that these settings select; a process has only one of each."""
    spec = settings.ephemeral_app or _PREFECT
    timeout = settings.ephemeral_startup_timeout
    own_home = settings.ephemeral_home if spec == _PREFECT else None
    home = own_home or settings.home
    app = _apps.get((spec, own_home))
    if app is None:
        app = EphemeralApp(spec, home=home, timeout=timeout, own_database=own_home is not None)
        app = _apps.setdefault((spec, own_home), app)
    app.home, app.timeout = home, timeout  # for its next start
    return app


def forget_app(app: EphemeralApp) -> None:
    """Forget an app with a separate database, which nobody will ask for again."""
    for (spec, own_home), known in list(_apps.items()):
        if known is app and own_home is not None:
            del _apps[spec, own_home]


def give_app(app: ASGIApp, api_path: str) -> str:
    """Register an app, instead of the previous one; return the name by which settings select it.

    Raises:
        TypeError: it is not an ASGI app.
        ValueError: ``api_path`` is neither empty nor a path.
    """
    if not re.fullmatch(r"(/[\w.~-]+)*", api_path):
        raise ValueError(f"api_path should be a path such as '/api', or empty; {api_path!r} is not")
    if not is_asgi(app):
        raise TypeError(
            f"{type(app).__name__!r} is not an ASGI app: it should take (scope, receive, send)"
        )
    name = f"app {next(_given)}, given to use_app"
    for key, known in list(_apps.items()):
        if known.is_given:
            del _apps[key]
    _apps[name, None] = EphemeralApp(name, home=Path(), timeout=0, given=app, api_path=api_path)
    return name


def host_app(app: ASGIApp) -> HostedApp:
    """Return a lease of any app. Waits for the in-kernel server end if its start makes no progress."""
    if not isinstance(app, EphemeralApp):
        return HostedApp(app)
    server = app

    def tell_of_wait(hosted: HostedApp) -> None:
        if not server.stays_up:
            startup_observers.tell(
                StartupEvent(
                    server.current_phase or "import",
                    "awaited",
                    title=server.version_or_title,
                    over=hosted.started.done,
                )
            )

    return HostedApp(
        app,
        start_timeout=app.timeout,
        grace=_GRACE,
        progress=app.progress.mark,
        on_wait=tell_of_wait,
    )


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Call a function that blocks, and may raise any exception.

    A thread cannot be stopped. If it is abandoned, it ends by itself, and the modules that it has
    imported do not have to be imported again.
    """

    def call() -> Any:
        try:
            return function()
        except Exception:
            raise
        except BaseException as exc:  # a module that calls sys.exit must not end this process
            raise RuntimeError(f"{type(exc).__name__}: {exc}") from exc

    return await anyio.to_thread.run_sync(call, abandon_on_cancel=True)


def _name(task: asyncio.Task[Any]) -> str:
    """Return a task's name, or if it has none what it runs, such as ``Scheduler.start``."""
    name = task.get_name()
    return getattr(task.get_coro(), "__qualname__", name) if name.startswith("Task-") else name


_ERROR_LINE = re.compile(r"[A-Za-z_][\w.]*: ")


def _reason(exc: Exception) -> str:
    """Return why a phase failed, in one line."""
    if isinstance(exc, ValidationError):
        # Without the input, which may be a database's address.
        problems = exc.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
    lines = [line for line in str(exc).splitlines() if line.strip()]
    if not isinstance(exc, LifespanStartupFailed):
        return f"{type(exc).__name__}: {lines[0].strip()}" if lines else type(exc).__name__
    # In a traceback, the error's message begins a line; some errors add more lines after it.
    named = [line for line in lines if _ERROR_LINE.match(line)]
    return (named or lines or ["it gave no reason"])[-1].strip()
