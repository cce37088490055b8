"""The reference pages of the documentation: every public name, operation, magic, setting and error, from
the package as it is imported.

The operations of the clients are made at run time, so a tool that only reads the source does not find
them.
"""

from __future__ import annotations

import ast
import enum
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orchnb
from orchnb import errors
from orchnb.api.client import PrefectClient
from orchnb.api.operations import Operations
from orchnb.notebook.magics import OrchMagics
from orchnb.runs.operations import RunOperations
from orchnb.settings import Settings

_WIDEST = 88
_ERRORS = {
    name
    for name in orchnb.__all__
    if isinstance(getattr(orchnb, name), type) and issubclass(getattr(orchnb, name), Exception)
}
_CLIENTS = {"PrefectClient", "SyncPrefectClient"}

_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Attributes):$")


def pages() -> dict[str, str]:
    """Return the text of each page by its path."""
    return {
        "reference/client.md": _client_page(),
        "reference/names.md": _names_page(),
        "reference/errors.md": _errors_page(),
        "reference/magics.md": _magics_page(),
        "reference/settings.md": _settings_page(),
    }


# Pages.


def _client_page() -> str:
    groups = (*Operations.__bases__, RunOperations)
    operations = {name for group in groups for name in vars(group)}
    own = [name for name in dir(PrefectClient) if _is_public_function(PrefectClient, name)]
    parts = [
        "# Clients and their operations",
        "`PrefectClient` and `SyncPrefectClient` have the same operations, with the same arguments. "
        "Those of `PrefectClient`, shown here, are awaited; iterators are used with `async for`.",
        *(_class(name, members=False) for name in sorted(_CLIENTS)),
        "## Requests and the connection",
        *(
            _function(name, getattr(PrefectClient, name), level=3)
            for name in sorted(set(own) - operations)
        ),
    ]
    for group in groups:
        title = re.sub(r"Operations$", "", group.__name__)
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", title).capitalize()
        names = sorted(name for name in vars(group) if not name.startswith("_"))
        parts.append(f"## {_GROUPS.get(group.__name__, f'{words}s')}")
        parts += [_function(name, getattr(PrefectClient, name), level=3) for name in names]
    return _page(parts)


_GROUPS = {
    "ServerOperations": "The server",
    "LongReads": "Long results",
    "ConcurrencyOperations": "Concurrency limits",
    "RunOperations": "Starting and following runs",
}
"""Titles that do not follow from the class's name."""


def _names_page() -> str:
    names = [name for name in orchnb.__all__ if name not in _ERRORS | _CLIENTS]
    parts = [
        "# Public names",
        "The names in `orchnb`, besides the [clients](client.md) and the [errors](errors.md). Everything "
        "else in the package is private.",
    ]
    for name in names:
        value = getattr(orchnb, name)
        parts.append(_class(name) if isinstance(value, type) else _function(name, value, level=2))
    return _page(parts)


def _errors_page() -> str:
    tree = inspect.cleandoc(errors.__doc__ or "").replace("::\n", "").strip()
    introduction, _, drawn = tree.partition("\n\n")
    return _page(
        [
            "# Errors",
            introduction,
            f"```text\n{textwrap.dedent(drawn).strip()}\n```",
            *(_class(name) for name in sorted(_ERRORS)),
        ]
    )


def _magics_page() -> str:
    parts = [
        "# Magics",
        "`%load_ext orchnb` loads them, `%unload_ext orchnb` removes everything again. "
        "`%orch_server_type -h` and so on show the same in the notebook, and Tab completes arguments. "
        "One that begins with `%%` is the first line of a cell.",
    ]
    for name in sorted({*OrchMagics.magics["line"], *OrchMagics.magics["cell"]}):
        parser = getattr(OrchMagics, name).parser
        kinds = {"line": f"%{name}", "cell": f"%%{name}"}
        spellings = [text for kind, text in kinds.items() if name in OrchMagics.magics[kind]]
        parts.append(f"## {', '.join(spellings)}")
        parts.append(_markdown(inspect.cleandoc(parser.description or "")))
        rows = [
            f"| `{', '.join(action.option_strings) or action.dest}` | {_in_table(action.help or '')} |"
            for action in parser._actions
            if action.dest != "help"
        ]
        if rows:
            parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]))
    return _page(parts)


def _settings_page() -> str:
    defaults = Settings.model_construct()
    documented = _attribute_docs(Settings)
    rows = []
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if not isinstance(extra, dict):
            continue
        names: Any = extra["names"]
        places = "<br>".join(f"`{place}`" for place in (*names.environment, *names.toml))
        rows.append(
            f"| `{name}` | {places} | {_in_table(_default(getattr(defaults, name)))} "
            f"| {_in_table(documented.get(name, ''))} |"
        )
    return _page(
        [
            "# Settings",
            _markdown(inspect.getdoc(sys.modules[Settings.__module__]) or ""),
            "For each field: its environment variables, then its places in `prefect.toml` and below "
            "`[tool.prefect]` in `pyproject.toml`. `orchnb.get_settings().source(field)` tells where a "
            "value comes from.",
            "\n".join(["| field | names | default | meaning |", "|---|---|---|---|", *rows]),
        ]
    )


def _page(parts: list[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


# Parts of pages.


def _class(name: str, *, members: bool = True) -> str:
    kind = getattr(orchnb, name)
    parts = [f"## {name}"]
    if kind is Settings:
        parts.append("Its fields have [a page](settings.md).")
    elif not issubclass(kind, (Exception, enum.Enum)):
        parts.append(_signature(name, kind))
    parts.append(_markdown(inspect.getdoc(kind) or ""))
    if members and kind is not Settings:  # which has a page
        documented = _attribute_docs(kind)
        parts += [f"`{field}`\n:   {_one(words)}" for field, words in documented.items()]
        for member in vars(kind):
            if _is_public_function(kind, member):
                parts.append(_function(member, inspect.getattr_static(kind, member), level=3))
    return _page(parts).strip()


def _function(name: str, function: Any, *, level: int) -> str:
    heading = f"{'#' * level} {name}"
    if isinstance(function, property):
        return _page([heading, _markdown(inspect.getdoc(function) or "")]).strip()
    function = getattr(function, "__func__", function)  # of a classmethod or staticmethod
    return _page(
        [heading, _signature(name, function), _markdown(inspect.getdoc(function) or "")]
    ).strip()


def _is_public_function(kind: type, name: str) -> bool:
    value = inspect.getattr_static(kind, name)
    return (
        not name.startswith("_")
        and isinstance(value, (property, classmethod, staticmethod)) | inspect.isfunction(value)
        and bool(inspect.getdoc(value))
    )


def _signature(name: str, function: Any) -> str:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return ""
    parameters = [
        each for each in signature.parameters.values() if each.name not in ("self", "cls")
    ]
    words = [_parameter(each) for each in parameters]
    kinds = [each.kind for each in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        words.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    start = "async " if inspect.iscoroutinefunction(function) else ""
    returned = ""
    if signature.return_annotation is not inspect.Signature.empty and not isinstance(
        function, type
    ):
        annotation = signature.return_annotation
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        returned = f" -> {_short(text)}"
    line = f"{start}{name}({', '.join(words)}){returned}"
    if len(line) > _WIDEST:
        inner = "".join(f"    {each},\n" for each in words)
        line = f"{start}{name}(\n{inner}){returned}"
    return f"```text\n{line}\n```"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    words = f"{stars.get(parameter.kind, '')}{parameter.name}"
    if (annotation := parameter.annotation) is not inspect.Parameter.empty:
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        words += f": {_short(text)}"
    if (default := parameter.default) is not inspect.Parameter.empty:
        words += f" = {re.sub(r'<.*>', '...', repr(default))}"
    return words


def _short(annotation: str) -> str:
    """Return an annotation with names instead of paths of modules."""
    words = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z_])", "", annotation)
    return words.strip("\"'").replace("NoneType", "None")


def _markdown(docstring: str) -> str:
    """Return a docstring with its sections as lists."""
    lines: list[str] = []
    in_section = False
    for line in docstring.splitlines():
        if section := _SECTION.match(line):
            in_section = True
            lines += ["", f"**{_SECTIONS.get(section[1], section[1])}**", ""]
        elif in_section and line and not line.startswith(" "):
            in_section = False
            lines += ["", line]
        elif in_section and (entry := re.match(r"    (\S[\w, .*`()]*): (.*)", line)):
            lines.append(f"- `{entry[1].strip('`')}`: {entry[2]}")
        elif in_section and line.strip():
            lines.append(f"  {line.strip()}")
        else:
            lines.append(re.sub(r"::$", ":", line))
    return "\n".join(lines).strip()


_SECTIONS = {"Args": "Arguments", "Raises": "Errors"}


def _attribute_docs(kind: type) -> dict[str, str]:
    """Return the docstrings of a class's attributes, which stand below them in the source."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError):
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return dict(_documented(body))


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in zip(body, [*body[1:], None], strict=True):
        target: ast.expr | None = None
        if isinstance(statement, ast.AnnAssign):
            target = statement.target
        elif isinstance(statement, ast.Assign):
            target = statement.targets[0]
        if not isinstance(target, ast.Name) or target.id.startswith("_"):
            continue
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            yield target.id, inspect.cleandoc(str(following.value.value))


def _default(value: Any) -> str:
    if value is None or value in (frozenset(), {}):
        return ""
    if isinstance(value, Path):
        return f"`~/{value.relative_to(Path.home()).as_posix()}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _one(words: str) -> str:
    return re.sub(r"\s+", " ", words)


def _in_table(words: str) -> str:
    return _one(words).replace("|", r"\|")
