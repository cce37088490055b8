"""A call with wrong arguments says what the signature is, with an example, on both clients."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from orchnb import PrefectClient, SyncPrefectClient
from orchnb.api.methods import operation
from orchnb.api.operations import Operations

URL = "http://orch.invalid/api"
SECRET = "s3cret"

CALLS: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "too many": (
        lambda client: client.create_variable("a", SECRET),
        [
            "create_variable(): too many positional arguments.",
            "The signature is create_variable(variable=None, *, name=None, value=None, tags=None).",
            'For example: create_variable("threshold", value=0.5)',
        ],
    ),
    "unknown keyword": (
        lambda client: client.create_variable("a", vlaue=SECRET),
        ["unexpected keyword argument 'vlaue'", "Did you mean 'value'?", "For example:"],
    ),
    "missing": (
        lambda client: client.read_flow_run(),
        ["missing a required argument: 'flow_run_id'", "For example: read_flow_run(flow_run_id)"],
    ),
    "keyword of a query": (
        lambda client: client.read_flow_runs(limt=SECRET),
        ["'limt'", "Did you mean 'limit'?", "The signature is read_flow_runs(*, "],
    ),
    "second of one": (
        lambda client: client.bulk_delete_flow_runs({}, SECRET),
        ["too many positional", "For example: bulk_delete_flow_runs(flow_run_filter, limit=...)"],
    ),
}


def error_of(kind: str, call: Callable[[Any], Any]) -> TypeError:
    client = (PrefectClient if kind == "async" else SyncPrefectClient)(URL)

    async def called() -> None:
        await call(client)

    with pytest.raises(TypeError) as caught:
        asyncio.run(called()) if kind == "async" else call(client)
    return caught.value


@pytest.mark.parametrize(("call", "words"), CALLS.values(), ids=CALLS)
def test_a_wrong_call(kind: str, call: Callable[[Any], Any], words: list[str]) -> None:
    error = error_of(kind, call)
    for part in words:
        assert part in str(error)
    assert SECRET not in str(error)
    assert error.__context__ is None or SECRET not in repr(error.__context__)


def test_an_iterator(kind: str) -> None:
    if kind == "sync":
        with pytest.raises(TypeError, match=r"Did you mean 'since'\?"):
            list(SyncPrefectClient(URL).iter_flow_runs(sinc="1h"))  # type: ignore[call-arg] # wrong

        return

    async def rows() -> None:
        async for _ in PrefectClient(URL).iter_flow_runs(sinc="1h"):  # type: ignore[call-arg] # wrong
            pass

    with pytest.raises(TypeError, match=r"Did you mean 'since'\?"):
        asyncio.run(rows())


def test_an_error_of_the_operation_itself_stays_as_it_is(kind: str) -> None:
    error = error_of(kind, lambda client: client.create_flow("f", tags="one"))
    assert str(error) == "tags should be a list of strings: ['one']"


@pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name in dir(Operations)
        if isinstance(inspect.getattr_static(Operations, name), operation)
    ),
)
def test_every_operation_explains_itself(name: str) -> None:
    with pytest.raises(TypeError) as caught:
        getattr(SyncPrefectClient(URL), name)(no_such_argument=1)
    assert f"The signature is {name}(" in str(caught.value)
    assert f"For example: {name}(" in str(caught.value)
