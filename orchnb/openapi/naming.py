"""Valid Python names for the arbitrary names in a document."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""OpenAPI's methods, in its order."""

_LONGEST = 80
_LONGEST_READ = 1000
_METHOD_AT_END = re.compile(f"_({'|'.join(METHODS)})$")


def argument_name(text: str, taken: Collection[str], place: str) -> str:
    """Return a name for an argument, as close to ``text`` as Python allows.

    If the name is ``taken``, its ``place`` is appended, as in ``id_body``, and then a number.
    """
    text = _normal(text)
    name = text if text.isidentifier() and len(text) <= _LONGEST else _identifier(text)
    name = _harmless(name.strip("_") if name.startswith("__") else name, "argument")
    return name if name not in taken else free_name(f"{name.rstrip('_')}_{place}", taken)


def snake_case(text: str, otherwise: str = "operation") -> str:
    """Return ``text`` in snake case, without underscores at its ends, which would make it private."""
    text = _normal(text)
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text)  # savedSearches
    text = re.sub(r"([A-Z])([A-Z][a-z])", r"\1_\2", text)  # UISettings
    return _harmless(re.sub("__+", "_", _identifier(text)).strip("_").lower(), otherwise)


def operation_names(operation_id: object, method: str, path: str) -> tuple[str, str]:
    """Return an operation's short name, and a longer one in case the short one is not unique.

    FastAPI builds ids from the function's name, the path and the method (``generate_unique_id``); people
    know only the function's name.
    """
    if not isinstance(operation_id, str) or not operation_id:
        made = snake_case(f"{method}_{path}", method)
        return made, made
    long = snake_case(operation_id)
    head = _METHOD_AT_END.sub("", operation_id)
    short = head.removesuffix(re.sub(r"\W", "_", path)) if head != operation_id else operation_id
    return (long if short in ("", head) else snake_case(short)), long


def group_name(path: str) -> str:
    """Return the group of an operation without a tag: the first word of its path."""
    words = [part for part in path.split("/") if part and "{" not in part]
    return snake_case(words[0] if words else "root", "root")


def free_name(name: str, taken: Collection[str], number: int = 2) -> str:
    """Return the name, with the first number appended that makes it unique if it is taken."""
    candidate = name
    while candidate in taken:
        candidate = f"{name}_{number}"
        number += 1
    return candidate


def _normal(text: str) -> str:
    # As Python's compiler normalizes names; otherwise some names could not be typed.
    return unicodedata.normalize("NFKC", text[:_LONGEST_READ])


def _identifier(text: str) -> str:
    return "".join(char if f"_{char}".isidentifier() else "_" for char in text)[:_LONGEST]


def _harmless(name: str, otherwise: str) -> str:
    name = unicodedata.normalize("NFKC", name)
    if not name.strip("_"):
        return otherwise
    if not name.isidentifier():  # it begins with a digit
        name = f"n{name}"
    return f"{name}_" if keyword.iskeyword(name) else name
