"""Refuse headers that HTTP cannot send, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchnb.errors import InvalidSetting
from orchnb.settings import header_problem


def check_client_headers(headers: Any) -> None:
    """Check the headers that a client is given, in any form that httpx accepts.

    Raises:
        InvalidSetting: one of them cannot be sent; the message does not contain its value.
    """
    problem = headers_problem(headers)
    if problem:
        raise InvalidSetting(f"The argument headers {problem}.")


def headers_problem(headers: Any) -> str:
    """Say why headers cannot be sent, in any form that httpx accepts; empty if they can."""
    if not headers:
        return ""
    pairs: Iterable[Any] = headers.items() if isinstance(headers, Mapping) else headers
    problems = (header_problem(_text(name), _text(value)) for name, value in pairs)
    return next(filter(None, problems), "")


def _text(part: Any) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else str(part)
