"""An error of a request for a CSRF token names the request that the user made."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

import orchnb
from orchnb.http.retry import RetryPolicy
from orchnb.notebook.views.errors import error_card
from orchnb.notebook.views.model import text
from tests.api.conftest import opened
from tests.api.fakes import Scripted

URL = "http://orch.invalid/api"


@pytest.fixture(params=["async", "sync"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two clients."""
    return str(request.param)


def error_of(kind: str, answer: Any, **options: Any) -> Exception:
    """Return the error of a create, if the server answers like this."""
    settings = {
        "transport": Scripted(answer),
        "retry_policy": RetryPolicy(max_retries=0),
        **options,
    }
    with (
        opened(kind, URL, httpx_settings=settings) as client,
        pytest.raises((orchnb.OrchnbError, httpx.TransportError)) as caught,
    ):
        client.create_variable("x", value=1)
    return caught.value


def refused(request: httpx.Request) -> httpx.Response:
    return httpx.Response(500, json={"detail": "broken"})


def unauthorized(request: httpx.Request) -> httpx.Response:
    return httpx.Response(401, json={"detail": "who are you"})


def nonsense(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"token": None})


def unreachable(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def silent(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("", request=request)


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (refused, orchnb.PrefectHTTPStatusError, "which needs a CSRF token: broken"),
        (unauthorized, orchnb.PrefectHTTPStatusError, "which needs a CSRF token: who are you"),
        (nonsense, orchnb.UnexpectedAnswer, "did not return a CSRF token, which POST"),
        (unreachable, httpx.ConnectError, ""),
        (silent, httpx.ReadTimeout, ""),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_users_request_is_named(kind: str, answer: Any, expected: Any, words: str) -> None:
    error = error_of(kind, answer)
    assert type(error).__name__ == expected.__name__
    shown = text(error_card(error))
    assert words in str(error)
    assert f"POST {URL}/variables/" in shown
    assert "csrf-token" not in shown + str(error)
    assert "may" not in shown.split("On the server")[-1].split("\n")[0], "it was not sent"


def test_credentials_that_were_sent_are_counted(kind: str) -> None:
    error = error_of(kind, unauthorized, auth=("me", "canary"))
    assert "some were sent" in text(error_card(error))
    assert "canary" not in text(error_card(error)) + str(error)


def test_a_missing_token_with_support_off_says_so(kind: str) -> None:
    def missing(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"detail": "Missing CSRF token"})

    error = error_of(kind, missing, enable_csrf_support=False)
    for words in (str(error), text(error_card(error))):
        assert "set PREFECT_CLIENT_CSRF_SUPPORT_ENABLED=true" in words
        assert words.count("PREFECT_CLIENT_CSRF_SUPPORT_ENABLED") == 1
