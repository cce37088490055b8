"""The magics: each parses its line, calls a function, and returns the object to display."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from orchnb.notebook.display_mode import MODES, DisplayMode
from orchnb.notebook.session import InvalidChoice, Session
from orchnb.notebook.track_options import TrackOptions

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.api.status import ServerStatus
    from orchnb.notebook.record_displays import Recording
    from orchnb.notebook.views.model import Card, Line
    from orchnb.notebook.views.retries import RetriedList, RetryHistory

TRACK_WORDS = ("on", "off")
LEVELS = ("notset", "debug", "info", "warning", "error", "critical")


@magics_class
class OrchMagics(Magics):
    """The magics of orchnb. ``history`` returns the retries of the notebook, ``recording`` what records
    its cells."""

    def __init__(
        self,
        shell: InteractiveShell,
        session: Session,
        mode: DisplayMode,
        history: Callable[[], RetryHistory],
        recording: Callable[[], Recording],
    ) -> None:
        super().__init__(shell)
        self._session = session
        self._mode = mode
        self._history = history
        self._recording = recording

    @magic_arguments()
    @argument(
        "kind",
        nargs="?",
        type=str.lower,
        help="ephemeral: the in-kernel server; server: the server at URL; cloud: Prefect Cloud; "
        "auto: the server that the settings select. Without an argument: show the current server.",
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
            with _usage_errors():
                self._session.switch(
                    given.kind, given.url, profile=given.profile, fresh=given.fresh
                )
        return server_status(get_settings(), verbose=given.verbose)

    @magic_arguments()
    @argument("--stop", action="store_true", help="close the port")
    @line_magic
    def orch_serve(self, line: str) -> Card | Line:
        """Open the in-kernel server to your other programs on this machine, on a free port.

        Shows a link to its web pages, which works once, and the line that lets Prefect's own commands in
        a terminal use it. From then on, Prefect's flows in this notebook use it, as do commands that are
        started with ``!``. Each call shows a new link.
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
    @argument("--clear", action="store_true", help="clear the list")
    @line_magic
    def orch_retries(self, line: str) -> RetriedList:
        """Show which requests of this session were retried, why, and how they ended.

        Returns them as a list: ``retried = %orch_retries``. The last five hundred are kept.
        """
        given = _given(OrchMagics.orch_retries, line)
        history = self._history()
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
def _usage_errors() -> Iterator[None]:
    """Raise an `InvalidChoice` as IPython's error for a line that a magic does not accept."""
    try:
        yield
    except InvalidChoice as error:
        raise UsageError(str(error)) from None


def _given(magic: Any, line: str) -> Any:
    """Parse the arguments on a magic's line, ignoring a trailing comment, which IPython passes on.

    Raises:
        UsageError: the magic does not have such arguments.
    """
    return parse_argstring(magic, re.sub(r"(^|\s)#.*", "", line))
