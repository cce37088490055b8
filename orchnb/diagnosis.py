"""Describe an installation for a bug report: versions, settings and their sources, the server's answer,
and what is known not to work in this combination. It contains no secrets."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from orchnb._version import __version__
from orchnb.api.status import server_status
from orchnb.errors import InvalidSetting
from orchnb.prefect_server.internals import server_packages
from orchnb.redaction import MASK, redact_url
from orchnb.server_type import ServerType, determine_server_type
from orchnb.settings import Settings, get_settings
from orchnb.text import one_line

_PACKAGES = (
    *("prefect", "fastapi", "starlette", "uvicorn", "sqlalchemy", "pydantic", "pydantic-settings"),
    *(
        "httpx",
        "httpcore",
        "h2",
        "anyio",
        "ipython",
        "ipykernel",
        "ipywidgets",
        "traitlets",
        "tornado",
    ),
    *("jupyterlab", "notebook", "jupyter-server", "jupyter-server-proxy", "nbclient", "papermill"),
    *("marimo", "voila", "nest-asyncio", "nest-asyncio2", "uvloop"),
)
"""The packages whose versions matter."""

# Who sets the variable, and the variable. Only the names are shown.
_SURROUNDINGS = {
    "VS Code": ("VSCODE_PID", "VSCODE_CWD"),
    "PyCharm": ("PYCHARM_HOSTED",),
    "Spyder": ("SPYDER_PID", "SPY_PYTHONPATH"),
    "Google Colab": ("COLAB_RELEASE_TAG",),
    "Databricks": ("DATABRICKS_RUNTIME_VERSION",),
    "Kaggle": ("KAGGLE_KERNEL_RUN_TYPE",),
    "Binder": ("BINDER_SERVICE_HOST",),
    "JupyterHub": ("JUPYTERHUB_SERVICE_PREFIX",),
    "a Jupyter server": ("JPY_SESSION_NAME", "JPY_PARENT_PID"),
}

_OUTSIDE = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)
"""Variables of other programs that change how requests are sent."""


@dataclass(frozen=True)
class Surroundings:
    """What only the code in a notebook knows."""

    shell_class: str
    is_kernel: bool
    hears_buttons: bool
    """Whether the kernel handles a button while a cell waits."""
    display: str
    """The display mode, and what decided it."""

    def __str__(self) -> str:
        kind = "a kernel" if self.is_kernel else "a terminal"
        buttons = "buttons work while a cell waits" if self.hears_buttons else "no buttons"
        return f"{self.shell_class}, {kind}; {buttons}; display {self.display}"


@dataclass(frozen=True)
class Facts:
    """What decides whether something is known not to work."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """The installed packages."""
    loaded: Mapping[str, str] = field(default_factory=dict)
    """The packages that are imported, with the versions that they give themselves."""
    required: Sequence[str] = ()
    """What orchnb requires, as its metadata says."""
    server_type: ServerType | None = None
    runs_prefect: bool = True
    """Whether the in-kernel server is Prefect's."""
    notebook: Surroundings | None = None
    platform: str = sys.platform
    python: tuple[int, ...] = (3, 13)

    def is_at_least(self, package: str, version: str) -> bool:
        """Return whether a package is installed in that version or a later one."""
        return package in self.versions and _release(self.versions[package]) >= _release(version)

    def is_series(self, package: str, version: str) -> bool:
        """Return whether a package is installed in a version that begins so."""
        numbers = _release(version)
        return _release(self.versions.get(package, ""))[: len(numbers)] == numbers


@dataclass(frozen=True)
class Diagnosis:
    """The description; its text can be pasted into a report."""

    rows: Sequence[tuple[str, str]]
    problems: Sequence[str]
    """What is known not to work in this combination, each with what to do."""

    def __str__(self) -> str:
        width = max(len(label) for label, _ in self.rows)
        lines = [f"{label.ljust(width)}  {words}".rstrip() for label, words in self.rows]
        lines += ["", "Known not to work in this combination:" if self.problems else _NO_PROBLEM]
        return "\n".join([*lines, *(f"- {problem}" for problem in self.problems)])

    __repr__ = __str__


_NO_PROBLEM = "Nothing in this combination is known not to work."


def diagnose(notebook: Surroundings | None = None) -> Diagnosis:
    """Return a description of this installation. The server is asked for its state once, for at most
    three seconds; an in-kernel server is not started."""
    versions = dict(_installed(_PACKAGES))
    rows = [
        ("orchnb", __version__),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("Platform", platform.platform()),
        ("Packages", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Notebook", str(notebook or "none: run %orch_doctor in the notebook to include it")),
        ("Signs of", _named(os.environ, _SURROUNDINGS) or "no known front end"),
    ]
    if variables := ", ".join(name for name in _OUTSIDE if _is_set(name)):
        rows.append(("Variables set", variables))
    kind, runs_prefect = None, True
    try:
        settings = get_settings()
        kind, runs_prefect = determine_server_type(settings), not settings.ephemeral_app
        rows += [("Server", str(server_status(settings))), *_setting_rows(settings)]
    except InvalidSetting as exc:
        rows.append(("Settings", f"invalid: {exc}"))
    facts = Facts(
        versions=dict(_installed([*versions, "orchnb", *map(_name_of, _required())])),
        loaded=dict(_loaded(versions)),
        required=_required(),
        server_type=kind,
        runs_prefect=runs_prefect,
        notebook=notebook,
        python=tuple(sys.version_info[:3]),
    )
    return Diagnosis([(label, _shown(words)) for label, words in rows], known_problems(facts))


def _setting_rows(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield a row for each setting that is not the default."""
    label = "Settings"
    for name in type(settings).model_fields:
        origin = settings.source(name)
        if name == "origins" or origin.place == "default":
            continue
        yield label, f"{name} = {_value(getattr(settings, name))}, from {origin}"
        label = ""
    if label:
        yield label, "all are defaults"


def _value(value: Any) -> str:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_value(each)}" for name, each in value.items()) + "}"
    if isinstance(value, str) and "//" in value:
        return redact_url(value)
    return str(sorted(value) if isinstance(value, frozenset) else value)


def _shown(words: str) -> str:
    """Return words on one line, without control characters and the name of the user's folder."""
    line = one_line(words, 2000)
    try:
        home = str(Path.home())
    except RuntimeError:  # it is unknown
        return line
    return line.replace(home, "~") if len(home) > 1 else line


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(name.lower()))


def _named(environment: Mapping[str, str], signs: Mapping[str, Sequence[str]]) -> str:
    found = {who: [name for name in names if name in environment] for who, names in signs.items()}
    return ", ".join(f"{who} ({', '.join(names)})" for who, names in found.items() if names)


def _installed(packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _loaded(packages: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the packages that are imported. IPython is the only one whose module has another name."""
    for name in packages:
        module = sys.modules.get("IPython" if name == "ipython" else name.replace("-", "_"))
        if module is not None:
            yield name, str(getattr(module, "__version__", ""))


def _required() -> Sequence[str]:
    try:
        return metadata.requires("orchnb") or []
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        return []


# What is known not to work.


def known_problems(facts: Facts) -> list[str]:
    """Return what is known not to work in a combination, each with what to do."""
    found = [*_unmet(facts), *_outdated(facts)]
    return found + [words() for words, applies in _KNOWN if applies(facts)]


def _no_server(facts: Facts) -> bool:
    return (
        facts.server_type is ServerType.EPHEMERAL
        and facts.runs_prefect
        and "prefect" not in facts.versions
    )


_KNOWN: tuple[tuple[Callable[[], str], Callable[[Facts], bool]], ...] = (
    (
        lambda: (
            "The settings select the in-kernel server, but Prefect is not installed: pip install "
            f"{server_packages()}, or set PREFECT_API_URL."
        ),
        _no_server,
    ),
    (
        lambda: (
            "prefect 3.6 with fastapi 0.150 or newer: `prefect server start` responds 500. Install "
            '"fastapi<0.131".'
        ),
        lambda facts: facts.is_series("prefect", "3.6") and facts.is_at_least("fastapi", "0.150"),
    ),
    (
        lambda: (
            "prefect 3.6 with pydantic-settings 2.13 or newer: Prefect itself reads no .env, so its "
            'commands may use another server than orchnb. Install "pydantic-settings<2.13".'
        ),
        lambda facts: (
            facts.is_series("prefect", "3.6") and facts.is_at_least("pydantic-settings", "2.13")
        ),
    ),
    (
        lambda: (
            "nest_asyncio is imported in ipykernel 7: after a nested wait the kernel loses cells that "
            "are queued. Use nest-asyncio2, or orchnb.run, which needs neither."
        ),
        lambda facts: "nest-asyncio" in facts.loaded and facts.is_at_least("ipykernel", "7"),
    ),
    (
        lambda: "ipykernel 7.0 to 7.3 can stop responding. Install 7.4 or newer, or 6.",
        lambda facts: (
            facts.is_at_least("ipykernel", "7") and not facts.is_at_least("ipykernel", "7.4")
        ),
    ),
    (
        lambda: (
            "Python 3.12.0 and 3.12.1 cannot start threads at exit: an app of yours that needs one for "
            "its shutdown is not shut down cleanly."
        ),
        lambda facts: (3, 12, 0) <= facts.python < (3, 12, 2),
    ),
    (
        lambda: (
            "This kernel handles no buttons while a cell waits, so none are shown: interrupt the cell "
            "to end a wait, or install ipykernel 7."
        ),
        lambda facts: bool(
            facts.notebook and facts.notebook.is_kernel and not facts.notebook.hears_buttons
        ),
    ),
    (
        lambda: (
            "A terminal cannot replace what it has shown: each change of a live display is a new line."
        ),
        lambda facts: facts.notebook is not None and not facts.notebook.is_kernel,
    ),
    (
        lambda: (
            "Pyodide has no threads and no sockets: there is no in-kernel server, no sync client, and "
            "no orchnb.run."
        ),
        lambda facts: facts.platform == "emscripten",
    ),
)


def _unmet(facts: Facts) -> Iterator[str]:
    """Yield the requirements of orchnb that an installed package does not meet."""
    for requirement in facts.required:
        words, _, marker = requirement.partition(";")
        name = _name_of(words)
        if name not in facts.versions or ("extra" in marker and "server" not in marker):
            continue
        version = facts.versions[name]
        if not all(_meets(version, *bound) for bound in _BOUND.findall(words)):
            yield (
                f"{name} {version} is installed, but orchnb requires {words.strip()}: pip install "
                f'"{words.strip()}".'
            )


def _outdated(facts: Facts) -> Iterator[str]:
    """Yield the packages that were replaced after they were imported."""
    for name, version in facts.loaded.items():
        installed = facts.versions.get(name)
        if version and installed and _release(version) != _release(installed):
            yield (
                f"{name} {version} is imported, but {installed} is installed: restart the kernel."
            )


_BOUND = re.compile(r"(>=|<=|==|!=|<|>)\s*([\w.]+)")


def _meets(version: str, sign: str, bound: str) -> bool:
    """Return whether a version meets a bound; only the numbers of a release are compared."""
    ours, theirs = _release(version), _release(bound)
    return {
        ">=": ours >= theirs,
        "<=": ours <= theirs,
        "==": ours == theirs,
        "!=": ours != theirs,
        "<": ours < theirs,
        ">": ours > theirs,
    }[sign]


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers of a version without zeros at the end: 3.8.0rc1 is (3, 8)."""
    match = re.match(r"\d+(\.\d+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _name_of(requirement: str) -> str:
    match = re.match(r"\s*([\w.-]+)", requirement)
    return re.sub(r"[-_.]+", "-", match[1]).lower() if match else ""
