"""Refuse headers that HTTP cannot send, before anything is sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchnb.errors import InvalidSetting
from orchnb.settings import header_problem


def check_headers(headers: Any) -> None:
    """Check headers in any form that httpx accepts. They must be concealed, as this raises.

    Raises:
        InvalidSetting: one of them cannot be sent. It is a ValueError; it does not contain the value.
    """
    if not headers:
        return
    pairs: Iterable[Any] = headers.items() if isinstance(headers, Mapping) else headers
    for name, value in pairs:
        problem = header_problem(_text(name), _text(value))
        if problem:
            raise InvalidSetting(f"The argument headers {problem}.")


def _text(part: Any) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else str(part)
