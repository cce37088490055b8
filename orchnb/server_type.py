"""The kind of server that the settings point to."""

from __future__ import annotations

import enum
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit

from orchnb.settings import Settings, get_settings


class _NamedEnum(str, enum.Enum):
    """A string enum whose automatic values are the members' own names."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:  # noqa: ARG004 - enum's signature
        return name

    @staticmethod
    def auto() -> str:
        """Return ``enum.auto()``, so that a definition needs no second import."""
        return cast(str, enum.auto())  # the enum replaces it with the name

    def __str__(self) -> str:
        return str(self.value)


class ServerType(_NamedEnum):
    """The kinds of server a client can use; each value is its own name."""

    EPHEMERAL = _NamedEnum.auto()
    """A server that orchnb runs in the kernel."""
    SERVER = _NamedEnum.auto()
    """A server at an API URL."""
    CLOUD = _NamedEnum.auto()
    """Prefect Cloud."""
    UNCONFIGURED = _NamedEnum.auto()
    """No API URL is set, and the in-kernel server is not allowed."""


def determine_server_type(settings: Settings | None = None) -> ServerType:
    """Return the kind of server that the settings (by default the current ones) point to.

    An API URL takes precedence: ``CLOUD`` if it is below ``cloud_api_url``, else ``SERVER``. Without
    one the result is ``EPHEMERAL`` if ephemeral mode is allowed, else ``UNCONFIGURED``.

    Raises:
        InvalidSetting: a setting cannot be read.
    """
    settings = settings or get_settings()
    if settings.api_url:
        return server_type_of_url(settings.api_url, cloud_api_url=settings.cloud_api_url)
    if settings.server_allow_ephemeral_mode:
        return ServerType.EPHEMERAL
    return ServerType.UNCONFIGURED


def server_type_of_url(url: str, *, cloud_api_url: str) -> ServerType:
    """Return ``CLOUD`` for a URL below ``cloud_api_url``, else ``SERVER``.

    Scheme, host, port and whole path segments are compared, not text prefixes: a look-alike such as
    ``https://api.prefect.cloud.evil.example/`` must not be taken for the cloud.
    """
    given, cloud = urlsplit(url), urlsplit(cloud_api_url)
    if _origin(given) != _origin(cloud):
        return ServerType.SERVER
    segments, prefix = _segments(given.path), _segments(cloud.path)
    # Dot segments are resolved on the way (RFC 3986, 5.2.4), encoded ones by some servers (6.2.2.2),
    # and may lead anywhere.
    dots = {".", ".."} & {unquote(segment) for segment in segments}
    if segments[: len(prefix)] != prefix or dots:
        return ServerType.SERVER
    return ServerType.CLOUD


def _origin(url: SplitResult) -> tuple[str, str, int | None]:
    port = {"http": 80, "https": 443}.get(url.scheme) if url.port is None else url.port
    return url.scheme, (url.hostname or "").removesuffix("."), port


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]
