"""What README, CONTRIBUTING and the site say to type works when it is typed, and what they list is all
there is."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import orchnb
from tests import servers
from tests.commands.test_commands import IN_SMALL
from tests.notebook.kernels import Kernel, kernel
from tests.servers import ROOT
from tools import docs, reference

PAGES = ("README.md", "CONTRIBUTING.md")
SITE = tuple(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md")))

# Pages whose snippets are not for a notebook.
FOR_PYTEST = "docs/how-to/use-in-pytest.md"
SCRIPTS = "docs/how-to/use-in-a-script.md"

# What a snippet takes for granted: the servers, names and deployments of whoever reads it.
BEFORE = """
import os
os.environ["DO_NOT_TRACK"] = "1"

async def app(scope, receive, send):
    "One of the reader's own."
"""
# Deployments, a failed run that can be retried, a worker, and a run whose result is stored.
MEANWHILE = """
import asyncio
for name in ("etl", "train"):
    await client.create_deployment(name, "nightly" if name == "etl" else "gpu")

failed_run = await client.create_flow_run_from_deployment("etl/nightly", parameters={})
await client.set_flow_run_state(failed_run.id, "FAILED", force=True)
failed_run = await client.read_flow_run(failed_run.id)

async def work():
    "As the reader's own worker."
    try:
        while True:
            for waiting in await client.read_flow_runs(state="SCHEDULED"):
                await client.set_flow_run_state(waiting.id, "COMPLETED", force=True)
            await asyncio.sleep(0.2)
    except orchnb.ClientClosed:
        pass

worker = asyncio.create_task(work())

from prefect import flow

@flow(persist_result=True)
def kept():
    return 42

kept()
picked = await client.read_flow_runs(flow_name="kept", limit=1)
kept_run = picked[0]
"""
READERS_OWN = {
    "%orch_watch RUN": "%orch_watch --tag nobodys",
    "NAME": "ephemeral",
    "URL": "http://127.0.0.1:1/api",
    "/any/path": "/hello",
    "read_failed_run(run)": "read_failed_run(failed_run)",
    "read_result(run)": "read_result(kept_run)",
}

# `make commands` runs every command of the two pages. These run for every change as well: by CI itself,
# by the test of a notebook, or here, as they take little time.
BY_CI = {"make check", "make test", "make scale"}
BY_ANOTHER_TEST = {"make demo"}
HERE = {
    "make soak": ["ORCHNB_SOAK_REQUESTS=400", "ORCHNB_SOAK_CYCLES=20"],
    'pip install ".[server]"': ["--dry-run", "--no-index", "--no-build-isolation"],
}
# The others take minutes, and environments of their own: make reads them here, and says what it would do.

# Windows has no make of its own; a person who has none there follows the recipes in the Makefile.
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def text_of(page: str) -> str:
    """The page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE)


def inline(page: str) -> list[str]:
    """What stands between backticks in prose and tables, each once."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return list(dict.fromkeys(re.findall(r"`([^`]+)`", prose)))


MAGICS = "docs/magics.md"
SETTINGS = "docs/settings.md"
TOUR = "docs/tour.md"
BEHAVIOR = "docs/explanation/behavior.md"


def table(page: str) -> list[list[str]]:
    """The rows of the table on that page, each as its cells."""
    lines = text_of(page).splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def commands() -> set[str]:
    """Every command for a terminal: those in blocks, and make's in the prose."""
    found = [code for page in PAGES for code in inline(page) if code.startswith("make ")]
    for page in PAGES:
        for block in blocks(page, "console"):
            found += [line.split("#")[0].strip() for line in block.splitlines()]
    return {command for command in found if command}


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("docs")
    home = servers.prefect_home(folder / "prefect-home")
    with kernel(folder, PREFECT_HOME=str(home), PYTHONPATH=str(ROOT)) as cell:
        assert not cell(BEFORE).errors
        yield cell


def run_as_read(cell: Kernel, source: str) -> str:
    """Run what a page shows, with something for each thing of the reader's own; what went to stderr."""
    for name, own in READERS_OWN.items():
        source = source.replace(name, own)
    shown = cell(source)
    assert not shown.errors, (source, shown.traceback)
    return shown.stderr


def test_the_snippets_in_their_order(cell: Kernel) -> None:
    snippets = blocks("README.md", "python")
    assert len(snippets) == 2
    for number, source in enumerate(snippets):
        assert "UsageError" not in run_as_read(cell, source), source
        if number == 0:
            run_as_read(cell, MEANWHILE)


BEFORE_A_PAGE = f"""
%load_ext orchnb
%orch_server_type auto
client = orchnb.get_client()
{MEANWHILE}
"""


@pytest.mark.parametrize("page", [page for page in SITE if page not in (FOR_PYTEST, SCRIPTS)])
def test_the_snippets_of_a_page_in_their_order(cell: Kernel, page: str) -> None:
    snippets = blocks(page, "python")
    if not snippets:
        return
    run_as_read(cell, BEFORE_A_PAGE)
    for source in snippets:
        assert "UsageError" not in run_as_read(cell, source), source
    run_as_read(cell, "worker.cancel()")


def test_the_tests_of_the_page_about_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_page.py").write_text("\n".join(blocks(FOR_PYTEST, "python")))
    done = python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("number", range(2))
def test_the_scripts_of_the_page_about_scripts(number: int, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(blocks(SCRIPTS, "python")[number])
    done = python(tmp_path, "script.py")
    assert done.returncode == 0, done.stderr
    assert ("COMPLETED" if number == 0 else "failed") in done.stdout.upper() + done.stdout
    assert len(blocks(SCRIPTS, "python")) == 2


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python there, with an empty home."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=servers.clean_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_of_the_site_are_tested() -> None:
    found = {
        line.split("#")[0].strip()
        for page in SITE
        for block in blocks(page, "console")
        for line in block.splitlines()
    }
    assert found == {"orchnb doctor"}  # tests/test_diagnosis.py


def test_the_site_has_only_what_is_tested() -> None:
    for page in SITE:
        languages = set(re.findall(r"^```(\w*)$", text_of(page), re.MULTILINE)) - {""}
        assert languages <= {"python", "console"}, page


def test_the_python_in_the_prose(cell: Kernel) -> None:
    run_as_read(cell, "%load_ext orchnb\nclient = orchnb.get_client()")
    prose = [code for page in ("README.md", TOUR, BEHAVIOR) for code in inline(page)]
    lines = dict.fromkeys(code for code in prose if re.search(r"\b(client|orchnb)\.\w.*\(", code))
    assert len(lines) >= 5
    for line in sorted(lines, key=lambda line: "use_app" in line):
        source = line.replace("(...)", "()")
        run_as_read(cell, f"{source} pass" if source.endswith(":") else source)
    run_as_read(cell, "orchnb.use_app(None)")


def test_every_magic_that_is_shown_is_one(cell: Kernel) -> None:
    is_one = re.compile(r"(\w+ = )?%(load_ext|orch_)")
    shown = [code for page in (MAGICS, "README.md", TOUR, BEHAVIOR) for code in inline(page)]
    lines = dict.fromkeys(code.removesuffix("?") for code in shown if is_one.match(code))
    assert len(lines) > 20
    run_as_read(cell, "%load_ext orchnb")
    for line in lines:
        refused = "UsageError" in run_as_read(cell, line)
        has_none = " cloud" in line or "orch_logs RUN" in line
        assert refused == has_none, (
            f"there is no workspace of a cloud and no such run, which is said: {line}"
        )
        if "orch_server_type server" in line:  # nothing listens at the address of an example
            run_as_read(cell, "%orch_server_type auto")
    run_as_read(cell, "%orch_serve --stop\n%orch_server_type auto")
    run_as_read(cell, "%unload_ext orchnb")


def test_every_magic_that_the_site_names_is_one() -> None:
    from orchnb.notebook.magics import OrchMagics

    named = {name for page in SITE for name in re.findall(r"%(orch_\w+)", text_of(page))}
    assert {"orch_doctor", "orch_serve"} <= named <= set(OrchMagics.magics["line"])


def test_the_table_of_magics_has_every_magic_and_all_that_it_takes() -> None:
    from orchnb.notebook.display_mode import MODES
    from orchnb.notebook.magics import LEVELS, TRACK_WORDS, OrchMagics
    from orchnb.notebook.session import SERVER_KINDS

    taken = {name: options(getattr(OrchMagics, name)) for name in OrchMagics.magics["line"]}
    taken["orch_server_type"].update(SERVER_KINDS)
    taken["orch_display"].update(MODES, ["settings"])
    taken["orch_track"].update(TRACK_WORDS)

    shown: dict[str, set[str]] = {"load_ext": set(), "unload_ext": set()}
    for line, effect in table(MAGICS):
        name, *words = shlex.split(line.strip("`%"))
        valued = with_a_value(getattr(OrchMagics, name, None))
        # The value of an option is the reader's own, as is a name or a time.
        words = [
            word
            for before, word in zip(["", *words], words, strict=False)
            if before not in valued
            and (word.startswith("-") or (word.isalpha() and word.islower()))
        ]
        shown.setdefault(name, set()).update(words)
        if "--level" in line:
            assert re.findall(r"`(\w+)`", effect) == [*LEVELS[1:]]
    assert shown == {"load_ext": {"orchnb"}, "unload_ext": {"orchnb"}, **taken}


def with_a_value(magic: Any) -> set[str]:
    """The options of a magic that take a value."""
    actions = magic.parser._actions if magic is not None else ()
    return {option for action in actions if action.nargs != 0 for option in action.option_strings}


def options(magic: Any) -> set[str]:
    """The options of a magic, as they are typed."""
    return {option for action in magic.parser._actions for option in action.option_strings}


def test_the_table_of_settings_has_every_setting_and_its_default() -> None:
    from orchnb.settings import Settings

    settings = Settings()  # in an empty home
    known = {
        field.json_schema_extra["names"].environment: getattr(settings, name)
        for name, field in Settings.model_fields.items()
        if isinstance(field.json_schema_extra, dict)
    }
    shown = {
        tuple(re.findall(r"`(\w+)`", names)): default.strip("`")
        for names, _, default in table(SETTINGS)
    }
    assert sorted(shown) == sorted(known)
    for names, value in known.items():
        if isinstance(value, (bool, int, float, str, Path)):
            assert shown[names].startswith(as_written(value)), names


def as_written(value: object) -> str:
    """A default as README writes it."""
    if isinstance(value, Path):
        return f"~/{value.relative_to(Path.home()).as_posix()}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_every_variable_that_is_named_is_read() -> None:
    pages = [text_of(page) for page in (*PAGES, *SITE, "Makefile", ".ci/run")]
    named = {name for page in pages for name in re.findall(r"ORCHNB_[A-Z_]+", page)}
    assert {"ORCHNB_DISPLAY", "ORCHNB_SCALE_RUNS"} <= named
    listed = {name for names, *_ in table(SETTINGS) for name in re.findall(r"`(\w+)`", names)}
    read_by = [*(ROOT / "tests/scale").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    code = "".join(path.read_text(encoding="utf-8") for path in read_by)
    for name in named - listed:
        assert f'environ.get("{name}"' in code, name


def test_every_command_is_tested() -> None:
    # Those two have tests of their own there, and it cannot run itself.
    assert {*IN_SMALL, 'pip install ".[server]"', "make lab", "make commands"} == commands()
    assert BY_CI | BY_ANOTHER_TEST | set(HERE) < commands()
    by_ci = text_of(".ci/run")
    assert all(re.search(rf"^(\w.* )?{command}$", by_ci, re.MULTILINE) for command in BY_CI)


@needs_make
@pytest.mark.parametrize("command", sorted(commands() - BY_ANOTHER_TEST - set(HERE)))
def test_make_knows_the_command(command: str) -> None:
    done = started(command, "--dry-run")
    assert done.returncode == 0, done.stderr


# `make wheel` runs the tests beside no package, and these two commands are about the package's folder.
@needs_make
@pytest.mark.skipif(not (ROOT / "orchnb").is_dir(), reason="there is only the installed wheel")
@pytest.mark.parametrize("command", HERE)
def test_the_command_works(command: str) -> None:
    done = started(command, *HERE[command])
    assert done.returncode == 0, done.stdout + done.stderr


def started(command: str, *more: str) -> subprocess.CompletedProcess[str]:
    """What a person types in the repository, with this environment as it is: nothing is installed."""
    program, *arguments = shlex.split(command)
    here = Path(sys.executable).parent
    in_place = {
        "make": ["make", "--old-file=setup", f"BIN={here}"],
        "pip": [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"],
    }
    return subprocess.run(
        [*in_place[program], *arguments, *more],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_address_on_binder_opens_what_binder_is_set_up_to_open() -> None:
    settings = json.loads(text_of("binder/jupyter_config.json"))
    (opened,) = {program["default_url"] for program in settings.values()}
    assert f"?urlpath={opened.removeprefix('/')})" in text_of("README.md")
    assert (ROOT / opened.removeprefix("/lab/tree/")).is_file()


def test_every_file_that_is_linked_is_there() -> None:
    made = {ROOT / "docs" / page for page in made_for_the_site()}
    for page in (*PAGES, *SITE):
        for target in re.findall(r"\]\(([^)#:]+)\)", text_of(page)):
            linked = Path(os.path.normpath(Path(ROOT, page).parent / target))
            assert linked.exists() or linked in made, (page, target)


def made_for_the_site() -> list[str]:
    """The pages that `make docs` makes."""
    notebooks = [f"tutorial/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")]
    return [*notebooks, *reference.pages(), *docs.AT_THE_TOP.values()]


def test_every_page_is_in_the_navigation() -> None:
    found = re.findall(r"^ +- (\S+\.md)$", text_of("mkdocs.yml"), re.MULTILINE)
    assert sorted(found) == sorted(
        [*made_for_the_site(), *(page.removeprefix("docs/") for page in SITE)]
    )


def test_the_reference_is_complete() -> None:
    from orchnb.settings import Settings

    pages = reference.pages()
    headings = {path: re.findall(r"^##+ (.+)$", text, re.MULTILINE) for path, text in pages.items()}
    errors = [name for name in orchnb.__all__ if is_error(name)]
    assert set(errors) <= {*headings["reference/errors.md"]}
    clients = {"PrefectClient", "SyncPrefectClient"}
    others = {*orchnb.__all__} - {*errors} - clients
    assert others <= {*headings["reference/names.md"]}
    operations = {
        name
        for name in dir(orchnb.PrefectClient)
        if not name.startswith("_") and callable(getattr(orchnb.PrefectClient, name))
    }
    assert operations | clients <= {*headings["reference/client.md"]}
    rows = re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", pages["reference/settings.md"], re.MULTILINE)
    assert {name for name, _ in rows} == {*Settings.model_fields} - {"origins"}
    assert [name for name, meaning in rows if not meaning] == []
    assert "0x" not in "".join(pages.values()), "an address in memory"
    assert str(Path.home()) not in "".join(pages.values())


def is_error(name: str) -> bool:
    value = getattr(orchnb, name)
    return isinstance(value, type) and issubclass(value, Exception)


def test_every_test_that_the_support_table_names_is_there() -> None:
    rows = [line for line in text_of("docs/support.md").splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 10
    for row in rows:
        files = re.findall(r"`((?:tests|\.ci|\.github)/[\w./-]*)`", row)
        made = re.findall(r"`(make [\w-]+)", row)
        assert files or made or "no test: " in row, row
        assert all((ROOT / name).exists() for name in files), row
        assert all(command in text_of("Makefile") for command in made), row
