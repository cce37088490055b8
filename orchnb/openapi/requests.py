"""Build a call from a described operation and its arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote

from orchnb.http.calls import Call, Path, json_of, path
from orchnb.http.concealing import concealed_options
from orchnb.http.json_values import plain_json
from orchnb.http.response import PrefectResponse
from orchnb.openapi.parser import (
    PLACEHOLDER,
    Argument,
    DescribedOperation,
    is_json,
)
from orchnb.text import one_line

_DELIMITERS = {"spaceDelimited": " ", "pipeDelimited": "|"}
_TEXTS = re.compile(r"text/|application/(?:.*\+)?(?:xml|yaml|x-ndjson|jsonl|javascript)\b")
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True)
class DescribedCall(Call[Any]):
    """A call with everything that a described operation can need in its request."""

    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """httpx's arguments for a body that is not JSON."""
    media_type: str = ""
    dates_are_times = False
    patch_sets_values: bool = False

    @property
    def _is_repeatable(self) -> bool:
        # In general a PATCH may do anything (RFC 5789, 2).
        return super()._is_repeatable and (
            self.repeatable or self.patch_sets_values or self.method != "PATCH"
        )

    def options(self, operation: str = "") -> dict[str, Any]:
        """Return httpx's arguments other than method and path."""
        options = {**super().options(operation), **self.body}
        headers = {**options.get("headers", {}), **self.headers}
        if self.media_type and "content" in options:
            headers["Content-Type"] = self.media_type
        if headers:
            options["headers"] = headers
        if self.query:
            options["params"] = list(self.query)
        return concealed_options(options)


def call_of(
    operation: DescribedOperation, address: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> DescribedCall:
    """Return the call of an operation with these arguments; ``address`` is its path for the client.

    Arguments that are not given are not sent. ``None`` is sent as null in a body; URLs have no null, so
    it is left out of a query.

    Raises:
        TypeError: an argument is missing or unknown.
        ValueError: a value is not allowed in its place.
    """
    given = _bound(operation, args, kwargs)
    by_place: dict[str, list[tuple[Argument, Any]]] = {}
    for argument in operation.arguments:
        if argument.name in given:
            by_place.setdefault(argument.place, []).append((argument, given[argument.name]))
    filled = _filled(address, by_place.get("path", ()))
    body, content = _body(operation, by_place)
    return DescribedCall(
        operation.method,
        Path(filled),
        lambda response: _read(operation, response),
        json=body,
        missing=f"object at {one_line(unquote(filled), 200)}" if "path" in by_place else "",
        conflict="It conflicts with an existing object",
        repeatable=operation.is_read,
        query=tuple(
            pair
            for argument, value in by_place.get("query", ())
            for pair in _query(argument, value)
        ),
        headers={
            argument.sent_as: _header(argument, value)
            for argument, value in by_place.get("header", ())
            if value is not None
        },
        body=content,
        media_type=operation.media_type if "*" not in operation.media_type else "",
        patch_sets_values=operation.patch_sets_values,
    )


def _bound(
    operation: DescribedOperation, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    names = [argument.name for argument in operation.arguments]
    for name in kwargs:
        if name not in names:
            near = get_close_matches(name, names, 3, 0.5)
            words = f"did you mean {' or '.join(near)}?" if near else _known(names)
            raise TypeError(f"{operation.name}() has no argument {name!r}: {words}")
    try:
        return operation.signature.bind(*args, **kwargs).arguments
    except TypeError as exc:
        raise TypeError(f"{operation.name}(): {exc}") from None


def _known(names: list[str]) -> str:
    return f"it takes {', '.join(names[:12])}" if names else "it takes no arguments"


def _filled(template: str, given: Iterable[tuple[Argument, Any]]) -> str:
    """Return the path with its arguments filled in, each quoted so that it stays within its segment.

    Raises:
        ValueError: an argument is empty, or the path would lead elsewhere.
    """
    values = {argument.sent_as: path("{}", _text(value)) for argument, value in given}
    filled = PLACEHOLDER.sub(lambda match: values[match[1]], template)
    for segment, before in zip(filled.split("/"), template.split("/"), strict=True):
        if unquote(segment) in (".", "..") and not PLACEHOLDER.fullmatch(before):
            raise ValueError(f"With these arguments the path would be {unquote(filled)}")
    return filled


def _body(
    operation: DescribedOperation, by_place: Mapping[str, list[tuple[Argument, Any]]]
) -> tuple[Any, dict[str, Any]]:
    """Return the body as JSON, and httpx's arguments for one that is not JSON."""
    fields = by_place.get("field", [])
    values: Any = {argument.sent_as: value for argument, value in fields}
    whole = [value for _, value in by_place.get("body", ())]
    if operation.encoding == "raw":
        return None, {"content": whole[0]} if whole and whole[0] is not None else {}
    if whole:
        values = whole[0]
    if operation.encoding == "json":
        if whole and values is None:
            return None, {"content": "null"}
        return (values if values or whole or operation.needs_body else None), {}
    if not isinstance(values, Mapping):
        raise TypeError(f"{operation.name}() needs a mapping for its body, because it is a form")
    pairs = [
        (name, each)
        for name, value in values.items()
        if value is not None
        for each in (value if isinstance(value, list) else [value])
    ]
    if operation.encoding == "form":
        data: dict[str, list[str]] = {}
        for name, each in pairs:
            data.setdefault(name, []).append(_text(each))
        return None, {"data": data} if data else {}
    files = {argument.sent_as for argument, _ in fields if argument.is_file}
    parts = [
        (name, _file(name, each) if name in files else (None, _text(each).encode()))
        for name, each in pairs
    ]
    return None, {"files": parts} if parts else {}


def _file(name: str, value: Any) -> Any:
    """Return a file in httpx's form, with its name; a pair of a name and a file is accepted too."""
    return value if isinstance(value, tuple) else (name, value)


def _query(argument: Argument, value: Any) -> Iterator[tuple[str, str]]:
    """Yield a value's query pairs (OpenAPI 3.1, 4.8.12.3, "Style Values")."""
    name = argument.sent_as
    if value is None:
        return
    if argument.style == "json":
        yield name, json.dumps(plain_json(value, place=name))
        return
    value = plain_json(value, place=name)
    if isinstance(value, dict):
        if argument.style == "deepObject":
            yield from ((f"{name}[{key}]", _text(each)) for key, each in value.items())
        elif argument.explode:
            yield from ((key, _text(each)) for key, each in value.items())
        else:
            yield name, ",".join(_text(part) for pair in value.items() for part in pair)
    elif isinstance(value, list):
        if argument.explode:
            yield from ((name, _text(each)) for each in value)
        else:
            yield name, _DELIMITERS.get(argument.style, ",").join(map(_text, value))
    else:
        yield name, _text(value)


def _header(argument: Argument, value: Any) -> str:
    value = plain_json(value, place=argument.name)
    text = ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
    if not re.fullmatch(r"[\x20-\x7e\t]*", text):
        raise ValueError(
            f"{argument.name} should be plain ASCII on one line, because it is sent in a header"
        )
    return text


def _text(value: Any) -> str:
    """Return a single value as it appears in URLs and forms."""
    if isinstance(value, str):
        return str(value.value) if hasattr(value, "value") else value  # an enum of strings
    value = plain_json(value)
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _read(operation: DescribedOperation, response: PrefectResponse) -> Any:
    """Return the response's content: JSON as plain data, other text as str, anything else as bytes."""
    if not response.content:
        return None
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    described = {each.partition(";")[0].lower() for each in operation.answers}
    page_for_json = kind in _PAGES and kind not in described and any(map(is_json, described))
    if is_json(kind) or page_for_json or not kind:
        return json_of(response)
    return response.text if _TEXTS.match(kind) else response.content
