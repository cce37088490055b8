"""Settings, and where each value came from.

Users have already configured Prefect, and orchnb reads the same configuration. Sources in order of
precedence: arguments, the choice made with ``%orch_server_type``, environment, ``.env``,
``prefect.toml``, ``[tool.prefect]`` in ``pyproject.toml``, the active profile, defaults. Names, formats
and locations follow Prefect's settings reference; orchnb's own settings begin with ``ORCHNB_``.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
)

from orchnb.concealed import concealed_url, forget_frames
from orchnb.environment import persons_environment
from orchnb.errors import InvalidSetting
from orchnb.redaction import redact_url
from orchnb.setting_sources import (
    DEFAULT,
    Chosen,
    FieldNames,
    Profiles,
    default_home,
    gather,
    gather_above_profile,
    profiles_path,
    read_dotenv,
    toml_tables,
)
from orchnb.setting_sources import Origin as Origin


def _split_codes(value: object) -> object:
    if isinstance(value, str):
        return [part for part in re.split(r"[,\s]+", value.strip("[]{}() ")) if part]
    return [value] if isinstance(value, int) else value


def _parse_headers(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('should be a JSON object such as {"X-Team": "data"}') from None


def _names(*environment: str, toml: str | tuple[str, ...], **more: bool) -> dict[str, Any]:
    places = (toml,) if isinstance(toml, str) else toml
    return {"names": FieldNames(environment, places, **more)}


def _expand_home(value: object) -> object:
    try:
        return Path(value).expanduser() if isinstance(value, (str, Path)) else value
    except RuntimeError:
        raise ValueError(
            "begins with ~, but the home folder is unknown; write the full path"
        ) from None


UserPath = Annotated[Path, BeforeValidator(_expand_home)]


_ADDRESSES = ("api_url", "cloud_api_url")
"""The fields that hold addresses, which may contain a password."""


_CLOUDS_PAGES = "app.prefect.cloud"


def _instead_of_pages(path: str) -> str:
    """Say which address belongs to the API, for the path of a web page of Prefect Cloud."""
    ids = re.match(r"/account/([0-9a-f-]{36})/workspace/([0-9a-f-]{36})(/|$)", path)
    account, workspace = ids.groups()[:2] if ids else ("ACCOUNT", "WORKSPACE")
    return (
        "is the address of Prefect Cloud's web pages. The address of the API is https://"
        f"api.prefect.cloud/api/accounts/{account}/workspaces/{workspace}"
    )


def header_problem(name: str, value: str) -> str:
    """Say why HTTP cannot send a header (RFC 9110, 5.1 and 5.5), without its value; empty if it can."""
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        return "has a header name that HTTP does not allow (RFC 9110, 5.1)"
    if not re.fullmatch(r"[\x20-\x7e\t]*", value):
        return f"has a header value that is not plain ASCII on one line: that of {name}"
    if value != value.strip(" \t"):
        return f"has a header value with a blank at an end, which cannot be sent: that of {name}"
    return ""


_READERS = ("orchnb.settings", "orchnb.setting_sources", "tomllib", "tomli")
"""The packages and modules whose functions hold settings as they were read."""


class Settings(BaseModel):
    """All settings, frozen. ``Settings()`` reads them from their sources; keyword arguments take
    precedence.

    Raises:
        InvalidSetting: a value or a file cannot be used; the message names it and says what is valid.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True
    )

    api_url: str | None = Field(
        None, json_schema_extra=_names("PREFECT_API_URL", toml="api.url", empty_unsets=True)
    )
    """The URL of the API; on most servers it ends in ``/api``."""
    api_key: SecretStr | None = Field(
        None, json_schema_extra=_names("PREFECT_API_KEY", toml="api.key", empty_unsets=True)
    )
    """The API key for Prefect Cloud."""
    api_auth_string: SecretStr | None = Field(
        None,
        json_schema_extra=_names(
            "PREFECT_API_AUTH_STRING", toml="api.auth_string", empty_unsets=True
        ),
    )
    """``user:password`` for a server with basic authentication."""
    api_request_timeout: float = Field(
        60.0,
        gt=0,
        allow_inf_nan=False,
        json_schema_extra=_names("PREFECT_API_REQUEST_TIMEOUT", toml="api.request_timeout"),
    )
    """Timeout in seconds for connecting, and for each wait for the next part of the response."""
    api_enable_http2: bool = Field(
        False, json_schema_extra=_names("PREFECT_API_ENABLE_HTTP2", toml="api.enable_http2")
    )
    """Use HTTP/2 if the server supports it."""
    api_tls_insecure_skip_verify: bool = Field(
        False,
        json_schema_extra=_names(
            "PREFECT_API_TLS_INSECURE_SKIP_VERIFY", toml="api.tls_insecure_skip_verify"
        ),
    )
    """Accept any certificate. For development only."""
    api_ssl_cert_file: UserPath | None = Field(
        None, json_schema_extra=_names("PREFECT_API_SSL_CERT_FILE", toml="api.ssl_cert_file")
    )
    """A file of certificates to trust instead of the default ones."""
    ui_url: str | None = Field(
        None, json_schema_extra=_names("PREFECT_UI_URL", toml="ui_url", empty_unsets=True)
    )
    """The URL of the server's web pages, if it does not follow from the API URL."""
    cloud_api_url: str = Field(
        "https://api.prefect.cloud/api",
        json_schema_extra=_names("PREFECT_CLOUD_API_URL", toml="cloud.api_url"),
    )
    """The prefix of Prefect Cloud's addresses."""
    home: UserPath = Field(
        default_factory=default_home,
        json_schema_extra=_names("PREFECT_HOME", toml="home"),
    )
    """The folder that contains ``profiles.toml`` and the in-kernel server's database."""
    profiles_path: UserPath | None = Field(
        None, json_schema_extra=_names("PREFECT_PROFILES_PATH", toml="profiles_path")
    )
    """The file of profiles; None for ``profiles.toml`` in ``home``."""
    profile: str | None = Field(None, json_schema_extra=_names("PREFECT_PROFILE", toml="profile"))
    """The active profile; None if only the defaults apply."""
    server_allow_ephemeral_mode: bool = Field(
        False,
        json_schema_extra=_names(
            "PREFECT_SERVER_EPHEMERAL_ENABLED",
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE",
            toml="server.ephemeral.enabled",
        ),
    )
    """Whether the in-kernel server may run when no API URL is set; true unless a profile of your
    own is active."""
    client_max_retries: int = Field(
        5, ge=0, json_schema_extra=_names("PREFECT_CLIENT_MAX_RETRIES", toml="client.max_retries")
    )
    """How often a request is tried again after the first time."""
    client_retry_jitter_factor: float = Field(
        0.2,
        ge=0,
        le=10,
        allow_inf_nan=False,
        json_schema_extra=_names(
            "PREFECT_CLIENT_RETRY_JITTER_FACTOR", toml="client.retry_jitter_factor"
        ),
    )
    """The fraction by which waits between retries vary at random."""
    client_retry_extra_codes: Annotated[
        frozenset[Annotated[int, Field(ge=100, le=599)]], BeforeValidator(_split_codes)
    ] = Field(
        frozenset(),
        json_schema_extra=_names(
            "PREFECT_CLIENT_RETRY_EXTRA_CODES", toml="client.retry_extra_codes"
        ),
    )
    """HTTP status codes to retry in addition to 408, 429, 502 and 503."""
    client_max_wait: float = Field(
        3600.0,
        ge=0,
        json_schema_extra=_names("ORCHNB_CLIENT_MAX_WAIT", toml="orchnb.client_max_wait"),
    )
    """The total time in seconds that one request may wait between retries."""
    client_custom_headers: Annotated[dict[str, SecretStr], BeforeValidator(_parse_headers)] = Field(
        default_factory=dict,
        json_schema_extra=_names(
            "PREFECT_CLIENT_CUSTOM_HEADERS", toml="client.custom_headers", is_table=True
        ),
    )
    """Headers to send with each request. In the environment, a JSON object."""
    client_csrf_support_enabled: bool = Field(
        True,
        json_schema_extra=_names(
            "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED", toml="client.csrf_support_enabled"
        ),
    )
    """Send CSRF tokens if the server requires them."""
    ephemeral_app: str | None = Field(
        None, json_schema_extra=_names("ORCHNB_EPHEMERAL_APP", toml="orchnb.ephemeral_app")
    )
    """``module:app_or_factory``: the ASGI app to run in the kernel instead of Prefect's server."""
    ephemeral_home: UserPath | None = Field(
        None, json_schema_extra=_names("ORCHNB_EPHEMERAL_HOME", toml="orchnb.ephemeral_home")
    )
    """The folder for the in-kernel Prefect server's database, if it should not be in ``home``."""
    ephemeral_startup_timeout: float = Field(
        60.0,
        gt=0,
        allow_inf_nan=False,
        json_schema_extra=_names(
            "ORCHNB_EPHEMERAL_STARTUP_TIMEOUT",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS",
            toml=(
                "orchnb.ephemeral_startup_timeout",
                "server.ephemeral.startup_timeout_seconds",
            ),
        ),
    )
    """Seconds without progress after which the start of the in-kernel server fails."""
    ephemeral_prewarm: bool = Field(
        True,
        json_schema_extra=_names("ORCHNB_EPHEMERAL_PREWARM", toml="orchnb.ephemeral_prewarm"),
    )
    """Whether loading the extension starts to import the in-kernel server."""
    display: Literal["auto", "html", "text", "off"] = Field(
        "auto", json_schema_extra=_names("ORCHNB_DISPLAY", toml="orchnb.display")
    )
    """What a notebook shows: everything it supports, no widgets, text only, or only what you ask for."""
    origins: dict[str, Origin] = Field(default_factory=dict, exclude=True, repr=False)

    def __init__(self, **values: Any) -> None:
        handled = sys.exc_info()[1]
        found: Chosen = {}
        try:
            found = _gather(values)
            super().__init__(**_values(found))
            return
        except ValidationError as exc:
            error = InvalidSetting(_describe(exc, found))
        except InvalidSetting as exc:
            error = exc
        # Outside of the except, as pydantic's error holds the values, and so secrets; so do the local
        # variables of this function and of those that read files.
        values, found = {}, {}
        forget_frames(error, _READERS, handled=handled)
        raise error

    def source(self, name: str) -> Origin:
        """Return where the value of the named field came from.

        Raises:
            AttributeError: there is no setting with that name.
        """
        if name not in type(self).model_fields:
            raise AttributeError(f"there is no setting named {name!r}")
        return self.origins.get(name, DEFAULT)

    @field_validator(*_ADDRESSES)
    @classmethod
    def _check_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            fine = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
            _ = parts.port
            (parts.hostname or "").encode("idna")
        except ValueError:
            fine = False
        if not fine or re.search(r"[\s\x00-\x1f\x7f]", value):
            raise ValueError("should be a full URL such as http://127.0.0.1:4200/api")
        if parts.hostname == _CLOUDS_PAGES:
            raise ValueError(_instead_of_pages(parts.path))
        return concealed_url(value.rstrip("/"))

    @field_validator("api_key")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
            raise ValueError(
                "should be ASCII without spaces; did you paste something else, or a line break?"
            )
        return value

    @field_validator("api_auth_string")
    @classmethod
    def _check_auth_string(cls, value: SecretStr | None) -> SecretStr | None:
        # It is sent in base64, so all other characters are allowed (RFC 7617, 2).
        if value and re.search(r"[\x00-\x1f\x7f]", value.get_secret_value()):
            raise ValueError("should be user:password on one line; did you paste a line break?")
        return value

    @field_validator("client_custom_headers")
    @classmethod
    def _check_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, text in value.items():
            problem = header_problem(name, text.get_secret_value())
            if problem:
                raise ValueError(problem)
        return value

    def __eq__(self, other: object) -> bool:
        """Return whether all values are equal, regardless of their sources."""
        return isinstance(other, Settings) and all(
            getattr(self, name) == getattr(other, name) for name in _FIELDS
        )

    @field_serializer(*_ADDRESSES)
    def _without_password(self, value: str | None) -> str | None:
        """Mask the password in a dump, as the dumps of the other secrets do."""
        return redact_url(value) if value else value

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            if name in _ADDRESSES and value:
                yield name, redact_url(value)
            else:
                yield name, value


_temporary: ContextVar[Mapping[str, Any] | None] = ContextVar("orchnb_settings", default=None)
_session: tuple[dict[str, Any], str] = ({}, "")


def get_settings() -> Settings:
    """Return the current settings. Files and environment are read on each call, which takes about a
    millisecond, so a change is visible at the next call.

    Raises:
        InvalidSetting: a value or a file cannot be used.
    """
    return Settings()


@contextmanager
def temporary_settings(**fields: Any) -> Iterator[Settings]:
    """Override settings during a ``with`` block, with precedence over every other source.

    Pass fields of `Settings` as keywords; None unsets one. Blocks can be nested. The change applies to
    this thread and to tasks created within the block.

    Raises:
        InvalidSetting: a field is unknown or its value is invalid.
    """
    token = _temporary.set({**(_temporary.get() or {}), **fields})
    try:
        yield get_settings()
    finally:
        _temporary.reset(token)


EPHEMERAL: Mapping[str, Any] = {"api_url": None, "server_allow_ephemeral_mode": True}
"""The settings that select the in-kernel server."""


def choose_for_session(values: Mapping[str, Any], place: str) -> None:
    """Set settings for the whole process until the next call; ``place`` names who set them.

    An empty mapping reverts the choice. The notebook magics and `orchnb.use_app` call this.
    """
    global _session
    _session = (dict(values), place)


def session_choice() -> tuple[dict[str, Any], str]:
    """Return the arguments of the last `choose_for_session` call."""
    return dict(_session[0]), _session[1]


def profile_values(name: str) -> dict[str, Any]:
    """Return the settings of a profile, by field name.

    Raises:
        InvalidSetting: there is no profile with that name, or the file cannot be read.
    """
    profiles = Profiles(profiles_path(gather_above_profile(_FIELDS, _given({}))))
    values = profiles.values(_FIELDS, name, Origin("", "the argument"))
    return {field: raw for field, raw, _ in values}


def all_profiles() -> dict[str, dict[str, Any]]:
    """Return every profile by name, each as the raw mapping from the file, including built-in ones.

    Raises:
        InvalidSetting: ``profiles.toml`` cannot be read.
    """
    return Profiles(profiles_path(gather_above_profile(_FIELDS, _given({})))).tables


def _gather(arguments: Mapping[str, Any]) -> Chosen:
    return gather(_FIELDS, _given(arguments))


def _values(found: Chosen) -> dict[str, Any]:
    values = {
        field: raw
        for field, (raw, _) in found.items()
        if raw is not None or field not in _FIELDS  # None unsets; unknown names are rejected
    }
    return {**values, "origins": {field: origin for field, (_, origin) in found.items()}}


def _given(arguments: Mapping[str, Any]) -> Chosen:
    """Return the values that take precedence over environment and files."""
    chosen, chooser = _session
    found: Chosen = {name: (raw, Origin("", chooser)) for name, raw in chosen.items()}
    for values, place in ((_temporary.get() or {}, "temporary_settings"), (arguments, "argument")):
        found.update({name: (raw, Origin(name, place)) for name, raw in values.items()})
    return found


_FIELDS: dict[str, FieldNames] = {
    name: cast(FieldNames, info.json_schema_extra["names"])
    for name, info in Settings.model_fields.items()
    if isinstance(info.json_schema_extra, dict)
}


def _describe(error: ValidationError, found: Chosen) -> str:
    """Reword pydantic's errors. The values are left out, because they may be secret."""
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        if problem["type"] == "extra_forbidden":
            lines.append(f"There is no setting named {field!r}.")
            continue
        words = problem["msg"].removeprefix("Value error, ")
        words = words[:1].lower() + words[1:]
        words = words.replace("input should", "should")
        if problem["type"].startswith("bool_"):
            words = "should be true or false"
        _, origin = found.get(field, (None, Origin(field, "argument")))
        lines.append(f"{origin} {words.removesuffix('.')}{'' if words.endswith('?') else '.'}")
    return " ".join(lines)


def configured_for_prefect() -> Iterator[tuple[str, str]]:
    """Yield the environment-style name and the text of every Prefect setting in the environment,
    ``.env``, the toml files and the profiles."""
    tables: list[Mapping[str, Any]] = [os.environ, persons_environment()]
    with suppress(InvalidSetting):
        tables.append(read_dotenv(Path(".env")))
    with suppress(InvalidSetting):
        tables += [dict(_flat(table, "PREFECT")) for table in toml_tables().values()]
    with suppress(InvalidSetting):
        tables += all_profiles().values()
    for table in tables:
        for name, value in table.items():
            if name.upper().startswith("PREFECT_") and value is not None:
                yield name.upper(), str(value)


def _flat(table: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the values of a toml table and its subtables under environment-style names."""
    for key, value in table.items() if isinstance(table, dict) else ():
        inner = f"{name}_{key}".upper()
        if not isinstance(value, dict):
            yield inner, value
        elif key == "custom_headers":
            yield inner, json.dumps(value, default=str)
        else:
            yield from _flat(value, inner)
