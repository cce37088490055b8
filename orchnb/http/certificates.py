"""The SSL contexts of clients, from the certificates that settings and arguments name.

The errors of Python's ssl module name no file, and httpx checks nothing.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from orchnb.errors import InvalidSetting

_PEM = b"-----BEGIN "


def ssl_context_for(options: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Return the SSL context for a client with these httpx arguments, or None if httpx has it already.

    Clients with the same arguments share one, as making one takes 15 ms.

    Raises:
        InvalidSetting: certificates cannot be used; the message names the setting and the file.
    """
    verify = options.get("verify", True)
    trust_env = options.get("trust_env", True)
    cert = options.get("cert")
    if isinstance(verify, ssl.SSLContext):
        if cert:
            _load_client_certificate(verify, cert)
        return None
    setting = path = ""
    if isinstance(verify, (str, os.PathLike)):
        setting, path = "The argument verify", os.fspath(verify)
    elif verify is True and trust_env:
        setting, path = _trusted_by_environment()
    # httpcore writes what it negotiates into the context, so the two kinds must not share one.
    key = (bool(options.get("http2")), _modified(path))
    try:
        context = _make(verify, path) if cert else _shared(bool(verify), path, key)
    except (OSError, ssl.SSLError) as exc:
        raise InvalidSetting(f"{setting} names {path}, {_problem(path, exc)}") from None
    if cert:
        _load_client_certificate(context, cert)
    return context


def trusted(setting: str, path: str) -> str:
    """Return the path of the certificates that a setting names, after a check.

    Raises:
        InvalidSetting: they cannot be used.
    """
    try:
        _make(True, path)
    except (OSError, ssl.SSLError) as exc:
        raise InvalidSetting(f"{setting} names {path}, {_problem(path, exc)}") from None
    return path


def _trusted_by_environment() -> tuple[str, str]:
    """Return the variable that names certificates to trust, and the path; empty strings without one."""
    file = os.environ.get("SSL_CERT_FILE")
    if file:
        if os.path.isdir(file):
            raise InvalidSetting(
                f"SSL_CERT_FILE names {file}, which is a folder. Name a file of certificates, or set "
                "SSL_CERT_DIR instead."
            )
        return "SSL_CERT_FILE", file
    folders = os.environ.get("SSL_CERT_DIR", "")
    if folders and not any(os.path.isdir(folder) for folder in folders.split(os.pathsep)):
        raise InvalidSetting(
            f"SSL_CERT_DIR names {folders}, which is not a folder. Correct it, or unset it."
        )
    return ("SSL_CERT_DIR", folders) if folders else ("", "")


def _problem(path: str, exc: Exception) -> str:
    """Say why a file of certificates cannot be used, and what to do."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return f"which cannot be read: {reason}. Correct the path, or unset it."
    if not content.strip():
        return "which is empty. Name a file with certificates in PEM form, or unset it."
    if _PEM not in content:
        return (
            "which is not in PEM form. If it is a certificate in DER form, convert it: openssl x509 "
            f"-inform der -in {path} -out certificate.pem"
        )
    if b"CERTIFICATE-----" not in content:
        return "which contains no certificate. Name a file with certificates in PEM form."
    reason = getattr(exc, "reason", None) or type(exc).__name__
    return f"whose certificates cannot be read ({reason}). Get the file again."


def _load_client_certificate(context: ssl.SSLContext, cert: Any) -> None:
    parts = (cert,) if isinstance(cert, (str, os.PathLike)) else tuple(cert)
    try:
        context.load_cert_chain(*parts)
    except (OSError, ssl.SSLError) as exc:
        files = [os.fspath(part) for part in parts[:2] if part is not None]
        unreadable = next((file for file in files if not os.access(file, os.R_OK)), "")
        if unreadable:
            why = "does not exist" if not os.path.exists(unreadable) else "cannot be read"
            problem = f"{unreadable}, which {why}. Correct the path."
        else:
            reason = (getattr(exc, "reason", None) or type(exc).__name__).replace("_", " ").lower()
            problem = (
                f"{' and '.join(files)}, which cannot be used ({reason}). It should be the certificate "
                "and its private key in PEM form, with the password if the key has one: "
                'cert=("client.pem", "client.key", "password").'
            )
        raise InvalidSetting(f"The argument cert names {problem}") from None


def _make(verify: Any, path: str) -> ssl.SSLContext:
    if not path:
        return httpx.create_ssl_context(verify=bool(verify), trust_env=False)
    # OpenSSL accepts several folders in one text, as SSL_CERT_DIR may have them.
    are_folders = any(os.path.isdir(folder) for folder in path.split(os.pathsep))
    if are_folders and not os.path.isfile(path):
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)


@lru_cache(maxsize=16)
def _shared(verify: bool, path: str, key: tuple[bool, float]) -> ssl.SSLContext:  # noqa: ARG001 - `key` tells contexts apart
    return _make(verify, path)


def _modified(file: str) -> float:
    try:
        return os.stat(file).st_mtime
    except OSError:
        return 0.0
