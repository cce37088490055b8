"""Points in time as people write them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchnb.api.times import When, ago, moment, to_come

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local zone of these tests, where the platform lets a test choose it."""
    if not hasattr(time, "tzset"):
        pytest.skip("this platform's time zone cannot be chosen by a test")
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("1h", NOW - timedelta(hours=1)),
        ("1H ago", NOW - timedelta(hours=1)),
        (" 90 s ", NOW - timedelta(seconds=90)),
        ("2d12h", NOW - timedelta(days=2, hours=12)),
        ("1.5w", NOW - timedelta(weeks=1.5)),
        ("0s", NOW),
        ("now", NOW),
        ("today", datetime(2026, 11, 20, 23, tzinfo=timezone.utc)),
        ("yesterday", datetime(2026, 11, 19, 23, tzinfo=timezone.utc)),
        ("2026-11-01", datetime(2026, 10, 31, 23, tzinfo=timezone.utc)),
        ("2026-11-01 09:30", datetime(2026, 11, 1, 8, 30, tzinfo=timezone.utc)),
        ("2026-07-01T09:30", datetime(2026, 7, 1, 7, 30, tzinfo=timezone.utc)),
        ("2026-11-01T09:30:00Z", datetime(2026, 11, 1, 9, 30, tzinfo=timezone.utc)),
        ("2026-11-01T09:30+05:30", datetime(2026, 11, 1, 4, tzinfo=timezone.utc)),
    ],
)
def test_words(words: str, meant: datetime) -> None:
    assert moment(words, now=NOW) == meant
    assert moment(words, now=NOW).tzinfo is not None


def test_yesterday_begins_at_midnight_also_when_the_clocks_were_changed() -> None:
    monday = datetime(2026, 10, 26, 12, tzinfo=timezone.utc)
    assert moment("yesterday", now=monday) == datetime(2026, 10, 24, 22, tzinfo=timezone.utc)


def test_datetimes_and_timedeltas() -> None:
    assert moment(timedelta(hours=2), now=NOW) == NOW - timedelta(hours=2)
    assert moment(NOW) == NOW
    assert moment(datetime(2026, 11, 1)) == datetime(2026, 10, 31, 23, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "words", ["", "soon", "1 fortnight", "12", "-1h", "2026-13-01", "h", "1h?"]
)
def test_what_means_no_time_is_refused_and_says_what_would(words: str) -> None:
    with pytest.raises(ValueError, match="write how long ago"):
        moment(words, now=NOW)


@pytest.mark.parametrize("far", ["99999999w", timedelta.max, timedelta.min, "9" * 400 + "s"])
def test_what_is_too_far_is_refused(far: str | timedelta) -> None:
    with pytest.raises(ValueError, match="not within the years 1 to 9999"):
        moment(far, now=NOW)


def test_a_day_is_its_beginning_as_it_is_in_words() -> None:
    day = date(2026, 11, 1)
    assert moment(day, now=NOW) == moment("2026-11-01", now=NOW)
    assert to_come(day, now=NOW) == moment(day, now=NOW)


FAR_EAST, FAR_WEST = (timezone(timedelta(hours=hours)) for hours in (23, -23))


@pytest.mark.parametrize("written", [False, True], ids=["datetime", "text"])
@pytest.mark.parametrize(
    ("end", "beyond", "within"),
    [(datetime.min, FAR_EAST, FAR_WEST), (datetime.max, FAR_WEST, FAR_EAST)],
    ids=["first", "last"],
)
def test_the_ends_of_the_calendar_are_told_or_refused_in_words(
    end: datetime, beyond: timezone, within: timezone, written: bool
) -> None:
    """Whatever time zone this machine is in."""

    def at(zone: timezone) -> When:
        there = end.replace(tzinfo=zone)
        return there.isoformat() if written else there

    assert moment(at(within), now=NOW) == end.replace(tzinfo=within)
    with pytest.raises(ValueError, match="too close to the limits of the years 1 to 9999"):
        moment(at(beyond), now=NOW)


@pytest.mark.parametrize("thing", [5, None, ["1h"]])
def test_other_things_are_refused(thing: object) -> None:
    with pytest.raises(TypeError, match="should be a datetime"):
        moment(thing)  # type: ignore[arg-type]


@given(st.text(max_size=30))
def test_any_text_gives_a_moment_or_a_value_error(words: str) -> None:
    with suppress(ValueError):
        assert moment(words, now=NOW).tzinfo is not None


@pytest.mark.parametrize(
    ("delta", "words"),
    [
        (timedelta(0), "just now"),
        (timedelta(seconds=5), "5 s ago"),
        (timedelta(seconds=179), "2 min ago"),
        (timedelta(hours=3, minutes=59), "3 h ago"),
        (timedelta(days=40), "40 d ago"),
        (timedelta(seconds=-90), "in 1 min"),
    ],
)
def test_how_far_it_is(delta: timedelta, words: str) -> None:
    assert ago(NOW - delta, NOW) == words


@pytest.mark.parametrize(
    ("when", "meant"),
    [
        ("1h", NOW + timedelta(hours=1)),
        (" In 2d12h ", NOW + timedelta(days=2, hours=12)),
        (timedelta(minutes=5), NOW + timedelta(minutes=5)),
        ("1h ago", NOW - timedelta(hours=1)),
        ("now", NOW),
        ("2026-12-01T09:30Z", datetime(2026, 12, 1, 9, 30, tzinfo=timezone.utc)),
    ],
)
def test_lengths_of_who_looks_ahead_are_from_now_on(when: str | timedelta, meant: datetime) -> None:
    assert to_come(when, now=NOW) == meant


@pytest.mark.parametrize("when", ["99999999w", "1" * 400 + "h", timedelta.max])
def test_there_is_an_end_of_time(when: str | timedelta) -> None:
    with pytest.raises(ValueError, match="beyond the year 9999"):
        to_come(when, now=NOW)


@pytest.mark.parametrize(
    ("words", "length"),
    [
        ("1 hour", timedelta(hours=1)),
        ("3 min ago", timedelta(minutes=3)),
        ("5 Minutes", timedelta(minutes=5)),
        ("2 weeks 3 days", timedelta(days=17)),
        ("10 secs", timedelta(seconds=10)),
        ("1.5 hrs", timedelta(minutes=90)),
    ],
)
def test_lengths_in_whole_words(words: str, length: timedelta) -> None:
    now = datetime(2026, 11, 27, tzinfo=timezone.utc)
    assert moment(words, now=now) == now - length


@pytest.mark.parametrize("words", ["1 month", "1hm", "5 minuets"])
def test_what_is_no_length(words: str) -> None:
    with pytest.raises(ValueError, match="is not a point in time"):
        moment(words)
