"""The interpreter's switch interval is shorter while something computes, and then as it was."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from orchnb import get_client
from orchnb.runtime.switch_interval import giving_way


@pytest.fixture(autouse=True)
def usual() -> Iterator[float]:
    """The interval that the process has, whatever a test sets."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield sys.getswitchinterval()
    sys.setswitchinterval(before)


def test_it_is_shorter_until_the_last_has_done(usual: float) -> None:
    first, second = giving_way(), giving_way()
    first.__enter__()
    second.__enter__()
    assert sys.getswitchinterval() < usual / 10
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() < usual / 10
    second.__exit__(None, None, None)
    assert sys.getswitchinterval() == usual


def test_it_is_as_before_after_an_error(usual: float) -> None:
    with pytest.raises(LookupError), giving_way():
        raise LookupError
    assert sys.getswitchinterval() == usual


def test_a_shorter_one_stays() -> None:
    sys.setswitchinterval(0.00001)
    with giving_way():
        assert sys.getswitchinterval() == pytest.approx(0.00001)
    assert sys.getswitchinterval() == pytest.approx(0.00001)


def test_who_sets_another_one_meanwhile_means_it() -> None:
    with giving_way():
        sys.setswitchinterval(0.02)
    assert sys.getswitchinterval() == pytest.approx(0.02)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_has_the_usual_one(usual: float) -> None:
    with giving_way():
        child = os.fork()
        if child == 0:
            os._exit(sys.getswitchinterval() != usual)
        assert os.waitpid(child, 0)[1] == 0
        assert sys.getswitchinterval() < usual


def test_a_start_of_the_server_gives_way(usual: float, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        seen.append(sys.getswitchinterval())
        raise RuntimeError("it has no lifespan, and answers nothing")

    monkeypatch.setattr("orchnb.hosting.ephemeral.find_app", lambda spec: lambda: app)
    monkeypatch.setenv("ORCHNB_EPHEMERAL_APP", "mine:app")
    with get_client(sync_client=True):
        assert seen[0] < usual / 10
        assert sys.getswitchinterval() == usual
