"""The magics: each parses its line, calls a function, and returns the object to display."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments

from orchnb.notebook.display_mode import MODES, DisplayMode
from orchnb.notebook.magic_lines import completes, with_help
from orchnb.notebook.magic_lines import parsed_line as _given
from orchnb.notebook.session import SERVER_KINDS, InvalidChoice, Session
from orchnb.notebook.track_options import TrackOptions

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.api.status import ServerStatus
    from orchnb.diagnosis import Diagnosis
    from orchnb.notebook.live_displays import LiveDisplays
    from orchnb.notebook.record_displays import Recording
    from orchnb.notebook.views.model import Card, Line
    from orchnb.notebook.views.retries import RetriedList
    from orchnb.runs.browsing import FoundRuns
    from orchnb.runs.failure_groups import FailureGroups
    from orchnb.runs.watching import WatchedRuns


def _is_url(word: str | None) -> bool:
    return word is not None and "://" in word


def _kind(word: str) -> str:
    """Return a kind of server in lower case, and an address as it is."""
    return word if _is_url(word) else word.lower()


def _profile_names() -> list[str]:
    from orchnb.errors import InvalidSetting
    from orchnb.settings import all_profiles

    try:
        return list(all_profiles())
    except InvalidSetting:  # using a profile says what is wrong with the file
        return []


def _known_urls() -> list[str]:
    """Return the API URLs of profiles that contain no password."""
    from orchnb.errors import InvalidSetting
    from orchnb.settings import all_profiles

    try:
        urls = [str(values.get("PREFECT_API_URL", "")) for values in all_profiles().values()]
    except InvalidSetting:
        return []
    return [url for url in dict.fromkeys(urls) if _is_url(url) and "@" not in url]


RUN_STATES = (
    "scheduled",
    "pending",
    "running",
    "completed",
    "failed",
    "crashed",
    "cancelled",
    "late",
)
TRACK_WORDS = ("on", "off")
LEVELS = ("notset", "debug", "info", "warning", "error", "critical")


@magics_class
class OrchMagics(Magics):
    """The magics of orchnb. ``displays`` returns the notebook's live displays, ``recording`` what records
    its cells.

    To add one, see CONTRIBUTING and `orchnb.notebook.magic_lines`, which also completes and explains it.
    """

    def __init__(
        self,
        shell: InteractiveShell,
        session: Session,
        mode: DisplayMode,
        displays: Callable[[], LiveDisplays],
        recording: Callable[[], Recording],
    ) -> None:
        super().__init__(shell)
        self.magics = {kind: with_help(methods) for kind, methods in self.magics.items()}
        self._session = session
        self._mode = mode
        self._displays = displays
        self._recording = recording

    @magic_arguments()
    @argument(
        "kind",
        nargs="?",
        type=_kind,
        help="ephemeral: the in-kernel server; server: the server at URL, which is also enough alone; "
        "cloud: Prefect Cloud; auto: the server that the settings select. Without an argument: show the "
        "current server.",
    )
    @argument("url", nargs="?", help="the API URL, such as http://127.0.0.1:4200/api")
    @argument("--profile", help="use the server of this profile in profiles.toml")
    @argument(
        "--fresh",
        action="store_true",
        help="with ephemeral: use a new, separate database, which is deleted when you switch, unload "
        "or end the kernel",
    )
    @argument(
        "--verbose", action="store_true", help="also show how long each phase of its start took"
    )
    @completes(kind=SERVER_KINDS, url=_known_urls, profile=_profile_names)
    @line_magic
    def orch_server_type(self, line: str) -> ServerStatus:
        """Show which server is used, whether it is up, and which setting selected it; or switch.

        Returns the status, whose text begins with the type: ``st = %orch_server_type``.
        """
        # Imported on first use, so that %load_ext returns at once.
        from orchnb.api.status import server_status
        from orchnb.settings import get_settings

        given = _given(OrchMagics.orch_server_type, line)
        if given.kind is not None or given.profile is not None or given.fresh:
            kind, url = given.kind, given.url
            if _is_url(kind) and url is None:
                kind, url = "server", kind
            with _usage_errors():
                self._session.switch(kind, url, profile=given.profile, fresh=given.fresh)
        settings = get_settings()
        status = server_status(settings, verbose=given.verbose)
        return replace(status, flows=self._session.server_of_flows(settings))

    @magic_arguments()
    @argument("--stop", action="store_true", help="close the port")
    @line_magic
    def orch_serve(self, line: str) -> Card | Line:
        """Open the in-kernel server to your terminals and browsers on this machine.

        Shows a link to its web pages, which works once, and the line that lets Prefect's own commands in
        a terminal use it. Each call shows a new link. Prefect's flows in this notebook and commands that
        are started with ``!`` use the server anyway.
        """
        from orchnb.notebook.views.port import not_served_line, served_card

        given = _given(OrchMagics.orch_serve, line)
        if given.stop:
            return not_served_line(self._session.stop_serving())
        with _usage_errors():
            served = self._session.serve()
        return served_card(served)

    @magic_arguments()
    @argument("-n", type=int, default=50, help="show at most this many lines; the default is 50")
    @argument(
        "--level",
        type=str.lower,
        default="notset",
        choices=LEVELS,
        help="show only lines of at least this level: debug, info, warning, error or critical",
    )
    @line_magic
    def orch_server_logs(self, line: str) -> Card | Line:
        """Show the last lines that in-kernel servers have logged. The last thousand are kept."""
        from orchnb.notebook.views.logs import log_view

        given = _given(OrchMagics.orch_server_logs, line)
        return log_view(max(1, given.n), given.level)

    @magic_arguments()
    @argument("run", help="the flow run: its name, its id or the beginning of it, or a variable")
    @argument("-n", type=int, default=200, help="show at most this many lines; the default is 200")
    @argument("-f", action="store_true", help="show lines as they arrive, until the run has ended")
    @argument(
        "--level",
        type=str.lower,
        default="notset",
        choices=LEVELS,
        help="show only lines of at least this level: debug, info, warning, error or critical",
    )
    @argument("--task", default="", help="show only lines of tasks whose name contains this")
    @line_magic
    def orch_logs(self, line: str) -> Card | None:
        """Show the last log lines of a flow run, or with ``-f`` its lines as they arrive."""
        from uuid import UUID

        from orchnb.errors import ObjectNotFound
        from orchnb.notebook.log_displays import RunLog

        given = _given(OrchMagics.orch_logs, line)
        assert self.shell is not None, "magics are called by a shell"
        run = self.shell.user_ns.get(given.run)
        if not (isinstance(run, (str, UUID)) or hasattr(run, "flow_id")):
            run = given.run
        with _usage_errors(ValueError, ObjectNotFound):
            log = RunLog(run, level=given.level, task=given.task)
        if not given.f:
            return log.last(min(max(1, given.n), 200))
        self._displays().follow_log(log)
        return None

    @magic_arguments()
    @argument("runs", nargs="*", metavar="RUN", help="the name or id of a flow run")
    @argument("--flow", help="the runs of the flow of this name")
    @argument("--tag", help="the runs that have this tag")
    @argument(
        "--since",
        help="the runs that were expected to start since then: 1h, 30m, today, 2026-11-01",
    )
    @line_magic
    def orch_watch(self, line: str) -> WatchedRuns:
        """Watch flow runs until all have ended: their states, tasks and last log lines.

        Without arguments: all runs that are active. The notebook's stop button ends the watch, not the
        runs. Returns the runs as last seen: ``runs = %orch_watch --since 1h``. With ``await
        orchnb.watch(runs)`` instead, the display also has buttons.
        """
        from orchnb.api.context import get_client
        from orchnb.runs.selection import select_runs
        from orchnb.runs.watching import watch_runs

        given = _given(OrchMagics.orch_watch, line)
        client = get_client(sync_client=True)
        with _usage_errors(ValueError):
            selected = client.perform(
                select_runs(
                    given.runs,
                    flow=given.flow,
                    tag=given.tag,
                    since=given.since,
                ),
                "orch_watch",
            )
        return client.perform(watch_runs(selected, None))

    @magic_arguments()
    @argument("since", nargs="?", default="24h", help="those since then: 2h, 3d, today, 2026-11-01")
    @argument("--flow", help="only runs of the flow of this name")
    @line_magic
    def orch_failed(self, line: str) -> FailureGroups:
        """Show the flow runs that failed, by default in the last 24 hours, grouped by cause.

        Returns the groups: ``failures = %orch_failed 2h``.
        """
        from orchnb.api.context import get_client
        from orchnb.api.times import moment

        given = _given(OrchMagics.orch_failed, line)
        with _usage_errors(ValueError):
            since = moment(given.since)
        return get_client(sync_client=True).read_failures(since, given.flow)

    @magic_arguments()
    @argument("words", nargs="*", metavar="WORDS", help="a part of the run's name")
    @argument("--state", help="runs in this state: failed, running, late, ...")
    @argument("--flow", help="runs of the flow of this name")
    @argument(
        "--since",
        help="runs that were expected to start since then: 24h, 7d, today, 2026-11-01",
    )
    @argument(
        "--where",
        help="a condition on the parameters: \"lr > 0.1 and customer == 'acme'\". They are compared "
        "here, for at most the newest 5,000 runs.",
    )
    @argument("-n", type=int, default=50, help="find at most this many; the default is 50")
    @argument("-o", default="picked", help="the variable for the runs; the default is picked")
    @completes(state=RUN_STATES)
    @line_magic
    def orch_runs(self, line: str) -> FoundRuns:
        """Find flow runs, the newest first, and show how many there are in all.

        The runs that were found are in the variable ``picked``.
        """
        from orchnb.api.context import get_client
        from orchnb.runs.browsing import find_runs
        from orchnb.runs.conditions import read_condition

        given = _given(OrchMagics.orch_runs, line)
        if not given.o.isidentifier() or keyword.iskeyword(given.o):
            raise UsageError(f"-o takes the name of a variable, and {given.o!r} is not one")
        with _usage_errors(ValueError):
            where = None if given.where is None else read_condition(given.where)
            steps = find_runs(
                words=" ".join(given.words),
                state=given.state,
                flow=given.flow,
                since=given.since,
                where=where,
                most=max(1, given.n),
            )
            found = get_client(sync_client=True).perform(steps, "orch_runs")
        assert self.shell is not None, "magics are called by a shell"
        self.shell.user_ns[given.o] = found
        return found

    @magic_arguments()
    @argument("--clear", action="store_true", help="clear the list")
    @line_magic
    def orch_retries(self, line: str) -> RetriedList:
        """Show which requests of this session were retried, why, and how they ended.

        Returns them as a list: ``retried = %orch_retries``. The last five hundred are kept.
        """
        given = _given(OrchMagics.orch_retries, line)
        history = self._displays().history
        if given.clear:
            history.clear()
        return history.entries()

    @magic_arguments()
    @argument(
        "mode",
        nargs="?",
        type=str.lower,
        help="auto: everything the front end can show; html: no widgets; text: text only; off: no "
        "cards and no live displays; settings: the value of ORCHNB_DISPLAY. Without an argument: show "
        "the current mode.",
    )
    @completes(mode=(*MODES, "settings"))
    @line_magic
    def orch_display(self, line: str) -> Line:
        """Show or set the display mode of this session."""
        from orchnb.notebook.views.model import Line

        given = _given(OrchMagics.orch_display, line)
        mode = self._mode
        if given.mode == "settings":
            mode.chosen = None
        elif given.mode in MODES:
            mode.chosen = given.mode
        elif given.mode is not None:
            raise UsageError(
                f"%orch_display accepts {', '.join(MODES)} and settings; {given.mode!r} is not one of "
                "them"
            )
        return Line(f"display: {mode()} (decided by {mode.decided_by})")

    @magic_arguments()
    @argument(
        "name",
        nargs="?",
        help="of a cell: the name of the flow; the default is the notebook's name. In a line: on or off.",
    )
    @argument(
        "-p",
        dest="parameters",
        metavar="PARAM=VALUE",
        action="append",
        default=[],
        help="a parameter of the flow run; a value that is JSON is read as JSON",
    )
    @argument("--tag", dest="tags", action="append", default=[], help="a tag of the flow run")
    @completes(name=TRACK_WORDS)
    @line_cell_magic
    def orch_track(self, line: str, cell: str | None = None) -> Card | Line:
        """Record this cell as a flow run: its states, what it prints, its source and its outputs.

        ``%orch_track on`` records every cell from the next one on, as task runs of one flow run, until
        ``%orch_track off``.
        """
        if cell is not None:  # a valid line was removed before the cell runs, see `recording`
            track_options(line)
            raise UsageError("%%orch_track works only as the first line of a cell")
        given = _given(OrchMagics.orch_track, line)
        if given.name not in (None, *TRACK_WORDS) or given.parameters or given.tags:
            raise UsageError(
                "%orch_track accepts on and off; to record one cell, begin it with %%orch_track"
            )
        recording = self._recording()
        if given.name == "on":
            return recording.switch_on()
        return recording.switch_off() if given.name == "off" else recording.view()

    @magic_arguments()
    @line_magic
    def orch_doctor(self, line: str) -> Diagnosis:
        """Describe this installation for a bug report, without secrets: versions, kernel, settings and
        their sources, the server's answer, and what is known not to work in this combination.
        """
        from orchnb.diagnosis import diagnose
        from orchnb.notebook.surroundings import surroundings

        _given(OrchMagics.orch_doctor, line)
        assert self.shell is not None, "magics are called by a shell"
        return diagnose(surroundings(self.shell, self._mode))

    @magic_arguments()
    @line_magic
    def orch_traceback(self, line: str) -> None:
        """Print the last error that was shown, with every frame and all causes."""
        from orchnb.notebook.tracebacks import whole_traceback

        _given(OrchMagics.orch_traceback, line)
        assert self.shell is not None, "magics are called by a shell"
        print(whole_traceback(self.shell))  # noqa: T201 - a text to read, not an error of this cell


def track_options(line: str) -> TrackOptions:
    """Parse the arguments of ``%%orch_track``.

    Raises:
        UsageError: they are invalid.
    """
    from orchnb.runs.records import typed_parameter

    given = _given(OrchMagics.orch_track, line)
    try:
        parameters = dict(typed_parameter(text) for text in given.parameters)
    except ValueError as error:
        raise UsageError(f"%%orch_track: {error}") from None
    return TrackOptions(given.name, parameters, given.tags)


@contextmanager
def _usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Raise errors of these kinds, by default `InvalidChoice`, as IPython's error for a line that a magic
    does not accept."""
    expected = kinds or (InvalidChoice,)
    try:
        yield
    except expected as error:
        raise UsageError(str(error)) from None
