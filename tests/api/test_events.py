"""Events, on both clients and both servers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from orchnb import PrefectHTTPStatusError
from orchnb.api.models import Event, EventCount, EventPage, ModelList
from tests.api import both
from tests.api.conftest import opened
from tests.api.fakes import LosingAnswers

pytestmark = both.SQLALCHEMY
client, name = both.client, both.name
server_here, nothing_is_left = both.server_here, both.nothing_is_left


_BATCH = 20


def _of(resource: str) -> Mapping[str, Any]:
    return {"resource": {"id": [resource]}}


def _read(client: Any, resource: str, number: int = 1) -> EventPage:
    """The events of a resource, once there are that many.

    The server writes events down every few seconds, or when it has a batch of them: others make it one.
    """
    for _ in range(_BATCH):
        client.emit_event("lab.other", "lab.other")
    page: EventPage = both.eventually(
        lambda: client.read_events(_of(resource)), lambda page: page.total >= number
    )
    return page


def test_an_event_comes_back_as_it_was_sent(client: Any, name: str) -> None:
    occurred = datetime.now(timezone.utc) - timedelta(minutes=1)
    before = uuid.uuid4()
    sent = client.emit_event(
        "model.trained",
        {"prefect.resource.id": name, "prefect.resource.name": "the model"},
        occurred=occurred,
        related=[{"prefect.resource.id": "lab", "prefect.resource.role": "place"}],
        payload={"loss": 0.5},
        follows=before,
    )
    assert isinstance(sent, uuid.UUID)
    page = _read(client, name)
    assert isinstance(page, EventPage)
    assert isinstance(page.events, ModelList)
    assert page.events.model is Event
    (event,) = page.events
    assert (event.id, event.event, event.occurred) == (sent, "model.trained", occurred)
    assert event.resource["prefect.resource.name"] == "the model"
    assert event.related[0]["prefect.resource.role"] == "place"
    assert (event.payload, event.follows) == ({"loss": 0.5}, before)
    assert event.received is not None
    assert (page.total, page.next_page) == (1, None)


def test_the_same_id_makes_one_event(client: Any, name: str) -> None:
    first = client.emit_event("lab.thing", name)
    assert client.emit_event("lab.thing", name, id=str(first)) == first
    client.emit_event("lab.last", name)
    page = _read(client, name, 2)
    assert sorted(event.event for event in page.events) == ["lab.last", "lab.thing"]


def test_a_lost_answer_makes_one_event(server_url: str, kind: str, name: str) -> None:
    transport = LosingAnswers("/api/events")

    async def no_time_async(seconds: float) -> None:
        del seconds

    def no_time(seconds: float) -> None:
        del seconds

    options = {"transport": transport, "sleep": no_time if kind == "sync" else no_time_async}
    with opened(kind, server_url, httpx_settings=options) as client:
        client.emit_event("lab.thing", name)
        client.emit_event("lab.last", name)
        assert transport.lost == 1
        page = _read(client, name, 2)
    assert sorted(event.event for event in page.events) == ["lab.last", "lab.thing"]


def test_pages_follow_each_other(client: Any, name: str) -> None:
    for number in range(5):
        client.emit_event("lab.thing", name, payload={"number": number})
    assert _read(client, name, 5).total == 5
    page = client.read_events(_of(name), limit=2)
    numbers = [event.payload["number"] for event in page.events]
    while page.next_page:
        assert page.total == 5
        page = client.read_events_page(page.next_page)
        assert isinstance(page, EventPage)
        numbers += [event.payload["number"] for event in page.events]
    assert numbers == [4, 3, 2, 1, 0]


def test_a_next_page_leads_nowhere_else(client: Any, name: str) -> None:
    for _ in range(2):
        client.emit_event("lab.thing", name)
    _read(client, name, 2)
    page = client.read_events(_of(name), limit=1)
    elsewhere = httpx.URL(page.next_page).copy_with(host="evil.invalid", path="/other")
    assert len(client.read_events_page(str(elsewhere)).events) == 1
    for wrong in ("http://evil.invalid/api/events/filter/next", ""):
        with pytest.raises(ValueError, match="should be the next_page of a page of events"):
            client.read_events_page(wrong)
    with pytest.raises(PrefectHTTPStatusError, match="403"):
        client.read_events_page("?page-token=bm9uc2Vuc2U=")


def test_more_than_the_server_gives_on_a_page_is_no_error(client: Any) -> None:
    assert len(client.read_events(limit=1000).events) <= 50
    assert len(client.read_events().events) <= 50


def test_prefects_own_filter_will_do(client: Any, name: str) -> None:
    from prefect.events.filters import EventFilter, EventResourceFilter

    client.emit_event("lab.thing", name)
    _read(client, name)
    page = client.read_events(EventFilter(resource=EventResourceFilter(id=[name])))
    assert page.total == 1


def test_events_are_counted(client: Any, name: str) -> None:
    for event in ("lab.one", "lab.two", "lab.two"):
        client.emit_event(event, name)
    _read(client, name, 3)
    counts = client.count_events(_of(name), "event")
    assert isinstance(counts, ModelList)
    assert counts.model is EventCount
    assert {count.value: count.count for count in counts} == {"lab.one": 1, "lab.two": 2}
    assert counts[0].start_time.tzinfo is not None
    assert sum(count.count for count in client.count_events(_of(name))) == 3
    by_hour = client.count_events(_of(name), "time", time_unit="hour", time_interval=6)
    assert sum(count.count for count in by_hour) == 3


def test_what_is_wrong_is_told(client: Any, name: str) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="422"):
        client.emit_event("lab.thing", {"name": name})
    with pytest.raises(ValueError, match="badly formed"):
        client.emit_event("lab.thing", name, id="nope")
    with pytest.raises(PrefectHTTPStatusError, match="422"):
        client.count_events(countable="luck")
