"""The variables that orchnb sets for others: the person's own come back, also those changed since."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from orchnb import get_settings
from orchnb.environment import export, exported, persons_environment

NAME = "PREFECT_API_URL"
OURS, OTHER, PERSONS, NEW = (f"http://127.0.0.1:{n}/api" for n in (1, 2, 3, 4))


@pytest.fixture(autouse=True)
def nothing_is_exported() -> Iterator[None]:
    yield
    export({})


@pytest.mark.parametrize("before", [None, PERSONS])
@pytest.mark.parametrize(
    ("change", "after"),
    [("no change", None), ("set", NEW), ("delete", None)],
)
def test_the_persons_value_comes_back(
    monkeypatch: pytest.MonkeyPatch, before: str | None, change: str, after: str | None
) -> None:
    if before is not None:
        monkeypatch.setenv(NAME, before)
    else:
        monkeypatch.setenv(NAME, "")  # so that it is removed after the test
        monkeypatch.delenv(NAME)
    export({NAME: OURS})
    assert os.environ[NAME] == exported(NAME) == OURS
    assert (persons_environment().get(NAME), get_settings().api_url) == (before, before)
    export({NAME: OTHER})
    assert (os.environ[NAME], persons_environment().get(NAME)) == (OTHER, before)
    if change == "set":
        os.environ[NAME] = NEW
    elif change == "delete":
        del os.environ[NAME]
    after = before if change == "no change" else after
    assert get_settings().api_url == after
    assert (exported(NAME) is None) == (change != "no change")
    export({NAME: OURS})  # as before each cell
    assert (os.environ[NAME], get_settings().api_url) == (OURS, after)
    export({})
    assert os.environ.get(NAME) == after
    assert exported(NAME) is None


def test_a_value_that_is_changed_and_no_longer_ours_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, PERSONS)
    export({NAME: OURS})
    os.environ[NAME] = NEW
    export({})
    assert os.environ[NAME] == NEW
