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
from orchnb.prefect_exceptions import as_declared


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
    # Prefect may have been imported in between.
    assert as_declared(type(there)) is as_declared(type(error))
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
    assert type(named).__name__ == "ObjectNotFound"
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


WITH_PREFECT = """
import copy, pickle
import httpx
import orchnb
from orchnb.errors import OperationNotFound

def error(kind):
    request = httpx.Request("GET", "http://s/api/flows/1")
    response = httpx.Response(404, json={"detail": "no"}, request=request)
    return kind("m", request=request, response=response, detail="no", hint="Do this.")

before = error(orchnb.ObjectNotFound)
assert type(before) is orchnb.ObjectNotFound
import prefect.exceptions as theirs

for kind, caught_as in (
    (orchnb.ObjectNotFound, (theirs.ObjectNotFound, theirs.PrefectHTTPStatusError)),
    (orchnb.ObjectAlreadyExists, (theirs.ObjectAlreadyExists, theirs.PrefectHTTPStatusError)),
    (orchnb.PrefectHTTPStatusError, (theirs.PrefectHTTPStatusError,)),
    (OperationNotFound, (theirs.PrefectHTTPStatusError,)),
):
    for catch in (*caught_as, kind, orchnb.PrefectHTTPStatusError, httpx.HTTPStatusError):
        try:
            raise error(kind)
        except catch as exc:
            caught = exc
    assert not isinstance(caught, theirs.ObjectNotFound) or kind is orchnb.ObjectNotFound
    assert type(caught) is type(error(kind)), "made once"
    for each in (caught, copy.copy(caught), copy.deepcopy(caught), pickle.loads(pickle.dumps(caught))):
        assert type(each) is type(caught)
        assert (str(each), each.message, each.args) == ("m. Do this.", "m", ("m",))
        assert repr(each) == f"{kind.__name__}('m')"
        assert (each.detail, each.hint, each.status_code) == ("no", "Do this.", 404)
        assert each.request.url.path == "/api/flows/1"
    named = type(caught).__module__, type(caught).__qualname__, type(caught).__doc__
    assert named == (kind.__module__, kind.__qualname__, kind.__doc__)
    other = orchnb.ObjectNotFound.from_status_error(caught, "another")
    assert isinstance(other, theirs.ObjectNotFound)
    assert other.http_exc.response.status_code == 404
    assert other.help_message == str(other) == "another. Do this."
print(pickle.dumps(error(orchnb.ObjectNotFound)).hex())
"""


def test_where_prefect_is_imported_an_error_is_one_of_its_own_as_well() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITH_PREFECT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    sent = bytes.fromhex(done.stdout)
    assert b"prefect.exceptions" not in sent, "it can be read where there is no Prefect"
    assert isinstance(pickle.loads(sent), ObjectNotFound)
