"""The proxies set in the environment, whose passwords must not be shown."""

from __future__ import annotations

import base64
import importlib.util
import ipaddress
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import unquote
from urllib.request import getproxies

import httpx

from orchnb.errors import InvalidSetting
from orchnb.redaction import redact_url

logger: logging.Logger = logging.getLogger(__name__)

_SCHEMES = ("http", "https", "socks5", "socks5h")
_USED = ("http", "https", "all")
_ENCODE = (
    "has a character in its user name or password that must be percent-encoded: write # as %23, / as "
    "%2F, ? as %3F and @ as %40"
)


def check_proxies(options: Mapping[str, Any]) -> None:
    """Check the proxies that a client with these httpx arguments would use.

    httpx's own error for an invalid proxy can contain a part of the password.

    Raises:
        InvalidSetting: a proxy is invalid; the message names the variable.
    """
    given = options.get("proxy")
    if isinstance(given, (str, httpx.URL, httpx.Proxy)):
        _check("The argument proxy", str(given.url if isinstance(given, httpx.Proxy) else given))
    elif given is None and options.get("transport") is None and options.get("trust_env", True):
        for scheme, address in _named().items():
            _check(_variable(scheme, address), address)


def proxy_secrets() -> set[str]:
    """Return the credentials of the proxies set in the environment, which a proxy may repeat."""
    found: set[str] = set()
    for address in _named().values():
        credentials = address.rpartition("@")[0].rpartition("://")[2]
        plain = unquote(credentials)
        encoded = base64.b64encode(plain.encode("utf-8", "replace")).decode()
        found.update((credentials, plain, encoded))
        found.update(credentials.split(":", 1)[1:])
        found.update(plain.split(":", 1)[1:])
    return found - {""}


def setting_of(proxy: httpx.Proxy) -> str:
    """Return the name of the setting that a proxy comes from."""
    for scheme, address in _named().items():
        with suppress(httpx.InvalidURL, ValueError):
            if httpx.Proxy(_whole(address)).url == proxy.url:
                return _variable(scheme, address)
    return "the argument proxy"


def _whole(address: str) -> str:
    return address if "://" in address else f"http://{address}"


def _named() -> dict[str, str]:
    return {scheme: address for scheme, address in getproxies().items() if scheme in _USED}


def _variable(scheme: str, address: str) -> str:
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next(
        (name for name in names if os.environ.get(name) == address),
        "The system's proxy setting",
    )


def _check(name: str, address: str) -> None:
    problem = _problem(_whole(address))
    if problem:
        raise InvalidSetting(f"{name} {problem}.")
    if address.lower().startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise InvalidSetting(
            f"{name} names a SOCKS proxy, {redact_url(address)}, for which a package is missing. "
            "Install it: pip install socksio"
        )


def environment_proxies(host: str) -> dict[str, httpx.Proxy | None]:
    """Return the proxies set in the environment, by the patterns of httpx's ``mounts``; None for servers
    that need none.

    NO_PROXY may have IPv6 addresses, with which httpx fails, and ranges of addresses, of which httpx only
    knows the first address. A range applies to ``host``, the client's server.
    """
    found: dict[str, httpx.Proxy | None] = {}
    for scheme, address in _named().items():
        if address:
            found[f"{scheme}://"] = httpx.Proxy(_whole(address))
    for entry in filter(None, map(str.strip, getproxies().get("no", "").split(","))):
        if entry == "*":
            return {}
        pattern = _without_proxy(entry, host)
        if pattern:
            found[pattern] = None
    return found


def _without_proxy(entry: str, host: str) -> str:
    """Return the pattern for an entry of NO_PROXY; empty if it does not apply, or is not an entry."""
    if "://" in entry:
        pattern = entry
    elif (network := _network(entry)) is not None:
        if network.num_addresses == 1:
            name = str(network.network_address)
        elif (address := _network(host)) is not None and address.version == network.version:
            name = host if address.network_address in network else ""
        else:
            name = ""
        pattern = name and f"all://[{name}]" if ":" in name else name and f"all://{name}"
    elif entry.lower() == "localhost" or entry.startswith("["):
        pattern = f"all://{entry}"
    else:
        pattern = f"all://*{entry.removeprefix('*')}"
    try:
        httpx.URL(pattern)
    except httpx.InvalidURL:
        logger.warning("NO_PROXY has the entry %r, which is left out: it is not a host", entry)
        return ""
    return pattern


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    address, slash, length = entry.partition("/")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    try:
        return ipaddress.ip_network(f"{address}{slash}{length}", strict=False)
    except ValueError:
        return None


def _problem(address: str) -> str:
    scheme, _, rest = address.partition("://")
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in rest[len(place) :] or place.count("@") > 1:
        return _ENCODE
    if scheme.lower() not in _SCHEMES:
        return "should begin with http://, https:// or socks5://"
    try:
        url = httpx.URL(address)
        usable = bool(url.host) and (url.port or 0) < 65_536 and not re.search(r"\s", address)
    except (httpx.InvalidURL, ValueError):
        usable = False
    return "" if usable else "should be a URL such as http://user:password@proxy.example.com:3128"
