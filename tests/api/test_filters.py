"""Plain keywords become the API's filter objects."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest

from orchnb.api.operations.filters import named_words, run_words, with_words


def said(words: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in words.items() if value is not None}


@pytest.mark.parametrize("state", ["failed", "FAILED", ["Failed"], ("FAILED",)])
def test_state_types(state: Any) -> None:
    assert said(run_words({"state": state})) == {"state": {"type": {"any_": ["FAILED"]}}}


def test_state_names() -> None:
    words = said(run_words({"state": ["Late", "AwaitingRetry"]}))
    assert words == {"state": {"name": {"any_": ["Late", "AwaitingRetry"]}}}


@pytest.mark.parametrize(
    ("given", "name"),
    [("late", "Late"), ("AWAITINGRETRY", "AwaitingRetry"), ("Queued", "Queued"), ("", "")],
)
def test_state_names_in_capitals_or_not(given: str, name: str) -> None:
    assert said(run_words({"state": given})) == {"state": {"name": {"any_": [name]}}}


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("FAILD", "'Failed'"),
        ("Cancel", "'Cancelled'"),
        (["Late", "AwaitngRetry"], "'AwaitingRetry'"),
        (["FAILED", "COMPLTED"], "'Completed'"),
    ],
)
def test_a_state_that_is_nearly_one_of_prefects_is_refused(given: Any, meant: str) -> None:
    with pytest.raises(
        ValueError, match=f"not one of Prefect's states, but is close to one. Did you mean {meant}"
    ):
        run_words({"state": given})


def test_types_and_names_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"types \(FAILED\) and names \(Late\)"):
        run_words({"state": ["FAILED", "Late"]})


def test_times_names_and_tags() -> None:
    day = datetime(2026, 11, 1, tzinfo=timezone.utc)
    words = run_words({"since": day, "name_like": "etl", "tags": ["a", "b"]})
    assert said(words) == {
        "expected_start_time": {"after_": day},
        "name": {"like_": "etl"},
        "tags": {"all_": ["a", "b"]},
    }


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="since is later than until"):
        run_words({"since": "1h", "until": "2h"})


def test_one_text_is_not_taken_for_many_tags() -> None:
    with pytest.raises(TypeError, match="list of strings"):
        named_words({"tags": "etl"})


def test_words_join_a_filter_object() -> None:
    given = {"id": {"any_": ["x"]}}
    assert with_words(given, "flow_run_filter", {"name": {"like_": "e"}, "tags": None}) == {
        "id": {"any_": ["x"]},
        "name": {"like_": "e"},
    }
    assert with_words(given, "flow_run_filter", {"name": None}) is given
    assert with_words(None, "flow_run_filter", {"name": None}) is None


def test_words_join_prefects_own_filter_models() -> None:
    filters = pytest.importorskip("prefect.client.schemas.filters")
    model = filters.FlowRunFilter(name={"any_": ["x"]})
    joined = with_words(model, "flow_run_filter", {"tags": {"all_": ["a"]}})
    assert isinstance(joined, dict)
    assert joined["name"] == {"any_": ["x"]}
    assert joined["tags"] == {"all_": ["a"]}


def test_the_same_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="name is given twice"):
        with_words({"name": {"any_": ["x"]}}, "flow_run_filter", {"name": {"like_": "e"}})
