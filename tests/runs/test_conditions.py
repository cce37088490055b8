"""Conditions on parameters: what holds, and what is refused without being evaluated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchnb.runs.conditions import read_condition

RUN = {
    "customer": "acme",
    "lr": 0.1,
    "epochs": 20,
    "tags": ["a", "b"],
    "config": {"depth": 3, "name": "wide", "keys": "mine"},
    "nothing": None,
    "on": True,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("customer == 'acme'", True),
        ("customer != 'acme'", False),
        ("'acme' == customer", True),
        ("lr > 0.05", True),
        ("0.05 < lr <= 0.1", True),
        ("lr < -1", False),
        ("lr > -1.5", True),
        ("customer in ('acme', 'initech')", True),
        ("customer not in ['acme']", False),
        ("customer in {'acme'}", True),
        ("'a' in tags", True),
        ("'c' in tags", False),
        ("'cm' in customer", True),
        ("nothing is None", True),
        ("customer is not None", True),
        ("on", True),
        ("not on", False),
        ("nothing", False),
        ("lr > 1 or epochs == 20", True),
        ("lr > 1 and epochs == 20", False),
        ("not (lr > 1 and epochs == 20)", True),
        ("not lr > 1 and not epochs == 21", True),
        ("config.depth == 3", True),
        ("config['depth'] == 3", True),
        ("config.keys == 'mine'", True),
        ("tags[0] == 'a'", True),
        ("tags[7] == 'a'", False),
        # What a run does not have, or cannot be compared, does not hold; its negation does.
        ("region == 'eu'", False),
        ("not region == 'eu'", True),
        ("region != 'eu'", False),
        ("customer > 3", False),
        ("3 in epochs", False),
        ("config.width == 3", False),
        ("customer.upper == 1", False),
        ("config.__class__ == 1", False),
        ("epochs.real == 20", False),
    ],
)
def test_a_condition_holds(text: str, holds: bool) -> None:
    assert read_condition(text).holds(RUN) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "customer =",
        "customer = 'acme'",
        "customer == 'acme'; import os",
        "import os",
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "customer.upper() == 'ACME'",
        "[x for x in tags]",
        "lambda: 1",
        "f'{customer}' == 'acme'",
        "lr ** 99999999 > 1",
        "9 ** 9 ** 9",
        "lr + 1 > 1",
        "-lr > 1",
        "(x := 3)",
        "a if b else c",
        "tags[0:1]",
        "tags[epochs]",
        "tags[-1] == 'b'",
        "{'a': 1}",
        "b'x' == customer",
        "1j == lr",
        "...",
        "await customer",
        "yield 1",
        "*tags",
        "customer == 'acme'\x00",
        "(" * 5_000 + "lr" + ")" * 5_000,
        "x" * 3_000,
        "not " * 250 + "lr",  # too long
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="condition") as caught:
        read_condition(text)
    assert len(str(caught.value)) < 600


def test_a_condition_may_be_as_deep_as_its_length_allows() -> None:
    assert read_condition("not " * 248 + "lr").holds(RUN) is True


def test_the_names_that_a_condition_looks_at_are_known() -> None:
    condition = read_condition("lr > 1 and config.depth in (1, 2) or not customer")
    assert condition.names == {"lr", "config", "customer"}


@given(st.text(alphabet="abc lr.()[]'=<>!,andornotin01-_:*{}", max_size=40))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        condition = read_condition(text)
    except ValueError:
        return
    assert condition.holds(RUN) in (True, False)


@given(
    st.dictionaries(
        st.sampled_from(["lr", "customer"]),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=3),
            lambda values: (
                st.lists(values, max_size=2)
                | st.dictionaries(st.text(max_size=2), values, max_size=2)
            ),
        ),
    )
)
def test_a_condition_holds_or_not_for_any_parameters(parameters: dict[str, Any]) -> None:
    for text in ("lr > 1", "customer == 'x'", "lr in (1, 2)", "1 in lr", "lr.x[0] == customer"):
        assert read_condition(text).holds(parameters) in (True, False)
