"""No answer of a server can hurt: each ends in an error of ours or httpx's, soon and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.security.attacks import CALLS, LARGE, SMALL
from tests.servers import ROOT, clean_environment

HARMLESS = {
    # what says nothing of its form may be anything that is JSON: hello, request, and a status that is up
    *(("hello", attack) for attack in SMALL),
    *(("request", attack) for attack in SMALL),
    *(("status", attack) for attack in SMALL),
    ("count", "a number"),
    ("count", "many cookies"),
    ("version", "a text"),
    ("create", "a name of escapes"),
}


class Outcome(NamedTuple):
    attack: str
    call: str
    ended_in: str
    seconds: float
    growth: float


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    home = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [sys.executable, "-m", "tests.security.attacks"],
        env=clean_environment(home, XDG_CACHE_HOME=str(home)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return [Outcome(*json.loads(line)) for line in done.stdout.splitlines()]


def test_every_attack_was_tried_on_every_call(outcomes: list[Outcome]) -> None:
    made: dict[str, set[str]] = {attack: set() for attack in (*SMALL, *LARGE)}
    for outcome in outcomes:
        made[outcome.attack].add(outcome.call.removesuffix(", async"))
    assert all(made[attack] == {*CALLS, "token", "operations", "status"} for attack in SMALL)
    assert all(made[attack] < {"list", "request"} for attack in LARGE)
    assert len(SMALL) + len(LARGE) > 60


def test_each_ends_in_an_error_of_ours_or_httpxs(outcomes: list[Outcome]) -> None:
    assert [outcome for outcome in outcomes if outcome.ended_in.startswith("!")] == []
    results = {
        (outcome.call.removesuffix(", async"), outcome.attack)
        for outcome in outcomes
        if outcome.ended_in == "result"
    }
    assert results <= HARMLESS


def test_each_ends_soon(outcomes: list[Outcome]) -> None:
    """The limit is for a machine that is busy; on a quiet one the slowest takes about a second."""
    slow = [outcome for outcome in outcomes if outcome.seconds > 20]
    assert slow == []
    assert sum(outcome.seconds for outcome in outcomes) / len(outcomes) < 0.5


def test_memory_stays_small(outcomes: list[Outcome]) -> None:
    assert sum(outcome.growth for outcome in outcomes) < 300
    assert sum(outcome.growth for outcome in outcomes if outcome.attack in SMALL) < 100
