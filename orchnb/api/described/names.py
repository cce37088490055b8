"""Names of Python's for what a document names in any way it likes."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Collection

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
"""OpenAPI's, in its order."""

_LONGEST = 80
_LONGEST_READ = 1000
_METHOD_AT_END = re.compile(f"_({'|'.join(METHODS)})$")


def argument_name(text: str, taken: Collection[str], place: str) -> str:
    """A name for an argument, as like ``text`` as Python allows.

    One that is ``taken`` gets its ``place`` added, such as ``id_body``, and then a number.
    """
    text = _normal(text)
    name = text if text.isidentifier() and len(text) <= _LONGEST else _identifier(text)
    name = _harmless(name.strip("_") if name.startswith("__") else name, "argument")
    return name if name not in taken else free_name(f"{name.rstrip('_')}_{place}", taken)


def snake_case(text: str, otherwise: str = "operation") -> str:
    """``text`` as a name in snake case, without underscores at its ends, which would hide it."""
    text = _normal(text)
    text = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text)  # savedSearches
    text = re.sub(r"([A-Z])([A-Z][a-z])", r"\1_\2", text)  # UISettings
    return _harmless(re.sub("__+", "_", _identifier(text)).strip("_").lower(), otherwise)


def operation_names(operation_id: object, method: str, path: str) -> tuple[str, str]:
    """The short name of an operation, and a longer one for where the short one is not unique.

    FastAPI makes ids of a function's name, the path and the method (``generate_unique_id``); the
    function's name alone is what people know.
    """
    if not isinstance(operation_id, str) or not operation_id:
        made = snake_case(f"{method}_{path}", method)
        return made, made
    long = snake_case(operation_id)
    head = _METHOD_AT_END.sub("", operation_id)
    short = head.removesuffix(re.sub(r"\W", "_", path)) if head != operation_id else operation_id
    return (long if short in ("", head) else snake_case(short)), long


def group_name(path: str) -> str:
    """The group of an operation that has no tag: the first word of its path."""
    words = [part for part in path.split("/") if part and "{" not in part]
    return snake_case(words[0] if words else "root", "root")


def free_name(name: str, taken: Collection[str], number: int = 2) -> str:
    """The name, or the first with a number behind it, that is not taken."""
    candidate = name
    while candidate in taken:
        candidate = f"{name}_{number}"
        number += 1
    return candidate


def _normal(text: str) -> str:
    # As Python's compiler reads names, or one could not be written as it is.
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
