"""The settings of Prefect's own client: that of this process, and those of child processes.

Prefect reads its settings when it is imported, and keeps them. Environment variables have precedence over
all other sources, apply to child processes too, and unlike context variables to every thread and cell.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from pydantic import SecretStr

from orchnb.environment import export, exported
from orchnb.prefect_server import internals
from orchnb.setting_sources import FieldNames
from orchnb.settings import Settings, get_settings, session_choice

logger: logging.Logger = logging.getLogger(__name__)

_PATIENCE = 3.0
"""Seconds that Prefect may take to send what flows have logged."""

URL_VARIABLE = "PREFECT_API_URL"


def client_settings(api_url: str, auth_string: SecretStr, pages_url: str) -> dict[str, str]:
    """Return the variables from which Prefect's own client reads this API, its credentials and pages."""
    secret = auth_string.get_secret_value()
    settings = {
        URL_VARIABLE: api_url,
        "PREFECT_API_AUTH_STRING": secret,
        "PREFECT_UI_URL": pages_url,
    }
    if not _sends_events_with_credentials():
        custom = get_settings().client_custom_headers
        headers = {name: value.get_secret_value() for name, value in custom.items()}
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
        settings["PREFECT_CLIENT_CUSTOM_HEADERS"] = json.dumps(headers)
    return settings


def _sends_events_with_credentials() -> bool:
    """Return whether Prefect's client does so: before 3.6.14 it sends only custom headers."""
    numbers = re.findall(r"\d+", metadata.version("prefect"))[:3]
    return tuple(map(int, numbers)) >= (3, 6, 14)


def settings_of_run() -> Settings:
    """Return the settings for the server of the flow or task run of Prefect's that this code belongs to;
    outside of runs, the current settings.

    Raises:
        InvalidSetting: the settings cannot be read.
    """
    client = internals.run_client()
    current = get_settings()
    if client is None:
        return current
    url = str(client.api_url).rstrip("/")
    # What orchnb has set leads to the server in its own settings, such as the in-kernel one.
    if url in (current.api_url, (exported(URL_VARIABLE) or "").rstrip("/")):
        return current
    theirs = internals.prefects_settings()
    if (theirs.api.url or "").rstrip("/") != url:  # it was changed while the run goes on
        return Settings(api_url=url, api_key=None, api_auth_string=None, client_custom_headers={})
    values = {
        "api_key": ("PREFECT_API_KEY", theirs.api.key),
        "api_auth_string": ("PREFECT_API_AUTH_STRING", theirs.api.auth_string),
        "client_custom_headers": ("PREFECT_CLIENT_CUSTOM_HEADERS", theirs.client.custom_headers),
    }
    # What orchnb has set is for another server.
    own = {field: value for field, (name, value) in values.items() if exported(name) is None}
    return Settings(api_url=url, **own)


def chosen_variables() -> dict[str, str]:
    """Return the session's choice of server as Prefect's variables; empty without a choice."""
    values, _ = session_choice()
    found = {}
    for field, value in values.items():
        extra: Any = Settings.model_fields[field].json_schema_extra
        names: FieldNames = extra["names"]
        if names.environment[0].startswith("PREFECT_") and (
            value is not None or names.empty_unsets
        ):
            found[names.environment[0]] = _text(value)
    return found


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return json.dumps(dict(value))
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


class PrefectFollows:
    """Makes Prefect's own client in this process and in child processes use the given variables."""

    def __init__(self) -> None:
        self._read: object = None  # what Prefect's settings in this process were made from

    def use(self, variables: Mapping[str, str], known: object = None) -> None:
        """Use these variables, instead of earlier ones. ``known`` is what else Prefect has to read again
        when it changes."""
        export(variables)
        if not internals.is_loaded():
            self._read = None
            return
        read = (dict(variables), known)
        if self._read == read:
            return
        self._read = read
        before = internals.client_address()
        try:
            internals.refresh_settings()
        except Exception:  # the person's settings may be invalid
            logger.warning("Prefect did not read its settings again", exc_info=True)
        if internals.client_address() != before:
            _send_waiting()

    def end(self) -> None:
        """Undo everything."""
        self._read = object()  # also if Prefect was imported after the last call
        self.use({})
        self._read = None


def _send_waiting() -> None:
    """Send the log records and events of flows that Prefect has not sent yet, to the server that they
    are for."""

    def send() -> None:
        try:
            internals.send_waiting()
        except Exception:  # the server changes anyway
            logger.warning("Logs and events of flows in this process were not sent", exc_info=True)

    # In a separate thread, because Prefect does not wait in one that runs an event loop.
    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    sending.join(_PATIENCE)
