"""The notebook's choice of server: what it means to switch, and what is open for the current one.

Nothing here needs a shell, so functions other than the magics can call it too.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchnb.forks import in_forked_child
from orchnb.notebook.command_path import CommandPath
from orchnb.runtime.background_imports import loaded_module

if TYPE_CHECKING:
    from orchnb.hosting.ephemeral import EphemeralApp
    from orchnb.hosting.port import Served
    from orchnb.prefect_server.client_settings import PrefectFollows
    from orchnb.runtime.temporary_folder import FreshFolder
    from orchnb.settings import Settings

SERVER_KINDS = ("ephemeral", "server", "cloud", "auto")
"""What `Session.switch` accepts."""

_CHOSEN_BY = "%orch_server_type"

# Modules are imported on first use, so that %load_ext returns at once.


class InvalidChoice(ValueError):
    """The arguments contradict each other, or do not fit the current settings. Nothing was changed."""


class Session:
    """The notebook's server, and what is open for it: the clients, the port, and a fresh database.

    Prefect's own flows and commands follow to each server that is chosen, see `follow`.
    """

    def __init__(self) -> None:
        self.served: Served | None = None
        """The port of the in-kernel server. It may have been closed since."""
        self._fresh: tuple[EphemeralApp, FreshFolder] | None = None
        self._prefect: PrefectFollows | None = None
        self._following = threading.RLock()
        self._is_closed = False
        self._path = CommandPath()
        in_forked_child(self._after_fork)

    def _after_fork(self) -> None:
        self._following = threading.RLock()  # another thread of the parent may have held it

    def switch(
        self,
        kind: str | None = None,
        url: str | None = None,
        *,
        profile: str | None = None,
        fresh: bool = False,
    ) -> None:
        """Use another server from now on, and close everything that is open for the previous one.

        Nothing is closed if the settings stay as they are. An in-kernel server starts in the background.

        Args:
            kind: one of `SERVER_KINDS`.
            url: the API URL, with ``server`` or ``cloud``.
            profile: the profile whose server to use, instead of a kind.
            fresh: use a new database, with ``ephemeral``.

        Raises:
            InvalidChoice: the arguments contradict each other, or name something that was not found.
            InvalidSetting: the address is invalid, or there is no such profile.
        """
        from orchnb.redaction import redact_url
        from orchnb.settings import get_settings

        if kind is not None and kind not in SERVER_KINDS:
            raise InvalidChoice(
                f"%orch_server_type accepts {', '.join(SERVER_KINDS)}; {redact_url(kind)!r} is not one "
                "of them. To use the server at an address: %orch_server_type server URL"
            )
        if url is not None and kind not in ("server", "cloud"):
            raise InvalidChoice("to use an address, add `server`: %orch_server_type server URL")
        if fresh:
            if kind != "ephemeral" or profile is not None:
                raise InvalidChoice(
                    "--fresh works only with `ephemeral`: %orch_server_type ephemeral --fresh"
                )
            self._switch_to_fresh()
        else:
            before = _settings_or_none()
            _choose(*_wanted(kind, url, profile))
            if get_settings() != before:  # otherwise keep the clients
                self.leave()
        if kind == "ephemeral":
            _start(get_settings())

    def follow(self, *, new_port: bool = False) -> None:
        """Make Prefect in this process, and child processes, use the current server.

        The in-kernel server has a port for them, and starts when a flow or a command first needs it. They
        cannot use an app that is not Prefect's, and then have the person's own settings. Nothing changes
        while the settings are invalid. This is called before each cell, because settings may change at
        any time.

        Args:
            new_port: close the port of the in-kernel server, and use another one.
        """
        with self._following:  # also while this imports: at a load, two threads are here
            settings = None if self._is_closed else _settings_or_none()
            if settings is None:
                return
            from orchnb.prefect_server.client_settings import PrefectFollows

            self._prefect = self._prefect or PrefectFollows()
            app, before = _in_kernel_app(settings), self.served
            if before and (new_port or before.app is not app or not before.is_open):
                self.served = None
            try:
                if self.served is None and app is not None and app.is_prefect:
                    self.served = _port_on_demand(app)
                self._path.add()
                self._prefect.use(self._variables(app), settings)
            finally:
                if before is not None and before is not self.served:
                    before.close()

    def _variables(self, app: EphemeralApp | None) -> dict[str, str]:
        """Return the variables with which Prefect uses the current server."""
        from orchnb.prefect_server.client_settings import chosen_variables

        if app is None:
            return chosen_variables()
        if not app.is_prefect or self.served is None:
            return {}
        return {**chosen_variables(), **self.served.variables()}

    def server_of_flows(self, settings: Settings) -> str:
        """Return where Prefect's flows run, in words; empty if there is nothing to say."""
        from orchnb.prefect_server import internals
        from orchnb.redaction import redact_url
        from orchnb.server_type import ServerType, determine_server_type

        kind = determine_server_type(settings)
        if kind is ServerType.UNCONFIGURED or not internals.is_installed():
            return ""
        app = _in_kernel_app(settings)
        if app is not None and not app.is_prefect:
            return "not this app, but the server in your settings"
        expected = settings.api_url if app is None else None
        if self.served is not None and app is not None:
            expected = self.served.api_url
        actual: str | None = internals.client_address()[0] if internals.is_loaded() else expected
        if not actual:
            return "a temporary server that Prefect starts"
        if actual.rstrip("/") != (expected or "").rstrip("/"):
            return f"another server, {redact_url(actual)}"
        return "the same server"

    def serve(self) -> Served:
        """Open the in-kernel server on a port to all of the person's programs, unless it is open already.

        Raises:
            InvalidChoice: the session uses a server elsewhere.
            ServerStartFailed: the server does not start.
        """
        from orchnb.api.client import api_of
        from orchnb.hosting.ephemeral import EphemeralApp
        from orchnb.hosting.port import Served
        from orchnb.settings import get_settings

        app = api_of(get_settings())
        if not isinstance(app, EphemeralApp):
            raise InvalidChoice(
                "%orch_serve opens the in-kernel server, but the session uses another server: run "
                "%orch_server_type ephemeral first"
            )
        self.follow()
        with self._following:
            if self.served is None:
                self.served = Served(app, on_demand=True)
            served = self.served
        served.open()
        return served

    def stop_serving(self) -> bool:
        """Close the port, and return whether it was open to all of the person's programs."""
        was_open = self.served is not None and self.served.is_given_out
        if was_open:
            self.follow(new_port=True)
        return was_open

    def leave(self) -> None:
        """Close everything that is open for the previous server, after another one was chosen.

        An interrupt ends only the wait for things to close.
        """
        self._replace(None)

    def close(self) -> None:
        """Close everything for good, and give Prefect and the environment the person's own settings back.

        The choice of server stays as it is. An interrupt ends only the wait for things to close.
        """
        try:
            _stop_served_flows()
            with self._following:
                self._is_closed = True
                self._path.remove()
                if self._prefect is not None:
                    self._prefect.end()
        finally:
            try:
                if self.served is not None:
                    self.served.close()
            finally:
                self._replace(None)

    def forget_choice(self) -> None:
        """Return to the server that the settings select."""
        settings = loaded_module("orchnb.settings")
        if settings is not None:
            settings.choose_for_session({}, "")

    def _switch_to_fresh(self) -> None:
        """Use an in-kernel server in a new folder, which is removed after use."""
        from orchnb.hosting.ephemeral import ephemeral_app
        from orchnb.runtime.temporary_folder import FreshFolder
        from orchnb.settings import get_settings

        folder = FreshFolder()
        try:
            _choose_home(folder.path)
        except BaseException:  # also an interrupt: nothing else would remove the folder
            folder.remove()
            raise
        self._replace((ephemeral_app(get_settings()), folder))

    def _replace(self, fresh: tuple[EphemeralApp, FreshFolder] | None) -> None:
        """Do the work of `leave`; ``fresh`` is the next server in a new folder, if there is one."""
        before, self._fresh = self._fresh, fresh
        try:
            try:
                _stop_served_flows()
            finally:
                try:
                    self.follow()
                finally:
                    _close_clients()
        finally:
            if before is not None:
                from orchnb.hosting.ephemeral import forget_app

                app, folder = before
                forget_app(app)
                app.when_down(folder.remove)


def _stop_served_flows() -> None:
    """End the processes that serve flows, while the server is there to pause their schedules."""
    serving = loaded_module("orchnb.runs.serving")
    if serving is not None:
        serving.stop_all()


def _close_clients() -> None:
    """Close the notebook's clients; connections of async clients are closed right after the cell."""
    context = loaded_module("orchnb.api.context")
    if context is not None:
        context.close_notebook_clients()


def _in_kernel_app(settings: Settings) -> EphemeralApp | None:
    """Return the in-kernel server that the settings select; None if they do not select one."""
    from orchnb.server_type import ServerType, determine_server_type

    if determine_server_type(settings) is not ServerType.EPHEMERAL:
        return None
    from orchnb.hosting.ephemeral import ephemeral_app

    return ephemeral_app(settings)


def _port_on_demand(app: EphemeralApp) -> Served | None:
    """Return a port for an app; None if Prefect is not installed, so that nobody needs it."""
    from orchnb.hosting.port import Served
    from orchnb.prefect_server import internals

    return Served(app, on_demand=True) if internals.is_installed() else None


def _start(settings: Settings) -> None:
    """Start the in-kernel server in the background and show its progress in this cell."""
    from orchnb.api.context import notebook_session

    session = notebook_session()
    if session is not None:
        session.client(settings).announce_wait()


def _choose(values: dict[str, Any], place: str) -> None:
    """Set settings for the session; nothing changes if they are invalid."""
    from orchnb.settings import choose_for_session, session_choice, temporary_settings

    before, place_before = session_choice()
    choose_for_session(values, place)
    try:
        with temporary_settings():
            pass  # reading the settings validates them
    except BaseException:
        choose_for_session(before, place_before)
        raise


def _choose_home(home: Path) -> None:
    """Choose an in-kernel Prefect server with its database in ``home``.

    Raises:
        InvalidChoice: the settings select an app other than Prefect's server.
    """
    from orchnb.settings import EPHEMERAL, session_choice

    settings = _settings_or_none()
    if (
        settings is not None
        and settings.ephemeral_app
        and "ephemeral_app" not in session_choice()[0]
    ):
        raise InvalidChoice(
            "--fresh works only with Prefect's server, but another app is set: "
            f"{settings.source('ephemeral_app')}"
        )
    _choose({**EPHEMERAL, "ephemeral_home": str(home)}, f"{_CHOSEN_BY} --fresh")


def _settings_or_none() -> Settings | None:
    from orchnb.errors import InvalidSetting
    from orchnb.settings import get_settings

    try:
        return get_settings()
    except InvalidSetting:
        return None  # switching may fix them


def _wanted(kind: str | None, url: str | None, profile: str | None) -> tuple[dict[str, Any], str]:
    """Return the settings that select a server, and the name of their source."""
    from orchnb.settings import EPHEMERAL, profile_values

    if profile is not None:
        if kind is not None:
            raise InvalidChoice("--profile already selects a server; omit the kind")
        values = {"api_url": None, **profile_values(profile), "profile": profile}
        return values, f"profile {profile!r}, chosen by {_CHOSEN_BY}"
    if kind == "ephemeral":
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
        raise InvalidChoice(
            "the URL is missing: %orch_server_type server http://127.0.0.1:4200/api"
        )
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
            raise InvalidChoice(
                "this is not a Prefect Cloud URL; use: %orch_server_type server URL"
            )
        return {"api_url": url}, _CHOSEN_BY
    if is_cloud(settings.api_url):
        return {"api_url": settings.api_url}, str(settings.source("api_url"))
    for name in all_profiles():
        values = profile_values(name)
        if is_cloud(values.get("api_url")):
            place = f"profile {name!r}, chosen by {_CHOSEN_BY}"
            return {**values, "profile": name}, place
    raise InvalidChoice(
        "no Prefect Cloud workspace is configured: log in with `prefect cloud login` in a terminal, or "
        "give its URL: %orch_server_type cloud https://api.prefect.cloud/api/accounts/.../"
        "workspaces/..."
    )
