"""What README and CONTRIBUTING say to type works when it is typed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.notebook.kernels import Kernel, kernel
from tests.servers import ROOT

PAGES = ("README.md", "CONTRIBUTING.md")

# What a snippet takes for granted: the servers, names and deployments of whoever reads it.
BEFORE = """
import os
os.environ["DO_NOT_TRACK"] = "1"
"""
MEANWHILE = """
await client.create_deployment("etl", "nightly")
"""


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of that language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def magic_lines() -> list[str]:
    """Every line with a magic that README shows in its tables and in its prose."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"`(%(?:load_ext|orch_\w+)[^`]*)`", text)
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("docs")
    home = servers.prefect_home(folder / "prefect-home")
    with kernel(folder, PREFECT_HOME=str(home), PYTHONPATH=str(ROOT)) as cell:
        cell(BEFORE)
        yield cell


def test_the_snippets_in_their_order(cell: Kernel) -> None:
    snippets = blocks("README.md", "python")
    assert len(snippets) >= 4
    for number, source in enumerate(snippets):
        shown = cell(source)
        assert not shown.errors, (source, shown.traceback)
        assert "UsageError" not in shown.stderr, (source, shown.stderr)
        if number == 0:
            assert not cell(MEANWHILE).errors


def test_every_magic_that_is_shown_is_one(cell: Kernel) -> None:
    lines = magic_lines()
    assert len(lines) > 10
    cell("%load_ext orchnb")
    for line in lines:
        shown = cell(line.replace("NAME", "ephemeral").replace("URL", "http://127.0.0.1:1/api"))
        assert not shown.errors, (line, shown.traceback)
        # There is no workspace of a cloud here, which is said; nothing else is refused.
        refused = "" if "cloud" in line else "UsageError"
        assert not refused or refused not in shown.stderr, (line, shown.stderr)
    cell("%orch_serve --stop\n%orch_server_type auto")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_shown_is_there(page: str) -> None:
    """The suite is run by them, so what they do is tested; here, that each is one."""
    commands = [
        line.split("#")[0].strip()
        for block in blocks(page, "console")
        for line in block.splitlines()
    ]
    commands = [command for command in commands if command]
    assert commands
    for command in commands:
        if command.startswith("make "):
            done = subprocess.run(
                ["make", "--dry-run", *command.split()[1:]],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        else:
            assert command.startswith(("pip install ", "git ", "cd ")), command


def test_every_setting_is_in_the_table() -> None:
    from orchnb.settings import Settings

    table = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and name not in ("profiles_path", "cloud_api_url"):
            names = extra["names"].environment  # type: ignore[attr-defined, union-attr]
            assert any(f"`{each}`" in table for each in names), name


def test_every_file_that_is_linked_is_there() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert Path(ROOT, target).exists(), (page, target)
