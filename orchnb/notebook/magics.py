"""The magics: each parses its line, calls a function, and returns the object to display."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from orchnb.notebook.display_mode import MODES

if TYPE_CHECKING:
    from pathlib import Path

    from IPython.core.interactiveshell import InteractiveShell

    from orchnb.api.status import ServerStatus
    from orchnb.notebook.extension import Extension
    from orchnb.notebook.views.model import Card, Line
    from orchnb.notebook.views.retries import RetriedList
    from orchnb.settings import Settings

_CHOSEN_BY = "%orch_server_type"
LEVELS = ("notset", "debug", "info", "warning", "error", "critical")
_KINDS = ("ephemeral", "server", "cloud", "auto")


@magics_class
class OrchMagics(Magics):
    """The line magics of orchnb."""

    def __init__(self, shell: InteractiveShell, extension: Extension) -> None:
        super().__init__(shell)
        self._extension = extension

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
        from orchnb.redaction import redact_url
        from orchnb.settings import get_settings

        given = _given(OrchMagics.orch_server_type, line)
        if given.kind is not None and given.kind not in _KINDS:
            raise UsageError(
                f"%orch_server_type accepts {', '.join(_KINDS)}; {redact_url(given.kind)!r} is not one "
                "of them. To use the server at an address: %orch_server_type server URL"
            )
        if given.fresh:
            if given.kind != "ephemeral" or given.profile is not None:
                raise UsageError(
                    "--fresh works only with `ephemeral`: %orch_server_type ephemeral --fresh"
                )
            self._extension.switch_to_fresh(switch_to_home)
        elif given.profile is not None or given.kind is not None:
            before = _settings_or_none()
            switch(given.kind, given.url, given.profile)
            if get_settings() != before:  # otherwise keep the clients
                self._extension.switched()
        settings = get_settings()
        if given.kind == "ephemeral":
            start_ephemeral(settings)
        return server_status(settings, verbose=given.verbose)

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
            return not_served_line(self._extension.stop_serving())
        return served_card(self._extension.serve())

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
        history = self._extension.displays.history
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
        mode = self._extension.mode
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
    @line_magic
    def orch_traceback(self, line: str) -> None:
        """Print the last error that was shown, with every frame and all causes."""
        from orchnb.notebook.tracebacks import whole_traceback

        _given(OrchMagics.orch_traceback, line)
        assert self.shell is not None, "magics are called by a shell"
        print(whole_traceback(self.shell))  # noqa: T201 - a text to read, not an error of this cell


def _given(magic: Any, line: str) -> Any:
    """Parse the arguments on a magic's line, ignoring a trailing comment, which IPython passes on.

    Raises:
        UsageError: the magic does not have such arguments.
    """
    return parse_argstring(magic, re.sub(r"(^|\s)#.*", "", line))


def switch(kind: str | None, url: str | None, profile: str | None) -> None:
    """Point the session at another server; nothing changes if the new settings are invalid.

    Raises:
        UsageError: the arguments contradict each other, or name something that was not found.
        InvalidSetting: the address is invalid, or there is no such profile.
    """
    if url is not None and kind not in ("server", "cloud"):
        raise UsageError("to use an address, add `server`: %orch_server_type server URL")
    if profile is not None and kind is not None:
        raise UsageError("--profile already selects a server; omit the kind")
    _choose(*_wanted(kind, url, profile))


def switch_to_home(home: Path) -> None:
    """Point the session at an in-kernel Prefect server with its database in ``home``.

    Raises:
        UsageError: the settings select an app other than Prefect's server.
    """
    from orchnb.settings import EPHEMERAL, session_choice

    settings = _settings_or_none()
    if (
        settings is not None
        and settings.ephemeral_app
        and "ephemeral_app" not in session_choice()[0]
    ):
        raise UsageError(
            "--fresh works only with Prefect's server, but another app is set: "
            f"{settings.source('ephemeral_app')}"
        )
    _choose({**EPHEMERAL, "ephemeral_home": str(home)}, f"{_CHOSEN_BY} --fresh")


def _choose(values: dict[str, Any], place: str) -> None:
    from orchnb.settings import choose_for_session, session_choice, temporary_settings

    before, place_before = session_choice()
    choose_for_session(values, place)
    try:
        with temporary_settings():
            pass  # reading the settings validates them
    except BaseException:
        choose_for_session(before, place_before)
        raise


def _settings_or_none() -> Settings | None:
    from orchnb.errors import InvalidSetting
    from orchnb.settings import get_settings

    try:
        return get_settings()
    except InvalidSetting:
        return None  # switching may fix them


def start_ephemeral(settings: Settings) -> None:
    """Start the in-kernel server in the background and show its progress in this cell."""
    from orchnb.api.context import notebook_session

    session = notebook_session()
    if session is not None:
        session.client(settings).announce_wait()


def _wanted(kind: str | None, url: str | None, profile: str | None) -> tuple[dict[str, Any], str]:
    if profile is not None:
        from orchnb.settings import profile_values

        values = {"api_url": None, **profile_values(profile), "profile": profile}
        return values, f"profile {profile!r}, chosen by {_CHOSEN_BY}"
    if kind == "ephemeral":
        from orchnb.settings import EPHEMERAL

        return dict(EPHEMERAL), _CHOSEN_BY
    if kind == "server":
        return _server(url), _CHOSEN_BY
    if kind == "cloud":
        return _cloud(url)
    return {}, ""


def _server(url: str | None) -> dict[str, Any]:
    from orchnb.server_type import ServerType, determine_server_type
    from orchnb.settings import Settings, choose_for_session, session_choice

    if url is None:
        raise UsageError("the URL is missing: %orch_server_type server http://127.0.0.1:4200/api")
    Settings(api_url=url)  # validate it before anything changes
    values: dict[str, Any] = {"api_url": url}
    chosen, place = session_choice()
    choose_for_session({}, "")
    try:
        if determine_server_type() is ServerType.CLOUD:
            values["api_key"] = None  # never send the cloud's key to another server
    finally:
        choose_for_session(chosen, place)
    return values


def _cloud(url: str | None) -> tuple[dict[str, Any], str]:
    """Return the cloud workspace at ``url``, or by default the one in the settings or a profile."""
    from orchnb.server_type import ServerType, server_type_of_url
    from orchnb.settings import Settings, all_profiles, get_settings, profile_values

    settings = get_settings()

    def is_cloud(address: object) -> bool:
        return bool(address) and (
            server_type_of_url(str(address), cloud_api_url=settings.cloud_api_url)
            is ServerType.CLOUD
        )

    if url is not None:
        Settings(api_url=url)
        if not is_cloud(url):
            raise UsageError("this is not a Prefect Cloud URL; use: %orch_server_type server URL")
        return {"api_url": url}, _CHOSEN_BY
    if is_cloud(settings.api_url):
        return {"api_url": settings.api_url}, str(settings.source("api_url"))
    for name in all_profiles():
        values = profile_values(name)
        if is_cloud(values.get("api_url")):
            place = f"profile {name!r}, chosen by {_CHOSEN_BY}"
            return {**values, "profile": name}, place
    raise UsageError(
        "no Prefect Cloud workspace is configured: log in with `prefect cloud login` in a terminal, or "
        "give its URL: %orch_server_type cloud https://api.prefect.cloud/api/accounts/.../"
        "workspaces/..."
    )
