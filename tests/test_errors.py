"""Errors travel whole: between processes, in copies, with notes, and as kinds of other people's."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable

import httpx
import pytest

from orchnb import errors
from orchnb.errors import (
    ClientClosed,
    FieldProblem,
    ObjectAlreadyExists,
    ObjectNotFound,
    OperationNotFound,
    OrchnbError,
    OutcomeUnknown,
    PrefectHTTPStatusError,
    ServerStartFailed,
    UnexpectedAnswer,
)


def status_error(kind: type[PrefectHTTPStatusError] = PrefectHTTPStatusError) -> Exception:
    request = httpx.Request("GET", "http://s/api")
    response = httpx.Response(422, json={"detail": "no"}, request=request)
    rows = [FieldProblem("body.x", "m", "t")]
    return kind("m", request=request, response=response, detail="no", fields=rows, hint="h")


class OfSomebodys(ServerStartFailed):
    """A subclass with an ``__init__`` of its own, as users write them."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}", phase="start", hint="h", log_lines=["a"])
        self.code = code


ERRORS: dict[str, Exception] = {
    **{
        name: kind(name)
        for name, kind in vars(errors).items()
        if isinstance(kind, type)
        and issubclass(kind, OrchnbError)
        and not issubclass(kind, (PrefectHTTPStatusError, ServerStartFailed, OutcomeUnknown))
    },
    "UnexpectedAnswer with hint": UnexpectedAnswer("u", hint="h"),
    "ServerStartFailed": ServerStartFailed("s", phase="create", hint="h", log_lines=["a", "b"]),
    "OutcomeUnknown": OutcomeUnknown("o", request=httpx.Request("POST", "http://s/api"), hint="h"),
    "PrefectHTTPStatusError": status_error(),
    "ObjectNotFound": status_error(ObjectNotFound),
    "OperationNotFound": status_error(OperationNotFound),
    "ObjectAlreadyExists": status_error(ObjectAlreadyExists),
    "a subclass": OfSomebodys(code=7),
}
WAYS: dict[str, Callable[[Exception], Exception]] = {
    **{
        f"pickle {protocol}": lambda e, p=protocol: pickle.loads(pickle.dumps(e, p))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("travel", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_every_attribute_travels(
    error: Exception, travel: Callable[[Exception], Exception]
) -> None:
    error.anything = ["of the user's"]  # type: ignore[attr-defined]
    error.__dict__["__notes__"] = ["seen in cell 5"]  # what add_note does, from Python 3.11 on
    there = travel(error)
    assert type(there) is type(error)
    assert (str(there), there.args) == (str(error), error.args)
    assert vars(there).keys() == vars(error).keys()
    for name, value in vars(error).items():
        if not isinstance(value, (httpx.Request, httpx.Response)):
            assert getattr(there, name) == value
    if isinstance(error, PrefectHTTPStatusError) and isinstance(there, PrefectHTTPStatusError):
        assert there.status_code == 422
        assert there.response.json() == error.response.json()
        assert there.request.url == error.request.url


def test_a_copy_is_another_error() -> None:
    error = ServerStartFailed("s", phase="create")
    twin = copy.copy(error)
    twin.phase = "start"
    assert error.phase == "create"


def test_an_error_crosses_to_another_process() -> None:
    code = (
        "import pickle, sys; error = pickle.load(sys.stdin.buffer);"
        "print(type(error).__name__, error.status_code, error.fields[0].location, error.hint)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(status_error(ObjectNotFound)),
        capture_output=True,
    )
    assert done.stdout.split() == [b"ObjectNotFound", b"422", b"body.x", b"h"]


@pytest.mark.parametrize(
    ("kind", "caught_as"),
    [
        (errors.InvalidSetting, ValueError),
        (errors.ServerNotConfigured, ValueError),
        (errors.ClientClosed, RuntimeError),
        (errors.ClientNotPicklable, TypeError),
        (errors.LifespanStartupFailed, RuntimeError),
        (errors.ServerStartFailed, RuntimeError),
        (errors.UnexpectedAnswer, ValueError),
        (errors.PrefectHTTPStatusError, httpx.HTTPStatusError),
        (errors.ObjectNotFound, errors.PrefectHTTPStatusError),
        (errors.OperationNotFound, errors.PrefectHTTPStatusError),
        (errors.ObjectAlreadyExists, errors.PrefectHTTPStatusError),
    ],
)
def test_errors_are_what_people_would_catch(kind: type, caught_as: type) -> None:
    assert issubclass(kind, caught_as)
    assert issubclass(kind, OrchnbError)


def test_the_same_failure_as_another_kind_keeps_all_but_the_message() -> None:
    plain = status_error()
    assert isinstance(plain, PrefectHTTPStatusError)
    named = ObjectNotFound.from_status_error(plain, "There is no such flow")
    assert type(named) is ObjectNotFound
    assert named.message == "There is no such flow"
    for name in ("request", "response", "detail", "fields", "hint", "status_code"):
        assert getattr(named, name) == getattr(plain, name)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_the_text_of_an_error_ends_with_its_hint(error: Exception) -> None:
    """A script has no card that shows the hint."""
    assert isinstance(error, OrchnbError)
    error = copy.copy(error)
    error.hint = "Do this instead."
    assert str(error) == f"{error.message}. Do this instead."
    error.hint = ""
    assert str(error) == error.message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("It broke", "It broke. Repair it."),
        ("It broke.", "It broke. Repair it."),
        ("Did it break?", "Did it break? Repair it."),
        ("It broke. Repair it.", "It broke. Repair it."),
        ("", "Repair it."),
    ],
)
def test_a_hint_is_in_the_text_once(message: str, text: str) -> None:
    assert str(UnexpectedAnswer(message, hint="Repair it.")) == text


def test_an_error_without_a_hint_has_an_empty_one() -> None:
    assert ClientClosed("x").hint == ""
