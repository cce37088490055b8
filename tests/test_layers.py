"""The folders are floors: a file imports from its own floor and the floors above, never from below."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import orchnb

PACKAGE = Path(orchnb.__file__).parent

FLOORS = {
    "asgi": 0,
    "concealed": 0,
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
    "http": 2,
    "runtime": 3,
    "prefect_server": 4,
    "hosting": 5,
    "openapi": 6,
    "api": 7,
    "notebook": 8,
}

# The ground that the floors stand on: the front door's version, and the protocol it may name.
FRONT_DOOR = {"orchnb"}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def floor_of(name: str) -> int:
    """The floor of ``orchnb.http.retry`` is that of ``http``."""
    return FLOORS[name.split(".")[1]]


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
        if not imported.startswith("orchnb.") or imported == "orchnb.__version__":
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
