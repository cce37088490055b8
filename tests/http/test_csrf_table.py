"""The CSRF flow: when a token is fetched, used, thrown away, and when there is no use for one."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import httpx
import pytest

from orchnb.errors import PrefectHTTPStatusError, UnexpectedAnswer
from orchnb.http.csrf import CLIENT_HEADER, TOKEN_HEADER, CsrfGuard, _Token
from orchnb.http.effects import RequestFlow, SendRequest, Sleep
from orchnb.http.retry import RESENT
from tests.http.hand import NOW, request, response, retrier, walk

REFUSED = {"detail": "Invalid CSRF token or client identifier."}


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, timezone.utc).isoformat()


def token(text: str, *, expires: Any = None) -> httpx.Response:
    answer = {"token": text, "client": "c", "expiration": expires or at(3600)}
    return response(200, json=answer)


class Clock:
    now = NOW


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> CsrfGuard:
    return CsrfGuard(
        lambda client: request(url=f"http://server/api/csrf-token?client={client}"),
        enabled=True,
        now=lambda: clock.now,
    )


def change(guard: CsrfGuard, method: str = "POST") -> tuple[httpx.Request, RequestFlow]:
    made = request(method)
    return made, guard.flow(made, retrier().flow)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_change_wants_a_token(guard: CsrfGuard, method: str) -> None:
    assert guard.concerns(request(method))
    sent, flow = change(guard, method)
    done = walk(flow, [token("t1"), response(201)])
    assert done.steps == ["aside", "send"]
    assert sent.headers[TOKEN_HEADER] == "t1"
    assert sent.headers[CLIENT_HEADER] == guard.client_id
    assert done.sent[0].url.params["client"] == guard.client_id


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_read_wants_none(guard: CsrfGuard, method: str) -> None:
    assert not guard.concerns(request(method))


def test_a_token_serves_until_it_expires(guard: CsrfGuard, clock: Clock) -> None:
    walk(change(guard)[1], [token("t1", expires=at(100)), response(201)])
    clock.now = NOW + 99
    assert walk(change(guard)[1], [response(201)]).steps == ["send"]
    clock.now = NOW + 100
    sent, flow = change(guard)
    assert walk(flow, [token("t2"), response(201)]).steps == ["aside", "send"]
    assert sent.headers[TOKEN_HEADER] == "t2"


@pytest.mark.parametrize("expires", ["soon", 17, None, {}, "2027-99-99"])
def test_an_expiration_that_cannot_be_read_lets_the_server_judge(
    guard: CsrfGuard, clock: Clock, expires: Any
) -> None:
    answer = response(200, json={"token": "t1", "expiration": expires})
    walk(change(guard)[1], [answer, response(201)])
    clock.now = NOW + 1e9
    assert walk(change(guard)[1], [response(201)]).steps == ["send"]


@pytest.mark.parametrize("zone", ["Z", "+00:00", ""])
def test_every_form_of_a_utc_time_is_understood(guard: CsrfGuard, clock: Clock, zone: str) -> None:
    expires = at(50).removesuffix("+00:00") + zone
    walk(change(guard)[1], [token("t1", expires=expires), response(201)])
    clock.now = NOW + 51
    assert walk(change(guard)[1], [token("t2"), response(201)]).steps == ["aside", "send"]


@pytest.mark.parametrize(
    "answer",
    [response(404), response(422, json={"detail": "CSRF protection is disabled."})],
    ids=["no endpoint", "disabled"],
)
def test_a_server_that_has_no_use_for_tokens_is_not_asked_again(
    guard: CsrfGuard, answer: httpx.Response
) -> None:
    sent, flow = change(guard)
    assert walk(flow, [answer, response(201)]).steps == ["aside", "send"]
    assert TOKEN_HEADER not in sent.headers
    assert not guard.enabled
    assert not guard.concerns(request("POST"))


def test_a_refused_token_is_fetched_anew_and_the_request_resent_at_once(guard: CsrfGuard) -> None:
    sent, flow = change(guard)
    answers = [token("old"), response(403, json=REFUSED), token("new"), response(201)]
    done = walk(flow, answers)
    assert done.steps == ["aside", "send", "aside", "send"]
    assert done.returned is not None
    assert done.returned.status_code == 201
    assert sent.headers[TOKEN_HEADER] == "new"


def test_a_server_that_refuses_every_token_is_believed_in_the_end(guard: CsrfGuard) -> None:
    answers = [token("t"), response(403, json=REFUSED)] * 10
    done = walk(change(guard)[1], answers)
    assert done.returned is not None
    assert done.returned.status_code == 403
    assert done.steps.count("send") == 6
    assert done.waits == []


def test_another_403_is_an_answer(guard: CsrfGuard) -> None:
    done = walk(change(guard)[1], [token("t"), response(403, json={"detail": "Forbidden"})])
    assert done.steps == ["aside", "send"]


@pytest.mark.parametrize("status", [401, 403, 422, 500, 302])
def test_a_token_that_is_refused_outright_is_an_error(guard: CsrfGuard, status: int) -> None:
    done = walk(change(guard)[1], [response(status, json={"detail": "no"})])
    assert isinstance(done.raised, PrefectHTTPStatusError)
    assert done.raised.status_code == status
    assert walk(change(guard)[1], [token("t"), response(201)]).returned is not None


def test_a_token_is_asked_for_with_the_same_patience(guard: CsrfGuard) -> None:
    done = walk(change(guard)[1], [response(503), httpx.ReadError("x"), token("t"), response(201)])
    assert done.steps == ["aside", "sleep", "aside", "sleep", "aside", "send"]


@pytest.mark.parametrize(
    "answer",
    [
        response(200, text="<html>log in</html>"),
        response(200, json=[]),
        response(200, json={"key": 1}),
        response(200, json="t"),
        response(200, content=b""),
        response(200, json={"token": None}),
        response(200, json={"token": ""}),
        response(200, json={"token": 5}),
        response(200, json={"token": "tök"}),
        response(200, json={"token": "a\r\nHost: evil"}),
        response(200, content=b"[" * 100_000 + b"]" * 100_000),
        response(200, content=b'{"token": ' * 100_000),
        response(200, json={"token": "t" * 4_097}),
        response(200, json={"token": ["t"]}),
        response(200, content=b'{"token": ' + b"1" * 5_000 + b"}"),
        response(200, content=b'{"token": "\xff"}'),
        response(200, content=b"\xff\xfe{"),
        response(204),
    ],
    ids=[
        *("html", "list", "other keys", "text", "empty"),
        *("null", "empty text", "number", "no ASCII", "two lines"),
        *("nested lists", "nested objects", "endless", "list of one", "long number"),
        *("no UTF-8", "half of UTF-16", "no content"),
    ],
)
def test_what_is_no_token_is_an_error_that_says_what_to_change(
    guard: CsrfGuard, answer: httpx.Response
) -> None:
    done = walk(change(guard)[1], [answer])
    assert isinstance(done.raised, UnexpectedAnswer)
    assert "/api" in done.raised.hint


@pytest.mark.parametrize("charset", ["hex", "zip"])
def test_a_charset_that_is_none_does_not_hide_what_the_server_says(
    guard: CsrfGuard, charset: str
) -> None:
    odd = {"content-type": f"application/json; charset={charset}"}
    answers = [token("old"), response(403, json=REFUSED, headers=odd), token("new"), response(201)]
    assert walk(change(guard)[1], answers).steps == ["aside", "send", "aside", "send"]
    disabled = response(422, json={"detail": "CSRF protection is disabled."}, headers=odd)
    guard._token = None
    walk(change(guard)[1], [disabled, response(201)])
    assert not guard.enabled


def test_requests_at_the_same_time_share_one_fetch(guard: CsrfGuard) -> None:
    """The server keeps one token per client: a second fetch would make the first one's void."""
    first_request, first = change(guard)
    second_request, second = change(guard)
    assert isinstance(next(first), SendRequest)
    assert isinstance(next(second), Sleep), "it waits for the first one's token"
    assert isinstance(second.send(None), Sleep)
    first.send(token("shared"))
    effect = second.send(None)
    assert effect == SendRequest(second_request, False)
    assert second_request.headers[TOKEN_HEADER] == first_request.headers[TOKEN_HEADER] == "shared"


def test_a_thread_that_comes_to_fetch_just_after_another_has_fetched_uses_that_ones_token(
    guard: CsrfGuard,
) -> None:
    class FreeAgain(dict[str, Any]):
        """Nobody fetches any more, as another thread's fetch has ended between look and grasp."""

        def setdefault(self, key: str, default: Any = None) -> Any:
            guard._token = _Token("theirs", None)
            return super().setdefault(key, default)

    guard._fetcher = FreeAgain()
    sent, flow = change(guard)
    assert walk(flow, [response(201)]).steps == ["send"]
    assert sent.headers[TOKEN_HEADER] == "theirs"


def test_an_interrupt_as_the_fetch_begins_stops_nobody_else(guard: CsrfGuard) -> None:
    """Python runs a signal's handler right after the call that takes what only one may have."""

    class Interrupted(dict[str, Any]):
        def setdefault(self, key: str, default: Any = None) -> Any:
            super().setdefault(key, default)
            raise KeyboardInterrupt

    fetcher = guard._fetcher = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        next(change(guard)[1])
    assert not fetcher
    guard._fetcher = dict(fetcher)
    assert walk(change(guard)[1], [token("t"), response(201)]).steps == ["aside", "send"]


def test_an_earlier_try_whose_answer_was_lost_is_remembered_over_a_new_token(
    guard: CsrfGuard,
) -> None:
    answers = [
        *(token("old"), httpx.ReadError("lost"), response(403, json=REFUSED)),
        *(token("new"), response(404)),
    ]
    done = walk(change(guard, "DELETE")[1], answers)
    assert done.steps == ["aside", "send", "sleep", "send", "aside", "send"]
    assert done.returned is not None
    assert done.returned.extensions[RESENT]


def test_whoever_waits_fetches_it_when_the_first_one_is_gone(guard: CsrfGuard) -> None:
    first, second = change(guard)[1], change(guard)[1]
    next(first)
    next(second)
    first.close()
    effect = second.send(None)
    assert isinstance(effect, SendRequest)
    assert effect.aside


def test_a_token_that_somebody_has_renewed_meanwhile_is_not_renewed_again(guard: CsrfGuard) -> None:
    _, first = change(guard)
    next(first)
    first.send(token("old"))
    second_request, second = change(guard)
    next(second)
    next_effect = first.send(response(403, json=REFUSED))
    assert isinstance(next_effect, SendRequest)
    first.send(token("new"))
    effect = second.send(response(403, json=REFUSED))
    assert effect == SendRequest(second_request, False), "it is resent at once, with the new one"
    assert second_request.headers[TOKEN_HEADER] == "new"
