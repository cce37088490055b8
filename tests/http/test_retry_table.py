"""The retry flow as a table: status, method, header, attempt, and what happens next."""

from __future__ import annotations

import logging
import math
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchnb.http.csrf import CsrfGuard
from orchnb.http.effects import SendRequest, Sleep
from orchnb.http.errors import status_error
from orchnb.http.retry import (
    LONGEST_RETRY_AFTER,
    NOT_AWAITED,
    RetryEvent,
    Waits,
    observe_retries,
    parse_retry_after,
)
from tests.http.hand import NOW, policy, request, response, retrier, walk

METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
RETRIED = [408, 429, 502, 503]
NOT_RETRIED = [200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 405, 409, 410, 413, 418, 422, 500]
NOT_RETRIED += [501, 504, 599]
BACKOFF = [2.0, 4.0, 8.0, 16.0, 32.0]


def http_date(seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + seconds, timezone.utc), usegmt=True)


# Statuses and methods


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", RETRIED)
def test_a_retried_status_is_tried_six_times_and_then_returned(method: str, status: int) -> None:
    done = walk(retrier().flow(request(method)), [response(status)])
    assert done.steps == ["send", "sleep"] * 5 + ["send"]
    assert done.waits == BACKOFF
    assert done.returned is not None
    assert done.returned.status_code == status


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("status", NOT_RETRIED)
def test_any_other_status_is_returned_at_once(method: str, status: int) -> None:
    done = walk(retrier().flow(request(method)), [response(status)])
    assert done.steps == ["send"]
    assert done.returned is not None


@pytest.mark.parametrize("status", [418, 500, 504, 200])
def test_extra_codes_are_retried_as_well(status: int) -> None:
    kept = retrier(extra_codes=frozenset({status}))
    assert walk(kept.flow(request()), [response(status)]).steps.count("send") == 6
    assert walk(kept.flow(request()), [response(503)]).steps.count("send") == 6


@pytest.mark.parametrize("attempt", range(1, 6))
@pytest.mark.parametrize("status", RETRIED)
def test_a_success_ends_it_at_any_attempt(attempt: int, status: int) -> None:
    done = walk(retrier().flow(request()), [response(status)] * attempt + [response(200)])
    assert done.waits == BACKOFF[:attempt]
    assert done.returned is not None
    assert done.returned.status_code == 200


@pytest.mark.parametrize("retries", [0, 1, 2, 7, 12])
def test_at_most_max_retries_and_never_longer_than_32_s(retries: int) -> None:
    done = walk(retrier(max_retries=retries).flow(request()), [response(503)])
    assert len(done.sent) == retries + 1
    assert done.waits == [min(2.0**n, 32.0) for n in range(1, retries + 1)]


# Errors of transport

RETRIED_ERRORS = [
    httpx.ReadTimeout,
    httpx.PoolTimeout,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
]
FINAL_ERRORS = [
    httpx.LocalProtocolError,
    httpx.WriteTimeout,
    httpx.ConnectError,
    httpx.CloseError,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
]


@pytest.mark.parametrize("error", RETRIED_ERRORS)
@pytest.mark.parametrize("method", METHODS)
def test_a_retried_error_is_tried_six_times_and_then_raised(
    error: type[httpx.TransportError], method: str
) -> None:
    done = walk(retrier().flow(request(method)), [error("x")])
    assert len(done.sent) == 6
    assert done.waits == BACKOFF
    assert isinstance(done.raised, error)


@pytest.mark.parametrize("error", [*FINAL_ERRORS, httpx.InvalidURL, ValueError, RuntimeError])
def test_any_other_error_is_raised_at_once(error: type[Exception]) -> None:
    done = walk(retrier().flow(request()), [error("x")])
    assert done.steps == ["send"]
    assert isinstance(done.raised, error)


def test_an_http2_connection_that_had_ended_is_retried() -> None:
    """The words are h2's; the same request succeeds on another connection."""
    ended = httpx.LocalProtocolError(
        "Invalid input ConnectionInputs.SEND_HEADERS in state ConnectionState.CLOSED"
    )
    assert walk(retrier().flow(request()), [ended, response(200)]).waits == [2.0]


def refused() -> httpx.ConnectError:
    error = httpx.ConnectError("[Errno 111] Connection refused")
    error.__cause__ = ConnectionRefusedError(111, "Connection refused")
    return error


@pytest.mark.parametrize(
    ("options", "waits"),
    [({}, [0.0, 0.5, 1.0]), ({"max_retries": 1}, [0.0]), ({"max_retries": 0}, [])],
)
def test_a_first_connection_that_is_refused_is_tried_again_quickly(
    options: dict[str, Any], waits: list[float]
) -> None:
    """As by Prefect's client: the server may be starting."""
    events: list[RetryEvent] = []
    with observe_retries(events.append):
        done = walk(retrier(**options).flow(request("POST")), [refused()])
        assert done.waits == waits
        assert isinstance(done.raised, httpx.ConnectError)
        done = walk(retrier().flow(request("POST")), [refused(), response(200)])
        assert done.steps == ["send", "sleep", "send"]
    assert events == [], "it takes 1.5 s"


def test_a_refused_connection_is_retried_once_the_client_has_been_connected() -> None:
    kept = retrier()
    refused = httpx.ConnectError("refused")
    assert walk(kept.flow(request()), [refused]).steps == ["send"]
    walk(kept.flow(request()), [response(404)])
    assert walk(kept.flow(request()), [refused, response(200)]).steps == ["send", "sleep", "send"]


def test_a_refused_connection_is_retried_after_an_answer_within_the_same_request() -> None:
    answers = [response(503), httpx.ConnectError("restarting"), response(200)]
    assert walk(retrier().flow(request()), answers).waits == [2.0, 4.0]


def test_errors_and_statuses_count_together() -> None:
    answers = [response(503), httpx.ReadError("x"), response(429), httpx.ReadTimeout("x")] * 3
    done = walk(retrier().flow(request()), answers)
    assert len(done.sent) == 6


@pytest.mark.parametrize(
    ("before", "outcome"),
    [(response(503), "returned"), (httpx.ReadError("lost"), "raised")],
    ids=["status", "error"],
)
def test_a_body_that_is_spent_is_not_resent_and_the_earlier_outcome_stands(
    before: httpx.Response | Exception, outcome: str
) -> None:
    done = walk(retrier().flow(request("POST")), [before, httpx.StreamConsumed()])
    assert getattr(done, outcome) is before


# Maintenance


def test_maintenance_does_not_count() -> None:
    closed = response(503, headers={"Prefect-Maintenance": "true", "Retry-After": "7"})
    exact = retrier(jitter_factor=0.0)
    done = walk(exact.flow(request()), [closed] * 100 + [response(200)])
    assert done.waits == [7.0] * 100
    done = walk(exact.flow(request()), [closed] * 100 + [response(503)])
    assert len(done.sent) == 106


@pytest.mark.parametrize("header", ["0", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_maintenance_that_says_at_once_is_no_busy_loop(header: str) -> None:
    closed = response(503, headers={"Prefect-Maintenance": "true", "Retry-After": header})
    done = walk(retrier().flow(request()), [closed] * 50 + [response(200)])
    assert done.waits == [1.0] * 50


def test_maintenance_without_retry_after_backs_off() -> None:
    closed = response(503, headers={"Prefect-Maintenance": "true"})
    done = walk(retrier().flow(request()), [closed] * 8 + [response(200)])
    assert done.waits == [*BACKOFF, 32.0, 32.0, 32.0]


@pytest.mark.parametrize("value", ["false", "", "1", "yes"])
def test_maintenance_is_the_word_true(value: str) -> None:
    done = walk(retrier().flow(request()), [response(503, headers={"Prefect-Maintenance": value})])
    assert len(done.sent) == 6


def test_the_maintenance_header_alone_retries_nothing() -> None:
    done = walk(retrier().flow(request()), [response(500, headers={"Prefect-Maintenance": "true"})])
    assert done.steps == ["send"]


# Retry-After

GOOD = {
    "0": 0.0,
    "1": 1.0,
    "120": 120.0,
    "007": 7.0,
    "1.5": 1.5,
    " 3 ": 3.0,
    "86400": 86400.0,
    http_date(0): 0.0,
    http_date(60): 60.0,
    http_date(-60): 0.0,
    http_date(86400): 86400.0,
    "Friday, 15-Jan-27 08:01:00 GMT": 60.0,
    "Fri Jan 15 08:01:00 2027": 60.0,
    "Fri, 15 Jan 2027 09:01:00 +0100": 60.0,
}
ABSURD = [
    "",
    " ",
    "-1",
    "-0.5",
    "+5",
    "1e3",
    "0x10",
    "nan",
    "inf",
    "-inf",
    "Infinity",
    "1_000",
    "٣",
    "１２",
    "5, 10",
    "5s",
    "five",
    "1.5.5",
    ".5",
    "86401",
    "99999999999999999999999999",
    http_date(86460),
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "Fri, 99 Foo 2027 08:01:00 GMT",
    "Fri, 15 Jan 99999999999999 08:01:00 GMT",
    "Fri, ",
    "Fri",
    "15 Jan 2027 08:01:00 GMT",
    "2027-01-15T08:01:00Z",
    "null",
    "None",
    "\x00",
    "<script>",
]


@pytest.mark.parametrize(("value", "seconds"), GOOD.items())
def test_a_good_retry_after_is_waited(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("value", ABSURD)
def test_an_absurd_retry_after_is_ignored(value: str) -> None:
    assert parse_retry_after(value, NOW) is None


@pytest.mark.parametrize("status", RETRIED)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_retry_after_goes_before_the_back_off(status: int, method: str) -> None:
    answers = [response(status, headers={"Retry-After": "9"}), response(status), response(200)]
    done = walk(retrier(jitter_factor=0.0).flow(request(method)), answers)
    assert done.waits == [9.0, 4.0]


@given(st.text(max_size=60))
def test_whatever_stands_in_retry_after_gives_nothing_or_a_fair_wait(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER


@given(
    st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(9990, 1, 1)),
    st.sampled_from([0, 1, -11, 14]),
)
def test_every_date_is_understood_or_too_far(moment: datetime, hours: int) -> None:
    aware = moment.replace(microsecond=0, tzinfo=timezone(timedelta(hours=hours)))
    seconds = parse_retry_after(format_datetime(aware), NOW)
    expected = max(0.0, aware.timestamp() - NOW)
    assert seconds == (expected if expected <= LONGEST_RETRY_AFTER else None)


# Jitter

chances = st.floats(min_value=0, max_value=1, exclude_max=True)


@given(chances, st.floats(0, 10), st.floats(0, LONGEST_RETRY_AFTER))
def test_jitter_on_retry_after_only_adds_and_at_most_the_factor(
    chance: float, factor: float, asked: float
) -> None:
    wait = policy(random=lambda: chance, jitter_factor=factor).wait(1, asked)
    assert asked <= wait <= asked * (1 + factor)


@given(chances, st.floats(0, 10), st.integers(1, 10_000))
def test_jitter_on_the_back_off_goes_both_ways(chance: float, factor: float, attempt: int) -> None:
    wait = policy(random=lambda: chance, jitter_factor=factor).wait(attempt, None)
    usual = min(2.0 ** min(attempt, 10), 32.0)
    assert math.isfinite(wait)
    assert max(0.0, usual * (1 - factor)) <= wait <= usual * (1 + factor)
    if chance < 0.5:
        assert wait <= usual


# Any sequence

answers = st.lists(
    st.one_of(
        st.sampled_from([200, 404, 500, *RETRIED]).map(response),
        st.sampled_from([*RETRIED_ERRORS, httpx.ConnectError]).map(lambda kind: kind("x")),
    ),
    min_size=1,
    max_size=20,
)


@given(answers, st.integers(0, 6))
def test_the_number_of_tries_is_bounded_and_every_wait_is_followed_by_one(
    given_answers: list[httpx.Response | Exception], retries: int
) -> None:
    done = walk(retrier(max_retries=retries).flow(request()), given_answers)
    assert len(done.sent) <= retries + 1
    assert len(done.waits) == len(done.sent) - 1
    assert (done.returned is None) != (done.raised is None)


# The limit of all waits together

HOUR = 3600.0


def asks(seconds: float, status: int = 429) -> httpx.Response:
    return response(status, headers={"Retry-After": str(seconds)})


@pytest.mark.parametrize(
    ("answers", "max_wait", "waits"),
    [
        ([asks(86_400)], HOUR, []),
        ([asks(HOUR + 1)], HOUR, []),
        ([asks(HOUR)], HOUR, [HOUR]),  # the jitter is left out
        ([asks(1_500)], HOUR, [1_650, 1_650]),
        ([asks(1_500)], 1e9, [1_650] * 5),
        ([asks(1_500)], math.inf, [1_650] * 5),
        ([asks(1)], 0, []),
        ([asks(0)], 0, [0.0] * 5),
        ([response(503)], 15, [2, 4, 8]),
        ([httpx.ReadTimeout("x")], 15, [2, 4, 8]),
        ([asks(1_500), httpx.ReadTimeout("x")], 1_655, [1_650, 4]),
    ],
)
def test_all_waits_of_a_request_end_at_the_limit(
    answers: list[Any], max_wait: float, waits: list[float]
) -> None:
    done = walk(retrier(max_wait=max_wait).flow(request()), answers)
    assert done.waits == pytest.approx(waits)
    assert len(done.sent) == len(waits) + 1
    assert (done.returned is None) == isinstance(answers[-1], Exception)


def test_the_error_says_why_it_was_not_tried_again() -> None:
    done = walk(retrier().flow(request()), [asks(86_400)])
    assert done.returned is not None
    hint = status_error(done.returned).hint
    assert "in 86,400 s" in hint
    assert "ORCHNB_CLIENT_MAX_WAIT allows 3,600 s" in hint
    assert "ORCHNB" not in status_error(response(429)).hint


def test_maintenance_has_no_limit() -> None:
    closed = response(503, headers={"Prefect-Maintenance": "true", "Retry-After": "3000"})
    done = walk(retrier().flow(request()), [*[closed] * 50, asks(3_000), response(200)])
    assert len(done.waits) == 51
    assert done.returned is not None
    assert done.returned.status_code == 200


def test_a_token_and_its_request_have_one_limit() -> None:
    kept = retrier()
    guard = CsrfGuard(lambda _: request(), enabled=True, now=lambda: NOW)
    flow = guard.flow(request("POST"), partial(kept.flow, waits=Waits(kept.policy)))
    done = walk(flow, [asks(2_000), response(200, json={"token": "t"}), asks(2_000)])
    assert done.steps == ["aside", "sleep", "aside", "send"]
    assert done.returned is not None
    assert NOT_AWAITED in done.returned.extensions


def test_a_wait_that_somebody_ended_does_not_count() -> None:
    flow = retrier().flow(request())
    next(flow)
    for _ in range(4):
        sleep = flow.send(asks(3_000))
        assert isinstance(sleep, Sleep)
        assert sleep.control is not None
        sleep.control.try_now()
        assert isinstance(flow.send(None), SendRequest)


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (asks(11), ["GET http://server/api/x?token=***: 429 Too Many Requests; next try in 12 s"]),
        (asks(2), []),
        (asks(86_400), []),
    ],
)
def test_a_long_wait_is_a_warning_where_nobody_watches(
    caplog: pytest.LogCaptureFixture, answer: httpx.Response, lines: list[str]
) -> None:
    asked = request(url="http://u:p@server/api/x?token=canary")

    def warnings() -> list[str]:
        walk(retrier(max_retries=1).flow(asked), [answer])
        found = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
        caplog.clear()
        return [line.replace("***@", "") for line in found]

    with caplog.at_level(logging.DEBUG, logger="orchnb"):
        assert warnings() == lines
        with observe_retries(lambda _: None):
            assert warnings() == []


def test_an_error_that_is_not_tried_again_for_the_wait_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    walk(retrier(max_wait=1).flow(request()), [httpx.ReadTimeout("x")])
    assert "ORCHNB_CLIENT_MAX_WAIT allows 1 s" in caplog.text


# What observers are told


def test_observers_are_told_of_waits_and_of_the_end() -> None:
    events: list[RetryEvent] = []
    with observe_retries(events.append):
        walk(
            retrier().flow(request(url="http://u:p@server/api?token=canary")),
            [response(503), httpx.ReadTimeout(""), response(200)],
        )
        walk(retrier(max_retries=1).flow(request()), [response(502)])
    assert [(e.kind, e.attempt, e.cause, e.wait) for e in events] == [
        ("waiting", 1, "503 Service Unavailable", 2.0),
        ("waiting", 2, "ReadTimeout", 4.0),
        ("recovered", 3, "ReadTimeout", 0.0),
        ("waiting", 1, "502 Bad Gateway", 2.0),
        ("gave_up", 2, "502 Bad Gateway", 0.0),
    ]
    assert events[0].request_id == events[2].request_id != events[3].request_id
    assert "canary" not in repr(events)
    assert events[0].max_attempts == 6


def test_a_request_that_is_not_retried_tells_nothing() -> None:
    events: list[RetryEvent] = []
    with observe_retries(events.append):
        walk(retrier().flow(request()), [response(200)])
        walk(retrier().flow(request()), [response(404)])
        walk(retrier().flow(request()), [httpx.ConnectError("x")])
    assert events == []


def test_stopping_during_a_wait_is_told() -> None:
    events: list[RetryEvent] = []
    with observe_retries(events.append):
        flow = retrier().flow(request())
        next(flow)
        flow.send(response(503))
        flow.close()
    assert [event.kind for event in events] == ["waiting", "stopped"]


def test_maintenance_has_no_last_attempt() -> None:
    events: list[RetryEvent] = []
    closed = response(503, headers={"Prefect-Maintenance": "true"})
    with observe_retries(events.append):
        walk(retrier().flow(request()), [closed, response(200)])
    assert events[0].max_attempts is None


def test_tries_in_maintenance_are_among_those_that_may_be_made() -> None:
    events: list[RetryEvent] = []
    closed = response(503, headers={"Prefect-Maintenance": "true"})
    with observe_retries(events.append):
        walk(retrier().flow(request()), [*[closed] * 10, response(503), response(200)])
    last_wait, end = events[-2:]
    assert (last_wait.attempt, last_wait.max_attempts) == (11, 16)
    assert (end.kind, end.attempt, end.max_attempts) == ("recovered", 12, 16)


def test_an_observer_that_raises_is_dropped_and_not_felt() -> None:
    told: list[str] = []

    def broken(event: RetryEvent) -> None:
        told.append(event.kind)
        raise ZeroDivisionError

    others: list[RetryEvent] = []
    with observe_retries(broken), observe_retries(others.append):
        done = walk(retrier().flow(request()), [response(503), response(503), response(200)])
    assert done.returned is not None
    assert told == ["waiting"]
    assert len(others) == 3


def test_time_spent_is_told() -> None:
    clock = iter([10.0, 11.5, 14.0])
    events: list[RetryEvent] = []
    with observe_retries(events.append):
        walk(retrier(monotonic=lambda: next(clock)).flow(request()), [response(503), response(200)])
    assert [event.elapsed for event in events] == [1.5, 4.0]
