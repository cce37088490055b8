"""Both clients have the same operations, and tools can see what they take and give."""

from __future__ import annotations

import inspect
import io
import pydoc
import sys
import typing
import uuid
from typing import Any, get_args

import pytest
from packaging.version import Version

from orchnb import PrefectClient, SyncPrefectClient
from orchnb.api.methods import operation
from orchnb.api.models import Flow, ModelList
from orchnb.api.operations import Operations
from orchnb.api.pagination import iteration
from tests.api import both
from tests.api.fakes import tiny_api

OPERATIONS = sorted(
    name
    for name in dir(Operations)
    if isinstance(inspect.getattr_static(Operations, name), operation)
)
every_operation = pytest.mark.parametrize("name", OPERATIONS)

EXPECTED = """
    hello api_healthcheck api_version create_flow_from_name read_flow read_flows read_flow_by_name
    create_flow_run read_flow_run read_flow_runs set_flow_run_state delete_flow_run
"""


def test_the_operations_of_the_main_job_are_there() -> None:
    assert set(EXPECTED.split()) <= set(OPERATIONS)


@every_operation
def test_async_and_sync_say_the_same(name: str) -> None:
    on_async, on_sync = getattr(PrefectClient, name), getattr(SyncPrefectClient, name)
    assert inspect.signature(on_async) == inspect.signature(on_sync)
    assert on_async.__doc__ == on_sync.__doc__
    assert on_async.__name__ == on_sync.__name__ == name
    assert inspect.iscoroutinefunction(on_async)
    assert not inspect.iscoroutinefunction(on_sync)


@every_operation
def test_every_operation_has_a_docstring_of_a_sentence(name: str) -> None:
    doc = inspect.getdoc(getattr(PrefectClient, name))
    assert doc
    assert len(doc.splitlines()[0]) > 10


@every_operation
def test_hints_can_be_resolved_and_are_of_results(name: str) -> None:
    method = getattr(PrefectClient(tiny_api), name)
    hints = typing.get_type_hints(method)
    assert set(hints) == {*inspect.signature(method).parameters, "return"}
    assert "Call" not in str(hints["return"])
    assert "Generator" not in str(hints["return"])
    signature = inspect.signature(method)
    for parameter in signature.parameters.values():
        assert parameter.annotation == hints[parameter.name]
    assert signature.return_annotation == hints["return"]


def test_a_signature_reads_as_it_was_written() -> None:
    for client in (PrefectClient(tiny_api), SyncPrefectClient(tiny_api)):
        assert str(inspect.signature(client.read_flow)) == (
            "(flow_id: uuid.UUID | str) -> orchnb.api.models.runs.Flow"
        )
    hints = typing.get_type_hints(PrefectClient.read_flows)
    assert hints["return"] == ModelList[Flow]
    hints = typing.get_type_hints(SyncPrefectClient.create_flow_from_name)
    assert hints["return"] is uuid.UUID


def test_tab_shows_the_operations() -> None:
    for client in (PrefectClient(tiny_api), SyncPrefectClient(tiny_api)):
        assert set(OPERATIONS) <= set(dir(client))


@pytest.mark.parametrize("kind", [PrefectClient, SyncPrefectClient])
def test_help_lists_operations_as_methods(kind: type) -> None:
    out = io.StringIO()
    pydoc.Helper(output=out).help(kind)
    text = out.getvalue()
    assert "read_flow(self, /, flow_id: uuid.UUID | str) -> orchnb.api.models.runs.Flow" in text
    assert "Read a flow by its id." in text
    assert ("async read_flow(" in text) == (kind is PrefectClient)
    assert "operation object" not in text


def test_a_client_shows_its_arguments() -> None:
    for kind in (PrefectClient, SyncPrefectClient):
        assert list(inspect.signature(kind).parameters) == [
            "api",
            "api_key",
            "auth_string",
            "api_version",
            "httpx_settings",
            "settings",
        ]


@every_operation
def test_every_argument_of_prefects_client_is_here_too(name: str) -> None:
    from prefect.client import orchestration

    for ours, theirs in (
        (PrefectClient, orchestration.PrefectClient),
        (SyncPrefectClient, orchestration.SyncPrefectClient),
    ):
        if not hasattr(theirs, name):
            continue  # ours alone
        known = inspect.signature(getattr(ours, name)).parameters
        asked = _asked(getattr(theirs, name))
        assert set(asked) - set(known) == set()
        for argument, default in asked.items():
            if default is not inspect.Parameter.empty:  # what they require, we may leave out
                assert known[argument].default == default


OTHER_ORDER: dict[str, str] = {}
"""Methods that take other arguments by position than in Prefect's client, and why: none."""


def test_what_prefects_client_takes_by_position_ours_takes_too() -> None:
    from prefect.client import orchestration

    compared, differing = 0, set()
    for ours, theirs in (
        (PrefectClient, orchestration.PrefectClient),
        (SyncPrefectClient, orchestration.SyncPrefectClient),
    ):
        for name in dir(theirs):
            here, there = getattr(ours, name, None), getattr(theirs, name)
            if name.startswith("_") or not callable(here) or not callable(there):
                continue
            compared += 1
            asked, known = _by_position(there), _by_position(here)
            if known[: len(asked)] != asked:
                differing.add(name)
    assert compared > 100
    assert differing == set(OTHER_ORDER)


def _by_position(method: Any) -> list[str]:
    parameters = inspect.signature(method).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in parameters if parameter.kind in kinds][1:]


MISSING = {
    "apply_slas_for_deployment": "Prefect Cloud alone has service levels, and they are experimental",
    "raise_for_api_version_mismatch": "it compares the server's version with that one; here an "
    "operation that the server is too old for says so by itself, as OperationNotFound",
    "raise_for_api_version_mismatch_once": "as raise_for_api_version_mismatch",
}
"""What Prefect's client has and ours lacks, and why."""


def test_what_prefects_client_has_is_here_too_or_there_is_a_reason() -> None:
    from prefect.client import orchestration

    for ours, theirs in (
        (PrefectClient, orchestration.PrefectClient),
        (SyncPrefectClient, orchestration.SyncPrefectClient),
    ):
        public = {name for name in dir(theirs) if not name.startswith("_")}
        missing = public - set(dir(ours(tiny_api)))
        if Version("3.8") <= both.SERVERS_VERSION:
            assert missing == set(MISSING)
        assert missing <= set(MISSING)  # older ones have less


def _asked(method: Any) -> dict[str, Any]:
    """A method's arguments and their defaults, those of an unpacked TypedDict too."""
    asked: dict[str, Any] = {}
    for parameter in inspect.signature(method).parameters.values():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            asked[parameter.name] = parameter.default
        elif "Unpack" in str(parameter.annotation):
            kind = getattr(
                sys.modules[method.__module__], get_args(parameter.annotation)[0].__forward_arg__
            )
            asked |= dict.fromkeys(kind.__annotations__, inspect.Parameter.empty)
    asked.pop("self")
    return asked


ITERATORS = sorted(
    name
    for name in dir(Operations)
    if isinstance(inspect.getattr_static(Operations, name), iteration)
)


def outcome(result: Any) -> Any:
    """Run a method to its first result, without a client that is open."""
    if inspect.iscoroutine(result):
        return result.send(None)
    if inspect.isasyncgen(result):
        return result.asend(None).send(None)
    return next(result)


@pytest.mark.parametrize("kind", [PrefectClient, SyncPrefectClient])
def test_an_unknown_keyword_is_refused_with_the_near_one(kind: type) -> None:
    client = kind(tiny_api)
    for name in (*OPERATIONS, *ITERATORS):
        method = getattr(client, name)
        told = rf"^{name}\(\) got an unexpected keyword argument"
        with pytest.raises(TypeError, match=rf"{told} 'zzzzz'\. The signature is {name}\("):
            outcome(method(zzzzz=1))
        for keyword in inspect.signature(method).parameters:
            with pytest.raises(
                TypeError, match=rf"{told} '{keyword}z'\. Did you mean .*'{keyword}'"
            ) as caught:
                outcome(method(**{f"{keyword}z": "hunter2"}))
            frames = [frame.frame.f_locals for frame in inspect.getinnerframes(caught.tb)[1:]]
            assert name in ITERATORS or "hunter2" not in str(frames)


def test_one_operation_can_be_used_in_another() -> None:
    steps = inspect.getattr_static(Operations, "create_flow_from_name")("etl")
    call = next(iter(steps))
    assert (call.method, call.path, call.json) == ("POST", "/flows/", {"name": "etl"})
