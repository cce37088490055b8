"""The folders are floors: a file imports from its own floor and the floors above, never from below."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchnb
from tests import private_names

PACKAGE = Path(orchnb.__file__).parent

FLOORS = {
    "_version": 0,
    "_cpython": 0,
    "asgi": 0,
    "concealed": 0,
    "environment": 0,
    "errors": 0,
    "event_loop": 0,
    "file_cache": 0,
    "forks": 0,
    "observers": 0,
    "prefect_exceptions": 0,
    "redaction": 0,
    "text": 0,
    "credentials": 1,
    "setting_sources": 1,
    "settings": 1,
    "server_type": 1,
    "runtime": 2,
    "http": 3,
    "prefect_server": 4,
    "hosting": 5,
    "openapi": 6,
    "api": 7,
    "runs": 8,
    # The clients are put together from the operations of both.
    "api.client": 9,
    "api.context": 9,
    "api.status": 9,
    "diagnosis": 9,
    "api.watch": 9,
    "notebook": 10,
    # The command.
    "__main__": 11,
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def floor_of(name: str) -> int:
    """The floor of ``orchnb.http.retry`` is that of ``http``."""
    _, package, *module = name.split(".")
    return FLOORS.get(".".join([package, *module[:1]]), FLOORS[package])


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, also within functions; not those for types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute here"
            if node.module == "orchnb" or node.module.startswith("orchnb."):
                yield from (
                    f"{node.module}.{alias.name}" if node.module in FLOOR_PACKAGES else node.module
                    for alias in node.names
                )
            else:
                yield node.module


FLOOR_PACKAGES = {"orchnb", *(f"orchnb.{name}" for name in FLOORS if (PACKAGE / name).is_dir())}


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_nothing_is_imported_from_a_floor_below(path: Path) -> None:
    own = floor_of(name_of(path))
    for imported in imports_of(path):
        if not imported.startswith("orchnb."):
            continue
        assert floor_of(imported) <= own, f"{name_of(path)} imports {imported}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_notebook_floor_imports_the_notebook(path: Path) -> None:
    roots = {imported.split(".")[0] for imported in imports_of(path)}
    if floor_of(name_of(path)) < FLOORS["notebook"]:
        assert not roots & {"IPython", "ipywidgets", "ipykernel", "traitlets"}
    else:
        assert "prefect" not in roots


def test_every_module_has_its_floor() -> None:
    for path in modules():
        assert name_of(path).split(".")[1] in FLOORS


def modules_imported_by(path: Path, known: set[str]) -> set[str]:
    """The modules of orchnb that a file imports, also within functions and for types only. A package
    that an import passes through does not count: it may import its own modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in known else node.module)
    return found & known


def test_there_are_no_import_cycles() -> None:
    paths = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    graph = {name: modules_imported_by(path, {*paths}) for name, path in paths.items()}
    assert sum(map(len, graph.values())) > 100
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def public_names_of(path: Path) -> Iterator[str]:
    """What a module defines without a leading underscore, except for type variables and its logger."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            names = {node.name}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            called = node.value.func if isinstance(node.value, ast.Call) else None
            if called and ast.unparse(called) in ("TypeVar", "ParamSpec", "logging.getLogger"):
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def test_no_two_modules_define_the_same_public_name() -> None:
    homes: dict[str, list[str]] = {}
    for path in modules():
        for name in public_names_of(path):
            homes.setdefault(name, []).append(name_of(path))
    assert len(homes) > 100
    assert {name: where for name, where in homes.items() if len(set(where)) > 1} == {}


def imported_by(statement: str) -> set[str]:
    """The modules that are there after a statement in a fresh process."""
    code = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_orchnb_loads_neither_httpx_nor_pydantic() -> None:
    loaded = imported_by("import orchnb; dir(orchnb)")
    assert not loaded & {"httpx", "pydantic", "IPython", "anyio", "jinja2", "orchnb.errors"}


def test_a_client_loads_neither_the_notebook_nor_prefect() -> None:
    loaded = imported_by("import orchnb; orchnb.get_client()")
    assert "httpx" in loaded
    assert not loaded & {"IPython", "ipywidgets", "prefect", "jinja2"}
    # httpcore imports trio wherever it finds it, and httpx up to 0.27 imports httpcore at once.
    assert "httpcore" in loaded or "trio" not in loaded


def test_loading_the_extension_loads_neither_httpx_nor_jinja2() -> None:
    """So that %load_ext returns at once."""
    loaded = imported_by("import orchnb.notebook.extension")
    assert not loaded & {"httpx", "pydantic", "jinja2", "prefect"}


def test_the_choice_of_server_needs_no_shell() -> None:
    assert not imported_by("import orchnb.notebook.session") & {"IPython", "httpx", "pydantic"}


MAY_USE_PRIVATE_NAMES = {
    "orchnb._cpython",
    "orchnb.hosting._uvicorn",
    "orchnb.http._httpx",
    "orchnb.notebook._ipython",
    "orchnb.prefect_server.internals",
}
"""One module per library. `tests/test_internals.py` tests each name in them."""

OTHERS = [path for path in modules() if name_of(path) not in MAY_USE_PRIVATE_NAMES]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in OTHERS}
OURS = set().union(*map(private_names.defined_in, TREES.values()))


@pytest.mark.parametrize("path", OTHERS, ids=name_of)
def test_private_names_of_libraries_are_in_one_module_per_library(path: Path) -> None:
    assert private_names.private_names(TREES[path], OURS) == []


MAY_NAME_PREFECT = {"orchnb.prefect_exceptions"}
"""It names a public module, ``prefect.exceptions``, and does not import it. `tests/test_errors.py` tests
each name."""


@pytest.mark.parametrize(
    "path", [path for path in OTHERS if name_of(path) not in MAY_NAME_PREFECT], ids=name_of
)
def test_only_one_module_names_what_is_in_prefect(path: Path) -> None:
    assert private_names.names_of_prefect(TREES[path]) == []


def test_no_class_overrides_a_private_method_of_a_library() -> None:
    """Except in those modules: a mix-in of theirs may."""
    classes = {
        each
        for path in modules()
        for each in vars(importlib.import_module(name_of(path))).values()
        if inspect.isclass(each) and each.__module__.startswith("orchnb")
    }
    assert [
        f"{ours.__module__}.{ours.__qualname__}.{name}, of {theirs}"
        for each in classes
        for ours in each.__mro__
        if ours.__module__.startswith("orchnb") and ours.__module__ not in MAY_USE_PRIVATE_NAMES
        for name, value in vars(ours).items()
        if private_names.is_private(name) and name != "_abc_impl" and name != "_is_protocol"
        for theirs in each.__mro__
        if not theirs.__module__.startswith("orchnb")
        and name in vars(theirs)
        and (inspect.isfunction(value) or isinstance(value, (property, classmethod)))
    ] == []


@pytest.mark.parametrize(
    "code",
    [
        "request._content = body",
        "getattr(loop, '_ready', None)",
        "super()._init_transport()",
        "handle._context",
        "client._transport",
        "from asyncio import _get_running_loop",
        "import httpx._models",
        "find('h11._events')",
        "folder / 'server/_migrations/sqlite'",
    ],
)
def test_a_private_name_is_noticed(code: str) -> None:
    ours = {"_context", "_transport", "_events"}
    assert len(private_names.private_names(ast.parse(code), ours)) == 1


@pytest.mark.parametrize(
    "code",
    [
        "self._transport = self._context",
        "other._events",
        "value._repr_html_",
        "x.__class__",
        "from orchnb.http import _httpx",
        "import_module('orchnb.http._httpx')",
        "getattr(value, 'name')",
    ],
)
def test_other_names_are_not(code: str) -> None:
    ours = {"_context", "_transport", "_events"}
    assert private_names.private_names(ast.parse(code), ours) == []


@pytest.mark.parametrize(
    "code",
    [
        "import prefect",
        "from prefect.context import root_settings_context",
        "importlib.import_module('prefect')",
        "find_spec('prefect')",
        "sys.modules.get('prefect.context')",
        "NAMES = ('prefect.server.database',)",
    ],
)
def test_a_name_of_prefect_is_noticed(code: str) -> None:
    assert len(private_names.names_of_prefect(ast.parse(code))) >= 1
    assert private_names.names_of_prefect(ast.parse("home / 'prefect.db'; 'prefect.toml'")) == []
