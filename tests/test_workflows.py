"""The files for GitHub, as far as they can be checked without it: they call make with what it knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))

OTHER_COMMANDS = (
    "bash .ci/run",
    "git config --global --add safe.directory",
    'test -f "dist/orchnb-${GITHUB_REF_NAME#v}-py3-none-any.whl"',
)

by_name = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in read(path)["jobs"].values() for step in job["steps"]]


def test_there_is_a_workflow_for_each_purpose() -> None:
    assert [path.stem for path in WORKFLOWS] == ["ci", "docs", "release", "weekly"]


@by_name
def test_it_runs_what_make_knows(path: Path) -> None:
    targets = re.findall(
        r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    for command in (step["run"] for step in steps(path) if "run" in step):
        made = re.match(r"make ([\w-]+)", command)
        assert command.startswith(OTHER_COMMANDS) or (made and made[1] in targets), command


@by_name
def test_a_job_ends_and_may_do_no_more_than_it_needs(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 60
        writes = {name for name, kind in job.get("permissions", {}).items() if kind == "write"}
        assert writes <= {"id-token", "pages"}
        assert not writes or not any("run" in step for step in job["steps"])
    assert "secrets." not in path.read_text(encoding="utf-8")


@by_name
def test_actions_have_a_version(path: Path) -> None:
    for action in (step["uses"] for step in steps(path) if "uses" in step):
        assert re.fullmatch(r"[\w./-]+@(v\d+|release/v\d+)", action)


def test_every_python_that_the_package_admits_is_tested() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    admitted = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', text)
    job = read(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]
    assert job["strategy"]["matrix"]["python"] == admitted
    systems = {entry["os"] for entry in job["strategy"]["matrix"]["include"]}
    assert systems == {"macos-latest", "windows-latest"}


def test_pre_commit_runs_what_make_check_does() -> None:
    hooks = [
        hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]
    ]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook in hooks:
        command = re.sub(r"^python (-m )?| --force-exclude", "", hook["entry"])
        assert re.search(rf"^\t\$\(BIN\)/(python )?{re.escape(command)}", makefile, re.MULTILINE)


def test_the_form_for_problems_asks_for_the_doctor() -> None:
    form = read(ROOT / ".github/ISSUE_TEMPLATE/bug.yml")
    (doctor,) = (part for part in form["body"] if part.get("id") == "doctor")
    assert "%orch_doctor" in doctor["attributes"]["label"]
    assert doctor["validations"]["required"]
