"""Read an OpenAPI document (3.0 and 3.1, https://spec.openapis.org/oas/): from bytes to operations.

This code is pure and safe for malicious documents: it executes nothing in them, it bounds everything it
follows, and all text that people see is printable. Parts of a document that are missing or not
understood become ``Any``; broken parts raise an `UnexpectedAnswer` that says where.
"""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias
from urllib.parse import quote, unquote

from orchnb.errors import UnexpectedAnswer
from orchnb.openapi.naming import (
    METHODS,
    argument_name,
    group_name,
    operation_names,
    snake_case,
)
from orchnb.openapi.schemas import UNSENT, Schemas, model_name
from orchnb.text import one_line, printable

LARGEST_DOCUMENT = 20_000_000
"""Bytes."""
_MOST_OPERATIONS = 5_000
_MOST_ARGUMENTS = 100_000
_MOST_ARGUMENTS_EACH = 300
_MOST_TAGS_EACH = 8
_MOST_KEYS_SHOWN = 12
_LONGEST_SUMMARY = 200
_LONGEST_DESCRIPTION = 4_000
_LONGEST_PATH = 2_000

_JSON = re.compile(r"application/(?:[\w.-]+\+)?json *(?:;.*)?", re.IGNORECASE)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
# Headers set by the client or by the protocol (RFC 9110), so they are not arguments.
_OWN_HEADERS = re.compile(
    "accept|accept-encoding|authorization|connection|content-(encoding|length|type)|cookie|expect|host|"
    "proxy-authorization|te|trailer|transfer-encoding|upgrade|user-agent",
    re.IGNORECASE,
)

ArgumentPlace: TypeAlias = Literal["path", "query", "header", "field", "body"]
Encoding: TypeAlias = Literal["json", "form", "multipart", "raw"]


@dataclass(frozen=True)
class Argument:
    """An argument of an operation, and its place in the request."""

    name: str
    sent_as: str
    """Its name in the request."""
    place: ArgumentPlace
    is_required: bool
    annotation: Any
    default: Any = UNSENT
    """The value that the server uses by default; `UNSENT` if the document does not say."""
    description: str = ""
    style: str = "form"
    """How a list or an object is encoded in the query: one of OpenAPI's styles, or ``json``."""
    explode: bool = True
    is_file: bool = False


@dataclass(frozen=True)
class Conventions:
    """What is known of some servers, but not in their OpenAPI documents."""

    titles: frozenset[str] = frozenset()
    """The titles of their documents."""
    reads: frozenset[str] = frozenset()
    """The last words of the paths of POST requests that are read-only."""
    headers: frozenset[str] = frozenset()
    """Headers that the client sets for every server, in lower case, so they are not arguments."""


@dataclass(frozen=True)
class DescribedOperation:
    """An operation as the document describes it."""

    name: str
    groups: tuple[str, ...]
    method: str
    path: str
    """With arguments in braces, and everything else quoted for URLs."""
    arguments: tuple[Argument, ...]
    encoding: Encoding = "json"
    media_type: str = ""
    """The media type of the body."""
    needs_body: bool = False
    result: Any = Any
    answers: tuple[str, ...] = ()
    """Media types of successful answers."""
    summary: str = ""
    description: str = ""
    is_deprecated: bool = False
    is_read: bool = False
    """Whether it is known to be read-only, and so can be retried."""
    patch_sets_values: bool = False
    """Whether a PATCH is known to set values, and so can be retried."""

    @property
    def signature(self) -> inspect.Signature:
        """The operation's signature in Python."""
        positional, keyword = (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        )
        return inspect.Signature(
            [
                inspect.Parameter(
                    argument.name,
                    positional if argument.place in ("path", "body") else keyword,
                    default=inspect.Parameter.empty if argument.is_required else argument.default,
                    annotation=argument.annotation,
                )
                for argument in self.arguments
            ],
            return_annotation=self.result,
        )

    @property
    def help(self) -> str:
        """The docstring."""
        parts = [self.summary or self.name, self.description, f"{self.method} {self.path}"]
        if self.is_deprecated:
            parts.append("Deprecated.")
        lines = [
            f"    {argument.name}: {argument.description}"
            for argument in self.arguments
            if argument.description
        ]
        if lines:
            parts.append("\n".join(["Args:", *lines]))
        return "\n\n".join(filter(None, parts))


@dataclass(frozen=True)
class Description:
    """A server's operations, as described by its OpenAPI document."""

    title: str
    servers: tuple[str, ...]
    """The URLs that the document gives for the server, as written; mostly relative ones."""
    operations: tuple[DescribedOperation, ...]


def read_description(content: bytes, conventions: Conventions | None = None) -> Description:
    """Return the description in an OpenAPI document.

    Raises:
        UnexpectedAnswer: it is not an OpenAPI document, is broken, or is too large.
    """
    if len(content) > LARGEST_DOCUMENT:
        raise _broken(f"it is larger than {LARGEST_DOCUMENT // 1_000_000} MB")
    try:
        document = json.loads(content)
    except RecursionError:
        raise _broken("it is nested too deeply") from None
    except ValueError:
        raise _broken("it is not JSON") from None
    return _Reader(document, conventions or Conventions()).read()


class _Reader:
    def __init__(self, document: Any, conventions: Conventions) -> None:
        self._document = _mapping(document, "it")
        version = document.get("openapi")
        if not isinstance(version, str) or not re.match(r"3\.\d", version):
            found = one_line(str(version or document.get("swagger")), 20)
            raise _broken(f"its version should be 3.0 or 3.1, but is {found!r}")
        self._schemas = Schemas(document)
        info = document.get("info")
        self._title = _text(info.get("title"), 80) if isinstance(info, dict) else ""
        self._own_headers = conventions.headers
        self._conventions = conventions if self._title in conventions.titles else None
        self._arguments_left = _MOST_ARGUMENTS

    def read(self) -> Description:
        operations = list(self._operations())
        # If short names collide, all of them get a longer one, so that no name depends on the others.
        short = Counter((group, each.name) for each, _ in operations for group in each.groups)
        taken: set[tuple[str, str]] = set()
        numbers: Counter[str] = Counter()
        named = []
        for each, long in operations:
            name = long if any(short[group, each.name] > 1 for group in each.groups) else each.name
            unique = name
            while any((group, unique) in taken for group in each.groups):
                numbers[name] += 1
                unique = f"{name}_{numbers[name] + 1}"
            taken.update((group, unique) for group in each.groups)
            named.append(replace(each, name=unique))
        return Description(self._title, tuple(self._servers()), tuple(named))

    def _servers(self) -> Iterator[str]:
        servers = self._document.get("servers")
        for server in servers[:20] if isinstance(servers, list) else ():
            url = server.get("url") if isinstance(server, dict) else None
            if not isinstance(url, str) or len(url) > _LONGEST_PATH:
                continue
            variables = server.get("variables")
            for name, variable in variables.items() if isinstance(variables, dict) else ():
                value = variable.get("default") if isinstance(variable, dict) else None
                if isinstance(value, str):
                    url = url.replace(f"{{{name}}}", value)[:_LONGEST_PATH]
            yield url

    def _operations(self) -> Iterator[tuple[DescribedOperation, str]]:
        """Yield each operation under its short name, together with its long name."""
        count = 0
        for path, item in _mapping(self._document.get("paths", {}), "'paths'").items():
            if path.startswith("x-"):
                continue
            place = f"the path {one_line(path, 80)!r}"
            template = _template(path, place)
            item = _mapping(self._schemas.target(item), place)
            shared = self._parameters(item, place)
            for method in METHODS:
                if method not in item:
                    continue
                count += 1
                if count > _MOST_OPERATIONS:
                    raise _broken(f"it has more than {_MOST_OPERATIONS} operations")
                described = _mapping(item[method], f"{method.upper()} of {place}")
                yield self._operation(method, path, template, described, shared)

    def _operation(
        self,
        method: str,
        path: str,
        template: str,
        described: dict[str, Any],
        shared: dict[tuple[str, str], Any],
    ) -> tuple[DescribedOperation, str]:
        place = f"{method.upper()} of the path {one_line(path, 80)!r}"
        short, long = operation_names(described.get("operationId"), method, path)
        parameters = {**shared, **self._parameters(described, place)}
        drafts = [*self._path_arguments(template, parameters), *self._other_arguments(parameters)]
        encoding, media_type, needs_body, body = self._body(described, place)
        if method == "patch":  # fields that are not given stay unchanged
            body = [replace(argument, default=UNSENT) for argument in body]
        drafts += body
        self._arguments_left -= len(drafts)
        if len(drafts) > _MOST_ARGUMENTS_EACH or self._arguments_left < 0:
            raise _broken(f"its operations have too many arguments ({place})")
        result, answers = self._result(described, place)
        operation = DescribedOperation(
            name=short,
            groups=_groups(described.get("tags"), path),
            method=method.upper(),
            path=template,
            arguments=_named(drafts),
            encoding=encoding,
            media_type=media_type,
            needs_body=needs_body,
            result=result,
            answers=answers,
            summary=one_line(_text(described.get("summary"), _LONGEST_SUMMARY), _LONGEST_SUMMARY),
            description=inspect.cleandoc(_text(described.get("description"), _LONGEST_DESCRIPTION)),
            is_deprecated=described.get("deprecated") is True,
            is_read=self._conventions is not None
            and path.rpartition("/")[2] in self._conventions.reads,
            patch_sets_values=self._conventions is not None,
        )
        return operation, long

    def _parameters(self, holder: dict[str, Any], place: str) -> dict[tuple[str, str], Any]:
        """Return the parameters listed there, by place and name."""
        found: dict[tuple[str, str], Any] = {}
        listed = holder.get("parameters", [])
        if not isinstance(listed, list):
            raise _broken(f"the parameters of {place} are not a list")
        if len(listed) > _MOST_ARGUMENTS_EACH:
            raise _broken(f"{place} has too many parameters")
        for node in listed:
            parameter = _mapping(self._schemas.target(node), f"a parameter of {place}")
            name, where = parameter.get("name"), parameter.get("in")
            if not isinstance(name, str) or not isinstance(where, str):
                raise _broken(f"a parameter of {place} has no name or no place")
            found[where, name] = parameter
        return found

    def _path_arguments(
        self, template: str, parameters: Mapping[tuple[str, str], Any]
    ) -> Iterator[Argument]:
        for name in dict.fromkeys(PLACEHOLDER.findall(template)):
            parameter = parameters.get(("path", unquote(name)), {})
            yield replace(self._argument("path", name, parameter), is_required=True)

    def _other_arguments(self, parameters: Mapping[tuple[str, str], Any]) -> Iterator[Argument]:
        for (where, name), parameter in parameters.items():
            if where == "query":
                yield self._argument("query", name, parameter)
            elif where == "header" and _is_header(name) and name.lower() not in self._own_headers:
                yield self._argument("header", name, parameter)

    def _argument(self, place: ArgumentPlace, name: str, parameter: Mapping[str, Any]) -> Argument:
        schema = parameter.get("schema")
        style, explode = parameter.get("style"), parameter.get("explode")
        content = parameter.get("content")
        if isinstance(content, dict) and content:
            media = next(iter(content.values()))
            schema, style = (media.get("schema") if isinstance(media, dict) else None), "json"
        style = style if isinstance(style, str) else "form"
        return self._described(
            Argument(
                name=name,
                sent_as=name,
                place=place,
                is_required=parameter.get("required") is True,
                annotation=Any,
                style=style,
                explode=explode if isinstance(explode, bool) else style in ("form", "deepObject"),
            ),
            schema,
            parameter.get("description"),
        )

    def _described(self, argument: Argument, schema: Any, description: object = None) -> Argument:
        """Return the argument with the details from its schema."""
        target = self._schemas.target(schema)
        words = description
        if not isinstance(words, str) or not words:
            # The description in a referenced schema is general; the one here is about this argument.
            words = schema.get("description") if isinstance(schema, dict) else None
        parts = [one_line(_text(words, 1_000), 400)]
        keys = self._schemas.keys(schema)
        name = model_name(schema)
        if not name and isinstance(target, dict) and "items" in target:
            name = model_name(target["items"])
        if keys and argument.place != "path":
            more = "..." if len(keys) > _MOST_KEYS_SHOWN else ""
            shown = ", ".join(
                [*(one_line(key, 60) for key in keys[:_MOST_KEYS_SHOWN]), *filter(None, [more])]
            )
            parts.append(f"({f'{name}: ' if name else ''}{shown})")
        return replace(
            argument,
            annotation=self._schemas.sent(schema),
            default=self._schemas.default(schema),
            description=" ".join(filter(None, parts)),
        )

    def _body(
        self, described: dict[str, Any], place: str
    ) -> tuple[Encoding, str, bool, list[Argument]]:
        """Return the body's encoding, its media type, whether it is required, and its arguments."""
        if described.get("requestBody") is None:
            return "json", "", False, []
        body = _mapping(self._schemas.target(described["requestBody"]), f"the body of {place}")
        content = _mapping(body.get("content", {}), f"the content of {place}")
        if not content:
            return "json", "", False, []
        media_type, encoding = _preferred(content)
        if not re.fullmatch(r"[\w.+*/-]+(?:;[\w.+*/=; -]*)?", media_type, re.ASCII):
            raise _broken(f"the body of {place} has no media type")
        needs_body = body.get("required") is True
        media = content[media_type]
        schema = media.get("schema") if isinstance(media, dict) else None
        fields = self._schemas.fields(schema) if encoding != "raw" else None
        if fields is None:
            whole = Argument("body", "body", "body", needs_body, Any)
            whole = self._described(whole, schema, body.get("description"))
            if encoding == "raw":
                whole = replace(whole, annotation=bytes | str)
            return encoding, media_type, needs_body, [whole]
        arguments = [
            replace(
                self._described(
                    Argument(name, name, "field", needs_body and name in fields.required, Any), each
                ),
                is_file=encoding == "multipart" and self._schemas.is_binary(each),
            )
            for name, each in fields.schemas.items()
        ]
        return encoding, media_type, needs_body, arguments

    def _result(self, described: dict[str, Any], place: str) -> tuple[Any, tuple[str, ...]]:
        """Return the type of the response, and its possible media types."""
        responses = _mapping(described.get("responses", {}), f"the responses of {place}")
        successes = [
            self._schemas.target(response)
            for status, response in responses.items()
            if re.fullmatch(r"2(?:\d\d|XX)", status, re.IGNORECASE)
        ][:10]
        contents = [each.get("content") for each in successes if isinstance(each, dict)]
        if not contents:
            return Any, ()
        found: list[Any] = []
        kinds: list[str] = []
        for content in contents:
            media = content if isinstance(content, dict) else {}
            if not media:
                found.append(None)
            for kind, each in list(media.items())[:10]:
                kinds.append(kind[:100])
                if is_json(kind):
                    schema = each.get("schema") if isinstance(each, dict) else None
                    found.append(self._schemas.received(schema))
                else:
                    found.append(str if kind.startswith("text/") else bytes)
        # Several responses become a union only if each has a plain type.
        if len(found) == 1:
            return found[0], tuple(kinds)
        same = all(each == found[0] for each in found)
        return (found[0] if same else Any), tuple(kinds)


PLACEHOLDER = re.compile(r"\{([^{}/]+)\}")
"""An argument in a path."""


def quoted_path(path: str) -> str | None:
    """Return a path quoted for a URL, keeping its placeholders; None if it leads outside its root."""
    segments = path.split("/")
    if segments[0] or len(path) > _LONGEST_PATH:
        return None
    if any(segment == "" for segment in segments[1:-1]):
        return None  # two slashes begin the URL of another host
    if any(unquote(segment).strip() in (".", "..") for segment in segments):
        return None
    return "/".join(_quoted_segment(segment) for segment in segments)


def _quoted_segment(segment: str) -> str:
    parts = re.split(r"(\{[^{}/]+\})", segment)  # text and placeholders alternate
    return "".join(
        f"{{{quote(part[1:-1], safe='', errors='replace')}}}"
        if index % 2
        else quote(unquote(part), safe="!$&'()*+,;=:@~", errors="replace")
        for index, part in enumerate(parts)
    )


def _template(path: str, place: str) -> str:
    template = quoted_path(path)
    if template is None:
        raise _broken(f"{place} is not a valid path")
    return template


def _named(drafts: list[Argument]) -> tuple[Argument, ...]:
    """Return the arguments in the order of a signature, with valid Python names."""
    order: dict[str, int] = {"path": 0, "body": 1}
    drafts = sorted(drafts, key=lambda each: (order.get(each.place, 2), not each.is_required))
    taken: set[str] = set()
    named = []
    for argument in drafts:
        place = "body" if argument.place == "field" else argument.place
        name = argument_name(unquote(argument.sent_as), taken, place)
        taken.add(name)
        named.append(replace(argument, name=name))
    return tuple(named)


def is_json(media_type: str) -> bool:
    """Return whether a media type is JSON (RFC 6839, 3.1)."""
    return _JSON.fullmatch(media_type[:100]) is not None


def _is_header(name: str) -> bool:
    return bool(_HEADER_NAME.fullmatch(name)) and not _OWN_HEADERS.fullmatch(name)


def _groups(tags: object, path: str) -> tuple[str, ...]:
    texts = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    names = dict.fromkeys(snake_case(tag, "other") for tag in texts[:_MOST_TAGS_EACH])
    return tuple(names) or (group_name(path),)


def _preferred(content: Mapping[str, Any]) -> tuple[str, Encoding]:
    """Return which of the media types that the server accepts to send, and its encoding."""
    for media_type in content:
        if is_json(media_type):
            return media_type, "json"
    encodings: dict[str, Encoding] = {
        "multipart/form-data": "multipart",
        "application/x-www-form-urlencoded": "form",
    }
    for known, encoding in encodings.items():
        if known in content:
            return known, encoding
    return next(iter(content)), "raw"


def _text(value: object, longest: int) -> str:
    return printable(value[:longest].expandtabs()).strip() if isinstance(value, str) else ""


def _mapping(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _broken(f"{what} is not an object")
    return value


def _broken(words: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        f"The server's OpenAPI document cannot be used: {words}",
        hint="The named methods of the client work without it, and so does client.request().",
    )
